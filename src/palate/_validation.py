"""Parameter checks with one error sentence: the name, what is accepted, what was given."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Collection
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from palate.exceptions import InvalidParameterError


def check_int(name: str, value: Any, *, minimum: int = 0, maximum: int | None = None) -> int:
    """Return `value` as an int of at least `minimum` and at most `maximum`.

    Examples
    --------
    >>> check_int("k", 0, minimum=1)
    Traceback (most recent call last):
    palate.exceptions.InvalidParameterError: k must be an integer of at least 1; got 0.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or value < minimum:
        raise InvalidParameterError(
            f"{name} must be an integer of at least {minimum}; got {value!r}."
        )
    number = int(value)
    if maximum is not None and number > maximum:
        raise InvalidParameterError(
            f"{name} must be an integer of at most {maximum}; got {number}."
        )
    return number


def check_real(
    name: str,
    value: Any,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return `value` as a float inside an interval, whose ends may be open.

    Examples
    --------
    >>> check_real("dropout", 1.0, low=0, high=1, high_open=True)
    Traceback (most recent call last):
    palate.exceptions.InvalidParameterError: dropout must be a number in [0, 1); got 1.0.
    """
    good = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    if good:
        good = (value > low if low_open else value >= low) and (
            value < high if high_open else value <= high
        )
    if not good:
        left, right = "(" if low_open else "[", ")" if high_open else "]"
        raise InvalidParameterError(
            f"{name} must be a number in {left}{low}, {high}{right}; got {value!r}."
        )
    return float(value)


def check_choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """Return `value` if it is one of `choices`.

    Examples
    --------
    >>> check_choice("pooling", "max", ["last", "mean"])
    Traceback (most recent call last):
    palate.exceptions.InvalidParameterError: pooling must be one of 'last', 'mean'; got 'max'.
    """
    if not any(_same(value, choice) for choice in choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise InvalidParameterError(f"{name} must be one of {listed}; got {value!r}.")
    return value


def _same(value: Any, choice: Any) -> bool:
    if value is choice:
        return True
    try:  # an array or NA answers with something else than yes or no
        equal = value == choice
    except (TypeError, ValueError):
        return False
    return isinstance(equal, (bool, np.bool_)) and bool(equal)


def check_path(name: str, value: Any) -> Path:
    """Return `value` as a path, if it is a path or a text that is not empty.

    Examples
    --------
    >>> check_path("folder", "")
    Traceback (most recent call last):
    palate.exceptions.InvalidParameterError: folder must be a path; got ''.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise InvalidParameterError(f"{name} must be a path; got {value!r}.")
    return Path(os.fsdecode(value))


def check_verbs(name: str, value: Any, verbs: Collection[str], accepted: str) -> Any:
    """Return `value` if it is an instance (not a class) that has every method of `verbs`."""
    missing = [verb for verb in verbs if not callable(getattr(value, verb, None))]
    if isinstance(value, type) or missing:
        lacks = (
            f" (it lacks {', '.join(missing)})" if missing and not isinstance(value, str) else ""
        )
        raise InvalidParameterError(f"{name} must be {accepted}; got {value!r}{lacks}.")
    return value


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line outside palate that led here, however deep the call is.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warn_caller("Look here.", UserWarning)
    >>> str(caught[0].message)
    'Look here.'
    """
    level, frame = 1, sys._getframe()
    while frame.f_back and str(frame.f_globals.get("__name__")).split(".")[0] == "palate":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)

"""Lists of ids and of histories as :mod:`palate.data.lists` reads them, without its pandas."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from palate.exceptions import InvalidInputError

# An id can be a text of any length; a message quotes its beginning.
_LONGEST = 200


def shown(value: Any) -> str:
    """Write a value for an error message, without numpy's type around it and not too long.

    Examples
    --------
    >>> shown(np.str_("a"))
    "'a'"
    """
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return str(value)
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def given(value: Any) -> str:
    """Say what was given: a scalar as it is, anything that holds more by its type.

    Examples
    --------
    >>> given("u0"), given(np.zeros((2, 3)))
    ("'u0'", 'ndarray of shape (2, 3)')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and not isinstance(value, np.generic):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    plain = isinstance(value, (str, bytes, list, tuple, Mapping, Set))
    return shown(value) if plain or not hasattr(value, "__iter__") else type(value).__name__


def is_list(value: Any, most_dimensions: int = 1) -> bool:
    """Tell whether a value holds others in an order: no text, no set, no mapping, no table.

    Examples
    --------
    >>> is_list((1, 2)), is_list({1, 2}), is_list(np.eye(2)), is_list(np.eye(2), 2)
    (True, False, False, True)
    """
    if isinstance(value, (str, bytes, bytearray, Mapping, Set, type)) or hasattr(value, "columns"):
        return False
    return hasattr(value, "__iter__") and 1 <= getattr(value, "ndim", 1) <= most_dimensions


def history_rows(histories: Any) -> list[list[Any]]:
    """Return histories as lists of lists.

    Raises
    ------
    InvalidInputError
        If they, or one of them, are no list.

    Examples
    --------
    >>> history_rows([("a", "b"), (x for x in "c")])
    [['a', 'b'], ['c']]
    """
    if not is_list(histories, 2):
        raise InvalidInputError(f"histories must be a list of histories; got {given(histories)}.")
    rows = []
    for row, history in enumerate(histories):
        if not is_list(history):
            raise InvalidInputError(
                f"histories must be a list of histories, each a list; history {row} is "
                f"{given(history)}."
            )
        rows.append(list(history))
    return rows

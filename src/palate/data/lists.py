"""Lists of ids and lists of histories, in whatever form a caller has them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from palate.data.checks import shown, unusable_id
from palate.data.frames import is_frame
from palate.data.vocabulary import as_id_array
from palate.exceptions import InvalidInputError


def is_list(value: Any) -> bool:
    """Tell whether a value holds others in an order: no text, no set, no mapping, no table.

    Examples
    --------
    >>> is_list((1, 2)), is_list(np.array([1, 2])), is_list({1, 2}), is_list("12")
    (True, True, False, False)
    """
    if isinstance(value, (str, bytes, bytearray, Mapping, Set, type)):
        return False
    if isinstance(value, (list, tuple, range)):  # without asking every library of tables
        return True
    if not hasattr(value, "__iter__"):
        return False
    return getattr(value, "ndim", 1) == 1 and not is_frame(value)


def given(value: Any) -> str:
    """Say what was given: a scalar as it is, anything that holds more by its type.

    Examples
    --------
    >>> given("u0"), given(np.zeros((2, 3))), given(x for x in "ab")
    ("'u0'", 'ndarray of shape (2, 3)', 'generator')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and not isinstance(value, np.generic):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    plain = isinstance(value, (str, bytes, list, tuple, Mapping, Set))
    return shown(value) if plain or not hasattr(value, "__iter__") else type(value).__name__


def as_list(values: Any) -> list[Any]:
    """Return the values of a list, column or tensor, without the boxes of pyarrow or torch."""
    if hasattr(values, "to_pylist"):
        return list(values.to_pylist())
    if hasattr(values, "as_py"):
        return list(values.as_py())
    return list(values.tolist() if hasattr(values, "detach") else values)


def id_list(name: str, ids: Any, kind: str, *, ordered: bool = True) -> np.ndarray:
    """Return a list of ids as an array in their own types.

    Parameters
    ----------
    name : str
        The parameter, for errors.
    ids : list, array, column or generator of ids
        Where the order means nothing (`ordered` is False) also a set or a mapping's keys.
    kind : {"user", "item"}

    Raises
    ------
    InvalidInputError
        If `ids` is no list, or an id cannot be looked up.

    Examples
    --------
    >>> id_list("users", (u for u in ["a", "b"]), "user")
    array(['a', 'b'], dtype=object)
    """
    if not is_list(ids) and (ordered or not isinstance(ids, Set)):
        raise InvalidInputError(f"{name} must be a list of {kind} ids; got {given(ids)}.")
    array = as_id_array(as_list(ids) if hasattr(ids, "detach") else ids)
    bad = unusable_id(array, missing=False)
    if bad is not None:
        raise InvalidInputError(
            f"{name} must {bad.reason}; position {bad.row} is {shown(array[bad.row])}."
        )
    return array


def is_list_of_lists(value: Any) -> bool:
    """Tell whether a value can hold lists: it is a list, or an array of two dimensions."""
    return is_list(value) or (getattr(value, "ndim", 0) == 2 and not is_frame(value))


def history_rows(histories: Any, must: str) -> list[list[Any]]:
    """Return histories as lists of lists.

    Parameters
    ----------
    histories : list of lists
    must : str
        How an error begins: what is accepted.

    Raises
    ------
    InvalidInputError
        If a history is no list.
    """
    rows = as_list(histories)
    for row, history in enumerate(rows):
        if not is_list(history):
            raise InvalidInputError(f"{must}; history {row} is {given(history)}.")
    return [as_list(history) for history in rows]

"""Ids to codes and back: append-only, and never changed in place."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from palate.data.checks import EXACT_FLOAT
from palate.exceptions import InvalidInputError

# A tail above this share of the base is merged into it: looking up stays one hash, adding one id
# stays cheap.
_TAIL_SHARE = 0.125
_NUMBERS = (int, float, np.number, np.bool_, np.datetime64)


def as_id_array(ids: Any) -> np.ndarray:
    """Return ids as a 1-D array without changing their types (mixed types become objects).

    Examples
    --------
    >>> as_id_array([1, "a"])
    array([1, 'a'], dtype=object)
    >>> as_id_array([1, 2])
    array([1, 2])
    """
    if isinstance(ids, np.ndarray):
        return ids.astype(object) if ids.dtype.kind in "UST" else ids
    if isinstance(ids, (pd.Series, pd.Index)):
        return as_id_array(ids.to_numpy())
    # A column of pyarrow holds boxes around its values.
    values = ids.to_pylist() if hasattr(ids, "to_pylist") else list(ids)
    array = np.fromiter(values, dtype=object, count=len(values))
    kinds = {type(value) for value in values}
    if len(kinds) != 1 or not issubclass(kinds.pop(), _NUMBERS):
        return array
    numbers = np.asarray(values)
    # Integers that no one integer type holds would become floats, and lose digits.
    rounded = numbers.dtype.kind == "f" and isinstance(values[0], (int, np.integer))
    return array if rounded else numbers


def as_objects(ids: np.ndarray) -> np.ndarray:
    """Return ids as objects of their own; numpy would make bare integers of nanoseconds.

    Examples
    --------
    >>> as_objects(np.array(["2024-01-01"], "M8[ns]"))
    array([Timestamp('2024-01-01 00:00:00')], dtype=object)
    """
    if ids.dtype.kind in "mM":
        return np.asarray(pd.Index(ids).astype(object))
    return ids.astype(object)


class Vocabulary:
    """The codes 0, 1, 2, … of ids, in order of first appearance.

    Parameters
    ----------
    ids : ndarray of shape (n_ids,), default=None
        Distinct ids of any hashable scalar type.

    Examples
    --------
    >>> vocabulary = Vocabulary(np.array(["b", "a"], dtype=object))
    >>> vocabulary.codes(["a", "z"])
    array([ 1, -1])
    >>> vocabulary.extend(np.array(["z", "b"], dtype=object)).ids([2])
    array(['z'], dtype=object)
    """

    def __init__(self, ids: np.ndarray | None = None) -> None:
        array = np.empty(0, dtype=object) if ids is None else as_id_array(ids)
        self._base = _index(array)
        # Builds the hash now: while pandas builds it, another thread may find half of it.
        self._base.get_indexer(self._base[:1])
        self._tail: dict[Any, int] = {}
        self._truths: frozenset[int] = frozenset()
        self._array = array

    def __len__(self) -> int:
        return len(self._base) + len(self._tail)

    def __contains__(self, value: Any) -> bool:
        return bool(self.codes([value])[0] >= 0)

    @property
    def array(self) -> np.ndarray:
        """All ids in code order: shape (n_ids,), in their own dtype."""
        if len(self._array) != len(self):
            # The base as it was given: its index has no days, and made seconds of them.
            self._array = _join(self._array[: len(self._base)], _together(self._tail))
        return self._array

    def codes(self, ids: Any) -> np.ndarray:
        """Return the int64 code of each id, -1 for an unknown one."""
        array = as_id_array(ids)
        if not len(array):
            return np.empty(0, dtype=np.int64)
        kind = self._base.dtype.kind
        if kind in "mM" and array.dtype == object:
            array = _as_times(array, kind)
        try:
            found = self._base.get_indexer(_index(array)).astype(np.int64)
        except TypeError as error:
            raise InvalidInputError(f"ids must be hashable scalars; {error}.") from error
        found[_only_rounded(array, kind)] = -1
        if self._tail:
            for row in np.flatnonzero(found < 0):
                found[row] = self._tail_code(array[row])
        return found

    def _tail_code(self, value: Any) -> int:
        """Return the code of an id in the tail, -1 for none; a truth value is no number there."""
        code = self._tail.get(value, -1)
        is_truth = isinstance(value, (bool, np.bool_))
        return code if code < 0 or is_truth == (code in self._truths) else -1

    def ids(self, codes: Any) -> np.ndarray:
        """Return the ids of codes, of any shape, in the ids' own dtype."""
        return self.array[np.asarray(codes, dtype=np.int64)]

    def extend(self, ids: np.ndarray) -> Vocabulary:
        """Return a vocabulary that also knows `ids`; codes already given stay."""
        array = as_id_array(ids)
        array = array[self.codes(array) < 0]
        if not len(array):
            return self
        new = array[~pd.Index(array, dtype=_index(array).dtype).duplicated()]
        grown = Vocabulary.__new__(Vocabulary)
        if len(self._tail) + len(new) <= _TAIL_SHARE * len(self._base):
            grown._base = self._base
            start = len(self)
            # Scalars of the array, not `tolist`, which turns datetimes into bare integers.
            added = {v: start + i for i, v in enumerate(new)}
            grown._tail = {**self._tail, **added}
            truths = (code for v, code in added.items() if isinstance(v, (bool, np.bool_)))
            grown._truths = self._truths | frozenset(truths)
            grown._array = self._array
            return grown
        grown.__init__(_join(self.array, new))  # type: ignore[misc]
        return grown


def _index(array: np.ndarray) -> pd.Index:
    return pd.Index(array, dtype=object) if array.dtype == object else pd.Index(array)


def _together(ids: Iterable[Any]) -> np.ndarray:
    """Return scalars as one array; those of several widths in the widest, without rounding."""
    values = list(ids)
    kinds = {value.dtype.kind if isinstance(value, np.generic) else "O" for value in values}
    joined = np.asarray(values) if len(kinds) == 1 and "O" not in kinds else np.empty(0)
    if joined.dtype.kind in kinds:
        return joined
    plain = [as_objects(np.asarray([v]))[0] if isinstance(v, np.generic) else v for v in values]
    return np.fromiter(plain, dtype=object, count=len(plain))


def _join(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    if not len(old):
        return new
    if old.dtype.kind == new.dtype.kind:
        return np.concatenate([old, new])
    if {old.dtype.kind, new.dtype.kind} == {"i", "u"}:
        joined = np.result_type(old, new)
        if joined.kind != "f":  # int64 with uint64 would round
            return np.concatenate([old, new])
    return np.concatenate([as_objects(old), as_objects(new)])


def _only_rounded(array: np.ndarray, kind: str) -> np.ndarray:
    """Return which of some ids would be taken for others of `kind`, one by one or all at once.

    A fraction is no whole number beyond 2**53, where several of these round to it, and a truth
    value is no number.
    """
    if array.dtype == object and kind in "iuf":
        return np.array([_is_no_number(value, kind) for value in array.tolist()], bool)
    if {kind, array.dtype.kind} in ({"i", "f"}, {"u", "f"}):
        return np.abs(array.astype(np.float64)) >= EXACT_FLOAT
    return np.zeros(len(array), bool)


def _is_no_number(value: Any, kind: str) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return True
    whole = isinstance(value, (int, np.integer))
    mixed = isinstance(value, (int, float, np.number)) and whole == (kind == "f")
    return mixed and abs(float(value)) >= EXACT_FLOAT


def _as_times(array: np.ndarray, kind: str) -> np.ndarray:
    """Return dates of any type as times, and NaT for whatever is none: nothing is guessed."""
    types = (date, np.datetime64) if kind == "M" else (timedelta, np.timedelta64)
    make: Any = pd.Timestamp if kind == "M" else pd.Timedelta
    values = [make(value) if isinstance(value, types) else pd.NaT for value in array]
    plain = [pd.NaT if getattr(value, "tzinfo", None) else value for value in values]
    # Nanoseconds reach three hundred years; whoever is further away is at home in microseconds.
    near = all(make.min <= value <= make.max for value in plain if value is not pd.NaT)
    return np.asarray(pd.Series(plain, dtype=f"{kind}8[{'ns' if near else 'us'}]"))

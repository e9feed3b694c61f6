"""Ids to codes without pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.exceptions import InvalidInputError


class ItemIndex:
    """The codes 0, 1, 2, … of ids.

    Parameters
    ----------
    ids : ndarray of shape (n_ids,)
        Distinct ids of any hashable scalar type.

    Examples
    --------
    >>> ItemIndex(np.array(["b", "a"], dtype=object)).codes(["a", "z"])
    array([ 1, -1])
    """

    def __init__(self, ids: np.ndarray) -> None:
        # Moments hash by their unit: they are compared as integers of one unit.
        self._times = ids.dtype if ids.dtype.kind in "mM" else None
        self._numbers = ids.dtype.kind in "iuf"
        keys = ids.astype(np.int64) if self._times is not None else ids
        self._codes = {key: code for code, key in enumerate(keys.tolist())}

    def codes(self, ids: Sequence[Any]) -> np.ndarray:
        """Return the int64 code of each id, -1 for an unknown one."""
        if self._times is not None:
            ids = [_as_integer(value, self._times) for value in ids]
        elif self._numbers:  # a truth value is no number
            ids = [None if isinstance(value, (bool, np.bool_)) else value for value in ids]
        try:
            found = [self._codes.get(value, -1) for value in ids]
        except TypeError as error:
            raise InvalidInputError(f"ids must be hashable scalars; {error}.") from error
        return np.array(found, np.int64).reshape(-1)


def _as_integer(value: Any, dtype: np.dtype[Any]) -> int | None:
    """Return a moment or duration in the unit of `dtype`, None if it is no exact one."""
    # pandas' own moments know more units than numpy makes of them by itself.
    convert = getattr(value, "to_datetime64", getattr(value, "to_timedelta64", None))
    try:
        exact = np.asarray(value if convert is None else convert())
        rounded = exact.astype(dtype)
        return int(rounded.astype(np.int64)) if exact == rounded else None
    except (TypeError, ValueError):
        return None

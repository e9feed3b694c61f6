"""What both splitters share: the form of a fold, and tables cut by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate.data.frames import as_rows, is_frame, is_lazy, open_frame
from palate.exceptions import InvalidInputError

Fold = tuple[np.ndarray, np.ndarray]


def held(X: Any) -> Any:
    """Return a table whose rows have places; raise for a lazy one.

    Raises
    ------
    InvalidInputError
        For a lazy table: each run of its query may order rows anew.
    """
    if is_lazy(X):
        raise InvalidInputError(
            "X must be collected before it is split into positions of rows; got a lazy table, "
            "whose rows may come in another order each time."
        )
    return X


def take_fold(X: Any, fold: Fold) -> tuple[Any, Any]:
    """Return the training and the test rows of a table, as tables of its kind.

    Examples
    --------
    >>> take_fold([[1, 5], [2, 6], [3, 7]], (np.array([0, 2]), np.array([1])))[1]
    array([[2, 6]])
    """
    train, test = fold
    if is_frame(X):
        frame = open_frame(X)
        return frame[train].to_native(), frame[test].to_native()
    rows = as_rows(X)
    return rows[train], rows[test]

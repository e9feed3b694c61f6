"""Leave each user's last events out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from palate._validation import check_int
from palate.data.frames import Events, collected, read_events
from palate.exceptions import InvalidInputError
from palate.model_selection.folds import Fold, held, take_fold


@dataclass(frozen=True)
class LeaveLastOut:
    """Test on each user's last events, train on those before.

    Parameters
    ----------
    n : int, default=1
        Test events of a user in a fold.
    n_splits : int, default=1
        Folds. The last one tests the last `n` events of each user, the one before it the `n`
        events before those, and so on. A fold never trains on what a later fold tests, so
        training grows from fold to fold.
    min_history : int, default=1
        Events that a user must have before those that are tested. A user with too few is not
        tested, and what no fold tests is in the training part of all.

    Notes
    -----
    Events are ordered by time within a user; equal times, and tables without a time column, keep
    the order of rows. Folds are positions of rows, in ascending order, so that a table that is
    sliced with them keeps its order too.

    Examples
    --------
    >>> X = np.array([["a", "i1"], ["b", "i1"], ["a", "i2"], ["a", "i3"]])
    >>> for train, test in LeaveLastOut(n_splits=2).split(X):
    ...     print(train, test)
    [0 1] [2]
    [0 1 2] [3]
    """

    n: int = 1
    n_splits: int = 1
    min_history: int = 1

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return check_int("n_splits", self.n_splits, minimum=1)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Fold]:
        """Yield the rows of the training and of the test part, fold by fold.

        Parameters
        ----------
        X : pandas, polars or pyarrow table, or array-like of shape (n_events, 2 or more)
            Events: ``user_id``, ``item_id``, optionally ``timestamp``; by position in an array.
        y, groups : object
            Not used.

        Yields
        ------
        train, test : int64 ndarrays
            Positions of rows, ascending.

        Raises
        ------
        InvalidInputError
            If no user has events enough to be tested in a fold, or the table is lazy.
        InvalidParameterError
            If a parameter is not a whole number of its least value or more.
        """
        n = check_int("n", self.n, minimum=1)
        least = check_int("min_history", self.min_history, minimum=0)
        n_splits = self.get_n_splits()
        from_end, counts = _places_from_the_end(read_events(held(X)))
        n_tested = np.clip((counts - least) // n, 0, n_splits)
        for later in reversed(range(n_splits)):
            test = (from_end // n == later) & (later < n_tested)
            if not test.any():
                raise InvalidInputError(
                    f"X must hold a user with at least {n * (later + 1) + least} events for "
                    f"n={n}, n_splits={n_splits} and min_history={least}; the most that a user "
                    f"has is {counts.max(initial=0)}."
                )
            train = from_end >= n * np.minimum(n_tested, later + 1)
            yield np.flatnonzero(train), np.flatnonzero(test)


def _places_from_the_end(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each row, how many events its user has after it, and has in all."""
    users = pd.factorize(events.user_id)[0]
    # lexsort is stable: equal times keep the order of rows.
    keys = (users,) if events.timestamp is None else (events.timestamp, users)
    order = np.lexsort(keys)
    counts = np.bincount(users)
    ends = np.repeat(np.cumsum(counts), counts)
    from_end = np.empty(len(users), dtype=np.int64)
    from_end[order] = ends - 1 - np.arange(len(users))
    return from_end, counts[users]


def leave_last_out_split(X: Any, n: int = 1, *, min_history: int = 1) -> tuple[Any, Any]:
    """Split a table of events into one with each user's last events and one with the rest.

    Parameters
    ----------
    X : pandas, polars or pyarrow table, or array-like of shape (n_events, 2 or more)
        Events, as in `LeaveLastOut.split`.
    n : int, default=1
        Test events of a user.
    min_history : int, default=1
        Events that a user must keep in training to be tested.

    Returns
    -------
    train, test : tables of the kind of `X`
        Rows in the order of `X`.

    Raises
    ------
    InvalidInputError, InvalidParameterError
        As in `LeaveLastOut.split`.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"user_id": ["a", "b", "a"], "item_id": [1, 1, 2], "timestamp": [9, 8, 7]})
    >>> train, test = leave_last_out_split(X)
    >>> test.to_dict("records")
    [{'user_id': 'a', 'item_id': 1, 'timestamp': 9}]
    """
    X = collected(X)
    return take_fold(X, next(LeaveLastOut(n, min_history=min_history).split(X)))

"""Test windows of time, each after its training part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from palate._validation import check_choice, check_int, check_real
from palate.data.frames import collected, read_events
from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.model_selection.folds import Fold, held, take_fold


@dataclass(frozen=True)
class TimeSplit:
    """Test on windows of time at the end of the table, train on all that came before each.

    Parameters
    ----------
    test_size : float, int, str or timedelta, default=0.1
        Length of one window: a share of all events, in (0, 1); a number of events; or a duration
        such as ``"7D"`` or ``timedelta(days=7)``, for which times that are numbers are seconds.
        Events of one moment are never parted: those that share their time with a window's first
        event are all in it, so that a window counted in events can be somewhat longer.
    n_splits : int, default=1
        Windows, one after the other; the last ends with the last event. So training grows.
    filter_cold_users : bool, default=True
        Drop test events of users who have no event in the training part.
    filter_cold_items : bool, default=False
        Drop test events of items that have no event in the training part.

    Examples
    --------
    >>> X = np.array([[1, 7, 10], [2, 7, 20], [1, 8, 30], [2, 9, 40], [3, 7, 50]])
    >>> for train, test in TimeSplit(test_size=2, n_splits=2, filter_cold_users=False).split(X):
    ...     print(train, test)
    [0] [1 2]
    [0 1 2] [3 4]
    """

    test_size: float | int | str | timedelta = 0.1
    n_splits: int = 1
    filter_cold_users: bool = True
    filter_cold_items: bool = False

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of windows."""
        return check_int("n_splits", self.n_splits, minimum=1)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Fold]:
        """Yield the rows of the training and of the test part, window by window.

        Parameters
        ----------
        X : pandas, polars or pyarrow table, or array-like of shape (n_events, 3 or more)
            Events: ``user_id``, ``item_id``, ``timestamp``; by position in an array.
        y, groups : object
            Not used.

        Yields
        ------
        train, test : int64 ndarrays
            Positions of rows, ascending.

        Raises
        ------
        InvalidInputError
            If the table has no times or is lazy, or a part of a window has no events.
        InvalidParameterError
            If `test_size` or `n_splits` is not accepted.
        """
        n_splits = self.get_n_splits()
        check_choice("filter_cold_users", self.filter_cold_users, (True, False))
        check_choice("filter_cold_items", self.filter_cold_items, (True, False))
        events = read_events(held(X))
        if events.timestamp is None:
            raise InvalidInputError(
                "X must have times for a split by time, in a column 'timestamp'; it has none."
            )
        order = np.argsort(events.timestamp, kind="stable")
        cuts = _cuts(events.timestamp[order], self.test_size, n_splits)
        for window, (start, stop) in enumerate(pairwise(cuts)):
            train, test = np.sort(order[:start]), np.sort(order[start:stop])
            n_test = len(test)
            if self.filter_cold_users:
                test = test[_known(events.user_id, train, test)]
            if self.filter_cold_items:
                test = test[_known(events.item_id, train, test)]
            if not len(train) or not len(test):
                raise InvalidInputError(
                    f"X must have training and test events in every window; window {window + 1} "
                    f"of {n_splits} has {len(train)} and {len(test)} with "
                    f"test_size={self.test_size!r}."
                    + (_cold(n_test) if len(train) and n_test else "")
                )
            yield train, test


def _cold(n_test: int) -> str:
    """Say what became of the test events of a window."""
    return (
        f" Its {n_test} test events are of users or items without training events, which "
        "filter_cold_users and filter_cold_items leave out."
    )


def _cuts(times: np.ndarray, test_size: Any, n_splits: int) -> np.ndarray:
    """Return the places in sorted times where windows start, and the number of events."""
    n_events = len(times)
    steps = np.arange(n_splits, 0, -1)
    if isinstance(test_size, (str, timedelta, np.timedelta64)):
        length = _duration(test_size)
        last = times.max() if n_events else 0
        if times.dtype.kind in "Mm":
            starts = last - steps * length.to_timedelta64()
        else:
            starts = float(last) - steps * length.total_seconds()
        # A window of a week holds what is less than a week older than the last event.
        return np.append(np.searchsorted(times, starts, side="right"), n_events)
    n_test = _n_test(test_size, n_events)
    places = n_events - steps * n_test
    if places[0] <= 0:
        raise InvalidInputError(
            f"X must hold more than {n_splits} * {n_test} events for n_splits={n_splits} and "
            f"test_size={test_size!r}; it holds {n_events}."
        )
    return np.append(np.searchsorted(times, times[places], side="left"), n_events)


def _n_test(test_size: Any, n_events: int) -> int:
    if isinstance(test_size, (float, np.floating)):
        share = check_real("test_size", test_size, low=0, high=1, low_open=True, high_open=True)
        return max(1, round(share * n_events))
    return check_int("test_size", test_size, minimum=1)


def _duration(test_size: Any) -> pd.Timedelta:
    try:
        length = pd.Timedelta(0 if _is_bare(test_size) else test_size)
    except ValueError:
        length = pd.Timedelta(0)
    if not length > pd.Timedelta(0):
        raise InvalidParameterError(
            "test_size must be a share of events in (0, 1), a number of events or a positive "
            f"duration such as '7D'; got {test_size!r}."
        )
    return length


def _is_bare(test_size: Any) -> bool:
    """Tell whether a duration is a number alone, of no unit."""
    if isinstance(test_size, np.timedelta64):
        return np.datetime_data(test_size)[0] == "generic"
    return isinstance(test_size, str) and re.fullmatch(r"[\s+-]*[\d.]+\s*", test_size) is not None


def _known(ids: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    codes = pd.factorize(ids)[0]
    return np.isin(codes[test], codes[train])


def time_split(
    X: Any,
    test_size: float | int | str | timedelta = 0.1,
    *,
    filter_cold_users: bool = True,
    filter_cold_items: bool = False,
) -> tuple[Any, Any]:
    """Split a table of events at one moment.

    Parameters
    ----------
    X : pandas, polars or pyarrow table, or array-like of shape (n_events, 3 or more)
        Events, as in `TimeSplit.split`.
    test_size, filter_cold_users, filter_cold_items
        As in `TimeSplit`.

    Returns
    -------
    train, test : tables of the kind of `X`
        Rows in the order of `X`.

    Raises
    ------
    InvalidInputError, InvalidParameterError
        As in `TimeSplit.split`.

    Examples
    --------
    >>> train, test = time_split([[1, 7, 10], [1, 8, 20], [1, 9, 30]], test_size=1)
    >>> test
    array([[ 1,  9, 30]])
    """
    splitter = TimeSplit(
        test_size, filter_cold_users=filter_cold_users, filter_cold_items=filter_cold_items
    )
    X = collected(X)
    return take_fold(X, next(splitter.split(X)))

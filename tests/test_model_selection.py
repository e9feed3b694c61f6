"""Splitters: hand answers, properties over random tables, and scikit-learn's cross-validation."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from datetime import timedelta

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, check_cv, cross_validate

from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.metrics import make_ranking_scorer
from palate.model_selection import LeaveLastOut, TimeSplit, leave_last_out_split, time_split

KINDS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}

# a: rows 0, 2, 3, 6 at times 4, 1, 3, 3 (3 before 6, a tie); b: rows 1, 5; c: row 4.
EVENTS = {
    "user_id": ["a", "b", "a", "a", "c", "b", "a"],
    "item_id": [10, 11, 12, 13, 14, 15, 16],
    "timestamp": [4, 9, 1, 3, 2, 5, 3],
}


def folds(splitter, X):
    return [(train.tolist(), test.tolist()) for train, test in splitter.split(X)]


@pytest.mark.parametrize("kind", KINDS)
def test_leave_last_out_by_hand(kind):
    X = KINDS[kind](EVENTS)
    # The last of a is row 0, of b row 1; c has one event, which stays in training.
    assert folds(LeaveLastOut(), X) == [([2, 3, 4, 5, 6], [0, 1])]
    # One event back: a without row 0 ends in row 6 (the later of a tie); of b one is left.
    assert folds(LeaveLastOut(n_splits=2), X) == [
        ([2, 3, 4, 5], [6]),
        ([2, 3, 4, 5, 6], [0, 1]),
    ]
    assert folds(LeaveLastOut(n=2), X) == [([1, 2, 3, 4, 5], [0, 6])]
    assert folds(LeaveLastOut(n=2, min_history=0), X) == [([2, 3, 4], [0, 1, 5, 6])]
    assert folds(LeaveLastOut(min_history=2), X) == [([1, 2, 3, 4, 5, 6], [0])]


def test_without_times_the_order_of_rows_counts():
    X = pd.DataFrame(EVENTS).drop(columns="timestamp")
    assert folds(LeaveLastOut(), X) == [([0, 1, 2, 3, 4], [5, 6])]
    equal = X.assign(timestamp=7)
    assert folds(LeaveLastOut(n_splits=2), equal) == folds(LeaveLastOut(n_splits=2), X)


def test_arrays_and_datetimes_split_alike():
    users = pd.factorize(np.array(EVENTS["user_id"]))[0]
    array = np.column_stack([users, EVENTS["item_id"], EVENTS["timestamp"]])
    dated = pd.DataFrame({**EVENTS, "timestamp": pd.to_datetime(EVENTS["timestamp"], unit="D")})
    for splitter in [LeaveLastOut(n_splits=2), TimeSplit(2, filter_cold_users=False)]:
        expected = folds(splitter, pd.DataFrame(EVENTS))
        assert folds(splitter, array) == expected
        assert folds(splitter, dated) == expected


tables = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(tables, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2))
def test_leave_last_out_against_a_plain_loop(rows, n, n_splits, least):
    X = np.array([(user, 100 + row, time) for row, (user, time) in enumerate(rows)])
    expected = [([], []) for _ in range(n_splits)]
    for user in set(X[:, 0]):
        left = sorted(np.flatnonzero(X[:, 0] == user), key=lambda row: X[row, 2])
        for train, test in reversed(expected):
            if len(left) >= n + least:
                left, held_out = left[: len(left) - n], left[len(left) - n :]
                test.extend(held_out)
            train.extend(left)
    expected = [(sorted(train), sorted(test)) for train, test in expected]
    if all(test for _, test in expected):
        assert folds(LeaveLastOut(n, n_splits, least), X) == expected
    else:
        with pytest.raises(InvalidInputError, match=r"^X must hold a user with at least"):
            folds(LeaveLastOut(n, n_splits, least), X)


# TimeSplit


def test_time_split_by_hand():
    # In time order: rows 2 (1), 4 (2), 3 and 6 (3), 0 (4), 5 (5), 1 (9).
    X = pd.DataFrame(EVENTS)
    everything = {"filter_cold_users": False}
    assert folds(TimeSplit(2, **everything), X) == [([0, 2, 3, 4, 6], [1, 5])]
    assert folds(TimeSplit(0.3, **everything), X) == [([0, 2, 3, 4, 6], [1, 5])]
    # The third last is row 0; three windows of one event.
    assert folds(TimeSplit(1, 3, **everything), X) == [
        ([2, 3, 4, 6], [0]),
        ([0, 2, 3, 4, 6], [5]),
        ([0, 2, 3, 4, 5, 6], [1]),
    ]
    # The fourth last is row 6, whose moment row 3 shares: both are in the window.
    assert folds(TimeSplit(4, **everything), X) == [([2, 4], [0, 1, 3, 5, 6])]


def test_time_split_drops_what_training_never_saw():
    X = pd.DataFrame(EVENTS)
    # Before time 4 nobody met b, and items 10, 11, 15 were never seen.
    assert folds(TimeSplit(3), X) == [([2, 3, 4, 6], [0])]
    X = X.assign(item_id=[12, 12, 12, 13, 14, 15, 16])
    cold = {"filter_cold_users": False, "filter_cold_items": True}
    assert folds(TimeSplit(3, **cold), X) == [([2, 3, 4, 6], [0, 1])]
    assert folds(TimeSplit(3, filter_cold_items=True), X) == [([2, 3, 4, 6], [0])]


@pytest.mark.parametrize("length", ["5D", timedelta(days=5), np.timedelta64(120, "h")])
def test_time_split_by_duration(length):
    days = pd.DataFrame({**EVENTS, "timestamp": pd.to_datetime(EVENTS["timestamp"], unit="D")})
    seconds = pd.DataFrame({**EVENTS, "timestamp": np.array(EVENTS["timestamp"]) * 86_400})
    floats = seconds.assign(timestamp=seconds["timestamp"].astype(float))
    # The last event is of day 9: day 4 is just outside of the last five days.
    expected = [([0, 2, 3, 4, 6], [1, 5])]
    for X in [days, seconds, floats, pl.from_pandas(days), pa.table(days)]:
        assert folds(TimeSplit(length, filter_cold_users=False), X) == expected


def test_several_durations():
    X = pd.DataFrame({"user_id": 1, "item_id": range(10), "timestamp": range(10)})
    assert folds(TimeSplit("3s", n_splits=2), X) == [
        ([0, 1, 2, 3], [4, 5, 6]),
        ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9]),
    ]


@settings(max_examples=150, deadline=None)
@given(tables, st.integers(1, 6), st.integers(1, 3))
def test_time_split_never_trains_on_the_future(rows, size, n_splits):
    X = np.array([(user, 100 + row, time) for row, (user, time) in enumerate(rows)])
    splitter = TimeSplit(size, n_splits, filter_cold_users=False)
    try:
        found = folds(splitter, X)
    except InvalidInputError:
        times = np.sort(X[:, 2])
        starts = [len(X) - step * size for step in range(n_splits, 0, -1)]
        firsts = [times[start] for start in starts] if starts[0] > 0 else [times[0]]
        assert firsts[0] == times[0] or len(set(firsts)) < n_splits
        return
    assert len(found) == n_splits == splitter.get_n_splits(X)
    seen = found[0][0]
    for train, test in found:
        assert train == sorted(seen)
        assert test == sorted(test)
        assert X[train, 2].max() < X[test, 2].min()
        seen = train + test
    assert sorted(seen) == list(range(len(X)))
    assert len(found[-1][1]) >= size


# Tables in, tables out


@pytest.mark.parametrize("kind", KINDS)
def test_split_functions_keep_the_kind_and_the_rows(kind):
    X = KINDS[kind](EVENTS)
    for train, test in [leave_last_out_split(X), time_split(X, 2, filter_cold_users=False)]:
        assert type(train) is type(X)
        assert type(test) is type(X)
        parts = [pa.table(part).to_pydict()["item_id"] for part in (train, test)]
        assert sorted(parts[0] + parts[1]) == EVENTS["item_id"]
        assert parts[1] in ([10, 11], [11, 15])


def test_split_functions_keep_the_index_and_take_lazy_frames_and_lists():
    X = pd.DataFrame(EVENTS, index=[5, 5, 7, 8, 9, 3, 1])
    train, test = leave_last_out_split(X, n=2, min_history=2)
    pd.testing.assert_frame_equal(test, X.iloc[[0, 6]])
    pd.testing.assert_frame_equal(train, X.iloc[[1, 2, 3, 4, 5]])
    lazy = leave_last_out_split(pl.DataFrame(EVENTS).lazy())[1]
    assert lazy["item_id"].to_list() == [10, 11]
    rows = [[1, 4], [1, 5], [2, 4]]
    np.testing.assert_array_equal(leave_last_out_split(rows)[1], [[1, 5]])


# scikit-learn


class Popular(BaseEstimator):
    """Ranks items by their count in training, or by rarity; just enough to be scored."""

    def __init__(self, sign=1):
        self.sign = sign

    def fit(self, X, y=None):
        items = X[:, 1] if isinstance(X, np.ndarray) else pa.table(X)["item_id"].to_pylist()
        self.counts_ = Counter(list(items))
        return self

    def score(self, X, y=None, *, metric, k, filter_viewed):
        items = X[:, 1] if isinstance(X, np.ndarray) else pa.table(X)["item_id"].to_pylist()
        top = sorted(self.counts_, key=lambda item: (-self.sign * self.counts_[item], item))[:k]
        return float(np.mean([item in top for item in items]))


def make_table():
    # Everybody ends with item 1, the commonest; items from 100 on are had once.
    rows = [
        (user, item, time)
        for user in range(6)
        for time, item in enumerate([1, 100 + user, 1, 200 + user, 1])
    ]
    return {
        "user_id": [f"u{user}" for user, _, _ in rows],
        "item_id": [item for _, item, _ in rows],
        "timestamp": [time for _, _, time in rows],
    }


@pytest.mark.parametrize("kind", [*KINDS, "array"])
@pytest.mark.parametrize("cv", [LeaveLastOut(n_splits=2), TimeSplit(6, n_splits=2)])
def test_cross_validate_and_grid_search(kind, cv):
    columns = make_table()
    if kind == "array":
        users = [int(user[1:]) for user in columns["user_id"]]
        X = np.column_stack([users, columns["item_id"], columns["timestamp"]])
    else:
        X = KINDS[kind](columns)
    scorer = make_ranking_scorer("hr", k=1)
    found = cross_validate(Popular(), X, scoring=scorer, cv=cv, error_score="raise")
    # The fold before the last tests items that were never seen.
    np.testing.assert_array_equal(found["test_score"], [0.0, 1.0])
    search = GridSearchCV(Popular(), {"sign": [-1, 1]}, scoring=scorer, cv=cv, error_score="raise")
    search = clone(search).fit(X)
    assert search.best_params_ == {"sign": 1}
    assert search.n_splits_ == 2
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [0.0, 0.5])


@pytest.mark.parametrize("splitter", [LeaveLastOut(2, 3), TimeSplit("2D", filter_cold_items=True)])
def test_splitters_are_values(splitter):
    assert pickle.loads(pickle.dumps(splitter)) == splitter == copy.deepcopy(splitter)
    assert check_cv(splitter) is splitter
    assert eval(repr(splitter)) == splitter


# Errors


@pytest.mark.parametrize(
    ("splitter", "kind", "message"),
    [
        (
            LeaveLastOut(n=2, n_splits=2),
            InvalidInputError,
            "X must hold a user with at least 5 events for n=2, n_splits=2 and min_history=1; the "
            "most that a user has is 4.",
        ),
        (LeaveLastOut(n=0), InvalidParameterError, "n must be an integer of at least 1; got 0."),
        (
            LeaveLastOut(n_splits=1.5),
            InvalidParameterError,
            "n_splits must be an integer of at least 1; got 1.5.",
        ),
        (
            LeaveLastOut(min_history=-1),
            InvalidParameterError,
            "min_history must be an integer of at least 0; got -1.",
        ),
        (
            TimeSplit(1.0),
            InvalidParameterError,
            "test_size must be a number in (0, 1); got 1.0.",
        ),
        (
            TimeSplit(0),
            InvalidParameterError,
            "test_size must be an integer of at least 1; got 0.",
        ),
        (
            TimeSplit("soon"),
            InvalidParameterError,
            "test_size must be a share of events in (0, 1), a number of events or a positive "
            "duration such as '7D'; got 'soon'.",
        ),
        (
            TimeSplit(timedelta(days=-1)),
            InvalidParameterError,
            "test_size must be a share of events in (0, 1), a number of events or a positive "
            f"duration such as '7D'; got {timedelta(days=-1)!r}.",
        ),
        (
            TimeSplit(0.5, n_splits=2),
            InvalidInputError,
            "X must hold more than 2 * 4 events for n_splits=2 and test_size=0.5; it holds 7.",
        ),
        (
            TimeSplit("2s", n_splits=3, filter_cold_users=False),
            InvalidInputError,
            "X must have training and test events in every window; window 2 of 3 has 6 and 0 "
            "with test_size='2s'.",
        ),
        (
            TimeSplit("1h"),
            InvalidInputError,
            "X must have training and test events in every window; window 1 of 1 has 0 and 0 "
            "with test_size='1h'.",
        ),
        (
            TimeSplit(2),
            InvalidInputError,
            "X must have training and test events in every window; window 1 of 1 has 5 and 0 "
            "with test_size=2. Its 2 test events are of users or items without training events, "
            "which filter_cold_users and filter_cold_items leave out.",
        ),
    ],
)
def test_errors(splitter, kind, message):
    with pytest.raises(kind) as error:
        folds(splitter, pd.DataFrame(EVENTS))
    assert str(error.value) == message


def test_a_time_split_needs_times():
    with pytest.raises(InvalidInputError) as error:
        time_split(pd.DataFrame(EVENTS).drop(columns="timestamp"))
    assert str(error.value) == (
        "X must have times for a split by time, in a column 'timestamp'; it has none."
    )


def test_a_lazy_table_is_split_once_collected():
    # `unique` of polars keeps no order: collected twice, rows would come in two orders.
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "user_id": rng.integers(0, 200, 4000),
            "item_id": rng.integers(0, 50, 4000),
            "timestamp": rng.integers(0, 10**6, 4000),
        }
    )
    train, test = leave_last_out_split(table.lazy().unique())
    last = train.group_by("user_id").agg(pl.col("timestamp").max().alias("last"))
    assert len(test) == 200
    assert test.join(last, on="user_id").filter(pl.col("timestamp") < pl.col("last")).is_empty()
    before, after = time_split(table.lazy().unique(), filter_cold_users=False)
    assert before["timestamp"].max() < after["timestamp"].min()


@pytest.mark.parametrize("splitter", [LeaveLastOut(), TimeSplit()])
def test_places_in_a_lazy_table_mean_nothing(splitter):
    with pytest.raises(InvalidInputError) as error:
        next(splitter.split(pl.DataFrame(EVENTS).lazy()))
    assert str(error.value) == (
        "X must be collected before it is split into positions of rows; got a lazy table, whose "
        "rows may come in another order each time."
    )


def test_rows_of_texts_and_numbers_keep_both():
    train, test = leave_last_out_split([("a", 7, 1), ("a", 8, 2), ("b", 7, 1), ("b", 9, 2)])
    assert test.tolist() == [["a", 8, 2], ["b", 9, 2]]
    assert [type(value) for value in train[0]] == [str, int, int]
    assert leave_last_out_split([("a", "7"), ("a", "8")])[1].dtype.kind == "U"


def test_masked_values_are_refused():
    masked = np.ma.array([[1, 1, 1], [1, 2, 2]], mask=[[0, 0, 0], [0, 1, 0]])
    with pytest.raises(InvalidInputError) as error:
        leave_last_out_split(masked)
    assert str(error.value) == "X must have no masked values; got 1."


@pytest.mark.parametrize("size", ["+5", "5.5", " 7 ", np.timedelta64(5)])
def test_a_duration_without_a_unit_is_refused(size):
    with pytest.raises(InvalidParameterError) as error:
        next(TimeSplit(test_size=size).split(pd.DataFrame(EVENTS)))
    assert str(error.value).endswith(f"a positive duration such as '7D'; got {size!r}.")

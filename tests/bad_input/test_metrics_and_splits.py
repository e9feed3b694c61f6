"""Tables of recommendations, arrays of codes, and the parameters of splitters."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.metrics import evaluate, find_hits, rank_metrics
from palate.model_selection import LeaveLastOut, TimeSplit, leave_last_out_split, time_split

TRUTH = pd.DataFrame({"user_id": ["u0", "u0", "u1"], "item_id": ["a", "b", "c"]})


def ranked(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"user_id": ["u0", "u0"], "item_id": ["a", "b"], "rank": [1, 2], **columns})


def scored(score: Any) -> pd.DataFrame:
    return ranked(score=score).drop(columns="rank")


def objects(*values: Any) -> pd.Series:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return pd.Series(column, dtype=object)


RANK = "column 'rank' of recommendations must "
NO_TABLE = "recommendations must be a pandas, polars or pyarrow table; got "
RECOMMENDATIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, NO_TABLE + "NoneType."),
    "dict": (lambda: {"user_id": []}, NO_TABLE + "dict."),
    "list": (lambda: [["u0", "a", 1]], NO_TABLE + "list."),
    "array": (lambda: np.zeros((2, 3)), NO_TABLE + "ndarray."),
    "no users": (
        lambda: ranked().drop(columns="user_id"),
        "recommendations must have a column 'user_id'; its columns are 'item_id', 'rank'.",
    ),
    "no rank and no score": (
        lambda: ranked().drop(columns="rank"),
        "recommendations must have a column 'score'; its columns are 'user_id', 'item_id'.",
    ),
    "two ranks": (
        lambda: pd.concat([ranked(), ranked()["rank"]], axis=1),
        "recommendations must have columns of distinct names; 2 are named 'rank'.",
    ),
    "a user None": (
        lambda: ranked(user_id=objects("u0", None)),
        "column 'user_id' of recommendations must have no missing values; row 1 is None.",
    ),
    "an item a list": (
        lambda: ranked(item_id=objects(["a"], "b")),
        "column 'item_id' of recommendations must hold hashable scalars; row 0 is ['a'].",
    ),
    "items of another type": (
        lambda: ranked(item_id=[1, 2]),
        "column 'item_id' must have ids of one kind; it holds text in truth, numbers in "
        "recommendations.",
    ),
    "users of another type": (
        lambda: ranked(user_id=[b"u0", b"u0"]),
        "column 'user_id' must have ids of one kind; it holds text in truth, bytes in "
        "recommendations.",
    ),
    "an item twice": (
        lambda: ranked(item_id=["a", "a"]),
        "recommendations must not repeat an item within a user; user 'u0' has item 'a' twice.",
    ),
    "a rank twice": (
        lambda: ranked(rank=[1, 1]),
        "column 'rank' of recommendations must not repeat a rank within a user; user 'u0' "
        "has rank 1 twice.",
    ),
    "rank 0": (lambda: ranked(rank=[0, 1]), RANK + "hold whole numbers of at least 1; row 0 is 0."),
    "rank in fractions": (
        lambda: ranked(rank=[1, 1.5]),
        RANK + "hold whole numbers of at least 1; row 1 is 1.5.",
    ),
    "rank infinite": (
        lambda: ranked(rank=[1, np.inf]),
        RANK + "hold whole numbers of at least 1; row 1 is inf.",
    ),
    "rank of 64 bits": (
        lambda: ranked(rank=np.array([1, 2**63], np.uint64)),
        RANK + "hold whole numbers of at least 1; row 1 is 9223372036854775808.",
    ),
    "rank NaN": (
        lambda: ranked(rank=[1, np.nan]),
        RANK + "hold numbers, none missing; row 1 is nan.",
    ),
    "rank text": (
        lambda: ranked(rank=["1", "2"]),
        RANK + "hold numbers; its type is object.",
    ),
    "rank bool": (
        lambda: ranked(rank=[True, False]),
        RANK + "hold numbers; its type is bool.",
    ),
    "score NaN": (
        lambda: scored([1.0, np.nan]),
        "column 'score' of recommendations must hold numbers, none missing; row 1 is nan.",
    ),
    "score text": (
        lambda: scored(["1", "2"]),
        "column 'score' of recommendations must hold numbers; its type is object.",
    ),
}


@pytest.mark.parametrize("case", list(RECOMMENDATIONS))
@pytest.mark.parametrize("entry", ["evaluate recommendations"])
def test_recommendations(entry: str, case: str, refused: Any) -> None:
    make, message = RECOMMENDATIONS[case]
    refused(lambda: evaluate(make(), TRUTH), InvalidInputError, message)


EVALUATE: dict[str, tuple[dict[str, Any], type, str]] = {
    "metrics None": (
        {"metrics": None},
        InvalidParameterError,
        "metrics must be a list of names; got None.",
    ),
    "metrics a name": (
        {"metrics": "ndcg"},
        InvalidParameterError,
        "metrics must be a list of names; got 'ndcg'.",
    ),
    "metrics a set": (
        {"metrics": {"ndcg"}},
        InvalidParameterError,
        "metrics must be a list of names; got {'ndcg'}.",
    ),
    "k an empty list": (
        {"k": []},
        InvalidParameterError,
        "k must name at least one list length; got an empty list.",
    ),
    "k a list of floats": (
        {"k": [1, 2.0]},
        InvalidParameterError,
        "k must be an integer of at least 1; got 2.0.",
    ),
}
CATALOGUE: dict[str, tuple[dict[str, Any], type, str]] = {
    "catalogue of nothing": (
        {"metrics": ["coverage"], "n_items": 0},
        InvalidParameterError,
        "n_items must be an integer of at least 1; got 0.",
    ),
    "catalogue bool": (
        {"metrics": ["coverage"], "n_items": True},
        InvalidParameterError,
        "n_items must be an integer of at least 1; got True.",
    ),
    "no history": (
        {"metrics": ["novelty"]},
        InvalidParameterError,
        "history must be the event table of training when metrics name 'novelty'; got None.",
    ),
    "a history of numbers": (
        {"metrics": ["novelty"], "history": 3},
        InvalidInputError,
        "history must be a table with the columns 'user_id' and 'item_id', or an array of shape "
        "(n_events, 2 or more); got int of shape ().",
    ),
    "a history with a missing item": (
        {"metrics": ["novelty"], "history": TRUTH.assign(item_id=objects("a", None, "b"))},
        InvalidInputError,
        "column 'item_id' of history must have no missing values; row 1 is None.",
    ),
}


@pytest.mark.parametrize("case", [*EVALUATE, *CATALOGUE])
@pytest.mark.parametrize("entry", ["evaluate"])
def test_evaluate(entry: str, case: str, refused: Any) -> None:
    options, error, message = (EVALUATE | CATALOGUE)[case]
    refused(lambda: evaluate(ranked(), TRUTH, **options), error, message)


@pytest.mark.parametrize("case", list(EVALUATE))
@pytest.mark.parametrize("entry", ["rank_metrics"])
def test_rank_metrics(entry: str, case: str, refused: Any) -> None:
    options, error, message = EVALUATE[case]
    refused(lambda: rank_metrics([[1]], [0, 1], [1], **options), error, message)


CODES: dict[str, tuple[tuple[Any, Any, Any], str]] = {
    "ranked None": ((None, [0, 1], [1]), "ranked must hold integers; its type is object."),
    "ranked text": (([["a"]], [0, 1], [1]), "ranked must hold integers; its type is <U1."),
    "ranked floats": (([[1.0]], [0, 1], [1]), "ranked must hold integers; its type is float64."),
    "ranked bools": (([[True]], [0, 1], [1]), "ranked must hold integers; its type is bool."),
    "indices NaN": (
        ([[1]], [0, 1], [np.nan]),
        "indices must hold integers; its type is float64.",
    ),
    "indptr text": (([[1]], ["0", "1"], [1]), "indptr must hold integers; its type is <U1."),
    "ranked ragged": (
        ([[1], [2, 3]], [0, 1, 1], [1]),
        "ranked must hold integers; its lists differ in length.",
    ),
}


@pytest.mark.parametrize("case", list(CODES))
@pytest.mark.parametrize("entry", ["rank_metrics", "find_hits"])
def test_codes(entry: str, case: str, refused: Any) -> None:
    arguments, message = CODES[case]
    call = {"rank_metrics": rank_metrics, "find_hits": find_hits}[entry]
    refused(lambda: call(*arguments), InvalidInputError, message)


EVENTS = pd.DataFrame(
    {"user_id": ["u", "u", "v", "v"], "item_id": [*"abca"], "timestamp": [1, 2, 3, 4]}
)
COUNTS: dict[str, Callable[[Any], Any]] = {
    "LeaveLastOut n": lambda value: list(LeaveLastOut(n=value).split(EVENTS)),
    "LeaveLastOut n_splits": lambda value: list(LeaveLastOut(n_splits=value).split(EVENTS)),
    "LeaveLastOut min_history": lambda value: list(LeaveLastOut(min_history=value).split(EVENTS)),
    "leave_last_out_split n": lambda value: leave_last_out_split(EVENTS, value),
    "TimeSplit test_size": lambda value: list(TimeSplit(value).split(EVENTS)),
    "TimeSplit n_splits": lambda value: list(TimeSplit(n_splits=value).split(EVENTS)),
    "time_split test_size": lambda value: time_split(EVENTS, value),
}
NO_COUNT: dict[str, tuple[Any, str]] = {
    "below 0": (-1, "-1"),
    "bool": (True, "True"),
    "None": (None, "None"),
    "list": ([1], "[1]"),
    "array": (np.array(1), "array(1)"),
}


@pytest.mark.parametrize("case", list(NO_COUNT))
@pytest.mark.parametrize("entry", list(COUNTS))
def test_counts(entry: str, case: str, refused: Any) -> None:
    value, written = NO_COUNT[case]
    name = entry.split()[1]
    refused(
        lambda: COUNTS[entry](value),
        InvalidParameterError,
        f"{name} must be an integer of at least {int(name != 'min_history')}; got {written}.",
    )


NO_DURATION: dict[str, Any] = {
    "words": "a week",
    "empty": "",
    "below 0": "-1D",
    "none": "0s",
    "without a unit": "7",
    "beyond nanoseconds": "300000D",
    "timedelta of nothing": datetime.timedelta(0),
    "NaT": np.timedelta64("NaT"),
}
NO_SHARE: dict[str, tuple[Any, str]] = {
    "0": (0.0, "0.0"),
    "1": (1.0, "1.0"),
    "above 1": (1.5, "1.5"),
    "NaN": (float("nan"), "nan"),
    "infinite": (float("inf"), "inf"),
}


@pytest.mark.parametrize("case", list(NO_DURATION))
@pytest.mark.parametrize("entry", ["TimeSplit test_size", "time_split test_size"])
def test_durations(entry: str, case: str, refused: Any) -> None:
    value = NO_DURATION[case]
    refused(
        lambda: COUNTS[entry](value),
        InvalidParameterError,
        "test_size must be a share of events in (0, 1), a number of events or a positive duration "
        f"such as '7D'; got {value!r}.",
    )


@pytest.mark.parametrize("case", list(NO_SHARE))
@pytest.mark.parametrize("entry", ["TimeSplit test_size", "time_split test_size"])
def test_shares(entry: str, case: str, refused: Any) -> None:
    value, written = NO_SHARE[case]
    message = f"test_size must be a number in (0, 1); got {written}."
    refused(lambda: COUNTS[entry](value), InvalidParameterError, message)


SPLITS: dict[str, tuple[Callable[[], Any], type, str]] = {
    "LeaveLastOut.split-huge n": (
        lambda: list(LeaveLastOut(n=10**9).split(EVENTS)),
        InvalidInputError,
        "X must hold a user with at least 1000000001 events for n=1000000000, n_splits=1 and "
        "min_history=1; the most that a user has is 2.",
    ),
    "LeaveLastOut.split-one event a user": (
        lambda: list(LeaveLastOut().split(EVENTS.drop_duplicates("user_id"))),
        InvalidInputError,
        "X must hold a user with at least 2 events for n=1, n_splits=1 and min_history=1; the "
        "most that a user has is 1.",
    ),
    "LeaveLastOut.split-no rows": (
        lambda: list(LeaveLastOut().split(EVENTS[:0])),
        InvalidInputError,
        "X must hold a user with at least 2 events for n=1, n_splits=1 and min_history=1; the "
        "most that a user has is 0.",
    ),
    "TimeSplit.split-no rows": (
        lambda: list(TimeSplit().split(EVENTS[:0])),
        InvalidInputError,
        "X must hold more than 1 * 1 events for n_splits=1 and test_size=0.1; it holds 0.",
    ),
    "TimeSplit.split-no rows for a duration": (
        lambda: list(TimeSplit("1s").split(EVENTS[:0])),
        InvalidInputError,
        "X must have training and test events in every window; window 1 of 1 has 0 and 0 with "
        "test_size='1s'.",
    ),
    "TimeSplit.split-one moment": (
        lambda: list(TimeSplit(2).split(EVENTS.assign(timestamp=5))),
        InvalidInputError,
        "X must have training and test events in every window; window 1 of 1 has 0 and 0 with "
        "test_size=2.",
    ),
    "TimeSplit.split-no times": (
        lambda: list(TimeSplit(2).split(EVENTS[["user_id", "item_id"]])),
        InvalidInputError,
        "X must have times for a split by time, in a column 'timestamp'; it has none.",
    ),
    "TimeSplit.split-filter text": (
        lambda: list(TimeSplit(1, filter_cold_users="no").split(EVENTS)),
        InvalidParameterError,
        "filter_cold_users must be one of True, False; got 'no'.",
    ),
    "TimeSplit.split-filter None": (
        lambda: list(TimeSplit(1, filter_cold_items=None).split(EVENTS)),
        InvalidParameterError,
        "filter_cold_items must be one of True, False; got None.",
    ),
}


@pytest.mark.parametrize("entry", list(SPLITS))
def test_splits(entry: str, refused: Any) -> None:
    call, error, message = SPLITS[entry]
    refused(call, error, message)


def test_durations_part_times_that_are_durations() -> None:
    events = EVENTS.assign(timestamp=pd.to_timedelta(EVENTS["timestamp"], "D"))
    train, test = time_split(events, "1D", filter_cold_users=False)
    assert (len(train), test["item_id"].tolist()) == (3, ["a"])


@pytest.mark.parametrize("form", ["index that repeats", "read-only array", "negative strides"])
def test_splits_of_other_forms(form: str) -> None:
    array = EVENTS.to_numpy()
    array.setflags(write=False)
    given = {
        "index that repeats": EVENTS.set_index(pd.Index([0] * 4)),
        "read-only array": array,
        "negative strides": array[::-1][::-1],
    }[form]
    for splitter in (LeaveLastOut(), TimeSplit(1, filter_cold_users=False)):
        expected = [[fold.tolist() for fold in folds] for folds in splitter.split(EVENTS)]
        found = [[fold.tolist() for fold in folds] for folds in splitter.split(given)]
        assert found == expected

"""Bad columns of an event table, at every entry that reads one: one table of cases for all."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from palate.exceptions import InvalidInputError
from palate.metrics import evaluate
from palate.model_selection import LeaveLastOut, TimeSplit, leave_last_out_split, time_split

RANKED = pd.DataFrame({"user_id": ["u0"], "item_id": ["a"], "rank": [1]})
# The entry, the model that it belongs to, and what an error calls the table.
ENTRIES: dict[str, tuple[Callable[[Any, Any], Any], str, str]] = {
    "fit": (lambda model, X: model.fit(X), "learned", "X"),
    "fit_transform": (lambda model, X: model.fit_transform(X), "learned", "X"),
    "partial_fit": (lambda model, X: model.partial_fit(X), "learned", "X"),
    "observe": (lambda model, X: model.observe(X), "learned", "X"),
    "score": (lambda model, X: model.score(X), "learned", "X"),
    "MostPopular.fit": (lambda model, X: model.fit(X), "popular", "X"),
    "MostPopular.score": (lambda model, X: model.score(X), "popular", "X"),
    "LeaveLastOut.split": (lambda _, X: list(LeaveLastOut().split(X)), "", "X"),
    "TimeSplit.split": (lambda _, X: list(TimeSplit().split(X)), "", "X"),
    "leave_last_out_split": (lambda _, X: leave_last_out_split(X), "", "X"),
    "time_split": (lambda _, X: time_split(X), "", "X"),
    "evaluate": (lambda _, X: evaluate(RANKED, X), "", "truth"),
}


def table(**columns: Any) -> pd.DataFrame:
    """Three events of users u0 and u1, with some columns replaced."""
    plain = {"user_id": ["u0", "u1", "u0"], "item_id": ["a", "b", "c"], "timestamp": [1, 2, 3]}
    return pd.DataFrame({**plain, **columns})


def objects(*values: Any) -> pd.Series:
    """A column of objects, which pandas must not guess a type for."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return pd.Series(column, dtype=object)


def stamp(text: str, zone: str | None = None) -> pd.Timestamp:
    return pd.Timestamp(text, tz=zone)


ID = "column 'item_id' of {X} must "
USER = "column 'user_id' of {X} must "
TIME = "column 'timestamp' of {X} must "
WEIGHT = "column 'weight' of {X} must "
NUMBERS = TIME + "hold numbers or datetimes; "

CASES: dict[str, tuple[Callable[[], Any], str]] = {
    # Columns
    "no user column": (
        lambda: table().drop(columns="user_id"),
        "{X} must have a column 'user_id'; its columns are 'item_id', 'timestamp'.",
    ),
    "no item column": (
        lambda: table().drop(columns="item_id"),
        "{X} must have a column 'item_id'; its columns are 'user_id', 'timestamp'.",
    ),
    "no columns": (pd.DataFrame, "{X} must have a column 'user_id'; its columns are none."),
    "numbered columns": (
        lambda: table().set_axis([0, 1, 2], axis=1),
        "{X} must have a column 'user_id'; its columns are 0, 1, 2.",
    ),
    "columns of two levels": (
        lambda: table().set_axis(pd.MultiIndex.from_product([["user_id"], [1, 2, 3]]), axis=1),
        "{X} must have a column 'user_id'; its columns are ('user_id', 1), ('user_id', 2), "
        "('user_id', 3).",
    ),
    "two user columns": (
        lambda: table().set_axis(["user_id", "user_id", "item_id"], axis=1),
        "{X} must have columns of distinct names; 2 are named 'user_id'.",
    ),
    "two item columns of pyarrow": (
        lambda: pa.table([[1], [2], [3]], names=["user_id", "item_id", "item_id"]),
        "{X} must have columns of distinct names; 2 are named 'item_id'.",
    ),
    "users in the index": (
        lambda: table().set_index("user_id"),
        "{X} must have a column 'user_id'; its columns are 'item_id', 'timestamp'.",
    ),
    # Ids
    "user None": (
        lambda: table(user_id=objects("u0", None, "u1")),
        USER + "have no missing values; row 1 is None.",
    ),
    "user NaN": (
        lambda: table(user_id=[1.0, 2.0, np.nan]),
        USER + "have no missing values; row 2 is nan.",
    ),
    "item NA": (
        lambda: table(item_id=objects("a", pd.NA, "b")),
        ID + "have no missing values; row 1 is <NA>.",
    ),
    "item NaT": (
        lambda: table(item_id=pd.to_datetime(["2024-05-01", None, None])),
        ID + "have no missing values; row 1 is NaT.",
    ),
    "item NaT among zones": (
        lambda: table(item_id=objects(stamp("2024", "UTC"), pd.NaT, stamp("2025", "UTC"))),
        ID + "have no missing values; row 1 is NaT.",
    ),
    "item of a category that is missing": (
        lambda: table(item_id=pd.Categorical(["a", None, "b"])),
        ID + "have no missing values; row 1 is nan.",
    ),
    "item missing in a nullable column": (
        lambda: table(item_id=pd.array([1, 2, None], dtype="Int64")),
        ID + "have no missing values; row 2 is nan.",
    ),
    "item a list": (
        lambda: table(item_id=objects("a", ["b", "c"], "d")),
        ID + "hold hashable scalars; row 1 is ['b', 'c'].",
    ),
    "item a dict": (
        lambda: table(item_id=objects({"a": 1}, "b", "c")),
        ID + "hold hashable scalars; row 0 is {'a': 1}.",
    ),
    "user a set": (
        lambda: table(user_id=objects("u0", "u1", {3})),
        USER + "hold hashable scalars; row 2 is {3}.",
    ),
    "user an array": (
        lambda: table(user_id=objects(np.arange(2), np.arange(3), 0)),
        USER + "hold hashable scalars; row 0 is array([0, 1]).",
    ),
    "item half a surrogate pair": (
        lambda: table(item_id=objects("a", "b\ud800", "c")),
        ID + "hold text without lone surrogates; row 1 is 'b\\ud800'.",
    ),
    "item a long list": (
        lambda: table(item_id=objects(["x" * 100_000], "b", "c")),
        ID + f"hold hashable scalars; row 0 is ['{'x' * 198}….",
    ),
    # Times
    "time missing": (
        lambda: table(timestamp=[1.0, np.nan, 2.0]),
        TIME + "have no missing values; row 1 is nan.",
    ),
    "time NaT": (
        lambda: table(timestamp=pd.to_datetime(["2024-05-01", "2024-05-02", None])),
        TIME + "have no missing values; row 2 is NaT.",
    ),
    "time None": (
        lambda: table(timestamp=objects(None, None, None)),
        TIME + "have no missing values; row 0 is None.",
    ),
    "time infinite": (
        lambda: table(timestamp=[1.0, 2.0, -np.inf]),
        TIME + "hold finite numbers; row 2 is -inf.",
    ),
    "time of 64 bits without sign": (
        lambda: table(timestamp=np.array([1, 2**63, 2], np.uint64)),
        TIME + "hold numbers below 2**63; row 1 is 9223372036854775808.",
    ),
    "time beyond 64 bits": (
        lambda: table(timestamp=objects(1, 2, 2**70)),
        TIME + "hold numbers below 2**63; row 2 is 1180591620717411303424.",
    ),
    "time unparsable": (
        lambda: table(timestamp=["2024-05-01", "2024-05-02", "soon"]),
        NUMBERS + "row 2 is 'soon'.",
    ),
    "time empty text": (
        lambda: table(timestamp=["2024-05-01", "", "2024-05-02"]),
        NUMBERS + "row 1 is ''.",
    ),
    "time by the clock of today": (
        lambda: table(timestamp=["2024-05-01", "now", "2024-05-02"]),
        NUMBERS + "row 1 is 'now'.",
    ),
    "time with day and month to be guessed": (
        lambda: table(timestamp=["01/02/2024", "02/02/2024", "03/02/2024"]),
        NUMBERS + "row 0 is '01/02/2024'.",
    ),
    "time digits as text": (
        lambda: table(timestamp=["1700000000", "1700000001", "1700000002"]),
        NUMBERS + "row 0 is '1700000000'.",
    ),
    "time of two kinds": (
        lambda: table(timestamp=objects(1, stamp("2024"), 3)),
        TIME + "hold times of one kind; row 0 is 1 and row 1 is Timestamp('2024-01-01 00:00:00').",
    ),
    "time number and text": (
        lambda: table(timestamp=objects("2024-05-01", "2024-05-02", 3)),
        TIME + "hold times of one kind; row 0 is '2024-05-01' and row 2 is 3.",
    ),
    "time with a zone and without": (
        lambda: table(timestamp=objects(stamp("2024"), stamp("2024", "Asia/Tokyo"), stamp("2025"))),
        TIME + "hold datetimes that all have a time zone, or none of them; row 0 is "
        "Timestamp('2024-01-01 00:00:00') and row 1 is Timestamp('2024-01-01 00:00:00+0900', "
        "tz='Asia/Tokyo').",
    ),
    "time texts with a zone and without": (
        lambda: table(timestamp=["2024-05-01T10:00Z", "2024-05-01T12:00+02:00", "2024-05-01"]),
        TIME + "hold datetimes that all have a time zone, or none of them; row 0 is "
        "'2024-05-01T10:00Z' and row 2 is '2024-05-01'.",
    ),
    "time of day alone": (
        lambda: table(timestamp=objects(*[datetime.time(10)] * 3)),
        NUMBERS + "row 0 is datetime.time(10, 0).",
    ),
    "time a period": (
        lambda: table(timestamp=pd.period_range("2024-05", periods=3, freq="M")),
        NUMBERS + "row 0 is Period('2024-05', 'M').",
    ),
    "time a decimal": (
        lambda: table(timestamp=objects(1, decimal.Decimal(2), 3)),
        NUMBERS + "row 1 is Decimal('2').",
    ),
    "time complex": (lambda: table(timestamp=[1j, 2j, 3j]), NUMBERS + "its type is complex128."),
    "time bytes": (lambda: table(timestamp=[b"1", b"2", b"3"]), NUMBERS + "row 0 is b'1'."),
    "time a list": (
        lambda: table(timestamp=objects([1], [2], [3])),
        TIME + "hold hashable scalars; row 0 is [1].",
    ),
    "time before nanoseconds": (
        lambda: table(timestamp=np.array(["1600-01-01"] * 3, "M8[s]")),
        TIME + "hold datetimes between 1678 and 2261; row 0 is 1600-01-01T00:00:00.",
    ),
    # Weights
    "weight NaN": (
        lambda: table(weight=[1.0, np.nan, 1.0]),
        WEIGHT + "hold finite numbers of at least 0; row 1 is nan.",
    ),
    "weight infinite": (
        lambda: table(weight=[1.0, 1.0, np.inf]),
        WEIGHT + "hold finite numbers of at least 0; row 2 is inf.",
    ),
    "weight negative": (
        lambda: table(weight=[1, 1, -2]),
        WEIGHT + "hold finite numbers of at least 0; row 2 is -2.",
    ),
    "weight None": (
        lambda: table(weight=objects(1, None, 2)),
        WEIGHT + "hold finite numbers of at least 0; row 1 is nan.",
    ),
    "weight beyond 32 bits": (
        lambda: table(weight=[1.0, 1e300, 1.0]),
        WEIGHT + "hold numbers of at most 3.403e+38; row 1 is 1e+300.",
    ),
    "weight text of digits": (
        lambda: table(weight=["1", "2", "3"]),
        WEIGHT + "hold numbers; its type is object.",
    ),
    "weight dates": (
        lambda: table(weight=pd.to_datetime(["2024-05-01"] * 3).as_unit("s")),
        WEIGHT + "hold numbers; its type is datetime64[s].",
    ),
    "weight durations": (
        lambda: table(weight=pd.to_timedelta([1, 2, 3], "s").as_unit("s")),
        WEIGHT + "hold numbers; its type is timedelta64[s].",
    ),
    "weight complex": (
        lambda: table(weight=[1j, 1.0, 1.0]),
        WEIGHT + "hold numbers; its type is complex128.",
    ),
    "weight lists": (
        lambda: table(weight=objects([1], [2], [3])),
        WEIGHT + "hold numbers; its type is object.",
    ),
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("entry", list(ENTRIES))
def test_refused(entry: str, case: str, request: pytest.FixtureRequest, refused: Any) -> None:
    call, fixture, name = ENTRIES[entry]
    make, message = CASES[case]
    models = [request.getfixturevalue(fixture)] if fixture else [None]
    refused(
        lambda: call(models[0], make()),
        InvalidInputError,
        message.replace("{X}", name),
        *(models if fixture else ()),
    )


# Only users are read here.
USERS = [case for case in CASES if case.startswith(("no user", "user ", "users ", "two user"))]


@pytest.mark.parametrize("case", USERS)
@pytest.mark.parametrize("entry", ["predict", "transform"])
def test_users_refused(entry: str, case: str, learned: Any, refused: Any) -> None:
    make, message = CASES[case]
    refused(
        lambda: getattr(learned, entry)(make()),
        InvalidInputError,
        message.replace("{X}", "X"),
        learned,
    )


# What fits no model that was fitted on times as numbers.
KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "no times": (
        lambda: table().drop(columns="timestamp"),
        "X must have a column 'timestamp', as the events learned before had one.",
    ),
    "datetimes after numbers": (
        lambda: table(timestamp=pd.to_datetime(["2024-05-01"] * 3)),
        "column 'timestamp' of X must be of the kind that the events learned before had, int64; "
        "its type is datetime64[ns].",
    ),
}


@pytest.mark.parametrize("case", list(KINDS))
@pytest.mark.parametrize("entry", ["partial_fit", "observe"])
def test_another_kind_of_table_than_fit_had(
    entry: str, case: str, learned: Any, refused: Any
) -> None:
    make, message = KINDS[case]
    known = make().assign(item_id=["a", "b", "c"])
    refused(lambda: getattr(learned, entry)(known), InvalidInputError, message, learned)


@pytest.mark.parametrize("entry", ["fit", "partial_fit", "score", "MostPopular.fit"])
def test_empty_tables_refused(entry: str, request: pytest.FixtureRequest, refused: Any) -> None:
    call, fixture, _ = ENTRIES[entry]
    model = request.getfixturevalue(fixture)
    for empty in (table()[:0], pd.DataFrame({"user_id": [], "item_id": []}), [], [[], []]):
        refused(
            lambda X=empty: call(model, X),
            InvalidInputError,
            "X must hold at least one event; got none.",
            model,
        )

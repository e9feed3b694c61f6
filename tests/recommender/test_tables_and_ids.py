"""Their tables and their ids go in and come out."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import Items, Recommender
from palate.exceptions import InvalidInputError, UnsupportedTargetError

Make = Callable[..., Recommender]

IDS: dict[str, Callable[[int], Any]] = {
    "int": lambda i: i * 7 - 3,
    "large int": lambda i: 2**61 + i,
    "str": lambda i: f"id-{i}",
    "float": lambda i: i + 0.5,
    "int and str": lambda i: i if i % 2 else f"s{i}",
    "uuid": lambda i: uuid.UUID(int=i + 1),
    "timestamp": lambda i: pd.Timestamp("2024-05-01 12:00") + pd.Timedelta(i, "h"),
    "numpy datetime": lambda i: np.datetime64("2024-05-01") + np.timedelta64(i, "D"),
    "date": lambda i: datetime.date(2024, 5, 1 + i),
}


@pytest.mark.parametrize("kind", list(IDS))
def test_ids_of_every_type(kind: str, make_recommender: Make) -> None:
    make = IDS[kind]
    users = [make(u) for u in (8, 8, 8, 1, 1, 2, 2, 2)]
    item_ids = [make(i) for i in (5, 3, 4, 3, 6, 4, 5, 6)]
    frame = pd.DataFrame({"user_id": users, "item_id": item_ids})
    model = make_recommender().fit(frame)
    table = model.recommend([users[3], users[0]], k=9)
    assert table["user_id"].tolist() == frame["user_id"].iloc[[3, 3, 0]].tolist()
    assert table["user_id"].dtype == frame["user_id"].dtype
    assert table["item_id"].dtype == frame["item_id"].dtype
    assert set(table["item_id"][:2]) == set(frame["item_id"].iloc[[0, 2]])
    # As a history, in the types that a caller may have at hand.
    by_history = model.recommend(histories=[item_ids[3:5]], k=9)
    assert by_history["item_id"].tolist() == table["item_id"].tolist()[:2]
    column = frame["item_id"].iloc[3:5]
    for history in (column, column.to_numpy(), column.tolist(), tuple(column)):
        again = model.recommend(histories=[history], k=9)
        pd.testing.assert_frame_equal(again, by_history)
    # New users arrive one by one, and keep their type.
    for new in (make(9), make(10)):
        model.observe(pd.DataFrame({"user_id": [new], "item_id": item_ids[:1]}))
        found = model.recommend([new], k=1)
        assert found["user_id"].tolist() == pd.Series([new]).tolist()
        if kind != "int and str":  # pandas names the type of a column by what is in it
            assert found["user_id"].dtype == frame["user_id"].dtype
    near = model.recommend_to_items(item_ids[:1], k=1)
    assert near["target_item_id"].dtype == frame["item_id"].dtype


@pytest.mark.parametrize(
    ("user_type", "item_type"),
    [
        ("int32", "uint16"),
        ("Int64", "string"),
        ("category", "category"),
        ("string[pyarrow]", "int64[pyarrow]"),
        ("float32", "int8"),
    ],
)
def test_other_types_of_pandas(user_type: str, item_type: str, make_recommender: Make) -> None:
    frame = pd.DataFrame({"user_id": [5, 5, 6, 6], "item_id": [30, 31, 32, 30]})
    if "string" in user_type or user_type == "category":
        frame["user_id"] = "u" + frame["user_id"].astype(str)
    if item_type == "string":
        frame["item_id"] = "i" + frame["item_id"].astype(str)
    typed = frame.astype({"user_id": user_type, "item_id": item_type})
    expected = make_recommender().fit(frame).recommend(k=2)
    found = make_recommender().fit(typed).recommend(k=2)
    assert found["user_id"].tolist() == expected["user_id"].tolist()
    assert found["item_id"].tolist() == expected["item_id"].tolist()


@pytest.mark.parametrize("library", ["polars", "pyarrow", "lazy polars"])
def test_other_libraries_in_and_out(
    library: str, make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    numbered = events.assign(user_id=events["user_id"].str[1:].astype("int32"))
    model = make_recommender(item_encoder="bert+id").fit(numbered, items=items)
    if library == "pyarrow":
        native = pytest.importorskip("pyarrow").Table.from_pandas(numbered)
        native_items = pytest.importorskip("pyarrow").Table.from_pandas(items)
    else:
        native = pytest.importorskip("polars").from_pandas(numbered)
        native_items = pytest.importorskip("polars").from_pandas(items)
    whole = type(native)
    given = native.lazy() if library == "lazy polars" else native
    other = make_recommender(item_encoder="bert+id").fit(given, items=Items(native_items))
    queries: list[dict[str, Any]] = [
        {"users": [3, 1], "k": 4},
        {"users": []},
        {"histories": [["i1", "i2"]], "k": 2},
        {"texts": [["a red lamp"]], "k": 2},
    ]
    for query in queries:
        table, expected = other.recommend(**query), model.recommend(**query)
        assert isinstance(table, whole)
        back = table.to_pandas()
        pd.testing.assert_frame_equal(back, expected, check_dtype=len(expected) > 0)
    types = [str(t) for t in other.recommend([1]).schema]
    assert types == [str(t) for t in other.recommend([]).schema]
    users = native["user_id"]
    assert len(other.recommend(users[:2], k=1)) == 2
    np.testing.assert_array_equal(other.predict(native), model.predict(numbered))
    np.testing.assert_array_equal(other.transform(native), model.transform(numbered))
    assert other.score(native) == model.score(numbered)
    other.observe(native[:3]).partial_fit(native[:5])
    model.observe(numbered[:3]).partial_fit(numbered[:5])
    np.testing.assert_array_equal(other.item_vectors_, model.item_vectors_)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_content_of_other_types(library: str, make_recommender: Make) -> None:
    columns = {
        "item_id": ["a", "b", "c"],
        "title": ["red lamp", None, "book"],
        "tags": [["home", "light"], [], None],
        "price": [1.5, 2.0, None],
    }
    if library == "pandas":
        table: Any = pd.DataFrame(columns)
    elif library == "polars":
        table = pytest.importorskip("polars").DataFrame(columns)
    else:
        table = pytest.importorskip("pyarrow").table(columns)
    model = make_recommender(item_encoder="bert").fit([["a", "b", "c"]], items=table)
    assert model._serving.table.texts() == ["red lamp. home, light", "", "book"]
    assert np.isfinite(model.item_vectors_).all()


def test_types_that_differ_are_unknown_not_guessed(make_recommender: Make) -> None:
    model = make_recommender().fit([[1, 2, 3], [2, 3]])
    with pytest.raises(UnsupportedTargetError) as caught:
        model.recommend(histories=[["1", 2]])
    assert str(caught.value) == (
        "items in histories unknown to the model: '1'. "
        "Pass on_unsupported_targets='warn' or 'ignore' to skip them, "
        "or 'popular' to answer by what is popular."
    )
    numpy = model.recommend(histories=[np.array([1, 2], np.uint8)], k=1)
    plain = model.recommend(histories=[[1, 2]], k=1)
    mixed = model.recommend(histories=[[np.int64(1), 2]], k=1)
    pd.testing.assert_frame_equal(numpy, plain)
    pd.testing.assert_frame_equal(mixed, plain)


def test_a_column_named_datetime_orders_too(make_recommender: Make, events: Any) -> None:
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(events["timestamp"], "min")
    by_number = make_recommender().fit(events)
    for name in ("timestamp", "datetime"):
        frame = events.drop(columns="timestamp").assign(**{name: times})
        by_time = make_recommender().fit(frame)
        np.testing.assert_array_equal(by_time.item_vectors_, by_number.item_vectors_)
        pd.testing.assert_frame_equal(by_time.recommend(k=2), by_number.recommend(k=2))


def test_arrays_tables_and_histories_agree(make_recommender: Make, histories_of: Any) -> None:
    rows = [(0, 5), (1, 6), (0, 7), (1, 5), (2, 6), (2, 7), (0, 8)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id"])
    histories = list(histories_of(frame).values())
    by_table = make_recommender().fit(frame.sort_values("user_id", kind="stable"))
    for X in (histories, np.array(sorted(rows, key=lambda row: row[0]))):
        other = make_recommender().fit(X)
        pd.testing.assert_frame_equal(other.recommend(k=2), by_table.recommend(k=2))
    timed = np.array([(user, item, time) for time, (user, item) in enumerate(rows)])
    shuffled = timed[np.random.default_rng(0).permutation(len(timed))]
    by_array = make_recommender(epochs=0).fit(shuffled)
    codes = by_array._serving.histories
    for user, history in enumerate(histories):
        place = list(by_array.user_ids_).index(user)
        assert by_array._serving.items.ids(codes.of(place)).tolist() == history


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_a_table_of_one_type_a_column_cannot_hold_ids_of_two(
    make_recommender: Make, library: str
) -> None:
    pl = pytest.importorskip("polars")
    X = pl.DataFrame({"user_id": ["a", "b", "c", "a"], "item_id": ["p", "q", "r", "q"]})
    model = make_recommender().fit(X if library == "polars" else X.to_arrow())
    asked: dict[str, Any] = {"k": 1, "on_unsupported_targets": "popular"}
    assert len(model.recommend(["a", "z"], **asked)) == 2
    with pytest.raises(InvalidInputError) as caught:
        model.recommend(["a", 5], **asked)
    assert str(caught.value) == (
        f"column 'user_id' of a table of {library} must have values of one type; it would hold "
        "int and str."
    )


def test_days_are_known_beside_strangers(make_recommender: Make) -> None:
    days = [datetime.date(2024, 1, 1 + day) for day in range(6)]
    X = pd.DataFrame({"user_id": np.array(days * 2, "M8[ns]"), "item_id": list("abcdefbcdefa")})
    model = make_recommender().fit(X)
    alone = model.recommend([days[0]], k=2)
    beside = model.recommend([days[0], "x"], k=2, on_unsupported_targets="popular")
    assert beside["item_id"].tolist()[:2] == alone["item_id"].tolist()
    assert beside["user_id"].tolist()[0] == pd.Timestamp(days[0])

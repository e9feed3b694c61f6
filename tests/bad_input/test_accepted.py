"""Unusual input that is good input: what a model learns from it is what it learns from the plain.

The oracle is the same table with other names: ids only name things, so that scores, ranks and the
places in the catalogue must be equal to the last bit.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from palate import Recommender
from palate.exceptions import UnsupportedTargetError

USERS = [0, 1, 0, 2, 1, 0]
ITEMS = [3, 4, 5, 3, 5, 4]
TIMES = [5, 1, 4, 2, 3, 6]


def plain(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"user_id": USERS, "item_id": ITEMS, "timestamp": TIMES, **columns})


def named(name: Callable[[int], Any]) -> Any:
    """Return the items under another name, as a column of objects."""
    column = np.empty(len(ITEMS), dtype=object)
    column[:] = [name(i) for i in ITEMS]
    return pd.Series(column, dtype=object)


@pytest.fixture(scope="module")
def make(options: Any) -> Callable[..., Recommender]:
    def make(**params: Any) -> Recommender:
        chosen = {"item_encoder": "id", "dim": 4, "epochs": 1, "random_state": 0}
        return Recommender(**{**chosen, "options": options, **params})

    return make


@pytest.fixture(scope="module")
def oracle(make: Any) -> Recommender:
    return make().fit(plain())


# Ids of the items: how item i is called in the table, and comes back.
IDS: dict[str, Callable[[int], Any]] = {
    "bytes": lambda i: f"i{i}".encode(),
    "emoji": lambda i: "🙂" * i,
    "right to left": lambda i: "שלום" + "\u202e" * i,
    "combining marks": lambda i: "e\u0301" if i == 3 else "\u00e9" * i,
    "text of 100 thousand characters": lambda i: str(i) * 100_000,
    "text with zeros at the end": lambda i: "a" + "\0" * i,
    "empty text among others": lambda i: "" if i == 4 else f"i{i}",
    "spaces": lambda i: " " * i,
    "64 bits without sign": lambda i: np.uint64(2**64 - i),
    "beyond 64 bits": lambda i: 2**70 + i,
    "at the edge of 64 bits": lambda i: 2**63 - 4 + i,
    "below zero and above 2**63": lambda i: -1 if i == 3 else 2**63 + i,
    "infinite": lambda i: np.inf if i == 3 else float(i),
    "bool and text": lambda i: bool(i - 4) if i < 5 else "True",
    "number and its text": lambda i: {3: 7, 4: "7", 5: 7.5}[i],
    "dates": lambda i: datetime.date(2024, 5, i),
    "times with a zone": lambda i: (
        pd.Timestamp("2024-05-01", tz="Asia/Tokyo") + pd.Timedelta(i, "D")
    ),
    "times of two zones": lambda i: pd.Timestamp(2024, 5, i, tz="UTC" if i == 3 else "Asia/Tokyo"),
    "tuples": lambda i: (i, "x"),
    "frozen sets": lambda i: frozenset({i}),
}


@pytest.mark.parametrize("case", list(IDS))
@pytest.mark.parametrize("entry", ["fit"])
def test_ids(entry: str, case: str, make: Any, oracle: Any, same_answers: Any) -> None:
    name = IDS[case]
    model = make().fit(plain(item_id=named(name)))
    same_answers(oracle, model)
    expected = [name(i) for i in oracle.recommend(k=2)["item_id"].tolist()]
    found = model.recommend(k=2)["item_id"].tolist()
    assert found == expected
    # They are known under their name in every question, and under no other.
    near = model.recommend_to_items([name(3)], k=2)
    expected = [name(i) for i in oracle.recommend_to_items([3], k=2)["item_id"].tolist()]
    assert near["item_id"].tolist() == expected
    assert len(model.recommend(histories=[[name(3), name(4)]], k=5)) == 1
    changed = copy.deepcopy(model).observe(
        plain(item_id=named(name)).head(1).assign(user_id=9, timestamp=9)
    )
    assert 9 in changed.user_ids_.tolist()
    with pytest.raises(UnsupportedTargetError):
        model.recommend_to_items(["never seen"])


# The same events in another form.
FORMS: dict[str, Callable[[], Any]] = {
    "an index that repeats": lambda: plain().set_index(pd.Index([7] * 6)),
    "an index of two levels": lambda: plain().set_index([pd.Index([1] * 6), pd.Index([2] * 6)]),
    "an index named like a column": lambda: plain().set_index(pd.Index([9] * 6, name="user_id")),
    "more columns": lambda: plain(price=[object()] * 6, note=[[1], {}, None, "x", 2.5, b"y"]),
    "columns in another order": lambda: plain()[["timestamp", "item_id", "user_id"]],
    "columns of objects": lambda: plain().astype(object),
    "nullable columns": lambda: plain().convert_dtypes(),
    "columns of pyarrow": lambda: plain().astype("int64[pyarrow]"),
    "categories": lambda: plain().astype({"user_id": "category", "item_id": "category"}),
    "categories without events": lambda: plain(item_id=pd.Categorical(ITEMS, range(9))),
    "sparse columns": lambda: plain(item_id=pd.arrays.SparseArray(ITEMS)),
    "small integers": lambda: plain().astype("int8"),
    "integers without sign": lambda: plain().astype("uint64"),
    "floats": lambda: plain().astype("float64"),
    "polars": lambda: pl.from_pandas(plain()),
    "lazy polars": lambda: pl.from_pandas(plain()).lazy(),
    "pyarrow in chunks": lambda: in_chunks(plain()),
    "array": lambda: plain().to_numpy(),
    "read-only array": lambda: read_only(plain().to_numpy()),
    "array with negative strides": lambda: plain().to_numpy()[::-1][::-1],
    "array in columns": lambda: np.asfortranarray(plain().to_numpy()),
    "array of foreign bytes": lambda: plain().to_numpy().astype(">i8"),
    "array of objects": lambda: plain().to_numpy().astype(object),
    "array of floats": lambda: plain().to_numpy().astype(float),
    "masked array without masked values": lambda: np.ma.masked_array(plain().to_numpy()),
    "tensor": lambda: torch.tensor(plain().to_numpy().tolist()),
    "times as datetimes": lambda: plain(timestamp=pd.to_datetime(TIMES, unit="s")),
    "times with a zone": lambda: plain(timestamp=in_tokyo(TIMES)),
    "times of mixed zones": lambda: plain(timestamp=mixed_zones()),
    "times as text of mixed zones": lambda: plain(timestamp=[t.isoformat() for t in mixed_zones()]),
    "times as text, some of them days": lambda: plain(timestamp=[iso(t) for t in TIMES]),
    "times as durations": lambda: plain(timestamp=pd.to_timedelta(TIMES, "D")),
    "times as objects": lambda: plain(
        timestamp=objects(datetime.datetime(2024, 5, t) for t in TIMES)
    ),
    "times below zero": lambda: plain(timestamp=[t - 99 for t in TIMES]),
    "times in fractions": lambda: plain(timestamp=[t / 7 for t in TIMES]),
    "times of 62 bits": lambda: plain(timestamp=[2**62 + t for t in TIMES]),
    "weights of one": lambda: plain(weight=1.0),
    "weights that are true": lambda: plain(weight=True),
    "weights as objects": lambda: plain(weight=objects([1, 1.0, 1, 1, np.float32(1), True])),
}


def objects(values: Iterable[Any]) -> pd.Series:
    return pd.Series(list(values), dtype=object)


def in_chunks(table: pd.DataFrame) -> pa.Table:
    whole = pa.Table.from_pandas(table)
    return pa.concat_tables([whole[i : i + 2] for i in range(0, len(table), 2)])


def in_tokyo(seconds: list[int]) -> pd.DatetimeIndex:
    return pd.to_datetime(seconds, unit="s", utc=True).tz_convert("Asia/Tokyo")


def iso(day: int) -> str:
    return f"2024-05-0{day}" + "T00:00:00.0" * (day % 2)


def read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def mixed_zones() -> pd.Series:
    zones = ["UTC", "Asia/Tokyo", "US/Eastern"] * 2
    stamps = [pd.Timestamp(t, unit="h", tz=z) for t, z in zip(TIMES, zones, strict=True)]
    return pd.Series(stamps, dtype=object)


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_zeros_at_the_end_of_an_id_tell_it_apart(library: Any, make: Any) -> None:
    ids = ["a", "a\0", "a\0\0"]
    model = make().fit(library({"user_id": ids, "item_id": ids}))
    assert model.item_ids_.tolist() == model.user_ids_.tolist() == ids


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(FORMS))
@pytest.mark.parametrize("entry", ["fit"])
def test_forms(entry: str, case: str, make: Any, oracle: Any, same_answers: Any) -> None:
    given = FORMS[case]()
    model = make().fit(given)
    same_answers(oracle, model)
    answers = model.recommend(k=2)
    if not isinstance(given, (pl.DataFrame, pl.LazyFrame, pa.Table)):
        expected = oracle.recommend(k=2)
        assert answers["user_id"].tolist() == expected["user_id"].tolist()
        assert answers["item_id"].tolist() == expected["item_id"].tolist()
    if isinstance(given, np.ndarray):
        np.testing.assert_array_equal(given, FORMS[case]())  # as it was


TEXTS: dict[str, Callable[[], np.ndarray]] = {
    "NumPy's strings": lambda: np.array([["u", "a"], ["u", "b"], ["v", "b"], ["v", "c"]]),
    "NumPy's variable strings": lambda: TEXTS["NumPy's strings"]().astype(np.dtypes.StringDType()),
    "objects": lambda: TEXTS["NumPy's strings"]().astype(object),
}


@pytest.mark.parametrize("case", list(TEXTS))
@pytest.mark.parametrize("entry", ["fit"])
def test_arrays_of_text(entry: str, case: str, make: Any) -> None:
    if "variable" in case and not hasattr(np.dtypes, "StringDType"):
        pytest.skip("NumPy 2 has them")
    model = make().fit(TEXTS[case]())
    answers = model.recommend(k=1)
    assert [type(value) for value in answers["item_id"]] == [str, str]
    assert answers["item_id"].tolist() == ["c", "a"]
    for users in (np.array(["v"]), np.array(["v"], dtype=object), pd.Series(["v"]), ("v",)):
        assert model.recommend(users, k=1)["item_id"].tolist() == ["a"]


HISTORIES: dict[str, Callable[[], Any]] = {
    "tuples": lambda: (("a", "b"), ("b", "c")),
    "generators": lambda: [(x for x in "ab"), (x for x in "bc")],
    "columns": lambda: [pd.Series(["a", "b"], index=[5, 5]), pl.Series(["b", "c"])],
    "arrays": lambda: [np.array(["a", "b"]), pa.array(["b", "c"])],
    "one empty": lambda: [["a", "b"], ["b", "c"], []],
}


@pytest.mark.parametrize("case", list(HISTORIES))
@pytest.mark.parametrize("entry", ["fit"])
def test_histories(entry: str, case: str, make: Any, same_answers: Any) -> None:
    model = make().fit(HISTORIES[case]())
    same_answers(make().fit([["a", "b"], ["b", "c"]]), model)
    assert model.recommend(k=1)["item_id"].tolist() == ["c", "a"]


@pytest.mark.parametrize("case", ["one event a user"])
@pytest.mark.parametrize("entry", ["fit"])
def test_one_event_a_user(entry: str, case: str, make: Any) -> None:
    model = make().fit([["a"], ["b"], ["c"]])
    assert model.recommend(k=9).groupby("user_id").size().tolist() == [2, 2, 2]
    assert np.isfinite(model.item_vectors_).all()
    assert all(record["loss"] is None or np.isfinite(record["loss"]) for record in model.history_)


def test_one_event_in_all(make: Any) -> None:
    model = make().fit([["a"]])
    assert len(model.recommend(k=9)) == 0
    assert model.recommend(k=9, filter_viewed=False)["item_id"].tolist() == ["a"]


def test_one_item_in_all(make: Any) -> None:
    model = make().fit([["a", "a", "a"], ["a"]])
    assert model.recommend(filter_viewed=False)["item_id"].tolist() == ["a", "a"]


def test_a_history_of_a_hundred_thousand_events(make: Any) -> None:
    long = [f"i{place % 7}" for place in range(100_000)]
    model = make(epochs=0).fit([long, ["i1", "i2"]])
    assert len(model.recommend([0], k=9)) == 0
    grown = copy.deepcopy(model).observe(pd.DataFrame({"user_id": 1, "item_id": long}))
    assert len(grown.recommend([1], k=9)) == 0
    pd.testing.assert_frame_equal(
        model.recommend(histories=[long], k=9, filter_viewed=False),
        model.recommend([0], k=9, filter_viewed=False),
    )


def test_equal_by_python_are_one_id(make: Any) -> None:
    model = make().fit([[1, 2], [True, 1.0, 3]])
    assert model.item_ids_.tolist() == [1, 2, 3]
    assert make().fit([[0.0, 1.0], [-0.0]]).item_ids_.tolist() == [0.0, 1.0]


def test_ids_of_another_type_are_new_in_partial_fit(make: Any) -> None:
    model = make().fit([[1, 2], [2, 1]])
    model.partial_fit([["1", "2"], ["2"]])
    assert model.item_ids_.tolist() == [1, 2, "1", "2"]


EMPTY: dict[str, Callable[[], Any]] = {
    "no rows": lambda: plain()[:0],
    "no rows of objects": lambda: pd.DataFrame({"user_id": [], "item_id": []}),
    "no rows of polars": lambda: pl.from_pandas(plain()[:0]),
    "array without rows": lambda: np.zeros((0, 2)),
    "no histories": list,
    "empty histories": lambda: [[], []],
}


@pytest.mark.parametrize("case", list(EMPTY))
@pytest.mark.parametrize("entry", ["observe"])
def test_nothing_to_observe(entry: str, case: str, oracle: Any) -> None:
    model = copy.deepcopy(oracle).observe(EMPTY[case]())
    pd.testing.assert_frame_equal(model.recommend(k=3), oracle.recommend(k=3))
    assert model.user_ids_.tolist() == oracle.user_ids_.tolist()


@pytest.mark.parametrize("entry", ["predict", "transform"])
def test_no_rows_no_answers(entry: str, oracle: Any) -> None:
    for empty in (plain()[:0], []):
        answers = getattr(oracle, entry)(empty)
        assert answers.shape == (0, {"predict": 10, "transform": 4}[entry])

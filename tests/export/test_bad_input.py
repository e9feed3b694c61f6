"""Bad questions to an export: the error of the recommender itself, type and words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from palate import Recommender
from palate.exceptions import InvalidInputError, InvalidParameterError, UnsupportedTargetError
from palate.export import OnnxRecommender, to_onnx, writer

PLAIN = [["i1", "i2"], ["i3", "i4"]]


@pytest.fixture(scope="module")
def pair(
    fitted: Callable[..., Recommender],
    cached_trace: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Recommender, OnnxRecommender]:
    """A model and its export."""
    model = fitted("transformer", "id")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "trace", cached_trace)
        folder = to_onnx(model, tmp_path_factory.mktemp("bad") / "export")
    return model, OnnxRecommender(folder)


@pytest.fixture
def unmoved(pair: tuple[Recommender, OnnxRecommender]) -> Iterator[OnnxRecommender]:
    """The export; it must answer as before."""
    reader = pair[1]
    before = reader.recommend(PLAIN, k=5)
    yield reader
    after = reader.recommend(PLAIN, k=5)
    assert {n: v.tolist() for n, v in after.items()} == {n: v.tolist() for n, v in before.items()}


def table() -> pd.DataFrame:
    return pd.DataFrame({"user_id": ["u"], "item_id": ["i1"]})


HISTORIES: dict[str, tuple[Callable[[], Any], type]] = {
    "number": (lambda: 3, InvalidInputError),
    "text": (lambda: "i1", InvalidInputError),
    "dict": (lambda: {"u": ["i1"]}, InvalidInputError),
    "set without order": (lambda: {("i1",)}, InvalidInputError),
    "table": (table, InvalidInputError),
    "table of polars": (lambda: pl.from_pandas(table()), InvalidInputError),
    "three dimensions": (lambda: np.zeros((1, 2, 3)), InvalidInputError),
    "flat list": (lambda: ["i1"], InvalidInputError),
    "flat array of NumPy's strings": (lambda: np.array(["i1"]), InvalidInputError),
    "bytes": (lambda: [b"i1"], InvalidInputError),
    "history None": (lambda: [["i1"], None], InvalidInputError),
    "history a set": (lambda: [{"i1"}], InvalidInputError),
    "history a dict": (lambda: [{"i1": 1}], InvalidInputError),
    "history a table": (lambda: [table()], InvalidInputError),
    "lists of lists": (lambda: [[["i1"]]], InvalidInputError),
    "ids of another type": (lambda: [[1, 2]], UnsupportedTargetError),
    "ids of 2**63 and more": (lambda: [["i1"], [2**63, 2**70]], UnsupportedTargetError),
    "an id NaN": (lambda: [["i1", np.nan]], UnsupportedTargetError),
    "an id None": (lambda: [["i1", None]], UnsupportedTargetError),
    "unknown ids": (lambda: [list("mnopqrs")], UnsupportedTargetError),
    "unknown emoji": (lambda: [["🙂", "שלום"]], UnsupportedTargetError),
    "unknown text of 100 thousand characters": (
        lambda: [["x" * 100_000]],
        UnsupportedTargetError,
    ),
    "half a surrogate pair": (lambda: [["\ud800"]], UnsupportedTargetError),
    "empty history": (lambda: [["i1"], []], UnsupportedTargetError),
}


@pytest.mark.parametrize("case", list(HISTORIES))
@pytest.mark.parametrize("entry", ["OnnxRecommender.recommend"])
def test_histories(entry: str, case: str, pair: Any, unmoved: OnnxRecommender) -> None:
    make, error = HISTORIES[case]
    same_error(pair[0], unmoved, error, histories=make())


def without_popular(message: str) -> str:
    """Leave out what an export, which has no counts of what is popular, cannot do."""
    message = message.replace(", or 'popular' to answer by what is popular", "")
    return message.removesuffix(
        " Pass on_unsupported_targets='popular' to answer it by what is popular."
    )


def same_error(model: Any, reader: OnnxRecommender, error: type, **arguments: Any) -> None:
    with pytest.raises(error) as ours:
        model.recommend(**arguments)
    with pytest.raises(error) as found:
        reader.recommend(**arguments)
    assert type(found.value) is type(ours.value) is error
    assert str(found.value) == without_popular(str(ours.value))


@pytest.mark.parametrize("case", ["None"])
@pytest.mark.parametrize("entry", ["OnnxRecommender.recommend"])
def test_no_histories(entry: str, case: str, unmoved: OnnxRecommender) -> None:
    with pytest.raises(InvalidInputError) as found:
        unmoved.recommend(None)  # type: ignore[arg-type]
    assert str(found.value) == "histories must be a list of histories; got None."


NO_K: dict[str, Any] = {
    "0": 0,
    "below 0": -3,
    "bool": True,
    "float": 2.0,
    "NaN": float("nan"),
    "text": "3",
    "None": None,
}


@pytest.mark.parametrize("case", list(NO_K))
@pytest.mark.parametrize("entry", ["OnnxRecommender.recommend"])
def test_k_refused(entry: str, case: str, pair: Any, unmoved: OnnxRecommender) -> None:
    same_error(pair[0], unmoved, InvalidParameterError, histories=PLAIN, k=NO_K[case])


@pytest.mark.parametrize(
    "case", ["huge k", "huge k of 2**31", "huge k of 2**63", "huge k of 2**70"]
)
@pytest.mark.parametrize("entry", ["OnnxRecommender.recommend"])
def test_a_huge_k_is_the_whole_catalogue(entry: str, case: str, pair: Any) -> None:
    model, reader = pair
    k = {"huge k": 10**6}.get(case) or 2 ** int(case.rpartition("**")[2])
    expected = model.recommend(histories=PLAIN, k=k)
    found = reader.recommend(PLAIN, k=k)
    assert found["item_id"].tolist() == expected["item_id"].tolist()
    assert len(found["rank"]) == 2 * (len(reader.item_ids_) - 2)


LISTS: dict[str, tuple[Callable[[], Any], type]] = {
    "text": (lambda: "i1", InvalidInputError),
    "number": (lambda: 3, InvalidInputError),
    "dict": (lambda: {"i1": 1}, InvalidInputError),
    "table": (table, InvalidInputError),
    "array of two dimensions": (lambda: np.array([["i1"]]), InvalidInputError),
    "unknown ids": (lambda: ["i1", "zz"], UnsupportedTargetError),
    "ids of another type": (lambda: [1], UnsupportedTargetError),
    "ids of 2**63 and more": (lambda: np.array([2**63], np.uint64), UnsupportedTargetError),
}


@pytest.mark.parametrize("case", list(LISTS))
@pytest.mark.parametrize("parameter", ["items_to_recommend", "items_to_exclude"])
@pytest.mark.parametrize("entry", ["OnnxRecommender.recommend"])
def test_lists(entry: str, parameter: str, case: str, pair: Any, unmoved: OnnxRecommender) -> None:
    make, error = LISTS[case]
    if parameter == "items_to_exclude" and error is UnsupportedTargetError:
        known = [item for item in make() if item == "i1"]
        found = unmoved.recommend(PLAIN, items_to_exclude=make())
        expected = unmoved.recommend(PLAIN, items_to_exclude=known)
        assert found["item_id"].tolist() == expected["item_id"].tolist()
    else:
        same_error(pair[0], unmoved, error, histories=PLAIN, **{parameter: make()})


@pytest.mark.parametrize("value", [None, "skip", "popular", ["raise"]], ids=repr)
@pytest.mark.parametrize("entry", ["OnnxRecommender.recommend"])
def test_on_unsupported_targets(entry: str, value: Any, unmoved: OnnxRecommender) -> None:
    with pytest.raises(InvalidParameterError) as found:
        unmoved.recommend(PLAIN, on_unsupported_targets=value)
    assert str(found.value) == (
        f"on_unsupported_targets must be one of 'raise', 'warn', 'ignore'; got {value!r}."
    )


def read_only(values: Any) -> np.ndarray:
    array = np.array(values)
    array.setflags(write=False)
    return array


FORMS: dict[str, Callable[[], Any]] = {
    "generators": lambda: ((item for item in row) for row in PLAIN),
    "NumPy's strings": lambda: np.array(PLAIN),
    "objects": lambda: np.array(PLAIN, dtype=object),
    "read-only": lambda: read_only(PLAIN),
    "columns with an index that repeats": lambda: [pd.Series(row, index=[4, 4]) for row in PLAIN],
    "a column with an index of two levels": lambda: pd.Series(
        PLAIN, index=pd.MultiIndex.from_arrays([[1, 1], [2, 2]])
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(FORMS))
@pytest.mark.parametrize("entry", ["OnnxRecommender.recommend"])
def test_forms(entry: str, case: str, unmoved: OnnxRecommender) -> None:
    expected = unmoved.recommend(PLAIN, k=4)
    found = unmoved.recommend(FORMS[case](), k=4)
    assert {n: v.tolist() for n, v in found.items()} == {n: v.tolist() for n, v in expected.items()}


@pytest.mark.parametrize("case", ["empty list"])
@pytest.mark.parametrize("entry", ["OnnxRecommender.recommend"])
def test_empty_list(entry: str, case: str, unmoved: OnnxRecommender) -> None:
    assert {len(column) for column in unmoved.recommend([]).values()} == {0}


@pytest.mark.parametrize("value", [None, 3, "", b"x"], ids=lambda v: f"path {v!r}")
@pytest.mark.parametrize("entry", ["to_onnx", "OnnxRecommender"])
def test_no_path(entry: str, value: Any, pair: Any, unmoved: OnnxRecommender) -> None:
    with pytest.raises(InvalidParameterError) as found:
        to_onnx(pair[0], value) if entry == "to_onnx" else OnnxRecommender(value)
    assert str(found.value) == f"folder must be a path; got {value!r}."

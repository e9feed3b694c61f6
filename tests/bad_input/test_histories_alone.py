"""Histories and item vectors for `HistoryEncoder`, used alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from palate import HistoryEncoder, Text
from palate.exceptions import InvalidInputError, MissingContentError, UnsupportedTargetError

VECTORS = np.eye(9, 6) + 0.1
PLAIN = [[0, 1, 2], [3, 4, 5]]


def read_only(values: Any) -> np.ndarray:
    array = np.array(values)
    array.setflags(write=False)
    return array


def repeated(frame: Any) -> Any:
    return frame.set_axis(pd.Index([3] * len(frame)), axis=0)


def two_levels(frame: Any) -> Any:
    return frame.set_axis(pd.MultiIndex.from_arrays([[1] * len(frame)] * 2), axis=0)


@pytest.fixture(scope="module")
def make_learner(options: Any) -> Callable[..., HistoryEncoder]:
    def make(item_vectors: Any = VECTORS) -> HistoryEncoder:
        return HistoryEncoder(
            "gru", item_vectors=item_vectors, epochs=0, random_state=0, options=options
        )

    return make


@pytest.fixture(scope="module")
def learner(make_learner: Any) -> HistoryEncoder:
    fitted: HistoryEncoder = make_learner().fit(PLAIN)
    return fitted


NO_LISTS = "X must be a list of histories, each a list of items; "
NO_HISTORIES: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, "got NoneType."),
    "number": (lambda: 3, "got int."),
    "text": (lambda: "abc", "got str."),
    "dict": (lambda: {"a": [1]}, "got dict."),
    "set without order": (lambda: {(0, 1)}, "got set."),
    "table": (lambda: pd.DataFrame({"user_id": [0], "item_id": [1]}), "got DataFrame."),
    "table of polars": (lambda: pl.DataFrame({"user_id": [0], "item_id": [1]}), "got DataFrame."),
    "three dimensions": (lambda: np.zeros((1, 2, 3)), "got ndarray."),
    "flat list": (lambda: [3], "history 0 is 3."),
    "flat array": (lambda: np.array([3]), "history 0 is 3."),
    "bytes": (lambda: [[0], b"a"], "history 1 is b'a'."),
    "history a set": (lambda: [[0], {1}], "history 1 is {1}."),
    "history a table": (
        lambda: [pd.DataFrame({"x": [1]})],
        "history 0 is DataFrame of shape (1, 1).",
    ),
}


@pytest.mark.parametrize("case", list(NO_HISTORIES))
@pytest.mark.parametrize("entry", ["HistoryEncoder.fit", "HistoryEncoder.transform"])
def test_no_histories(entry: str, case: str, learner: HistoryEncoder, refused: Any) -> None:
    make, rest = NO_HISTORIES[case]
    refuses(learner, entry, make, InvalidInputError, NO_LISTS + rest, refused)


def refuses(
    learner: HistoryEncoder, entry: str, make: Any, error: type, message: str, refused: Any
) -> None:
    fitted = learner.recommender_
    call = {"HistoryEncoder.fit": learner.fit, "HistoryEncoder.transform": learner.transform}
    refused(lambda: call[entry](make()), error, message, fitted)
    assert learner.recommender_ is fitted


HAS_NONE = (
    "items must have a row for every item of X; history {row} of X names {id}, which has none."
)
UNKNOWN: dict[str, tuple[Callable[[], Any], int, str, str]] = {
    "unknown item": (lambda: [[0, 99]], 0, "99", ""),
    "below zero": (lambda: [[0, -5]], 0, "-5", ""),
    "ids of 2**63": (lambda: [[0, 2**63]], 0, "9223372036854775808", ""),
    "beyond 64 bits": (lambda: [[0], [2**70]], 1, "1180591620717411303424", ""),
    "infinite": (lambda: [[np.inf]], 0, "inf", "float"),
    "texts for numbers": (lambda: [["0", "1"]], 0, "'0'", "str"),
    "NumPy's strings for numbers": (lambda: np.array([["0"]]), 0, "'0'", "str"),
    "emoji": (lambda: [["🙂"]], 0, "'🙂'", "str"),
}


@pytest.mark.parametrize("case", list(UNKNOWN))
@pytest.mark.parametrize("entry", ["HistoryEncoder.fit", "HistoryEncoder.transform"])
def test_unknown_items(entry: str, case: str, learner: HistoryEncoder, refused: Any) -> None:
    make, row, written, kind = UNKNOWN[case]
    error: type = MissingContentError
    message = HAS_NONE.format(row=row, id=written)
    message += f" The ids of X are of type {kind}, those of items of type int." if kind else ""
    if entry == "HistoryEncoder.transform":
        error, message = UnsupportedTargetError, f"items in histories unknown to the model: {'…'}"
    refuses(learner, entry, make, error, message, refused)


OTHERS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "lists of lists": (
        lambda: [[[0], [1]]],
        "X must hold hashable scalars; history 0 holds [0].",
        "ids must be hashable scalars; unhashable type: 'list'.",
    ),
    "a Text": (
        lambda: [[0, Text("a lamp")]],
        "X must hold item ids, and no Text; history 0 holds Text(text='a lamp').",
        "X must hold item ids, and no Text; history 0 holds Text(text='a lamp').",
    ),
    "empty list of all": (list, "X must hold at least one event; got none.", ""),
    "empty histories": (
        lambda: [[], [None, -1]],
        "X must hold at least one event; got none.",
        "history 0 is empty: it says nothing about taste.",
    ),
}


@pytest.mark.parametrize("case", list(OTHERS))
@pytest.mark.parametrize("entry", ["HistoryEncoder.fit", "HistoryEncoder.transform"])
def test_other_refusals(entry: str, case: str, learner: HistoryEncoder, refused: Any) -> None:
    make, of_fit, of_transform = OTHERS[case]
    message = of_fit if entry == "HistoryEncoder.fit" else of_transform
    if message:
        refuses(learner, entry, make, ValueError, message, refused)
    else:
        assert learner.transform(make()).shape == (0, 6)


SAME: dict[str, Callable[[], Any]] = {
    "generators": lambda: ((i for i in row) for row in PLAIN),
    "read-only array": lambda: read_only(PLAIN),
    "array of objects with padding": lambda: np.array([[*row, None] for row in PLAIN], object),
    "floats with NaN as padding": lambda: np.array([[*row, np.nan] for row in PLAIN]),
    "tensor": lambda: torch.tensor(PLAIN),
    "columns": lambda: [pd.Series(row) for row in PLAIN],
    "a column with an index that repeats": lambda: repeated(pd.Series(PLAIN)),
    "a column with an index of two levels": lambda: two_levels(pd.Series(PLAIN)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(SAME))
@pytest.mark.parametrize("entry", ["HistoryEncoder.fit", "HistoryEncoder.transform"])
def test_odd_forms(entry: str, case: str, learner: HistoryEncoder, make_learner: Any) -> None:
    expected = learner.transform(PLAIN)
    if entry == "HistoryEncoder.fit":
        found = make_learner().fit(SAME[case]()).transform(PLAIN)
    else:
        found = learner.transform(SAME[case]())
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("case", ["texts for an encoder that reads none"])
@pytest.mark.parametrize("entry", ["recommend texts"])
def test_texts_that_nobody_reads(
    entry: str, case: str, learner: HistoryEncoder, refused: Any
) -> None:
    model = learner.recommender_
    refused(
        lambda: model.recommend(texts=[["a lamp"]]),
        MissingContentError,
        "texts need an item encoder that reads them, such as item_encoder='bert+id'; got "
        "_GivenItems.",
        model,
    )


@pytest.mark.parametrize("case", ["one event a history"])
@pytest.mark.parametrize("entry", ["HistoryEncoder.fit"])
def test_one_event_a_history(entry: str, case: str, make_learner: Any) -> None:
    vectors = make_learner().fit([[0], [1], [2]]).transform([[3], [4]])
    assert vectors.shape == (2, 6)
    assert np.isfinite(vectors).all()


NUMBERS = "item_vectors must be numbers of shape (n_items, dim), at least one each; got "
INDEX = "the index of item_vectors must "
NO_VECTORS: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, NUMBERS + "None."),
    "generator": (lambda: (row for row in VECTORS), NUMBERS + "object of shape ()."),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], NUMBERS + "a list that is ragged."),
    "no items, empty": (lambda: VECTORS[:0], NUMBERS + "float64 of shape (0, 6)."),
    "one dimension": (lambda: VECTORS[0], NUMBERS + "float64 of shape (6,)."),
    "complex": (lambda: VECTORS * 1j, NUMBERS + "complex128 of shape (9, 6)."),
    "objects": (lambda: VECTORS.astype(object), NUMBERS + "object of shape (9, 6)."),
    "NumPy's strings": (lambda: VECTORS.astype("U3"), NUMBERS + "<U3 of shape (9, 6)."),
    "NaN": (
        lambda: np.where(VECTORS > 1, np.nan, VECTORS),
        "item_vectors must be finite numbers; row 0 is not.",
    ),
    "infinite": (
        lambda: np.vstack([VECTORS, VECTORS[:1] / 0.0]),
        "item_vectors must be finite numbers; row 9 is not.",
    ),
    "beyond 32 bits": (
        lambda: np.vstack([VECTORS, [[1e300] * 6]]),
        "item_vectors must be finite numbers; row 9 is not.",
    ),
    "an item twice": (
        lambda: pd.DataFrame(VECTORS[:3], index=["a", "b", "a"]),
        INDEX + "name each item once; row 2 repeats 'a'.",
    ),
    "an item None": (
        lambda: pd.DataFrame(VECTORS[:3], index=["a", None, "b"]),
        INDEX + "have no missing values; row 1 is nan.",
    ),
}


@pytest.mark.parametrize("case", list(NO_VECTORS))
@pytest.mark.parametrize("entry", ["HistoryEncoder item_vectors"])
def test_no_vectors(
    entry: str, case: str, learner: HistoryEncoder, make_learner: Any, refused: Any
) -> None:
    make, message = NO_VECTORS[case]
    with np.errstate(divide="ignore"):
        other = make_learner(make())
    refused(lambda: other.fit(PLAIN), InvalidInputError, message, learner.recommender_)
    assert not hasattr(other, "recommender_")


NAMES: dict[str, Callable[[int], Any]] = {
    "ids of 2**63 and more": lambda i: 2**63 + i,
    "an index of two levels": lambda i: (i, "x"),
    "emoji": lambda i: "🙂" * (i + 1),
    "objects": lambda i: i if i % 2 else str(i),
}


@pytest.mark.parametrize("case", list(NAMES))
@pytest.mark.parametrize("entry", ["HistoryEncoder item_vectors"])
def test_names_of_items(entry: str, case: str, learner: HistoryEncoder, make_learner: Any) -> None:
    name = NAMES[case]
    named = make_learner(pd.DataFrame(VECTORS, index=pd.Index([name(i) for i in range(9)])))
    histories = [[name(i) for i in row] for row in PLAIN]
    found = named.fit(histories).transform(histories)
    np.testing.assert_array_equal(found, learner.transform(PLAIN))

"""Texts for `BertItemEncoder` used alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from palate import BertItemEncoder, Items, RunOptions
from palate.exceptions import InvalidInputError, MissingContentError

TEXTS = ["a red lamp", "a blue book", "a green chair"]


def read_only(values: Any) -> np.ndarray:
    array = np.array(values)
    array.setflags(write=False)
    return array


def repeated(frame: Any) -> Any:
    return frame.set_axis(pd.Index([3] * len(frame)), axis=0)


def two_levels(frame: Any) -> Any:
    return frame.set_axis(pd.MultiIndex.from_arrays([[1] * len(frame)] * 2), axis=0)


@pytest.fixture(scope="module")
def reads(tiny_bert: str) -> BertItemEncoder:
    quiet = RunOptions(device="cpu", progress=False, cache=False)
    return BertItemEncoder(tiny_bert, n_components=2, options=quiet).fit(TEXTS)


NO_TEXTS = "X must be a column of texts or a table with text columns; got "
REFUSED: dict[str, tuple[Callable[[], Any], type, str]] = {
    "None": (lambda: None, InvalidInputError, NO_TEXTS + "None."),
    "number": (lambda: 5, InvalidInputError, NO_TEXTS + "5."),
    "one text": (lambda: "a lamp", InvalidInputError, NO_TEXTS + "'a lamp'."),
    "one text of 100 thousand characters": (
        lambda: "x" * 100_000,
        InvalidInputError,
        NO_TEXTS + "'" + "x" * 199 + "….",
    ),
    "dict": (lambda: {"a": "b"}, InvalidInputError, NO_TEXTS + "{'a': 'b'}."),
    "set without order": (lambda: {"a"}, InvalidInputError, NO_TEXTS + "{'a'}."),
    "bytes": (lambda: [b"a"], InvalidInputError, "X must hold texts; row 0 holds b'a'."),
    "numbers of 2**63": (
        lambda: ["a", 2**63],
        InvalidInputError,
        "X must hold texts; row 1 holds 9223372036854775808.",
    ),
    "numbers": (lambda: np.ones(2), InvalidInputError, "X must hold texts; row 0 holds 1.0."),
    "infinite": (lambda: ["a", np.inf], InvalidInputError, "X must hold texts; row 1 holds inf."),
    "three dimensions": (
        lambda: np.zeros((1, 1, 1)),
        InvalidInputError,
        "X must hold texts; row 0 holds array([0.]).",
    ),
    "no text column": (
        lambda: pd.DataFrame({"price": [1.0]}),
        MissingContentError,
        "X must have a text column (such as 'text' or 'title'); its columns are 'price'.",
    ),
    "no columns": (
        lambda: pd.DataFrame(index=[0]),
        MissingContentError,
        "X must have a text column (such as 'text' or 'title'); its columns are none.",
    ),
    "two titles": (
        lambda: pd.DataFrame([["a", "b"]], columns=["title", "title"]),
        InvalidInputError,
        "X must have columns of distinct names; 2 are named 'title'.",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
@pytest.mark.parametrize("entry", ["BertItemEncoder.fit", "BertItemEncoder.transform"])
def test_no_texts(entry: str, case: str, reads: BertItemEncoder, refused: Any) -> None:
    make, error, message = REFUSED[case]
    before, vectors = dict(vars(reads)), reads.transform(TEXTS)
    refused(lambda: getattr(reads, entry.split(".")[1])(make()), error, message)
    assert {name: id(v) for name, v in vars(reads).items()} == {n: id(v) for n, v in before.items()}
    np.testing.assert_array_equal(reads.transform(TEXTS), vectors)


@pytest.mark.parametrize("case", ["empty list", "empty table", "table without rows"])
@pytest.mark.parametrize("entry", ["BertItemEncoder.fit", "BertItemEncoder.transform"])
def test_no_rows(entry: str, case: str, reads: BertItemEncoder, refused: Any) -> None:
    X = {
        "empty list": [],
        "empty table": pd.DataFrame({"title": []}),
        "table without rows": pl.DataFrame({"title": ["a"]})[:0],
    }[case]
    if entry == "BertItemEncoder.transform":
        assert reads.transform(X).shape == (0, 2)
    else:
        refused(lambda: reads.fit(X), InvalidInputError, "X must hold at least one text; got none.")


# Given, and the texts that it is.
ODD: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "missing text None": (lambda: ["lamp", None], ["lamp", ""]),
    "missing text NaN": (lambda: ["lamp", np.nan], ["lamp", ""]),
    "missing text NA": (lambda: pd.Series([None, "book"], dtype="string"), ["", "book"]),
    "empty texts": (lambda: ["", "  \n"], ["", ""]),
    "texts of 100 thousand characters": (
        lambda: ["lamp " * 20_000, "x" * 100_000],
        [("lamp " * 20_000).strip(), "x" * 100_000],
    ),
    "emoji": (lambda: ["🙂👩‍👩‍👧‍👦", "🇯🇵"], ["🙂👩‍👩‍👧‍👦", "🇯🇵"]),
    "right to left": (lambda: ["מנורה \u202eאדומה", "كتاب"], ["מנורה \u202eאדומה", "كتاب"]),
    "half a surrogate pair": (lambda: ["a\ud800", "b"], ["a\ud800", "b"]),
    "generator": (lambda: (t for t in ["lamp", "book"]), ["lamp", "book"]),
    "NumPy's strings": (lambda: np.array(["lamp", "book"]), ["lamp", "book"]),
    "objects": (lambda: np.array(["lamp", None], dtype=object), ["lamp", ""]),
    "read-only": (lambda: read_only(["lamp", "book"]), ["lamp", "book"]),
    "array of two columns": (lambda: np.array([["a", "b"], ["c", "d"]]), ["a. b", "c. d"]),
    "an index that repeats": (
        lambda: repeated(pd.DataFrame({"title": ["lamp", "book"]})),
        ["lamp", "book"],
    ),
    "an index of two levels": (
        lambda: two_levels(pd.DataFrame({"title": ["lamp", "book"]})),
        ["lamp", "book"],
    ),
    "a column with an index that repeats": (
        lambda: repeated(pd.Series(["lamp", "book"])),
        ["lamp", "book"],
    ),
    "ids beside the texts, numbers among texts": (
        lambda: Items(pd.DataFrame({"item_id": [1, "1"], "title": ["lamp", "book"]})),
        ["lamp", "book"],
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(ODD))
@pytest.mark.parametrize("entry", ["BertItemEncoder.fit", "BertItemEncoder.transform"])
def test_odd_texts(entry: str, case: str, reads: BertItemEncoder) -> None:
    make, texts = ODD[case]
    if entry == "BertItemEncoder.transform":
        np.testing.assert_array_equal(reads.transform(make()), reads.transform(texts))
        assert np.isfinite(reads.transform(texts)).all()
        return
    found, expected = (copy.copy(reads).fit(X) for X in (make(), texts))
    np.testing.assert_array_equal(found.whitening_, expected.whitening_)
    np.testing.assert_array_equal(found.transform(texts), expected.transform(texts))
    assert np.isfinite(found.whitening_).all()

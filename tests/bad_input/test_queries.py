"""Questions to a fitted model: users, histories, words, lists of items."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from palate import Recommender, Text
from palate.exceptions import InvalidInputError, UnsupportedTargetError

# A list of ids: the parameter, what it is called, and the question.
LISTS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "users": (lambda model, ids: model.recommend(ids), "user"),
    "item_ids": (lambda model, ids: model.recommend_to_items(ids), "item"),
    "items_to_recommend": (lambda model, ids: model.recommend(items_to_recommend=ids), "item"),
    "items_to_exclude": (lambda model, ids: model.recommend(items_to_exclude=ids), "item"),
}
NO_LIST: dict[str, tuple[Callable[[], Any], str]] = {
    "text": (lambda: "abc", "'abc'"),
    "bytes": (lambda: b"abc", "b'abc'"),
    "number": (lambda: 7, "7"),
    "NumPy's number": (lambda: np.int64(7), "7"),
    "array of no dimension": (lambda: np.array("a"), "ndarray of shape ()"),
    "array of two dimensions": (lambda: np.array([["a"]]), "ndarray of shape (1, 1)"),
    "table": (lambda: pd.DataFrame({"user_id": ["u0"]}), "DataFrame of shape (1, 1)"),
    "table of polars": (lambda: pl.DataFrame({"user_id": ["u0"]}), "DataFrame of shape (1, 1)"),
    "dict": (lambda: {"a": 1}, "{'a': 1}"),
    "a Text": (lambda: Text("a lamp"), "Text(text='a lamp')"),
    "a class": (lambda: list, "type"),
}


@pytest.mark.parametrize("case", list(NO_LIST))
@pytest.mark.parametrize("parameter", list(LISTS))
def test_no_list(parameter: str, case: str, learned: Recommender, refused: Any) -> None:
    ask, kind = LISTS[parameter]
    make, given = NO_LIST[case]
    message = f"{parameter} must be a list of {kind} ids; got {given}."
    refused(lambda: ask(learned, make()), InvalidInputError, message, learned)


@pytest.mark.parametrize("parameter", ["users", "item_ids"])
def test_sets_have_no_order(parameter: str, learned: Recommender, refused: Any) -> None:
    ask, kind = LISTS[parameter]
    for value, given in (({"a"}, "{'a'}"), ({"a": 1}.keys(), "dict_keys(['a'])")):
        message = f"{parameter} must be a list of {kind} ids; got {given}."
        refused(lambda value=value: ask(learned, value), InvalidInputError, message, learned)


SCALARS = "hold hashable scalars; "
NO_IDS: dict[str, tuple[Callable[[], Any], str]] = {
    "lists": (lambda: [["a"], ["b"]], SCALARS + "position 0 is ['a']"),
    "lists of several lengths": (
        lambda: ["a", ["a", "b"]],
        SCALARS + "position 1 is ['a', 'b']",
    ),
    "dicts": (lambda: ["a", "b", {}], SCALARS + "position 2 is {}"),
    "arrays": (
        lambda: [np.array(["a"])],
        SCALARS + "position 0 is array(['a'], dtype='<U1')",
    ),
    "half a surrogate pair": (
        lambda: ["a", "\ud800"],
        "hold text without lone surrogates; position 1 is '\\ud800'",
    ),
}


@pytest.mark.parametrize("case", list(NO_IDS))
@pytest.mark.parametrize("parameter", list(LISTS))
def test_ids_that_are_none(parameter: str, case: str, learned: Recommender, refused: Any) -> None:
    ask, _ = LISTS[parameter]
    make, rest = NO_IDS[case]
    refused(lambda: ask(learned, make()), InvalidInputError, f"{parameter} must {rest}.", learned)


# Ids that a model of texts as ids does not know, and how a message writes them.
UNKNOWN: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: [None], "None"),
    "NaN": (lambda: [np.nan], "nan"),
    "NA": (lambda: pd.array(["zz", None], dtype="string"), "'zz', <NA>"),
    "bytes": (lambda: [b"a"], "b'a'"),
    "numbers": (lambda: np.array([1, 2]), "1, 2"),
    "numbers of another library": (lambda: pa.array([1]), "1"),
    "beyond 64 bits": (lambda: [2**70], "1180591620717411303424"),
    "64 bits without sign": (lambda: np.array([2**64 - 1], np.uint64), "18446744073709551615"),
    "bool": (lambda: [True], "True"),
    "spaces around": (lambda: [" a", "a "], "' a', 'a '"),
    "another case": (lambda: ["A"], "'A'"),
    "a zero at the end": (lambda: ["a\0"], "'a\\x00'"),
    "another emoji": (lambda: ["🙃"], "'🙃'"),
    "right to left": (lambda: ["שלום"], "'שלום'"),
    "100 thousand characters": (lambda: ["x" * 100_000], "'" + "x" * 199 + "…"),
    "tuple": (lambda: [("a",)], "('a',)"),
    "two levels": (lambda: pd.MultiIndex.from_tuples([("a", "b")]), "('a', 'b')"),
    "a Text": (lambda: [Text("a")], "Text(text='a')"),
    "more than five": (lambda: list("mnopqrs"), "'m', 'n', 'o', 'p', 'q' and 2 more"),
}
WHAT = {"users": "users", "item_ids": "items", "items_to_recommend": "items_to_recommend"}


@pytest.mark.parametrize("case", list(UNKNOWN))
@pytest.mark.parametrize("parameter", list(WHAT))
def test_unknown_ids(parameter: str, case: str, learned: Recommender, refused: Any) -> None:
    ask, _ = LISTS[parameter]
    make, written = UNKNOWN[case]
    instead = ", or 'popular' to answer by what is popular" if parameter == "users" else ""
    message = (
        f"{WHAT[parameter]} unknown to the model: {written}. "
        f"Pass on_unsupported_targets='warn' or 'ignore' to skip them{instead}."
    )
    refused(lambda: ask(learned, make()), UnsupportedTargetError, message, learned)


@pytest.mark.parametrize("case", list(UNKNOWN))
@pytest.mark.parametrize("parameter", ["items_to_exclude"])
def test_unknown_items_are_excluded_already(
    parameter: str, case: str, learned: Recommender
) -> None:
    found = learned.recommend(items_to_exclude=UNKNOWN[case][0]())
    pd.testing.assert_frame_equal(found, learned.recommend())


# Other lists of the two ids "u0", "u1", or "a", "b".
KNOWN: dict[str, Callable[[list[str]], Any]] = {
    "tuple": tuple,
    "generator": lambda ids: (i for i in ids),
    "map": lambda ids: map(str, ids),
    "deque": collections.deque,
    "keys in order": lambda ids: list(dict.fromkeys(ids)),
    "NumPy's strings": np.array,
    "objects": lambda ids: np.array(ids, dtype=object),
    "read-only": lambda ids: np.array([ids] * 2, dtype=object)[0],
    "negative stride": lambda ids: np.array(ids[::-1], dtype=object)[::-1],
    "column": lambda ids: pd.Series(ids, index=[4, 4]),
    "index": pd.Index,
    "categories": pd.Categorical,
    "polars": pl.Series,
    "pyarrow": pa.array,
    "pyarrow in chunks": lambda ids: pa.chunked_array([[ids[0]], [ids[1]]]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(KNOWN))
@pytest.mark.parametrize("parameter", list(LISTS))
def test_lists_of_every_kind(parameter: str, case: str, learned: Recommender) -> None:
    ask, kind = LISTS[parameter]
    ids = ["u0", "u1"] if kind == "user" else ["a", "b"]
    pd.testing.assert_frame_equal(ask(learned, KNOWN[case](ids)), ask(learned, ids))


def test_sets_of_items_to_filter(learned: Recommender) -> None:
    for name in ("items_to_recommend", "items_to_exclude"):
        expected = learned.recommend(**{name: ["c", "d"]})
        pd.testing.assert_frame_equal(learned.recommend(**{name: {"d", "c"}}), expected)


NO_HISTORIES: dict[str, tuple[Callable[[], Any], str]] = {
    "text": (lambda: "ab", "; got 'ab'"),
    "number": (lambda: 3, "; got 3"),
    "dict": (lambda: {"u": ["a"]}, "; got {'u': ['a']}"),
    "set": (lambda: {("a",)}, "; got {('a',)}"),
    "table": (lambda: pd.DataFrame({"x": ["a"]}), "; got DataFrame of shape (1, 1)"),
    "array of three dimensions": (lambda: np.zeros((1, 2, 3)), "; got ndarray of shape (1, 2, 3)"),
    "flat list": (lambda: ["ab"], ", each a list; history 0 is 'ab'"),
    "flat array": (lambda: np.array(["ab"]), ", each a list; history 0 is 'ab'"),
    "flat column": (lambda: pd.Series(["ab"]), ", each a list; history 0 is 'ab'"),
    "bytes": (lambda: [["a"], b"b"], ", each a list; history 1 is b'b'"),
    "sets": (lambda: [["a"], {"b"}], ", each a list; history 1 is {'b'}"),
    "dicts": (lambda: [{"a": 1}], ", each a list; history 0 is {'a': 1}"),
    "None": (lambda: [None], ", each a list; history 0 is None"),
    "numbers": (lambda: [["a"], 4], ", each a list; history 1 is 4"),
    "tables": (
        lambda: [pd.DataFrame({"x": ["a"]})],
        ", each a list; history 0 is DataFrame of shape (1, 1)",
    ),
    "arrays of two dimensions": (
        lambda: [np.array([["a"]])],
        ", each a list; history 0 is ndarray of shape (1, 1)",
    ),
}


@pytest.mark.parametrize("case", list(NO_HISTORIES))
@pytest.mark.parametrize("parameter", ["histories", "texts"])
def test_no_histories(parameter: str, case: str, reader: Recommender, refused: Any) -> None:
    make, rest = NO_HISTORIES[case]
    message = f"{parameter} must be a list of histories{rest}."
    refused(lambda: reader.recommend(**{parameter: make()}), InvalidInputError, message, reader)


NO_WORDS: dict[str, tuple[Any, str]] = {
    "None": (None, "None"),
    "number": (3, "3"),
    "bytes": (b"lamp", "b'lamp'"),
    "list": (["lamp"], "['lamp']"),
    "a Text": (Text("lamp"), "Text(text='lamp')"),
    "NaN": (np.nan, "nan"),
}


@pytest.mark.parametrize("case", list(NO_WORDS))
@pytest.mark.parametrize("parameter", ["texts"])
def test_no_words(parameter: str, case: str, reader: Recommender, refused: Any) -> None:
    value, written = NO_WORDS[case]
    message = f"texts must hold histories of strings; history 1 holds {written}."
    refused(
        lambda: reader.recommend(texts=[["lamp"], ["a", value]]), InvalidInputError, message, reader
    )


ROWS: dict[str, tuple[Callable[[], Any], type, str]] = {
    "an unknown user": (
        lambda: pd.DataFrame({"user_id": ["u0", "zz"]}),
        UnsupportedTargetError,
        "users unknown to the model: 'zz'.",
    ),
    "users of another type": (
        lambda: pd.DataFrame({"user_id": [0, 1]}),
        UnsupportedTargetError,
        "users unknown to the model: 0, 1.",
    ),
    "an unknown item in a history": (
        lambda: [["a"], ["zz"]],
        UnsupportedTargetError,
        "items in histories unknown to the model: 'zz'.",
    ),
    "an empty history": (
        lambda: [["a"], []],
        UnsupportedTargetError,
        "history 1 is empty: it says nothing about taste.",
    ),
    "lists of lists": (
        lambda: [[["a"], ["b"]]],
        InvalidInputError,
        "ids must be hashable scalars; unhashable type: 'list'.",
    ),
}


@pytest.mark.parametrize("case", list(ROWS))
@pytest.mark.parametrize("entry", ["predict", "transform"])
def test_rows(entry: str, case: str, learned: Recommender, refused: Any) -> None:
    make, error, message = ROWS[case]
    refused(lambda: getattr(learned, entry)(make()), error, message, learned)


WORDS: dict[str, Callable[[], Any]] = {
    "empty": lambda: [[""]],
    "spaces": lambda: [["   \n"]],
    "100 thousand characters": lambda: [["lamp " * 20_000]],
    "one word of 100 thousand characters": lambda: [["x" * 100_000]],
    "emoji": lambda: [["🙂👩‍👩‍👧‍👦"]],
    "right to left": lambda: [["קניתי \u202eמנורה"]],
    "zeros": lambda: [["a\0b"]],
    "half a surrogate pair": lambda: [["\ud800 lamp"]],
    "NumPy's strings": lambda: np.array([["red lamp", "blue book"]]),
    "generators": lambda: ((text for text in ["red lamp"]) for _ in range(1)),
    "columns": lambda: [pd.Series(["red lamp"])],
    "three thousand events": lambda: [["lamp"] * 3000],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(WORDS))
@pytest.mark.parametrize("parameter", ["texts"])
def test_odd_words(parameter: str, case: str, reader: Recommender) -> None:
    answers = reader.recommend(texts=WORDS[case](), k=9)
    assert answers["rank"].tolist() == [1, 2, 3, 4]
    assert np.isfinite(answers["score"]).all()
    as_list = [[Text(str(text)) for text in row] for row in WORDS[case]()]
    pd.testing.assert_frame_equal(reader.recommend(histories=as_list, k=9), answers)


def test_a_model_answers_numbers_of_every_width(options: Any) -> None:
    model = Recommender(item_encoder="id", dim=4, epochs=0, random_state=0, options=options)
    model.fit(np.array([[1, 10], [1, 11], [2, 12]]))
    expected = model.recommend([2, 1], k=2)
    for users in (
        np.array([2, 1], np.uint8),
        np.array([2, 1], np.uint64),
        np.array([2.0, 1.0]),
        np.array([2, 1], object),
        np.array([2, 1], ">i4"),
        [np.int16(2), 1],
        range(2, 0, -1),
        pl.Series([2, 1]),
        pa.array([2, 1]),
    ):
        pd.testing.assert_frame_equal(model.recommend(users, k=2), expected)

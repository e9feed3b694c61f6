"""Item tables: what fit, partial_fit and add_items refuse, and odd content that they take."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from palate import BertEncoder, Items, Recommender
from palate.exceptions import InvalidInputError, MissingContentError

ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    "fit items": lambda model, items: model.fit([["a", "b"]], items=items),
    "partial_fit items": lambda model, items: model.partial_fit([["a", "b"]], items=items),
    "add_items": lambda model, items: model.add_items(items),
}


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"item_id": ["x", "y"], "title": ["red lamp", "blue book"], **columns})


def objects(*values: Any) -> pd.Series:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return pd.Series(column, dtype=object)


NO_TABLE = "items must be a pandas, polars or pyarrow table; got "
ID = "column 'item_id' of items must "
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "number": (lambda: 3, NO_TABLE + "int."),
    "text": (lambda: "items.csv", NO_TABLE + "str."),
    "dict": (lambda: {"item_id": ["x"]}, NO_TABLE + "dict."),
    "list of rows": (lambda: [["x", "red lamp"]], NO_TABLE + "list."),
    "array": (lambda: np.array([["x", "red lamp"]]), NO_TABLE + "ndarray."),
    "column": (lambda: pd.Series(["x"]), NO_TABLE + "Series."),
    "generator": (lambda: (row for row in "xy"), NO_TABLE + "generator."),
    "Items of None": (lambda: Items(None), NO_TABLE + "NoneType."),
    "Items of Items": (lambda: Items(Items(table())), NO_TABLE + "Items."),
    "no id column": (
        lambda: table().drop(columns="item_id"),
        "items must have a column 'item_id'; its columns are 'title'.",
    ),
    "no columns": (pd.DataFrame, "items must have a column 'item_id'; its columns are none."),
    "ids in the index": (
        lambda: table().set_index("item_id"),
        "items must have a column 'item_id'; its columns are 'title'.",
    ),
    "columns of two levels": (
        lambda: table().set_axis(pd.MultiIndex.from_product([["item_id"], ["", "x"]]), axis=1),
        "items must have a column 'item_id'; its columns are ('item_id', ''), ('item_id', 'x').",
    ),
    "two titles": (
        lambda: pd.concat([table(), table()["title"]], axis=1),
        "items must have columns of distinct names; 2 are named 'title'.",
    ),
    "two titles of pyarrow": (
        lambda: pa.table([["x"], ["a"], ["b"]], names=["item_id", "title", "title"]),
        "items must have columns of distinct names; 2 are named 'title'.",
    ),
    "an item twice": (
        lambda: table(item_id=["x", "x"]),
        ID + "name each item once; row 1 repeats 'x'.",
    ),
    "an item twice, as 1 and 1.0": (
        lambda: table(item_id=objects(1, 1.0)),
        ID + "name each item once; row 1 repeats 1.0.",
    ),
    "an id None": (
        lambda: table(item_id=objects("x", None)),
        ID + "have no missing values; row 1 is None.",
    ),
    "an id NaN": (
        lambda: table(item_id=[1.0, np.nan]),
        ID + "have no missing values; row 1 is nan.",
    ),
    "an id a list": (
        lambda: table(item_id=objects("x", ["y"])),
        ID + "hold hashable scalars; row 1 is ['y'].",
    ),
    "an id half a surrogate pair": (
        lambda: table(item_id=objects("x", "\ud800")),
        ID + "hold text without lone surrogates; row 1 is '\\ud800'.",
    ),
    "a title half a surrogate pair": (
        lambda: table(title=objects("red lamp", "\ud83d")),
        "column 'title' of items must hold text without lone surrogates; row 1 is '\\ud83d'.",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
@pytest.mark.parametrize("entry", list(ENTRIES))
def test_refused(entry: str, case: str, reader: Recommender, refused: Any) -> None:
    make, message = REFUSED[case]
    refused(lambda: ENTRIES[entry](reader, make()), InvalidInputError, message, reader)


@pytest.mark.parametrize("case", list(REFUSED))
@pytest.mark.parametrize("entry", ["fit items"])
def test_refused_by_a_model_of_ids(
    entry: str, case: str, learned: Recommender, refused: Any
) -> None:
    make, message = REFUSED[case]
    refused(lambda: ENTRIES[entry](learned, make()), InvalidInputError, message, learned)


# What add_items alone, or what fit and partial_fit alone, refuse.
OTHERS: dict[str, tuple[Callable[[Any], Any], type, str]] = {
    "add_items-None": (
        lambda model: model.add_items(None),
        InvalidInputError,
        NO_TABLE + "NoneType.",
    ),
    "add_items-an item of the catalogue": (
        lambda model: model.add_items(table(item_id=["x", "a"])),
        InvalidInputError,
        "items must be new to the catalogue; row 1 names 'a', which is in it.",
    ),
    "add_items-no content": (
        lambda model: model.add_items(table()[["item_id"]]),
        InvalidInputError,
        "items must have a column 'title', as the items learned before had; its columns are none.",
    ),
    "partial_fit items-no content": (
        lambda model: model.partial_fit([["x", "a"]], items=table()[["item_id"]]),
        InvalidInputError,
        "items must have a column 'title', as the items learned before had; its columns are none.",
    ),
    "partial_fit items-no rows": (
        lambda model: model.partial_fit([["a", "x"]], items=table()[:0]),
        MissingContentError,
        "items must have a row for every item of X; history 0 of X names 'x', which has none.",
    ),
    "partial_fit items-ids of another type": (
        lambda model: model.partial_fit([[1, 2]], items=table(item_id=["1", "2"])),
        MissingContentError,
        "items must have a row for every item of X; history 0 of X names 1, which has none. "
        "The ids of X are of type int, those of items of type str.",
    ),
    "fit items-None": (
        lambda model: model.fit([["a"]], items=None),
        MissingContentError,
        "items must be given: the item encoder reads the content of items. Pass items=table, or "
        "use item_encoder='id'.",
    ),
    "fit items-ids of another type": (
        lambda model: model.fit([["1", "2"]], items=table(item_id=[1, 2])),
        MissingContentError,
        "items must have a row for every item of X; history 0 of X names '1', which has none. "
        "The ids of X are of type str, those of items of type int.",
    ),
    "fit items-an item without a row": (
        lambda model: model.fit([["x", "z"]], items=table()),
        MissingContentError,
        "items must have a row for every item of X; history 0 of X names 'z', which has none.",
    ),
    **{
        f"fit items-{name}": (
            lambda model, title=title: model.fit([["x", "y"]], items=table(title=title)),
            MissingContentError,
            "items must have a text column (such as 'text' or 'title') for a text encoder; its "
            "columns are 'title'.",
        )
        for name, title in {
            "numbers for titles": [1, 2],
            "bytes for titles": objects(b"a", b"b"),
            "dicts for titles": objects({"a": 1}, {"b": 2}),
            "nested lists for titles": objects([["a"]], [["b"]]),
            "no title at all": objects(None, None),
        }.items()
    },
}


@pytest.mark.parametrize("entry", list(OTHERS))
def test_other_refusals(entry: str, reader: Recommender, refused: Any) -> None:
    call, error, message = OTHERS[entry]
    refused(lambda: call(reader), error, message, reader)


# Titles of x and y, and the texts that they make.
CONTENT: dict[str, tuple[Any, list[str]]] = {
    "None": (objects("lamp", None), ["lamp", ""]),
    "NaN": (objects("lamp", np.nan), ["lamp", ""]),
    "NaN of NumPy": (objects(np.float32("nan"), "book"), ["", "book"]),
    "NaT": (objects(pd.NaT, "book"), ["", "book"]),
    "NA": (pd.array([None, "book"], dtype="string"), ["", "book"]),
    "empty": (["", "   "], ["", ""]),
    "100 thousand characters": (
        ["lamp " * 20_000, "x" * 100_000],
        [("lamp " * 20_000).strip(), "x" * 100_000],
    ),
    "emoji": (["🙂👩‍👩‍👧‍👦", "🇯🇵"], ["🙂👩‍👩‍👧‍👦", "🇯🇵"]),
    "right to left": (["מנורה \u202eאדומה", "كتاب"], ["מנורה \u202eאדומה", "كتاب"]),
    "zeros and control marks": (["a\0b", "\x01\x02"], ["a\0b", "\x01\x02"]),
    "lines": (["red\nlamp\r\n", "\tblue"], ["red\nlamp", "blue"]),
    "a number among texts": (objects("lamp", 7), ["lamp", "7"]),
    "lists": (objects(["a", "b"], []), ["a, b", ""]),
    "tuples": (objects(("a",), None), ["a", ""]),
    "arrays": (objects(np.array(["a", "b"]), np.array([], str)), ["a, b", ""]),
    "categories": (pd.Categorical(["lamp", None]), ["lamp", ""]),
    "NumPy's strings": (np.array(["lamp", "book"]), ["lamp", "book"]),
    "sets": (objects({"b", "a"}, {"c"}), ["a, b", "c"]),
    "read-only": (np.broadcast_to(np.array("lamp", object), (2,)), ["lamp", "lamp"]),
}


# No file holds lists and texts in one column.
BESIDE_NO_TEXT = ("lists", "tuples", "arrays", "sets")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(CONTENT))
@pytest.mark.parametrize("entry", ["fit items", "add_items"])
def test_odd_texts(entry: str, case: str, reader: Any, options: Any, tiny_bert: str) -> None:
    titles, texts = CONTENT[case]
    items = table(title=titles)
    if entry == "fit items":
        encoder = BertEncoder(tiny_bert)
        model = Recommender(item_encoder=encoder, dim=4, epochs=0, random_state=0, options=options)
        model.fit([["x", "y"]], items=items)
    elif case in BESIDE_NO_TEXT:
        with pytest.raises(InvalidInputError) as caught:
            copy.deepcopy(reader).add_items(items)
        assert str(caught.value).startswith(
            "column 'title' of items must hold values like those of the items learned before, such "
            "as 'red lamp'; row 0 holds "
        )
        return
    else:
        model = copy.deepcopy(reader).add_items(items)
    assert model._serving.table.texts()[-2:] == texts
    assert np.isfinite(model.item_vectors_).all()
    assert model.item_ids_.tolist()[-2:] == ["x", "y"]
    # Equal texts have equal vectors, to what a batch's size leaves of the last bit.
    if texts[0] == texts[1]:
        np.testing.assert_allclose(*model.item_vectors_[-2:], rtol=1e-5, atol=1e-6)


TABLES: dict[str, Callable[[], Any]] = {
    "an index that repeats": lambda: table().set_index(pd.Index([3, 3])),
    "an index of two levels": lambda: table().set_index([pd.Index([1, 1]), pd.Index([2, 2])]),
    "a column named by a number": lambda: table(extra=[1, 2]).rename(columns={"extra": 0}),
    "columns that no one reads": lambda: table(extra=objects({1}, object()), more=[1j, 2j]),
    "polars": lambda: pl.from_pandas(table()),
    "lazy polars": lambda: pl.from_pandas(table()).lazy(),
    "pyarrow": lambda: pa.Table.from_pandas(table()),
    "Items": lambda: Items(table()),
}


@pytest.mark.parametrize("case", list(TABLES))
@pytest.mark.parametrize("entry", ["add_items", "partial_fit items"])
def test_odd_tables(entry: str, case: str, reader: Any) -> None:
    expected = copy.deepcopy(reader).add_items(table())
    if entry == "add_items":
        model = copy.deepcopy(reader).add_items(TABLES[case]())
    else:
        model = copy.deepcopy(reader).partial_fit([["a"]], items=TABLES[case](), epochs=0)
    np.testing.assert_array_equal(model.item_ids_, expected.item_ids_)
    np.testing.assert_allclose(model.item_vectors_, expected.item_vectors_, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["no rows"])
@pytest.mark.parametrize("entry", ["add_items"])
def test_no_new_items_are_no_change(entry: str, case: str, reader: Recommender) -> None:
    model = copy.deepcopy(reader).add_items(table()[:0])
    np.testing.assert_array_equal(model.item_vectors_, reader.item_vectors_)

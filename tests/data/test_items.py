import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from palate.data.items import Items, ItemTable, read_items
from palate.exceptions import InvalidInputError, MissingContentError


def message(error_type, call, *args):
    with pytest.raises(error_type) as error:
        call(*args)
    return str(error.value)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_tables_of_every_library(make):
    frame = make({"title": ["Lamp", None, "Cup"], "item_id": [5, 3, 4], "price": [1.5, 2.0, 3.0]})
    for given in (frame, Items(frame)):
        ids, table = read_items(given)
        assert ids.tolist() == [5, 3, 4]
        assert len(table) == 3
        assert list(table.frame.columns) == ["title", "price"]
        assert table.text_columns() == ["title"]
        assert table.texts() == ["Lamp", "", "Cup"]


def test_items_without_content_still_count():
    ids, table = read_items(pd.DataFrame({"item_id": ["a", "b"]}))
    assert ids.tolist() == ["a", "b"]
    assert len(table) == 2
    assert message(MissingContentError, table.texts) == (
        "items must have a text column (such as 'text' or 'title') for a text encoder; "
        "its columns are none."
    )


def test_an_index_of_pandas_means_nothing():
    frame = pd.DataFrame({"item_id": [1, 2, 3], "title": ["a", "b", "c"]}, index=[9, 9, 4])
    _, table = read_items(frame[::-1])
    assert table.texts() == ["c", "b", "a"]
    assert table.frame.index.tolist() == [0, 1, 2]


def test_text_alone_wins_and_else_columns_are_joined():
    frame = pd.DataFrame(
        {
            "title": [" Lamp ", None, "Cup"],
            "tags": [["red", "tall"], [], ["blue"]],
            "price": [1, 2, 3],
            "kind": pd.Categorical(["home", None, "home"]),
            "empty": [None, None, None],
        }
    )
    table = ItemTable(frame)
    assert table.text_columns() == ["title", "tags", "kind"]
    assert table.texts() == ["Lamp. red, tall. home", "", "Cup. blue. home"]
    assert table.texts(["price", "title"]) == ["1. Lamp", "2", "3. Cup"]
    assert ItemTable(frame.assign(text=["x", "y", "z"])).texts() == ["x", "y", "z"]


def test_lists_from_other_libraries_are_texts_too():
    for make in (pl.DataFrame, pa.table):
        _, table = read_items(make({"item_id": [1, 2], "tags": [["a", "b"], None]}))
        assert table.texts() == ["a, b", ""]


def test_a_named_column_must_exist():
    assert message(
        InvalidInputError, ItemTable(pd.DataFrame({"title": ["a"]})).texts, ["name"]
    ) == ("items must have a column 'name'; its columns are 'title'.")
    assert message(InvalidInputError, ItemTable.without_content(1).texts, ["name"]) == (
        "items must have a column 'name'; its columns are none."
    )


def test_each_item_once():
    frame = pd.DataFrame({"item_id": [4, 5, 4], "title": ["a", "b", "c"]})
    assert message(InvalidInputError, read_items, frame) == (
        "column 'item_id' of items must name each item once; row 2 repeats 4."
    )
    assert message(InvalidInputError, read_items, pd.DataFrame({"id": [1]}), "new_items") == (
        "new_items must have a column 'item_id'; its columns are 'id'."
    )
    assert message(
        InvalidInputError, read_items, pd.DataFrame({"item_id": ["a", None]})
    ).startswith("column 'item_id' of items must have no missing values; row 1 is ")


def test_rows_are_put_behind():
    first = ItemTable(pd.DataFrame({"title": ["a", "b"], "price": [1, 2]}))
    more = ItemTable(pd.DataFrame({"extra": [0], "price": [3], "title": ["c"]}, index=[7]))
    both = first.concatenate(more)
    assert both.texts() == ["a", "b", "c"]
    assert list(both.frame.columns) == ["title", "price"]
    assert both.frame["price"].tolist() == [1, 2, 3]
    assert len(first) == 2
    plain = ItemTable.without_content(2).concatenate(ItemTable.without_content(3))
    assert len(plain) == 5


def test_new_rows_need_the_old_columns():
    first = ItemTable(pd.DataFrame({"title": ["a"]}))
    call = first.concatenate
    assert message(InvalidInputError, call, ItemTable(pd.DataFrame({"name": ["b"]}))) == (
        "items must have a column 'title', as the items learned before had; its columns are 'name'."
    )
    assert message(InvalidInputError, call, ItemTable.without_content(1)) == (
        "items must have a column 'title', as the items learned before had; its columns are none."
    )


def test_a_table_without_rows_needs_no_columns():
    first = ItemTable(pd.DataFrame({"title": ["a"], "price": [1]}))
    assert first.concatenate(ItemTable.without_content(0)) is first
    assert first.concatenate(ItemTable(pd.DataFrame({"title": []}))) is first


def test_the_wrapper_has_no_length():
    wrapped = Items(pd.DataFrame({"item_id": np.arange(3)}))
    assert not hasattr(wrapped, "__len__")
    assert len(wrapped.table) == 3

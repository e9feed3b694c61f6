"""Tables of users: what fit, partial_fit and observe refuse, and odd attributes that they take."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from palate import BertEncoder, Items, Recommender, Users
from palate.exceptions import InvalidInputError, InvalidParameterError

ITEMS = pd.DataFrame(
    {"item_id": list("abcd"), "title": ["red lamp", "green chair", "blue book", "a garden"]}
)
ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    "fit users": lambda model, users: model.fit([["a", "b"], ["c"]], items=ITEMS, users=users),
    "partial_fit users": lambda model, users: model.partial_fit([["a", "b"]], users=users),
    "observe users": lambda model, users: model.observe([["a", "b"]], users=users),
}


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [0, 1], "about": ["red", "blue"], **columns})


def objects(*values: Any) -> pd.Series:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return pd.Series(column, dtype=object)


@pytest.fixture(scope="session")
def introduced(options: Any, tiny_bert: str) -> Recommender:
    """A model that was told about its users 0 and 1."""
    model = Recommender(
        *("gru", BertEncoder(tiny_bert)),
        user_features=["about"],
        dim=4,
        epochs=1,
        random_state=0,
        options=options,
    )
    return model.fit([["a", "b"], ["b", "c", "a"]], items=ITEMS, users=table())


NO_TABLE = "users must be a pandas, polars or pyarrow table; got "
ID = "column 'user_id' of users must "
WORDS = "column 'about' of users must hold texts, numbers, bools, times or lists of those; "
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "number": (lambda: 3, NO_TABLE + "int."),
    "text": (lambda: "users.csv", NO_TABLE + "str."),
    "dict": (lambda: {"user_id": [0]}, NO_TABLE + "dict."),
    "list of rows": (lambda: [[0, "red"]], NO_TABLE + "list."),
    "array": (lambda: np.array([[0, "red"]]), NO_TABLE + "ndarray."),
    "generator": (lambda: (row for row in "xy"), NO_TABLE + "generator."),
    "Users of None": (lambda: Users(None), NO_TABLE + "NoneType."),
    "Users of Users": (lambda: Users(Users(table())), NO_TABLE + "Users."),
    "a table of Items": (lambda: Items(table()), NO_TABLE + "Items."),
    "no user column": (
        lambda: table().drop(columns="user_id"),
        "users must have a column 'user_id'; its columns are 'about'.",
    ),
    "no columns": (pd.DataFrame, "users must have a column 'user_id'; its columns are none."),
    "ids in the index": (
        lambda: table().set_index("user_id"),
        "users must have a column 'user_id'; its columns are 'about'.",
    ),
    "no content": (
        lambda: table()[["user_id"]],
        "users must have the column 'about' that user_features names; its columns are 'user_id'.",
    ),
    "two columns of one name": (
        lambda: pd.concat([table(), table()["about"]], axis=1),
        "users must have columns of distinct names; 2 are named 'about'.",
    ),
    "a user twice": (
        lambda: table(user_id=[1, 1]),
        ID + "name each user once; row 1 repeats 1.",
    ),
    "a user twice, as 1 and 1.0": (
        lambda: table(user_id=objects(1, 1.0)),
        ID + "name each user once; row 1 repeats 1.0.",
    ),
    "an id None": (
        lambda: table(user_id=objects(0, None)),
        ID + "have no missing values; row 1 is None.",
    ),
    "an id NaN": (
        lambda: table(user_id=[1.0, np.nan]),
        ID + "have no missing values; row 1 is nan.",
    ),
    "an id a list": (
        lambda: table(user_id=objects(0, [1])),
        ID + "hold hashable scalars; row 1 is [1].",
    ),
    "bytes": (lambda: table(about=objects("red", b"blue")), WORDS + "row 1 is b'blue'."),
    "sets": (lambda: table(about=objects({"red"}, None)), WORDS + "row 0 is {'red'}."),
    "dicts": (lambda: table(about=objects(None, {"a": 1})), WORDS + "row 1 is {'a': 1}."),
    "complex": (lambda: table(about=[1j, 2j]), WORDS + "row 0 is 1j."),
    "nested lists": (lambda: table(about=objects([["a"]], 1)), WORDS + "row 0 is [['a']]."),
    "half a surrogate pair": (
        lambda: table(about=objects("red", "\ud83d")),
        "column 'about' of users must hold text without lone surrogates; row 1 is '\\ud83d'.",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
@pytest.mark.parametrize("entry", list(ENTRIES))
def test_refused(entry: str, case: str, introduced: Recommender, refused: Any) -> None:
    make, message = REFUSED[case]
    refused(lambda: ENTRIES[entry](introduced, make()), InvalidInputError, message, introduced)


@pytest.mark.parametrize("case", ["a table for a model without attributes"])
@pytest.mark.parametrize("entry", list(ENTRIES))
def test_nothing_reads_them(entry: str, case: str, reader: Recommender, refused: Any) -> None:
    refused(
        lambda: ENTRIES[entry](reader, table()),
        InvalidInputError,
        "users must be None unless user_features names columns of it; got DataFrame.",
        reader,
    )


NOBODY = "users must hold an attribute of at least one user of X; got none."
OTHERS: dict[str, tuple[Any, str]] = {
    "None": (
        None,
        "users must be given: user_features=['about'] names columns of it. Pass users=table.",
    ),
    "no rows": (table()[:0], NOBODY),
    "no content at all": (table(about=objects(None, None)), NOBODY),
    "users of another type": (
        table(user_id=["0", "1"]),
        NOBODY + " The ids of X are of type int, those of users of type str.",
    ),
}


@pytest.mark.parametrize("case", list(OTHERS))
@pytest.mark.parametrize("entry", ["fit users"])
def test_other_refusals(entry: str, case: str, introduced: Recommender, refused: Any) -> None:
    users, message = OTHERS[case]
    refused(lambda: ENTRIES[entry](introduced, users), InvalidInputError, message, introduced)


@pytest.mark.parametrize(
    "value", ["about", [], ["about", "about"], [None], {"about"}, 3, True], ids=repr
)
@pytest.mark.parametrize("entry", ["fit user_features"])
def test_no_names_of_columns(entry: str, value: Any, options: Any, refused: Any) -> None:
    model = Recommender(item_encoder="id", user_features=value, options=options)
    message = f"user_features must be a list of distinct column names; got {value!r}."
    refused(lambda: model.fit([["a", "b"]], users=table()), InvalidParameterError, message, model)


# Attributes of users 0 and 1, and the texts that they make.
CONTENT: dict[str, tuple[Any, list[str]]] = {
    "None": (objects("red", None), ["about: red", ""]),
    "NaN": ([3.0, np.nan], ["about: 3", ""]),
    "NaT": (objects(pd.NaT, "red"), ["", "about: red"]),
    "NA": (pd.array([None, 7], dtype="Int64"), ["", "about: 7"]),
    "spaces": (["   ", "red"], ["", "about: red"]),
    "100 thousand characters": (["x" * 100_000, "y"], ["about: " + "x" * 100_000, "about: y"]),
    "emoji": (["🙂👩‍👩‍👧‍👦", "🇯🇵"], ["about: 🙂👩‍👩‍👧‍👦", "about: 🇯🇵"]),
    "right to left": (["מנורה", "كتاب"], ["about: מנורה", "about: كتاب"]),
    "lines and zeros": (["red\nlamp\r\n", "a\0b"], ["about: red lamp", "about: a\0b"]),
    "lists": (objects(["a", "b"], []), ["about: a, b", ""]),
    "categories": (pd.Categorical(["lamp", None]), ["about: lamp", ""]),
    "NumPy's strings": (np.array(["lamp", "book"]), ["about: lamp", "about: book"]),
    "read-only": (np.broadcast_to(np.array("x", object), (2,)), ["about: x", "about: x"]),
}


def texts_of(model: Recommender) -> list[str]:
    people = model._serving.people
    codes = people.of(np.arange(2))
    return ["" if code < 0 else str(people.texts.array[code]) for code in codes]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(CONTENT))
@pytest.mark.parametrize("entry", ["fit users", "observe users"])
def test_odd_texts(entry: str, case: str, introduced: Recommender) -> None:
    values, texts = CONTENT[case]
    model = copy.deepcopy(introduced)
    ENTRIES[entry](model.set_params(epochs=0), table(about=values))
    assert texts_of(model) == texts
    assert np.isfinite(model.transform([["a"]])).all()
    assert np.isfinite(model.recommend(k=2)["score"]).all()


TABLES: dict[str, Callable[[], Any]] = {
    "an index that repeats": lambda: table().set_index(pd.Index([3, 3])),
    "an index of two levels": lambda: table().set_index([pd.Index([1, 1]), pd.Index([2, 2])]),
    "columns that no one reads": lambda: table(extra=objects({1}, object()), more=[1j, 2j]),
    "polars": lambda: pl.from_pandas(table()),
    "lazy polars": lambda: pl.from_pandas(table()).lazy(),
    "pyarrow": lambda: pa.Table.from_pandas(table()),
    "Users": lambda: Users(table()),
}


@pytest.mark.parametrize("case", list(TABLES))
@pytest.mark.parametrize("entry", list(ENTRIES))
def test_odd_tables(entry: str, case: str, introduced: Recommender) -> None:
    model = copy.deepcopy(introduced).set_params(epochs=0)
    ENTRIES[entry](model, TABLES[case]())
    assert texts_of(model) == ["about: red", "about: blue"]


@pytest.mark.parametrize("case", ["no rows"])
@pytest.mark.parametrize("entry", ["partial_fit users", "observe users"])
def test_no_rows_are_no_change(entry: str, case: str, introduced: Recommender) -> None:
    model = copy.deepcopy(introduced).set_params(epochs=0)
    ENTRIES[entry](model, table()[:0])
    assert texts_of(model) == ["about: red", "about: blue"]

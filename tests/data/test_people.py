"""Users tables as texts, and who has which."""

import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import Users
from palate.data.people import People, add_people, read_users
from palate.data.vocabulary import Vocabulary
from palate.exceptions import InvalidInputError

LIBRARIES = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "lazy": lambda columns: pl.DataFrame(columns).lazy(),
    "pyarrow": pa.table,
    "wrapped": lambda columns: Users(pd.DataFrame(columns)),
}


def objects(*values):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return pd.Series(column, dtype=object)


@pytest.mark.parametrize("library", list(LIBRARIES))
def test_the_same_text_from_every_library(library):
    table = LIBRARIES[library](
        {
            "user_id": ["a", "b", "c"],
            "age": [25, None, 30],
            "job": ["student", "", None],
            "extra": [1.5, 2.5, 3.5],
        }
    )
    ids, texts = read_users(table, ["age", "job"])
    assert ids.tolist() == ["a", "b", "c"]
    assert texts == ["age: 25; job: student", "", "age: 30"]
    assert read_users(table, ["job", "age"])[1][0] == "job: student; age: 25"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("  two\n words ", "two words"),
        (7, "7"),
        (np.int8(7), "7"),
        (2**70, str(2**70)),
        (7.0, "7"),
        (0.1, "0.1"),
        (np.float32(0.1), "0.1"),
        (-2.5, "-2.5"),
        (1e18, "1e+18"),
        (float("inf"), "inf"),
        (decimal.Decimal("3.5"), "3.5"),
        (True, "yes"),
        (np.False_, "no"),
        (datetime.date(2020, 2, 3), "2020-02-03"),
        (pd.Timestamp("2020-02-03 04:05"), "2020-02-03 04:05:00"),
        (["a", None, 3], "a, 3"),
        (("a", ""), "a"),
        (np.array(["a", "b"]), "a, b"),
        ([], ""),
        ("", ""),
        ("   ", ""),
        (None, ""),
        (float("nan"), ""),
        (np.float32("nan"), ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        ("🙂 שלום", "🙂 שלום"),
    ],
    ids=repr,
)
def test_values_in_words(value, text):
    table = pd.DataFrame({"user_id": [0, 1], "x": objects("first", value)})
    assert read_users(table, ["x"])[1] == ["x: first", f"x: {text}" if text else ""]


def test_categories_are_their_values():
    table = pd.DataFrame({"user_id": [0, 1], "x": pd.Categorical(["a", None])})
    assert read_users(table, ["x"])[1] == ["x: a", ""]


WORDS = "texts, numbers, bools, times or lists of those"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (3, "users must be a pandas, polars or pyarrow table; got int."),
        ({"age": [1]}, "users must have a column 'user_id'; its columns are 'age'."),
        (
            {"user_id": [1], "job": ["x"]},
            "users must have the column 'age' that user_features names; its columns are "
            "'user_id', 'job'.",
        ),
        (
            {"user_id": objects("x", None), "age": [1, 2]},
            "column 'user_id' of users must have no missing values; row 1 is None.",
        ),
        (
            {"user_id": ["x", "y", "x"], "age": [1, 2, 3]},
            "column 'user_id' of users must name each user once; row 2 repeats 'x'.",
        ),
        (
            {"user_id": [1, 2], "age": objects(3, {"a": 1})},
            f"column 'age' of users must hold {WORDS}; row 1 is {{'a': 1}}.",
        ),
        (
            {"user_id": [1, 2], "age": objects(3, [[1], [2]])},
            f"column 'age' of users must hold {WORDS}; row 1 is [[1], [2]].",
        ),
        (
            {"user_id": [1, 2], "age": objects(b"3", 3)},
            f"column 'age' of users must hold {WORDS}; row 0 is b'3'.",
        ),
        (
            {"user_id": [1, 2], "age": objects("x", "\ud800")},
            "column 'age' of users must hold text without lone surrogates; row 1 is '\\ud800'.",
        ),
    ],
)
def test_what_is_refused(table, message):
    frame = pd.DataFrame(table) if isinstance(table, dict) else table
    with pytest.raises(InvalidInputError) as error:
        read_users(frame, ["age"])
    assert str(error.value) == message


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.integers(0, 9), st.sampled_from(["", "a", "b", "c"]), min_size=1),
        max_size=6,
    )
)
def test_the_latest_row_counts(tables):
    people, known = People(), {}
    for table in tables:
        before = people.of(np.arange(12)).tolist()
        grown = people.told(np.array(list(table)), list(table.values()))
        assert people.of(np.arange(12)).tolist() == before  # readers keep what they have
        people = grown
        known |= table
    codes = people.of(np.arange(-1, 12))
    texts = ["" if code < 0 else str(people.texts.array[code]) for code in codes]
    assert texts == [known.get(user, "") for user in range(-1, 12)]


def test_who_gets_a_code():
    users = Vocabulary(objects("a", "b"))
    table = pd.DataFrame({"user_id": ["z", "b", "y"], "age": [3, 4, None]})
    people, grown = add_people(None, table, ["age"], users)
    assert grown.array.tolist() == ["a", "b", "z"]  # of y nothing is known
    assert people.of(np.arange(3)).tolist() == [-1, 1, 0]
    again, same = add_people(people, None, ["age"], grown)
    assert again is people
    assert same is grown
    assert add_people(None, None, None, users) == (None, users)


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (
            pd.DataFrame({"user_id": ["a"]}),
            None,
            "users must be None unless user_features names columns of it; got DataFrame.",
        ),
        (
            None,
            ["age"],
            "users must be given: user_features=['age'] names columns of it. Pass users=table.",
        ),
        (
            pd.DataFrame({"user_id": ["a", "c"], "age": [None, 3]}),
            ["age"],
            "users must hold an attribute of at least one user of X; got none.",
        ),
        (
            pd.DataFrame({"user_id": [1, 2], "age": [2, 3]}),
            ["age"],
            "users must hold an attribute of at least one user of X; got none. The ids of X are of "
            "type str, those of users of type int.",
        ),
    ],
)
def test_tables_that_cannot_be(table, columns, message):
    with pytest.raises(InvalidInputError) as error:
        add_people(None, table, columns, Vocabulary(objects("a", "b")))
    assert str(error.value) == message

"""`MostPopular` at its own entries: what it is asked, and what it is asked with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from palate.baselines import MostPopular
from palate.exceptions import InvalidInputError, InvalidParameterError, UnsupportedTargetError

NO_TABLES: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, "None"),
    "number": (lambda: 3, "3"),
    "text": (lambda: "u0,a", "'u0,a'"),
    "dict": (lambda: {"user_id": ["u0"]}, "{'user_id': ['u0']}"),
    "set": (lambda: {("u0", "a")}, "{('u0', 'a')}"),
    "generator": (lambda: (row for row in [["a", "b"]]), "generator"),
}


@pytest.mark.parametrize("case", list(NO_TABLES))
@pytest.mark.parametrize("entry", ["MostPopular.predict", "MostPopular.score"])
def test_no_events(entry: str, case: str, popular: MostPopular, refused: Any) -> None:
    make, given = NO_TABLES[case]
    refused(
        lambda: getattr(popular, entry.split(".")[1])(make()),
        InvalidInputError,
        "X must be a table with the columns 'user_id' and 'item_id', an array of shape "
        f"(n_events, 2 or more), or a list of histories; got {given}.",
        popular,
    )


def users(*values: Any) -> pd.DataFrame:
    return pd.DataFrame({"user_id": pd.Series(values, dtype=object)})


USER = "column 'user_id' of X must "
COLUMNS: dict[str, tuple[Callable[[], Any], str]] = {
    "no user column": (
        lambda: pd.DataFrame({"item_id": ["a"]}),
        "X must have a column 'user_id'; its columns are 'item_id'.",
    ),
    "two user columns": (
        lambda: pd.DataFrame([[0, 1]], columns=["user_id", "user_id"]),
        "X must have columns of distinct names; 2 are named 'user_id'.",
    ),
    "user None": (lambda: users(0, None), USER + "have no missing values; row 1 is None."),
    "user NaN": (
        lambda: pd.DataFrame({"user_id": [0.0, np.nan]}),
        USER + "have no missing values; row 1 is nan.",
    ),
    "user a list": (lambda: users([0], 1), USER + "hold hashable scalars; row 0 is [0]."),
}


@pytest.mark.parametrize("case", list(COLUMNS))
@pytest.mark.parametrize("entry", ["MostPopular.predict"])
def test_users_refused(entry: str, case: str, popular: MostPopular, refused: Any) -> None:
    make, message = COLUMNS[case]
    refused(lambda: popular.predict(make()), InvalidInputError, message, popular)


NO_LIST: dict[str, tuple[Callable[[], Any], str]] = {
    "text": (lambda: "abc", "'abc'"),
    "number": (lambda: 7, "7"),
    "dict": (lambda: {0: 1}, "{0: 1}"),
    "set": (lambda: {0}, "{0}"),
    "array of two dimensions": (lambda: np.array([[0]]), "ndarray of shape (1, 1)"),
    "table": (lambda: users(0), "DataFrame of shape (1, 1)"),
}


@pytest.mark.parametrize("case", list(NO_LIST))
@pytest.mark.parametrize("entry", ["MostPopular.recommend"])
def test_no_list(entry: str, case: str, popular: MostPopular, refused: Any) -> None:
    make, given = NO_LIST[case]
    message = f"users must be a list of user ids; got {given}."
    refused(lambda: popular.recommend(make()), InvalidInputError, message, popular)


UNKNOWN: dict[str, tuple[list[Any], str]] = {
    "None": ([None], "None"),
    "NaN": ([np.nan], "nan"),
    "texts for numbers, of another type": (["0"], "'0'"),
    "ids of 2**63": ([2**63], "9223372036854775808"),
    "beyond 64 bits": ([2**70], "1180591620717411303424"),
    "emoji": (["🙂"], "'🙂'"),
    "text of 100 thousand characters": (["x" * 100_000], "'" + "x" * 199 + "…"),
}


@pytest.mark.parametrize("case", list(UNKNOWN))
@pytest.mark.parametrize("entry", ["MostPopular.recommend", "MostPopular.predict"])
def test_unknown_ids(entry: str, case: str, popular: MostPopular, refused: Any) -> None:
    ids, written = UNKNOWN[case]
    if entry == "MostPopular.recommend":
        call: Callable[[], Any] = lambda: popular.recommend(ids)  # noqa: E731
        message = f"users unknown to the model: {written}."
    else:
        call = lambda: popular.predict([["a"], ids])  # noqa: E731
        message = f"items in histories unknown to the model: {written}."
    refused(call, UnsupportedTargetError, message, popular)


LISTS: dict[str, Callable[[list[int]], Any]] = {
    "tuple": tuple,
    "generator": lambda ids: (i for i in ids),
    "objects": lambda ids: np.array(ids, dtype=object),
    "read-only": lambda ids: np.broadcast_to(np.array(ids), (1, 2))[0],
    "column with an index that repeats": lambda ids: pd.Series(ids, index=[4, 4]),
    "column with an index of two levels": lambda ids: pd.Series(
        ids, index=pd.MultiIndex.from_arrays([[1, 1], [2, 2]])
    ),
    "polars": pl.Series,
    "pyarrow": pa.array,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(LISTS))
@pytest.mark.parametrize("entry", ["MostPopular.recommend"])
def test_lists_of_every_kind(entry: str, case: str, popular: MostPopular) -> None:
    pd.testing.assert_frame_equal(popular.recommend(LISTS[case]([2, 0])), popular.recommend([2, 0]))


@pytest.mark.parametrize("k", [0, -3, True, 2.0, "3", None], ids=lambda k: f"{k!r}")
@pytest.mark.parametrize("entry", ["MostPopular.predict"])
def test_k_refused(entry: str, k: Any, popular: MostPopular, refused: Any) -> None:
    message = f"k must be an integer of at least 1; got {k!r}."
    refused(lambda: popular.predict([["a"]], k=k), InvalidParameterError, message, popular)


@pytest.mark.parametrize("case", ["huge k"])
@pytest.mark.parametrize("entry", ["MostPopular.recommend", "MostPopular.predict"])
def test_a_huge_k(entry: str, case: str, popular: MostPopular, refused: Any) -> None:
    if entry == "MostPopular.recommend":
        for k in (10**6, 2**63, 2**70):
            pd.testing.assert_frame_equal(popular.recommend(k=k), popular.recommend(k=3))
        return
    wide = popular.predict([["a"]], k=10**5)
    assert wide[0, :2].tolist() == popular.predict([["a"]], k=2)[0].tolist()
    assert set(wide[0, 2:]) == {None}
    message = f"k must be small enough for 1 rows of k ids to fit in memory; got {2**63}."
    refused(lambda: popular.predict([["a"]], k=2**63), InvalidParameterError, message, popular)


@pytest.mark.parametrize("value", [None, "yes", 2], ids=lambda v: f"flag {v!r}")
@pytest.mark.parametrize(
    "entry", ["MostPopular.recommend", "MostPopular.predict", "MostPopular.score"]
)
def test_flags(entry: str, value: Any, popular: MostPopular, refused: Any) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "MostPopular.recommend": lambda: popular.recommend(filter_viewed=value),
        "MostPopular.predict": lambda: popular.predict([["a"]], filter_viewed=value),
        "MostPopular.score": lambda: popular.score([["a"]], filter_viewed=value),
    }
    message = f"filter_viewed must be one of True, False; got {value!r}."
    refused(calls[entry], InvalidParameterError, message, popular)

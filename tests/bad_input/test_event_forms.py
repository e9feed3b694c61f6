"""What is no table of events, array or list of histories, at every entry that takes events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from palate import Text
from palate.exceptions import InvalidInputError
from palate.metrics import evaluate
from palate.model_selection import LeaveLastOut, TimeSplit, leave_last_out_split, time_split

ESTIMATORS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "fit": (lambda model, X: model.fit(X), "learned"),
    "partial_fit": (lambda model, X: model.partial_fit(X), "learned"),
    "observe": (lambda model, X: model.observe(X), "learned"),
    "score": (lambda model, X: model.score(X), "learned"),
    "predict": (lambda model, X: model.predict(X), "learned"),
    "transform": (lambda model, X: model.transform(X), "learned"),
    "MostPopular.fit": (lambda model, X: model.fit(X), "popular"),
}
RANKED = pd.DataFrame({"user_id": ["u0"], "item_id": ["a"], "rank": [1]})
TABLES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "LeaveLastOut.split": (lambda X: list(LeaveLastOut().split(X)), "X"),
    "TimeSplit.split": (lambda X: list(TimeSplit().split(X)), "X"),
    "leave_last_out_split": (lambda X: leave_last_out_split(X), "X"),
    "time_split": (lambda X: time_split(X), "X"),
    "evaluate": (lambda X: evaluate(RANKED, X), "truth"),
}

NOTHING_OBSERVED = (
    "X must hold events unless `observe` took some in since the model last learned; got None."
)
# What is given, and what the message calls it.
NO_TABLES: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, "None"),
    "number": (lambda: 3, "3"),
    "text": (lambda: "u0,a", "'u0,a'"),
    "bytes": (lambda: b"u0,a", "b'u0,a'"),
    "dict": (lambda: {"user_id": ["u0"]}, "{'user_id': ['u0']}"),
    "set": (lambda: {("u0", "a")}, "{('u0', 'a')}"),
    "generator": (lambda: (row for row in [["a", "b"]]), "generator"),
    "range": (lambda: range(3), "range"),
    "class": (lambda: dict, "type"),
}


@pytest.mark.parametrize("case", list(NO_TABLES))
@pytest.mark.parametrize("entry", list(ESTIMATORS))
def test_no_events(entry: str, case: str, request: pytest.FixtureRequest, refused: Any) -> None:
    call, fixture = ESTIMATORS[entry]
    model = request.getfixturevalue(fixture)
    make, given = NO_TABLES[case]
    if (entry, case) == ("partial_fit", "None"):
        refused(lambda: call(model, None), InvalidInputError, NOTHING_OBSERVED, model)
        return
    refused(
        lambda: call(model, make()),
        InvalidInputError,
        "X must be a table with the columns 'user_id' and 'item_id', an array of shape "
        f"(n_events, 2 or more), or a list of histories; got {given}.",
        model,
    )


@pytest.mark.parametrize("case", [*NO_TABLES, "list of dicts", "ragged lists", "one column"])
@pytest.mark.parametrize("entry", list(TABLES))
def test_no_table(entry: str, case: str, refused: Any) -> None:
    call, name = TABLES[entry]
    more: dict[str, tuple[Callable[[], Any], str]] = {
        "list of dicts": (lambda: [{"user_id": "u0", "item_id": "a"}], "list of shape (1,)"),
        "ragged lists": (lambda: [["a", "b"], ["c"]], "that differs from row to row"),
        "one column": (lambda: np.zeros((4, 1)), "ndarray of shape (4, 1)"),
    }
    make, _ = (NO_TABLES | more)[case]
    given = {
        **{key: f"{type(value()).__name__} of shape ()" for key, (value, _) in NO_TABLES.items()},
        "range": "range of shape (3,)",
        "list of dicts": "list of shape (1,)",
        "ragged lists": "list of shape that differs from row to row",
        "one column": "ndarray of shape (4, 1)",
    }[case]
    refused(
        lambda: call(make()),
        InvalidInputError,
        f"{name} must be a table with the columns 'user_id' and 'item_id', or an array of shape "
        f"(n_events, 2 or more); got {given}.",
    )


NO_HISTORIES = "X must be a table of events or a list of histories, each a list of item ids; "
HISTORIES: dict[str, tuple[Callable[[], Any], str]] = {
    "records": (
        lambda: [{"user_id": "u0", "item_id": "a"}],
        NO_HISTORIES + "history 0 is {'user_id': 'u0', 'item_id': 'a'}.",
    ),
    "sets": (lambda: [["a", "b"], {"c"}], NO_HISTORIES + "history 1 is {'c'}."),
    "None": (lambda: [["a"], None], NO_HISTORIES + "history 1 is None."),
    "bytes": (lambda: [b"ab"], NO_HISTORIES + "history 0 is b'ab'."),
    "flat list": (lambda: ["a", "b"], NO_HISTORIES + "history 0 is 'a'."),
    "tables": (
        lambda: [pd.DataFrame({"item_id": ["a"]})],
        NO_HISTORIES + "history 0 is DataFrame of shape (1, 1).",
    ),
    "arrays of two dimensions": (
        lambda: [np.array([["a"], ["b"]])],
        NO_HISTORIES + "history 0 is ndarray of shape (2, 1).",
    ),
    "an array of none": (
        lambda: [np.array("a")],
        NO_HISTORIES + "history 0 is ndarray of shape ().",
    ),
    "lists of lists": (
        lambda: [["a"], [["b"], ["c"]]],
        "X must hold hashable scalars; history 1 holds ['b'].",
    ),
    "dicts as ids": (
        lambda: [["a", {"id": 1}]],
        "X must hold hashable scalars; history 0 holds {'id': 1}.",
    ),
    "an id None": (
        lambda: [["a"], ["b", None]],
        "X must have no missing values; history 1 holds None.",
    ),
    "an id NaN": (lambda: [[1.0, np.nan]], "X must have no missing values; history 0 holds nan."),
    "an id NaT": (lambda: [["a", pd.NaT]], "X must have no missing values; history 0 holds NaT."),
    "an id NA": (lambda: [["a", pd.NA]], "X must have no missing values; history 0 holds <NA>."),
    "half a surrogate pair": (
        lambda: [["a"], [], ["\udc00"]],
        "X must hold text without lone surrogates; history 2 holds '\\udc00'.",
    ),
    "a Text": (
        lambda: [["a", Text("a lamp")]],
        "X must hold item ids, and no Text; history 0 holds Text(text='a lamp').",
    ),
}


@pytest.mark.parametrize("case", list(HISTORIES))
@pytest.mark.parametrize("entry", ["fit", "partial_fit", "observe", "score", "MostPopular.fit"])
def test_no_histories(entry: str, case: str, request: pytest.FixtureRequest, refused: Any) -> None:
    call, fixture = ESTIMATORS[entry]
    model = request.getfixturevalue(fixture)
    make, message = HISTORIES[case]
    refused(lambda: call(model, make()), InvalidInputError, message, model)


# Arrays are checked by scikit-learn, as its own checks demand, in its words: these are they.
ARRAYS: dict[str, tuple[Callable[[], Any], type, str]] = {
    "one dimension": (lambda: np.array(["a", "b"]), ValueError, "Expected 2D array, got 1D array…"),
    "no dimension": (lambda: np.array(3), ValueError, "Expected 2D array, got scalar array…"),
    "three dimensions": (lambda: np.zeros((2, 2, 2)), ValueError, "Found array with dim 3…"),
    "no rows": (lambda: np.zeros((0, 2)), ValueError, "Found array with 0 sample(s)…"),
    "one column": (lambda: np.zeros((4, 1)), ValueError, "Found array with 1 feature(s)…"),
    "NaN": (lambda: np.array([[1.0, np.nan]]), ValueError, "Input X contains NaN.…"),
    "infinite": (lambda: np.array([[1.0, np.inf]]), ValueError, "Input X contains infinity…"),
    "complex": (lambda: np.ones((3, 2), complex), ValueError, "Complex data not supported…"),
    "a column": (lambda: pd.Series(["a"]), ValueError, "Expected a 2-dimensional container…"),
    "sparse": (lambda: sparse.eye(3).tocsr(), TypeError, "Sparse data was passed for X…"),
    "records": (
        lambda: np.zeros(3, [("user_id", "i8"), ("item_id", "i8")]),
        ValueError,
        "Expected 2D array, got 1D array…",
    ),
    "masked": (
        lambda: np.ma.masked_array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]]),
        InvalidInputError,
        "X must have no masked values; got 1.",
    ),
    "None in objects": (
        lambda: np.array([["u0", "a"], ["u1", None]], dtype=object),
        InvalidInputError,
        "column 'item_id' of X must have no missing values; row 1 is None.",
    ),
    "lists in objects": (
        lambda: np.array([["u0", ["a"]], ["u1", ["b"]]], dtype=object),
        InvalidInputError,
        "column 'item_id' of X must hold hashable scalars; row 0 is ['a'].",
    ),
    "words as times": (
        lambda: np.array([["u0", "a", "now"]]),
        InvalidInputError,
        "column 'timestamp' of X must hold numbers or datetimes; its type is <U3.",
    ),
    "times of two kinds": (
        lambda: np.array([["u0", "a", 1], ["u0", "b", "2024-05-01"]], dtype=object),
        InvalidInputError,
        "column 'timestamp' of X must hold times of one kind; row 0 is 1 and row 1 is "
        "'2024-05-01'.",
    ),
}


@pytest.mark.parametrize("case", list(ARRAYS))
@pytest.mark.parametrize("entry", ["fit", "MostPopular.fit"])
def test_arrays_refused(
    entry: str, case: str, request: pytest.FixtureRequest, refused: Any
) -> None:
    call, fixture = ESTIMATORS[entry]
    model = request.getfixturevalue(fixture)
    make, error, message = ARRAYS[case]
    refused(lambda: call(model, make()), error, message, model)


OBSERVED: dict[str, tuple[Callable[[], Any], str]] = {
    "one dimension": (lambda: np.array(["a", "b"]), "ndarray of shape (2,)"),
    "three dimensions": (lambda: np.zeros((2, 2, 2)), "ndarray of shape (2, 2, 2)"),
    "one column": (lambda: np.zeros((4, 1)), "ndarray of shape (4, 1)"),
    "a column": (lambda: pd.Series(["a"]), "Series of shape (1,)"),
    "a tensor": (lambda: torch.zeros(3), "Tensor of shape (3,)"),
    "records": (lambda: np.zeros(3, [("user_id", "i8")]), "ndarray of shape (3,)"),
}


@pytest.mark.parametrize("case", list(OBSERVED))
@pytest.mark.parametrize("entry", ["observe"])
def test_arrays_of_another_shape(entry: str, case: str, learned: Any, refused: Any) -> None:
    make, given = OBSERVED[case]
    refused(
        lambda: learned.observe(make()),
        InvalidInputError,
        "X must be a table with the columns 'user_id' and 'item_id', or an array of shape "
        f"(n_events, 2 or more); got {given}.",
        learned,
    )

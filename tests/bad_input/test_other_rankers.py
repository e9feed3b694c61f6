"""Vectors and `k` at `ApproximateRanker`, and at the neighbours that both rankers answer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from palate import ApproximateRanker, CosineRanker
from palate.exceptions import InvalidInputError, InvalidParameterError

pytest.importorskip("faiss", reason="the extra palate[ann] is not installed")

ITEMS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
QUERIES = ITEMS[:2] * 2
MADE = {
    "CosineRanker": CosineRanker().fit(ITEMS),
    "ApproximateRanker": ApproximateRanker(n_lists=2, n_probe=2).fit(ITEMS),
}
KNEIGHBORS = ["CosineRanker.kneighbors", "ApproximateRanker.kneighbors"]
GRAPHS = [entry + "_graph" for entry in KNEIGHBORS]
OWN_WORDS = [
    *("CosineRanker.extend", "CosineRanker.topk"),
    *("ApproximateRanker.extend", "ApproximateRanker.topk", "ApproximateRanker.recall"),
]
ROWS = {"extend": "vectors", "topk": "queries", "recall": "queries"}


def ask(entry: str, X: Any, k: Any = 2) -> Any:
    """Make one call of an entry: "Class.method"."""
    name, method = entry.split(".")
    ranker = MADE[name]
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: ranker.fit(X),
        "extend": lambda: ranker.extend(X),
        "topk": lambda: ranker.topk(X, k),
        "kneighbors": lambda: ranker.kneighbors(X, k),
        "kneighbors_graph": lambda: ranker.kneighbors_graph(X, k),
        "recall": lambda: ranker.recall(X, k),
    }
    return calls[method]()


@pytest.fixture
def unmoved(refused: Any) -> Callable[..., None]:
    """Refuse, and find the same items as before."""

    def check(entry: str, call: Callable[[], Any], error: type, message: str) -> None:
        ranker: Any = MADE[entry.split(".")[0]]
        before, state = ranker.topk(ITEMS, 5), dict(vars(ranker))
        refused(call, error, message)
        assert {n: id(v) for n, v in vars(ranker).items()} == {n: id(v) for n, v in state.items()}
        after = ranker.topk(ITEMS, 5)
        assert torch.equal(before.scores, after.scores)
        assert torch.equal(before.indices, after.indices)

    return check


FLOATS = "must be two-dimensional floats; got "
OWN: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, FLOATS + "object of shape ()."),
    "text": (lambda: "abc", FLOATS + "<U3 of shape ()."),
    "dict": (lambda: {"a": 1.0}, FLOATS + "object of shape ()."),
    "generator": (lambda: (row for row in [[1.0]]), FLOATS + "object of shape ()."),
    "NumPy's strings": (lambda: np.array([["1", "2", "3"]]), FLOATS + "<U1 of shape (1, 3)."),
    "objects": (lambda: QUERIES.astype(object), FLOATS + "object of shape (2, 3)."),
    "complex": (lambda: np.ones((2, 3), complex), FLOATS + "complex128 of shape (2, 3)."),
    "integers": (lambda: np.eye(3, dtype=int), FLOATS + "torch.int64 of shape (3, 3)."),
    "numbers of 2**63": (
        lambda: np.full((2, 3), 2**63, np.uint64),
        FLOATS + "torch.uint64 of shape (2, 3).",
    ),
    "bools": (lambda: np.eye(3, dtype=bool), FLOATS + "torch.bool of shape (3, 3)."),
    "one dimension": (lambda: np.ones(3), FLOATS + "torch.float64 of shape (3,)."),
    "three dimensions": (lambda: np.ones((1, 2, 3)), FLOATS + "torch.float64 of shape (1, 2, 3)."),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], FLOATS + "a list that is ragged."),
    "sparse tensor": (
        lambda: torch.eye(3).to_sparse(),
        FLOATS + "torch.sparse_coo of shape (3, 3).",
    ),
    "NaN": (lambda: np.array([[0, np.nan, 1]]), "must be finite numbers; got nan in row 0."),
    "infinite": (
        lambda: np.array([[0, 1, 2], [0, 1, -np.inf]]),
        "must be finite numbers; got -inf in row 1.",
    ),
    "beyond 32 bits": (lambda: np.full((1, 3), 1e300), "must be finite numbers; got inf in row 0."),
    "too narrow": (lambda: np.ones((1, 2)), "must have 3 columns; got 2."),
    "of no width": (lambda: np.ones((1, 0)), "must have 3 columns; got 0."),
}


@pytest.mark.parametrize("case", list(OWN))
@pytest.mark.parametrize("entry", OWN_WORDS)
def test_no_vectors(entry: str, case: str, unmoved: Any) -> None:
    make, rest = OWN[case]
    message = f"{ROWS[entry.split('.')[1]]} {rest}"
    unmoved(entry, lambda: ask(entry, make()), InvalidInputError, message)


# Checked as scikit-learn checks any estimator's X, in its words.
THEIRS: dict[str, tuple[Callable[[], Any], type, str]] = {
    "text": (lambda: "abc", ValueError, "could not convert string to float…"),
    "dict": (lambda: {"a": 1.0}, TypeError, "float() argument must be a string or a real…"),
    "generator": (lambda: (r for r in [[1.0]]), TypeError, "float() argument must be a string…"),
    "NumPy's strings": (
        lambda: np.array([["a", "b", "c"]]),
        ValueError,
        "could not convert string to float…",
    ),
    "objects": (lambda: np.array([[1.0, None, 2.0]]), ValueError, "Input X contains NaN.…"),
    "complex": (lambda: np.ones((2, 3), complex), ValueError, "Complex data not supported…"),
    "one dimension": (lambda: np.ones(3), ValueError, "Expected 2D array, got 1D array…"),
    "three dimensions": (lambda: np.ones((1, 2, 3)), ValueError, "Found array with dim 3…"),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], ValueError, "setting an array element with a…"),
    "sparse": (lambda: sparse.eye(3).tocsr(), TypeError, "Sparse data was passed…"),
    "NaN": (lambda: np.array([[0, np.nan, 1]]), ValueError, "Input X contains NaN.…"),
    "infinite": (lambda: np.array([[0, 1, np.inf]]), ValueError, "Input X contains infinity…"),
    "no rows": (lambda: np.ones((0, 3)), ValueError, "Found array with 0 sample(s)…"),
    "no columns": (lambda: np.ones((3, 0)), ValueError, "Found array with 0 feature(s)…"),
}


@pytest.mark.parametrize("case", list(THEIRS))
@pytest.mark.parametrize(
    "entry", ["CosineRanker.fit", "ApproximateRanker.fit", *KNEIGHBORS, *GRAPHS]
)
def test_no_samples(entry: str, case: str, unmoved: Any) -> None:
    make, error, message = THEIRS[case]
    unmoved(entry, lambda: ask(entry, make()), error, message)


@pytest.mark.parametrize("case", ["too narrow", "numbered columns for named ones"])
@pytest.mark.parametrize("entry", KNEIGHBORS)
def test_other_columns(entry: str, case: str, unmoved: Any) -> None:
    name = entry.split(".")[0]
    if case == "too narrow":
        message = f"X has 2 features, but {name} is expecting 3 features as input."
        unmoved(entry, lambda: ask(entry, QUERIES[:, :2]), ValueError, message)
        return
    named = copy.copy(MADE[name]).fit(pd.DataFrame(ITEMS, columns=list("abc")))
    other = pd.DataFrame(QUERIES, columns=list("abd"))
    message = "The feature names should match those that were passed during fit.…"
    unmoved(entry, lambda: named.kneighbors(other), ValueError, message)


NO_K: dict[str, tuple[Any, str]] = {
    "0": (0, "0"),
    "below 0": (-3, "-3"),
    "bool": (True, "True"),
    "float": (2.0, "2.0"),
    "NaN": (float("nan"), "nan"),
    "text": ("3", "'3'"),
    "None": (None, "None"),
}
BY_K = ["ApproximateRanker.topk", "ApproximateRanker.recall", *KNEIGHBORS, *GRAPHS]


@pytest.mark.parametrize("case", list(NO_K))
@pytest.mark.parametrize("entry", BY_K)
def test_k_refused(entry: str, case: str, unmoved: Any) -> None:
    k, written = NO_K[case]
    name = "n_neighbors" if "kneighbors" in entry else "k"
    message = f"{name} must be an integer of at least 1; got {written}."
    unmoved(entry, lambda: ask(entry, QUERIES, k), InvalidParameterError, message)


@pytest.mark.parametrize("k", [6, 10**6, 2**63], ids=lambda k: f"huge k {k}")
@pytest.mark.parametrize("entry", [*KNEIGHBORS, *GRAPHS])
def test_more_neighbours_than_items(entry: str, k: int, unmoved: Any) -> None:
    message = f"n_neighbors must be at most the 5 items; got {k}."
    unmoved(entry, lambda: ask(entry, QUERIES, k), InvalidInputError, message)


@pytest.mark.parametrize("case", ["huge k", "huge k of 64 bits"])
@pytest.mark.parametrize("entry", ["ApproximateRanker.topk", "ApproximateRanker.recall"])
def test_a_huge_k(entry: str, case: str, unmoved: Any) -> None:
    if case == "huge k":
        found = ask(entry, QUERIES, 10**5)
        if entry.endswith("recall"):
            assert found == 1.0
        else:
            assert (found.indices[:, 5:] == -1).all()
            assert torch.equal(found.indices[:, :5], ask(entry, QUERIES, 5).indices)
        return
    for k in (2**31, 2**63, 2**70):
        message = f"k must be an integer of at most 2147483647; got {k}."
        unmoved(entry, lambda k=k: ask(entry, QUERIES, k), InvalidParameterError, message)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array


def indexed(array: np.ndarray, index: Any) -> pd.DataFrame:
    return pd.DataFrame(array, index=index)


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "read-only": read_only,
    "negative strides": lambda array: array[::-1].copy()[::-1],
    "in columns": np.asfortranarray,
    "double": lambda array: array.astype(np.float64),
    "foreign bytes": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "lists": np.ndarray.tolist,
    "tensor": torch.tensor,
    "an index that repeats": lambda array: indexed(array, [3] * len(array)),
    "an index of two levels": lambda array: indexed(
        array, pd.MultiIndex.from_arrays([[1] * len(array)] * 2)
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", list(FORMS))
@pytest.mark.parametrize(
    "entry",
    ["CosineRanker.fit", "ApproximateRanker.fit", *OWN_WORDS, *KNEIGHBORS, *GRAPHS],
)
def test_vectors_of_every_form(entry: str, case: str) -> None:
    name, method = entry.split(".")
    form, ranker = FORMS[case], MADE[name]
    plain = ranker.topk(QUERIES, 3)
    if method == "kneighbors_graph":
        graph = ranker.kneighbors_graph(form(QUERIES), 3)
        assert graph.toarray().tolist() == ranker.kneighbors_graph(QUERIES, 3).toarray().tolist()
    elif method == "kneighbors":
        assert ranker.kneighbors(form(QUERIES), 3)[1].tolist() == plain.indices.tolist()
    elif method == "recall":
        assert ranker.recall(form(QUERIES), 3) == ranker.recall(QUERIES, 3)
    else:
        fresh = copy.copy(ranker)
        found = {
            "fit": lambda: fresh.fit(form(ITEMS)).topk(QUERIES, 3),
            "extend": lambda: fresh.fit(ITEMS[:3]).extend(form(ITEMS[3:])).topk(QUERIES, 3),
            "topk": lambda: ranker.topk(form(QUERIES), 3),
        }[method]()
        assert torch.equal(found.scores, plain.scores)
        assert torch.equal(found.indices, plain.indices)


@pytest.mark.parametrize("case", ["no rows"])
@pytest.mark.parametrize("entry", OWN_WORDS)
def test_empty_vectors(entry: str, case: str) -> None:
    nothing = np.zeros((0, 3), np.float32)
    if entry.endswith("extend"):
        grown = copy.copy(MADE[entry.split(".")[0]]).extend(nothing)
        assert grown.n_items_ == 5
    elif entry.endswith("topk"):
        assert ask(entry, nothing).indices.shape == (0, 2)
    else:
        assert ask(entry, nothing) == 1.0

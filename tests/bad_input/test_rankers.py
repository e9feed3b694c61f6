"""Vectors, filters and lists of codes, at the rankers and at the search below them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from palate import CosineRanker
from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.ops.topk import ItemLists, topk

ITEMS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
QUERIES = ITEMS[:2] * 2


@pytest.fixture(scope="module")
def ranker() -> CosineRanker:
    return CosineRanker().fit(ITEMS)


@pytest.fixture
def unmoved(ranker: CosineRanker, refused: Any) -> Callable[..., None]:
    """Refuse, and find the same items as before."""
    before = ranker.topk(ITEMS, 5)

    def check(call: Callable[[], Any], error: type, message: str) -> None:
        catalogue = ranker.catalogue_
        refused(call, error, message)
        assert ranker.catalogue_ is catalogue and ranker.n_items_ == 5
        after = ranker.topk(ITEMS, 5)
        assert torch.equal(before.scores, after.scores)
        assert torch.equal(before.indices, after.indices)

    return check


NO_VECTORS: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, "floats; got object of shape ()."),
    "text": (lambda: "abc", "floats; got <U3 of shape ()."),
    "dict": (lambda: {"a": 1.0}, "floats; got object of shape ()."),
    "generator": (lambda: (row for row in [[1.0]]), "floats; got object of shape ()."),
    "texts": (lambda: np.array([["a", "b"]]), "floats; got <U1 of shape (1, 2)."),
    "objects": (lambda: np.array([[1.0, None]]), "floats; got object of shape (1, 2)."),
    "complex": (lambda: np.ones((2, 3), complex), "floats; got complex128 of shape (2, 3)."),
    "integers": (lambda: np.eye(3, dtype=int), "floats; got torch.int64 of shape (3, 3)."),
    "bools": (lambda: np.eye(3, dtype=bool), "floats; got torch.bool of shape (3, 3)."),
    "one dimension": (lambda: np.ones(3), "floats; got torch.float64 of shape (3,)."),
    "three dimensions": (
        lambda: np.ones((1, 2, 3)),
        "floats; got torch.float64 of shape (1, 2, 3).",
    ),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], "floats; got a list that is ragged."),
    "sparse tensor": (
        lambda: torch.eye(3).to_sparse(),
        "floats; got torch.sparse_coo of shape (3, 3).",
    ),
}


@pytest.mark.parametrize("case", list(NO_VECTORS))
@pytest.mark.parametrize("entry", ["CosineRanker.extend", "CosineRanker.topk"])
def test_no_vectors(entry: str, case: str, ranker: Any, unmoved: Any) -> None:
    make, rest = NO_VECTORS[case]
    name = {"CosineRanker.extend": "vectors", "CosineRanker.topk": "queries"}[entry]
    calls = {
        "CosineRanker.extend": lambda: ranker.extend(make()),
        "CosineRanker.topk": lambda: ranker.topk(make(), 2),
    }
    unmoved(calls[entry], InvalidInputError, f"{name} must be two-dimensional {rest}")


# What is no tensor is checked as scikit-learn checks any estimator's X, in its words.
FIT: dict[str, tuple[Callable[[], Any], type, str]] = {
    "one dimension": (lambda: np.ones(3), ValueError, "Expected 2D array, got 1D array…"),
    "three dimensions": (lambda: np.ones((1, 2, 3)), ValueError, "Found array with dim 3…"),
    "no rows": (lambda: np.ones((0, 3)), ValueError, "Found array with 0 sample(s)…"),
    "no columns": (lambda: np.ones((3, 0)), ValueError, "Found array with 0 feature(s)…"),
    "NaN": (lambda: np.array([[np.nan, 1.0]]), ValueError, "Input X contains NaN.…"),
    "infinite": (lambda: np.array([[np.inf, 1.0]]), ValueError, "Input X contains infinity…"),
    "texts": (lambda: np.array([["a", "b"]]), ValueError, "could not convert string to float…"),
    "complex": (lambda: np.ones((2, 3), complex), ValueError, "Complex data not supported…"),
    "sparse": (lambda: sparse.eye(3).tocsr(), TypeError, "Sparse data was passed…"),
    "a NaN tensor": (
        lambda: torch.tensor([[1.0, 2.0], [1.0, torch.nan]]),
        InvalidInputError,
        "vectors must be finite numbers; got nan in row 1.",
    ),
    "an infinite tensor": (
        lambda: torch.tensor([[torch.inf, 2.0]]),
        InvalidInputError,
        "vectors must be finite numbers; got inf in row 0.",
    ),
    "an integer tensor": (
        lambda: torch.eye(3, dtype=torch.int64),
        InvalidInputError,
        "vectors must be two-dimensional floats; got torch.int64 of shape (3, 3).",
    ),
}


@pytest.mark.parametrize("case", list(FIT))
@pytest.mark.parametrize("entry", ["CosineRanker.fit"])
def test_fit(entry: str, case: str, ranker: Any, unmoved: Any) -> None:
    make, error, message = FIT[case]
    unmoved(lambda: ranker.fit(make()), error, message)


VALUES: dict[str, tuple[np.ndarray, str]] = {
    "NaN": (np.array([[0, 1, 2], [0, np.nan, 1]]), "must be finite numbers; got nan in row 1."),
    "infinite": (np.array([[0, 1, np.inf]]), "must be finite numbers; got inf in row 0."),
    "beyond 32 bits": (np.full((1, 3), 1e300), "must be finite numbers; got inf in row 0."),
    "too narrow": (np.ones((1, 2)), "must have 3 columns; got 2."),
    "too wide": (np.ones((1, 4)), "must have 3 columns; got 4."),
    "of no width": (np.ones((1, 0)), "must have 3 columns; got 0."),
}


@pytest.mark.parametrize("case", list(VALUES))
@pytest.mark.parametrize("entry", ["CosineRanker.extend", "CosineRanker.topk"])
def test_values(entry: str, case: str, ranker: Any, unmoved: Any) -> None:
    values, rest = VALUES[case]
    name = {"CosineRanker.extend": "vectors", "CosineRanker.topk": "queries"}[entry]
    calls = {
        "CosineRanker.extend": lambda: ranker.extend(values),
        "CosineRanker.topk": lambda: ranker.topk(values, 2),
    }
    unmoved(calls[entry], InvalidInputError, f"{name} {rest}")


TENSORS: dict[str, tuple[Any, str]] = {
    "None": (None, "NoneType"),
    "list": ([[1.0, 2.0, 3.0]], "list"),
    "array": (ITEMS, "ndarray"),
    "integers": (torch.eye(3, dtype=torch.int64), "torch.int64 of shape (3, 3)"),
    "bools": (torch.eye(3, dtype=torch.bool), "torch.bool of shape (3, 3)"),
    "complex": (torch.eye(3, dtype=torch.complex64), "torch.complex64 of shape (3, 3)"),
    "one dimension": (torch.ones(3), "torch.float32 of shape (3,)"),
    "three dimensions": (torch.ones(1, 1, 3), "torch.float32 of shape (1, 1, 3)"),
    "sparse": (torch.eye(3).to_sparse(), "torch.sparse_coo of shape (3, 3)"),
}


@pytest.mark.parametrize("case", list(TENSORS))
@pytest.mark.parametrize("entry", ["topk queries", "topk items"])
def test_tensors(entry: str, case: str, refused: Any) -> None:
    value, got = TENSORS[case]
    good, name = torch.eye(3), entry.split()[1]
    call = {"queries": lambda: topk(value, good, 2), "items": lambda: topk(good, value, 2)}[name]
    message = f"{name} must be a two-dimensional float tensor; got {got}."
    refused(call, InvalidInputError, message)


NO_CODES: dict[str, tuple[Any, str]] = {
    "texts": (np.array(["a"]), "<U1 of shape (1,)"),
    "floats": (np.array([1.0]), "torch.float64 of shape (1,)"),
    "NaN": ([float("nan")], "torch.float32 of shape (1,)"),
    "bools": (np.array([True]), "torch.bool of shape (1,)"),
    "objects": (np.array([1], dtype=object), "object of shape (1,)"),
    "None": (None, "NoneType"),
    "a number": (3, "torch.int64 of shape ()"),
    "dict": ({1: 2}, "dict"),
    "ragged": ([[0], [1, 2]], "list"),
    "two dimensions": (np.array([[0]]), "torch.int64 of shape (1, 1)"),
}


@pytest.mark.parametrize("case", [name for name in NO_CODES if name != "None"])
@pytest.mark.parametrize("entry", ["topk include"])
def test_include(entry: str, case: str, ranker: Any, unmoved: Any) -> None:
    value, got = NO_CODES[case]
    message = f"include must be one-dimensional integers; got {got}."
    unmoved(lambda: ranker.topk(QUERIES, 2, include=value), InvalidParameterError, message)


@pytest.mark.parametrize("case", list(NO_CODES))
@pytest.mark.parametrize("entry", ["topk exclude rows", "topk exclude items"])
def test_exclude(entry: str, case: str, ranker: Any, unmoved: Any) -> None:
    value, got = NO_CODES[case]
    side = entry.split()[-1]
    pair = (value, [0]) if side == "rows" else ([0], value)
    message = f"exclude's {side} must be one-dimensional integers; got {got}."
    unmoved(lambda: ranker.topk(QUERIES, 2, exclude=pair), InvalidParameterError, message)


FORM = "exclude must be None, a pair (rows, items), ItemLists or a CSR matrix; got "
FILTERS: dict[str, tuple[dict[str, Any], type, str]] = {
    "include below 0": (
        {"include": [-1]},
        InvalidInputError,
        "include must be in [0, 5); got -1.",
    ),
    "include beyond": ({"include": [0, 5]}, InvalidInputError, "include must be in [0, 5); got 5."),
    "exclude text": ({"exclude": "ab"}, InvalidParameterError, FORM + "str."),
    "exclude number": ({"exclude": 3}, InvalidParameterError, FORM + "int."),
    "exclude three lists": ({"exclude": ([0], [1], [2])}, InvalidParameterError, FORM + "tuple."),
    "exclude dense": ({"exclude": np.ones((2, 5))}, InvalidParameterError, FORM + "ndarray."),
    "exclude tensor": ({"exclude": torch.ones(2, 5)}, InvalidParameterError, FORM + "Tensor."),
    "exclude dict": ({"exclude": {}}, InvalidParameterError, FORM + "dict."),
    "exclude row beyond": (
        {"exclude": ([2], [0])},
        InvalidInputError,
        "exclude's rows must be in [0, 2); got 2.",
    ),
    "exclude item below 0": (
        {"exclude": ([0], [-1])},
        InvalidInputError,
        "exclude's items must be in [0, 5); got -1.",
    ),
    "exclude unpaired": (
        {"exclude": ([0, 1], [0])},
        InvalidInputError,
        "exclude must pair one row with one item; got 2 rows and 1 items.",
    ),
    "exclude of another shape": (
        {"exclude": sparse.csr_matrix(np.ones((3, 3)))},
        InvalidInputError,
        "exclude must have the shape (n_queries, n_items) = (2, 5); got (3, 3).",
    ),
    "exclude that falls": (
        {"exclude": ItemLists([0, 2, 1], [0])},
        InvalidInputError,
        "exclude's indptr must rise from 0 to 1 in 2 steps; got [0, 2, 1].",
    ),
}


@pytest.mark.parametrize("case", list(FILTERS))
@pytest.mark.parametrize("entry", ["topk filters"])
def test_filters(entry: str, case: str, ranker: Any, unmoved: Any) -> None:
    options, error, message = FILTERS[case]
    unmoved(lambda: ranker.topk(QUERIES, 2, **options), error, message)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "read-only": read_only,
    "negative strides": lambda array: array[::-1].copy()[::-1],
    "in columns": np.asfortranarray,
    "every second": lambda array: np.repeat(array, 2, axis=0)[::2],
    "foreign bytes": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "lists": np.ndarray.tolist,
    "tensor": torch.tensor,
    "tensor with a gradient": lambda array: torch.tensor(array, requires_grad=True),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", [*FORMS, "double", "long double"])
@pytest.mark.parametrize("entry", ["CosineRanker.fit", "CosineRanker.topk"])
def test_vectors_of_every_form(entry: str, case: str, ranker: Any) -> None:
    doubles = {
        "double": lambda array: array.astype(np.float64),
        "long double": lambda array: array.astype(np.longdouble),
    }
    form = (FORMS | doubles)[case]
    expected = ranker.topk(QUERIES, 3)
    if entry == "CosineRanker.fit":
        found = CosineRanker().fit(form(ITEMS[:3])).extend(form(ITEMS[3:])).topk(QUERIES, 3)
    else:
        found = ranker.topk(form(QUERIES), 3)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.indices, expected.indices)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", [name for name in FORMS if "gradient" not in name])
@pytest.mark.parametrize("entry", ["topk filters"])
def test_codes_of_every_form(entry: str, case: str, ranker: Any) -> None:
    form, codes, rows = FORMS[case], np.array([4, 0, 2]), np.array([0, 1, 1])
    plain = ranker.topk(QUERIES, 3, exclude=(rows.tolist(), codes.tolist()))
    found = ranker.topk(QUERIES, 3, exclude=(form(rows), form(codes)))
    assert torch.equal(found.indices, plain.indices)
    allowed = ranker.topk(QUERIES, 3, include=form(codes))
    assert set(allowed.indices.ravel().tolist()) == {0, 2, 4}
    one = ranker.topk(QUERIES, 3, exclude=(form(rows[:1]), form(codes[:1])))
    assert not (one.indices[0] == 4).any()


def test_vectors_of_nothing_and_filters_of_nothing(ranker: CosineRanker) -> None:
    grown = CosineRanker().fit(ITEMS).extend(np.zeros((0, 3), np.float32))
    assert grown.n_items_ == 5
    zero = CosineRanker().fit(np.zeros((2, 3), np.float32)).topk(QUERIES, 2)
    assert zero.scores.tolist() == [[0, 0], [0, 0]]
    assert ranker.topk(QUERIES[:0], 2).indices.shape == (0, 2)
    assert (ranker.topk(QUERIES, 2, include=[]).indices == -1).all()
    plain = ranker.topk(QUERIES, 2).indices
    assert torch.equal(ranker.topk(QUERIES, 2, exclude=([], [])).indices, plain)

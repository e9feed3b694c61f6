"""Exclusions in every accepted form, allow-lists, and their errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.ops.topk import ItemLists, topk
from palate.ranking.exact import CosineRanker

ROWS = np.array([2, 0, 2, 0, 2])
COLS = np.array([4, 1, 0, 1, 6])  # a pair twice, and a query without any


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 5, generator=generator), torch.randn(7, 5, generator=generator)


def csr() -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix((np.ones(5), (ROWS, COLS)), shape=(3, 7))


def torch_csr() -> torch.Tensor:
    rows, cols = torch.tensor([0, 1, 1, 4]), torch.tensor([1, 0, 4, 6])
    return torch.sparse_csr_tensor(rows, cols, torch.ones(4), (3, 7), check_invariants=True)


FORMS = {
    "lists": lambda: (ROWS.tolist(), COLS.tolist()),
    "arrays": lambda: (ROWS, COLS.astype(np.int32)),
    "tensors": lambda: (torch.as_tensor(ROWS), torch.as_tensor(COLS)),
    "scipy csr": csr,
    "scipy coo": lambda: scipy.sparse.coo_array(csr()),
    "torch csr": torch_csr,
    "item lists": lambda: ItemLists(np.array([0, 1, 1, 4]), np.array([1, 6, 0, 4])),
}


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_exclusions(backend, check, form):
    q, x = vectors()
    check(topk(q, x, 7, exclude=FORMS[form]()), q, x, 7, exclude=(ROWS, COLS))


@pytest.mark.parametrize("include", [[3], [6, 2, 2, 5], range(7), range(1, 7)])
@pytest.mark.parametrize("exclude", [None, (ROWS, COLS)])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_allow_lists(backend, check, include, exclude, metric):
    q, x = vectors()
    codes = torch.tensor(list(include))
    options = {"metric": metric, "exclude": exclude, "include": codes}
    check(topk(q, x, 4, **options), q, x, 4, **options)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.3, 0.9])
@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_long_allow_lists_over_several_segments(backend, check, share, storage):
    generator = torch.Generator().manual_seed(1)
    q, x = torch.randn(9, 6, generator=generator), torch.randn(5000, 6, generator=generator)
    include = (torch.rand(5000, generator=generator) < share).nonzero()[:, 0]
    exclude = (torch.arange(9).repeat_interleave(400), torch.randint(0, 5000, (3600,)))
    ranker = CosineRanker(storage=storage).fit(x[:3000]).extend(x[3000:4500]).extend(x[4500:])
    options = {"exclude": exclude, "include": include}
    check(ranker.topk(q, 20, **options), q, x, 20, **options)
    tight = topk(q, x, 20, memory_budget=60_000, **options)
    assert torch.equal(tight.indices, ranker.topk(q, 20, **options).indices)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"exclude": ([0], [7])},
            InvalidInputError,
            "exclude's items must be in [0, 7); got 7.",
        ),
        (
            {"exclude": ([3], [0])},
            InvalidInputError,
            "exclude's rows must be in [0, 3); got 3.",
        ),
        (
            {"exclude": ([0, 1], [0])},
            InvalidInputError,
            "exclude must pair one row with one item; got 2 rows and 1 items.",
        ),
        (
            {"exclude": ([0.5], [0])},
            InvalidParameterError,
            "exclude's rows must be one-dimensional integers; got torch.float32 of shape (1,).",
        ),
        (
            {"exclude": "seen"},
            InvalidParameterError,
            "exclude must be None, a pair (rows, items), ItemLists or a CSR matrix; got str.",
        ),
        (
            {"exclude": scipy.sparse.csr_matrix((2, 7))},
            InvalidInputError,
            "exclude must have the shape (n_queries, n_items) = (3, 7); got (2, 7).",
        ),
        (
            {"exclude": ItemLists([0, 2, 1, 2], [1, 2])},
            InvalidInputError,
            "exclude's indptr must rise from 0 to 2 in 3 steps; got [0, 2, 1, 2].",
        ),
        (
            {"include": [-1]},
            InvalidInputError,
            "include must be in [0, 7); got -1.",
        ),
        (
            {"include": torch.ones(7, dtype=torch.bool)},
            InvalidParameterError,
            "include must be one-dimensional integers; got torch.bool of shape (7,).",
        ),
    ],
)
def test_wrong_filters(options, kind, message):
    q, x = vectors()
    with pytest.raises(kind) as error:
        topk(q, x, 2, **options)
    assert str(error.value) == message

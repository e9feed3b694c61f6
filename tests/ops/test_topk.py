"""The exact search against a float64 oracle, on every back end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.ops.similarity import METRICS
from palate.ops.topk import topk
from palate.ranking.exact import STORAGES, CosineRanker

RELAXED = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("n_queries", "n_items", "dim", "k"),
    [(1, 700, 5, 3), (2, 333, 17, 400), (5, 1, 8, 2), (3, 2500, 1, 9), (13, 1500, 33, 50)],
)
def test_random_vectors_equal_the_oracle(backend, check, metric, n_queries, n_items, dim, k):
    q, x = draw(1, n_queries, dim), draw(2, n_items, dim)
    check(topk(q, x, k, metric=metric), q, x, k, metric=metric)


@st.composite
def searches(draw):
    """Small whole numbers at one scale: sums are exact, and ties, zeros and -0.0 abound."""
    n_queries, n_items, dim = (draw(st.integers(*span)) for span in ((1, 4), (0, 40), (1, 6)))
    scale = draw(st.sampled_from([1.0, 2.0**-149, 2.0**-126, 2.0**-70, 2.0**60, 2.0**120]))
    numbers = st.sampled_from([-0.0, 0.0, 1.0, -1.0, 2.0, -3.0])
    matrix = [
        draw(st.lists(numbers, min_size=rows * dim, max_size=rows * dim))
        for rows in (n_queries, n_items)
    ]
    q = torch.tensor(matrix[0], dtype=torch.float32).view(n_queries, dim) * scale
    x = torch.tensor(matrix[1], dtype=torch.float32).view(n_items, dim) * scale
    options = {"metric": draw(st.sampled_from(METRICS))}
    codes = st.integers(0, max(n_items - 1, 0))
    if n_items and draw(st.booleans()):
        pairs = draw(st.lists(st.tuples(st.integers(0, n_queries - 1), codes), max_size=60))
        options["exclude"] = ([p[0] for p in pairs], [p[1] for p in pairs])
    if draw(st.booleans()):
        options["include"] = draw(st.lists(codes, max_size=12)) if n_items else []
    return q, x, draw(st.integers(1, n_items + 3)), options, draw(st.sampled_from([None, 1, 7, 32]))


@RELAXED
@given(search=searches())
def test_adversarial_vectors_equal_the_oracle(backend, check, search):
    q, x, k, options, item_block = search
    check(topk(q, x, k, item_block=item_block, **options), q, x, k, **options)


@RELAXED
@given(search=searches(), storage=st.sampled_from(["float32", "int8"]), cut=st.integers(0, 40))
def test_a_ranker_extended_anywhere_equals_the_oracle(backend, check, search, storage, cut):
    q, x, k, options, item_block = search
    metric = options.pop("metric")
    ranker = CosineRanker(metric=metric, storage=storage, item_block=item_block)
    ranker.fit(x[:cut]).extend(x[cut:])
    check(ranker.topk(q, k, **options), q, x, k, metric=metric, **options)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("metric", METRICS)
def test_near_ties_are_resolved_exactly(backend, check, metric, storage):
    """Rows that differ in their last bits: float32 products alone get their order wrong."""
    base = draw(3, 1, 40)
    x = base + draw(4, 3000, 40) * 1e-6
    x[1000:2000] = x[:1000]
    q = base + draw(5, 3, 40) * 1e-3
    ranker = CosineRanker(metric=metric, storage=storage).fit(x)
    if storage in ("float16", "bfloat16"):
        dtype = getattr(torch, storage)
        unit = x.double() / x.double().norm(dim=1, keepdim=True)
        stored = (unit.float() if metric == "cosine" else x).to(dtype).float()
        wide = q.double() / q.double().norm(dim=1, keepdim=True)
        query = wide.float() if metric == "cosine" else q
        kind = "dot" if metric == "cosine" else metric
        check(ranker.topk(q, 70), query, stored, 70, metric=kind)
    else:
        check(ranker.topk(q, 70), q, x, 70, metric=metric)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_items_come_in_their_order(backend, check, metric):
    x = torch.ones(5000, 3)
    found = topk(torch.ones(7, 3), x, 40, metric=metric)
    assert torch.equal(found.indices, torch.arange(40).expand(7, 40))


@pytest.mark.parametrize("metric", METRICS)
def test_every_item_can_be_asked_for(backend, check, metric):
    q, x = draw(6, 3, 9), draw(7, 1200, 9).round(decimals=1)
    check(topk(q, x, 1200, metric=metric), q, x, 1200, metric=metric)


def test_one_long_vector_does_not_spoil_the_others(backend, check):
    q, x = draw(8, 4, 12), draw(9, 4000, 12)
    x[1234] *= 1e9
    for metric in METRICS:
        check(topk(q, x, 11, metric=metric), q, x, 11, metric=metric)


def test_products_beyond_float32_saturate_and_keep_item_order(backend, check):
    q, x = draw(10, 3, 6) * 1e30, draw(11, 90, 6) * 1e25
    x[40:] *= 1e-20
    check(topk(q, x, 50, metric="dot"), q, x, 50, metric="dot")
    x[:20] *= 1e-22
    check(topk(q, x, 50, metric="euclidean"), q, x, 50, metric="euclidean")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("metric", METRICS)
def test_blocks_batches_and_threads_do_not_change_a_bit(backend, metric, storage):
    q, x = draw(12, 31, 24), draw(13, 1600, 24)
    x[800:] = x[:800] + 1e-7
    expected = CosineRanker(metric=metric, storage=storage).fit(x).topk(q, 15)
    threads = torch.get_num_threads()
    try:
        for n_threads, item_block, rows in ((1, 16, 10), (2, 100, 1), (3, 5000, 7), (2, None, 31)):
            torch.set_num_threads(n_threads)
            ranker = CosineRanker(metric=metric, storage=storage, item_block=item_block).fit(x)
            parts = [ranker.topk(part, 15) for part in q.split(rows)]
            assert torch.equal(torch.cat([p.scores for p in parts]), expected.scores)
            assert torch.equal(torch.cat([p.indices for p in parts]), expected.indices)
    finally:
        torch.set_num_threads(threads)


def test_more_queries_than_a_block_holds(backend):
    q, x = draw(14, 1100, 4), draw(15, 70, 4)
    whole = topk(q, x, 5)
    tight = topk(q, x, 5, memory_budget=200_000)
    assert torch.equal(whole.indices, tight.indices)
    assert torch.equal(whole.scores, tight.scores)
    assert torch.equal(topk(q[1099:], x, 5).indices, whole.indices[1099:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_scored_in_float32(backend, check, dtype):
    q, x = draw(16, 3, 10).to(dtype), draw(17, 500, 10).to(dtype)
    for metric in METRICS:
        found = topk(q, x, 8, metric=metric)
        check(found, q.float(), x.float(), 8, metric=metric)


def test_strided_inputs(backend, check):
    q, x = draw(18, 10, 6)[::2], draw(19, 6, 300).T
    check(topk(q, x, 8), q, x, 8)


def test_empty_sides(backend):
    found = topk(torch.ones(3, 2), torch.ones(0, 2), 4)
    assert found.indices.tolist() == [[-1] * 4] * 3
    assert torch.equal(found.scores, torch.full((3, 4), -torch.inf))
    assert topk(torch.ones(0, 2), torch.ones(5, 2), 4).indices.shape == (0, 4)
    everything = ([0] * 5, range(5))
    assert topk(torch.ones(1, 2), torch.ones(5, 2), 2, exclude=everything).indices.tolist() == [
        [-1, -1]
    ]
    assert topk(torch.ones(1, 2), torch.ones(5, 2), 1, include=[]).indices.tolist() == [[-1]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_names_its_row(backend, value):
    q, x = torch.ones(4, 3), torch.ones(3000, 3)
    x[2017, 1] = value
    for metric in METRICS:
        with pytest.raises(InvalidInputError) as error:
            topk(q, x, 2, metric=metric)
        assert str(error.value) == f"items must be finite numbers; got {value} in row 2017."
    with pytest.raises(InvalidInputError) as error:
        topk(q, x, 2, include=[5, 2017])
    assert str(error.value) == f"items must be finite numbers; got {value} in row 2017."
    q[3, 0] = value
    with pytest.raises(InvalidInputError) as error:
        topk(q, x[:9], 2)
    assert str(error.value) == f"queries must be finite numbers; got {value} in row 3."


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"k": 0}, InvalidParameterError, "k must be an integer of at least 1; got 0."),
        (
            {"metric": "l2"},
            InvalidParameterError,
            "metric must be one of 'cosine', 'dot', 'euclidean'; got 'l2'.",
        ),
        (
            {"item_block": 0},
            InvalidParameterError,
            "item_block must be an integer of at least 1; got 0.",
        ),
        (
            {"memory_budget": 0},
            InvalidParameterError,
            "memory_budget must be an integer of at least 1; got 0.",
        ),
        (
            {"queries": torch.ones(2, 4)},
            InvalidInputError,
            "queries must have the 3 columns of the items; got 4.",
        ),
        (
            {"items": torch.ones(3, dtype=torch.int64)},
            InvalidInputError,
            "items must be a two-dimensional float tensor; got torch.int64 of shape (3,).",
        ),
        (
            {"queries": np.ones((2, 3))},
            InvalidInputError,
            "queries must be a two-dimensional float tensor; got ndarray.",
        ),
    ],
)
def test_wrong_arguments(options, kind, message):
    arguments = {"queries": torch.ones(2, 3), "items": torch.ones(5, 3), "k": 2} | options
    with pytest.raises(kind) as error:
        topk(**arguments)
    assert str(error.value) == message


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_coarser_products_and_autocast_do_not_change_the_answer(backend, check, precision):
    q, x = draw(20, 3, 30), draw(21, 400, 30)
    x[200:] = x[:200] + 1e-4
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = topk(q, x, 9)
    finally:
        torch.set_float32_matmul_precision(before)
    check(found, q, x, 9)


def test_gradients_are_not_recorded(backend):
    q, x = draw(22, 2, 4).requires_grad_(), draw(23, 30, 4).requires_grad_()
    assert not topk(q, x, 3).scores.requires_grad

"""What only the search in tiles of bfloat16 has: floors from groups, and leaving tiles again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.ops import _topk_native, _topk_threads
from palate.ops.topk import topk
from palate.ranking import CosineRanker

pytestmark = pytest.mark.skipif(
    not _topk_native.has_tiles(), reason="this processor multiplies no tiles of bfloat16"
)


def _vectors(n, dim, seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(1, dim, generator=generator)
    return common + spread * torch.randn(n, dim, generator=generator)


@pytest.mark.parametrize("spread", [1.0, 0.1, 1e-3, 1e-6])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_items_however_alike_are_told_apart(check, metric, spread):
    items, queries = _vectors(1700, 45, 0, spread), _vectors(37, 45, 1)
    check(topk(queries, items, 11, metric=metric), queries, items, 11, metric=metric)


def test_the_answer_stays_where_float32_takes_over(monkeypatch):
    """Bfloat16 tells these items apart so badly that the search leaves the tiles."""
    items, queries = _vectors(20_000, 64, 0, 0.03), _vectors(64, 64, 1)
    with_tiles = topk(queries, items, 10)
    monkeypatch.setattr(_topk_native, "has_tiles", lambda: False)
    without = topk(queries, items, 10)
    assert torch.equal(with_tiles.indices, without.indices)
    assert torch.equal(with_tiles.scores, without.scores)


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    n_items=st.integers(1, 1400) | st.integers(1, 4600),
    n_queries=st.integers(16, 70),
    k=st.integers(1, 140),
    n_excluded=st.integers(0, 80),
    metric=st.sampled_from(["cosine", "dot", "euclidean"]),
    seed=st.integers(0, 10**6),
)
def test_floors_never_count_on_what_is_excluded(
    check, n_items, n_queries, k, n_excluded, metric, seed
):
    """The best items of every query are the excluded ones: only groups without them may count."""
    items, queries = _vectors(n_items, 6, seed), _vectors(n_queries, 6, seed + 1)
    best = topk(queries, items, max(1, n_excluded), metric=metric).indices
    rows = torch.arange(n_queries).repeat_interleave(best.shape[1])
    real = (best.flatten() >= 0) & (n_excluded > 0)
    asked = {"exclude": (rows[real], best.flatten()[real]), "metric": metric}
    check(topk(queries, items, k, **asked), queries, items, k, **asked)


def test_floors_from_blocks_of_several_norms_lie_as_low_as_the_longest_items_need(
    monkeypatch, check
):
    """Rounding the query raises some items and lowers better ones, behind a block of zeros."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    query = torch.ones(65)
    query[:32], query[32:64] = 1 + 2**-8 - 2**-13, 1 + 2**-8 + 2**-13
    items = torch.zeros(2300, 65)
    items[1024 : 1024 + 8 * 40 : 8, 32:64] = 1.0  # screened too high, one in each group
    items[2100:2140, :32], items[2100:2140, 64] = 1.0, 2**-6  # better, and screened lower
    queries = query.repeat(20, 1)
    found = topk(queries, items, 40, metric="dot")
    assert found.indices[0].tolist() == list(range(2100, 2140))
    check(found, queries, items, 40, metric="dot")


@pytest.mark.parametrize("k", [5, 100])
@pytest.mark.parametrize("every", [2, 5])
def test_floors_of_chosen_items(check, every, k):
    """Few chosen items are searched alone, by their codes; of many, each item is asked about."""
    items, queries = _vectors(2600, 7, 0), _vectors(40, 7, 1)
    chosen = torch.arange(0, 2600, every)
    best = topk(queries, items, 30, include=chosen).indices
    asked = {"exclude": (torch.arange(40).repeat_interleave(30), best.flatten()), "include": chosen}
    check(topk(queries, items, k, **asked), queries, items, k, **asked)


@pytest.mark.parametrize("k", [5, 100])
def test_floors_in_a_later_part_of_a_catalogue(monkeypatch, check, k):
    """The first query may have nothing of the first part, so its floors come from the second."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    items, queries = _vectors(2600, 7, 0), _vectors(40, 7, 1)
    ranker = CosineRanker().fit(items[:900])
    ranker.extend(items[900:2500])
    ranker.extend(items[2500:])
    best = 900 + topk(queries, items[900:], 30).indices
    rows = torch.cat([torch.zeros(900, dtype=torch.int64), torch.arange(40).repeat_interleave(30)])
    exclude = rows, torch.cat([torch.arange(900), best.flatten()])
    check(ranker.topk(queries, k, exclude=exclude), queries, items, k, exclude=exclude)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_best_of_as_many_groups_as_places_is_the_floor(check, k):
    """One place less would lose the k-th item: it stands in a group of its own, and last."""
    items, queries = torch.zeros(500, 2), torch.ones(16, 2)
    items[:, 0] = -1.0
    places = torch.tensor([3, 100, 499])[:k]
    items[places] = 1.0
    items[places, 1] = torch.tensor([0.9, 0.5, 0.1])[:k]
    check(topk(queries, items, k, metric="dot"), queries, items, k, metric="dot")


@pytest.mark.parametrize("n_queries", [8, 20])
def test_vectors_without_a_column_tie(n_queries):
    found = topk(torch.empty(n_queries, 0), torch.empty(100, 0), 3, metric="dot")
    assert found.indices.tolist() == [[0, 1, 2]] * n_queries
    assert not found.scores.any()


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_ties_with_the_first_floors_go_to_the_first_item(monkeypatch, check, order, metric):
    """Half of the items are equal and best: the k-th best group ties with items before it."""
    monkeypatch.setattr(_topk_threads, "run_sharing", lambda work, n: [work(i) for i in order])
    monkeypatch.setattr(_topk_native, "SMALL_WORK", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    items = torch.ones(2100, 5)
    items[::2] = torch.tensor([1.0, 2.0, 0.0, 1.0, 1.0])
    queries = torch.ones(21, 5) * torch.arange(21)[:, None]  # the first ties with everything
    for k in (1, 60, 130):
        found = topk(queries, items, k, metric=metric, item_block=16)
        check(found, queries, items, k, metric=metric)


def test_numbers_too_small_for_bfloat16_count():
    """A product with a number that tiles take for 0 must not be lost in the error bound."""
    items = torch.zeros(40, 3)
    items[:, 0] = torch.arange(1, 41) * 1e-40
    queries = torch.full((17, 3), 1e17)
    found = topk(queries, items, 3, metric="dot")
    assert found.indices.tolist() == [[39, 38, 37]] * 17

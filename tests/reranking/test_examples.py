"""Prefixes, recent events and candidates, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palate._options import RunOptions
from palate._random import ModuleSeed
from palate.data.histories import Histories
from palate.data.items import ItemTable
from palate.encoders.item.ids import IdEncoder
from palate.encoders.user.gru import GRUEncoder
from palate.reranking.examples import (
    last_prefixes,
    make_examples,
    recent_events,
    similarity,
)
from palate.training.network import TasteNetwork

ROWS = [[1, 2, 3, 4, 5], [6], [], [7, 8], [9, 1, 9]]
N_ITEMS, DIM = 11, 6


def histories(weights=False):
    items = np.array([i for row in ROWS for i in row])
    return Histories(
        np.concatenate([[0], np.cumsum([len(row) for row in ROWS])]),
        items,
        None,
        np.linspace(0.5, 2, len(items)).astype(np.float32) if weights else None,
        n_users=len(ROWS),
    )


def as_pairs(found):
    spans = np.split(found.items, found.indptr[1:-1])
    return [(span.tolist(), int(target)) for span, target in zip(spans, found.targets, strict=True)]


def test_the_last_events_of_all_are_targets():
    found = last_prefixes(histories(), 3, torch.Generator())
    assert as_pairs(found) == [([1, 2, 3, 4], 5), ([7], 8), ([9, 1], 9)]
    np.testing.assert_array_equal(found.weights, np.ones(3, np.float32))


def test_more_rows_take_more_events_and_too_many_are_drawn():
    found = as_pairs(last_prefixes(histories(), 1000, torch.Generator()))
    assert found == [
        *(([1], 2), ([1, 2], 3), ([1, 2, 3], 4), ([1, 2, 3, 4], 5)),
        *(([7], 8), ([9], 1), ([9, 1], 9)),
    ]
    drawn = as_pairs(last_prefixes(histories(), 4, torch.Generator().manual_seed(1)))
    assert len(drawn) == 4
    assert [pair for pair in found if pair in drawn] == drawn


def test_weights_are_those_of_the_targets():
    found = last_prefixes(histories(weights=True), 3, torch.Generator())
    whole = histories(weights=True).weights
    np.testing.assert_array_equal(found.weights, whole[[4, 7, 10]])


def test_nothing_to_learn_from():
    empty = Histories(np.array([0, 1]), np.array([4]), n_users=1)
    assert len(last_prefixes(empty, 5, torch.Generator()).targets) == 0


def test_recent_events_come_last_first():
    codes, known = recent_events(np.array([0, 3, 4]), np.array([5, 6, 7, 8]), 5)
    assert codes.tolist() == [[7, 6, 5], [8, 0, 0]]
    assert known.tolist() == [[True] * 3, [True, False, False]]


@pytest.fixture
def network():
    with ModuleSeed(0):
        items = IdEncoder().build(ItemTable.without_content(N_ITEMS), DIM, None)
        user = GRUEncoder(dropout=0.5, n_layers=2, max_length=4)
        return TasteNetwork(items, user, DIM, "cosine", torch.ones(N_ITEMS, dtype=bool)).eval()


def test_candidates_are_the_first_stages(network):
    prefixes = last_prefixes(histories(), 1000, torch.Generator())
    vectors = network.catalogue()
    found = make_examples(network, vectors, prefixes, 4, 3, dropout=False)
    rows = vectors.double().numpy()
    for row, (span, target) in enumerate(as_pairs(prefixes)):
        user = found.users[row].double().numpy()
        cosines = rows @ user / np.linalg.norm(rows, axis=1) / np.linalg.norm(user)
        allowed = [i for i in range(N_ITEMS) if i not in span or i == target]
        best = sorted(allowed, key=lambda i: -cosines[i])[:4]
        assert found.codes[row].tolist() == [*best, target]
        assert found.valid[row].tolist() == [*(i != target for i in best), True]
        shown = np.where(found.valid[row], cosines[[*best, target]], 0)
        np.testing.assert_allclose(found.scores[row], shown, atol=1e-6)
        recent = span[::-1][:3]
        assert found.recent[row, : len(recent)].tolist() == recent
        assert found.known[row].tolist() == [t < len(recent) for t in range(3)]
    assert not network.training
    assert not network.users.training


def test_a_small_catalogue_leaves_places_empty(network):
    prefixes = last_prefixes(histories(), 3, torch.Generator())
    found = make_examples(network, network.catalogue(), prefixes, 30, 2, dropout=False)
    # Eleven items, less the viewed ones that are not the target, less the target, and the target.
    viewed = [len(set(span) - {target}) for span, target in as_pairs(prefixes)]
    assert found.valid.sum(1).tolist() == [N_ITEMS - n for n in viewed]
    assert found.scores.isfinite().all()


def test_dropout_blurs_the_users_and_comes_from_the_seed(network):
    prefixes = last_prefixes(histories(), 1000, torch.Generator())

    def users(seed, dropout):
        with ModuleSeed(seed):
            vectors = network.catalogue()
            return make_examples(network, vectors, prefixes, 4, 3, dropout=dropout).users

    plain = users(0, False)
    torch.testing.assert_close(users(1, False), plain, rtol=0, atol=0)
    torch.testing.assert_close(users(1, True), users(1, True), rtol=0, atol=0)
    assert not torch.allclose(users(1, True), plain)
    assert RunOptions(device="cpu").torch_device == plain.device


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_similarities_of_pairs_are_those_of_the_search(metric):
    from palate.ops.topk import topk

    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(3, 6, generator=generator), torch.randn(3, 6, generator=generator)
    found = topk(users, items, 3, metric=metric)
    for row in range(3):
        place = found.indices[row].tolist().index(row)
        own = similarity(users, items, metric)[row]
        assert float(own) == pytest.approx(float(found.scores[row, place]), abs=1e-5)

"""Which items are candidates: all that training knows, or those of another domain and some more."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from palate import learning
from palate.data.coded import CodedEvents
from palate.data.histories import Histories
from palate.data.items import ItemTable
from palate.data.rehearsal import Meeting
from palate.training.pool import candidate_pool


@pytest.mark.parametrize(("n_old", "n_more"), [(30, 4), (2, 2), (0, 0)])
def test_another_domain_and_as_many_of_the_rest(n_old, n_more):
    seen = torch.zeros(40, dtype=torch.bool)
    seen[:n_old] = True
    own = np.array([35, 33, 35, 38, 31])
    seen[own] = True
    draws = [
        candidate_pool(seen, own, torch.Generator().manual_seed(seed)).tolist() for seed in range(9)
    ]
    for pool in draws:
        assert pool == sorted(set(pool))
        assert set(own.tolist()) <= set(pool)
        assert len(pool) == 4 + n_more
        assert all(seen[code] for code in pool)
    assert len(set(map(tuple, draws))) == (9 if n_old == 30 else 1)
    assert candidate_pool(seen).tolist() == seen.nonzero().flatten().tolist()


@pytest.mark.parametrize("met", [Meeting(0, 0, 40), Meeting(0, 0, 39), Meeting(1, 1, 40)], ids=str)
def test_learning_on_tells_items_from_the_pool(monkeypatch, chains, options, plan, met):
    """Where something is met, all items; where nothing is, twice the new ones."""
    plan = dataclasses.replace(plan, epochs=1, validation_fraction=0.2)
    n_items = int(chains.items.max()) + 1
    learned = learning.learn(plan, chains, ItemTable.without_content(n_items), 0, options)
    pools, counts = [], []
    run_stage = learning.run_stage

    def spy(stage):
        pools.append(stage.step.pool)
        counts.append(stage.step.counts)
        return run_stage(stage)

    monkeypatch.setattr(learning, "run_stage", spy)
    grown = chains.append(
        CodedEvents(np.full(3, chains.n_users), n_items + np.arange(3)), chains.n_users + 1
    ).compact()
    assert isinstance(grown, Histories)
    learning.learn_on(
        plan,
        learned.network,
        learned.optimizer_state,
        grown,
        np.array([chains.n_users]),
        met,
        ItemTable.without_content(n_items + 3),
        0,
        options,
    )
    assert len(pools[0]) == (6 if met == (0, 0, 40) else n_items + 3)
    assert pools[0].tolist()[-3:] == list(range(n_items, n_items + 3))
    assert counts[0].tolist()[-3:] == [1, 1, 1]
    if not met.n_more:  # shares are those of what is learned from
        assert not counts[0][:n_items].any()

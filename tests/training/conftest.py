"""A small network over ids, and histories in which item i is followed by item i + 1."""

import numpy as np
import pytest
import torch

from palate._options import RunOptions
from palate._random import ModuleSeed
from palate.data import batches
from palate.data.histories import Histories
from palate.data.items import ItemTable
from palate.encoders.item.ids import IdEncoder
from palate.encoders.user.gru import GRUEncoder
from palate.plan import Plan
from palate.training.network import TasteNetwork

N_ITEMS, DIM = 11, 6


@pytest.fixture
def options():
    return RunOptions(device="cpu", progress=False)


@pytest.fixture
def make_network():
    def make(*, metric="cosine", user=None, seen=None, seed=0, items=None):
        user = GRUEncoder(dropout=0.0, max_length=5) if user is None else user
        seen = torch.ones(N_ITEMS, dtype=torch.bool) if seen is None else seen
        with ModuleSeed(seed):
            if items is None:
                table = ItemTable.without_content(len(seen))
                items = IdEncoder().build(table, DIM, None)
                items.extend(table, seen, None)
            return TasteNetwork(items, user, DIM, metric, seen)

    return make


@pytest.fixture
def timed():
    """Return histories of 5 users, of up to 13 events at uneven times."""
    rng = np.random.default_rng(2)
    lengths = [4, 6, 13, 1, 3]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = np.concatenate([np.sort(rng.integers(0, 50, n)) for n in lengths])
    return Histories(indptr, np.arange(indptr[-1]) * 7 % N_ITEMS, times, n_users=5)


@pytest.fixture
def all_timed(monkeypatch):
    monkeypatch.setattr(batches, "WITHOUT_TIMES", 0.0)


@pytest.fixture
def chains():
    """Return histories of 60 users: 2 to 8 events in a row, from a random start on a circle."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 9, 60)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    starts = np.repeat(rng.integers(0, N_ITEMS, 60), lengths)
    items = (starts + np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)) % N_ITEMS
    return Histories(indptr, items, n_users=60)


@pytest.fixture
def plan():
    """Return a plan of three epochs over ids, without validation."""
    return Plan(
        user_encoder=GRUEncoder(dropout=0.1, max_length=5),
        item_encoder=IdEncoder(),
        ranker=None,
        objective=None,
        metric="cosine",
        dim=8,
        pretrain_epochs=0,
        epochs=3,
        batch_size=16,
        learning_rate=0.01,
        weight_decay=0.0,
        validation_fraction=0.0,
        patience=None,
    )

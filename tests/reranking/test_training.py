"""Learning a correction: what pays is learned, what does not is left at zero."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.base import clone

from palate import Reranker
from palate._options import RunOptions
from palate._random import ModuleSeed
from palate.data.histories import Histories
from palate.encoders.user.gru import GRUEncoder
from palate.exceptions import TrainingInterruptedWarning
from palate.protocols import ItemModule
from palate.reranking import training
from palate.reranking.examples import Examples
from palate.reranking.training import candidate_loss, held_gains, learn_reranker
from palate.training.network import TasteNetwork
from palate.training.validation import hold_out

N_ITEMS, DIM, KINDS = 40, 6, 5
OPTIONS = RunOptions(device="cpu", progress=False)


class Labelled(ItemModule):
    """Vectors that say nothing, and content that says the kind of an item."""

    has_content = True

    def __init__(self, told=True):
        super().__init__()
        self.register_buffer("rows", torch.randn(N_ITEMS, DIM))
        kinds = torch.eye(KINDS)[torch.arange(N_ITEMS) % KINDS]
        self.register_buffer("kinds", kinds if told else torch.randn(N_ITEMS, KINDS))

    def forward(self, codes=None, *, content_only=False):
        return self.rows if codes is None else self.rows[codes]

    def content(self, codes=None):
        return self.kinds if codes is None else self.kinds[codes]


def make_network(told=True):
    with ModuleSeed(0):
        user = GRUEncoder(dropout=0.0, max_length=8)
        seen = torch.ones(N_ITEMS, dtype=torch.bool)
        return TasteNetwork(Labelled(told), user, DIM, "cosine", seen).eval()


def loyal_histories(n_users=150):
    """Everybody stays with one kind."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.arange(kind % KINDS, N_ITEMS, KINDS))[:5] for kind in range(n_users)]
    indptr = np.arange(0, 5 * n_users + 1, 5)
    return Histories(indptr, np.concatenate(rows), n_users=n_users)


def learned(spec, network=None, fraction=0.3, before=None, n_epochs=None, seed=3):
    network = make_network() if network is None else network
    left, holdout = hold_out(loyal_histories(), fraction, torch.Generator().manual_seed(0))
    n_epochs = spec.epochs if n_epochs is None else n_epochs
    return learn_reranker(spec, network, left, holdout, seed, n_epochs, OPTIONS, before)


@pytest.mark.parametrize("mode", ["gate", "film", "attention"])
def test_content_that_tells_is_learned(mode):
    module, records = learned(Reranker(mode, n_candidates=N_ITEMS, epochs=4, learning_rate=0.05))
    assert [record["stage"] for record in records] == ["rerank"] * 4
    assert [record["epoch"] for record in records] == [0, 1, 2, 3]
    assert records[-1]["loss"] < records[0]["loss"]
    assert records[-1]["ndcg@10"] > 0.5
    assert float(module.strength) in (0.5, 1.0, 2.0)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_it_stays_zero_where_nothing_helps():
    # One candidate: there is no order to change.
    module, records = learned(Reranker("attention", n_candidates=1, epochs=2))
    assert len(records) == 2
    assert float(module.strength) == 0


def test_the_network_stays_as_it_is():
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    learned(Reranker("attention", epochs=1), network)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not network.training


def test_the_same_seed_learns_the_same():
    spec = Reranker("gate", epochs=2)
    one, again, other = (learned(spec, seed=seed)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_without_held_out_users_the_last_epoch_stays():
    module, records = learned(Reranker("attention", epochs=2), fraction=0.0)
    assert [record["ndcg@10"] for record in records] == [None, None]
    assert float(module.strength) == 1
    assert float(module.weight) != 0


def test_no_epoch_and_no_example_change_nothing():
    module, records = learned(Reranker("attention"), n_epochs=0)
    assert records == []
    assert float(module.strength) == 0
    alone = Histories(np.array([0, 1]), np.array([4]), n_users=1)
    module, records = learn_reranker(
        Reranker("attention"), make_network(), alone, None, 0, 3, OPTIONS
    )
    assert records == []
    assert float(module.strength) == 0


def test_learning_on_goes_on_and_keeps_the_start_if_it_is_better():
    spec = Reranker("attention", n_candidates=N_ITEMS, epochs=4, learning_rate=0.05)
    first, _ = learned(spec)
    weights = {name: value.clone() for name, value in first.state_dict().items()}
    # Hardly a step: no epoch can be better, but the correction is not thrown away.
    kept, records = learned(clone(spec).set_params(learning_rate=1e-9), before=first)
    assert len(records) == 4
    assert float(kept.weight) == pytest.approx(float(first.weight), abs=1e-5)
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in weights.items())
    unmoved, _ = learned(spec, before=first, n_epochs=0)
    assert all(torch.equal(value, unmoved.state_dict()[name]) for name, value in weights.items())


def test_an_interrupt_keeps_the_best(monkeypatch):
    calls = []
    original = training.candidate_loss

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(training, "candidate_loss", interrupted)
    spec = Reranker("attention", n_candidates=N_ITEMS, epochs=5, batch_size=300, learning_rate=0.05)
    with pytest.warns(TrainingInterruptedWarning) as caught:
        _, records = learned(spec)
    assert len(records) == 1
    assert str(caught[0].message) == (
        "Training was interrupted in epoch 1 of stage 'rerank'; the best correction so far is kept."
    )


def make_examples(codes, scores, valid):
    n = len(codes)
    return Examples(
        torch.zeros(n, DIM),
        torch.tensor(codes),
        torch.tensor(scores),
        torch.tensor(valid),
        torch.zeros(n, 1, dtype=torch.int64),
        torch.zeros(n, 1, dtype=torch.bool),
        torch.tensor([1.0, 3.0, 0.5][:n]),
    )


def test_the_loss_against_its_formula():
    examples = make_examples(
        [[4, 7, 9], [5, 3, 3]],
        [[0.9, 0.2, 0.4], [0.1, 0.0, 0.7]],
        [[True, True, True], [True, False, True]],
    )
    change = torch.tensor([[0.0, 0.1, -0.2], [0.3, 99.0, 0.0]])
    found = candidate_loss(examples, change, torch.tensor(math.log(5.0)))
    first = [math.exp(5 * s) for s in (0.9, 0.3, 0.2)]
    second = [math.exp(5 * s) for s in (0.4, 0.7)]
    losses = [-math.log(first[-1] / sum(first)), -math.log(second[-1] / sum(second))]
    expected = (losses[0] + 3 * losses[1]) / 4
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_ndcg_against_its_formula():
    found = [[True, True, False, True]] * 2
    examples = make_examples(
        # The third list does not hold its target, the second ties with a later item.
        [[4, 7, 9, 9], [5, 3, 2, 2], [1, 2, 3, 8]],
        [[0.9, 0.8, 0.0, 0.7], [0.7, 0.1, 0.0, 0.7], [0.3, 0.2, 0.1, 0.9]],
        [*found, [True] * 4],
    )
    found = held_gains(examples, torch.zeros(3, 4)).tolist()
    assert found == pytest.approx([1 / math.log2(4), 1, 0])
    raised = torch.tensor([[0.0, 0.0, 0.0, 0.15], [0.1, 0.0, 0.0, 0.0], [0.0] * 4])
    found = held_gains(examples, raised).tolist()
    assert found == pytest.approx([1 / math.log2(3), 1 / math.log2(3), 0])

"""The average of the weights: against a float64 sum of snapshots, and inside a training stage."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from palate._options import RunOptions
from palate.data.batches import Batch
from palate.data.items import ItemTable
from palate.data.rehearsal import Meeting
from palate.learning import learn, learn_on
from palate.protocols import ItemModule
from palate.training import loop
from palate.training.averaging import SNAPSHOTS, WeightAverage
from palate.training.loop import Stage, run_stage


def shares_of(n_taken, n_an_epoch, epochs):
    """Return the weight of each snapshot in the average: products of what later ones left."""
    enters = [1.0] + [max(1 / (t + 1), 1 / (n_an_epoch * epochs)) for t in range(1, n_taken + 1)]
    left = np.cumprod([1.0, *(1 - np.array(enters[:0:-1]))])[::-1]
    return np.array(enters) * left


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(3, 2))
        self.b = nn.Parameter(torch.zeros(5))
        self.fixed = nn.Parameter(torch.zeros(4), requires_grad=False)
        self.register_buffer("buffer", torch.zeros(2))


@pytest.mark.parametrize("epochs", [0.25, 1.5])
def test_it_is_the_weighted_sum_of_snapshots(epochs):
    generator = torch.Generator().manual_seed(0)
    network, n_steps = Frozen(), 7
    average = WeightAverage(network, epochs)
    seen = [network.a.detach().clone()]
    for _ in range(3):
        for step in range(n_steps):
            for tensor in (network.a, network.b, network.fixed, network.buffer):
                tensor.data.copy_(torch.randn(tensor.shape, generator=generator))
            average.after_step(step + 1, n_steps)
            seen.append(network.a.detach().clone())
    right = np.tensordot(shares_of(21, n_steps, epochs), torch.stack(seen).double().numpy(), 1)
    last = copy.deepcopy(network.state_dict())
    with average.swapped():
        np.testing.assert_allclose(network.a.detach(), right, rtol=1e-5, atol=1e-6)
        assert not torch.equal(network.b, last["b"])
        assert torch.equal(network.fixed, last["fixed"])
        assert torch.equal(network.buffer, last["buffer"])
    for name, value in network.state_dict().items():
        assert torch.equal(value, last[name]), name
    average.settle()
    np.testing.assert_allclose(network.a.detach(), right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("n_steps", "n_taken"), [(1, 1), (31, 31), (32, 32), (33, 32), (63, 32), (1000, 32)]
)
def test_snapshots_an_epoch(n_steps, n_taken):
    average = WeightAverage(nn.Linear(2, 1), 1.0)
    taken = []
    for step in range(n_steps):
        before = average.n_taken
        average.after_step(step + 1, n_steps)
        if average.n_taken > before:
            taken.append(step + 1)
    assert len(taken) == n_taken == min(SNAPSHOTS, n_steps)
    assert taken[-1] == n_steps
    gaps = np.diff([0, *taken])
    assert gaps.max() - gaps.min() <= 1


class Items(ItemModule):
    def refresh(self, context):
        self.at_refresh = float(self.weight.detach())


class Slope(nn.Module):
    """One weight, that every step of SGD's kind moves down."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, batch):
        return self.network.items.weight * batch.weights.sum()


@pytest.fixture
def kept_rate(monkeypatch):
    """The rate stays where it is: each step is 0.5."""
    monkeypatch.setattr(loop, "rate_factor", lambda *_: 1.0)


def make_stage(**kwargs):
    network = nn.Module()
    network.items = Items()
    network.items.weight = nn.Parameter(torch.tensor(10.0))
    one = torch.ones(1, 1, dtype=torch.int64)
    batches = [Batch(one, one.bool(), one, torch.ones(1, 1))] * 2
    settings = {
        "name": "fit",
        "step": Slope(network),
        "batches": lambda: (batches, 2),
        "n_epochs": 3,
        "learning_rate": 0.5,
        "weight_decay": 0.0,
        "options": RunOptions(device="cpu", progress=False),
    }
    return Stage(**settings | kwargs), network


@pytest.mark.usefixtures("kept_rate")
def test_the_average_is_validated_and_kept_and_training_goes_on_from_the_last_step():
    seen, epochs = [], 1.0
    stage, network = make_stage(
        averaging=epochs,
        keep_start=True,
        validate=lambda: seen.append(float(network.items.weight.detach())) or len(seen),
    )
    run_stage(stage)
    path = 10 - 0.5 * np.arange(7)  # one weight after each step: training never sees the average
    right = [path[: 1 + 2 * e] @ shares_of(2 * e, 2, epochs) for e in range(4)]
    assert seen == pytest.approx(right, rel=1e-5)
    assert network.items.weight.item() == pytest.approx(right[-1], rel=1e-5)
    assert network.items.at_refresh == pytest.approx(right[-1], rel=1e-5)


@pytest.mark.usefixtures("kept_rate")
@pytest.mark.parametrize("interrupted", [False, True])
def test_without_validation_the_average_of_the_end_is_kept(interrupted):
    def stop(record):
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    options = RunOptions(device="cpu", progress=False, on_epoch_end=stop if interrupted else None)
    stage, network = make_stage(averaging=1.0, options=options)
    if interrupted:
        with pytest.warns(UserWarning, match="the weights reached so far are kept"):
            run_stage(stage)
    else:
        run_stage(stage)
    n_steps = 4 if interrupted else 6
    path = 10 - 0.5 * np.arange(n_steps + 1)
    right = path @ shares_of(n_steps, 2, 1.0)
    assert network.items.weight.item() == pytest.approx(right, rel=1e-5)
    # What is stored for the catalogue belongs to the weights that stay.
    assert network.items.at_refresh == pytest.approx(right, rel=1e-5)


@pytest.mark.usefixtures("kept_rate")
def test_no_average_is_what_it_was():
    stage, network = make_stage()
    run_stage(stage)
    assert network.items.weight.item() == pytest.approx(7.0)


def test_real_training_takes_the_same_path_under_the_average(chains, options, plan):
    table = ItemTable.without_content(11)
    plain = learn(plan, chains, table, 0, options)
    smooth = learn(dataclasses.replace(plan, averaging=2.0), chains, table, 0, options)
    assert [r["loss"] for r in plain.records] == [r["loss"] for r in smooth.records]
    moments, others = plain.optimizer_state, smooth.optimizer_state
    assert all(torch.equal(moments[n][k], others[n][k]) for n in moments for k in moments[n])
    weight, averaged = plain.network.items.weight, smooth.network.items.weight
    assert not torch.equal(weight, averaged)
    # Nothing but a moment passed since the average looked: they are near each other.
    weight, averaged = weight.detach(), averaged.detach()
    assert float((weight - averaged).norm() / weight.norm()) < 0.5


def test_learning_on_starts_from_the_average(chains, options, plan):
    table, plan = ItemTable.without_content(11), dataclasses.replace(plan, averaging=1.0)
    first = learn(plan, chains, table, 0, options)
    still = dataclasses.replace(plan, epochs=0)
    users = np.arange(chains.n_users)
    before = first.network, first.optimizer_state
    again = learn_on(still, *before, chains, users, Meeting(len(users), 0, 11), table, 1, options)
    state, other = first.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)

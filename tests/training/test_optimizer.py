import copy

import pytest
import torch
from torch import nn

from palate.encoders.item.low_rank import LowRankLinear
from palate.training.optimizer import make_optimizer, read_state


class Net(nn.Module):
    def __init__(self, n_rows=5):
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, 3 * n_rows).view(n_rows, 3))
        self.bias = nn.Parameter(torch.ones(3))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        self.bert = nn.Linear(3, 2)

    def loss(self, step):
        x = torch.sin(torch.arange(len(self.table)) + step) @ self.table
        return (self.bert(x * self.scale + self.bias) ** 2).sum()


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


def run(net, state, steps):
    optimizer = make_optimizer(net, 0.1, 0.01, state)
    for step in steps:
        optimizer.zero_grad()
        net.loss(step).backward()
        optimizer.step()
    return read_state(net, optimizer)


def test_rates_and_decay_of_each_parameter(net):
    optimizer = make_optimizer(net, 0.1, 0.01, {})
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    got = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert got == {
        "table": (0.1, 0.01),
        "bias": (0.1, 0.0),
        "scale": (0.1, 0.0),
        "bert.weight": (pytest.approx(0.002), 0.01),
        "bert.bias": (pytest.approx(0.002), 0.0),
    }
    assert len(optimizer.param_groups) == 4  # few groups: a step is one pass over each
    assert all(group["fused"] for group in optimizer.param_groups)


def test_low_rank_updates_of_a_bert_take_half_of_the_rate(net):
    net.bert = LowRankLinear(net.bert, rank=1)
    optimizer = make_optimizer(net, 0.1, 0.01, {})
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(net.bert.lora_a)] == rates[id(net.bert.lora_b)] == pytest.approx(0.05)
    assert id(net.bert.weight) not in rates


def test_steps_are_those_of_adamw_in_double(net):
    # Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2.
    with torch.no_grad():
        weights = {n: p.double() for n, p in net.named_parameters() if p.requires_grad}
    first = {name: torch.zeros_like(w) for name, w in weights.items()}
    second = {name: torch.zeros_like(w) for name, w in weights.items()}
    optimizer = make_optimizer(net, 0.1, 0.01, {})
    rates = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    for step in range(1, 6):
        optimizer.zero_grad()
        net.loss(step).backward()
        for name, parameter in net.named_parameters():
            if name not in weights:
                continue
            gradient, group = parameter.grad.double(), rates[id(parameter)]
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.98 * second[name] + 0.02 * gradient**2
            size = (second[name] / (1 - 0.98**step)).sqrt() + 1e-8
            weights[name] = weights[name] * (1 - group["lr"] * group["weight_decay"])
            weights[name] -= group["lr"] * first[name] / (1 - 0.9**step) / size
        optimizer.step()
    for name, parameter in net.named_parameters():
        if name in weights:
            torch.testing.assert_close(parameter.double(), weights[name], rtol=1e-5, atol=1e-6)


def test_going_on_equals_never_having_stopped(net):
    other = copy.deepcopy(net)
    run(net, {}, range(6))
    state = run(other, {}, range(3))
    run(other, state, range(3, 6))
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_state_is_a_copy_by_name(net):
    state = run(net, {}, range(3))
    assert set(state) == {"table", "bias", "scale", "bert.weight", "bert.bias"}
    assert state["table"]["exp_avg"].shape == (5, 3)
    assert float(state["table"]["step"]) == 3
    kept = copy.deepcopy(state)
    run(net, state, range(3))
    assert torch.equal(state["table"]["exp_avg"], kept["table"]["exp_avg"])
    assert float(state["table"]["step"]) == 3


def test_new_rows_have_no_past(net):
    state = run(net, {}, range(3))
    grown = Net(n_rows=8)
    moments = make_optimizer(grown, 0.1, 0.0, state).state[grown.table]
    for name in ("exp_avg", "exp_avg_sq"):
        assert moments[name].shape == (8, 3)
        assert torch.equal(moments[name][:5], state["table"][name])
        assert not moments[name][5:].any()
    assert float(moments["step"]) == 3
    run(grown, state, range(2))
    assert torch.isfinite(grown.table).all()


def test_what_does_not_fit_is_forgotten(net):
    state = run(net, {}, range(3))
    fewer = Net(n_rows=2)
    fewer.bert = nn.Linear(3, 4)
    optimizer = make_optimizer(fewer, 0.1, 0.0, state)
    assert fewer.table not in optimizer.state  # rows were lost
    assert fewer.bias in optimizer.state
    wider = Net()
    wider.bert = nn.Linear(7, 2)
    optimizer = make_optimizer(wider, 0.1, 0.0, state)
    assert wider.bert.weight not in optimizer.state
    assert wider.table in optimizer.state
    frozen = Net()
    frozen.table.requires_grad_(False)
    assert frozen.table not in make_optimizer(frozen, 0.1, 0.0, state).state

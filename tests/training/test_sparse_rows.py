"""Rows in use alone get gradients on a large catalogue: the same steps as AdamW's where all are."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from palate import Recommender, RunOptions
from palate.encoders.item import ids
from palate.training.optimizer import (
    clip_gradients,
    has_sparse_gradients,
    make_optimizer,
    read_state,
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(7, 3, generator=generator))
        self.last = nn.Parameter(torch.randn(3, 2, generator=generator))

    def loss(self, codes, *, sparse):
        rows = F.embedding(codes, self.table, sparse=sparse)
        return ((rows @ self.last) ** 2).sum()


@pytest.fixture
def net():
    return Net()


def run(net, batches, *, sparse):
    optimizer = make_optimizer(net, 0.05, 0.1, {})
    for codes in batches:
        optimizer.zero_grad()
        net.loss(torch.tensor(codes), sparse=sparse).backward()
        assert has_sparse_gradients(net) is sparse
        optimizer.step()
    return read_state(net, optimizer)


def test_where_every_row_is_in_use_the_steps_are_those_of_adamw(net):
    other = copy.deepcopy(net)
    batches = [[6, 0, 1, 2, 3, 4, 5, 0], [0, 1, 2, 3, 4, 5, 6], [3, 1, 2, 0, 6, 5, 4, 4, 4]]
    state, same = run(net, batches, sparse=True), run(other, batches, sparse=False)
    torch.testing.assert_close(net.table, other.table, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net.last, other.last, rtol=1e-5, atol=1e-6)
    for key in ("step", "exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(state["table"][key], same["table"][key], rtol=1e-5, atol=1e-7)


def test_rows_out_of_use_rest(net):
    before = net.table.detach().clone()
    state = run(net, [[1, 4], [4, 4]], sparse=True)
    idle = [0, 2, 3, 5, 6]
    assert torch.equal(net.table.detach()[idle], before[idle])
    assert bool((net.table.detach()[[1, 4]] != before[[1, 4]]).all())
    assert not state["table"]["exp_avg"][idle].any()
    assert float(state["table"]["step"]) == 2


def test_clipping_measures_all_gradients_together(net):
    dense = copy.deepcopy(net)
    codes = torch.tensor([5, 2, 5])
    net.loss(codes, sparse=True).backward()
    dense.loss(codes, sparse=False).backward()
    length = np.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in dense.parameters()))
    assert length > 1
    clip_gradients(net.parameters(), 1.0)
    for one, other in zip(net.parameters(), dense.parameters(), strict=True):
        found = one.grad.to_dense() if one.grad.is_sparse else one.grad
        torch.testing.assert_close(found, other.grad / length, rtol=1e-5, atol=1e-7)
    short = [p.grad.clone() for p in net.parameters()]
    clip_gradients(net.parameters(), 1e9)
    assert all(
        torch.equal(a.to_dense(), p.grad.to_dense())
        for a, p in zip(short, net.parameters(), strict=True)
    )


def test_no_gradient_is_no_trouble(net):
    clip_gradients(net.parameters(), 1.0)
    assert not has_sparse_gradients(net)


def test_a_large_catalogue_learns_saves_and_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(ids, "SPARSE_ROWS", 10)
    histories = [[f"i{(u + t) % 20}" for t in range(5)] for u in range(40)]
    options = RunOptions(device="cpu", progress=False)
    model = Recommender(
        item_encoder="id",
        objective="sampled_softmax",
        epochs=4,
        random_state=0,
        validation_fraction=0,
        options=options,
    ).fit(histories)
    losses = [record["loss"] for record in model.history_]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "m")
    again = Recommender.load(tmp_path / "m", options=options)
    for one in (model, again):
        one.partial_fit(histories[:9], epochs=1)
    np.testing.assert_array_equal(model.item_vectors_, again.item_vectors_)

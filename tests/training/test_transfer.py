"""A network readied for another domain: halfway to a fresh one, without a past that is void."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from palate import learning
from palate._random import ModuleSeed
from palate.data.coded import CodedEvents
from palate.data.items import ItemTable
from palate.data.rehearsal import Meeting
from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.pooled import PooledEncoder
from palate.training import transfer

N, DIM, MORE = 11, 6, 3


def moved(network, options, seen):
    with ModuleSeed(5):
        return transfer.move(network, ItemTable.without_content(N + MORE), seen, options)


def test_the_user_encoder_is_drawn_halfway_to_a_fresh_one(make_network, options):
    spec = GRUEncoder(dropout=0.0, max_length=5)
    network = make_network(user=spec)
    network.mean_weight, network.content_weight = 0.7, 0.2
    with torch.no_grad():
        network.log_scale.fill_(9.0)
    before = copy.deepcopy(network)
    seen = torch.ones(N + MORE, dtype=torch.bool)
    assert moved(network, options, seen) == []
    with ModuleSeed(5):
        # New ids are drawn first.
        copy.deepcopy(before).items.extend(ItemTable.without_content(N + MORE), seen, options)
        fresh = PooledEncoder(spec, DIM)
    found = dict(network.users.named_parameters())
    other = dict(fresh.named_parameters())
    for name, parameter in before.users.named_parameters():
        torch.testing.assert_close(found[name], (parameter + other[name]) / 2)
    assert any((found[n] - p).abs().max() > 1e-3 for n, p in before.users.named_parameters())
    assert torch.equal(network.items(torch.arange(N)), before.items(torch.arange(N)))
    assert len(network.items(None)) == N + MORE
    assert network.log_scale == make_network().log_scale
    assert (network.mean_weight, network.content_weight) == (0.0, 0.0)


def test_the_parts_hear_which_items_nothing_was_learned_from(make_network, options, monkeypatch):
    """Items that joined before, without an event, and met now are of the other domain too."""
    known = torch.ones(N, dtype=torch.bool)
    known[[2, 7]] = False
    network = make_network(seen=known)
    heard = []
    monkeypatch.setattr(
        type(network.items),
        "settle",
        lambda self, items, seen, codes, context: heard.append((len(items), codes)) or ["weight"],
    )
    seen = torch.ones(N + MORE, dtype=torch.bool)
    seen[7] = False
    assert moved(network, options, seen) == ["items.weight"]
    assert [(n, codes.tolist()) for n, codes in heard] == [(N + MORE, [2, N, N + 1, N + 2])]


@pytest.mark.parametrize("is_domain", [True, False])
def test_moments_and_corrections_of_what_is_void_are_dropped(
    monkeypatch, chains, options, plan, is_domain
):
    plan = dataclasses.replace(plan, epochs=1)
    learned = learning.learn(plan, chains, ItemTable.without_content(N), 0, options)
    assert "items.weight" in learned.optimizer_state
    before = copy.deepcopy(learned)
    taken = []
    run_stage = learning.run_stage

    def spy(stage):
        taken.append(set(stage.optimizer_state))
        return run_stage(stage)

    move = learning.move
    monkeypatch.setattr(learning, "run_stage", spy)
    monkeypatch.setattr(learning, "move", lambda *given: [*move(*given), "items.weight"])
    grown = chains.append(
        CodedEvents(np.full(3, chains.n_users), N + np.arange(3)), chains.n_users + 1
    ).compact()
    met = Meeting(0, 0, 40) if is_domain else Meeting(1, 1, 40)
    table = ItemTable.without_content(N + 3)
    users = np.array([chains.n_users])
    given = learned.network, learned.optimizer_state, grown, users, met, table, 0, options
    correction = object()
    found = learning.learn_on(plan, *given, correction=correction)
    assert found.correction is (None if is_domain else correction)
    void = {"items.weight"} if is_domain else set()
    assert taken == [set(before.optimizer_state) - void]
    # What was given is as it was.
    assert set(learned.optimizer_state) == set(before.optimizer_state)
    for name, tensor in before.network.state_dict().items():
        assert torch.equal(learned.network.state_dict()[name], tensor)

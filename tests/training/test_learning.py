"""The stages on real networks: what is learned, and that chance is the seed's alone."""

import random

import numpy as np
import pytest
import torch

from palate._options import RunOptions
from palate.data.items import ItemTable
from palate.data.rehearsal import Meeting
from palate.encoders.item.ids import IdEncoder
from palate.encoders.user.gru import GRUEncoder
from palate.learning import learn, learn_on
from palate.plan import Plan

N = 11


def make_plan(**changes):
    plan = {
        "user_encoder": GRUEncoder(dropout=0.1, max_length=5),
        "item_encoder": IdEncoder(),
        "ranker": None,
        "objective": None,
        "metric": "cosine",
        "dim": 8,
        "pretrain_epochs": 1,
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "validation_fraction": 0.2,
        "patience": 100,
    }
    return Plan(**plan | changes)


def run(histories, options, seed=0, **changes):
    return learn(make_plan(**changes), histories, ItemTable.without_content(N), seed, options)


def same(one, two):
    state, other = one.network.state_dict(), two.network.state_dict()
    return all(torch.equal(state[name], other[name]) for name in state)


def test_the_same_seed_gives_the_same_weights(chains, options):
    first, second = run(chains, options), run(chains, options)
    assert same(first, second)
    for one, two in zip(first.records, second.records, strict=True):
        assert (one["loss"], one["ndcg@10"]) == (two["loss"], two["ndcg@10"])
    assert not same(first, run(chains, options, seed=1))


def test_the_global_random_states_are_untouched(chains, options):
    def states():
        return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    before = states()
    learned = run(chains, options)
    learn_on(
        make_plan(),
        learned.network,
        learned.optimizer_state,
        chains,
        np.arange(5),
        Meeting(5, 5, 9),
        ItemTable.without_content(N),
        0,
        options,
    )
    after = states()
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2] == after[2]


def test_what_was_drawn_outside_does_not_matter(chains, options):
    first = run(chains, options)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert same(first, run(chains, options))


def test_both_stages_are_recorded_and_learn(chains, options):
    learned = run(chains, options, pretrain_epochs=2, epochs=25, learning_rate=0.03)
    stages = [(r["stage"], r["epoch"]) for r in learned.records]
    assert stages == [("pretrain", 0), ("pretrain", 1), *(("fit", e) for e in range(25))]
    assert [r["ndcg@10"] is None for r in learned.records] == [True] * 2 + [False] * 25
    losses = [r["loss"] for r in learned.records if r["stage"] == "fit"]
    assert losses[-1] < losses[0] / 2
    assert max(r["ndcg@10"] for r in learned.records[2:]) > 0.9  # the next item is the next code
    assert not learned.network.training
    assert learned.optimizer_state


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"epochs": 0, "pretrain_epochs": 0}])
def test_stages_may_be_left_out(chains, options, changes):
    learned = run(chains, options, **changes)
    assert [r["stage"] for r in learned.records] == ["pretrain"] * changes.get("pretrain_epochs", 1)
    assert learned.optimizer_state == {}


def test_going_on_leaves_what_there_was(chains, options):
    learned = run(chains, options)
    kept = {name: value.clone() for name, value in learned.network.state_dict().items()}
    moments = learned.optimizer_state["items.weight"]["exp_avg"].clone()
    table = ItemTable.without_content(N + 2)
    grown = chains.append(
        type(chains.row(0))(np.array([0, 60, 60]), np.array([N, N, 0])), 61
    ).compact()
    more = learn_on(
        make_plan(validation_fraction=0.0),
        learned.network,
        learned.optimizer_state,
        grown,
        np.array([0, 3, 60]),
        Meeting(3, 3, 9),
        table,
        5,
        options,
    )
    for name, value in learned.network.state_dict().items():
        assert torch.equal(value, kept[name])
    assert torch.equal(learned.optimizer_state["items.weight"]["exp_avg"], moments)
    vectors = more.network.catalogue()
    assert vectors.shape == (N + 2, 8)
    assert vectors[N].any()
    assert not vectors[N + 1].any()  # nobody has seen it
    assert more.network.seen.tolist() == [True] * (N + 1) + [False]
    assert more.optimizer_state["items.weight"]["exp_avg"].shape == (N + 2, 8)
    assert [r["stage"] for r in more.records] == ["fit", "fit"]


def test_an_interruption_in_the_first_stage_ends_the_training(chains):
    def interrupt(record):
        raise KeyboardInterrupt

    options = RunOptions(device="cpu", progress=False, on_epoch_end=interrupt)
    with pytest.warns(UserWarning, match="interrupted in epoch 1 of stage 'pretrain'"):
        learned = run(chains, options, pretrain_epochs=3)
    assert [r["stage"] for r in learned.records] == ["pretrain"]
    assert not learned.network.training


@pytest.mark.parametrize(
    ("first_new", "rehearsal", "n_items", "epochs", "restarts"),
    [
        (N, None, 40, 1, True),
        (N, 0.0, 40, 1, True),
        (N, 0.5, 40, 1, False),
        (0, None, 40, 1, False),
        (N, None, 39, 1, False),  # a few new items are no other catalogue
        (N, None, 40, 0, False),  # nothing would be learned in place of what is let go
    ],
)
def test_another_catalogue_gets_a_temperature_of_its_own(
    chains, options, first_new, rehearsal, n_items, epochs, restarts
):
    fresh = run(chains, options, pretrain_epochs=0, epochs=0).network.log_scale.item()
    learned = run(chains, options, learning_rate=0.1)
    moved = learned.network.log_scale.item()
    assert abs(moved - fresh) > 0.01
    history = np.array([first_new, N + 1, N + 2])
    grown = chains.append(type(chains.row(0))(np.full(3, 60), history), 61).compact()
    more = learn_on(
        make_plan(epochs=epochs, rehearsal=rehearsal, learning_rate=1e-12),
        learned.network,
        learned.optimizer_state,
        grown,
        np.array([60]),
        Meeting(int(first_new < N), round((rehearsal or 0) * 60), n_items),
        ItemTable.without_content(N + 3),
        0,
        options,
    )
    assert more.network.log_scale.item() == pytest.approx(fresh if restarts else moved)
    assert learned.network.log_scale.item() == moved

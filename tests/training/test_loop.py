import itertools
import logging
import warnings

import pytest
import torch
from torch import nn

from palate._options import RunOptions
from palate.data.batches import Batch
from palate.exceptions import TrainingInterruptedWarning
from palate.protocols import ItemModule
from palate.training.loop import Stage, run_stage


class Items(ItemModule):
    refreshed = 0

    def refresh(self, context):
        self.refreshed += 1


class Network(nn.Module):
    """One weight, that every step moves down."""

    def __init__(self):
        super().__init__()
        self.items = Items()
        self.weight = nn.Parameter(torch.tensor(10.0))


class Slope(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self.modes = []

    def forward(self, batch):
        self.modes.append(self.training)
        return self.network.weight * batch.weights.sum()


def make_batch(weight):
    one = torch.ones(1, 1, dtype=torch.int64)
    return Batch(one, one.bool(), one, torch.full((1, 1), weight))


def make_stage(n_epochs=4, metrics=None, on_epoch_end=None, weights=(1.0, 1.0), **kwargs):
    """Return a stage whose validation metrics are given, and the weights at each validation."""
    network, seen = Network(), []
    script = iter(metrics or [])

    def validate():
        seen.append(float(network.weight.detach()))
        return next(script)

    stage = Stage(
        name="fit",
        step=Slope(network),
        batches=lambda: ([make_batch(weight) for weight in weights], len(weights)),
        n_epochs=n_epochs,
        learning_rate=0.5,
        weight_decay=0.0,
        options=RunOptions(device="cpu", progress=False, on_epoch_end=on_epoch_end),
        validate=validate if metrics is not None else None,
        **kwargs,
    )
    return stage, network, seen


def run_interrupted(stage):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrainingInterruptedWarning)
        records = run_stage(stage)
    return records, [str(w.message) for w in caught if w.category is TrainingInterruptedWarning]


def test_every_epoch_is_recorded():
    told = []
    stage, network, _ = make_stage(3, on_epoch_end=told.append, weights=(1.0, 3.0))
    records = run_stage(stage)
    assert [(r["stage"], r["epoch"], r["ndcg@10"]) for r in records] == [
        ("fit", 0, None),
        ("fit", 1, None),
        ("fit", 2, None),
    ]
    assert list(records[0]) == ["stage", "epoch", "loss", "ndcg@10", "seconds"]
    # Adam's first step is the learning rate: the losses are 10 and 3 * 9.5.
    assert records[0]["loss"] == pytest.approx((10 + 3 * 9.5) / 2)
    assert records[0]["seconds"] > 0
    assert told == records
    assert network.items.refreshed == 3
    assert all(stage.step.modes)
    assert not network.training


def test_no_epochs_is_no_training():
    stage, network, _ = make_stage(0, [])
    assert run_stage(stage) == []
    assert network.weight.item() == 10


def test_where_learning_goes_on_the_latest_weights_stay_unless_others_are_surely_ahead():
    """Of four users: luck of one is no reason to go back, what three of them say is."""
    start, lucky = torch.tensor([0.1, 0.1, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.1, 1.0])
    last, worse = torch.tensor([0.2, 0.3, 0.1, 0.4]), torch.tensor([0.1, 0.0, 0.0, 0.2])
    script = [(0.5, gains) for gains in (start, lucky, last)]
    stage, network, seen = make_stage(2, script, keep_start=True)
    assert [r["ndcg@10"] for r in run_stage(stage)] == [0.5, 0.5]
    assert network.weight.item() == seen[2]
    stage, network, seen = make_stage(3, [*script, (0.5, worse)], keep_start=True)
    run_stage(stage)
    # The luckiest of all is what is compared with, and leads: what stood against it stays.
    assert network.weight.item() == seen[2]
    stage, network, seen = make_stage(2, script[1:])
    run_stage(stage)
    assert network.weight.item() == seen[0]  # a fit takes the best


def test_where_learning_goes_on_a_tie_keeps_what_was_learned():
    """All held-out events are found before and after: that is no reason to go back."""
    found = torch.ones(4)
    stage, network, seen = make_stage(2, [(1.0, found)] * 3, keep_start=True)
    run_stage(stage)
    assert network.weight.item() == seen[2]


def test_the_weights_of_the_best_epoch_stay():
    stage, network, seen = make_stage(4, [0.1, 0.4, 0.3, 0.4])
    records = run_stage(stage)
    assert [r["ndcg@10"] for r in records] == [0.1, 0.4, 0.3, 0.4]
    assert len(set(seen)) == 4
    assert network.weight.item() == seen[1]  # the first of equals
    assert float(stage.optimizer_state["weight"]["step"]) == 8  # of the end


def test_a_stage_ends_when_nothing_gets_better():
    stage, network, seen = make_stage(50, [0.2, 0.1, 0.3, 0.3, 0.1] + [1.0] * 45, patience=2)
    assert len(run_stage(stage)) == 5
    assert network.weight.item() == seen[2]


def test_without_validation_it_goes_to_the_end():
    stage, network, _ = make_stage(4, patience=1)
    assert len(run_stage(stage)) == 4
    assert network.weight.item() < 8


@pytest.mark.parametrize("keep_start", [False, True])
def test_the_start_counts_where_it_is_asked_to(keep_start):
    metrics = [0.5, 0.1, 0.2] if keep_start else [0.1, 0.2]
    stage, network, seen = make_stage(2, metrics, keep_start=keep_start)
    assert len(run_stage(stage)) == 2
    assert network.weight.item() == (10.0 if keep_start else seen[-1])


def test_a_better_epoch_replaces_the_start():
    stage, network, seen = make_stage(2, [0.1, 0.2, 0.15], keep_start=True)
    run_stage(stage)
    assert network.weight.item() == seen[1] < 10


def test_a_metric_that_is_no_number_is_never_the_best():
    stage, network, seen = make_stage(3, [float("nan"), 0.1, float("nan")])
    run_stage(stage)
    assert network.weight.item() == seen[1]


def stop_after(n):
    def callback(record):
        if record["epoch"] == n:
            raise KeyboardInterrupt

    return callback


def test_an_interruption_keeps_the_best_weights_and_says_so(caplog):
    stage, network, seen = make_stage(9, [0.1, 0.4, 0.3], on_epoch_end=stop_after(2))
    with caplog.at_level(logging.WARNING, logger="palate"):
        records, texts = run_interrupted(stage)
    assert len(records) == 3
    assert network.weight.item() == seen[1]
    text = "Training was interrupted in epoch 3 of stage 'fit'; the best weights so far are kept."
    assert texts == [text]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [text]
    assert stage.interrupted
    assert not network.training
    assert float(stage.optimizer_state["weight"]["step"]) == 6


def test_an_interruption_without_a_best_keeps_what_is_there():
    stage, network, _ = make_stage(9, on_epoch_end=stop_after(0))
    records, texts = run_interrupted(stage)
    assert len(records) == 1
    assert network.weight.item() < 10
    assert texts == [
        "Training was interrupted in epoch 1 of stage 'fit'; the weights reached so far are kept."
    ]


def test_an_interruption_in_the_middle_of_an_epoch():
    stage, network, seen = make_stage(9, [0.3, 0.2])
    calls, forward = [], stage.step.forward

    def interrupt(batch):
        calls.append(0)
        if len(calls) == 4:  # the second batch of the second epoch
            raise KeyboardInterrupt
        return forward(batch)

    stage.step.forward = interrupt
    records, texts = run_interrupted(stage)
    assert len(records) == 1
    assert len(texts) == 1
    assert network.weight.item() == seen[0]


def test_other_errors_pass_through_and_leave_a_usable_network():
    def fail(record):
        raise RuntimeError("the callback failed")

    stage, network, seen = make_stage(9, [0.3, 0.2], on_epoch_end=fail)
    with pytest.raises(RuntimeError, match="the callback failed"):
        run_stage(stage)
    assert network.weight.item() == seen[0]
    assert not network.training


def test_moments_are_taken_up_again():
    whole, _, _ = make_stage(4)
    run_stage(whole)
    first, other, _ = make_stage(2)
    run_stage(first)
    second, third, _ = make_stage(2, optimizer_state=first.optimizer_state)
    third.load_state_dict(other.state_dict())
    run_stage(second)
    gone_on, at_once = (stage.optimizer_state["weight"] for stage in (second, whole))
    assert gone_on["step"] == at_once["step"] == 8
    for moment in ("exp_avg", "exp_avg_sq"):
        assert gone_on[moment].item() == pytest.approx(at_once[moment].item())


def test_one_batch_cannot_throw_the_weights_far():
    stage, network, _ = make_stage(1, weights=(1e30, 1.0))
    run_stage(stage)
    assert 8 < network.weight.item() < 10
    assert float(stage.optimizer_state["weight"]["exp_avg"]) <= 1


def test_each_batch_has_its_own_gradient():
    stage, _, _ = make_stage(1, weights=(0.5, -0.25))
    run_stage(stage)
    moment = stage.optimizer_state["weight"]["exp_avg"].item()
    assert moment == pytest.approx(0.9 * 0.1 * 0.5 - 0.1 * 0.25)


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False)])
def test_progress_goes_to_stderr_or_nowhere(capfd, progress, shown):
    stage, _, _ = make_stage(2)
    stage.options = RunOptions(device="cpu", progress=progress)
    run_stage(stage)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("fit 2/2" in err) == shown


def test_the_rate_falls_but_stays_where_a_model_learns_on_for_one_epoch():
    def rates(n_epochs, **kwargs):
        seen = []
        stage, _, _ = make_stage(n_epochs, **kwargs)
        stage.options = RunOptions(
            device="cpu", progress=False, on_epoch_end=lambda record: seen.append(weight.item())
        )
        weight = stage.step.network.weight
        run_stage(stage)
        return [10.0 - seen[0], *(a - b for a, b in itertools.pairwise(seen))]

    # Under a constant gradient Adam's step is the rate itself: 0.5, twice an epoch, at most.
    falling = rates(4)
    assert falling[-1] < 0.5 * falling[0]
    assert rates(4, keep_start=True) == falling
    assert rates(1) == pytest.approx([0.7625], rel=1e-3)
    assert rates(1, keep_start=True) == pytest.approx([1.0], rel=1e-3)

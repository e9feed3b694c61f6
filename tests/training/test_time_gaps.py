"""Gaps between events: windows, losses and user vectors, against each done by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from palate._options import RunOptions
from palate.data.batches import cut_windows, make_batch
from palate.data.histories import Histories
from palate.data.moments import Moments
from palate.data.time_gaps import gap_codes, gap_edges
from palate.encoders.user.gaps import GapVectors
from palate.encoders.user.transformer import TransformerEncoder
from palate.training import views
from palate.training.objectives import SampledSoftmaxObjective, SoftmaxObjective
from palate.training.steps import PretrainStep, RankingStep
from palate.training.validation import hold_out, validation_ndcg
from palate.training.weighing import _some, choose_weights

N, D = 11, 6


@pytest.fixture
def make_timed(make_network, timed):
    def make(*, zero=False, **params):
        network = make_network(**params)
        network.gaps = GapVectors(gap_edges(timed.times, timed.indptr, 4), D)
        if not zero:
            drawn = torch.randn(
                network.gaps.weight.shape, generator=torch.Generator().manual_seed(3)
            )
            network.gaps.weight.data[1:] = drawn[1:]
        return network.eval()

    return make


def batch_of(histories, edges, max_length=5, leads=None, seed=0):
    users = np.arange(histories.n_users)
    moments = Moments(gap_codes(histories.times, histories.indptr, edges))
    draw = torch.Generator().manual_seed(seed)
    windows = cut_windows(histories, users, max_length, draw, leads, moments)
    return windows, make_batch(windows, np.arange(len(windows)))


def make_step(kind, network, objective=None):
    objective = SoftmaxObjective() if objective is None else objective
    pool, counts = torch.arange(N), torch.arange(N) + 1
    return kind(network, objective, pool, counts, torch.Generator().manual_seed(0))


def with_last_times(histories, seed):
    """The same histories, whose last events are later."""
    times = histories.times.copy()
    last = histories.indptr[1:] - 1
    times[last] += np.random.default_rng(seed).integers(1, 10**6, len(last))
    return dataclasses.replace(histories, times=times)


def test_every_input_has_the_gap_before_it(timed, all_timed):
    edges = gap_edges(timed.times, timed.indptr, 4)
    codes = gap_codes(timed.times, timed.indptr, edges)
    assert set(codes) == set(range(7))
    starts = set()
    for seed in range(20):
        leads = np.array([N, -1, N + 1, -1, N]) if seed % 2 else None
        windows, batch = batch_of(timed, edges, leads=leads, seed=seed)
        for row, (start, length) in enumerate(zip(windows.starts, windows.lengths, strict=True)):
            ahead = int(leads is not None and windows.leads[row] >= 0)
            right = [0] * ahead + codes[start : start + length].tolist()
            assert batch.gaps[row].tolist() == right + [0] * (batch.gaps.shape[1] - len(right))
            starts.add(int(start))
    assert (batch.gaps[~batch.mask] == 0).all()
    inside = starts - set(timed.indptr.tolist())
    assert codes[sorted(inside)].all()  # a window that does not open a history knows its first gap


def test_the_time_of_a_target_is_never_seen(timed, all_timed, make_timed):
    network = make_timed()
    steps = [make_step(RankingStep, network), make_step(RankingStep, network)]
    last = timed.indptr[1:] - 1
    for seed in range(5):
        other = with_last_times(timed, seed)
        codes = [gap_codes(h.times, h.indptr, network.gap_edges) for h in (timed, other)]
        assert (np.flatnonzero(codes[0] != codes[1])[:, None] == last).any(1).all()
        assert (codes[0] != codes[1]).any()
        (_, one), (_, two) = (batch_of(h, network.gap_edges, seed=seed) for h in (timed, other))
        for name, part in vars(one).items():
            assert part is getattr(two, name) is None or torch.equal(part, getattr(two, name)), name
        assert torch.equal(steps[0](one), steps[1](two))
        held = [hold_out(h, 1.0, torch.Generator(), timed=True) for h in (timed, other)]
        for name in ("items", "times", "targets"):
            one, two = (getattr(holdout, name) for _, holdout in held)
            np.testing.assert_array_equal(one, two)


def test_some_windows_go_without():
    n = 2000
    histories = Histories(np.arange(0, 3 * n + 1, 3), np.zeros(3 * n, int), n_users=n)
    moments, draw = Moments(np.full(3 * n, 2)), torch.Generator().manual_seed(0)
    windows = cut_windows(histories, np.arange(n), 9, draw, None, moments)
    batch = make_batch(windows, np.arange(n))
    known = batch.gaps.numpy() > 0
    assert (known.any(1) == known.all(1)).all()
    assert 0.05 < 1 - known.any(1).mean() < 0.15


def test_without_gaps_nothing_more_is_drawn(timed, make_network):
    draws = [torch.Generator().manual_seed(3) for _ in range(2)]
    windows = cut_windows(timed, np.arange(5), 5, draws[0])
    torch.randint(0, 5, (len(np.flatnonzero(np.diff(timed.indptr) > 1)),), generator=draws[1])
    assert torch.equal(draws[0].get_state(), draws[1].get_state())
    assert windows.moments is None
    assert make_batch(windows, np.arange(len(windows))).gaps is None
    network = make_network()
    assert network.gap_edges is None
    assert not [name for name in network.state_dict() if "gaps" in name]
    x = torch.ones(2, 3, D)
    assert network.timed(x, None) is x


def test_the_vectors_are_made_without_chance():
    state = torch.get_rng_state()
    vectors = GapVectors(np.arange(4.0), D)
    assert torch.equal(torch.get_rng_state(), state)
    assert vectors.weight.shape == (7, D)
    assert not vectors.weight.any()
    nn.init.ones_(vectors.weight)
    codes = torch.tensor([[0, 1, 6]])
    vectors(codes).sum().backward()
    assert vectors.weight.grad.sum(1).tolist() == [0, D, 0, 0, 0, 0, D]


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("user", [None, TransformerEncoder(max_length=5, dropout=0.0)])
def test_the_loss_is_that_of_summed_vectors(make_timed, timed, user, sampled):
    network = make_timed(user=user)
    objective = SampledSoftmaxObjective(n_negatives=5) if sampled else None
    _, batch = batch_of(timed, network.gap_edges, seed=1)
    step = make_step(RankingStep, network, objective)
    found = step(batch)
    found.backward()
    moved = network.gaps.weight.grad.abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == batch.gaps.unique()[1:].tolist()
    assert batch.gaps.unique()[0] == 0
    step = make_step(RankingStep, network, objective)
    targets = batch.targets[batch.mask]
    _, items, places, bias = step.look_up(batch.codes, targets)
    users = []
    for row, length in enumerate(batch.mask.sum(1).tolist()):  # each alone: no padding
        codes, gaps = batch.codes[row, :length], batch.gaps[row, :length]
        x = network.items(codes) + torch.where(
            gaps[:, None] > 0, network.gaps.weight[gaps], torch.zeros(())
        )
        users.append(network.users.prefixes(x[None], torch.ones(1, length, dtype=torch.bool))[0])
    right = step.rank_loss(torch.cat(users), items, places, torch.ones(len(targets)), bias)
    torch.testing.assert_close(found, right)


def test_pretraining_reads_gaps_but_not_of_hidden_events(make_timed, timed):
    network = make_timed()
    _, batch = batch_of(timed, network.gap_edges)
    loss = make_step(PretrainStep, network)(batch)
    loss.backward()
    assert network.gaps.weight.grad[1:].abs().sum() > 0
    step = make_step(PretrainStep, network)
    x, hidden = network.timed(network.items(None)[batch.codes], batch.gaps), batch.mask
    assert torch.equal(step._hide(x, hidden)[hidden][3], network.mask_vector)


@pytest.mark.parametrize("mean_weight", [0.0, 0.5])
@pytest.mark.parametrize("user", [None, TransformerEncoder(max_length=5)])
def test_answers_are_those_of_summed_vectors(make_timed, timed, user, mean_weight):
    network = make_timed(user=user)
    network.mean_weight = mean_weight
    vectors = network.catalogue()
    users = np.array([2, 0, 3, 1])
    indptr, items = timed.gather(users)
    times = timed.gather(users, "times")[1]
    found = network.encode_histories(vectors, indptr, items, None, times)
    for row, user in enumerate(users):
        recent = slice(max(timed.indptr[user], timed.indptr[user + 1] - 5), timed.indptr[user + 1])
        codes = gap_codes(timed.times, timed.indptr, network.gap_edges)[recent]
        x = vectors[torch.from_numpy(timed.items[recent])]
        with torch.inference_mode():
            y = x + network.gaps(torch.from_numpy(codes))
            mask = torch.ones(1, len(x), dtype=torch.bool)
            right = network.users(y[None], mask)
            if mean_weight:  # of what was taken, whenever it was
                fade = 0.8 ** torch.arange(len(x) - 1, -1, -1)
                means = (fade[:, None] * nn.functional.normalize(x)).sum(0, keepdim=True)
                right = nn.functional.normalize(right) + mean_weight * nn.functional.normalize(
                    means
                )
                found[row] = nn.functional.normalize(found[row], dim=0)
                right = nn.functional.normalize(right)
        torch.testing.assert_close(found[row], right[0], atol=1e-6, rtol=0)
    unknown = network.encode_histories(vectors, indptr, items)
    with torch.no_grad():
        network.gaps.weight.zero_()
    torch.testing.assert_close(
        unknown, network.encode_histories(vectors, indptr, items, None, times)
    )
    assert not torch.allclose(unknown, found, atol=1e-3)


def test_vectors_of_zero_change_nothing(make_timed, make_network, timed):
    plain, network = make_network(), make_timed(zero=True)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name
    _, batch = batch_of(timed, network.gap_edges)
    assert torch.equal(
        make_step(RankingStep, plain.eval())(batch), make_step(RankingStep, network)(batch)
    )


def test_validation_and_the_weights_of_averages_read_gaps(make_timed, timed):
    network = make_timed()
    left, holdout = hold_out(timed, 1.0, torch.Generator(), timed=True)
    able = np.array([0, 1, 2, 4])
    spans = [timed.times[timed.indptr[u] : timed.indptr[u + 1] - 1] for u in able]
    assert holdout.times.tolist() == np.concatenate(spans).tolist()
    np.testing.assert_array_equal(left.gather(able, "times")[1], holdout.times)
    some = _some(holdout, N)
    assert len(some.times) == len(some.items)
    asked = []
    encode = views.padded

    def spy(network, vectors, indptr, items, people=None, times=None):
        asked.append(times)
        return encode(network, vectors, indptr, items, people, times)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "padded", spy)
        small = RunOptions(device="cpu", progress=False, inference_batch_size=3)
        validation_ndcg(network, holdout, small)
        choose_weights(network, holdout, (0.0, 0.1), [0])
    assert np.concatenate(asked[:2]).tolist() == holdout.times.tolist()
    assert asked[2].tolist() == some.times.tolist()

"""Distances between events: windows, losses and user vectors, against each done by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from palate.data import batches
from palate.data.batches import Batch, cut_windows, iterate_batches, make_batch
from palate.data.histories import Histories
from palate.data.time_distances import distance_edges
from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.transformer import BLOCKS, TransformerEncoder
from palate.exceptions import InvalidParameterError
from palate.training import views
from palate.training.objectives import SoftmaxObjective
from palate.training.steps import PretrainStep, RankingStep

N, D, H, L, LENGTH = 11, 6, 3, 2, 5


@pytest.fixture
def make_timed(make_network, timed):
    def make(*, zero=False, gap_edges=None, **params):
        settings = {"n_layers": L, "n_heads": H, "max_length": LENGTH, "dropout": 0.0, **params}
        network = make_network(user=TransformerEncoder(**settings))
        edges = distance_edges(timed.times, timed.indptr, LENGTH, 4)
        network.read_times(gap_edges, edges)
        drawn = torch.Generator().manual_seed(3)
        for part in (network.time_bias, network.gaps):
            if part is not None and not zero:
                part.weight.data = 3 * torch.randn(part.weight.shape, generator=drawn)
        return network.eval()

    return make


def batch_of(histories, network, leads=None, seed=0):
    users = np.arange(histories.n_users)
    moments = network.moments(histories.times, histories.indptr)
    draw = torch.Generator().manual_seed(seed)
    windows = cut_windows(histories, users, LENGTH, draw, leads, moments)
    return windows, make_batch(windows, np.arange(len(windows)))


def make_step(kind, network):
    pool, counts = torch.arange(N), torch.arange(N) + 1
    generator = torch.Generator().manual_seed(0)
    return kind(network, SoftmaxObjective(), pool, counts, generator)


def code_of(one, two, edges):
    return 1 if one == two else 2 + sum(edge < abs(one - two) for edge in edges)


def codes_by_hand(times, edges):
    """None stands for a time that is not known."""
    return [[0 if None in (a, b) else code_of(a, b, edges) for b in times] for a in times]


def test_every_two_inputs_have_their_distance(timed, all_timed, make_timed):
    network, seen = make_timed(), set()
    for seed in range(12):
        leads = np.array([N, -1, N + 1, -1, N]) if seed % 2 else None
        windows, batch = batch_of(timed, network, leads=leads, seed=seed)
        n_steps = batch.mask.shape[1]
        assert batch.gaps is None
        assert batch.distances.shape == (len(windows), n_steps, n_steps)
        for row, (start, length) in enumerate(zip(windows.starts, windows.lengths, strict=True)):
            ahead = int(leads is not None and windows.leads[row] >= 0)
            times = [None] * ahead + timed.times[start : start + length].tolist()
            times += [None] * (n_steps - len(times))
            right = codes_by_hand(times, network.bias_edges.tolist())
            assert batch.distances[row].tolist() == right
            seen |= {code for codes in right for code in codes}
    assert seen == set(range(7))


def test_some_windows_go_without():
    n = 2000
    indptr, times = np.arange(0, 3 * n + 1, 3), np.tile([1, 5, 9], n)
    histories = Histories(indptr, np.zeros(3 * n, int), times, n_users=n)

    class Reader:
        moments = staticmethod(
            lambda times, indptr: batches.Moments(times=times, edges=np.array([4.0]))
        )

    _, batch = batch_of(histories, Reader)
    known = batch.distances.numpy() > 0
    assert (known.any((1, 2)) == known.all((1, 2))).all()
    assert 0.05 < 1 - known.any((1, 2)).mean() < 0.15


def test_the_time_of_a_target_is_never_seen(timed, all_timed, make_timed):
    network = make_timed(gap_edges=np.array([1.0, 4.0]))
    last = timed.indptr[1:] - 1
    steps = [make_step(RankingStep, network), make_step(RankingStep, network)]
    for seed in range(5):
        later = timed.times.copy()
        later[last] += np.random.default_rng(seed).integers(1, 10**6, len(last))
        other = dataclasses.replace(timed, times=later)
        (_, one), (_, two) = (batch_of(h, network, seed=seed) for h in (timed, other))
        for name, part in vars(one).items():
            assert torch.equal(part, getattr(two, name)), name
        assert torch.equal(steps[0](one), steps[1](two))


@pytest.mark.parametrize("block", BLOCKS)
def test_a_step_is_not_told_of_later_ones(timed, all_timed, make_timed, block):
    network = make_timed(block=block)
    _, batch = batch_of(timed, network, seed=1)
    x = network.items(None)[batch.codes]
    for step in range(1, LENGTH):
        changed = batch.distances.clone()
        changed[:, step:], changed[:, :, step:] = 1, 6
        found = [
            network.users.prefixes(x, batch.mask, *network.beside(d))
            for d in (batch.distances, changed)
        ]
        torch.testing.assert_close(found[0][:, :step], found[1][:, :step], rtol=0, atol=1e-6)
        assert (found[0] - found[1])[:, step].abs().max() > 1e-3


@pytest.mark.parametrize("block", BLOCKS)
def test_the_loss_is_that_of_each_history_alone(make_timed, timed, block):
    network = make_timed(block=block)
    _, batch = batch_of(timed, network, seed=1)
    step = make_step(RankingStep, network)
    found = step(batch)
    found.backward()
    moved = network.time_bias.weight.grad.abs().sum((0, 1)) > 0
    causal = batch.distances.tril().unique()
    assert [code + 1 for code in moved.nonzero().flatten().tolist()] == causal[1:].tolist()
    targets = batch.targets[batch.mask]
    _, items, places, bias = step.look_up(batch.codes, targets)
    users = []
    for row, length in enumerate(batch.mask.sum(1).tolist()):
        x = network.items(batch.codes[row, :length])[None]
        own = network.beside(batch.distances[row : row + 1, :length, :length])
        users.append(network.users.prefixes(x, torch.ones(1, length, dtype=torch.bool), *own)[0])
    right = step.rank_loss(torch.cat(users), items, places, torch.ones(len(targets)), bias)
    torch.testing.assert_close(found, right)


def test_pretraining_looks_both_ways_and_hides_the_times_of_hidden_events(make_timed, timed):
    network = make_timed()
    _, batch = batch_of(timed, network)
    loss = make_step(PretrainStep, network)(batch)
    loss.backward()
    assert network.time_bias.weight.grad.abs().sum() > 0
    hidden = batch.mask & (torch.arange(batch.mask.shape[1]) % 2 == 1)
    x, mask, bias = make_step(PretrainStep, network)._without(
        network.items(None)[batch.codes], batch, hidden
    )
    assert torch.equal(x[hidden][3], network.mask_vector)
    assert mask is batch.mask
    for row in range(len(hidden)):
        for i in range(hidden.shape[1]):
            for j in range(hidden.shape[1]):
                code = int(batch.distances[row, i, j])
                right = torch.zeros(L, H)
                if code and not hidden[row, i] and not hidden[row, j]:
                    right = network.time_bias.weight[:, :, code - 1]
                assert torch.equal(bias[:, row, :, i, j], right)


@pytest.mark.parametrize("rows_at_once", [1, 2, 256])
@pytest.mark.parametrize("with_people", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
@torch.no_grad()
def test_many_are_encoded_as_each_alone(
    make_timed, timed, monkeypatch, block, with_people, rows_at_once
):
    monkeypatch.setattr(views, "_ENCODE_ROWS", rows_at_once)
    network = make_timed(block=block)
    vectors, told = network.catalogue(), torch.randn(2, D)
    people = None
    if with_people:
        monkeypatch.setattr(type(network), "person_vectors", lambda self, codes: told[codes])
        network.people, people = torch.zeros(2, 3), np.array([1, 0, -1, 0, -1])
    users = np.array([2, 0, 3, 1, 4])
    indptr, items = timed.gather(users)
    times = timed.gather(users, "times")[1]
    found = network.encode_histories(vectors, indptr, items, people, times)
    for row, user in enumerate(users):
        end = timed.indptr[user + 1]
        recent = slice(max(timed.indptr[user], end - network.room), end)
        x, when = vectors[torch.from_numpy(timed.items[recent])], timed.times[recent].tolist()
        if with_people and people[row] >= 0:
            x, when = torch.cat([told[people[row]][None], x]), [None, *when]
        codes = torch.tensor([codes_by_hand(when, network.bias_edges.tolist())])
        mask = torch.ones(1, len(x), dtype=torch.bool)
        alone = network.users.prefixes(x[None], mask, *network.beside(codes))[:, -1]
        torch.testing.assert_close(found[row], alone[0], atol=1e-5, rtol=0)
    unknown = network.encode_histories(vectors, indptr, items, people)
    assert (unknown - found).abs().max() > 1e-3
    network.time_bias.weight.zero_()
    silent = network.encode_histories(vectors, indptr, items, people, times)
    torch.testing.assert_close(silent, unknown)
    nothing = np.zeros(1, np.int64), items[:0], None, times[:0]
    assert network.encode_histories(vectors, *nothing).shape == (0, D)


def test_people_without_events_have_no_times(make_timed, timed, monkeypatch):
    network = make_timed()
    monkeypatch.setattr(type(network), "person_vectors", lambda self, codes: torch.ones(1, D))
    network.people = torch.zeros(1, 3)
    asked = np.array([0, 0]), timed.items[:0], np.array([0]), timed.times[:0]
    assert network.encode_histories(network.catalogue(), *asked).isfinite().all()


@pytest.mark.parametrize("block", BLOCKS)
def test_numbers_of_zero_change_nothing(make_timed, make_network, timed, block):
    network = make_timed(zero=True, block=block)
    settings = {"n_layers": L, "n_heads": H, "max_length": LENGTH, "dropout": 0.0}
    plain = make_network(user=TransformerEncoder(block=block, **settings)).eval()
    assert plain.bias_edges is None
    assert not plain.reads_times
    assert network.reads_times
    for name, value in plain.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name
    _, batch = batch_of(timed, network)
    losses = [make_step(RankingStep, n)(batch) for n in (plain, network)]
    torch.testing.assert_close(*losses)


def test_without_it_nothing_is_drawn_or_made(timed, make_network):
    network, draws = make_network(), [torch.Generator().manual_seed(3) for _ in range(2)]
    assert network.moments(timed.times, timed.indptr) is None
    windows = cut_windows(timed, np.arange(5), LENGTH, draws[0], None, None)
    torch.randint(0, LENGTH, (4,), generator=draws[1])
    assert torch.equal(draws[0].get_state(), draws[1].get_state())
    for batch in iterate_batches(windows, 2, draws[0]):
        assert isinstance(batch, Batch)
        assert batch.distances is None
        assert network.beside(batch.distances) == ()


def test_a_batch_moves_with_its_distances(timed, make_timed):
    _, batch = batch_of(timed, make_timed())
    moved = batch.to(torch.device("meta"))
    assert moved.distances.device.type == "meta"
    assert moved.gaps is None


def test_a_network_without_attention_is_refused(make_network):
    network = make_network(user=GRUEncoder(max_length=5))
    with pytest.raises(InvalidParameterError) as found:
        network.read_times(None, np.array([3.0]))
    assert str(found.value) == (
        "time_bias needs a user encoder whose network takes a bias (with bias_shape), such as "
        "user_encoder='transformer'; got GRUEncoder."
    )

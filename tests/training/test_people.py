"""Attribute texts before histories: windows, losses and user vectors, against each done by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from palate.data import batches
from palate.data.batches import cut_windows, iterate_batches, make_batch
from palate.data.histories import Histories
from palate.encoders.user.transformer import TransformerEncoder
from palate.exceptions import InvalidParameterError
from palate.protocols import ItemModule
from palate.training import views
from palate.training.objectives import SampledSoftmaxObjective, SoftmaxObjective
from palate.training.steps import PretrainStep, RankingStep

N, D, W = 11, 6, 4
TEXTS = ["age: 1", "age: 22", "job: baker"]


class Reader(ItemModule):
    """Items by id; a text is read as a few numbers and placed by a learned projection."""

    takes_text, text_width = True, W

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(N, D))
        self.projection = nn.Linear(W, D)
        self.n_read = 0

    def forward(self, codes=None, *, content_only=False):
        return self.weight if codes is None else self.weight[codes]

    def read_texts(self, texts, context):
        self.n_read += len(texts)
        draws = [torch.Generator().manual_seed(sum(map(ord, text))) for text in texts]
        return torch.stack([torch.randn(W, generator=draw) for draw in draws])

    def place_texts(self, read):
        return self.projection(read)


@pytest.fixture
def make_reader(make_network):
    def make(**params):
        torch.manual_seed(0)
        network = make_network(items=Reader(), **params)
        network.read_people(TEXTS, None)
        return network

    return make


@pytest.fixture
def all_led(monkeypatch):
    monkeypatch.setattr(batches, "WITHOUT_LEAD", 0.0)


def make_histories(lengths):
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.arange(indptr[-1]) * 7 % N
    weights = (np.arange(indptr[-1]) + 0.5).astype(np.float32)
    return Histories(indptr, items, None, weights, n_users=len(lengths))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 40), st.integers(-1, 2)), min_size=1, max_size=6),
    max_length=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_every_event_after_something_is_a_target_once(rows, max_length, share, seed):
    lengths, told = (np.array(column) for column in zip(*rows, strict=True))
    histories, leads = make_histories(lengths), np.where(told >= 0, N + told, -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "WITHOUT_LEAD", share)
        draw = torch.Generator().manual_seed(seed)
        windows = cut_windows(histories, np.arange(len(rows)), max_length, draw, leads)
    if not len(windows):
        assert not ((lengths > 1) | ((lengths == 1) & (told >= 0))).any()
        return
    assert (windows.lengths <= max_length).all()
    assert (windows.sizes >= 1).all()
    whole = make_batch(windows, np.arange(len(windows)))
    owner = np.repeat(np.arange(len(rows)), lengths)
    targets = []
    for row, (start, length) in enumerate(zip(windows.starts, windows.lengths, strict=True)):
        lead, user = windows.leads[row], owner[start]
        opens = start == histories.indptr[user]
        assert lead in ((-1, leads[user]) if share else (leads[user],))
        inputs = histories.items[start : start + length].tolist()
        following = list(range(start + 1, start + length + 1))
        scored = [True] * length
        if lead >= 0:
            inputs, following = [lead, *inputs], [start, *following]
            scored = [bool(opens), *scored]
        size = len(inputs)
        assert whole.codes[row].tolist() == inputs + [0] * (whole.codes.shape[1] - size)
        assert whole.mask[row].sum() == size
        assert whole.scored[row, :size].tolist() == scored
        assert not whole.scored[row, size:].any()
        assert whole.targets[row, :size].tolist() == histories.items[following].tolist()
        assert whole.weights[row, :size].tolist() == histories.weights[following].tolist()
        targets += [p for p, good in zip(following, scored, strict=True) if good]
    assert targets == sorted(set(targets))
    missed = set(range(len(histories.items))) - set(targets)
    firsts = {int(p) for p, n in zip(histories.indptr, lengths, strict=False) if n}
    assert missed <= firsts
    if not share:
        unled = {p for p in firsts if told[owner[p]] < 0}
        assert missed == unled


def test_without_leads_nothing_more_is_drawn():
    histories = make_histories([9, 3, 30])
    draws = [torch.Generator().manual_seed(3) for _ in range(2)]
    plain = cut_windows(histories, np.arange(3), 5, draws[0])
    cut_windows(histories, np.arange(3), 5, draws[1], np.array([N, -1, N + 1]))
    assert plain.leads is None
    assert not torch.equal(torch.rand(4, generator=draws[0]), torch.rand(4, generator=draws[1]))
    batch = next(iterate_batches(plain, 64, draws[0]))
    assert torch.equal(batch.scored, batch.mask)


def test_some_windows_go_without():
    histories, leads = make_histories([8] * 2000), np.full(2000, N)
    windows = cut_windows(histories, np.arange(2000), 9, torch.Generator().manual_seed(0), leads)
    assert 0.05 < (windows.leads < 0).mean() < 0.15
    alone = make_histories([1] * 50)
    windows = cut_windows(alone, np.arange(50), 9, torch.Generator().manual_seed(0), leads[:50])
    assert (windows.leads == N).all()  # nothing would be left


def led_batch():
    histories, leads = make_histories([4, 6, 2, 1, 12]), np.array([N + 2, -1, N, N + 1, N + 1])
    draw = torch.Generator().manual_seed(0)
    windows = cut_windows(histories, np.arange(5), 4, draw, leads)
    return make_batch(windows, np.arange(len(windows)))


def make_step(kind, network, objective=None, seed=0):
    pool, counts = torch.arange(N), torch.arange(N) + 1
    objective = SoftmaxObjective() if objective is None else objective
    return kind(network, objective, pool, counts, torch.Generator().manual_seed(seed))


def by_hand(network, batch, pool, bias=None):
    """Weighted cross-entropy of each position that has a target, one by one in float64."""
    read = network.items.read_texts(TEXTS, None)
    apart = read - read.mean(0)
    apart = apart / (apart.double() ** 2).sum(1).mean().sqrt()
    table = torch.cat([network.items(None), network.items.projection(apart.float())])
    unit = table[:N].double() / table[:N].double().norm(dim=1, keepdim=True)
    total, mass = 0.0, 0.0
    for row, step in batch.scored.nonzero().tolist():
        history = batch.codes[row, : step + 1]
        user = network.users(table[history][None], torch.ones(1, step + 1, dtype=torch.bool))[0]
        logits = unit[pool] @ (user.double() / user.double().norm()) / 0.07
        right = int((pool == batch.targets[row, step]).nonzero())
        if bias is not None:
            logits = logits + torch.where(torch.arange(len(pool)) != right, bias.double(), 0.0)
        weight = float(batch.weights[row, step])
        total += weight * float(logits.logsumexp(0) - logits[right])
        mass += weight
    return total / mass


@pytest.mark.parametrize("sampled", [False, True])
@torch.no_grad()
def test_the_ranking_loss_is_that_of_each_position(make_reader, all_led, sampled):
    network, batch = make_reader().eval(), led_batch()
    assert not torch.equal(batch.scored, batch.mask)
    objective = SampledSoftmaxObjective(n_negatives=1) if sampled else None
    loss = float(make_step(RankingStep, network, objective)(batch))
    codes, bias = torch.arange(N), None
    if sampled:
        step = make_step(RankingStep, network, objective)
        codes, bias = objective.candidates(
            batch.targets[batch.scored], step.pool, step.counts, step.generator
        )
    assert loss == pytest.approx(by_hand(network, batch, codes, bias), rel=1e-4)


def test_the_projection_of_texts_is_learned(make_reader, all_led):
    network, batch = make_reader(), led_batch()
    make_step(RankingStep, network)(batch).backward()
    assert network.items.projection.weight.grad.abs().sum() > 0
    assert network.items.n_read == len(TEXTS)  # not in the step


def test_attributes_are_what_tells_people_apart(make_network):
    torch.manual_seed(0)
    network = make_network(items=Reader())
    network.read_people(TEXTS, None)
    read = network.items.read_texts([*TEXTS, "later"], None).double()
    spread = ((read[:3] - read[:3].mean(0)) ** 2).sum(1).mean().sqrt()
    right = (read - read[:3].mean(0)) / spread
    torch.testing.assert_close(network.people.double(), right[:3], rtol=0, atol=1e-6)
    assert (network.people**2).sum(1).mean() == pytest.approx(1.0)
    network.read_people(["later"], None)  # measured as the first ones were
    torch.testing.assert_close(network.people.double(), right, rtol=0, atol=1e-6)
    alone = make_network(items=Reader())
    alone.read_people(TEXTS[:1], None)
    assert alone.people.tolist() == [[0.0] * W]


@pytest.mark.parametrize("lengths", [[1, 1, 1], [4, 6, 2, 1, 12]])
def test_pretraining_hides_events_alone(make_reader, all_led, monkeypatch, lengths):
    network = make_reader()
    leads = np.array([N + 2, N, N + 1, N, N])[: len(lengths)]
    windows = cut_windows(
        make_histories(lengths), np.arange(len(lengths)), 4, torch.Generator(), leads
    )
    batch = make_batch(windows, np.arange(len(windows)))
    step, asked = make_step(PretrainStep, network), []
    hide = step._hide
    monkeypatch.setattr(step, "_hide", lambda x, hidden: asked.append(hidden) or hide(x, hidden))
    loss = step(batch)
    loss.backward()
    assert torch.isfinite(loss)
    for hidden in asked:
        assert not (hidden & ((batch.codes >= N) | ~batch.mask)).any()
    has_events = (batch.mask & (batch.codes < N)).any(1)
    assert torch.equal(asked[0].any(1), has_events)


@pytest.mark.parametrize("rows_at_once", [1, 3, 256])
@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@torch.no_grad()
def test_many_are_encoded_as_each_alone(make_reader, monkeypatch, pooling, rows_at_once):
    monkeypatch.setattr(views, "_ENCODE_ROWS", rows_at_once)
    network = make_reader(user=TransformerEncoder(max_length=5, pooling=pooling))
    assert network.room == 4
    vectors = network.catalogue()
    told = network.person_vectors(torch.arange(3))
    histories = [[3, 1], [0, 1, 2, 3, 4, 5, 6, 7], [10], [9, 9, 9], [8, 7, 6, 5, 4], []]
    people = np.array([1, 2, -1, 0, -1, 2])
    indptr = np.cumsum([0, *map(len, histories)])
    flat = np.concatenate(histories).astype(np.int64)
    users = network.encode_histories(vectors, indptr, flat, people)
    for row, history in enumerate(histories):
        x = vectors[torch.tensor(history[-4:], dtype=torch.int64)]
        if people[row] >= 0:
            x = torch.cat([told[people[row]][None], x])
        alone = network.users(x[None], torch.ones(1, len(x), dtype=torch.bool))
        torch.testing.assert_close(users[row], alone[0], rtol=0, atol=1e-5)
    nobody = network.encode_histories(
        vectors, np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    )
    assert nobody.shape == (0, D)


def test_a_network_that_knows_more_leaves_the_old_one(make_reader):
    network = make_reader()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    grown = network.with_people(["new"], None)
    assert len(grown.people) == len(grown.people_texts) == 4
    assert network.people_texts == tuple(TEXTS)
    assert network.state_dict().keys() == before.keys()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert grown.items is network.items
    assert torch.equal(grown.people[:3], network.people)


def test_what_cannot_read_is_refused(make_network):
    network = make_network()
    with pytest.raises(InvalidParameterError) as error:
        network.read_people(TEXTS, None)
    assert str(error.value) == (
        "user_features needs an item encoder that reads text (with read_texts and place_texts), "
        "such as item_encoder='bert+id'; got IdItems."
    )
    assert network.people is None
    short = make_network(user=TransformerEncoder(max_length=1), items=Reader())
    with pytest.raises(InvalidParameterError) as error:
        short.read_people(TEXTS, None)
    assert str(error.value) == (
        "max_length must be at least 2 with user_features, which take one place; got 1."
    )

import numpy as np
import pytest
import torch

from palate.data.batches import cut_windows, iterate_batches, make_batch
from palate.data.histories import Histories
from palate.data.items import ItemTable
from palate.encoders.item.fusion import Fusion
from palate.encoders.item.ids import IdEncoder
from palate.encoders.user.transformer import TransformerEncoder
from palate.protocols import ItemModule
from palate.training.objectives import SampledSoftmaxObjective, SoftmaxObjective
from palate.training.steps import PretrainStep, RankingStep

N, D = 11, 6


@pytest.fixture
def batch():
    indptr = np.array([0, 4, 10, 12])
    items = np.array([0, 1, 2, 3, 10, 9, 8, 7, 9, 8, 3, 2])
    weights = np.linspace(0.5, 2, 12).astype(np.float32)
    histories = Histories(indptr, items, None, weights, n_users=3)
    windows = cut_windows(histories, np.arange(3), 5, torch.Generator().manual_seed(0))
    return make_batch(windows, np.arange(len(windows)))


def make_step(kind, network, objective=None, seed=0):
    pool = network.seen.nonzero().flatten()
    counts = torch.arange(len(network.seen)) + 1
    objective = SoftmaxObjective() if objective is None else objective
    return kind(network, objective, pool, counts, torch.Generator().manual_seed(seed))


def by_hand(network, batch, pool, bias=None):
    """Weighted cross-entropy of each real position, one by one in float64."""
    items = network.items(None)
    unit = items.double() / items.double().norm(dim=1, keepdim=True).clamp_min(1e-30)
    total, mass = 0.0, 0.0
    for row in range(len(batch.codes)):
        for step in range(int(batch.mask[row].sum())):
            history = batch.codes[row, : step + 1]
            user = network.users(items[history][None], torch.ones(1, step + 1, dtype=torch.bool))[0]
            user = user.double() / user.double().norm()
            logits = unit[pool] @ user / 0.07
            right = int((pool == batch.targets[row, step]).nonzero())
            if bias is not None:
                logits = logits + torch.where(torch.arange(len(pool)) != right, bias.double(), 0.0)
            weight = float(batch.weights[row, step])
            total += weight * float(logits.logsumexp(0) - logits[right])
            mass += weight
    return total / mass


@pytest.mark.parametrize("unseen", [[], [4, 5]])
def test_the_ranking_loss_is_that_of_each_position(make_network, batch, unseen):
    seen = torch.ones(N, dtype=torch.bool)
    seen[unseen] = False
    network = make_network(seen=seen).eval()
    with torch.no_grad():
        loss = float(make_step(RankingStep, network)(batch))
        right = by_hand(network, batch, seen.nonzero().flatten())
    assert loss == pytest.approx(right, rel=1e-4)


def test_the_sampled_loss_is_that_of_its_candidates(make_network, batch):
    network = make_network().eval()
    objective = SampledSoftmaxObjective(n_negatives=1)
    with torch.no_grad():
        loss = float(make_step(RankingStep, network, objective)(batch))
        step = make_step(RankingStep, network, objective)
        codes, bias = objective.candidates(
            batch.targets[batch.mask], step.pool, step.counts, step.generator
        )
        assert len(codes) < N
        right = by_hand(network, batch, codes, bias)
    assert loss == pytest.approx(right, rel=1e-4)


def test_only_the_items_needed_are_computed_once(make_network, batch, monkeypatch):
    network, asked = make_network(), []
    forward = network.items.forward

    def spy(codes=None, **kwargs):
        asked.append(codes)
        return forward(codes, **kwargs)

    monkeypatch.setattr(network.items, "forward", spy)
    make_step(RankingStep, network, SampledSoftmaxObjective(n_negatives=1))(batch)
    make_step(RankingStep, network)(batch)
    assert len(asked) == 2
    assert asked[1] is None
    needed = asked[0].tolist()
    assert needed == sorted(set(needed))
    assert set(batch.codes.flatten().tolist()) | set(batch.targets[batch.mask].tolist()) <= set(
        needed
    )
    assert len(needed) < N


def test_every_weight_of_the_network_gets_a_gradient(make_network, batch):
    for kind, extra in ((RankingStep, set()), (PretrainStep, {"mask_vector"})):
        network = make_network(user=TransformerEncoder(max_length=5, pooling="attention"))
        make_step(kind, network)(batch).backward()
        moved = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        everything = {name for name, _ in network.named_parameters()}
        assert moved >= (everything - {"mask_vector"}) | extra


def test_padding_does_not_change_the_loss(make_network, batch):
    step = make_step(RankingStep, make_network().eval())
    noisy = type(batch)(
        torch.where(batch.mask, batch.codes, 7),
        batch.mask,
        torch.where(batch.mask, batch.targets, 3),
        torch.where(batch.mask, batch.weights, 9.0),
    )
    with torch.no_grad():
        assert float(step(noisy)) == pytest.approx(float(step(batch)), rel=1e-5)


def masks():
    lengths = torch.tensor([1, 2, 5, 9] * 50)
    return torch.arange(9) < lengths[:, None]


def test_every_history_hides_a_real_event(make_network, chains, monkeypatch):
    step = make_step(PretrainStep, make_network().eval())
    hidden = []
    hide = step._hide
    monkeypatch.setattr(step, "_hide", lambda x, h: hidden.append(h) or hide(x, h))
    windows = cut_windows(chains, np.arange(60), 5, torch.Generator().manual_seed(0))
    batches = list(iterate_batches(windows, 16, torch.Generator().manual_seed(0)))
    with torch.no_grad():
        losses = [float(step(batch)) for batch in batches]
    assert np.isfinite(losses).all()
    assert len(hidden) == 3 * len(batches)  # masked items, and two views to contrast
    for place, batch in enumerate(batches):
        for kind, drawn in enumerate(hidden[3 * place : 3 * place + 3]):
            assert not (drawn & ~batch.mask).any()
            assert kind > 0 or drawn.any(1).all()
            assert kind == 0 or not (drawn == batch.mask).all(1).any()


def test_shares_of_hidden_events(make_network):
    step, mask = make_step(PretrainStep, make_network()), masks()
    drawn = step._draw(mask, 0.3)
    assert not (drawn & ~mask).any()
    assert 0.25 < float(drawn.sum() / mask.sum()) < 0.35
    view = step._view(mask)
    assert (mask & ~view).any(1).all()  # something is left to see in each
    assert not view[mask.sum(1) == 1].any()


def test_hidden_events_become_the_mask_vector(make_network):
    network = make_network()
    with torch.no_grad():
        network.mask_vector.copy_(torch.arange(float(D)))
    step = make_step(PretrainStep, network)
    x, hidden = torch.randn(2, 3, D), torch.tensor([[True, False, True], [False, False, False]])
    out = step._hide(x, hidden)
    assert out[0, [0, 2]].tolist() == [list(range(D))] * 2
    assert torch.equal(out[~hidden], x[~hidden])


def test_what_is_hidden_does_not_leak_into_its_own_prediction(make_network):
    # Masked-item modelling: the states at hidden places know nothing of the items hidden there.
    network = make_network(user=TransformerEncoder(max_length=5, dropout=0.0)).eval()
    step = make_step(PretrainStep, network)
    mask, hidden = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[False, True, False, True]])
    with torch.no_grad():
        vectors = network.items(None)
        states = [
            network.users.states(step._hide(vectors[torch.tensor([codes])], hidden), mask)
            for codes in ([1, 2, 3, 4], [1, 9, 3, 8])
        ]
    assert torch.equal(*states)


class Numbers(ItemModule):
    """Content: each item's code."""

    has_content = True

    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, codes=None, *, content_only=False):
        codes = torch.arange(self.n) if codes is None else codes
        return torch.sin(codes[:, None] + torch.arange(float(D)))


class NumbersSpec:
    def build(self, items, dim, context, state=None):
        return Numbers(len(items))


def test_pretraining_leaves_ids_out_where_there_is_content(make_network, batch):
    table = ItemTable.without_content(N)
    fused = Fusion([NumbersSpec(), IdEncoder()]).build(table, D, None)
    network = make_network(items=fused)
    make_step(PretrainStep, network)(batch).backward()
    assert fused.parts[1].weight.grad is None
    make_step(RankingStep, network)(batch).backward()
    assert fused.parts[1].weight.grad.any()
    network = make_network()
    make_step(PretrainStep, network)(batch).backward()
    assert network.items.weight.grad.any()

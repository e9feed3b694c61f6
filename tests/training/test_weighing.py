"""The weights of a history's plain averages: those that find most held-out events."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from palate.encoders.user.gru import GRUEncoder
from palate.protocols import ItemModule
from palate.training import validation, weighing
from palate.training.validation import Holdout
from palate.training.weighing import choose_weights, news, weigh

N, D, F = 40, 6, 4
KEPT = 0.8


class Read(ItemModule):
    """Vectors and contents drawn at random; contents of neighbours on a circle are near."""

    has_content = True

    def __init__(self, reads: bool = True) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.vectors = torch.nn.Parameter(
            torch.tensor(rng.normal(size=(N, D)), dtype=torch.float32)
        )
        angle = np.arange(N) / N * 2 * np.pi
        rows = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], 1)
        self.rows = torch.tensor(rows, dtype=torch.float32) if reads else None

    def forward(self, codes=None, *, content_only=False):
        return self.vectors if codes is None else self.vectors[codes]

    def content(self, codes=None):
        if self.rows is None:
            return None
        return self.rows if codes is None else self.rows[codes]


def make_holdout(n_users: int, seed: int = 0) -> Holdout:
    """Return people who go round the circle; every seventh comes back to an earlier item."""
    rng = np.random.default_rng(seed)
    rows = [(rng.integers(N) + np.arange(rng.integers(2, 9))) % N for _ in range(n_users)]
    targets = np.array([(row[-1] + 1) % N for row in rows])
    targets[::7] = [row[0] for row in rows[::7]]
    indptr = np.cumsum([0, *map(len, rows)])
    return Holdout(indptr, np.concatenate(rows), targets)


def ndcgs(network, holdout: Holdout, a: float, b: float) -> list[float]:
    """Return the gain of each user without a repeat, in loops."""
    vectors = network.items(None).detach().double().numpy()
    content = network.items.content(None)
    unit = [v / np.linalg.norm(v) for v in vectors]
    gains = []
    for user, target in enumerate(holdout.targets):
        history = holdout.items[holdout.indptr[user] : holdout.indptr[user + 1]]
        if target in history:
            continue
        recent = history[-5:]
        x = network.items(torch.from_numpy(recent))[None]
        with torch.no_grad():
            e = network.users(x, torch.ones(1, len(recent), dtype=torch.bool))[0].double().numpy()
        fade = KEPT ** np.arange(len(recent) - 1, -1, -1)
        m = sum(w * unit[i] for w, i in zip(fade, recent, strict=True))
        scores = vectors @ e / np.linalg.norm(vectors, axis=1) / np.linalg.norm(e)
        scores = scores + a * np.array([u @ m for u in unit]) / np.linalg.norm(m)
        if content is not None:
            rows = content.double().numpy() / content.double().norm(dim=1, keepdim=True).numpy()
            c = sum(w * rows[i] for w, i in zip(fade, recent, strict=True))
            scores = scores + b * rows @ c / np.linalg.norm(c)
        scores[history] = -np.inf
        rank = int((scores > scores[target]).sum())
        gains.append(1 / np.log2(rank + 2) if rank < 10 else 0.0)
    return gains


@pytest.mark.parametrize("block_scores", [3 * N, 10**6])
def test_the_pair_is_the_best_of_all_by_loops(make_network, monkeypatch, block_scores):
    monkeypatch.setattr(validation, "_BLOCK_SCORES", block_scores)
    network = make_network(items=Read(), seen=torch.ones(N, dtype=torch.bool)).eval()
    holdout = make_holdout(80)
    means, contents = (0.0, 0.4, 2.0), (0.0, 0.3, 1.5, 6.0)
    table = {
        pair: np.mean(ndcgs(network, holdout, *pair)) for pair in itertools.product(means, contents)
    }
    best = max(table, key=table.get)
    assert table[best] > table[0.0, 0.0] + 0.1
    assert choose_weights(network, holdout, means, contents) == best
    assert network.mean_weight == network.content_weight == 0
    assert choose_weights(network, holdout, [0.4], contents[:1]) == (0.4, 0.0)


def test_chance_changes_nothing(make_network):
    """Random targets: whatever leads does so by less than its error, or hardly more."""
    network = make_network(items=Read(reads=False), seen=torch.ones(N, dtype=torch.bool)).eval()
    kept = 0
    for seed in range(20):
        holdout = make_holdout(60, seed)
        targets = np.random.default_rng(seed + 100).integers(0, N, 60)
        pair = choose_weights(
            network, Holdout(holdout.indptr, holdout.items, targets), (0.0, 0.1), [0]
        )
        kept += pair == (0, 0)
    assert kept >= 12


@pytest.mark.parametrize(
    ("metric", "reads", "anew", "given", "right"),
    [
        ("cosine", True, True, (None, None), (0.3, 0.0)),
        ("cosine", True, False, (None, None), (0.8, 0.4)),
        ("cosine", False, False, (None, None), (0.8, 0.0)),
        ("cosine", True, True, (0.1, None), (0.1, 0.0)),
        ("cosine", True, True, (None, 0.2), (0.3, 0.2)),
        ("dot", True, True, (None, None), (0.0, 0.0)),
    ],
)
@pytest.mark.parametrize("n_users", [0, 40])
def test_without_many_held_out_users_it_is_what_is_usual(
    make_network, metric, reads, anew, given, right, n_users
):
    network = make_network(items=Read(reads), seen=torch.ones(N, dtype=torch.bool)).eval()
    network.metric, network.mean_weight, network.content_weight = metric, 0.8, 0.4
    weigh(network, make_holdout(n_users) if n_users else None, *given, anew=anew)
    assert (network.mean_weight, network.content_weight) == right


def test_many_users_start_from_nothing(make_network, monkeypatch):
    """With random targets: 0 and 0 is what stays, where it is usual from few users on."""
    network = make_network(items=Read(), seen=torch.ones(N, dtype=torch.bool)).eval()
    holdout = make_holdout(60)
    asked = []
    monkeypatch.setattr(weighing, "choose_weights", lambda *a: asked.append(a[-1]) or a[-1])
    for many in (len(news(holdout)), len(news(holdout)) + 1):
        monkeypatch.setattr(weighing, "MANY_USERS", many)
        weigh(network, holdout, None, None)
    assert asked == [(0.0, 0.0), (0.3, 0.0)]


def test_what_is_usual_stays_unless_another_pair_leads(make_network):
    """Random targets: whichever pair is usual is kept, mostly; a real lead is taken."""
    network = make_network(items=Read(), seen=torch.ones(N, dtype=torch.bool)).eval()
    assert (0.25, 0.35) not in itertools.product(weighing.MEAN_WEIGHTS, weighing.CONTENT_WEIGHTS)
    kept = 0
    for seed in range(20):
        holdout = make_holdout(70, seed)
        targets = np.random.default_rng(seed + 100).integers(0, N, 70)
        network.mean_weight, network.content_weight = 0.25, 0.35
        weigh(network, Holdout(holdout.indptr, holdout.items, targets), None, None, anew=False)
        kept += (network.mean_weight, network.content_weight) == (0.25, 0.35)
    assert 4 <= kept < 20  # the best of 56 pairs leads by chance
    weigh(network, make_holdout(80), None, None)
    assert network.content_weight >= 0.3


def test_a_tie_keeps_what_is_usual(make_network, monkeypatch):
    network = make_network(items=Read(), seen=torch.ones(N, dtype=torch.bool)).eval()
    monkeypatch.setattr(weighing, "K", N)
    monkeypatch.setattr(weighing, "gains_behind", lambda ahead, k: torch.ones(len(ahead)))
    assert choose_weights(network, make_holdout(60), (0.0, 0.1), [0], usual=(0.1, 0)) == (0.1, 0)


def test_repeats_do_not_count():
    holdout = make_holdout(30)
    assert news(holdout).tolist() == [user for user in range(30) if user % 7]


def test_many_users_are_thinned_out_evenly(monkeypatch):
    monkeypatch.setattr(weighing, "_MOST_SCORES", 5 * N)
    monkeypatch.setattr(weighing, "_ENOUGH_USERS", 3)
    holdout = make_holdout(30)
    some = weighing._some(holdout, N)
    users = news(holdout)[np.linspace(0, len(news(holdout)) - 1, 5).astype(int)]
    assert some.targets.tolist() == holdout.targets[users].tolist()
    for place, user in enumerate(users):
        left = some.items[some.indptr[place] : some.indptr[place + 1]]
        right = holdout.items[holdout.indptr[user] : holdout.indptr[user + 1]]
        np.testing.assert_array_equal(left, right)


def test_the_default_network_has_no_averages(make_network):
    network = make_network(user=GRUEncoder(max_length=3))
    assert (network.mean_weight, network.content_weight) == (0.0, 0.0)
    assert network.width == 6
    assert not network.reads_content

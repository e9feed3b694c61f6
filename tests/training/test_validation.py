import math

import numpy as np
import pytest
import torch

from palate._options import RunOptions
from palate.data.histories import Histories
from palate.training import validation
from palate.training.validation import Holdout, hold_out, judge, validation_ndcg

N, D = 11, 6


def make_histories(rows):
    indptr = np.cumsum([0, *map(len, rows)])
    items = np.concatenate(rows).astype(np.int64)
    weights = (np.arange(len(items)) + 0.5).astype(np.float32)
    return Histories(indptr, items, np.arange(len(items)), weights, n_users=len(rows))


ROWS = [[1, 2, 3], [4, 5], [6, 7, 8, 9], [0], [10, 1, 2], []]


def test_last_events_of_users_with_three():
    histories = make_histories(ROWS)
    left, holdout = hold_out(histories, 1.0, torch.Generator().manual_seed(0))
    assert holdout.targets.tolist() == [3, 9, 2]
    assert holdout.indptr.tolist() == [0, 2, 5, 7]
    assert holdout.items.tolist() == [1, 2, 6, 7, 8, 10, 1]
    assert left.n_users == 6
    kept = [[1, 2], [4, 5], [6, 7, 8], [0], [10, 1], []]
    assert [left.of(user).tolist() for user in range(6)] == kept
    places = [0, 1, 3, 4, 5, 6, 7, 9, 10, 11]
    assert left.times.tolist() == places
    assert left.weights.tolist() == [place + 0.5 for place in places]
    assert histories.of(0).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("fraction", "n_users", "taken"),
    [
        *[(1e-9, 1, 1), (1e-9, 3, 1), (1e-9, 40, 20), (0.75, 40, 30), (1.0, 40, 40)],
        *[(0.1, 199, 99), (0.1, 300, 100), (0.5, 300, 150), (0.1, 1300, 130)],
    ],
)
def test_the_share_of_users(fraction, n_users, taken):
    histories = make_histories([[user % 5, 1, 2, 3] for user in range(n_users)])
    left, holdout = hold_out(histories, fraction, torch.Generator().manual_seed(0))
    assert len(holdout.targets) == taken
    assert left.n_events == 4 * n_users - taken
    again, _ = hold_out(histories, fraction, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(again.indptr, left.indptr)
    other, _ = hold_out(histories, fraction, torch.Generator().manual_seed(1))
    assert taken in (1, n_users) or (other.indptr != left.indptr).any()


def test_nobody_is_held_out():
    histories = make_histories(ROWS)
    assert hold_out(histories, 0, torch.Generator()) == (histories, None)
    short = make_histories([[1, 2], [3]])
    left, holdout = hold_out(short, 0.5, torch.Generator())
    assert left is short
    assert holdout is None


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("batch_size", [1, 3, 1024])
def test_the_metric_is_that_of_a_loop(make_network, monkeypatch, metric, batch_size):
    # The second target is one of its own viewed items: a repeat may still be ranked.
    network = make_network(metric=metric)
    histories = [[1, 2, 3], [4, 5, 4], [6], [7, 7, 8, 9], [0, 10]]
    targets = [4, 5, 0, 3, 9]
    with torch.inference_mode():
        vectors = network.eval().items(None).double()
        right = whole = 0.0
        for history, target in zip(histories, targets, strict=True):
            recent = torch.tensor(history[-5:])
            mask = torch.ones(1, len(recent), dtype=torch.bool)
            user = network.users(network.items(None)[recent][None], mask)[0].double()
            scores = {
                "cosine": vectors @ user / vectors.norm(dim=1),
                "dot": vectors @ user,
                "euclidean": -(vectors - user).norm(dim=1),
            }[metric]
            for item in set(history) - {target}:
                scores[item] = -math.inf
            rank = int((scores > scores[target]).sum())
            right += 1 / math.log2(rank + 2) if rank < 3 else 0.0
            whole += 1 / math.log2(rank + 2)
    holdout = Holdout(
        np.cumsum([0, *map(len, histories)]), np.concatenate(histories), np.array(targets)
    )
    options = RunOptions(device="cpu", inference_batch_size=batch_size)
    monkeypatch.setattr(validation, "K", 3)
    monkeypatch.setattr(validation, "_BLOCK_SCORES", 2 * N)  # two users together, and one is left
    assert validation_ndcg(network, holdout, options) == pytest.approx(right / 5, abs=1e-9)
    # Few users are judged by all ranks, many by the first ones.
    found = judge(network, holdout, options)
    assert (found.ndcg, float(found.gains.mean())) == pytest.approx((right / 5, whole / 5))
    assert whole > right
    monkeypatch.setattr(validation, "MANY_HELD_OUT", 5)
    found = judge(network, holdout, options)
    assert (found.ndcg, float(found.gains.mean())) == pytest.approx((right / 5, right / 5))
    assert found.gains.shape == (5,)


def test_a_share_of_a_large_set_is_capped(monkeypatch):
    monkeypatch.setattr(validation, "MOST_HELD_OUT", 4)
    monkeypatch.setattr(validation, "FEWEST_HELD_OUT", 2)
    items = np.arange(30) % 7
    histories = Histories(np.arange(0, 33, 3), items, None, None, n_users=10)
    for fraction, taken in ((0.3, 3), (0.9, 4), (1.0, 10)):
        _, holdout = hold_out(histories, fraction, torch.Generator())
        assert len(holdout.targets) == taken

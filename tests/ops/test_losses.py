import math

import numpy as np
import pytest
import torch

from palate.ops import losses
from palate.ops.losses import contrastive_loss, gbce_beta, gbce_loss, softmax_loss
from palate.training.objectives import SampledSoftmaxObjective

P, N, D = 37, 23, 5


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(dtype=torch.float32):
    queries, items = draw(P, D, scale=3.0).to(dtype), draw(N, D, seed=1).to(dtype)
    targets = torch.randint(0, N, (P,), generator=torch.Generator().manual_seed(2))
    weights = torch.rand(P, generator=torch.Generator().manual_seed(3)).to(dtype)
    weights[4] = 0
    return queries, items, targets, weights, draw(N, seed=4).to(dtype)


def loop_loss(queries, items, targets, weights, bias):
    """Cross-entropy in float64, one position after another; autograd does the rest."""
    total, mass = 0.0, 0.0
    for row, target in enumerate(targets.tolist()):
        logits = items @ queries[row]
        if bias is not None:
            others = torch.arange(len(items)) != target
            logits = logits + torch.where(others, bias, 0.0)
        weight = 1.0 if weights is None else float(weights[row])
        total = total + weight * (torch.logsumexp(logits, 0) - logits[target])
        mass += weight
    return total / mass


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("block_bytes", [1, 4 * N * 17, 2**21])
def test_value_and_gradients_match_a_float64_loop(
    monkeypatch, with_weights, with_bias, block_bytes
):
    monkeypatch.setitem(losses._BLOCK_BYTES, "cpu", block_bytes)  # blocks of 16, 17 and all rows
    queries, items, targets, weights, bias = inputs()
    weights, bias = weights if with_weights else None, bias if with_bias else None
    q, v = (t.clone().requires_grad_() for t in (queries, items))
    loss = softmax_loss(q, v, targets, weights=weights, bias=bias)
    (3 * loss).backward()
    q64, v64 = (t.double().requires_grad_() for t in (queries, items))
    right = loop_loss(q64, v64, targets, weights, bias.double() if bias is not None else None)
    (3 * right).backward()
    assert float(loss.detach()) == pytest.approx(float(right.detach()), rel=1e-5)
    np.testing.assert_allclose(q.grad, q64.grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(v.grad, v64.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_smoothed_labels_match_a_float64_loop(with_weights, with_bias):
    queries, items, targets, weights, bias = inputs()
    weights, share = weights if with_weights else torch.ones(P), 0.3
    bias = bias if with_bias else torch.zeros(N)
    q, v = (t.clone().requires_grad_() for t in (queries, items))
    loss = softmax_loss(
        q, v, targets, weights=weights, bias=bias if with_bias else None, label_smoothing=share
    )
    (3 * loss).backward()
    q64, v64 = (t.double().requires_grad_() for t in (queries, items))
    right = 0.0
    for row, target in enumerate(targets.tolist()):
        others = torch.arange(N) != target
        logits = v64 @ q64[row] + torch.where(others, bias.double(), 0.0)
        truth = torch.full((N,), share / N, dtype=torch.float64)
        truth[target] += 1 - share
        right = right - weights[row].double() * (truth * torch.log_softmax(logits, 0)).sum()
    right = right / weights.double().sum()
    (3 * right).backward()
    assert float(loss.detach()) == pytest.approx(float(right.detach()), rel=1e-5)
    np.testing.assert_allclose(q.grad, q64.grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(v.grad, v64.grad, rtol=1e-4, atol=1e-6)


def test_no_smoothing_is_the_plain_loss_to_the_bit():
    queries, items, targets, weights, _ = inputs()
    plain = softmax_loss(queries, items, targets, weights=weights)
    assert torch.equal(
        softmax_loss(queries, items, targets, weights=weights, label_smoothing=0.0), plain
    )


@pytest.mark.parametrize("with_weights", [False, True])
def test_gbce_matches_a_float64_loop(with_weights):
    queries, items, targets, weights, _ = inputs()
    weights = weights if with_weights else None
    drawn = torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(7)).float()
    drawn[targets[0]] = 2  # a negative that is a target
    q, v = (t.clone().requires_grad_() for t in (queries, items))
    loss = gbce_loss(q, v, targets, drawn, beta=0.4, weights=weights)
    (3 * loss).backward()
    q64, v64 = (t.double().requires_grad_() for t in (queries, items))
    total, mass = 0.0, 0.0
    for row, target in enumerate(targets.tolist()):
        chance, miss = torch.sigmoid(v64 @ q64[row]), torch.sigmoid(-v64 @ q64[row])
        own, n = -torch.log(chance[target] ** 0.4), 0
        for item in range(N):
            for _ in range(int(drawn[item]) if item != target else 0):
                own, n = own - torch.log(miss[item]), n + 1
        weight = 1.0 if weights is None else float(weights[row])
        total, mass = total + weight * own / (1 + n), mass + weight
    (3 * total / mass).backward()
    assert float(loss.detach()) == pytest.approx(float((total / mass).detach()), rel=1e-5)
    np.testing.assert_allclose(q.grad, q64.grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(v.grad, v64.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_the_power_of_gbce(t):
    # With the rate a, log odds learned under sampling are those of p / (p + a (1 - p)); the power
    # a makes sigmoid(s) the chance p itself. In between the formula is linear in t.
    rate = 30 / 120
    assert gbce_beta(30, 121, t) == pytest.approx((1 - t) + t * rate)
    assert gbce_beta(500, 121, t) == 1.0
    assert gbce_beta(5, 1, t) == 1.0


def test_blocks_are_bounded(monkeypatch):
    monkeypatch.setitem(losses._BLOCK_BYTES, "cpu", 4 * N * 17)
    sizes = [len(range(P)[block]) for block in losses._blocks(P, N, "cpu")]
    assert sizes == [17, 17, 3]
    assert [len(range(P)[b]) for b in losses._blocks(P, 10**9, "cpu")] == [16, 16, 5]


def test_only_one_side_may_need_a_gradient():
    queries, items, targets, *_ = inputs()
    for needs in ((True, False), (False, True)):
        q, v = queries.clone().requires_grad_(needs[0]), items.clone().requires_grad_(needs[1])
        softmax_loss(q, v, targets).backward()
        assert (q.grad is not None, v.grad is not None) == needs
    assert not softmax_loss(queries, items, targets).requires_grad
    assert float(softmax_loss(queries, items, targets)) == pytest.approx(
        float(torch.nn.functional.cross_entropy(queries @ items.T, targets)), rel=1e-5
    )


def test_numbers_far_apart_do_not_overflow():
    queries = torch.tensor([[1e4, 0.0]], requires_grad=True)
    items = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.9, 1.0]])
    sure = softmax_loss(queries.detach(), items, torch.tensor([0]))
    assert float(sure) == pytest.approx(0.0)
    loss = softmax_loss(queries, items, torch.tensor([1]))
    assert float(loss.detach()) == pytest.approx(2e4)
    loss.backward()
    assert torch.isfinite(queries.grad).all()


def test_weights_are_relative():
    queries, items, targets, weights, _ = inputs()
    once = softmax_loss(queries, items, targets, weights=weights)
    assert float(softmax_loss(queries, items, targets, weights=100 * weights)) == pytest.approx(
        float(once), rel=1e-5
    )
    assert float(softmax_loss(queries, items, targets, weights=torch.zeros(P))) == 0.0


def test_a_target_is_never_corrected():
    # However large the correction of its column, a lone target is certain: its loss is zero.
    queries, items = draw(2, D), draw(1, D)
    targets = torch.zeros(2, dtype=torch.int64)
    loss = softmax_loss(queries, items, targets, bias=torch.tensor([5.0]))
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("n_targets", [1, 6])
def test_the_sampled_partition_is_the_full_one_on_average(n_targets):
    # Position 0 keeps its target; the others are drawn from the shares of events, as in a batch.
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([40.0, 30.0, 10.0, 8.0, 6.0, 3.0, 2.0, 1.0, 1.0])
    pool = torch.arange(len(counts))
    scores = torch.linspace(1.5, -1.0, len(counts))
    objective = SampledSoftmaxObjective(n_negatives=3)
    own = torch.tensor([2])
    partitions = []
    for _ in range(2000):
        others = (
            torch.multinomial(counts, n_targets - 1, True, generator=generator)
            if (n_targets > 1)
            else own[:0]
        )
        codes, bias = objective.candidates(torch.cat([own, others]), pool, counts, generator)
        place = torch.searchsorted(codes, own)
        query, items = torch.ones(1, 1), scores[codes][:, None]
        loss = softmax_loss(query, items, place, bias=bias)
        partitions.append(float(torch.exp(loss + scores[own])))  # exp(loss) = partition / exp(s)
    full = float(scores.exp().sum())
    error = np.std(partitions) / math.sqrt(len(partitions))
    assert error < 0.03 * full
    assert abs(np.mean(partitions) - full) < 4 * error


def test_candidates_hold_the_targets_and_come_from_the_pool():
    objective = SampledSoftmaxObjective(n_negatives=20)
    pool = torch.tensor([1, 4, 5, 9, 12, 13])
    counts = torch.arange(15)
    targets = torch.tensor([9, 4, 9])
    codes, bias = objective.candidates(targets, pool, counts, torch.Generator().manual_seed(0))
    assert codes.tolist() == sorted(set(codes.tolist()))
    assert {9, 4} <= set(codes.tolist()) <= set(pool.tolist())
    assert bias.dtype == torch.float32
    assert (bias >= 0).all()
    again, _ = objective.candidates(targets, pool, counts, torch.Generator().manual_seed(0))
    assert again.tolist() == codes.tolist()
    with pytest.raises(ValueError) as error:
        SampledSoftmaxObjective(n_negatives=0).candidates(targets, pool, counts, torch.Generator())
    assert str(error.value) == "n_negatives must be an integer of at least 1; got 0."


def test_contrast_matches_a_loop():
    a, b = draw(4, D), draw(4, D, seed=1)
    x, y = (t.double().numpy() for t in (a, b))
    x, y = x / np.linalg.norm(x, axis=1)[:, None], y / np.linalg.norm(y, axis=1)[:, None]
    total = 0.0
    for row in range(4):
        for p, q in ((x, y), (y, x)):
            logits = [p[row] @ q[other] / 0.2 for other in range(4)]
            total += math.log(sum(math.exp(logit) for logit in logits)) - logits[row]
    assert float(contrastive_loss(a, b, 0.2)) == pytest.approx(total / 8, rel=1e-5)
    assert float(contrastive_loss(b, a, 0.2)) == pytest.approx(total / 8, rel=1e-5)
    assert float(contrastive_loss(a[:1], b[:1])) == 0.0


def test_weights_may_be_as_large_as_floats_go():
    queries, items, targets, weights, bias = inputs()
    large = weights * 3e38
    right = softmax_loss(queries, items, targets, weights=weights, bias=bias)
    found = softmax_loss(queries, items, targets, weights=large, bias=bias)
    torch.testing.assert_close(found, right)
    multiplicities = torch.ones(N)
    right = gbce_loss(queries, items, targets, multiplicities, beta=0.7, weights=weights)
    found = gbce_loss(queries, items, targets, multiplicities, beta=0.7, weights=large)
    torch.testing.assert_close(found, right)

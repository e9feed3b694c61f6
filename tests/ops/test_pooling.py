import numpy as np
import pytest
import torch

from palate.ops.pooling import (
    at_last,
    attention_prefixes,
    fading_bags,
    fading_last,
    fading_prefixes,
    inverse_lengths,
    last_prefixes,
    mean_prefixes,
)

B, T, D = 3, 7, 4


@pytest.fixture
def states():
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def scores():
    return 4 * torch.randn(B, T, generator=torch.Generator().manual_seed(1))


def loop(states, scores, kind):
    """Pool every prefix by itself, in float64."""
    x, s = states.double().numpy(), scores.double().numpy()
    out = np.zeros(x.shape)
    for row in range(B):
        for end in range(1, T + 1):
            part = x[row, :end]
            if kind == "last":
                out[row, end - 1] = part[-1]
            elif kind == "mean":
                out[row, end - 1] = part.sum(0) / end
            else:
                weights = np.exp(s[row, :end] - s[row, :end].max())
                out[row, end - 1] = (weights[:, None] * part).sum(0) / weights.sum()
    return out


def pool(kind, states, scores):
    if kind == "attention":
        return attention_prefixes(states, scores)
    return {"last": last_prefixes, "mean": mean_prefixes}[kind](states)


@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
def test_prefixes_match_a_loop(states, scores, kind):
    out = pool(kind, states, scores)
    np.testing.assert_allclose(out, loop(states, scores, kind), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
def test_the_entry_at_the_last_step_is_the_pooled_sequence(states, scores, kind):
    lengths = torch.tensor([2, 7, 5])
    out = at_last(pool(kind, states, scores), lengths)
    assert out.shape == (B, D)
    for row, length in enumerate(lengths.tolist()):
        alone = pool(kind, states[row : row + 1, :length], scores[row : row + 1, :length])
        np.testing.assert_allclose(out[row], alone[0, -1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
def test_the_future_changes_nothing(states, scores, kind):
    out = pool(kind, states, scores)
    later, high = states.clone(), scores.clone()
    later[:, 4:], high[:, 4:] = 1e6, 1e3
    np.testing.assert_array_equal(pool(kind, later, high)[:, :4], out[:, :4])


def test_attention_is_exact_where_a_late_score_towers(states):
    # Sums of exponentials over prefixes would lose the early steps beside exp(200).
    scores = torch.tensor([[0.0, 1.0, 0.5, 200.0, 0.0, 1.0, 2.0]]).expand(B, T)
    right = loop(states, scores, "attention")
    np.testing.assert_allclose(attention_prefixes(states, scores), right, rtol=1e-5, atol=1e-6)


def test_gradients_flow_to_the_scores(states, scores):
    inputs = (states.double().requires_grad_(), scores.double().requires_grad_())
    assert torch.autograd.gradcheck(attention_prefixes, inputs)
    assert torch.autograd.gradcheck(mean_prefixes, inputs[0])


@pytest.mark.parametrize("kept", [0.3, 1.0])
def test_fading_sums_are_those_of_a_loop(states, kept):
    sums, right = fading_prefixes(states, kept), np.zeros((B, T, D))
    for row in range(B):
        total = np.zeros(D)
        for step in range(T):
            total = kept * total + states[row, step].double().numpy()
            right[row, step] = total
    np.testing.assert_allclose(sums, right, rtol=0, atol=1e-5)
    lengths = torch.tensor([2, 7, 5])
    noisy = torch.where((torch.arange(T) < lengths[:, None])[..., None], states, torch.nan)
    last = fading_last(noisy, lengths, kept)
    np.testing.assert_allclose(last, right[np.arange(B), lengths - 1], rtol=0, atol=1e-5)


def test_gradients_flow_to_the_share_that_is_kept(states):
    kept = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    inputs = (states.double().requires_grad_(), kept)
    assert torch.autograd.gradcheck(fading_prefixes, inputs)
    lengths = torch.tensor([2, 7, 5])
    assert torch.autograd.gradcheck(lambda x, g: fading_last(x, lengths, g), inputs)


@pytest.mark.parametrize("n_rows", [6, 400])
@pytest.mark.parametrize("scaled", [True, False])
def test_bags_are_the_fading_sums_of_rows(n_rows, scaled):
    """Histories in one flat array, some of them empty, beside a float64 loop."""
    rng = np.random.default_rng(n_rows)
    table = torch.randn(53, D, generator=torch.Generator().manual_seed(2))
    table[7] = 0
    lengths = rng.integers(0, 5, n_rows)
    codes = rng.integers(0, 53, lengths.sum())
    codes[0] = 7
    scales = inverse_lengths(table, torch.from_numpy(codes), 3) if scaled else None
    found = fading_bags(table, torch.from_numpy(codes), lengths, 0.6, scales)
    rows = table.double().numpy()
    if scaled:
        norms = np.linalg.norm(rows[:, :3], axis=1, keepdims=True)
        rows = rows / np.where(norms == 0, np.inf, norms)
    ends = np.cumsum(lengths)
    for row, (end, n) in enumerate(zip(ends, lengths, strict=True)):
        right = sum(
            (0.6 ** (end - 1 - i) * rows[codes[i]] for i in range(end - n, end)), np.zeros(D)
        )
        np.testing.assert_allclose(found[row], right, rtol=1e-5, atol=1e-6)

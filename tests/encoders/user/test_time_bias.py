"""The bias by time in every block, against loops in float64, and where no network takes it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.pooled import PooledEncoder
from palate.encoders.user.time_bias import TimeBias
from palate.encoders.user.transformer import BLOCKS, TransformerEncoder
from palate.ops.pooling import at_last

B, T, D, H, L = 3, 7, 12, 2, 4
LENGTHS = [7, 4, 1]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths):
    return torch.arange(T) < torch.tensor(lengths)[:, None]


def build(block, **params):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spec = TransformerEncoder(n_layers=L, n_heads=H, block=block, **params)
        network = spec.build(D).eval()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.4)
    return network


def silu(value):
    return value / (1 + math.exp(-value))


def attended_by_hand(block, x, seen, bias):
    """What softmax attention adds to the states (T, D) of one history, in float64 loops."""
    size = D // H
    q, k, v = block.project_in(block.norm_attention(x)).view(-1, 3, H, size).unbind(1)
    mixed = torch.zeros(len(x), H, size, dtype=torch.float64)
    for head in range(H):
        for i in range(len(x)):
            scores = {
                j: float(q[i, head] @ k[j, head]) / size**0.5 + float(bias[head, i, j])
                for j in range(len(x))
                if seen[i][j]
            }
            total = sum(math.exp(score) for score in scores.values())
            for j, score in scores.items():
                mixed[i, head] += math.exp(score) / total * v[j, head]
    return block.project_out(mixed.flatten(1))


def hstu_by_hand(block, x, seen, bias):
    size = D // H
    parts = F.silu(block.project_in(block.norm_in(x))).view(-1, 4, H, size)
    u, v, q, k = parts.unbind(1)
    mixed = torch.zeros(len(x), H, size, dtype=torch.float64)
    for head in range(H):
        for i in range(len(x)):
            sees = [j for j in range(len(x)) if seen[i][j]]
            for j in sees:
                both = float(block.bias[head, abs(i - j)]) + float(bias[head, i, j])
                share = silu(float(q[i, head] @ k[j, head]) + both)
                mixed[i, head] += share / len(sees) * v[j, head]
    return x + block.project_out(block.norm_mixed(mixed.flatten(1)) * u.flatten(1))


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_adds_the_bias_to_its_scores(kind, both_ways):
    block = build(kind).blocks[0].double()
    x, bias = draw(B, T, D).double(), draw(B, H, T, T, seed=1).double()
    visible = mask_of(LENGTHS)[:, None, None, :] if both_ways else None
    with torch.no_grad():
        found, plain = block(x, visible, bias), block(x, visible)
        for row, length in enumerate(LENGTHS):
            seen = [[both_ways or j <= i for j in range(length)] for i in range(length)]
            own = x[row, :length]
            if kind == "hstu":
                right = hstu_by_hand(block, own, seen, bias[row])
            else:
                mixed = attended_by_hand(block, own, seen, bias[row])
                right = block._feed(block._join(own, mixed))
            torch.testing.assert_close(found[row, :length], right, rtol=0, atol=1e-9)
        assert (found - plain).abs().max() > 0.1
        torch.testing.assert_close(block(x, visible, torch.zeros_like(bias)), plain)


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("kind", BLOCKS)
def test_each_layer_has_its_own_and_the_last_state_is_that_of_all(kind, shortcut):
    network = build(kind, shortcut=shortcut)
    assert network.bias_shape == (L, H)
    x, mask, bias = draw(B, T, D), mask_of(LENGTHS), draw(L, B, H, T, T, seed=1)
    with torch.no_grad():
        states = network(x, mask, bias)
        last = at_last(states, mask.sum(1))
        torch.testing.assert_close(network.last_state(x, mask, bias), last, rtol=0, atol=1e-4)
        for layer in range(L):
            other = bias.clone()
            other[layer] = draw(B, H, T, T, seed=2)
            for method in ("forward", "bidirectional", "last_state"):
                one, two = (getattr(network, method)(x, mask, b) for b in (bias, other))
                assert (one - two).abs().max() > 1e-3, (layer, method)
        for row, length in enumerate(LENGTHS):
            cut = bias[:, row : row + 1, :, :length, :length]
            alone = network(x[row : row + 1, :length], mask[row : row + 1, :length], cut)
            torch.testing.assert_close(alone[0], states[row, :length], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", BLOCKS)
def test_what_is_later_never_changes_what_is_before(kind):
    network = build(kind)
    x, mask, bias = draw(B, T, D), mask_of([T] * B), draw(L, B, H, T, T, seed=1)
    with torch.no_grad():
        before = network(x, mask, bias)
        for step in range(1, T):
            changed = bias.clone()
            changed[..., step:, :] = 9 * draw(L, B, H, T - step, T, seed=step)
            changed[..., step:] = 9 * draw(L, B, H, T, T - step, seed=step)
            after = network(x, mask, changed)
            torch.testing.assert_close(after[:, :step], before[:, :step], rtol=0, atol=1e-5)
            assert (after[:, step] - before[:, step]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["prenorm", "swiglu", "ligr"])
def test_without_a_bias_attention_is_the_fast_causal_one(kind, monkeypatch):
    asked, attend = [], F.scaled_dot_product_attention

    def spy(q, k, v, **how):
        asked.append((how["attn_mask"] is None, how["is_causal"]))
        return attend(q, k, v, **how)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    network, x, mask = build(kind), draw(B, T, D), mask_of(LENGTHS)
    network(x, mask)
    assert asked == [(True, True)] * L
    asked.clear()
    network(x, mask, torch.zeros(L, B, H, T, T))
    assert asked == [(False, False)] * L


def test_the_numbers_are_made_without_chance_and_the_unknown_stays_zero():
    state = torch.get_rng_state()
    bias = TimeBias(np.arange(1.0, 4.0), L, H)
    assert torch.equal(torch.get_rng_state(), state)
    assert bias.weight.shape == (L, H, 5)
    assert not bias.weight.any()
    codes = torch.randint(0, 6, (B, T, T), generator=torch.Generator().manual_seed(0))
    weights = draw(L, H, 5)
    with torch.no_grad():
        bias.weight.copy_(weights)
    found = bias(codes)
    assert found.shape == (L, B, H, T, T)
    pull = draw(L, B, H, T, T, seed=1)
    (found * pull).sum().backward()
    gradient = torch.zeros(L, H, 5)
    for row in range(B):
        for i in range(T):
            for j in range(T):
                code = int(codes[row, i, j])
                right = weights[:, :, code - 1] if code else torch.zeros(L, H)
                assert torch.equal(found[:, row, :, i, j], right)
                if code:
                    gradient[:, :, code - 1] += pull[:, row, :, i, j]
    torch.testing.assert_close(bias.weight.grad, gradient)


class Doubling(nn.Module):
    """Somebody's own network, which takes vectors and mask alone."""

    def forward(self, x, mask):
        return 2 * x


class Own(GRUEncoder):
    def build(self, dim):
        return Doubling()


@pytest.mark.parametrize("spec", [GRUEncoder(), GRUEncoder(shortcut=True), Own()])
def test_networks_without_attention_take_none_and_are_asked_without(spec):
    pooled = PooledEncoder(spec, D).eval()
    assert pooled.bias_shape is None
    x, mask = draw(B, T, D), mask_of(LENGTHS)
    with torch.no_grad():
        assert pooled.prefixes(x, mask).shape == pooled.states(x, mask).shape == (B, T, D)
        assert pooled(x, mask).shape == (B, D)


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_pooled_states_are_told_too(pooling):
    pooled = PooledEncoder(TransformerEncoder(n_heads=H, pooling=pooling), D).eval()
    assert pooled.bias_shape == (2, H)
    for parameter in pooled.parameters():
        nn.init.normal_(parameter, std=0.4)
    x, mask, bias = draw(B, T, D), mask_of(LENGTHS), 9 * draw(2, B, H, T, T, seed=1)
    with torch.no_grad():
        prefixes = pooled.prefixes(x, mask, bias)
        right = at_last(prefixes, mask.sum(1))
        torch.testing.assert_close(pooled(x, mask, bias), right, rtol=0, atol=2e-6)
        assert (pooled(x, mask) - right).abs().max() > 0.01
        both = pooled.encoder.bidirectional(x, mask, bias)
        assert torch.equal(pooled.states(x, mask, bias), both)
        assert not torch.equal(pooled.states(x, mask), both)

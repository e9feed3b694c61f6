"""What every user encoder must do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from palate.defaults import STANDALONE, fill_spec
from palate.encoders.user.pooled import POOLINGS, PooledEncoder
from palate.ops.pooling import at_last
from palate.testing._rules import all_get_gradients, close, fresh_copy, rule, settings

_LENGTHS = (5, 2, 4)


def check_user_encoder(spec: Any, *, dim: int = 8, random_state: int = 0) -> None:
    """Check a user encoder spec: shapes, causality, padding, determinism, gradients.

    Parameters
    ----------
    spec : UserEncoder
        It is copied, not changed.
    dim : int, default=8
        Width to build it for.
    random_state : int, default=0
        Seed of weights and inputs; the global state is restored.

    Raises
    ------
    AssertionError
        If a rule is broken; the message says which.

    Examples
    --------
    >>> from palate import GRUEncoder
    >>> check_user_encoder(GRUEncoder(max_length=7))
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        copy = fill_spec(fresh_copy(spec), STANDALONE, dim)
        _check_attributes(copy)
        steps = min(max(_LENGTHS), copy.max_length)
        lengths = torch.tensor(_LENGTHS).clamp_max(steps)
        mask = torch.arange(steps) < lengths[:, None]
        x = torch.randn(len(lengths), steps, dim)
        network = _check_build(copy, dim)
        _check_shapes(network, x, mask, copy.max_length)
        _check_causality(network, x, mask)
        _check_padding(network, x, mask)
        if hasattr(network, "bidirectional"):
            _check_bidirectional(network, x, mask)
        if hasattr(network, "last_state"):
            _check_last_state(network, x, mask)
        if getattr(network, "bias_shape", None) is not None:
            _check_bias(network, x, mask)
        _check_gradients(copy, dim, x, mask)


def _check_attributes(spec: Any) -> None:
    rule(callable(getattr(spec, "build", None)), "a user encoder must have the method build(dim)")
    length = getattr(spec, "max_length", None)
    good = isinstance(length, int) and not isinstance(length, bool) and length >= 1
    rule(good, f"max_length must be an integer of at least 1; got {length!r}")
    pooling = getattr(spec, "pooling", None)
    rule(pooling in POOLINGS, f"pooling must be one of {', '.join(POOLINGS)}; got {pooling!r}")


def _check_build(spec: Any, dim: int) -> nn.Module:
    before = settings(spec)
    first, second = spec.build(dim), spec.build(dim)
    rule(isinstance(first, nn.Module), "build must return a torch.nn.Module")
    shared = {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    rule(first is not second and not shared, "build must return a fresh network each time")
    rule(settings(spec) == before, "build must not change the spec")
    return first.eval()


@torch.no_grad()
def _check_shapes(network: nn.Module, x: Tensor, mask: Tensor, max_length: int) -> None:
    states = network(x, mask)
    rule(
        states.shape == x.shape and states.dtype == x.dtype,
        f"states must have the shape {tuple(x.shape)} and type of the input; "
        f"got {tuple(states.shape)}, {states.dtype}",
    )
    rule(states[mask].isfinite().all(), "states of real events must be finite")
    rule(
        torch.equal(states, network(x, mask)), "a network in evaluation mode must be deterministic"
    )
    for steps in (1, max_length):
        long = torch.randn(2, steps, x.shape[-1])
        out = network(long, torch.ones(2, steps, dtype=torch.bool))
        rule(out.shape == long.shape, f"histories of {steps} events must be accepted")


@torch.no_grad()
def _check_causality(network: nn.Module, x: Tensor, mask: Tensor) -> None:
    states = network(x, mask)
    for step in range(x.shape[1]):
        changed = x.clone()
        changed[:, step] = torch.randn_like(x[:, step])
        after = network(changed, mask)
        rule(
            close(after[:, :step], states[:, :step]),
            f"a state must not depend on later events; changing event {step} moved one before it",
        )
        moved = not close(after[:1, step:], states[:1, step:])
        rule(moved or step < x.shape[1] - 1, "the last state must depend on the last event")


@torch.no_grad()
def _check_padding(network: nn.Module, x: Tensor, mask: Tensor) -> None:
    states = network(x, mask)
    noisy = torch.where(mask[..., None], x, x + 7)
    rule(
        close(network(noisy, mask)[mask], states[mask]),
        "what stands at padding must not reach the state of a real event",
    )
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = network(x[row : row + 1, :length], mask[row : row + 1, :length])
        rule(
            close(alone[0], states[row, :length]),
            "a history must give the same states alone as in a batch",
        )


@torch.no_grad()
def _check_bidirectional(network: Any, x: Tensor, mask: Tensor) -> None:
    states = network.bidirectional(x, mask)
    rule(states.shape == x.shape, "bidirectional must return states of the shape of the input")
    noisy = torch.where(mask[..., None], x, x + 7)
    rule(
        close(network.bidirectional(noisy, mask)[mask], states[mask]),
        "what stands at padding must not reach a state of bidirectional",
    )


@torch.no_grad()
def _check_last_state(network: Any, x: Tensor, mask: Tensor) -> None:
    lengths = mask.sum(1)
    right = at_last(network(x, mask), lengths)
    found = network.last_state(x, mask)
    rule(
        found.shape == right.shape and close(found, right),
        "last_state must return the state that the network gives each row's last real event",
    )


@torch.no_grad()
def _check_bias(network: Any, x: Tensor, mask: Tensor) -> None:
    n_layers, n_heads = network.bias_shape
    n_rows, n_steps = mask.shape
    bias = torch.randn(n_layers, n_rows, n_heads, n_steps, n_steps)
    plain, states = network(x, mask)[mask], network(x, mask, bias)
    rule(
        close(network(x, mask, torch.zeros_like(bias))[mask], plain),
        "a bias of zero must change nothing",
    )
    rule(n_steps == 1 or not close(states[mask], plain), "a bias must change the states")
    later = torch.randn_like(bias).triu(1)
    rule(
        close(network(x, mask, bias + later)[mask], states[mask]),
        "a bias towards later events must change nothing",
    )
    if hasattr(network, "last_state"):
        rule(
            close(network.last_state(x, mask, bias), at_last(states, mask.sum(1))),
            "last_state must take the bias as the network does",
        )


def _check_gradients(spec: Any, dim: int, x: Tensor, mask: Tensor) -> None:
    encoder = PooledEncoder(spec, dim).train()
    vectors = encoder(x, mask)
    rule(vectors.shape == (len(x), dim), "pooling must give one vector a history")
    all_get_gradients(encoder, (vectors * torch.randn_like(vectors)).sum())

"""What the checks of all parts share."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import clone
from torch import Tensor, nn


def rule(holds: Any, text: str) -> None:
    """Raise an ``AssertionError`` with the broken rule's text."""
    if not bool(holds):
        raise AssertionError(text)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Tell whether two tensors agree up to rounding."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def fresh_copy(spec: Any) -> Any:
    """Copy a spec as `fit` does."""
    rule(not isinstance(spec, (type, nn.Module)), "a spec must be an object that is no network")
    return clone(spec, safe=False)


def settings(spec: Any) -> str:
    """Return what the spec stores, to see whether a call changed it."""
    return str({name: repr(value) for name, value in sorted(vars(spec).items())})


def all_get_gradients(module: nn.Module, loss: Tensor) -> None:
    """Check that every trainable parameter takes part in a loss."""
    module.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    silent = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    rule(not silent, f"every trainable parameter must get a gradient; {', '.join(silent)} got none")

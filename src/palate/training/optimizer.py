"""The optimiser, and how its state follows a network that has grown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.98)
# A pretrained BERT is moved gently: 2e-5 at the default rate of 1e-3.
_BERT_RATE = 0.02
# Low-rank updates of it start at nothing, so they have a longer way: 5e-4 at the default rate.
_LOW_RANK_RATE = 0.5
_FUSED = ("cpu", "cuda")

OptimizerState = dict[str, dict[str, Tensor]]


class RowAdamW(torch.optim.AdamW):
    """AdamW that, for a sparse gradient, touches only the rows that have one.

    A row's moments and its decay rest while the row is not in use (the lazy form of Adam, as in
    torch.optim.SparseAdam), so a step costs what its rows cost, however large the catalogue is.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; sparse gradients are used up by it."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    _step_rows(parameter, self.state[parameter], group)
                    parameter.grad = None
        return super().step(closure)


def _step_rows(parameter: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> None:
    if not state:
        state["step"] = torch.zeros((), device=parameter.device)
        state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = torch.zeros_like(parameter)
    assert parameter.grad is not None
    gradient = parameter.grad.coalesce()
    rows, values = gradient.indices()[0], gradient.values()
    state["step"] += 1
    first, second = group["betas"]
    mean = torch.lerp(values, state["exp_avg"][rows], first)
    square = torch.lerp(values.square(), state["exp_avg_sq"][rows], second)
    state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
    time = float(state["step"])
    size = (square / (1 - second**time)).sqrt_().add_(group["eps"])
    kept = parameter[rows] * (1 - group["lr"] * group["weight_decay"])
    parameter[rows] = kept - group["lr"] / (1 - first**time) * mean / size


def has_sparse_gradients(network: nn.Module) -> bool:
    """Say whether a backward pass left a sparse gradient."""
    return any(p.grad is not None and p.grad.is_sparse for p in network.parameters())


def clip_gradients(parameters: Iterable[Tensor], most: float) -> None:
    """Scale all gradients so that their joint length is at most `most`, sparse ones too."""
    found = [p.grad for p in parameters if p.grad is not None]
    parts = [grad.coalesce().values() if grad.is_sparse else grad for grad in found]
    if not parts:
        return
    length = torch.linalg.vector_norm(torch.stack([part.norm() for part in parts]))
    factor = (most / (length + 1e-6)).clamp(max=1.0)
    for grad in found:
        grad.mul_(factor)


def make_optimizer(
    network: nn.Module, learning_rate: float, weight_decay: float, state: OptimizerState
) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters, going on from `state` where it fits.

    Parameters
    ----------
    network : nn.Module
    learning_rate : float
        Step size; parameters below a module named ``bert`` take a fiftieth of it, and low-rank
        updates (``lora_a`` and ``lora_b``) a half.
    weight_decay : float
        For matrices; vectors (biases, norms) are not decayed.
    state : dict of parameter name to moments
        From :func:`read_state`; empty to start afresh.

    Returns
    -------
    torch.optim.AdamW
    """
    alike: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate = learning_rate * _share(name)
            decay = weight_decay if parameter.ndim > 1 else 0.0
            alike.setdefault((rate, decay), []).append(parameter)
    groups = [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in alike.items()
    ]
    # One pass over the weights and both moments, in place of a dozen.
    fused = all(p.device.type in _FUSED for group in alike.values() for p in group)
    optimizer = RowAdamW(groups, lr=learning_rate, betas=_BETAS, fused=fused)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and name in state:
            moments = _grow(state[name], parameter)
            if moments is not None:
                optimizer.state[parameter] = moments
    return optimizer


def _share(name: str) -> float:
    """Return the share of the learning rate that a parameter takes."""
    if name.rpartition(".")[2] in ("lora_a", "lora_b"):
        return _LOW_RANK_RATE
    return _BERT_RATE if ".bert." in f".{name}" else 1.0


def read_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> OptimizerState:
    """Return the moments of each parameter by name, on the CPU."""
    return {
        name: {key: value.detach().cpu().clone() for key, value in moments.items()}
        for name, parameter in network.named_parameters()
        if (moments := optimizer.state.get(parameter))
    }


def _grow(moments: Mapping[str, Tensor], parameter: Tensor) -> dict[str, Any] | None:
    """Fit moments to a parameter that may have new rows: those start without a past."""
    grown: dict[str, Any] = {}
    for key, value in moments.items():
        if value.shape[1:] != parameter.shape[1:] and value.ndim:
            return None
        if value.ndim and len(value) > len(parameter):
            return None
        if value.ndim and len(value) < len(parameter):
            new = value.new_zeros(len(parameter) - len(value), *value.shape[1:])
            value = torch.cat([value, new])
        grown[key] = value.to(parameter.device).clone()
    return grown

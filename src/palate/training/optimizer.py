"""The optimiser, and how its state follows a network that has grown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.98)
# A pretrained BERT is moved gently: 2e-5 at the default rate of 1e-3.
_BERT_RATE = 0.02

OptimizerState = dict[str, dict[str, Tensor]]


def make_optimizer(
    network: nn.Module, learning_rate: float, weight_decay: float, state: OptimizerState
) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters, going on from `state` where it fits.

    Parameters
    ----------
    network : nn.Module
    learning_rate : float
        Step size; parameters below a module named ``bert`` take a fiftieth of it.
    weight_decay : float
        For matrices; vectors (biases, norms) are not decayed.
    state : dict of parameter name to moments
        From :func:`read_state`; empty to start afresh.

    Returns
    -------
    torch.optim.AdamW
    """
    groups = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate = learning_rate * (_BERT_RATE if ".bert." in f".{name}" else 1.0)
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=_BETAS)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and name in state:
            moments = _grow(state[name], parameter)
            if moments is not None:
                optimizer.state[parameter] = moments
    return optimizer


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
        grown[key] = value.clone() if not value.ndim else value.to(parameter.device).clone()
    return grown

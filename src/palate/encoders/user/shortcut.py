"""A short way from the history to the user vector: the average of what was taken, past the network.

A deep encoder learns sequences by heart where events are few. The average of the items' own vectors
cannot: it only says that what was taken is near what will be. Added to the encoder's state, it
leaves to the encoder what order and context tell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from palate._validation import check_choice
from palate.ops.pooling import at_last, fading_last, fading_prefixes
from palate.ops.similarity import unit_norm

_START_WEIGHT = 0.3
_START_KEPT = 0.95


def with_shortcut(network: nn.Module, shortcut: bool, dropout: float) -> nn.Module:
    """Return a network with or without the way past it.

    Raises
    ------
    InvalidParameterError
        If `shortcut` is no bool.
    """
    check_choice("shortcut", shortcut, (True, False))
    return Shortcut(network, dropout) if shortcut else network


class Shortcut(nn.Module):
    """An encoder's states, plus the fading average of the inputs up to each.

    With the unit vectors x_j of the inputs, the state of step i becomes
    ``state_i + w * sqrt(dim) * unit(sum over j <= i of g**(i - j) * x_j)``: behind a layer
    normalisation, states have a length of about ``sqrt(dim)`` too. The weight w and the share g
    that is kept from step to step are learned, from 0.3 and 0.95 on.

    Parameters
    ----------
    encoder : nn.Module
        Maps inputs and mask to states.
    dropout : float
        Share of the inputs' entries that the average leaves out in training.

    Examples
    --------
    >>> network = Shortcut(nn.Identity(), dropout=0.0)
    >>> network.encoder.forward = lambda x, mask: torch.zeros_like(x)
    >>> x = torch.tensor([[[3.0, 0.0], [0.0, 5.0]]])
    >>> network(x, torch.ones(1, 2, dtype=torch.bool)).detach().round(decimals=3)
    tensor([[[0.4240, 0.0000],
             [0.2920, 0.3080]]])
    """

    def __init__(self, encoder: nn.Module, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.weight = nn.Parameter(torch.tensor(_START_WEIGHT))
        self.kept_logit = nn.Parameter(torch.tensor(math.log(_START_KEPT / (1 - _START_KEPT))))
        self.dropout = nn.Dropout(dropout)

    @property
    def bias_shape(self) -> tuple[int, int] | None:
        """Layers and heads of the encoder's attention; None where it takes no bias."""
        return getattr(self.encoder, "bias_shape", None)

    def forward(self, x: Tensor, mask: Tensor, *bias: Tensor) -> Tensor:
        """Return the states: (n_rows, n_steps, dim)."""
        return self.encoder(x, mask, *bias) + self._averages(x)  # type: ignore[no-any-return]

    def bidirectional(self, x: Tensor, mask: Tensor, *bias: Tensor) -> Tensor:
        """Return the encoder's states that look both ways, where it can, without averages."""
        return getattr(self.encoder, "bidirectional", self.encoder)(x, mask, *bias)  # type: ignore[no-any-return]

    def last_state(self, x: Tensor, mask: Tensor, *bias: Tensor) -> Tensor:
        """Return the state of each row's last real step: (n_rows, dim)."""
        lengths = mask.sum(1)
        if hasattr(self.encoder, "last_state"):
            state = self.encoder.last_state(x, mask, *bias)  # type: ignore[operator]
        else:
            state = at_last(self.encoder(x, mask, *bias), lengths)
        average = fading_last(unit_norm(self.dropout(x)), lengths, self.kept_logit.sigmoid())
        return state + self._scaled(average)  # type: ignore[no-any-return]

    def _averages(self, x: Tensor) -> Tensor:
        return self._scaled(fading_prefixes(unit_norm(self.dropout(x)), self.kept_logit.sigmoid()))

    def _scaled(self, averages: Tensor) -> Tensor:
        return self.weight * averages.shape[-1] ** 0.5 * unit_norm(averages)

"""The correction of a similarity by content: how a candidate is like what the user did lately."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palate.ops.similarity import unit_norm

# Where the sharpness of attention starts: contents are cosines, so that 3 tells them apart mildly.
_SHARPNESS = 3.0
# The gate and the scales follow the user at a third of the pace of the one weight of all users.
_PACE = 0.3


class ContentCorrection(nn.Module):
    """What is added to the similarities of candidates; see :class:`palate.Reranker`.

    Parameters
    ----------
    mode : {"gate", "film", "attention"}
    dim : int
        Width of user and item vectors.
    width : int
        Width of content vectors.
    n_events : int
        Most recent events that are read.
    hidden_size : int
        Of the gate.
    scale : float
        Where the factor from scores to logits starts, in training.

    Attributes
    ----------
    strength : Tensor of shape ()
        Factor of the correction, chosen by validation; 0 leaves the first stage as it is.
    """

    strength: Tensor

    def __init__(
        self, mode: str, dim: int, width: int, n_events: int, hidden_size: int, scale: float
    ) -> None:
        super().__init__()
        self.dim = dim
        self.n_events = n_events
        self.weight = nn.Parameter(torch.zeros(()))
        self.recency = nn.Parameter(torch.zeros(n_events))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.register_buffer("strength", torch.ones(()))
        attends = mode == "attention"
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS)) if attends else None
        self.gate: nn.Sequential | None = None
        self.film: nn.Linear | None = None
        if mode == "gate":
            last = nn.Linear(hidden_size, 1, bias=False)
            self.gate = nn.Sequential(nn.Linear(2 * dim, hidden_size), nn.GELU(), last)
            nn.init.zeros_(last.weight)
        if mode == "film":
            self.film = nn.Linear(dim, width, bias=False)
            nn.init.zeros_(self.film.weight)

    def forward(
        self, users: Tensor, items: Tensor, content: Tensor, events: Tensor, visible: Tensor
    ) -> Tensor:
        """Return the correction of each candidate: (n_rows, n_candidates).

        Parameters
        ----------
        users : float Tensor of shape (n_rows, dim or more)
        items : float Tensor of shape (n_rows, n_candidates, dim or more)
            Columns beyond `dim`, in which the first stage may keep content, are not read.
        content : float Tensor of shape (n_rows, n_candidates, width)
            Of the candidates, of length 1.
        events : float Tensor of shape (n_rows, n_steps, width)
            Content of recent events, the last one first; at most `n_events` steps.
        visible : bool Tensor of shape (n_rows, n_candidates, n_steps)
            Which events a candidate may look at. One that sees none has the correction 0.
        """
        users, items = users[..., : self.dim], items[..., : self.dim]
        if self.film is not None:
            content = content * (1 + _PACE * self.film(unit_norm(users)))[:, None]
        likeness = content @ events.transpose(1, 2)
        logits = self.recency[: events.shape[1]].expand_as(likeness)
        if self.sharpness is not None:
            logits = logits + self.sharpness * likeness
        # Not minus infinity: the softmax of a row that sees nothing would be NaN.
        shares = F.softmax(logits.masked_fill(~visible, -1e9), -1) * visible
        return self.strength * self._factor(users, items) * (shares * likeness).sum(-1)

    def _factor(self, users: Tensor, items: Tensor) -> Tensor:
        if self.gate is None:
            return self.weight
        u = unit_norm(users)[:, None].expand(-1, items.shape[1], -1)
        gated = self.gate(torch.cat([u, unit_norm(items)], -1)).squeeze(-1)
        return self.weight + _PACE * gated  # type: ignore[no-any-return]

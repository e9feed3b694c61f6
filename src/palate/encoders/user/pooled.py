"""Encoder and pooling joined: histories to user vectors, at every step or at the end."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from palate._validation import check_choice
from palate.defaults import STANDALONE, fill_spec
from palate.ops.pooling import at_last, attention_prefixes, last_prefixes, mean_prefixes
from palate.protocols import UserEncoder

POOLINGS = ("last", "mean", "attention")


class PooledEncoder(nn.Module):
    """A user encoder's network with the pooling of its spec.

    Parameters
    ----------
    spec : UserEncoder
        Builds the network.
    dim : int
        Width of item and user vectors.
    """

    def __init__(self, spec: UserEncoder, dim: int) -> None:
        super().__init__()
        spec = fill_spec(copy.copy(spec), STANDALONE, dim)
        self.spec, self.dim = spec, dim
        self.pooling = check_choice("pooling", spec.pooling, POOLINGS)
        self.max_length = spec.max_length
        self.encoder = spec.build(dim)
        self.attention = nn.Linear(dim, 1, bias=False) if self.pooling == "attention" else None

    @property
    def bias_shape(self) -> tuple[int, int] | None:
        """Layers and heads of the attention that takes a bias; None where the network takes none.

        Methods take it as `bias` (n_layers, n_rows, n_heads, n_steps, n_steps), or nothing.
        """
        return getattr(self.encoder, "bias_shape", None)

    def fresh(self) -> PooledEncoder:
        """Return another of its kind, as nothing has been learned."""
        return PooledEncoder(self.spec, self.dim)

    @contextmanager
    def dropping(self, share: float | None) -> Iterator[None]:
        """Drop another share of activations for a while, where the network drops one share."""
        drops = [
            (module, "p" if isinstance(module, nn.Dropout) else "dropout")
            for module in self.encoder.modules()
            if isinstance(module, nn.Dropout)
            or (isinstance(module, nn.RNNBase) and module.num_layers > 1)
        ]
        before = {getattr(module, name) for module, name in drops}
        if not isinstance(share, (int, float)) or len(before) != 1:
            yield
            return
        try:
            for module, name in drops:
                setattr(module, name, float(share))
            yield
        finally:
            for module, name in drops:
                setattr(module, name, *before)

    def _pool(self, states: Tensor) -> Tensor:
        if self.pooling == "mean":
            return mean_prefixes(states)
        if self.attention is not None:
            return attention_prefixes(states, self.attention(states).squeeze(-1))
        return last_prefixes(states)

    def prefixes(self, x: Tensor, mask: Tensor, *bias: Tensor) -> Tensor:
        """Return the user vector after each event: (n_rows, n_steps, dim)."""
        return self._pool(self.encoder(x, mask, *bias))

    def states(self, x: Tensor, mask: Tensor, *bias: Tensor) -> Tensor:
        """Return unpooled states that may look both ways where the network can."""
        both_ways = getattr(self.encoder, "bidirectional", self.encoder)
        return both_ways(x, mask, *bias)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, mask: Tensor, *bias: Tensor) -> Tensor:
        """Return the user vector of each history: (n_rows, dim)."""
        lengths = mask.sum(1)
        if torch.any(lengths == 0):
            row = int(torch.nonzero(lengths == 0)[0])
            raise ValueError(f"history {row} is empty: it has no user vector.")
        if self.pooling == "last" and not self.training and hasattr(self.encoder, "last_state"):
            return self.encoder.last_state(x, mask, *bias)  # type: ignore[no-any-return, operator]
        return at_last(self.prefixes(x, mask, *bias), lengths)

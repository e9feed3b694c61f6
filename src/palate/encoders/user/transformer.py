"""The Transformer user encoder: causal, pre-norm, learned positions."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from palate._validation import check_choice, check_int, check_real
from palate.defaults import AUTO, STANDALONE, fill_spec
from palate.encoders.user.pooled import POOLINGS
from palate.exceptions import InvalidParameterError

INITIAL_STD = 0.02


class TransformerEncoder(BaseEstimator):
    """Causal self-attention over a history (SASRec's shape, pre-norm).

    Parameters
    ----------
    n_layers : int or "auto", default="auto"
        Blocks of attention and feed-forward.
    n_heads : int or "auto", default="auto"
        Attention heads; must divide the model's `dim`.
    hidden_size : int, default=None
        Width of the feed-forward layers, ``4 * dim`` by default.
    dropout : float or "auto", default="auto"
        Share of activations dropped in training, in [0, 1).
    max_length : int or "auto", default="auto"
        The most recent events that are read.
    pooling : {"last", "mean", "attention"}, default="last"
        How the states of a history become one vector.

    Notes
    -----
    ``"auto"`` is chosen by :func:`palate.defaults.settings_for` from the data of `fit`; where the
    network is built alone it stands for 2 layers, 1 head, a dropout of 0.2 and 50 events.

    Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018; normalisation before
    each part as in Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020.

    Examples
    --------
    >>> network = TransformerEncoder(n_layers=1, n_heads=2).build(dim=8)
    >>> x, mask = torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool)
    >>> network(x, mask).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        n_layers: int | str = AUTO,
        n_heads: int | str = AUTO,
        hidden_size: int | None = None,
        dropout: float | str = AUTO,
        max_length: int | str = AUTO,
        pooling: str = "last",
    ) -> None:
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.max_length = max_length
        self.pooling = pooling

    def build(self, dim: int) -> nn.Module:
        """Return a fresh network for vectors of width `dim`.

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range, or `n_heads` does not divide `dim`.
        """
        spec = fill_spec(copy.copy(self), STANDALONE, dim)
        check_int("n_layers", spec.n_layers, minimum=1)
        heads = check_int("n_heads", spec.n_heads, minimum=1)
        check_int("max_length", spec.max_length, minimum=1)
        check_real("dropout", spec.dropout, low=0, high=1, high_open=True)
        check_choice("pooling", self.pooling, POOLINGS)
        if dim % heads:
            raise InvalidParameterError(f"n_heads must divide dim={dim}; got {heads}.")
        hidden = 4 * dim if self.hidden_size is None else self.hidden_size
        check_int("hidden_size", hidden, minimum=1)
        return _Transformer(dim, spec.n_layers, heads, hidden, spec.dropout, spec.max_length)


class _Transformer(nn.Module):
    def __init__(
        self, dim: int, n_layers: int, n_heads: int, hidden: int, dropout: float, max_length: int
    ) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(max_length, dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(dim, n_heads, hidden, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.positions, std=INITIAL_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # Padding is on the right, where a causal step never looks: no mask is needed.
        return self._run(x, None)

    def bidirectional(self, x: Tensor, mask: Tensor) -> Tensor:
        return self._run(x, mask[:, None, None, :])

    def _run(self, x: Tensor, visible: Tensor | None) -> Tensor:
        dim = x.shape[-1]
        x = self.dropout(x * dim**0.5 + self.positions[: x.shape[1]])
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x)  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, dim: int, n_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention, self.norm_hidden = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project_in, self.project_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.expand, self.contract = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        x = x + self.dropout(self._attend(self.norm_attention(x), visible))
        hidden = F.gelu(self.expand(self.norm_hidden(x)))
        return x + self.dropout(self.contract(hidden))

    def _attend(self, x: Tensor, visible: Tensor | None) -> Tensor:
        n_rows, n_steps, dim = x.shape
        parts = self.project_in(x).view(n_rows, n_steps, 3, self.n_heads, dim // self.n_heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=visible, is_causal=visible is None
        )
        return self.project_out(mixed.transpose(1, 2).reshape(n_rows, n_steps, dim))  # type: ignore[no-any-return]

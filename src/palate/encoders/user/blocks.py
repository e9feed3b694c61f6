"""The blocks of a Transformer over histories: attention, and what follows it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palate.ops.pooling import at_last


class PrenormBlock(nn.Module):
    """Softmax attention, then a feed-forward part with GELU, each behind a normalisation.

    Parameters
    ----------
    dim, n_heads, hidden : int
        Width, attention heads, width of the feed-forward part.
    dropout : float

    Examples
    --------
    >>> PrenormBlock(dim=4, n_heads=2, hidden=8, dropout=0.0)(torch.randn(2, 3, 4), None).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, dim: int, n_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention, self.norm_hidden = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project_in, self.project_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.expand, self.contract = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visible: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """Return the next states; `visible` tells which steps are real, None is causal.

        `bias` (n_rows, n_heads, n_steps, n_steps) is added to what step i gives step j.
        """
        return self._feed(self._join(x, self._attend(self.norm_attention(x), visible, bias)))

    def last(self, x: Tensor, lengths: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the next state of each row's last real step: (n_rows, dim).

        For a single query q, the product q (W n_j) with the key of step j is (q W) n_j, and the
        weighted sum of the values is the value of the weighted sum: neither keys nor values are
        computed, so a history costs hardly more than one step of it.
        """
        mixed = self._attend_once(self.norm_attention(x), lengths, bias)
        return self._feed(self._join(at_last(x, lengths), mixed))

    def _join(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add what attention found to the states that it was asked for."""
        return x + self.dropout(mixed)  # type: ignore[no-any-return]

    def _feed(self, x: Tensor) -> Tensor:
        """Add the feed-forward part."""
        return x + self.dropout(self.contract(self._hidden(self.norm_hidden(x))))  # type: ignore[no-any-return]

    def _attend_once(self, normed: Tensor, lengths: Tensor, bias: Tensor | None) -> Tensor:
        n_rows, n_steps, dim = normed.shape
        size = dim // self.n_heads
        to_query, to_key, to_value = self.project_in.weight.view(3, self.n_heads, size, dim)
        query_bias, _, value_bias = self.project_in.bias.view(3, self.n_heads, size)
        query = torch.einsum("nd,hsd->nhs", at_last(normed, lengths), to_query) + query_bias
        # The bias of the keys adds the same to all steps, which the softmax takes away.
        scores = torch.einsum("nhs,hsd->nhd", query, to_key) @ normed.transpose(1, 2) / size**0.5
        if bias is not None:
            scores = scores + at_last(bias.transpose(1, 2), lengths)
        hidden = torch.arange(n_steps, device=lengths.device) >= lengths[:, None]
        shares = scores.masked_fill(hidden[:, None], -torch.inf).softmax(-1)
        mixed = torch.einsum("nhd,hsd->nhs", shares @ normed, to_value) + value_bias
        return self.project_out(mixed.reshape(n_rows, dim))  # type: ignore[no-any-return]

    def _hidden(self, x: Tensor) -> Tensor:
        return F.gelu(self.expand(x))

    def _attend(self, x: Tensor, visible: Tensor | None, bias: Tensor | None = None) -> Tensor:
        n_rows, n_steps, dim = x.shape
        parts = self.project_in(x).view(n_rows, n_steps, 3, self.n_heads, dim // self.n_heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        causal = visible is None and bias is None
        if bias is not None:
            visible = bias.masked_fill(~_seen(visible, n_steps, x.device), -torch.inf)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=causal)
        return self.project_out(mixed.transpose(1, 2).reshape(n_rows, n_steps, dim))  # type: ignore[no-any-return]


class SwiGLUBlock(PrenormBlock):
    """The same with ``silu(x A) * (x B)`` inside the feed-forward part.

    Notes
    -----
    Shazeer, "GLU Variants Improve Transformer", 2020, equation 6.

    Examples
    --------
    >>> SwiGLUBlock(dim=4, n_heads=2, hidden=5, dropout=0.0)(torch.randn(2, 3, 4), None).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, dim: int, n_heads: int, hidden: int, dropout: float) -> None:
        super().__init__(dim, n_heads, hidden, dropout)
        self.gate = nn.Linear(dim, hidden)

    def _hidden(self, x: Tensor) -> Tensor:
        return F.silu(self.gate(x)) * self.expand(x)


class LiGRBlock(SwiGLUBlock):
    """The same, with a learned gate on what each part adds.

    A part F, attention or feed-forward, makes of the states x: ``x + F(norm(x)) * sigmoid(x W)``,
    with a matrix W (dim, dim) of its own. The gate reads the states as they are, without norm.

    Notes
    -----
    Borisyuk et al., "From Features to Transformers: Redefining Ranking for Scalable Impact", 2025;
    with SwiGLU as in Tikhonovich et al., "eSASRec: Enhancing Transformer-based Recommendations in
    a Modular Fashion", RecSys 2025, equation 1. The gates have ``2 * dim**2`` weights.

    Examples
    --------
    >>> block = LiGRBlock(dim=4, n_heads=2, hidden=5, dropout=0.0)
    >>> x = torch.randn(2, 3, 4)
    >>> block(x, None).shape
    torch.Size([2, 3, 4])
    >>> block.last(x, torch.tensor([3, 1])).shape
    torch.Size([2, 4])
    """

    def __init__(self, dim: int, n_heads: int, hidden: int, dropout: float) -> None:
        super().__init__(dim, n_heads, hidden, dropout)
        self.gate_attention = nn.Linear(dim, dim, bias=False)
        self.gate_hidden = nn.Linear(dim, dim, bias=False)

    def _join(self, x: Tensor, mixed: Tensor) -> Tensor:
        return x + self.dropout(mixed) * torch.sigmoid(self.gate_attention(x))  # type: ignore[no-any-return]

    def _feed(self, x: Tensor) -> Tensor:
        added = self.dropout(self.contract(self._hidden(self.norm_hidden(x))))
        return x + added * torch.sigmoid(self.gate_hidden(x))  # type: ignore[no-any-return]


class HSTUBlock(nn.Module):
    """Attention without softmax, whose result is gated in place of a feed-forward part.

    With ``u, v, q, k = silu(norm(x) W)``, step i takes the mean over the steps j that it sees of
    ``silu(q_i k_j + b[|i - j|]) v_j``, normalises it, multiplies it by ``u_i`` and projects it.
    The bias b is learned for each head and distance; one by time may be added to it.

    Parameters
    ----------
    dim, n_heads, max_length : int
    dropout : float

    Notes
    -----
    Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
    Generative Recommendations", ICML 2024, equations 1 to 3.

    Examples
    --------
    >>> HSTUBlock(dim=4, n_heads=2, max_length=9, dropout=0.0)(torch.randn(2, 3, 4), None).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, dim: int, n_heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_in, self.norm_mixed = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.project_in, self.project_out = nn.Linear(dim, 4 * dim), nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(n_heads, max_length))
        self.dropout = nn.Dropout(dropout)

    def widen(self) -> None:
        """Draw the projections anew at unit gain: three small factors in a row would vanish."""
        nn.init.xavier_uniform_(self.project_in.weight)
        nn.init.xavier_uniform_(self.project_out.weight)

    def forward(self, x: Tensor, visible: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """Return the next states, as :meth:`PrenormBlock.forward` does."""
        n_rows, n_steps, dim = x.shape
        parts = F.silu(self.project_in(self.norm_in(x)))
        parts = parts.view(n_rows, n_steps, 4, self.n_heads, dim // self.n_heads)
        u, v, q, k = parts.permute(2, 0, 3, 1, 4)
        steps = torch.arange(n_steps, device=x.device)
        gaps = steps[:, None] - steps
        seen = _seen(visible, n_steps, x.device)
        by_place = self.bias[:, gaps.abs()]
        shares = F.silu(q @ k.transpose(-1, -2) + (by_place if bias is None else by_place + bias))
        shares = shares * seen / seen.sum(-1, keepdim=True)
        mixed, u = (t.transpose(1, 2).reshape(n_rows, n_steps, dim) for t in (shares @ v, u))
        return x + self.dropout(self.project_out(self.norm_mixed(mixed) * u))  # type: ignore[no-any-return]

    def last(self, x: Tensor, lengths: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the next state of each row's last real step: (n_rows, dim)."""
        n_rows, n_steps, dim = x.shape
        shape = (self.n_heads, dim // self.n_heads)
        normed = self.norm_in(x)
        for_u, for_v, for_q, for_k = self.project_in.weight.view(4, dim, dim)
        u_bias, v_bias, q_bias, k_bias = self.project_in.bias.view(4, dim)
        end = at_last(normed, lengths)
        u, q = F.silu(F.linear(end, for_u, u_bias)), F.silu(F.linear(end, for_q, q_bias))
        v = F.silu(F.linear(normed, for_v, v_bias)).view(n_rows, n_steps, *shape)
        k = F.silu(F.linear(normed, for_k, k_bias)).view(n_rows, n_steps, *shape)
        gaps = lengths[:, None] - 1 - torch.arange(n_steps, device=x.device)
        scores = torch.einsum("nhs,njhs->nhj", q.view(n_rows, *shape), k)
        by_place = self.bias[:, gaps.clamp(min=0)].transpose(0, 1)
        if bias is not None:
            by_place = by_place + at_last(bias.transpose(1, 2), lengths)
        shares = F.silu(scores + by_place)
        shares = shares * (gaps >= 0)[:, None] / lengths[:, None, None]
        mixed = torch.einsum("nhj,njhs->nhs", shares, v).reshape(n_rows, dim)
        return at_last(x, lengths) + self.dropout(self.project_out(self.norm_mixed(mixed) * u))  # type: ignore[no-any-return]


def _seen(visible: Tensor | None, n_steps: int, device: torch.device) -> Tensor:
    """Return which step sees which, as a mask over (n_rows, n_heads, n_steps, n_steps)."""
    if visible is not None:
        return visible
    return torch.ones(1, 1, n_steps, n_steps, dtype=torch.bool, device=device).tril()

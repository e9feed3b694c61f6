"""The Transformer user encoder: causal, pre-norm, learned positions."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from palate._validation import check_choice, check_int, check_real
from palate.defaults import AUTO, STANDALONE, fill_spec
from palate.encoders.user.blocks import HSTUBlock, LiGRBlock, PrenormBlock, SwiGLUBlock
from palate.encoders.user.pooled import POOLINGS
from palate.encoders.user.shortcut import with_shortcut
from palate.exceptions import InvalidParameterError

INITIAL_STD = 0.02
BLOCKS = ("prenorm", "swiglu", "ligr", "hstu")
# Those that have a feed-forward part.
_FEEDING: dict[str, type[PrenormBlock]] = {
    "prenorm": PrenormBlock,
    "swiglu": SwiGLUBlock,
    "ligr": LiGRBlock,
}


class TransformerEncoder(BaseEstimator):
    """Causal self-attention over a history (SASRec's shape, pre-norm).

    Parameters
    ----------
    n_layers : int or "auto", default="auto"
        Blocks of attention and feed-forward.
    n_heads : int or "auto", default="auto"
        Attention heads; must divide the model's `dim`.
    hidden_size : int, default=None
        Width of the feed-forward layers. By default ``4 * dim``, and with ``block="swiglu"`` or
        ``"ligr"`` two thirds of that, which is as many weights.
    dropout : float or "auto", default="auto"
        Share of activations dropped in training, in [0, 1).
    max_length : int or "auto", default="auto"
        The most recent events that are read.
    pooling : {"last", "mean", "attention"}, default="last"
        How the states of a history become one vector.
    block : {"prenorm", "swiglu", "ligr", "hstu"}, default="prenorm"
        What a layer is: softmax attention and a GELU layer, the same with SwiGLU, that with LiGR's
        gates on what each part adds, or the pointwise attention of HSTU, which has no feed-forward
        layer and a learned bias by distance (:mod:`palate.encoders.user.blocks`).
    shortcut : bool or "auto", default="auto"
        Whether the fading average of the history's vectors is added to the states, by weights that
        are learned (:class:`palate.encoders.user.shortcut.Shortcut`).

    Notes
    -----
    ``"auto"`` is chosen by :func:`palate.defaults.settings_for` from the data of `fit`; where the
    network is built alone it stands for 2 layers, 1 head, a dropout of 0.2, 50 events and no
    shortcut.

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
        block: str = "prenorm",
        shortcut: bool | str = AUTO,
    ) -> None:
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.max_length = max_length
        self.pooling = pooling
        self.block = block
        self.shortcut = shortcut

    def build(self, dim: int) -> nn.Module:
        """Return a fresh network for vectors of width `dim`.

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range, `n_heads` does not divide `dim`, or `hidden_size` is
            given for a block that has no hidden layer.
        """
        spec = fill_spec(copy.copy(self), STANDALONE, dim)
        check_int("n_layers", spec.n_layers, minimum=1)
        heads = check_int("n_heads", spec.n_heads, minimum=1)
        check_int("max_length", spec.max_length, minimum=1)
        check_real("dropout", spec.dropout, low=0, high=1, high_open=True)
        check_choice("pooling", self.pooling, POOLINGS)
        if dim % heads:
            raise InvalidParameterError(f"n_heads must divide dim={dim}; got {heads}.")
        check_choice("block", self.block, BLOCKS)
        blocks = [self._make_block(dim, heads, spec) for _ in range(spec.n_layers)]
        network = _Transformer(dim, blocks, spec.dropout, spec.max_length)
        return with_shortcut(network, spec.shortcut, spec.dropout)

    def _make_block(self, dim: int, n_heads: int, spec: TransformerEncoder) -> nn.Module:
        dropout, max_length = float(spec.dropout), int(spec.max_length)
        if self.block == "hstu":
            if self.hidden_size is not None:
                raise InvalidParameterError(
                    "hidden_size must be None for block='hstu', which has no hidden layer; "
                    f"got {self.hidden_size!r}."
                )
            return HSTUBlock(dim, n_heads, max_length, dropout)
        usual = 4 * dim if self.block == "prenorm" else max(1, 8 * dim // 3)
        hidden = usual if self.hidden_size is None else self.hidden_size
        check_int("hidden_size", hidden, minimum=1)
        return _FEEDING[self.block](dim, n_heads, hidden, dropout)


class _Transformer(nn.Module):
    def __init__(self, dim: int, blocks: list[nn.Module], dropout: float, max_length: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(max_length, dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.positions, std=INITIAL_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in blocks:
            if isinstance(block, HSTUBlock):
                block.widen()

    @property
    def bias_shape(self) -> tuple[int, int]:
        return len(self.blocks), int(self.blocks[0].n_heads)  # type: ignore[arg-type]

    def forward(self, x: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        # Padding is on the right, where a causal step never looks: no mask is needed.
        return self.norm(self._run(x, None, self.blocks, bias))  # type: ignore[no-any-return]

    def bidirectional(self, x: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.norm(self._run(x, mask[:, None, None, :], self.blocks, bias))  # type: ignore[no-any-return]

    def last_state(self, x: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        x = self._run(x, None, self.blocks[:-1], bias)
        last = self.blocks[-1].last(x, mask.sum(1), None if bias is None else bias[-1])  # type: ignore[operator]
        return self.norm(last)  # type: ignore[no-any-return]

    def _enter(self, x: Tensor) -> Tensor:
        entered = torch.add(self.positions[: x.shape[1]], x, alpha=x.shape[-1] ** 0.5)
        return self.dropout(entered)  # type: ignore[no-any-return]

    def _run(
        self, x: Tensor, visible: Tensor | None, blocks: Iterable[nn.Module], bias: Tensor | None
    ) -> Tensor:
        x = self._enter(x)
        for layer, block in enumerate(blocks):
            x = block(x, visible, None if bias is None else bias[layer])
        return x

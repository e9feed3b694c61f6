"""Low-rank updates of a pretrained text model: a few weights beside many that stay as they are."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from palate._validation import check_int
from palate.exceptions import InvalidParameterError

#: What text models call their projections to queries and to values: BERT, RoBERTa and ELECTRA;
#: DistilBERT; MPNet; BART and its kin; DeBERTa.
ATTENTION_NAMES = (
    ("query", "value"),
    ("q_lin", "v_lin"),
    ("q", "v"),
    ("q_proj", "v_proj"),
    ("query_proj", "value_proj"),
)
# Hu et al. keep it while the rank changes, so that the learning rate suits every rank.
_ALPHA = 8.0


class LowRankLinear(nn.Linear):
    """A linear layer with a low-rank update: ``W x + b + (alpha / rank) B A x``.

    A (rank, n_in) is gaussian and B (n_out, rank) is zero, so that it starts as the layer that it
    stands for, whose W and b it keeps under their names; W and b are not trained.

    Parameters
    ----------
    layer : torch.nn.Linear
        Its weight and bias are shared, not copied, and frozen.
    rank : int
        At least 1.
    alpha : float, default=8.0

    Notes
    -----
    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, equation 3.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Linear(3, 2)
    >>> low = LowRankLinear(layer, rank=1)
    >>> x = torch.ones(4, 3)
    >>> torch.equal(low(x), layer(x))
    True
    >>> [(name, tuple(p.shape)) for name, p in low.named_parameters() if p.requires_grad]
    [('lora_a', (1, 3)), ('lora_b', (2, 1))]
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float = _ALPHA) -> None:
        n_in, n_out = layer.in_features, layer.out_features
        # On "meta" nothing is allocated or drawn for the weights that are put in next.
        super().__init__(n_in, n_out, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.requires_grad_(False)
        self.lora_a = nn.Parameter(layer.weight.new_empty(rank, n_in))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(n_out, rank))
        # A unit-sized input then has unit-sized coordinates.
        nn.init.normal_(self.lora_a, std=n_in**-0.5)
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., n_out) for x (..., n_in)."""
        low = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return F.linear(x, self.weight, self.bias) + self.scale * low


def add_low_rank(model: nn.Module, rank: int = 8) -> list[nn.Parameter]:
    """Give the query and value projections of every attention layer low-rank updates, in place.

    Parameters
    ----------
    model : torch.nn.Module
        An attention layer in it is a module that holds two ``nn.Linear`` under a pair of names of
        `ATTENTION_NAMES`; those that have an update already keep it.
    rank : int, default=8

    Returns
    -------
    list of torch.nn.Parameter
        A and B of each projection, the only ones that this sets to be trained.

    Raises
    ------
    InvalidParameterError
        If `rank` is below 1, or the model has no such layer.

    Examples
    --------
    >>> attention = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("query", "key", "value")})
    >>> [tuple(p.shape) for p in add_low_rank(attention, rank=2)]
    [(2, 4), (4, 2), (2, 4), (4, 2)]
    """
    check_int("lora_rank", rank, minimum=1)
    places = [
        (module, name)
        for module in model.modules()
        for names in ATTENTION_NAMES
        if all(isinstance(getattr(module, name, None), nn.Linear) for name in names)
        for name in names
    ]
    if not places:
        searched = ", ".join(" and ".join(names) for names in ATTENTION_NAMES)
        raise InvalidParameterError(
            "finetune must be 'frozen', 'last' or 'full' for a model without Linear layers for "
            f"queries and values (searched for {searched}); got 'lora' for {type(model).__name__}."
        )
    trained: list[nn.Parameter] = []
    for module, name in places:
        layer = getattr(module, name)
        if not isinstance(layer, LowRankLinear):
            layer = LowRankLinear(layer, rank)
            setattr(module, name, layer)
        trained += [layer.lora_a, layer.lora_b]
    for parameter in trained:
        parameter.requires_grad_(True)
    return trained

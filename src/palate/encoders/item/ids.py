"""Items as learned id vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from palate.data.items import ItemTable
from palate.exceptions import MissingContentError
from palate.protocols import ItemModule

INITIAL_STD = 0.02
# From here on a gradient for every row costs more than the step itself: only rows in use get one.
SPARSE_ROWS = 20_000


class IdEncoder(BaseEstimator):
    """One learned vector for each item id.

    It needs no content, and knows nothing about an item before it was trained on: such an item
    has the zero vector.

    Examples
    --------
    >>> module = IdEncoder().build(ItemTable.without_content(3), dim=2, context=None)
    >>> module(torch.tensor([2, 0])).shape
    torch.Size([2, 2])
    """

    def build(
        self,
        items: ItemTable,
        dim: int,
        context: Any,
        state: Mapping[str, Tensor] | None = None,
    ) -> ItemModule:
        """Return a fresh module for the rows of `items`, all of them marked as seen."""
        return IdItems(len(items), dim)


class IdItems(ItemModule):
    """Learned vectors, and which of them training has reached."""

    seen: Tensor

    def __init__(self, n_items: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_items, dim))
        nn.init.normal_(self.weight, std=INITIAL_STD)
        self.register_buffer("seen", torch.ones(n_items, dtype=torch.bool))

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        """Return the id vectors of `codes` (of all items for None), zero where never trained."""
        if codes is None:
            return self.weight * self.seen[:, None]
        sparse = self.training and len(self.weight) > SPARSE_ROWS
        vectors = F.embedding(codes, self.weight, sparse=True) if sparse else self.weight[codes]
        return vectors * self.seen[codes][:, None]

    def extend(self, items: ItemTable, seen: Tensor, context: Any) -> None:
        """Grow to all rows of `items`; rows that training will now reach start small."""
        n_old, dim = self.weight.shape
        new = self.weight.new_empty(len(items) - n_old, dim)
        nn.init.normal_(new, std=INITIAL_STD)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), new]))
        self.seen = seen.clone().to(self.weight.device)

    def encode_texts(self, texts: Sequence[str], context: Any) -> Tensor:
        """Refuse: an id says nothing about a text."""
        raise MissingContentError(
            "texts need an item encoder with content, such as item_encoder='bert+id'; "
            "got an encoder of ids alone."
        )

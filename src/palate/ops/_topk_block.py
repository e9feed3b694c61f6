"""A block of queries that are searched together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from torch import Tensor

from palate.ops._topk_catalogue import Segment
from palate.ops._topk_filters import ItemLists


@dataclass(frozen=True)
class QueryBlock:
    """Queries as they are scored, and what they ask for.

    Attributes
    ----------
    queries : float32 Tensor of shape (n_queries, dim), contiguous
        Of unit norm for cosine.
    norms : float64 Tensor of shape (n_queries,), on the CPU
    metric : {"cosine", "dot", "euclidean"}
    k : int
        Places a query, at most `n_items`.
    n_items : int
        Size of the whole catalogue.
    exclude : ItemLists or None
    allowed : uint8 Tensor of shape (n_items,) or None
        0 for items that no query may get.
    item_block : int or None
        Items scored at once.
    budget : int
        Bytes that may be used.
    """

    queries: Tensor
    norms: Tensor
    metric: str
    k: int
    n_items: int
    exclude: ItemLists | None
    allowed: Tensor | None
    item_block: int | None
    budget: int

    @cached_property
    def peak(self) -> float:
        """The largest norm, or a bound of it."""
        return 1.0 if self.metric == "cosine" else float(self.norms.max())


class BlockSearch(Protocol):
    """What a back end does for one block of queries."""

    def scan(self, segment: Segment, *, last: bool) -> None:
        """Take what a segment offers; no segment follows where `last` is set."""
        ...

    def finish(self, scores: Tensor, codes: Tensor) -> None:
        """Write the best k into the first columns of two tensors (n_queries, width)."""
        ...

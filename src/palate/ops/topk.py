"""Exact top-k search: the best items of each query, in bounded memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from palate._validation import check_choice, check_int
from palate.exceptions import InvalidInputError
from palate.ops import _topk_torch
from palate.ops._topk_canonical import unit_rows
from palate.ops._topk_catalogue import Catalogue, check_finite, kept_segments, raw_segments
from palate.ops._topk_filters import ItemLists, allowed_codes, exclusion_lists
from palate.ops.similarity import METRICS

__all__ = ["Catalogue", "ItemLists", "TopK", "topk"]

#: Queries searched together at most.
QUERY_BLOCK = 1024


class TopK(NamedTuple):
    """The best items of each query, best first.

    Attributes
    ----------
    scores : float32 Tensor of shape (n_queries, k)
        Cosines or dot products, or minus the distances; -inf where a row has run out.
    indices : int64 Tensor of shape (n_queries, k)
        Item codes (row numbers of the catalogue); -1 where a row has run out.
    """

    scores: Tensor
    indices: Tensor


def topk(
    queries: Tensor,
    items: Tensor | Catalogue,
    k: int,
    *,
    metric: str = "cosine",
    exclude: Any = None,
    include: Any = None,
    item_block: int | None = None,
    memory_budget: int = 256 * 2**20,
) -> TopK:
    """Find the `k` items of largest score for each query, exactly.

    The score of a pair is a float64 sum rounded once to float32, so the answer is the same for
    every block size, batch size, thread count, storage back end and device. Ties go to the item
    that comes first.

    Parameters
    ----------
    queries : float Tensor of shape (n_queries, dim)
    items : float Tensor of shape (n_items, dim) or Catalogue
        The catalogue; one that `CosineRanker` has prepared is searched without preparing it again.
    k : int
        How many items a query gets, at least 1; it may exceed the number of items.
    metric : {"cosine", "dot", "euclidean"}, default="cosine"
        ``"euclidean"`` scores are minus the distance. Must agree with a prepared catalogue.
    exclude : None, (rows, items), ItemLists, scipy sparse matrix or torch CSR, default=None
        Pairs that must not be returned.
    include : None or 1-D int64 Tensor, default=None
        The item codes that may be returned, shared by all queries, in any order.
    item_block : int, default=None
        Items scored at once; by default what fits the processor's cache.
    memory_budget : int, default=256 MiB
        Bytes that the search may use beyond its inputs and outputs.

    Returns
    -------
    TopK of scores and indices, each of shape (n_queries, k)
        A row that runs out ends in -inf and -1.

    Raises
    ------
    InvalidInputError
        If a vector is not finite (the row is named), or shapes do not fit.
    InvalidParameterError
        If a parameter is not accepted.

    Examples
    --------
    >>> items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    >>> found = topk(torch.tensor([[0.0, 3.0]]), items, k=2)
    >>> found.indices
    tensor([[1, 2]])
    >>> topk(torch.tensor([[0.0, 3.0]]), items, k=3, exclude=([0], [1])).indices
    tensor([[ 2,  0, -1]])
    """
    check_int("k", k, minimum=1)
    check_int("memory_budget", memory_budget, minimum=1)
    if item_block is not None:
        check_int("item_block", item_block, minimum=1)
    check_choice("metric", metric, METRICS)
    queries, n_items = _checked(queries, items, metric)
    lists = exclusion_lists(exclude, len(queries), n_items)
    codes = allowed_codes(include, n_items)
    out = TopK(
        torch.full((len(queries), k), -torch.inf, device=queries.device),
        torch.full((len(queries), k), -1, dtype=torch.int64, device=queries.device),
    )
    # A query's merge state is about a hundred bytes a place.
    rows = max(1, min(QUERY_BLOCK, memory_budget // 4 // (128 * min(k, max(n_items, 1)) + 4096)))
    for begin in range(0, len(queries), rows):
        part = slice(begin, begin + rows)
        _search(
            TopK(out.scores[part], out.indices[part]),
            queries[part],
            items,
            metric,
            _slice_lists(lists, begin, begin + rows),
            codes,
            item_block,
            memory_budget,
        )
    return out


def _checked(queries: Tensor, items: Tensor | Catalogue, metric: str) -> tuple[Tensor, int]:
    """Return the queries as they are scored, and the number of items."""
    vectors = [("queries", queries)]
    if isinstance(items, Catalogue):
        if items.metric != metric:
            raise InvalidInputError(
                f"metric must be the catalogue's, {items.metric!r}; got {metric!r}."
            )
        n_items, dim = items.n_items, items.dim
    else:
        vectors.append(("items", items))
    for name, value in vectors:
        if not isinstance(value, Tensor) or value.ndim != 2 or not value.is_floating_point():
            got = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            raise InvalidInputError(f"{name} must be a two-dimensional float tensor; got {got}.")
    if not isinstance(items, Catalogue):
        n_items, dim = items.shape
    if queries.shape[1] != dim:
        raise InvalidInputError(
            f"queries must have the {dim} columns of the items; got {queries.shape[1]}."
        )
    queries = queries.detach()
    check_finite("queries", queries)
    return (unit_rows(queries) if metric == "cosine" else queries.float()).contiguous(), n_items


def _slice_lists(lists: ItemLists | None, begin: int, end: int) -> ItemLists | None:
    """Return the exclusions of queries begin to end."""
    if lists is None:
        return None
    indptr = lists.indptr[begin : end + 1]
    return ItemLists(indptr - indptr[0], lists.indices[int(indptr[0]) : int(indptr[-1])])


def _search(
    out: TopK,
    queries: Tensor,
    items: Tensor | Catalogue,
    metric: str,
    exclude: ItemLists | None,
    include: Tensor | None,
    item_block: int | None,
    budget: int,
) -> None:
    """Fill `out` for one block of queries."""
    rows = max(1, budget // 8 // (32 * max(queries.shape[1], 1)))
    n_items = items.n_items if isinstance(items, Catalogue) else len(items)
    k = min(out.scores.shape[1], n_items)
    if k == 0 or not len(queries):
        return
    best = _topk_torch.Best(len(queries), k, queries.device)
    if isinstance(items, Catalogue):
        segments = kept_segments(items, include, rows)
    else:
        segments = raw_segments(items.detach(), metric, rows, include)
    for segment in segments:
        _topk_torch.scan(
            best, queries, segment, metric, exclude, item_block=item_block, budget=budget // 2
        )
    out.scores[:, :k] = best.scores
    out.indices[:, :k] = best.codes

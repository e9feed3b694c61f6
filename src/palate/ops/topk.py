"""Exact top-k search: the best items of each query, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from palate._validation import check_choice, check_int
from palate.exceptions import InvalidInputError
from palate.ops import _topk_native, _topk_torch, _topk_triton
from palate.ops._topk_block import BlockSearch, QueryBlock
from palate.ops._topk_catalogue import (
    Catalogue,
    Segment,
    check_metric,
    kept_segments,
    raw_segments,
)
from palate.ops._topk_filters import ItemLists, allowed_items, exclusion_lists, rows_of_lists
from palate.ops._topk_live import live_segment, live_topk
from palate.ops._topk_prepare import prepared_rows
from palate.ops.similarity import METRICS

__all__ = ["Catalogue", "ItemLists", "TopK", "topk"]

#: Queries searched together at most.
QUERY_BLOCK = 1024
# Longest list: beyond, torch runs out of memory or of bits.
_MOST = 2**31 - 1


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
    k = check_int("k", k, minimum=1, maximum=_MOST)
    memory_budget = check_int("memory_budget", memory_budget, minimum=1)
    if item_block is not None:
        item_block = check_int("item_block", item_block, minimum=1)
    check_choice("metric", metric, METRICS)
    n_items = _check_shapes(queries, items, metric)
    n_queries, dim = queries.shape  # len() of a tensor costs a live request microseconds
    lists = exclusion_lists(exclude, n_queries, n_items)
    allowed = allowed_items(include, n_items)
    if item_block is None and allowed.codes is None:
        found = _live(queries, items, k, metric, lists, allowed.flags)
        if found is not None:
            return found
    out = TopK(
        torch.full((n_queries, k), -torch.inf, device=queries.device),
        torch.full((n_queries, k), -1, dtype=torch.int64, device=queries.device),
    )
    places = min(k, n_items)
    if not places or not n_queries:
        return out
    rows = _query_rows(places, n_items, dim, memory_budget)
    for begin in range(0, n_queries, rows):
        whole = rows >= n_queries  # slicing costs a live request a few microseconds
        part = slice(begin, begin + rows)
        vectors, norms = prepared_rows(
            "queries",
            queries.detach() if whole else queries.detach()[part],
            unit=metric == "cosine",
            start=begin,
        )
        block = QueryBlock(
            *(vectors.float(), norms, metric, places, n_items),
            *(rows_of_lists(lists, begin, begin + vectors.shape[0]), allowed.flags),
            *(item_block, memory_budget),
        )
        here = out if whole else TopK(out.scores[part], out.indices[part])
        _search(here.scores, here.indices, block, items, allowed.codes)
    return out


def _live(
    queries: Tensor,
    items: Tensor | Catalogue,
    k: int,
    metric: str,
    lists: ItemLists | None,
    allowed: Tensor | None,
) -> TopK | None:
    """Answer a live request in one compiled call, or return None where it is none."""
    segment = live_segment(queries, items, k)
    if segment is None:
        return None
    found = live_topk(queries, segment, k, metric, lists, allowed)
    return None if found is None else TopK(*found)


def _check_shapes(queries: Tensor, items: Tensor | Catalogue, metric: str) -> int:
    """Check the vectors' shapes, and return the number of items."""
    if isinstance(items, Catalogue):
        check_metric(items, metric)
        n_items, dim = items.n_items, items.dim
    else:
        check_matrix("items", items)
        n_items, dim = items.shape
    check_matrix("queries", queries)
    if queries.shape[1] != dim:
        raise InvalidInputError(
            f"queries must have the {dim} columns of the items; got {queries.shape[1]}."
        )
    return n_items


def check_matrix(name: str, value: Any) -> None:
    """Raise unless `value` is a two-dimensional float tensor."""
    if not isinstance(value, Tensor):
        got = type(value).__name__
    elif value.layout != torch.strided:
        got = f"{value.layout} of shape {tuple(value.shape)}"
    elif value.ndim != 2 or not value.is_floating_point():
        got = f"{value.dtype} of shape {tuple(value.shape)}"
    else:
        return
    raise InvalidInputError(f"{name} must be a two-dimensional float tensor; got {got}.")


def _query_rows(places: int, n_items: int, dim: int, budget: int) -> int:
    """Return how many queries can be searched together."""
    state = max(128 * places, _topk_native.state_bytes(places, n_items)) + 16 * dim
    return max(1, min(QUERY_BLOCK, budget // 3 // state))


def _search(
    scores: Tensor,
    codes: Tensor,
    block: QueryBlock,
    items: Tensor | Catalogue,
    include: Tensor | None,
) -> None:
    """Fill the rows of one block, with the fastest back end that can."""
    for backend in (_topk_native, _topk_triton, _topk_torch):
        search: BlockSearch | None = None
        segments = _segments(block, items, include)
        pending = next(segments, None)
        while pending is not None and backend.is_usable_for(block, pending):
            search = search or backend.Search(block)
            segment, pending = pending, next(segments, None)
            search.scan(segment, last=pending is None)
        if pending is None:
            if search is not None:
                search.finish(scores, codes)
            return


def _segments(
    block: QueryBlock, items: Tensor | Catalogue, include: Tensor | None
) -> Iterator[Segment]:
    """Yield the parts of the catalogue, at an eighth of the budget each where they are copies."""
    rows = max(1, block.budget // 8 // (16 * max(block.queries.shape[1], 1) + 32))
    if isinstance(items, Catalogue):
        return kept_segments(items, include, rows)
    return raw_segments(items.detach(), block.metric, rows, include)

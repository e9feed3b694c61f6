"""A live request: a query or a few, prepared, scanned and sorted in one compiled call."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.ops._topk_canonical import SCREEN_LIMIT
from palate.ops._topk_catalogue import Catalogue, Segment
from palate.ops._topk_filters import ItemLists
from palate.ops._topk_library import CRequest, address, load
from palate.ops._topk_native import (
    CODES8_QUERIES,
    ROWS_QUERIES,
    SMALL_FINISH,
    SMALL_WORK,
    capacity,
    code_limit,
    described,
    method_for,
)
from palate.ops._topk_prepare import NORM_BLOCK

_FOUND, _NO_MEMORY = -1, -2


def live_segment(queries: Tensor, items: Tensor | Catalogue, k: int) -> Segment | None:
    """Return the segment that holds the whole catalogue, if the live call can answer from it."""
    if not isinstance(items, Catalogue) or len(items.segments) != 1:
        return None
    segment, n = items.segments[0], queries.shape[0]
    few = 0 < n <= (ROWS_QUERIES if segment.codes8 is None else CODES8_QUERIES)
    if not few or n * k >= SMALL_FINISH or not len(segment) or load() is None:
        return None
    usable = queries.dtype == torch.float32 and queries.is_cpu and segment.vectors.is_cpu
    return segment if usable and segment.peak**2 < SCREEN_LIMIT else None


def live_topk(
    queries: Tensor,
    segment: Segment,
    k: int,
    metric: str,
    exclude: ItemLists | None,
    allowed: Tensor | None,
) -> tuple[Tensor, Tensor] | None:
    """Return scores and codes (n_queries, k); None where the other back ends must look.

    They say which row is not finite, and score vectors that are too long to be screened.
    """
    library = load()
    assert library is not None
    n, dim = queries.shape
    rows = queries.detach().contiguous()
    scores, codes = torch.empty(n, k), torch.empty(n, k, dtype=torch.int64)
    places = min(k, len(segment))
    small = n * len(segment) * dim < SMALL_WORK
    request = CRequest(
        rows.data_ptr(),
        address(exclude.indptr) if exclude else None,
        address(exclude.indices) if exclude else None,
        address(allowed),
        scores.data_ptr(),
        codes.data_ptr(),
        n,
        places,
        k,
        capacity(places, len(segment)),
        int(metric == "euclidean"),
        int(metric == "cosine"),
        method_for(segment, n),
        code_limit(dim),
        NORM_BLOCK,
        1 if small else torch.get_num_threads(),
        SCREEN_LIMIT,
    )
    found = library.palate_live(request, described(segment))
    if found == _FOUND:
        return scores, codes
    if found == _NO_MEMORY:
        raise MemoryError("The top-k kernel could not allocate its scratch memory.")
    return None

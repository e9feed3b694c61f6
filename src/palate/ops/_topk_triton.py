"""The search on CUDA: one fused product keeps a maximum a block, and few blocks are read again.

The k-th largest block maximum bounds the k-th best score from below, because k blocks hold an item
that reaches it. Blocks below the bound are done; the others are scored again, and what passes is
decided canonically, as everywhere.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType

import torch
from torch import Tensor

from palate.ops import _topk_torch
from palate.ops._topk_block import QueryBlock
from palate.ops._topk_canonical import SCREEN_LIMIT, screen_error
from palate.ops._topk_catalogue import Segment
from palate.ops._topk_prepare import NORM_BLOCK

_BLOCK_QUERIES = 32
_BLOCK_DIM = 32


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _on_gpu(block: QueryBlock, segment: Segment) -> bool:
    return block.queries.is_cuda and segment.vectors.is_cuda


def kernels() -> ModuleType:
    """Return the kernels; importing them needs triton."""
    return importlib.import_module("palate.ops._topk_triton_kernels")


def is_usable_for(block: QueryBlock, segment: Segment) -> bool:
    """Say whether the Triton kernels can screen a segment for these queries."""
    if not _on_gpu(block, segment) or not _installed():
        return False
    return max(segment.peak, block.peak) ** 2 < SCREEN_LIMIT


class Search:
    """The running best of a block of queries while segments pass by."""

    def __init__(self, block: QueryBlock) -> None:
        self.block, self.plain = block, _topk_torch.Search(block)
        device, exclude = block.queries.device, block.exclude
        self.excluded: Tensor | None = None
        self.needed = torch.full((len(block.queries),), block.k, device=device)
        if exclude is not None:
            counts = exclude.indptr.diff()
            rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
            self.excluded = (rows * block.n_items + exclude.indices).to(device)
            # An excluded item can top a block, so that many more maxima are needed for a bound.
            self.needed += counts.to(device)

    def scan(self, segment: Segment, *, last: bool) -> None:
        """Merge the best items of a segment, as many blocks at a time as the budget allows."""
        width = kernels().BLOCK_ITEMS
        blocks = max(1, self.block.budget // (64 * max(len(self.block.queries), 1)))
        size = min(self.block.item_block or blocks * width, blocks * width)
        for begin in range(0, len(segment), size):
            self._scan_chunk(segment, begin, min(size, len(segment) - begin))

    def _scan_chunk(self, segment: Segment, begin: int, size: int) -> None:
        queries, plain, metric = self.block.queries, self.plain, self.block.metric
        device = queries.device
        vectors = segment.vectors[begin : begin + size]
        bias = None if segment.bias is None else segment.bias[begin : begin + size].to(device)
        codes = _topk_torch.item_codes(segment, begin, size)
        allowed = None
        if self.block.allowed is not None:
            allowed = self.block.allowed[codes].to(device)
        last = -(-(begin + size) // NORM_BLOCK)
        peak = float(segment.norms[begin // NORM_BLOCK : last].max())
        error = screen_error(plain.norms, peak, queries.shape[1], metric)
        peaks = peak_scores(queries, vectors, bias, allowed)
        kth = self._bound(peaks)
        cut = _topk_torch.cut_of(plain.best, plain.squares, error, metric, kth)
        rows, blocks = (peaks > cut.unsqueeze(1)).nonzero(as_tuple=True)
        width = kernels().BLOCK_ITEMS
        step = max(1, self.block.budget // (64 * width))
        for start in range(0, len(rows), step):
            row, block = rows[start : start + step], blocks[start : start + step]
            scores = scores_of_pairs(queries, vectors, bias, allowed, row, block)
            pair, lane = (scores > cut[row].unsqueeze(1)).nonzero(as_tuple=True)
            self._merge(row[pair], block[pair] * width + lane, vectors, codes.to(device))

    def _bound(self, peaks: Tensor) -> Tensor | None:
        """Return a lower bound of each query's k-th score in the chunk, if it has enough blocks."""
        most = int(self.needed.max())
        if most > peaks.shape[1]:
            return None
        return peaks.topk(most, dim=1).values.gather(1, self.needed.unsqueeze(1) - 1).squeeze(1)

    def _merge(self, rows: Tensor, columns: Tensor, vectors: Tensor, codes: Tensor) -> None:
        """Score pairs that are not excluded, and merge them."""
        if self.excluded is not None and len(self.excluded):
            keys = rows * self.block.n_items + codes[columns]
            place = torch.searchsorted(self.excluded, keys).clamp(max=len(self.excluded) - 1)
            kept = self.excluded[place] != keys
            rows, columns = rows[kept], columns[kept]
        self.plain.merge_pairs(rows, columns, vectors, codes)

    def finish(self, scores: Tensor, codes: Tensor) -> None:
        """Write the best into the first columns."""
        self.plain.finish(scores, codes)


def peak_scores(
    queries: Tensor, items: Tensor, bias: Tensor | None, allowed: Tensor | None
) -> Tensor:
    """Return the largest screened score (n_queries, n_blocks) of each block of items."""
    code, (n_queries, dim) = kernels(), queries.shape
    n_blocks = -(-len(items) // code.BLOCK_ITEMS)
    peaks = queries.new_empty(n_queries, n_blocks)
    code.block_peaks[(-(-n_queries // _BLOCK_QUERIES), n_blocks)](
        *(queries, items, queries if bias is None else bias),
        *(queries if allowed is None else allowed, peaks),
        *(n_queries, len(items), dim, n_blocks),
        HAS_BIAS=bias is not None,
        HAS_ALLOWED=allowed is not None,
        BLOCK_Q=_BLOCK_QUERIES,
        BLOCK_I=code.BLOCK_ITEMS,
        BLOCK_D=_BLOCK_DIM,
    )
    return peaks


def scores_of_pairs(
    queries: Tensor,
    items: Tensor,
    bias: Tensor | None,
    allowed: Tensor | None,
    rows: Tensor,
    blocks: Tensor,
) -> Tensor:
    """Return the screened scores (n_pairs, BLOCK_ITEMS) of chosen queries and blocks."""
    code, dim = kernels(), queries.shape[1]
    scores = queries.new_empty(len(rows), code.BLOCK_ITEMS)
    if len(rows):
        code.pair_scores[(len(rows),)](
            *(queries, items, queries if bias is None else bias),
            *(queries if allowed is None else allowed, rows, blocks, scores),
            *(len(items), dim),
            HAS_BIAS=bias is not None,
            HAS_ALLOWED=allowed is not None,
            BLOCK_I=code.BLOCK_ITEMS,
            BLOCK_D=_BLOCK_DIM,
        )
    return scores

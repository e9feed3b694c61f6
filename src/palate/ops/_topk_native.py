"""The compiled search on a CPU: workers take blocks of items, then their lists are joined."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from palate.ops import _topk_threads
from palate.ops._topk_block import QueryBlock
from palate.ops._topk_canonical import SCREEN_LIMIT
from palate.ops._topk_catalogue import Segment
from palate.ops._topk_library import CJob, CSegment, CWorker, address, load
from palate.ops._topk_prepare import NORM_BLOCK, padded_width

_DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_ENTRY_BYTES = 24
_COUNTER_GAP = 8
_BATCH, _ROWS, _CODES8, _TILES = range(4)
#: Packed items of one block: they stay in a core's second-level cache.
PACK_BYTES = 64 * 1024
#: Largest batches that are scored row by row, and from int8 codes.
ROWS_QUERIES = 2
CODES8_QUERIES = 8
#: Smallest batches that are worth rounding the catalogue to bfloat16.
TILE_QUERIES = 16
#: Multiplications below which a second thread costs more than it brings.
SMALL_WORK = 1 << 20
#: Places below which the lists are joined by one thread.
SMALL_FINISH = 1 << 9


def is_usable_for(block: QueryBlock, segment: Segment) -> bool:
    """Say whether the compiled kernel can screen a segment for these queries."""
    if load() is None or not (block.queries.is_cpu and segment.vectors.is_cpu):
        return False
    return max(segment.peak, block.peak) ** 2 < SCREEN_LIMIT


def capacity(k: int, n_items: int) -> int:
    """Return how many items a query's list holds before it is pruned.

    A short list is pruned often and so keeps out more; beside many, a few more places cost little.
    """
    return min(2 * k + min(64, 16 + k), n_items + 16)


def method_for(segment: Segment, n_queries: int) -> int:
    """Return how the kernel scores: a batch as a product, few queries row by row or by codes."""
    if segment.codes8 is not None and n_queries <= CODES8_QUERIES:
        return _CODES8
    if n_queries <= ROWS_QUERIES:
        return _ROWS
    return _TILES if n_queries >= TILE_QUERIES and has_tiles() else _BATCH


@functools.cache
def has_tiles() -> bool:
    """Say whether this processor multiplies tiles of bfloat16, and may."""
    library = load()
    return library is not None and bool(library.palate_has_tiles())


def code_limit(dim: int) -> int:
    """Return the largest int16 query code at which a sum of products with int8 fits 32 bits."""
    return min(32767, (2**31 - 1) // (127 * max(dim, 1)))


def state_bytes(k: int, n_items: int) -> int:
    """Return the bytes of one query's lists, in all workers."""
    workers = torch.get_num_threads()
    return (workers + 1) * (capacity(k, n_items) * _ENTRY_BYTES + 64)


class Search:
    """The state of one block of queries while segments pass by."""

    def __init__(self, block: QueryBlock) -> None:
        queries, exclude = block.queries, block.exclude
        n, dim = queries.shape
        self.queries, self.norms = queries, block.norms
        self.squares = (
            block.norms if block.metric != "euclidean" else queries.double().square().sum(1)
        )
        self.item_block, self.exclude, self.allowed = block.item_block, exclude, block.allowed
        small = n * block.n_items * dim < SMALL_WORK
        self.n_workers = 1 if small else torch.get_num_threads()
        self.capacity = capacity(block.k, block.n_items)
        self.codes16: tuple[Tensor, ...] = ()
        shared, counters = self._make_workers(n, dim)
        self.job = CJob(
            queries=queries.data_ptr(),
            norms=self.norms.data_ptr(),
            squares=self.squares.data_ptr(),
            excluded_ptr=address(exclude.indptr) if exclude else None,
            excluded=address(exclude.indices) if exclude else None,
            allowed=address(block.allowed),
            shared=shared,
            next=counters,
            n_queries=n,
            k=block.k,
            capacity=self.capacity,
            metric=int(block.metric == "euclidean"),
            n_workers=self.n_workers,
        )

    def _make_workers(self, n: int, dim: int) -> tuple[int, int]:
        """Allocate in three tensors; return where the shared floors and the counters lie."""
        w, n_wide = self.n_workers, n + dim + 1
        self._kept = (
            torch.empty(w * n * self.capacity * _ENTRY_BYTES, dtype=torch.uint8),
            torch.empty(w * (n_wide + _COUNTER_GAP), dtype=torch.int64),
            torch.empty((4 * w + 1) * n),
        )
        entries, wide, narrow = (part.data_ptr() for part in self._kept)
        self.workers = (CWorker * w)()
        library = load()
        assert library is not None
        library.palate_place(self.workers, w, n, dim, self.capacity, entries, wide, narrow)
        return narrow + 16 * w * n, wide + 8 * w * n_wide

    def scan(self, segment: Segment, *, last: bool) -> None:
        """Take what a segment offers; `last` spares scoring what :meth:`finish` may drop."""
        self.segment, self.c_segment = segment, described(segment)
        method = self._method(segment)
        self.job.block = self._block(method)
        self.job.settle = int(not last)
        library = load()
        assert library is not None
        library.palate_begin(self.job)

        def work(i: int) -> int:
            return library.palate_scan(self.job, self.c_segment, self.workers[i], method)

        _check(_topk_threads.run_sharing(work, self.n_workers))

    def _method(self, segment: Segment) -> int:
        method = method_for(segment, len(self.queries))
        if method == _CODES8 and not self.codes16:
            self.codes16 = query_codes(self.queries)
            names = ("codes16", "scales16", "errors16")
            for name, tensor in zip(names, self.codes16, strict=True):
                setattr(self.job, name, address(tensor))
        return method

    def _block(self, method: int) -> int:
        """Return the items of a block: a power of two from 16 to NORM_BLOCK."""
        width = NORM_BLOCK
        if method in (_BATCH, _TILES):
            size = 4 if method == _BATCH else 2
            width = PACK_BYTES // (size * max(self.queries.shape[1], 1))
        width = max(16, min(width, self.item_block or width, NORM_BLOCK))
        return 1 << (width.bit_length() - 1)

    def finish(self, scores: Tensor, codes: Tensor) -> None:
        """Write the best k into the first columns of scores and codes (n_queries, width)."""
        n, workers = len(self.queries), self.n_workers
        threads = workers if n * self.job.k >= SMALL_FINISH else 1
        cuts = [n * i // threads for i in range(threads + 1)]
        library = load()
        assert library is not None

        def work(i: int) -> int:
            return library.palate_finish(
                *(self.job, self.c_segment, self.workers, workers, cuts[i], cuts[i + 1]),
                *(scores.data_ptr(), codes.data_ptr(), scores.shape[1]),
            )

        _check(_topk_threads.run(work, threads))


def _check(failures: list[int]) -> None:
    if any(failures):
        raise MemoryError("The top-k kernel could not allocate its scratch memory.")


def described(segment: Segment) -> CSegment:
    """Return a segment as the kernel reads it; made once, since segments do not change."""
    found = segment.__dict__.get("_described")
    if found is None:
        codes8 = segment.codes8
        found = CSegment(
            vectors=address(segment.vectors),
            codes=address(segment.codes),
            norms=address(segment.norms),
            bias=address(segment.bias),
            codes8=address(codes8.codes) if codes8 else None,
            scales=address(codes8.scales) if codes8 else None,
            rho=address(codes8.rho) if codes8 else None,
            n=len(segment),
            dim=segment.vectors.shape[1],
            start=segment.start,
            stride8=padded_width(segment.vectors.shape[1]),
            dtype=_DTYPES[segment.vectors.dtype],
        )
        segment.__dict__["_described"] = found
    return found


def query_codes(queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round queries to int16 so that a sum of products with int8 codes fits 32 bits.

    Returns
    -------
    codes : int16 Tensor of shape (n, stride)
    scales : float32 Tensor of shape (n,)
    errors : float64 Tensor of shape (n,)
        Length of ``query - scale * code``.
    """
    n, dim = queries.shape
    stride = padded_width(dim)
    codes = torch.zeros(n, stride, dtype=torch.int16)
    scales, errors = torch.empty(n), torch.empty(n, dtype=torch.float64)
    library = load()
    assert library is not None
    library.palate_query_codes(
        *(queries.data_ptr(), n, dim, stride, code_limit(dim)),
        *(codes.data_ptr(), scales.data_ptr(), errors.data_ptr()),
    )
    return codes, scales, errors

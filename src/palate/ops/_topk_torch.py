"""The plain torch search: the reference that every other back end must equal.

A tile of float32 scores is made by one matrix product, compared once with what each query's k-th
best score allows, and only what passes is scored canonically and merged.
"""

from __future__ import annotations

import torch
from torch import Tensor

from palate.ops._topk_block import QueryBlock
from palate.ops._topk_canonical import SCREEN_LIMIT, canonical_scores, screen_error
from palate.ops._topk_catalogue import Segment
from palate.ops._topk_filters import ItemLists
from palate.ops._topk_prepare import NORM_BLOCK

#: Scores of one tile: 4 MiB of float32 stays in the cache that cores share.
TILE_SCORES = 1 << 20


class Best:
    """The running top k of a block of queries.

    Attributes
    ----------
    scores : float32 Tensor of shape (n_queries, k)
        Descending, -inf where nothing was found yet.
    codes : int64 Tensor of shape (n_queries, k)
        -1 where nothing was found yet.
    """

    def __init__(self, n_queries: int, k: int, device: torch.device) -> None:
        self.scores = torch.full((n_queries, k), -torch.inf, device=device)
        self.codes = torch.full((n_queries, k), -1, dtype=torch.int64, device=device)

    def merge(self, rows: Tensor, scores: Tensor, codes: Tensor) -> None:
        """Insert scored pairs; `rows` ascends, and codes ascend within a row."""
        touched, local = torch.unique_consecutive(rows, return_inverse=True)
        k = self.scores.shape[1]
        old = torch.arange(len(touched), device=rows.device).repeat_interleave(k)
        all_rows = torch.cat([old, local])
        all_scores = torch.cat([self.scores[touched].reshape(-1), scores])
        all_codes = torch.cat([self.codes[touched].reshape(-1), codes])
        # Two stable sorts after one by code: by (row, -score, code); empty slots sort last anyway.
        order = torch.argsort(all_codes, stable=True)
        order = order[torch.argsort(all_scores[order], descending=True, stable=True)]
        order = order[torch.argsort(all_rows[order], stable=True)]
        counts = torch.bincount(all_rows, minlength=len(touched))
        first = counts.cumsum(0) - counts
        take = order[(first.unsqueeze(1) + torch.arange(k, device=rows.device)).reshape(-1)]
        self.scores[touched] = all_scores[take].view(-1, k)
        self.codes[touched] = all_codes[take].view(-1, k)


class Search:
    """The running best of a block of queries while segments pass by."""

    def __init__(self, block: QueryBlock) -> None:
        self.block = block
        queries = block.queries
        self.best = Best(len(queries), block.k, queries.device)
        self.norms = block.norms.to(queries.device) * (1 + 1e-6)
        self.squares = queries.double().square().sum(1)
        self.exclude = block.exclude

    def scan(self, segment: Segment, *, last: bool) -> None:
        """Merge the best items of a segment, tile by tile."""
        n_queries, dim = self.block.queries.shape
        limit = max(1, self.block.budget // 64 // max(n_queries, dim, 1))
        auto = max(256, TILE_SCORES // max(n_queries, 1))
        width = min(self.block.item_block or auto, limit)
        for begin in range(0, len(segment), width):
            self._scan_tile(segment, begin, width)

    def _scan_tile(self, segment: Segment, begin: int, width: int) -> None:
        vectors = segment.vectors[begin : begin + width].float()
        bias = None if segment.bias is None else segment.bias[begin : begin + width]
        last = -(-(begin + len(vectors)) // NORM_BLOCK)
        peak = float(segment.norms[begin // NORM_BLOCK : last].max())
        queries, metric = self.block.queries, self.block.metric
        tile, error = _screened(queries, vectors, metric, bias, self.norms, peak)
        codes = item_codes(segment, begin, len(vectors))
        _drop_excluded(tile, codes, self.exclude)
        if self.block.allowed is not None:
            tile[:, (self.block.allowed[codes] == 0).to(tile.device)] = -torch.inf
        kth = None
        if tile.shape[1] > self.block.k and bool(self.best.scores[:, -1].isneginf().any()):
            kth = torch.topk(tile, self.block.k, dim=1).values[:, -1]
        cut = cut_of(self.best, self.squares, error, metric, kth)
        rows, columns = (tile > cut.unsqueeze(1)).nonzero(as_tuple=True)
        self.merge_pairs(rows, columns, vectors, codes.to(tile.device))

    def merge_pairs(self, rows: Tensor, columns: Tensor, vectors: Tensor, codes: Tensor) -> None:
        """Score pairs of queries and rows of `vectors` canonically and merge them.

        `rows` (n_pairs,) ascends; `codes` are those of all rows of `vectors`.
        """
        queries, metric = self.block.queries, self.block.metric
        step = max(1, self.block.budget // (128 * max(queries.shape[1], 1) + 512))
        for start in range(0, len(rows), step):
            row, column = rows[start : start + step], columns[start : start + step]
            scores = canonical_scores(queries[row], vectors[column], metric)
            self.best.merge(row, scores, codes[column])

    def finish(self, scores: Tensor, codes: Tensor) -> None:
        """Write the best into the first columns."""
        scores[:, : self.block.k] = self.best.scores
        codes[:, : self.block.k] = self.best.codes


def is_usable_for(block: QueryBlock, segment: Segment) -> bool:
    """Say yes: this back end runs everywhere."""
    return True


def _screened(
    queries: Tensor, block: Tensor, metric: str, bias: Tensor | None, norms: Tensor, peak: float
) -> tuple[Tensor, Tensor]:
    """Return float32 numbers that rank as the metric does, and the error of each row."""
    largest = max(float(norms.max()), peak)
    if not largest**2 < SCREEN_LIMIT:  # could overflow: let every item through to exact scoring
        tile = queries.new_zeros(len(queries), len(block))
        return tile, torch.full_like(norms, torch.inf)
    error = screen_error(norms, peak, queries.shape[1], metric)
    if torch.get_float32_matmul_precision() != "highest":
        error = error + _coarse_error(norms, peak)
    with torch.autocast(queries.device.type, enabled=False):
        if bias is None:
            return torch.mm(queries, block.T), error
        return torch.addmm(bias.to(queries.device), queries, block.T), error


def _coarse_error(norms: Tensor, peak: float) -> Tensor:
    """Bound what rounding both factors to bfloat16 (8 bits, or better) adds."""
    return norms * (peak * 2.0**-6.9)


def _drop_excluded(tile: Tensor, codes: Tensor, exclude: ItemLists | None) -> None:
    """Set the excluded pairs of a tile, whose columns have rising codes, to -inf."""
    if exclude is None:
        return
    rows = torch.repeat_interleave(torch.arange(len(tile)), exclude.indptr.diff())
    place = torch.searchsorted(codes, exclude.indices).clamp_(max=len(codes) - 1)
    here = codes[place] == exclude.indices
    tile[rows[here].to(tile.device), place[here].to(tile.device)] = -torch.inf


def item_codes(segment: Segment, begin: int, size: int) -> Tensor:
    """Return the item codes of some rows of a segment, on the CPU."""
    if segment.codes is not None:
        return segment.codes[begin : begin + size].cpu()
    return torch.arange(segment.start + begin, segment.start + begin + size)


def cut_of(best: Best, squares: Tensor, error: Tensor, metric: str, kth: Tensor | None) -> Tensor:
    """Return per query the screened number that an item must exceed to be able to enter.

    Parameters
    ----------
    best : Best
    squares, error : float64 Tensors of shape (n_queries,)
        Squared norms of the queries, and what a screened number may err by.
    metric : {"cosine", "dot", "euclidean"}
    kth : float Tensor of shape (n_queries,) or None
        Screened numbers that k items reach.

    Returns
    -------
    float32 Tensor of shape (n_queries,)
        Finite, so that -inf marks pairs that never enter.
    """
    worst = best.scores[:, -1].double()
    if metric == "euclidean":
        # A distance below w means q·x - |x|**2 / 2 above (|q|**2 - w**2) / 2.
        worst = torch.where(worst.isneginf(), worst, (squares - worst.square()) / 2)
        worst = worst - 1e-12 * squares  # the squares themselves are rounded
    low = error.new_tensor(-torch.inf, dtype=torch.float32)
    # A step down for rounding; but an exact tie with earlier items stays out.
    cut = torch.where(error == 0, worst.float(), torch.nextafter((worst - error).float(), low))
    if kth is not None:
        cut = torch.maximum(cut, torch.nextafter((kth.double() - 2 * error).float(), low))
    return cut.clamp(min=torch.finfo(torch.float32).min)

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
        _drop_excluded(tile, segment, begin, self.exclude)
        if self.block.allowed is not None:
            here = self.block.allowed[_codes(segment, begin, len(vectors))]
            tile[:, (here == 0).to(tile.device)] = -torch.inf
        hits = tile > _cut(tile, self.best, self.squares, error, metric).unsqueeze(1)
        pairs = max(1, self.block.budget // (128 * max(queries.shape[1], 1) + 512))
        _score_hits(self.best, queries, vectors, segment, begin, hits, metric, pairs)

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
    if bias is None:
        return torch.mm(queries, block.T), error
    return torch.addmm(bias.to(queries.device), queries, block.T), error


def _drop_excluded(tile: Tensor, segment: Segment, begin: int, exclude: ItemLists | None) -> None:
    """Set the excluded pairs of a tile to -inf."""
    if exclude is None:
        return
    width = tile.shape[1]
    rows = torch.repeat_interleave(torch.arange(len(tile)), exclude.indptr.diff())
    cols = exclude.indices
    if segment.codes is None:
        local = cols - segment.start - begin
        here = (local >= 0) & (local < width)
    else:
        codes = segment.codes[begin : begin + width]
        local = torch.searchsorted(codes, cols)
        here = codes[local.clamp(max=width - 1)] == cols
    tile[rows[here].to(tile.device), local[here].to(tile.device)] = -torch.inf


def _codes(segment: Segment, begin: int, size: int) -> Tensor:
    """Return the item codes of a tile's columns, on the CPU."""
    if segment.codes is not None:
        return segment.codes[begin : begin + size].cpu()
    return torch.arange(segment.start + begin, segment.start + begin + size)


def _cut(tile: Tensor, best: Best, squares: Tensor, error: Tensor, metric: str) -> Tensor:
    """Return per query the screened number that an item must exceed to be able to enter."""
    k = best.scores.shape[1]
    worst = best.scores[:, -1].double()
    if metric == "euclidean":
        # A distance below w means q·x - |x|**2 / 2 above (|q|**2 - w**2) / 2.
        worst = torch.where(worst.isneginf(), worst, (squares - worst.square()) / 2)
    cut = worst - error
    if tile.shape[1] > k and bool(best.scores[:, -1].isneginf().any()):
        kth = torch.topk(tile, k, dim=1).values[:, -1].double()
        cut = torch.maximum(cut, kth - 2 * error)
    low = cut.new_tensor(-torch.inf, dtype=torch.float32)
    # One step down for rounding to float32, but -inf marks excluded pairs and stays out.
    return torch.nextafter(cut.float(), low).clamp(min=torch.finfo(torch.float32).min)


def _score_hits(
    best: Best,
    queries: Tensor,
    block: Tensor,
    segment: Segment,
    begin: int,
    hits: Tensor,
    metric: str,
    pairs: int,
) -> None:
    """Score the marked pairs of a tile canonically and merge them."""
    rows, cols = hits.nonzero(as_tuple=True)
    codes = _codes(segment, begin, len(block)).to(cols.device)
    for start in range(0, len(rows), pairs):
        row, col = rows[start : start + pairs], cols[start : start + pairs]
        scores = canonical_scores(queries[row], block[col], metric)
        best.merge(row, scores, codes[col])

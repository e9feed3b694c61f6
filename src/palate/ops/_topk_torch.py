"""The plain torch search: the reference that every other back end must equal.

A tile of float32 scores is made by one matrix product, compared once with what each query's k-th
best score allows, and only what passes is scored canonically and merged.
"""

from __future__ import annotations

import torch
from torch import Tensor

from palate.ops._topk_canonical import SCREEN_LIMIT, canonical_scores, screen_error
from palate.ops._topk_catalogue import NORM_BLOCK, Segment
from palate.ops._topk_filters import ItemLists

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


def scan(
    best: Best,
    queries: Tensor,
    segment: Segment,
    metric: str,
    exclude: ItemLists | None,
    *,
    item_block: int | None,
    budget: int,
) -> None:
    """Merge the best items of a segment into `best`, tile by tile."""
    n_queries, dim = queries.shape
    limit = max(1, budget // 32 // max(n_queries, dim, 1))
    width = min(item_block or max(256, TILE_SCORES // max(n_queries, 1)), limit)
    pairs = max(1, budget // (64 * max(dim, 1) + 512))
    norms = torch.linalg.vector_norm(queries, dim=1, dtype=torch.float64) * 1.001
    squares = queries.double().square().sum(1)
    for begin in range(0, len(segment), width):
        block = segment.vectors[begin : begin + width].float()
        peak = float(segment.norms[begin // NORM_BLOCK : -(-(begin + width) // NORM_BLOCK)].max())
        tile, error = _screened(queries, block, metric, norms, peak)
        _drop_excluded(tile, segment, begin, exclude)
        hits = tile > _cut(tile, best, squares, error, metric).unsqueeze(1)
        _score_hits(best, queries, block, segment, begin, hits, metric, pairs)


def _screened(
    queries: Tensor, block: Tensor, metric: str, norms: Tensor, peak: float
) -> tuple[Tensor, Tensor]:
    """Return float32 numbers that rank as the metric does, and the error of each row."""
    largest = max(float(norms.max()), peak)
    if not largest**2 < SCREEN_LIMIT:  # could overflow: let every item through to exact scoring
        tile = queries.new_zeros(len(queries), len(block))
        return tile, torch.full_like(norms, torch.inf)
    error = screen_error(norms, peak, queries.shape[1], metric)
    if metric != "euclidean":
        return torch.mm(queries, block.T), error
    half = (block.double().square().sum(1) / -2).float()
    return torch.addmm(half, queries, block.T), error


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
    for start in range(0, len(rows), pairs):
        row, col = rows[start : start + pairs], cols[start : start + pairs]
        scores = canonical_scores(queries[row], block[col], metric)
        position = col + begin
        if segment.codes is None:
            codes = position + segment.start
        else:
            codes = segment.codes.to(col.device)[position]
        best.merge(row, scores, codes)

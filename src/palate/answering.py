"""From query vectors to ranked items: filters, batches, and some items raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from palate._options import RunOptions
from palate.blending import blended
from palate.data.histories import Histories
from palate.data.popularity import Popularity
from palate.data.vocabulary import Vocabulary
from palate.queries import Queries


class Catalogue(Protocol):
    """What ranking needs: users and items known, a query vector for each user, a ranker."""

    @property
    def users(self) -> Vocabulary:
        """Known users."""
        ...

    @property
    def items(self) -> Vocabulary:
        """The catalogue's items."""
        ...

    @property
    def histories(self) -> Histories:
        """What each user did."""
        ...

    @property
    def ranker(self) -> Any:
        """The fitted ranker."""
        ...

    @property
    def popularity(self) -> Popularity:
        """What answers a query without events."""
        ...

    def user_vectors(self, queries: Queries, options: RunOptions) -> Tensor:
        """Return the query vector of each user."""
        ...


@dataclass(frozen=True)
class Asking:
    """How queries that all have an event are answered: the parameters of `top_items`."""

    serving: Catalogue
    options: RunOptions
    filter_viewed: bool
    include: np.ndarray | None
    exclude: np.ndarray | None
    boosted: np.ndarray | None
    boost: float
    popularity_weight: float
    trend_weight: float

    def best(self, queries: Queries, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (n, k) and codes (n, k) of the best items, padded with -1."""
        if not self.popularity_weight and not self.trend_weight:
            return self.nearest(queries, k)
        scores = np.empty((len(queries), k), np.float32)
        codes = np.empty((len(queries), k), np.int64)
        size = int(self.options.inference_batch_size)
        for start in range(0, len(queries), size):
            part = queries[start : start + size]
            scores[start : start + size], codes[start : start + size] = blended(
                partial(self.nearest, part),
                self.serving.popularity,
                self._prior_weights(part),
                k,
                self.include,
                self.exclude,
            )
        return scores, codes

    def _prior_weights(self, queries: Queries) -> np.ndarray:
        """Return what the logarithm of popularity counts for each query: (n_queries,)."""
        n_events = np.maximum(1, np.diff(queries.indptr))  # attributes alone: as one
        return self.popularity_weight / n_events + self.trend_weight

    def nearest(
        self, queries: Queries, k: int, only: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best by similarity, among some of the allowed items where they are named."""
        only = self.include if only is None else only
        scores, codes = self._similar(queries, k, only)
        raised = self.boosted
        if raised is not None and only is not None:
            raised = np.intersect1d(raised, only)
        if not self.boost or raised is None or not len(raised):
            return scores, codes
        # What is not raised and belongs to the result is among the nearest already.
        return joined(scores, codes, *self._similar(queries, k, raised), raised, self.boost)

    def _similar(
        self, queries: Queries, k: int, only: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return nearest_items(
            self.serving, queries, k, self.options, self.filter_viewed, only, self.exclude
        )


def nearest_items(
    serving: Catalogue,
    queries: Queries,
    k: int,
    options: RunOptions,
    filter_viewed: bool,
    include: np.ndarray | None,
    exclude: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (n, k) and codes (n, k) of the most similar items of queries with events."""
    n_items = len(serving.items)
    allowed = None if include is None else torch.from_numpy(include)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    codes = np.full((len(queries), k), -1, np.int64)
    size = int(options.inference_batch_size)
    for start in range(0, len(queries), size):
        part = queries[start : start + size]
        pairs = _excluded_pairs(part, n_items, filter_viewed, exclude)
        vectors = serving.user_vectors(part, options)
        found = serving.ranker.topk(vectors, k, exclude=pairs, include=allowed)
        width = found.indices.shape[1]
        scores[start : start + size, :width] = found.scores.float().cpu().numpy()
        codes[start : start + size, :width] = found.indices.cpu().numpy()
    return scores, codes


def joined(
    scores: np.ndarray,
    codes: np.ndarray,
    raised: np.ndarray,
    raised_codes: np.ndarray,
    boosted: np.ndarray,
    boost: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Merge two rankings (n, k) into one; the items of the second are scored higher by `boost`."""
    twice = np.isin(codes, boosted)
    both = np.concatenate([np.where(twice, -np.inf, scores), raised + np.float32(boost)], axis=1)
    items = np.concatenate([np.where(twice, -1, codes), raised_codes], axis=1)
    best = np.lexsort((items, -both), axis=1)[:, : scores.shape[1]]
    return np.take_along_axis(both, best, 1).astype(np.float32), np.take_along_axis(items, best, 1)


def _excluded_pairs(
    queries: Queries, n_items: int, filter_viewed: bool, exclude: np.ndarray | None
) -> tuple[Tensor, Tensor] | None:
    rows: Sequence[np.ndarray] = []
    items: Sequence[np.ndarray] = []
    if filter_viewed:
        known = queries.items < n_items  # codes beyond the catalogue stand for texts
        at = np.repeat(np.arange(len(queries)), np.diff(queries.indptr))
        rows, items = [at[known]], [queries.items[known]]
    if exclude is not None and len(exclude):
        rows = [*rows, np.repeat(np.arange(len(queries)), len(exclude))]
        items = [*items, np.tile(exclude, len(queries))]
    if not rows:
        return None
    return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(items))

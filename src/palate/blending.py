"""Taste and fashion together: similarity, and what is popular for people who have said little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from palate.data.popularity import Popularity

# (k, codes that alone may be returned) to scores (n, k) and codes (n, k), padded with -inf and -1.
Nearest = Callable[[int, np.ndarray | None], tuple[np.ndarray, np.ndarray]]

# Even an item without an event keeps this share of an equal share, so that its logarithm exists.
_EVEN = 0.1
_FIRST_DEPTH = 64


def log_shares(popularity: Popularity, items: np.ndarray) -> np.ndarray:
    """Return the logarithm of each item's smoothed share of all events, over an equal share.

    Parameters
    ----------
    popularity : Popularity
    items : int64 ndarray of any shape

    Returns
    -------
    float64 ndarray of the same shape
        ``log((share * n_items + 0.1) / 1.1)``: 0 for an item as popular as the average.
    """
    shares = popularity.shares(items) * popularity.n_items
    return np.asarray(np.log((shares + _EVEN) / (1 + _EVEN)))


def blended(
    nearest: Nearest,
    popularity: Popularity,
    weights: np.ndarray,
    k: int,
    include: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `k` items of largest ``similarity + weight * log_shares``, exactly.

    Two lists are read to some depth, the nearest items and the most popular ones. What is in
    neither scores at most the last similarity plus the last popularity: where that is more than the
    `k`-th result, both are read deeper.

    Parameters
    ----------
    nearest : callable
        Ranks all allowed items, or some of them, by similarity.
    popularity : Popularity
    weights : float ndarray of shape (n_queries,)
        At least 0, in units of the similarity.
    k : int
        At most the number of items.
    include, exclude : int64 ndarrays, default=None
        Codes that alone may, or may not, be returned.

    Returns
    -------
    scores : float32 ndarray of shape (n_queries, k)
    codes : int64 ndarray of shape (n_queries, k)
        Padded with -inf and -1; ties in catalogue order.

    Notes
    -----
    The threshold algorithm of Fagin, Lotem and Naor, "Optimal aggregation algorithms for
    middleware", 2003, read in bulk.
    """
    n_items = popularity.n_items
    depth = min(n_items, max(_FIRST_DEPTH, 4 * k))
    while True:
        _, popular = popularity.top(depth, include, exclude)
        near, near_codes = nearest(depth, None)
        far, far_codes = nearest(max(1, len(popular)), popular)
        scores, codes = _united(near, near_codes, far, far_codes, popularity, weights, k)
        rest = log_shares(popularity, popular[-1:]) if len(popular) else np.zeros(1)
        bound = near[:, -1] + weights * rest
        if depth >= n_items or not np.any(bound >= scores[:, -1]):
            return scores, codes
        depth = min(n_items, 4 * depth)


def _united(
    near: np.ndarray,
    near_codes: np.ndarray,
    far: np.ndarray,
    far_codes: np.ndarray,
    popularity: Popularity,
    weights: np.ndarray,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Score the items of two lists together, each once: (n, k) of them."""
    codes = np.concatenate([near_codes, far_codes], axis=1)
    scores = np.concatenate([near, far], axis=1).astype(np.float64)
    scores += weights[:, None] * log_shares(popularity, np.maximum(codes, 0))
    scores[codes < 0] = -np.inf
    order = np.argsort(codes, axis=1, kind="stable")
    codes, scores = (np.take_along_axis(a, order, 1) for a in (codes, scores))
    again = np.zeros(codes.shape, bool)
    again[:, 1:] = codes[:, 1:] == codes[:, :-1]
    scores[again] = -np.inf
    best = np.lexsort((codes, -scores), axis=1)[:, :k]
    scores, codes = (np.take_along_axis(a, best, 1) for a in (scores, codes))
    codes[np.isneginf(scores)] = -1
    width = k - codes.shape[1]
    if width > 0:
        scores = np.pad(scores, ((0, 0), (0, width)), constant_values=-np.inf)
        codes = np.pad(codes, ((0, 0), (0, width)), constant_values=-1)
    return scores.astype(np.float32), codes

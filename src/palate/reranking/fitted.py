"""A learned correction and what it needs to answer: the first stage's lists put in order anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate._options import RunOptions
from palate.exceptions import MissingContentError
from palate.queries import Queries
from palate.reranking.content import content_of, content_of_texts
from palate.reranking.examples import recent_events
from palate.reranking.module import ContentCorrection
from palate.reranking.spec import Reranker

# (queries, k) to scores (n, k) and codes (n, k), padded with -inf and -1.
Best = Callable[[Queries, int], tuple[np.ndarray, np.ndarray]]
# Queries whose candidates are looked up at once: bounds the memory.
_ROWS = 128


@dataclass(frozen=True)
class FittedReranker:
    """The second stage at one moment.

    Attributes
    ----------
    given : str or Reranker
        The parameter of `fit`, copied.
    spec : Reranker
        What it stood for.
    module : ContentCorrection
        In evaluation mode.
    """

    given: Any
    spec: Reranker
    module: ContentCorrection

    @property
    def changes_nothing(self) -> bool:
        """Whether the first stage's order stays: nothing helped on the held-out users."""
        return not bool(self.module.strength)

    def learned_by(self, spec: Reranker | None) -> ContentCorrection | None:
        """Return the correction to go on from, or None where `spec` is another one."""
        same = spec is not None and spec.get_params() == self.spec.get_params()
        return None if self.changes_nothing or not same else self.module


@torch.inference_mode()
def reranked(
    serving: Any, best: Best, options: RunOptions, queries: Queries, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `k` best items of queries that have events, by both stages.

    Parameters
    ----------
    serving : Serving
        With a `reranker`.
    best : callable
        The first stage, with its filters.
    options : RunOptions
    queries : Queries
    k : int

    Returns
    -------
    scores : float32 ndarray of shape (n_queries, k)
    codes : int64 ndarray of shape (n_queries, k)
    """
    depth = min(len(serving.items), max(k, serving.reranker.spec.n_candidates))
    scores = np.empty((len(queries), k), np.float32)
    codes = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), _ROWS):
        part = queries[start : start + _ROWS]
        found, items = best(part, depth)
        head = slice(serving.reranker.spec.n_candidates)
        change = _corrections(serving, part, items[:, head], options)
        found, items = reordered(found, items, change)
        scores[start : start + _ROWS], codes[start : start + _ROWS] = found[:, :k], items[:, :k]
    return scores, codes


def reordered(
    scores: np.ndarray, codes: np.ndarray, change: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add corrections to the first items of each list, and put those in order anew.

    What comes after them stays behind: where their last score has fallen below the next one, the
    rest falls as far.

    Parameters
    ----------
    scores : float32 ndarray of shape (n_rows, depth)
        In order, -inf where a list has run out.
    codes : int64 ndarray of shape (n_rows, depth)
        -1 where a list has run out.
    change : float ndarray of shape (n_rows, n_first)
        ``n_first`` is at most ``depth``.

    Returns
    -------
    scores, codes : ndarrays of the same shapes and dtypes
        Ties among the first items in catalogue order.

    Examples
    --------
    >>> scores, codes = np.array([[3.0, 2.0, 1.5]], np.float32), np.array([[7, 8, 9]])
    >>> scores, codes = reordered(scores, codes, np.array([[-2.0, 1.0]]))
    >>> scores.tolist(), codes.tolist()
    ([[3.0, 1.0, 1.0]], [[8, 7, 9]])
    """
    n_first = change.shape[1]
    head, items = scores[:, :n_first], codes[:, :n_first]
    there = items >= 0
    head = np.where(there, head + change, -np.inf).astype(np.float32)
    order = np.lexsort((items, -head), axis=1)
    scores, codes = scores.copy(), codes.copy()
    scores[:, :n_first] = np.take_along_axis(head, order, 1)
    codes[:, :n_first] = np.take_along_axis(items, order, 1)
    full = np.flatnonzero(there.all(1)) if n_first < scores.shape[1] else np.zeros(0, int)
    if len(full):
        last, rest = scores[full, n_first - 1], scores[full, n_first:]
        fall = np.minimum(0, last - rest[:, 0], where=~np.isneginf(rest[:, 0]), out=last * 0)
        scores[full, n_first:] = np.minimum(rest + fall[:, None], last[:, None])
    return scores, codes


def _corrections(
    serving: Any, queries: Queries, codes: np.ndarray, options: RunOptions
) -> np.ndarray:
    """Return the correction of each candidate (n_rows, n_candidates), 0 where there is none."""
    module, device = serving.reranker.module, serving.vectors.device
    recent, known = recent_events(queries.indptr, queries.items, module.n_events)
    recent, known = recent.to(device), known.to(device)
    candidates = torch.from_numpy(codes).to(device)
    picks = candidates.clamp_min(0)
    change = module(
        serving.user_vectors(queries, options),
        serving.vectors[picks],
        _content(serving, picks, queries, options),
        _content(serving, recent, queries, options),
        known[:, None] & (picks[:, :, None] != recent[:, None]),
    )
    return np.asarray(change.masked_fill(candidates < 0, 0).float().cpu().numpy())


def _content(serving: Any, codes: Tensor, queries: Queries, options: RunOptions) -> Tensor:
    """Return content of length 1 (..., width) for codes (...) of items and of texts."""
    n_items, flat = len(serving.items), codes.flatten()
    items = serving.network.items
    rows = content_of(items, flat.clamp_max(n_items - 1))
    spoken = flat >= n_items
    if queries.texts and spoken.any():
        texts = content_of_texts(items, queries.texts, options)
        if texts.shape[1] != rows.shape[1]:
            raise MissingContentError(
                "texts need an item encoder whose hear_texts tells their content beside a "
                f"re-ranker; got {type(items).__name__}."
            )
        rows = rows.clone()
        rows[spoken] = texts.to(rows)[flat[spoken] - n_items]
    return rows.view(*codes.shape, -1)

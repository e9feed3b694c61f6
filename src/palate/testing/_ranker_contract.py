"""What every ranker must do."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from palate.testing._rules import fresh_copy, rule

_N_ITEMS, _N_QUERIES, _DIM = 43, 6, 5


def check_ranker(spec: Any, *, metric: str = "cosine", exact: bool = True) -> None:
    """Check a ranker spec: order, filters, ties, running out, growth, batches.

    Parameters
    ----------
    spec : Ranker
        It is copied, not changed.
    metric : {"cosine", "dot", "euclidean"}, default="cosine"
        What its scores are; ``"euclidean"`` scores are minus the distance.
    exact : bool, default=True
        Whether it promises the best items themselves, with ties in catalogue order. An
        approximate one need only return some items, rightly scored.

    Raises
    ------
    AssertionError
        If a rule is broken; the message says which.

    Examples
    --------
    >>> from palate import CosineRanker
    >>> check_ranker(CosineRanker(metric="dot"), metric="dot")
    """
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(_N_ITEMS, _DIM, generator=generator)
    items[7], items[30] = items[3], items[3]  # ties
    queries = torch.randn(_N_QUERIES, _DIM, generator=generator)
    queries[0] = items[3]
    ranker = fresh_copy(spec)
    rule(ranker.fit(items) is ranker, "fit must return the ranker itself")
    every = torch.ones(_N_QUERIES, _N_ITEMS, dtype=torch.bool)
    for k in (1, 4, _N_ITEMS, _N_ITEMS + 9):
        _check_answer(ranker.topk(queries, k), queries, items, every, k, metric, exact)
    _check_filters(ranker, queries, items, metric, exact, generator)
    _check_batches(ranker, queries)
    _check_extend(spec, items, queries)


def scores_of(queries: Tensor, items: Tensor, metric: str) -> Tensor:
    """Return all scores in float64, the plain way."""
    q, v = queries.double()[:, None], items.double()[None]
    if metric == "euclidean":
        return -(q - v).square().sum(-1).sqrt()
    scores = (q * v).sum(-1)
    if metric == "cosine":
        scores = scores / (q.square().sum(-1).sqrt() * v.square().sum(-1).sqrt())
    return scores


def _check_answer(
    found: Any, queries: Tensor, items: Tensor, allowed: Tensor, k: int, metric: str, exact: bool
) -> None:
    shape = (len(queries), k)
    rule(
        found.scores.shape == shape and found.indices.shape == shape,
        f"scores and indices must have the shape (n_queries, k) = {shape}",
    )
    scores, codes = found.scores.double().cpu(), found.indices.cpu()
    truth = scores_of(queries, items, metric)
    for row in range(len(queries)):
        real = codes[row] >= 0
        kept = codes[row][real]
        n_real = len(kept)
        rule(bool(real[:n_real].all()), "a row that runs out must end in -1")
        rule((codes[row][n_real:] == -1).all(), "a row that runs out must end in -1")
        rule(scores[row][n_real:].isneginf().all(), "a row that runs out must end in -inf")
        rule(len(kept.unique()) == n_real, "an item must not be returned twice")
        rule(allowed[row, kept].all(), "an item that is filtered must not be returned")
        rule((scores[row][:n_real].diff() <= 0).all(), "scores must fall")
        good = torch.allclose(scores[row][:n_real], truth[row, kept], rtol=1e-4, atol=1e-4)
        rule(good, f"a score must be the {metric} of query and item")
        if exact:
            _check_exact(codes[row], scores[row], truth[row], allowed[row], n_real)


def _check_exact(
    codes: Tensor, scores: Tensor, truth: Tensor, allowed: Tensor, n_real: int
) -> None:
    n_valid = min(len(codes), int(allowed.sum()))
    rule(n_real == n_valid, "the list must be full while valid items are left")
    best = truth.masked_fill(~allowed, -torch.inf).sort(descending=True, stable=True).values
    good = torch.allclose(scores[:n_real], best[:n_real], rtol=1e-4, atol=1e-4)
    rule(good, "the best items must be returned")
    tied = scores[:n_real].diff() == 0
    rule((codes[:n_real].diff()[tied] > 0).all(), "ties must go to the item that comes first")


def _check_filters(
    ranker: Any, queries: Tensor, items: Tensor, metric: str, exact: bool, generator: Any
) -> None:
    banned = torch.rand(_N_QUERIES, _N_ITEMS, generator=generator) < 0.6
    banned[1] = True
    pairs = banned.nonzero().T
    include = torch.tensor([30, 3, 11, 7, 40, 2])
    listed = torch.zeros(_N_ITEMS, dtype=torch.bool)
    listed[include] = True
    cases: list[tuple[dict[str, Any], Tensor]] = [
        ({"exclude": (pairs[0], pairs[1])}, ~banned),
        ({"include": include}, listed.expand_as(banned)),
        ({"exclude": (pairs[0], pairs[1]), "include": include}, ~banned & listed),
        ({"include": include[:0]}, torch.zeros_like(banned)),
    ]
    for filters, allowed in cases:
        found = ranker.topk(queries, 9, **filters)
        _check_answer(found, queries, items, allowed, 9, metric, exact)


def _check_batches(ranker: Any, queries: Tensor) -> None:
    found = ranker.topk(queries, 5)
    again = ranker.topk(queries, 5)
    rule(torch.equal(found.indices, again.indices), "the same query must get the same answer")
    for row in range(len(queries)):
        alone = ranker.topk(queries[row : row + 1], 5)
        same = torch.equal(alone.indices[0], found.indices[row])
        same &= torch.equal(alone.scores[0], found.scores[row])
        rule(same, "a query must get the same answer alone as in a batch")
    rule(ranker.topk(queries[:0], 5).indices.shape == (0, 5), "no query must get no answer")


def _check_extend(spec: Any, items: Tensor, queries: Tensor) -> None:
    whole = fresh_copy(spec).fit(items).topk(queries, _N_ITEMS)
    grown = fresh_copy(spec).fit(items[:20])
    # As the estimator does it: readers keep the original while a shallow copy grows.
    before = grown.topk(queries, 20)
    larger = copy.copy(grown)
    larger.extend(items[20:33])
    larger.extend(items[33:])
    after = grown.topk(queries, 20)
    rule(
        torch.equal(before.indices, after.indices) and torch.equal(before.scores, after.scores),
        "extend must not change what a shallow copy of the ranker shares with it",
    )
    found = larger.topk(queries, _N_ITEMS)
    rule(torch.equal(found.indices, whole.indices), "extend must give what fit on all rows gives")
    rule(
        (fresh_copy(spec).fit(items[:1]).topk(queries, 3).indices[:, 0] == 0).all(),
        "a catalogue of one item must return it",
    )

"""Accuracy of ranked lists, one value a user, from a code matrix and the truth in CSR form.

Conventions, for every function of this file:

- relevance is binary: an item is in the user's truth or it is not, and a repeat in the truth
  counts once;
- a ranking of fewer than `k` items is padded with -1, and a place without an item is a miss: a
  user without recommendations counts 0;
- a user without truth has no value: NaN, which `rank_metrics` leaves out of the mean.

Values equal trec_eval's measures ``success_k``, ``recall_k``, ``P_k``, ``recip_rank`` (of the first
`k`), ``map_cut_k`` and ``ndcg_cut_k``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from palate._validation import check_choice, check_int
from palate.data.lists import given, is_list
from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.ops.discount import first_gains


class Hits(NamedTuple):
    """Which places of a ranking hold a relevant item.

    Attributes
    ----------
    hit : bool ndarray of shape (n_users, width)
        True where the item at that place (0 is the first) is in the user's truth.
    n_relevant : int64 ndarray of shape (n_users,)
        Distinct items in the user's truth.
    """

    hit: np.ndarray
    n_relevant: np.ndarray


def find_hits(ranked: Any, indptr: Any, indices: Any) -> Hits:
    """Compare rankings with the truth.

    Parameters
    ----------
    ranked : int array-like of shape (n_users, width)
        Item codes, best first; -1 for a place without an item.
    indptr : int array-like of shape (n_users + 1,)
        User u's truth is ``indices[indptr[u] : indptr[u + 1]]``.
    indices : int array-like of shape (n_truth,)
        Item codes of at least 0, in any order; repeats count once.

    Returns
    -------
    Hits

    Raises
    ------
    InvalidInputError
        If the shapes do not agree, a code is negative, or a ranking repeats an item.

    Examples
    --------
    >>> find_hits([[4, 2, -1], [0, 1, 2]], indptr=[0, 2, 3], indices=[2, 7, 5]).hit
    array([[False,  True, False],
           [False, False, False]])
    """
    ranked, indptr, indices = _check_codes(ranked, indptr, indices)
    repeat = find_repeat(ranked)
    if repeat is not None:
        raise InvalidInputError(
            f"ranked must not repeat an item within a row; row {repeat[0]} repeats {repeat[1]}."
        )
    n_users = len(ranked)
    known, indices = np.unique(indices, return_inverse=True)
    n_codes = len(known) + 1  # numbered anew: a row and a code make one key of 64 bits
    at = np.searchsorted(known, ranked)
    found = np.append(known, -1)[at] == ranked
    ranked = np.where(ranked < 0, -1, np.where(found, at, len(known)))
    rows = np.arange(n_users, dtype=np.int64)
    truth = np.unique(np.repeat(rows, np.diff(indptr)) * n_codes + indices)
    n_relevant = np.bincount(truth // n_codes, minlength=n_users)
    if not len(truth):
        return Hits(np.zeros(ranked.shape, dtype=bool), n_relevant)
    keys = rows[:, None] * n_codes + ranked
    place = np.minimum(np.searchsorted(truth, keys), len(truth) - 1)
    # A -1 would make the key of the row above's last code.
    return Hits((truth[place] == keys) & (ranked >= 0), n_relevant)


def _check_codes(
    ranked: Any, indptr: Any, indices: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arrays = {"ranked": ranked, "indptr": indptr, "indices": indices}
    for name, values in arrays.items():
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise InvalidInputError(
                f"{name} must hold integers; its lists differ in length."
            ) from error
        if array.dtype.kind not in "iu" and array.size:
            raise InvalidInputError(f"{name} must hold integers; its type is {array.dtype}.")
        arrays[name] = array.astype(np.int64)
    ranked, indptr, indices = arrays.values()
    if ranked.ndim != 2:
        raise InvalidInputError(
            f"ranked must have the shape (n_users, width); its shape is {ranked.shape}."
        )
    if indptr.shape != (len(ranked) + 1,) or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise InvalidInputError(
            f"indptr must hold {len(ranked) + 1} integers that start at 0 and never fall, one "
            f"more than the rows of ranked; its shape is {indptr.shape}."
        )
    if indices.shape != (indptr[-1],) or indices.min(initial=0) < 0:
        raise InvalidInputError(
            f"indices must hold indptr[-1] = {indptr[-1]} codes of at least 0; its shape is "
            f"{indices.shape} and its least value {indices.min(initial=0)}."
        )
    if ranked.min(initial=0) < -1:
        raise InvalidInputError(
            f"ranked must hold codes of at least 0, or -1 for no item; its least value is "
            f"{ranked.min()}."
        )
    return ranked, indptr, indices


def find_repeat(ranked: np.ndarray) -> tuple[int, int] | None:
    """Return (row, code) of an item that a ranking holds twice, or None."""
    ordered = np.sort(ranked, axis=1)
    repeats = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if not repeats.any():
        return None
    row, place = np.argwhere(repeats)[0]
    return int(row), int(ordered[row, place])


def _no_truth_is_nan(values: Any, n_relevant: np.ndarray) -> np.ndarray:
    return np.where(n_relevant > 0, values, np.nan)


def hit_rate(hits: Hits, k: int) -> np.ndarray:
    """Return 1 if any of the first `k` items is relevant, else 0; float64, shape (n_users,).

    Examples
    --------
    >>> hit_rate(find_hits([[4, 2, 9]], [0, 2], [2, 9]), k=2)
    array([1.])
    """
    return _no_truth_is_nan(hits.hit[:, :k].any(axis=1).astype(np.float64), hits.n_relevant)


def recall(hits: Hits, k: int) -> np.ndarray:
    """Return the share of the user's relevant items that is in the first `k`.

    Examples
    --------
    >>> recall(find_hits([[4, 2, 9]], [0, 2], [2, 9]), k=2)
    array([0.5])
    """
    found = hits.hit[:, :k].sum(axis=1)
    return _no_truth_is_nan(found / np.maximum(hits.n_relevant, 1), hits.n_relevant)


def precision(hits: Hits, k: int) -> np.ndarray:
    """Return the relevant items in the first `k`, divided by `k` (also for shorter rankings).

    Examples
    --------
    >>> precision(find_hits([[4, 2, 9]], [0, 2], [2, 9]), k=4)
    array([0.5])
    """
    return _no_truth_is_nan(hits.hit[:, :k].sum(axis=1) / k, hits.n_relevant)


def reciprocal_rank(hits: Hits, k: int) -> np.ndarray:
    """Return 1 / rank of the first relevant item in the first `k`, or 0 if there is none.

    Examples
    --------
    >>> reciprocal_rank(find_hits([[4, 2, 9]], [0, 2], [2, 9]), k=3)
    array([0.5])
    """
    inverse = hits.hit[:, :k] / np.arange(1, hits.hit[:, :k].shape[1] + 1)
    return _no_truth_is_nan(inverse.max(axis=1, initial=0.0), hits.n_relevant)


def average_precision(hits: Hits, k: int) -> np.ndarray:
    """Return the precisions at each relevant item of the first `k`, summed, over all relevant.

    The divisor is the number of the user's relevant items, also where it is above `k`
    (trec_eval's ``map_cut_k``); some libraries divide by min(k, relevant) instead.

    Examples
    --------
    >>> average_precision(find_hits([[4, 2, 9]], [0, 2], [2, 9]), k=3)  # (1/2 + 2/3) / 2
    array([0.58333333])
    """
    hit = hits.hit[:, :k]
    precisions = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
    total = (precisions * hit).sum(axis=1)
    return _no_truth_is_nan(total / np.maximum(hits.n_relevant, 1), hits.n_relevant)


def ndcg(hits: Hits, k: int) -> np.ndarray:
    """Return the discounted cumulative gain of the first `k`, over the best possible one.

    The gain at rank r is 1 / log2(r + 1) (Järvelin and Kekäläinen, 2002); the ideal list has
    min(k, relevant) items, all relevant, in front.

    Examples
    --------
    >>> ndcg(find_hits([[4, 2, 9]], [0, 1], [2]), k=3)  # 1 / log2(3)
    array([0.63092975])
    """
    # No list is longer than these, whatever the k.
    k = min(k, max(hits.hit.shape[1], int(hits.n_relevant.max(initial=0)), 1))
    discounts = first_gains(k)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(hits.n_relevant, k)]
    hit = hits.hit[:, :k]
    gain = (hit * discounts[: hit.shape[1]]).sum(axis=1)
    return _no_truth_is_nan(gain / np.where(ideal > 0, ideal, 1.0), hits.n_relevant)


ACCURACY_METRICS: MappingProxyType[str, Callable[[Hits, int], np.ndarray]] = MappingProxyType(
    {
        "hr": hit_rate,
        "recall": recall,
        "precision": precision,
        "ndcg": ndcg,
        "mrr": reciprocal_rank,
        "map": average_precision,
    }
)


def check_k(k: int | Sequence[int]) -> list[int]:
    """Return the list lengths asked for, one or several."""
    values = list(k) if is_list(k) else [k]  # type: ignore[arg-type]
    if not values:
        raise InvalidParameterError("k must name at least one list length; got an empty list.")
    return [check_int("k", value, minimum=1) for value in values]


def check_names(metrics: Any, choices: Collection[str]) -> list[str]:
    """Return the names of the metrics asked for."""
    if not is_list(metrics):
        raise InvalidParameterError(f"metrics must be a list of names; got {given(metrics)}.")
    return [check_choice("metrics", name, choices) for name in metrics]


def rank_metrics(
    ranked: Any,
    indptr: Any,
    indices: Any,
    *,
    k: int | Sequence[int] = 10,
    metrics: Sequence[str] = ("ndcg", "hr"),
) -> dict[str, float]:
    """Average accuracy metrics over the users that have truth.

    Parameters
    ----------
    ranked, indptr, indices : int array-likes
        As in `find_hits`.
    k : int or sequence of int, default=10
        List lengths; one above the width of `ranked` finds only misses there.
    metrics : sequence of str, default=("ndcg", "hr")
        Names from `ACCURACY_METRICS`.

    Returns
    -------
    dict of str to float
        Keys such as ``"ndcg@10"``, values in [0, 1]; NaN if no user has truth.

    Raises
    ------
    InvalidInputError, InvalidParameterError
        For what `find_hits` refuses; for an unknown metric or a `k` below 1.

    Examples
    --------
    >>> rank_metrics([[4, 2, 9], [0, 1, 2]], [0, 1, 2], [4, 5], k=[1, 3], metrics=["hr"])
    {'hr@1': 0.5, 'hr@3': 0.5}
    """
    names = dict.fromkeys(check_names(metrics, ACCURACY_METRICS))
    lengths = check_k(k)
    hits = find_hits(ranked, indptr, indices)
    scored = hits.n_relevant > 0
    return {
        f"{name}@{length}": _mean(ACCURACY_METRICS[name](hits, length)[scored])
        for name in names
        for length in lengths
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")

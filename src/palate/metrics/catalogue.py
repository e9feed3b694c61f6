"""What rankings show of the catalogue: coverage and novelty."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate._validation import check_int
from palate.exceptions import InvalidInputError


def coverage(ranked: np.ndarray, k: int, n_items: int) -> float:
    """Return the share of the catalogue that stands in any of the rankings' first `k` places.

    Parameters
    ----------
    ranked : int ndarray of shape (n_users, width)
        Item codes, best first; -1 for a place without an item.
    k : int
        List length.
    n_items : int
        Size of the catalogue: the items that could have been recommended.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InvalidInputError
        If the rankings hold more distinct items than `n_items`.

    Examples
    --------
    >>> coverage(np.array([[4, 2, -1], [4, 1, 0]]), k=2, n_items=12)
    0.25
    """
    check_int("n_items", n_items, minimum=1)
    shown = np.unique(ranked[:, : check_int("k", k, minimum=1)])
    n_shown = int((shown >= 0).sum())
    if n_shown > n_items:
        raise InvalidInputError(
            f"n_items must be at least the number of distinct items recommended, {n_shown}; "
            f"got {n_items}."
        )
    return n_shown / n_items


def popularity(users: Any, items: Any, n_items: int) -> np.ndarray:
    """Return the share of users that had each item; repeats by a user count once.

    Parameters
    ----------
    users, items : int array-likes of shape (n_events,)
        Codes of at least 0.
    n_items : int
        Codes run below this.

    Returns
    -------
    float64 ndarray of shape (n_items,)
        In [0, 1]; 0 for an item that no user had.

    Raises
    ------
    InvalidInputError
        If an item's code is below 0 or not below `n_items`.

    Examples
    --------
    >>> popularity([0, 0, 1, 1], [2, 2, 2, 0], n_items=4)
    array([0.5, 0. , 1. , 0. ])
    """
    check_int("n_items", n_items, minimum=1)
    users, items = np.asarray(users, dtype=np.int64), np.asarray(items, dtype=np.int64)
    wrong = (items < 0) | (items >= n_items)
    if wrong.any():
        raise InvalidInputError(
            f"items must hold codes from 0 to {n_items - 1}; event {int(np.flatnonzero(wrong)[0])} "
            f"has {int(items[wrong][0])}."
        )
    distinct, rows = np.unique(users, return_inverse=True)
    pairs = np.unique(rows * n_items + items)
    return np.bincount(pairs % n_items, minlength=n_items) / max(len(distinct), 1)


def novelty(ranked: np.ndarray, k: int, share: np.ndarray, n_users: int) -> np.ndarray:
    """Return each user's mean self-information of the first `k` items, in bits.

    The self-information of an item is -log2 of the share of users that had it in training (Zhou
    et al., 2010, "Solving the apparent diversity-accuracy dilemma"). An item that nobody had is
    taken as had by one user, so that the value stays finite.

    Parameters
    ----------
    ranked : int ndarray of shape (n_users_ranked, width)
        Item codes, best first; -1 for a place without an item.
    k : int
        List length.
    share : float ndarray of shape (n_items,)
        Share of users that had each item, as `popularity` gives it.
    n_users : int
        Users that `share` was counted over.

    Returns
    -------
    float64 ndarray of shape (n_users_ranked,)
        Bits, in [0, log2(n_users)]; NaN for a user without recommendations.

    Examples
    --------
    >>> novelty(np.array([[0, 1], [2, -1]]), k=2, share=np.array([1.0, 0.5, 0.0]), n_users=8)
    array([0.5, 3. ])
    """
    bits = -np.log2(np.maximum(share, 1.0 / max(n_users, 1)))
    shown = ranked[:, : check_int("k", k, minimum=1)]
    real = shown >= 0
    counts = real.sum(axis=1)
    total = np.where(real, bits[np.where(real, shown, 0)], 0.0).sum(axis=1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)

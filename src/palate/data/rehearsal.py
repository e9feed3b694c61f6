"""Which users learning on takes, and their histories alone."""

from __future__ import annotations

import numpy as np
import torch

from palate.data.histories import Histories


def rehearsed(
    users: np.ndarray, n_users: int, share: float, generator: torch.Generator
) -> np.ndarray:
    """Return `users` and a random share of the others, in order: old tastes are not forgotten.

    Parameters
    ----------
    users : int64 ndarray
    n_users : int
        Users there are.
    share : float
        In [0, 1].
    generator : torch.Generator

    Returns
    -------
    int64 ndarray

    Notes
    -----
    Rehearsal of old examples: Robins, "Catastrophic Forgetting, Rehearsal and Pseudorehearsal",
    Connection Science, 1995.

    Examples
    --------
    >>> rehearsed(np.array([4]), 5, 0.5, torch.Generator().manual_seed(0)).tolist()
    [0, 1, 4]
    """
    others = np.setdiff1d(np.arange(n_users), users)
    picks = torch.randperm(len(others), generator=generator)[: round(share * len(others))]
    return np.union1d(users, others[picks.numpy()])


def only_users(histories: Histories, users: np.ndarray) -> Histories:
    """Return the histories of `users` alone, numbered anew."""
    indptr, items = histories.gather(users)
    rows = [histories.row(user) for user in users.tolist()] if histories.weights is not None else []
    weights = np.concatenate([row.weights for row in rows]) if rows else None
    return Histories(indptr, items, None, weights, n_users=len(users))

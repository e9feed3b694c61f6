"""Which users learning on takes, and their histories alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from palate.data.histories import Histories

#: Unknown items that people go on between, from which on they are taken for another domain: there
#: must be something to learn of it before what was learned elsewhere is let go.
LEAST_OF_DOMAIN = 40


def rehearsed(
    users: np.ndarray, n_users: int, n_more: int, generator: torch.Generator
) -> np.ndarray:
    """Return `users` and some of the others at random, in order: old tastes are not forgotten.

    Parameters
    ----------
    users : int64 ndarray
    n_users : int
        Users there are.
    n_more : int
        How many others, if there are so many.
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
    >>> rehearsed(np.array([4]), 5, 2, torch.Generator().manual_seed(0)).tolist()
    [0, 1, 4]
    """
    others = np.setdiff1d(np.arange(n_users), users)
    picks = torch.randperm(len(others), generator=generator)[:n_more]
    return np.union1d(users, others[picks.numpy()])


class Meeting(NamedTuple):
    """What learning on meets again, and repeats.

    Attributes
    ----------
    n_met : int
        Users to learn from who met an item that the model has learned from.
    n_more : int
        Other users whose histories are repeated.
    n_items : int
        Items in the histories of those who have an item after another.
    """

    n_met: int
    n_more: int
    n_items: int

    @property
    def is_domain(self) -> bool:
        """Whether nothing that is known is met or repeated, and what is met is no mere handful."""
        return not self.n_met + self.n_more and self.n_items >= LEAST_OF_DOMAIN


def meeting(
    histories: Histories, users: np.ndarray, known: np.ndarray, share: float | None = None
) -> Meeting:
    """Count whom `users` bring in contact with what is known, and how many others to repeat.

    Without a share, one for each user who met a known item: as much old as new holds what was
    known, whatever the number of people; and where all is new, nothing of it is at stake.

    Parameters
    ----------
    histories : Histories
    users : int64 ndarray
    known : bool ndarray of shape (n_known,)
        Whether the model has learned from events of an item; from none of an item beyond these.
    share : float, default=None
        Of the other users to repeat.

    Examples
    --------
    >>> from palate.data.coded import CodedEvents
    >>> events = CodedEvents(np.array([0, 0, 1, 2]), np.array([0, 2, 3, 1]))
    >>> histories = Histories.from_events(events, n_users=3)
    >>> meeting(histories, np.array([0, 1]), np.array([True, True, False]))
    Meeting(n_met=1, n_more=1, n_items=2)
    """
    indptr, items = histories.gather(users)
    old = items < len(known)
    met = np.concatenate([[0], np.cumsum(old & known[np.where(old, items, 0)])])[indptr]
    n_met = int(np.count_nonzero(np.diff(met)))
    n_others = histories.n_users - len(users)
    n_more = min(n_met, n_others) if share is None else round(share * n_others)
    lengths = np.diff(indptr)
    return Meeting(n_met, n_more, len(np.unique(items[np.repeat(lengths >= 2, lengths)])))


def only_users(histories: Histories, users: np.ndarray) -> Histories:
    """Return the histories of `users` alone, numbered anew."""
    weighted = histories.weights is not None
    whole = histories.compact() if weighted else histories  # rows beside it may have no weights
    indptr, items = whole.gather(users)
    times = None if whole.times is None else whole.gather(users, "times")[1]
    weights = whole.gather(users, "weights")[1] if weighted else None
    return Histories(indptr, items, times, weights, n_users=len(users))

"""When events happened, as a network reads it: gaps before them, and distances between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palate.data.histories import Histories
from palate.data.time_distances import distance_codes, distance_edges
from palate.data.time_gaps import UNKNOWN, gap_codes, gap_edges


@dataclass(frozen=True)
class Moments:
    """Of a flat array of events, what their times tell a network.

    Attributes
    ----------
    gaps : int64 ndarray of shape (n_events,), default=None
        Codes of the gaps before the events; None where the network does not read them.
    times : ndarray of shape (n_events,), default=None
        By which distances are measured; None where the network does not read those.
    edges : float64 ndarray of shape (n_edges,), default=None
        What parts the distances.
    """

    gaps: np.ndarray | None = None
    times: np.ndarray | None = None
    edges: np.ndarray | None = None

    def at(self, places: np.ndarray, known: np.ndarray) -> tuple[Tensor | None, Tensor | None]:
        """Return the codes of the gaps and of the distances of events, one row a history.

        Parameters
        ----------
        places : int64 ndarray of shape (n_rows, n_steps)
            Of the events in the flat array.
        known : bool ndarray of shape (n_rows, n_steps)
            Where there is an event whose time counts.

        Returns
        -------
        gaps : int64 Tensor of shape (n_rows, n_steps), or None
        distances : int64 Tensor of shape (n_rows, n_steps, n_steps), or None

        Examples
        --------
        >>> moments = Moments(times=np.array([3, 7]), edges=np.array([5.0]))
        >>> moments.at(np.array([[0, 1]]), np.array([[True, True]]))[1].tolist()
        [[[1, 2], [2, 1]]]
        """
        gaps = distances = None
        if self.gaps is not None:
            gaps = torch.from_numpy(np.where(known, self.gaps[places], UNKNOWN))
        if self.times is not None and self.edges is not None:
            distances = torch.from_numpy(distance_codes(self.times[places], known, self.edges))
        return gaps, distances


def time_edges(
    histories: Histories, gaps: bool, max_length: int | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return what parts the gaps, if those are read, and the distances of so many events.

    Parameters
    ----------
    histories : Histories
        Compact ones; with times, if anything is read of them.
    gaps : bool
    max_length : int or None
        Most events that are read at once; None where their distances are not.

    Examples
    --------
    >>> time_edges(Histories(np.array([0, 2]), np.arange(2), np.array([1, 4]), 1), True, None)
    (array([3.]), None)
    """
    times, indptr = histories.times, histories.indptr
    if times is None:
        return None, None
    return (
        gap_edges(times, indptr) if gaps else None,
        None if max_length is None else distance_edges(times, indptr, max_length),
    )


def moments_of(
    times: np.ndarray | None,
    indptr: np.ndarray,
    by_gap: np.ndarray | None,
    by_distance: np.ndarray | None,
) -> Moments | None:
    """Return what `times` tell a network that has these edges; None where that is nothing.

    Examples
    --------
    >>> moments_of(np.array([3, 7]), np.array([0, 2]), np.array([5.0]), None).gaps
    array([0, 2])
    """
    if times is None or not len(times) or (by_gap is None and by_distance is None):
        return None
    gaps = None if by_gap is None else gap_codes(times, indptr, by_gap)
    return Moments(gaps, None if by_distance is None else times, by_distance)


def times_of(histories: Histories, users: np.ndarray, *, timed: bool) -> np.ndarray | None:
    """Return the times beside the items that `histories` gathers for `users`, if `timed`.

    Examples
    --------
    >>> histories = Histories(np.array([0, 2]), np.array([7, 8]), np.array([1, 4]), n_users=1)
    >>> times_of(histories, np.array([0]), timed=True)
    array([1, 4])
    """
    return histories.gather(users, "times")[1] if timed else None

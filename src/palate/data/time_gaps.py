"""How long after the event before it an event came, as one of a few codes."""

from __future__ import annotations

import numpy as np

from palate.data.histories import Histories

#: Code of an event whose gap is not known: the first of a history, or one without a time.
UNKNOWN = 0
#: Code of an event at the very time of the one before it; longer gaps have larger codes.
AT_ONCE = 1
#: Quantiles that part the gaps above zero.
N_EDGES = 15


def time_gaps(times: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Return how long each event came after the one before it.

    Parameters
    ----------
    times : datetime64, timedelta64, int64 or float64 ndarray of shape (n_events,)
        In order inside each history.
    indptr : int64 ndarray of shape (n_rows + 1,)
        Histories one after another.

    Returns
    -------
    float64 ndarray of shape (n_events,)
        In the unit of `times`; NaN at the first event of a history.

    Examples
    --------
    >>> time_gaps(np.array([5, 5, 9, 7]), np.array([0, 3, 4]))
    array([nan,  0.,  4., nan])
    """
    if times.dtype.kind != "f":
        # In order, so the distance is positive: as unsigned numbers it is exact, however far.
        times = times.astype(np.int64, copy=False).view(np.uint64)
    gaps = np.full(len(times), np.nan)
    with np.errstate(over="ignore"):
        gaps[1:] = times[1:] - times[:-1]
    gaps[indptr[:-1][np.diff(indptr) > 0]] = np.nan
    return gaps


def gap_edges(times: np.ndarray, indptr: np.ndarray, n_edges: int = N_EDGES) -> np.ndarray:
    """Return the gaps that part all gaps above zero into pieces of equal counts.

    Parameters
    ----------
    times, indptr : ndarrays
        As in :func:`time_gaps`.
    n_edges : int, default=15

    Returns
    -------
    float64 ndarray of shape (n_edges or fewer,)
        Ascending gaps that occur, each once, so that another unit of time parts them alike.

    Examples
    --------
    >>> gap_edges(np.array([0, 1, 3, 3, 7, 15]), np.array([0, 6]), n_edges=3)
    array([1., 2., 4.])
    """
    gaps = time_gaps(times, indptr)
    gaps = gaps[(gaps > 0) & np.isfinite(gaps)]
    if not len(gaps):
        return gaps
    shares = np.arange(1, n_edges + 1) / (n_edges + 1)
    return np.unique(np.quantile(gaps, shares, method="inverted_cdf"))


def gap_codes(times: np.ndarray, indptr: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the code of each event's gap.

    Parameters
    ----------
    times, indptr : ndarrays
        As in :func:`time_gaps`.
    edges : float64 ndarray of shape (n_edges,)
        As of :func:`gap_edges`; an edge belongs to the piece below it.

    Returns
    -------
    int64 ndarray of shape (n_events,)
        `UNKNOWN` (0), `AT_ONCE` (1), or from 2 to ``n_edges + 2``.

    Examples
    --------
    >>> times, indptr = np.array([0, 0, 1, 3, 8, 5]), np.array([0, 5, 6])
    >>> gap_codes(times, indptr, np.array([1.0, 4.0])).tolist()
    [0, 1, 2, 3, 4, 0]
    """
    gaps = time_gaps(times, indptr)
    codes = AT_ONCE + 1 + np.searchsorted(edges, gaps)
    codes[gaps == 0] = AT_ONCE
    codes[np.isnan(gaps)] = UNKNOWN
    return codes


def gaps_of(histories: Histories, users: np.ndarray, edges: np.ndarray | None) -> np.ndarray | None:
    """Return the codes beside the items that `histories` gathers for `users`; None without edges.

    They are made from the times at each call: an event that comes late moves the gap after it.

    Examples
    --------
    >>> histories = Histories(np.array([0, 2]), np.array([7, 8]), np.array([1, 4]), n_users=1)
    >>> gaps_of(histories, np.array([0]), np.array([3.0]))
    array([0, 2])
    """
    if edges is None:
        return None
    indptr, times = histories.gather(users, "times")
    return gap_codes(times, indptr, edges)

"""How far apart in time the events of a history are, each from each, as one of a few codes."""

from __future__ import annotations

import numpy as np

from palate.data.time_gaps import UNKNOWN, elapsed, span_codes, span_edges

#: Quantiles that part the distances above zero.
N_EDGES = 31
#: Events whose distances to others are measured for the edges: more would move them little.
MOST_EVENTS = 2**20


def time_distances(times: np.ndarray) -> np.ndarray:
    """Return ``|t_i - t_j|`` of all pairs of a row, each rounded once.

    Parameters
    ----------
    times : datetime64, timedelta64, int64 or float64 ndarray of shape (..., n_steps)

    Returns
    -------
    float64 ndarray of shape (..., n_steps, n_steps)
        In the unit of `times`.

    Examples
    --------
    >>> time_distances(np.array([5, 5, 9]))
    array([[0., 0., 4.],
           [0., 0., 4.],
           [4., 4., 0.]])
    """
    rows, columns = times[..., :, None], times[..., None, :]
    return elapsed(np.minimum(rows, columns), np.maximum(rows, columns))


def distance_edges(
    times: np.ndarray, indptr: np.ndarray, max_length: int, n_edges: int = N_EDGES
) -> np.ndarray:
    """Return what parts the distances in time of events that stand 1, 2, 4, … places apart.

    Taken together, they are parted into pieces of equal counts. Of all pairs, those far apart
    would be most; so near ones, among which attention chooses most often, have their share.

    Parameters
    ----------
    times : datetime64, timedelta64, int64 or float64 ndarray of shape (n_events,)
        In order inside each history.
    indptr : int64 ndarray of shape (n_rows + 1,)
        Histories one after another.
    max_length : int
        Most events that are read at once: no pair is further apart.
    n_edges : int, default=31

    Returns
    -------
    float64 ndarray of shape (n_edges or fewer,)
        As of :func:`palate.data.time_gaps.span_edges`.

    Examples
    --------
    >>> distance_edges(np.array([0, 1, 3, 7, 5]), np.array([0, 4, 5]), max_length=3, n_edges=4)
    array([1., 2., 3., 4.])
    """
    starts = np.repeat(indptr[:-1], np.diff(indptr))
    ends = _some(len(times), MOST_EVENTS)
    spans, apart = [np.empty(0)], 1
    while apart < min(max_length, len(times)):
        later = ends[ends - apart >= starts[ends]]
        spans.append(elapsed(times[later - apart], times[later]))
        apart *= 2
    return span_edges(np.concatenate(spans), n_edges)


def _some(n: int, most: int) -> np.ndarray:
    """Return rising numbers below `n`, all of them or about `most`: one drawn of each stretch.

    Every so-manieth event would be the same event of each history where these are equally long.
    """
    stretch = -(-n // most) or 1
    firsts = np.arange(0, n, stretch)
    drawn = firsts + np.random.default_rng(0).integers(stretch, size=len(firsts))
    return drawn[drawn < n]


def distance_codes(times: np.ndarray, known: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the code of the distance between any two events of a row.

    Parameters
    ----------
    times : datetime64, timedelta64, int64 or float64 ndarray of shape (..., n_steps)
    known : bool ndarray of shape (..., n_steps)
        Whether a time counts.
    edges : float64 ndarray of shape (n_edges,)
        As of :func:`distance_edges`.

    Returns
    -------
    int64 ndarray of shape (..., n_steps, n_steps)
        As of :func:`palate.data.time_gaps.span_codes`; `UNKNOWN` (0) from and to an event whose
        time does not count.

    Examples
    --------
    >>> known = np.array([True, True, True, False])
    >>> distance_codes(np.array([0, 1, 8, 9]), known, np.array([2.0]))
    array([[1, 2, 3, 0],
           [2, 1, 3, 0],
           [3, 3, 1, 0],
           [0, 0, 0, 0]])
    """
    codes = span_codes(time_distances(times), edges)
    return np.where(known[..., :, None] & known[..., None, :], codes, UNKNOWN)

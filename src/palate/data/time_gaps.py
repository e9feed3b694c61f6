"""How long after the event before it an event came, as one of a few codes."""

from __future__ import annotations

import numpy as np

#: Code of a span that is not known, such as that before the first event of a history.
UNKNOWN = 0
#: Code of no time at all; longer spans have larger codes.
AT_ONCE = 1
#: Quantiles that part the gaps above zero.
N_EDGES = 15


def elapsed(earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Return ``later - earlier``, rounded once: float64.

    Parameters
    ----------
    earlier, later : datetime64, timedelta64, int64 or float64 ndarrays of one dtype
        No earlier one above the later one beside it.

    Examples
    --------
    >>> elapsed(np.array([-(2**63), 4]), np.array([2**63 - 1, 9])).tolist()
    [1.8446744073709552e+19, 5.0]
    """
    if earlier.dtype.kind != "f":
        # The distance is positive: as unsigned numbers it is exact, however far.
        earlier, later = (a.astype(np.int64, copy=False).view(np.uint64) for a in (earlier, later))
    with np.errstate(over="ignore", invalid="ignore"):
        return (later - earlier).astype(np.float64)


def span_edges(spans: np.ndarray, n_edges: int) -> np.ndarray:
    """Return the spans that part all spans above zero into pieces of equal counts.

    Parameters
    ----------
    spans : float64 ndarray
        What is not finite does not count.
    n_edges : int

    Returns
    -------
    float64 ndarray of shape (n_edges or fewer,)
        Ascending spans that occur, each once, so that another unit of time parts them alike.

    Examples
    --------
    >>> span_edges(np.array([np.nan, 1, 2, 0, 4, 8]), n_edges=3)
    array([1., 2., 4.])
    """
    spans = spans[(spans > 0) & np.isfinite(spans)]
    if not len(spans):
        return spans
    shares = np.arange(1, n_edges + 1) / (n_edges + 1)
    return np.unique(np.quantile(spans, shares, method="inverted_cdf"))


def span_codes(spans: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the codes (...) of spans (...): int64.

    Parameters
    ----------
    spans : float64 ndarray
        NaN where unknown.
    edges : float64 ndarray of shape (n_edges,)
        As of :func:`span_edges`; an edge belongs to the piece below it.

    Returns
    -------
    int64 ndarray
        `UNKNOWN` (0), `AT_ONCE` (1), or from 2 to ``n_edges + 2``.

    Examples
    --------
    >>> span_codes(np.array([np.nan, 0, 1, 2, 5]), np.array([1.0, 4.0])).tolist()
    [0, 1, 2, 3, 4]
    """
    codes = AT_ONCE + 1 + np.searchsorted(edges, spans)
    codes[spans == 0] = AT_ONCE
    codes[np.isnan(spans)] = UNKNOWN
    return codes


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
    gaps = np.full(len(times), np.nan)
    gaps[1:] = elapsed(times[:-1], times[1:])
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
        As of :func:`span_edges`.

    Examples
    --------
    >>> gap_edges(np.array([0, 1, 3, 3, 7, 15]), np.array([0, 6]), n_edges=3)
    array([1., 2., 4.])
    """
    return span_edges(time_gaps(times, indptr), n_edges)


def gap_codes(times: np.ndarray, indptr: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the code of each event's gap.

    Parameters
    ----------
    times, indptr : ndarrays
        As in :func:`time_gaps`.
    edges : float64 ndarray of shape (n_edges,)
        As of :func:`gap_edges`.

    Returns
    -------
    int64 ndarray of shape (n_events,)
        As of :func:`span_codes`.

    Examples
    --------
    >>> times, indptr = np.array([0, 0, 1, 3, 8, 5]), np.array([0, 5, 6])
    >>> gap_codes(times, indptr, np.array([1.0, 4.0])).tolist()
    [0, 1, 2, 3, 4, 0]
    """
    return span_codes(time_gaps(times, indptr), edges)

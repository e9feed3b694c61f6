"""Rows of different lengths side by side: how many at once, and padded on the right."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def steps_at_once(device: str | torch.device, a_thread: int) -> float:
    """Return the steps that run at once: so many a thread on a CPU, any number elsewhere.

    What a layer leaves is read by the next one: on a CPU it should still be near by then.
    """
    on_cpu = torch.device(device).type == "cpu"
    return a_thread * torch.get_num_threads() if on_cpu else math.inf


def cut_rows(lengths: np.ndarray, n_rows: int, n_steps: float) -> Iterator[slice]:
    """Cut rows of falling lengths into parts of so many rows and, padded, so many steps at most.

    A row of more than `n_steps` makes a part of its own.

    Parameters
    ----------
    lengths : int64 ndarray of shape (n,)
        Steps of each row, the longest first.
    n_rows : int
        Most rows a part.
    n_steps : float
        Most steps a part, padding included.

    Examples
    --------
    >>> list(cut_rows(np.array([9, 4, 4, 1]), n_rows=2, n_steps=8))
    [slice(0, 1, None), slice(1, 3, None), slice(3, 4, None)]
    """
    at = 0
    while at < len(lengths):
        size = int(min(n_rows, max(1, n_steps // max(1, lengths[at]))))
        yield slice(at, min(at + size, len(lengths)))
        at += size


def pad_recent(indptr: np.ndarray, items: np.ndarray, max_length: int) -> tuple[Tensor, Tensor]:
    """Pad the most recent events of each history on the right.

    Parameters
    ----------
    indptr : int64 ndarray of shape (n_rows + 1,)
    items : int64 ndarray of shape (n_events,)
        Histories one after another.
    max_length : int
        Most events taken.

    Returns
    -------
    codes : int64 Tensor of shape (n_rows, n_steps)
    mask : bool Tensor of shape (n_rows, n_steps)

    Examples
    --------
    >>> codes, mask = pad_recent(np.array([0, 3, 4]), np.array([5, 6, 7, 8]), 2)
    >>> codes.tolist(), mask.tolist()
    ([[6, 7], [8, 0]], [[True, True], [True, False]])
    """
    lengths = np.minimum(np.diff(indptr), max_length)
    steps = np.arange(max(1, lengths.max(initial=0)))
    mask = steps < lengths[:, None]
    at = np.where(mask, (indptr[1:] - lengths)[:, None] + steps, 0)
    padded = np.where(mask, items[at], 0) if len(items) else np.zeros(mask.shape, np.int64)
    return torch.from_numpy(padded), torch.from_numpy(mask)


def pad_before(
    flat: np.ndarray, stops: np.ndarray, lengths: np.ndarray, led: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Pad what stands before some places of an array on the right.

    Parameters
    ----------
    flat : int64 ndarray of shape (n_events,)
    stops, lengths : int64 ndarrays of shape (n_rows,)
        Row i holds the `lengths[i]` values that end before ``flat[stops[i]]``.
    led : int64 ndarray of shape (n_rows,)
        1 where a place is kept ahead of them, for what leads a history; else 0.

    Returns
    -------
    values : int64 Tensor of shape (n_rows, n_steps)
    mask : bool Tensor of shape (n_rows, n_steps)

    Examples
    --------
    >>> values, mask = pad_before(np.arange(5, 9), *np.array([[3, 4], [2, 1], [0, 1]]))
    >>> values.tolist(), mask.tolist()
    ([[6, 7], [0, 8]], [[True, True], [True, True]])
    """
    parts = [flat[stop - n : stop] for stop, n in zip(stops, lengths, strict=True)]
    if led.any():
        parts = [np.append(np.zeros(n, np.int64), p) for n, p in zip(led, parts, strict=True)]
    ends = np.concatenate([[0], np.cumsum(lengths + led)])
    return pad_recent(ends, np.concatenate(parts), int(ends[-1]))

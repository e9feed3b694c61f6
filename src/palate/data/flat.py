"""Rows of events one after another, and how some of them are exchanged without sorting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.data.coded import CodedEvents, Columns, joined, take


@dataclass(frozen=True)
class FlatRows:
    """The events of neighbouring users in compressed rows.

    Attributes
    ----------
    indptr : int64 ndarray of shape (n_rows + 1,)
        Row i is ``items[indptr[i]:indptr[i + 1]]``.
    items : int64 ndarray of shape (n_events,)
    times : datetime64[ns], int64 or float64 ndarray of shape (n_events,), or None
    weights : float32 ndarray of shape (n_events,), or None
    """

    indptr: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, place: int, user: int) -> CodedEvents:
        """Return a row as events of `user`: without any, where there is no such row."""
        start, stop = self.indptr[place : place + 2] if place < len(self) else (0, 0)
        return CodedEvents(np.full(stop - start, user), *self._cut(slice(start, stop)))

    def lengths(self, places: np.ndarray) -> np.ndarray:
        """Return the number of events of each row; 0 where there is no such row."""
        if not len(self):
            return np.zeros(len(places), np.int64)
        safe = np.minimum(places, len(self) - 1)
        return np.where(places < len(self), self.indptr[safe + 1] - self.indptr[safe], 0)

    def part(self, start: int, stop: int) -> FlatRows:
        """Return a run of rows; those behind the last have no events. Only `indptr` is copied."""
        n_rows, last = max(0, stop - start), len(self)
        indptr = self.indptr[min(start, last) : min(start + n_rows, last) + 1]
        rest = np.full(n_rows + 1 - len(indptr), indptr[-1])
        span = slice(indptr[0], indptr[-1])
        return FlatRows(np.append(indptr, rest) - indptr[0], *self._cut(span))

    def exchanged(self, rows: Mapping[int, CodedEvents], n_rows: int) -> FlatRows:
        """Return `n_rows` rows, of which those of some places are replaced, or new."""
        places = sorted(rows)
        lengths = self.lengths(np.arange(n_rows))
        lengths[places] = [len(rows[place]) for place in places]
        starts = [0, *(int(self.indptr[min(place + 1, len(self))]) for place in places)]
        stops = [*(int(self.indptr[min(place, len(self))]) for place in places), len(self.items)]
        pieces: list[Any] = [None] * (2 * len(places) + 1)
        pieces[0::2] = [self._cut(slice(*span)) for span in zip(starts, stops, strict=True)]
        pieces[1::2] = [rows[place] for place in places]
        return FlatRows(starts_of(lengths), *joined(pieces))

    def _cut(self, span: slice) -> Columns:
        return Columns(self.items[span], take(self.times, span), take(self.weights, span))


def stacked(parts: Sequence[FlatRows]) -> FlatRows:
    """Return the rows of all parts, one part after the other.

    Examples
    --------
    >>> one = FlatRows(np.array([0, 2]), np.array([7, 8]))
    >>> stacked([one, one]).indptr
    array([0, 2, 4])
    """
    return FlatRows(starts_of(np.concatenate([np.diff(p.indptr) for p in parts])), *joined(parts))


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Return where rows of some lengths start, and where the last one ends: int64 (n + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def by_part(users: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each part of `size` neighbours that some of `users` belong to, and their places.

    Examples
    --------
    >>> [(part, places.tolist()) for part, places in by_part(np.array([7, 1, 5]), 4)]
    [(0, [1]), (1, [0, 2])]
    """
    if not len(users):
        return
    parts = users // size
    order = np.argsort(parts, kind="stable")
    found, starts = np.unique(parts[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, starts[1:]), strict=True)

"""Events as numbers, and how runs of one user's events are joined in time order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class CodedEvents:
    """Events after coding, in the order given.

    Attributes
    ----------
    users, items : int64 ndarrays of shape (n_events,)
    times : datetime64[ns], int64 or float64 ndarray of shape (n_events,), or None
    weights : float32 ndarray of shape (n_events,), or None
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)


def sortable_times(times: np.ndarray | None) -> np.ndarray | None:
    """Return timestamps as datetime64[ns], timedelta64[ns], int64 or float64."""
    if times is None:
        return None
    if times.dtype.kind in "Mm":
        return times.astype(f"{times.dtype.kind}8[ns]")
    return times.astype(np.float64 if times.dtype.kind == "f" else np.int64)


def kind_of_times(times: np.ndarray) -> str:
    """Return what kind of time a column holds: kinds do not mix."""
    return {"M": "dates", "m": "durations"}.get(times.dtype.kind, "numbers")


def take(array: np.ndarray | None, where: slice | np.ndarray) -> np.ndarray | None:
    """Return some entries of a column that may be missing."""
    return None if array is None else array[where]


def in_order(events: CodedEvents) -> np.ndarray:
    """Return what sorts events by user, then by time; equal times keep the order given."""
    keys = (events.users,) if events.times is None else (events.times, events.users)
    return np.lexsort(keys)


def by_user(events: CodedEvents) -> dict[int, CodedEvents]:
    """Split events by user, each user's in time order; equal times keep the order given."""
    ordered = _select(events, in_order(events))
    users, starts = np.unique(ordered.users, return_index=True)
    stops = [*starts[1:].tolist(), len(events)]
    spans = zip(users.tolist(), starts.tolist(), stops, strict=True)
    return {user: _select(ordered, slice(start, stop)) for user, start, stop in spans}


def merged(old: CodedEvents, new: CodedEvents) -> CodedEvents:
    """Join two runs of one user's events in time order, the old ones first at equal times."""
    both = concatenated(old, new)
    if both.times is None:
        return both
    return _select(both, np.argsort(both.times, kind="stable"))


def concatenated(*parts: CodedEvents) -> CodedEvents:
    """Join events as they are; weights are 1 where some parts have none."""
    return CodedEvents(np.concatenate([part.users for part in parts]), *joined(parts))


class Columns(NamedTuple):
    """What is known of events beside their users: as in :class:`CodedEvents`."""

    items: np.ndarray
    times: np.ndarray | None = None
    weights: np.ndarray | None = None


def joined(parts: Sequence[Any]) -> Columns:
    """Join the columns of anything that has them; parts without events say nothing of types."""
    parts = [part for part in parts if len(part.items)] or parts[:1]
    times = [part.times for part in parts if part.times is not None]
    weights = None
    if any(part.weights is not None for part in parts):
        weights = [
            np.ones(len(part.items), np.float32) if part.weights is None else part.weights
            for part in parts
        ]
    return Columns(
        np.concatenate([part.items for part in parts]),
        np.concatenate(times) if times else None,
        None if weights is None else np.concatenate(weights),
    )


def _select(events: CodedEvents, where: slice | np.ndarray) -> CodedEvents:
    return CodedEvents(
        events.users[where],
        events.items[where],
        take(events.times, where),
        take(events.weights, where),
    )

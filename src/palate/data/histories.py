"""Events as coded, time-ordered histories in CSR form, with a cheap way to append to a few."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from palate.data.rows import Rows
from palate.exceptions import InvalidInputError

# Rows changed since the last rebuild are kept beside the arrays up to this share of all rows.
_CHANGED_SHARE = 0.05
_CHANGED_LEAST = 256


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


@dataclass(frozen=True)
class Histories:
    """The history of every user: immutable, so that readers may keep it while it grows.

    Attributes
    ----------
    indptr : int64 ndarray of shape (n_rows + 1,)
        The history of user u is ``items[indptr[u]:indptr[u + 1]]``.
    items : int64 ndarray of shape (n_events,)
    times : datetime64[ns], int64 or float64 ndarray of shape (n_events,), or None
    weights : float32 ndarray of shape (n_events,), or None
    changed : Rows of CodedEvents
        Rows that differ from the arrays, and rows beyond them.
    n_users : int
        Users in all.

    Examples
    --------
    >>> events = CodedEvents(np.array([0, 1, 0]), np.array([7, 8, 9]), np.array([5, 5, 4]))
    >>> histories = Histories.from_events(events, n_users=2)
    >>> histories.of(0)
    array([9, 7])
    """

    indptr: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None
    weights: np.ndarray | None = None
    changed: Rows[CodedEvents] = field(default_factory=Rows)
    n_users: int = 0

    @classmethod
    def from_events(cls, events: CodedEvents, n_users: int) -> Histories:
        """Group events by user and order them by time; equal times keep the order given."""
        keys = (events.users,) if events.times is None else (events.times, events.users)
        order = np.lexsort(keys)
        counts = np.bincount(events.users, minlength=n_users)
        return cls(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=events.items[order].astype(np.int64),
            times=None if events.times is None else events.times[order],
            weights=None if events.weights is None else events.weights[order],
            n_users=n_users,
        )

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.all_lengths().sum())

    def row(self, user: int) -> CodedEvents:
        """Return the events of one user in time order."""
        if user in self.changed:
            return self.changed[user]
        if user >= len(self.indptr) - 1:
            empty = np.empty(0, np.int64)
            return CodedEvents(empty, empty, *(_take(a, slice(0, 0)) for a in self._optional()))
        span = slice(self.indptr[user], self.indptr[user + 1])
        items = self.items[span]
        return CodedEvents(
            np.full(len(items), user), items, *(_take(a, span) for a in self._optional())
        )

    def of(self, user: int) -> np.ndarray:
        """Return the item codes of one user in time order."""
        return self.row(user).items

    def lengths(self, users: np.ndarray) -> np.ndarray:
        """Return the number of events of each user."""
        n_rows = len(self.indptr) - 1
        safe = np.minimum(users, max(n_rows - 1, 0))
        none = np.zeros(len(users), np.int64)
        lengths = self.indptr[safe + 1] - self.indptr[safe] if n_rows else none
        lengths = np.where(users < n_rows, lengths, 0)
        for place in self._changed_places(users):
            lengths[place] = len(self.changed[int(users[place])])
        return lengths

    def all_lengths(self) -> np.ndarray:
        """Return the number of events of every user, as int32."""
        return self.lengths(np.arange(self.n_users)).astype(np.int32)

    def last_times(self, users: np.ndarray) -> np.ndarray | None:
        """Return the time of the last event of each user, who must have one; None without times."""
        if self._one_time() is None:
            return None
        last = [self.row(user).times[-1:] for user in users.tolist()]  # type: ignore[index]
        return np.concatenate(last) if last else self._one_time()[:0]  # type: ignore[index]

    def gather(self, users: np.ndarray, column: str = "items") -> tuple[np.ndarray, np.ndarray]:
        """Return the histories of `users` as ``indptr, items``, or with another column."""
        lengths = self.lengths(users)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        moved = np.zeros(len(users), bool)
        moved[self._changed_places(users)] = True
        plain = np.flatnonzero(~moved & (lengths > 0))
        places = np.flatnonzero(moved)
        rows = [getattr(self.changed[user], column) for user in users[places].tolist()]
        source = getattr(self, column)
        # Whole numbers and fractions may be mixed in times.
        dtypes = {part.dtype for part in [source, *rows] if part is not None}
        values = np.empty(indptr[-1], np.result_type(*dtypes))
        if len(plain):
            at = ranges(self.indptr[users[plain]], lengths[plain])
            values[ranges(indptr[plain], lengths[plain])] = source[at]
        for place, row in zip(places, rows, strict=True):
            values[indptr[place] : indptr[place + 1]] = row
        return indptr, values

    def append(self, events: CodedEvents, n_users: int) -> Histories:
        """Return histories that also hold `events`, merged by time after equal times."""
        if not len(events):  # a table without rows has columns of any type
            return replace(self, n_users=n_users)
        self._check_same_columns(events)
        limit = max(_CHANGED_LEAST, int(_CHANGED_SHARE * n_users))
        if len(events) > limit and len(np.unique(events.users)) > limit:
            return Histories.from_events(_concatenate(self.events(), events), n_users)
        new = _by_user(events)
        merged = {user: _merged(self.row(user), rows) for user, rows in new.items()}
        grown = replace(self, changed=self.changed.updated(merged), n_users=n_users)
        return grown if len(grown.changed) <= limit else grown.compact()

    def events(self) -> CodedEvents:
        """Return all events, grouped by user, in time order."""
        whole = self.compact()
        users = np.repeat(np.arange(len(whole.indptr) - 1), np.diff(whole.indptr))
        return CodedEvents(users, whole.items, whole.times, whole.weights)

    def compact(self) -> Histories:
        """Return the same histories with nothing kept beside the arrays."""
        if not self.changed and len(self.indptr) == self.n_users + 1:
            return self
        lengths = self.lengths(np.arange(self.n_users))
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        users = sorted(self.changed)
        rows = [self.changed[user] for user in users]
        n_rows = len(self.indptr) - 1
        starts = [0, *(self.indptr[min(user + 1, n_rows)] for user in users)]
        stops = [*(self.indptr[min(user, n_rows)] for user in users), len(self.items)]
        blocks = [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]
        one = self._one_time()
        times = None if one is None else [row.times for row in rows]
        plain_times = one[:0] if self.times is None and one is not None else self.times
        weights = None
        if self.weights is not None or any(row.weights is not None for row in rows):
            weights = [_weights_of(row) for row in rows]
        old = CodedEvents(self.items, self.items, self.times, self.weights)
        return Histories(
            indptr,
            _between(self.items, blocks, [row.items for row in rows]),
            None if times is None else _between(plain_times, blocks, times),
            None if weights is None else _between(_weights_of(old), blocks, weights),
            n_users=self.n_users,
        )

    def _changed_places(self, users: np.ndarray) -> np.ndarray:
        """Return where `users` names one whose row is kept beside the arrays."""
        if len(users) < len(self.changed):  # a few are looked up sooner than many are compared
            places = [p for p, user in enumerate(users.tolist()) if user in self.changed]
            return np.array(places, dtype=np.int64)
        return np.flatnonzero(np.isin(users, list(self.changed)))

    def _optional(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        return self.times, self.weights

    def _check_same_columns(self, events: CodedEvents) -> None:
        if not len(self.items) and not self.changed:
            return
        if (self.times is None) != (events.times is None):
            must, had = ("must", "one") if self.times is not None else ("must not", "none")
            raise InvalidInputError(
                f"X {must} have a column 'timestamp', as the events learned before had {had}."
            )
        before = self._one_time()
        if before is None or events.times is None:
            return
        if (before.dtype.kind in "Mm") != (events.times.dtype.kind in "Mm"):
            raise InvalidInputError(
                "column 'timestamp' of X must be of the kind that the events learned before had, "
                f"{before.dtype}; its type is {events.times.dtype}."
            )

    def _one_time(self) -> np.ndarray | None:
        """Return any times of these histories: they all have one type."""
        if self.changed:
            return next(iter(self.changed.values())).times
        return self.times


def _take(array: np.ndarray | None, where: slice | np.ndarray) -> np.ndarray | None:
    return None if array is None else array[where]


def _select(events: CodedEvents, where: slice | np.ndarray) -> CodedEvents:
    return CodedEvents(
        events.users[where],
        events.items[where],
        _take(events.times, where),
        _take(events.weights, where),
    )


def _by_user(events: CodedEvents) -> dict[int, CodedEvents]:
    """Split events by user, each user's in time order; equal times keep the order given."""
    keys = (events.users,) if events.times is None else (events.times, events.users)
    ordered = _select(events, np.lexsort(keys))
    users, starts = np.unique(ordered.users, return_index=True)
    stops = [*starts[1:].tolist(), len(events)]
    spans = zip(users.tolist(), starts.tolist(), stops, strict=True)
    return {user: _select(ordered, slice(start, stop)) for user, start, stop in spans}


def _merged(old: CodedEvents, new: CodedEvents) -> CodedEvents:
    """Join two runs of one user's events in time order, the old ones first at equal times."""
    both = _concatenate(old, new)
    if both.times is None:
        return both
    return _select(both, np.argsort(both.times, kind="stable"))


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenate ``arange(start, start + length)`` of every pair."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - lengths), lengths)


def _between(plain: Any, blocks: list[slice], rows: list[Any]) -> np.ndarray:
    """Join the blocks of an array, a row after each but the last; nothing is sorted."""
    pieces: list[Any] = [None] * (2 * len(rows) + 1)
    pieces[0::2] = [plain[block] for block in blocks]
    pieces[1::2] = rows
    return np.concatenate(pieces)


def _weights_of(events: CodedEvents) -> np.ndarray:
    """Return the weights of events, which are 1 where there are none."""
    return np.ones(len(events), np.float32) if events.weights is None else events.weights


def _concatenate(*parts: CodedEvents) -> CodedEvents:
    parts = tuple(part for part in parts if len(part)) or parts[:1]
    times = [part.times for part in parts if part.times is not None]
    weighted = any(part.weights is not None for part in parts)
    weights = [_weights_of(part) for part in parts]
    return CodedEvents(
        np.concatenate([part.users for part in parts]),
        np.concatenate([part.items for part in parts]),
        np.concatenate(times) if times else None,
        np.concatenate(weights) if weighted else None,
    )

"""Events as coded, time-ordered histories in CSR form, with a cheap way to append to a few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from palate.data.coded import (
    CodedEvents,
    by_user,
    concatenated,
    in_order,
    kind_of_times,
    merged,
    take,
)
from palate.data.flat import FlatRows, by_part, stacked, starts_of
from palate.data.rows import Rows
from palate.exceptions import InvalidInputError

# Of so many neighbouring users, so many changed rows are kept beside the arrays. Beyond it the rows
# of these users alone are written anew: that takes no longer where there are more users.
_PART, _MOST_CHANGED = 1_024, 64
# A batch that changes more than this share of all rows is sorted in with everything.
_MANY = 0.05


@dataclass(frozen=True)
class Histories:
    """The history of every user: immutable, so that readers may keep it while it grows.

    Attributes
    ----------
    indptr : int64 ndarray of shape (n_rows + 1,)
        The history of user u is ``items[indptr[u]:indptr[u + 1]]``, unless it has changed since.
    items : int64 ndarray of shape (n_events,)
    times : datetime64[ns], int64 or float64 ndarray of shape (n_events,), or None
    weights : float32 ndarray of shape (n_events,), or None
    changed : Rows of dicts of CodedEvents
        By part, 1,024 neighbouring users: rows that differ from the arrays, and rows beyond them.
    rewritten : Rows of FlatRows
        By part: what stands in place of the arrays.
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
    changed: Rows[dict[int, CodedEvents]] = field(default_factory=Rows)
    rewritten: Rows[FlatRows] = field(default_factory=Rows)
    n_users: int = 0

    @classmethod
    def from_events(cls, events: CodedEvents, n_users: int) -> Histories:
        """Group events by user and order them by time; equal times keep the order given."""
        order = in_order(events)
        return cls(
            indptr=starts_of(np.bincount(events.users, minlength=n_users)),
            items=events.items[order].astype(np.int64),
            times=take(events.times, order),
            weights=take(events.weights, order),
            n_users=n_users,
        )

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.all_lengths().sum())

    @property
    def moved(self) -> list[int]:
        """Users whose rows are kept beside all arrays."""
        return sorted(user for rows in self.changed.values() for user in rows)

    def row(self, user: int) -> CodedEvents:
        """Return the events of one user in time order."""
        part = user // _PART
        rows = self.changed.get(part)
        if rows and user in rows:
            return rows[user]
        if part in self.rewritten:
            return self.rewritten[part].row(user % _PART, user)
        return self._base.row(user, user)

    def of(self, user: int) -> np.ndarray:
        """Return the item codes of one user in time order."""
        return self.row(user).items

    def lengths(self, users: np.ndarray) -> np.ndarray:
        """Return the number of events of each user."""
        return self._lengths(users, *self._beside(users))

    def all_lengths(self) -> np.ndarray:
        """Return the number of events of every user, as int32."""
        return self.lengths(np.arange(self.n_users)).astype(np.int32)

    def last_times(self, users: np.ndarray) -> np.ndarray | None:
        """Return the time of the last event of each user, who must have one; None without times."""
        if self._one_time() is None:
            return None
        indptr, times = self.gather(users, "times")
        return times[indptr[1:] - 1]

    def gather(self, users: np.ndarray, column: str = "items") -> tuple[np.ndarray, np.ndarray]:
        """Return the histories of `users` as ``indptr, items``, or with another column."""
        rewritten, changed = self._beside(users)
        lengths = self._lengths(users, rewritten, changed)
        indptr = starts_of(lengths)
        plain = lengths > 0
        for _, places in rewritten:
            plain[places] = False
        rows = [(getattr(row, column), place) for row, place in changed]
        moved = np.array([place for _, place in rows], np.int64)
        plain[moved] = False
        sources = [(self._base, np.flatnonzero(plain), users)]
        for flat, places in rewritten:
            left = places[(lengths[places] > 0) & ~np.isin(places, moved)]
            sources.append((flat, left, users % _PART))
        flat_columns = [getattr(flat, column) for flat, _, _ in sources]
        # Whole numbers and fractions may be mixed in times.
        dtypes = {a.dtype for a in [*flat_columns, *(row for row, _ in rows)] if a is not None}
        values = np.empty(indptr[-1], np.result_type(*dtypes))
        for (flat, places, numbers), source in zip(sources, flat_columns, strict=True):
            if len(places):
                at = ranges(flat.indptr[numbers[places]], lengths[places])
                values[ranges(indptr[places], lengths[places])] = source[at]
        for row, place in rows:
            values[indptr[place] : indptr[place + 1]] = row
        return indptr, values

    def append(self, events: CodedEvents, n_users: int) -> Histories:
        """Return histories that also hold `events`, merged by time after equal times."""
        if not len(events):  # a table without rows has columns of any type
            return replace(self, n_users=n_users)
        self._check_same_columns(events)
        limit = max(_MOST_CHANGED, int(_MANY * n_users))
        if len(events) > limit and len(np.unique(events.users)) > limit:
            return Histories.from_events(concatenated(self.events(), events), n_users)
        changed: dict[int, dict[int, CodedEvents]] = {}
        for user, rows in by_user(events).items():
            part = user // _PART
            if part not in changed:
                changed[part] = dict(self.changed.get(part, {}))
            changed[part][user] = merged(self.row(user), rows)
        grown = replace(self, changed=self.changed.updated(changed), n_users=n_users)
        full = [part for part, rows in changed.items() if len(rows) > _MOST_CHANGED]
        if not full:
            return grown
        return replace(
            grown,
            changed=grown.changed.updated({part: {} for part in full}),
            rewritten=grown.rewritten.updated({part: grown._written(part) for part in full}),
        )

    def events(self) -> CodedEvents:
        """Return all events, grouped by user, in time order."""
        whole = self.compact()
        users = np.repeat(np.arange(len(whole.indptr) - 1), np.diff(whole.indptr))
        return CodedEvents(users, whole.items, whole.times, whole.weights)

    def compact(self) -> Histories:
        """Return the same histories with nothing kept beside the arrays."""
        touched = {part for part, rows in self.changed.items() if rows} | set(self.rewritten)
        if not touched and len(self.indptr) == self.n_users + 1:
            return self
        pieces, at = [], 0
        for part in sorted(touched):
            pieces += [self._base.part(at, part * _PART), self._written(part)]
            at = (part + 1) * _PART
        flat = stacked([*pieces, self._base.part(at, self.n_users)])
        return Histories(flat.indptr, flat.items, flat.times, flat.weights, n_users=self.n_users)

    @property
    def _base(self) -> FlatRows:
        return FlatRows(self.indptr, self.items, self.times, self.weights)

    def _written(self, part: int) -> FlatRows:
        """Return the rows of a part in arrays, its changed rows among them."""
        rows = self.changed.get(part, {})
        start, stop = part * _PART, min((part + 1) * _PART, self.n_users)
        flat = self.rewritten.get(part)
        flat = self._base.part(start, stop) if flat is None else flat
        return flat.exchanged({user - start: row for user, row in rows.items()}, stop - start)

    def _beside(
        self, users: np.ndarray
    ) -> tuple[list[tuple[FlatRows, np.ndarray]], list[tuple[CodedEvents, int]]]:
        """Return what was written anew and the changed rows, with the places of their users."""
        return list(_by_part(users, self.rewritten)), list(self._changed_of(users))

    def _lengths(
        self,
        users: np.ndarray,
        rewritten: list[tuple[FlatRows, np.ndarray]],
        changed: list[tuple[CodedEvents, int]],
    ) -> np.ndarray:
        lengths = self._base.lengths(users)
        for flat, places in rewritten:
            lengths[places] = flat.lengths(users[places] % _PART)
        for row, place in changed:
            lengths[place] = len(row)
        return lengths

    def _changed_of(self, users: np.ndarray) -> Iterator[tuple[CodedEvents, int]]:
        """Yield the changed row of each of `users` who has one, and its place."""
        for rows, places in _by_part(users, self.changed):
            if len(places) > len(rows):  # few are compared sooner than many are looked up
                places = places[np.isin(users[places], list(rows))]
            for place in places.tolist():
                row = rows.get(int(users[place]))
                if row is not None:
                    yield row, place

    def _check_same_columns(self, events: CodedEvents) -> None:
        if not (len(self.items) or self.changed or self.rewritten):
            return
        before = self._one_time()
        if (before is None) != (events.times is None):
            must, had = ("must", "one") if before is not None else ("must not", "none")
            raise InvalidInputError(
                f"X {must} have a column 'timestamp', as the events learned before had {had}."
            )
        if before is None or events.times is None:
            return
        if kind_of_times(before) != kind_of_times(events.times):
            raise InvalidInputError(
                "column 'timestamp' of X must be of the kind that the events learned before had, "
                f"{before.dtype}; its type is {events.times.dtype}."
            )

    def _one_time(self) -> np.ndarray | None:
        """Return any times of these histories: they all have one type."""
        for rows in self.changed.values():
            for row in rows.values():
                return row.times
        for flat in self.rewritten.values():
            return flat.times
        return self.times


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenate ``arange(start, start + length)`` of every pair."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - lengths), lengths)


def _by_part(users: np.ndarray, known: Rows[Any]) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield what is known of each part that some of `users` belong to, and their places."""
    if not known:
        return
    for part, places in by_part(users, _PART):
        if part in known:
            yield known[part], places

"""Questions to a fitted model: known users, histories of ids, histories in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palate._validation import check_choice, warn_caller
from palate.data.checks import shown
from palate.data.coded import take
from palate.data.flat import starts_of
from palate.data.histories import Histories, ranges
from palate.data.lists import given, history_rows, id_list, is_list_of_lists
from palate.data.moments import times_of
from palate.data.people import People
from palate.data.vocabulary import Vocabulary
from palate.exceptions import (
    InvalidInputError,
    UnsupportedTargetError,
    UnsupportedTargetWarning,
)

ON_UNSUPPORTED = ("raise", "warn", "ignore")
# For calls whose rows answer the rows of their input: there is nothing to skip. No text, so that
# a caller cannot name it.
MUST_KNOW: Any = object()
# Who is unknown, or has no event, is answered by popularity: only questions may ask for it.
POPULAR: Any = object()
_OR_POPULAR = ", or 'popular' to answer by what is popular"


@dataclass(frozen=True)
class Text:
    """An event told in words, which may stand in a history among item ids.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> Text("I bought a book")
    Text(text='I bought a book')
    """

    text: str


@dataclass(frozen=True)
class Queries:
    """Histories to answer for.

    Attributes
    ----------
    labels : ndarray of shape (n_queries,)
        What the result calls each query: a user id or a number.
    indptr : int64 ndarray of shape (n_queries + 1,)
    items : int64 ndarray of shape (n_events,)
        Item codes; a code of ``n_items + i`` stands for text i.
    texts : tuple of str
    n_items : int
    people : int64 ndarray of shape (n_queries,), default=None
        Codes of attribute texts that stand before the events, -1 for none.
    times : ndarray of shape (n_events,), default=None
        When the events happened, for a model that reads it; None is unknown for all.
    users : int64 ndarray of shape (n_queries,), default=None
        Codes of known users, whose whole histories these are.
    """

    labels: np.ndarray
    indptr: np.ndarray
    items: np.ndarray
    texts: tuple[str, ...] = ()
    n_items: int = 0
    people: np.ndarray | None = None
    times: np.ndarray | None = None
    users: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def told(self) -> np.ndarray:
        """Whether each query has an event or attributes: bool (n_queries,)."""
        told = np.diff(self.indptr) > 0
        return told if self.people is None else told | (self.people >= 0)

    def only_told(self) -> Queries:
        """Return the queries that have an event or attributes."""
        told = self.told
        indptr = np.append(self.indptr[:-1][told], self.indptr[-1])
        people, users = take(self.people, told), take(self.users, told)
        return replace(self, labels=self.labels[told], indptr=indptr, people=people, users=users)

    def some(self, places: np.ndarray) -> Queries:
        """Return the queries at `places`, which have no texts."""
        lengths = np.diff(self.indptr)[places]
        events = ranges(self.indptr[places], lengths)
        return Queries(
            *(self.labels[places], starts_of(lengths), self.items[events], (), self.n_items),
            *(take(self.people, places), take(self.times, events), take(self.users, places)),
        )

    def __getitem__(self, span: slice) -> Queries:
        start, stop, _ = span.indices(len(self))
        stop = max(start, stop)
        indptr = self.indptr[start : stop + 1]
        events = slice(indptr[0], indptr[-1])
        items = self.items[events]
        if not self.texts:
            people, users = take(self.people, span), take(self.users, span)
            labels, indptr, times = self.labels[span], indptr - indptr[0], take(self.times, events)
            return Queries(labels, indptr, items, (), self.n_items, people, times, users)
        # Only the texts of these rows are encoded with them, so memory stays bounded.
        spoken = items >= self.n_items
        used, places = np.unique(items[spoken], return_inverse=True)
        items = items.copy()
        items[spoken] = self.n_items + places
        texts = tuple(self.texts[code - self.n_items] for code in used)
        return Queries(self.labels[span], indptr - indptr[0], items, texts, self.n_items)


def report_unsupported(
    what: str,
    values: Sequence[Any],
    on_unsupported: str,
    outcome: str = "They were skipped.",
    instead: str = "",
) -> None:
    """Raise, warn of the outcome, or say nothing about ids that the model does not know.

    The error names what can be passed: to skip them, or what to do `instead`.
    """
    _check_on_unsupported(on_unsupported)
    if not len(values) or on_unsupported in ("ignore", POPULAR):
        return
    first = ", ".join(shown(value) for value in values[:5])
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    message = f"{what} unknown to the model: {first}{more}."
    if on_unsupported is MUST_KNOW:
        raise UnsupportedTargetError(message)
    if on_unsupported == "raise":
        raise UnsupportedTargetError(
            f"{message} Pass on_unsupported_targets='warn' or 'ignore' to skip them{instead}."
        )
    warn_caller(f"{message} {outcome}", UnsupportedTargetWarning)


def user_queries(
    users: Any,
    vocabulary: Vocabulary,
    histories: Histories,
    n_items: int,
    on_unsupported: str,
    people: People | None = None,
    *,
    timed: bool = False,
) -> Queries:
    """Return the queries of known users, in the order given; None asks for every user.

    With ``"popular"``, unknown users and those without events or attributes (`people`) have queries
    too, empty ones. They have times if `timed`, for a model that reads them.
    """
    if users is None:
        codes, ids = np.arange(len(vocabulary)), vocabulary.array
    else:
        ids = id_list("users", users, "user")
        codes = vocabulary.codes(ids)
    known = codes >= 0
    report_unsupported("users", ids[~known].tolist(), on_unsupported, instead=_OR_POPULAR)
    if on_unsupported is POPULAR and not known.all():
        vocabulary = vocabulary.extend(ids[~known])  # a user beyond the histories has no event
        codes[~known] = vocabulary.codes(ids[~known])
        known[:] = True
    told = None if people is None else people.of(codes)
    if on_unsupported is not POPULAR:
        known[known] = histories.lengths(codes[known]) > 0
        if told is not None:
            known |= told >= 0
            if users is not None:  # by name, somebody of whom nothing is left is as unknown
                left = ids[~known & (codes >= 0)].tolist()
                report_unsupported("users", left, on_unsupported, instead=_OR_POPULAR)
    indptr, items = histories.gather(codes[known])
    # The vocabulary's own ids: the caller's list need not be of their type.
    labels = vocabulary.ids(codes[known])
    told = None if told is None else told[known]
    times = times_of(histories, codes[known], timed=timed)
    return Queries(labels, indptr, items, (), n_items, told, times, codes[known])


def history_queries(
    histories: Sequence[Sequence[Any]], vocabulary: Vocabulary, on_unsupported: str
) -> Queries:
    """Return the queries of histories that mix item ids and `Text` events."""
    _check_on_unsupported(on_unsupported)
    events, lengths = _flatten(histories, "histories")
    spoken = np.array([isinstance(event, Text) for event in events], dtype=bool)
    codes = np.full(len(events), -1, np.int64)
    ids = [event for event in events if not isinstance(event, Text)]
    codes[~spoken] = vocabulary.codes(ids)
    unknown = ~spoken & (codes < 0)
    strange = [events[i] for i in np.flatnonzero(unknown)]
    report_unsupported("items in histories", strange, on_unsupported, instead=_OR_POPULAR)
    texts = tuple(event.text for event in events if isinstance(event, Text))
    codes[spoken] = len(vocabulary) + np.arange(len(texts))
    rows = np.repeat(np.arange(len(lengths)), lengths)[~unknown]
    return _numbered(rows, codes[~unknown], len(lengths), texts, len(vocabulary), on_unsupported)


def text_queries(
    texts: Sequence[Sequence[str]], n_items: int, on_unsupported: str = "raise"
) -> Queries:
    """Return the queries of histories told in words; empty ones only if they are to be popular."""
    on_unsupported = on_unsupported if on_unsupported is POPULAR else "raise"
    events, lengths = _flatten(texts, "texts")
    for place, event in enumerate(events):
        if not isinstance(event, str):
            row = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
            raise InvalidInputError(
                f"texts must hold histories of strings; history {row} holds {shown(event)}."
            )
    rows = np.repeat(np.arange(len(lengths)), lengths)
    codes = n_items + np.arange(len(events))
    return _numbered(rows, codes, len(lengths), tuple(events), n_items, on_unsupported)


def _flatten(histories: Any, name: str) -> tuple[list[Any], np.ndarray]:
    if not is_list_of_lists(histories):
        raise InvalidInputError(f"{name} must be a list of histories; got {given(histories)}.")
    rows = history_rows(histories, f"{name} must be a list of histories, each a list")
    return [event for row in rows for event in row], np.array([len(r) for r in rows], np.int64)


def _numbered(
    rows: np.ndarray,
    codes: np.ndarray,
    n_rows: int,
    texts: tuple[str, ...],
    n_items: int,
    on_unsupported: str,
) -> Queries:
    """Label histories 0, 1, …; one without a usable event has no answer but what is popular."""
    counts = np.bincount(rows, minlength=n_rows)
    empty = np.flatnonzero(counts == 0)
    if len(empty) and on_unsupported in ("raise", MUST_KNOW):
        hint = " Pass on_unsupported_targets='popular' to answer it by what is popular."
        raise UnsupportedTargetError(
            f"history {empty[0]} is empty: it says nothing about taste."
            f"{hint if on_unsupported == 'raise' else ''}"
        )
    if len(empty) and on_unsupported == "warn":
        warn_caller(
            f"{len(empty)} histories without a known item were skipped, the first is {empty[0]}.",
            UnsupportedTargetWarning,
        )
    kept = (counts > 0) | (on_unsupported is POPULAR)
    indptr = np.concatenate([[0], np.cumsum(counts[kept])])
    return Queries(np.flatnonzero(kept), indptr, codes, texts, n_items)


def asked(value: Any) -> Any:
    """Return what a question is to do about unknown ids: `value`, or `POPULAR` for "popular"."""
    checked = check_choice("on_unsupported_targets", value, (*ON_UNSUPPORTED, "popular"))
    return POPULAR if checked == "popular" else checked


def _check_on_unsupported(value: str) -> None:
    if value is not MUST_KNOW and value is not POPULAR:
        check_choice("on_unsupported_targets", value, ON_UNSUPPORTED)

"""What people in general do now: counts of events that fade with time, cheap to keep current."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from palate.data.coded import CodedEvents
from palate.data.histories import Histories
from palate.ops.discount import first_gains

# Half-lives that are tried, as shares of the time that the events span.
_SHARES = (1, 1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 1024)
# The newest tenth of the events, in ten steps, judges them; fewer events judge nothing.
_JUDGED_SHARE, _STEPS, _LEAST_EVENTS = 0.1, 10, 1000
# From this share of users who all begin at one moment, times only number each user's events.
_ONE_START = 0.9
# Items changed since the counts were last put in order, at most; then they are ordered anew.
_CHANGED_MOST = 1024
_TOP = 10


@dataclass(frozen=True)
class Popularity:
    """The events of each item, each halved in weight by every half-life that has passed.

    An event at time t weighs ``2 ** ((t - origin) / half_life)``. The origin is fixed, so that one
    more event changes one weight only; what is compared and shared out does not depend on it.

    Attributes
    ----------
    weights : float64 ndarray of shape (n_items,)
        Of each item, as of the last time that they were ordered.
    order : int64 ndarray of shape (n_items,)
        Items by falling weight; equal ones in catalogue order.
    total : float
        Sum of all weights.
    origin : datetime64[ns], int or float, or None
        None where nothing fades.
    half_life : float or None
        In units of the times (nanoseconds for dates); None where nothing fades.
    changed : mapping of int to float
        Weights of items that have changed since, and of items beyond `weights`.
    n_items : int
        Items in all.

    Examples
    --------
    >>> events = CodedEvents(np.array([0, 1, 1]), np.array([2, 0, 2]), np.array([0, 0, 10]))
    >>> popular = Popularity.of(Histories.from_events(events, n_users=2), 3, half_life=10)
    >>> shares, items = popular.top(2)
    >>> items, shares
    (array([2, 0]), array([0.75, 0.25]))
    >>> popular.add(CodedEvents(np.array([0]), np.array([1]), np.array([30]))).top(1)[1]
    array([1])
    """

    weights: np.ndarray
    order: np.ndarray
    total: float
    origin: Any = None
    half_life: float | None = None
    changed: Mapping[int, float] = field(default_factory=dict)
    n_items: int = 0

    @classmethod
    def of(
        cls, histories: Histories, n_items: int, half_life: float | str | None = "auto"
    ) -> Popularity:
        """Count the events of histories.

        Parameters
        ----------
        histories : Histories
        n_items : int
            Items of the catalogue.
        half_life : float, "auto" or None, default="auto"
            ``"auto"`` chooses by :func:`choose_half_life`; None lets nothing fade.
        """
        events = histories.events()
        if half_life == "auto":
            half_life = choose_half_life(events, n_items)
        fades = half_life is not None and events.times is not None and len(events) > 0
        origin = events.times.max() if fades else None  # type: ignore[union-attr]
        life = float(half_life) if fades else None  # type: ignore[arg-type]
        faded = _faded(events.times, origin, life, len(events))
        return cls._ordered(np.bincount(events.items, faded, n_items), origin, life)

    @classmethod
    def _ordered(cls, weights: np.ndarray, origin: Any, half_life: float | None) -> Popularity:
        order = np.argsort(-weights, kind="stable")
        total = float(weights.sum())
        return cls(weights, order, total, origin, half_life, {}, len(weights))

    def add(self, events: CodedEvents) -> Popularity:
        """Return the counts with more events; the cost does not grow with items or events."""
        if not len(events):
            return self
        times = events.times if self.half_life is not None else None
        faded = _faded(times, self.origin, self.half_life, len(events))
        if not np.isfinite(faded.sum() + self.total):  # a thousand half-lives after the origin
            return self._moved(times.max()).add(events)  # type: ignore[union-attr]
        changed = dict(self.changed)
        for item, weight in zip(events.items.tolist(), faded.tolist(), strict=True):
            changed[item] = self._weight(item, changed) + weight
        grown = replace(self, changed=changed, total=self.total + float(faded.sum()))
        if len(changed) <= _CHANGED_MOST:
            return grown
        return self._ordered(grown.all_weights(), self.origin, self.half_life)

    def extend(self, n_items: int) -> Popularity:
        """Return the counts of a catalogue that has grown to `n_items`."""
        return replace(self, n_items=n_items)

    def all_weights(self) -> np.ndarray:
        """Return the weight of every item: (n_items,)."""
        weights = np.zeros(self.n_items)
        weights[: len(self.weights)] = self.weights
        for item, weight in self.changed.items():
            weights[item] = weight
        return weights

    def shares(self, items: np.ndarray) -> np.ndarray:
        """Return the share of all weight that falls on each of `items`, of any shape."""
        known = items < len(self.weights)
        found = np.where(known, self.weights[np.where(known, items, 0)], 0.0)
        if self.changed:
            at = np.flatnonzero(np.isin(items, list(self.changed)))
            for place in at.tolist():
                found.flat[place] = self.changed[int(items.flat[place])]
        return found / self.total if self.total > 0 else found

    def top(
        self, k: int, include: np.ndarray | None = None, exclude: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the shares and codes of the `k` items of most weight, at most (k,) of them.

        Parameters
        ----------
        k : int
        include, exclude : int64 ndarrays, default=None
            Codes that alone may, or may not, be returned.
        """
        if include is not None:
            items = np.unique(include)
        else:
            n_out = 0 if exclude is None else len(exclude)
            first = self.order[: k + n_out + len(self.changed)]
            beyond = np.arange(len(self.weights), min(self.n_items, len(self.weights) + k + n_out))
            items = np.unique(np.concatenate([first, list(self.changed), beyond]).astype(np.int64))
        if exclude is not None:
            items = items[~np.isin(items, exclude)]
        shares = self.shares(items)
        best = np.argsort(-shares, kind="stable")[:k]
        return shares[best], items[best]

    def _weight(self, item: int, changed: Mapping[int, float]) -> float:
        if item in changed:
            return changed[item]
        return float(self.weights[item]) if item < len(self.weights) else 0.0

    def _moved(self, origin: Any) -> Popularity:
        assert self.half_life is not None
        assert self.origin is not None
        passed = float(_passed(np.asarray(origin), self.origin))
        factor = np.exp2(-passed / self.half_life)
        return self._ordered(self.all_weights() * factor, origin, self.half_life)


def choose_half_life(events: CodedEvents, n_items: int) -> float | None:
    """Return the half-life by which the newest events are predicted best.

    The newest tenth of the events is walked in ten steps; at each, the items are ordered by what
    came before, and NDCG@10 of that order is summed over the events of the step.

    Returns
    -------
    float or None
        In units of the times; None where no fading is best, where there are no times or fewer than
        a thousand events, or where most users begin at the same time: such times only number the
        events of each user.
    """
    if events.times is None or len(events) < _LEAST_EVENTS:
        return None
    times = _numbers(events.times)
    firsts = np.full(int(events.users.max()) + 1, np.inf)
    np.minimum.at(firsts, events.users, times)
    firsts = firsts[np.isfinite(firsts)]
    span = float(times.max() - times.min())
    if span <= 0 or (firsts == times.min()).mean() >= _ONE_START:
        return None
    order = _latest_last(times, int((1 - _JUDGED_SHARE) * len(times)))
    items, ages = events.items[order], times[order] - times.max()
    candidates = [None, *(span * share for share in _SHARES)]
    scores = [_predicts(items, ages, life, n_items) for life in candidates]
    return candidates[int(np.argmax(scores))]


def _predicts(items: np.ndarray, ages: np.ndarray, life: float | None, n_items: int) -> float:
    faded = np.ones(len(items)) if life is None else np.exp2(ages / life)
    edges = np.linspace((1 - _JUDGED_SHARE) * len(items), len(items), _STEPS + 1).astype(int)
    counts = np.bincount(items[: edges[0]], faded[: edges[0]], n_items)
    gain = np.zeros(n_items)
    found = 0.0
    for start, stop in pairwise(edges.tolist()):
        best = _largest(counts, _TOP)
        gain[best] = first_gains(len(best))
        found += float(gain[items[start:stop]].sum())
        gain[best] = 0
        counts += np.bincount(items[start:stop], faded[start:stop], n_items)
    return found


def _latest_last(times: np.ndarray, n_first: int) -> np.ndarray:
    """Return places by time from place `n_first` on; what comes before that is in any order."""
    cut = np.partition(times, n_first)[n_first]
    late = np.flatnonzero(times >= cut)
    return np.concatenate(
        [np.flatnonzero(times < cut), late[np.argsort(times[late], kind="stable")]]
    )


def _largest(counts: np.ndarray, k: int) -> np.ndarray:
    """Return the places of the `k` largest counts, equal ones in order."""
    # numpy's partition is slow where most counts are equal.
    least = torch.from_numpy(counts).topk(min(k, len(counts))).values[-1].item()
    at = np.flatnonzero(counts >= least)
    return at[np.argsort(-counts[at], kind="stable")[:k]]


def _passed(times: np.ndarray, origin: Any) -> np.ndarray:
    """Return how long after the origin times are, which may be more than 64 bits of nanoseconds."""
    apart = _numbers(times) - _numbers(np.asarray(origin))
    far = np.abs(apart) > 2.0**62
    return np.where(far, apart, _numbers(np.where(far, origin, times) - origin))


def _numbers(times: np.ndarray) -> np.ndarray:
    return times.astype(np.int64 if times.dtype.kind in "mM" else times.dtype).astype(np.float64)


def _faded(
    times: np.ndarray | None, origin: Any, half_life: float | None, n_events: int
) -> np.ndarray:
    """Return the weight of each event: (n_events,)."""
    if times is None or half_life is None or origin is None:
        return np.ones(n_events)
    passed = _passed(times, origin)
    with np.errstate(over="ignore", under="ignore"):
        return np.exp2(passed / half_life)

"""Small tables shaped like real ones: popular items, busy users, tastes, texts, time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from palate._random import draw_seed
from palate._validation import check_choice, check_int, check_real
from palate.exceptions import InvalidParameterError

#: What the items of each taste are called: three kinds and what sets one apart.
THEMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "kitchen": (("kettle", "pan", "knife"), ("copper", "iron", "steel", "enamel")),
    "garden": (("spade", "seed", "planter"), ("cedar", "clay", "rain", "meadow")),
    "music": (("guitar", "drum", "flute"), ("acoustic", "maple", "brass", "silent")),
    "sport": (("racket", "ball", "helmet"), ("indoor", "racing", "junior", "carbon")),
    "books": (("novel", "atlas", "diary"), ("pocket", "hardback", "travel", "mystery")),
    "toys": (("puzzle", "robot", "kite"), ("wooden", "tin", "giant", "glowing")),
}
#: Every word of the texts, for a tokenizer that is to know them whole.
WORDS = tuple(dict.fromkeys(word for t, (a, b) in THEMES.items() for word in (t, *a, *b)))

_START = np.datetime64("2024-01-01T00:00:00", "ns")
_DAYS = 300
# Popularity falls with the rank to this power, activity of users is lognormal of this spread.
_EXPONENT, _SPREAD = 1.0, 0.8


def make_interactions(
    n_users: int = 60,
    n_items: int = 60,
    n_events: int = 600,
    random_state: Any = 0,
    *,
    n_clusters: int = 3,
    loyalty: float = 0.9,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make events and items that look like real ones, as small as a test wants them.

    Items belong to tastes (clusters), and their texts say which. Users have one favourite taste.
    Popularity within a taste follows a power law, so does, roughly, the activity of users.
    Nobody meets an item twice.

    Parameters
    ----------
    n_users, n_items : int, default=60
        Every user has an event; an unpopular item may have none.
    n_events : int, default=600
        Exactly so many, from `n_users` to ``n_users * n_items``.
    random_state : int, RandomState or None, default=0
        Equal integers give equal tables.
    n_clusters : int, default=3
        Tastes, from 1 to 6.
    loyalty : float, default=0.9
        How faithful users are to their favourite taste, in [0, 1]: other items weigh
        ``1 - loyalty`` as much. At 1 they come only after all items of the favourite taste.

    Returns
    -------
    interactions : DataFrame of n_events rows
        ``user_id`` (``"u0"``, …), ``item_id`` (``"i0"``, …) and ``timestamp`` (datetimes of one
        year, rising; a user's own are distinct).
    items : DataFrame of n_items rows
        ``item_id``, ``title`` and ``category``, which names the taste.

    Raises
    ------
    InvalidParameterError
        If a number is out of range.

    Examples
    --------
    >>> interactions, items = make_interactions(n_users=5, n_items=7, n_events=20)
    >>> interactions.columns.tolist(), len(interactions)
    (['user_id', 'item_id', 'timestamp'], 20)
    >>> items.head(2)
      item_id           title category
    0      i0   copper kettle  kitchen
    1      i1     cedar spade   garden
    """
    _check(n_users, n_items, n_events, n_clusters, loyalty)
    rng = np.random.default_rng(draw_seed(random_state))
    cluster = np.arange(n_items) % n_clusters
    counts = _activity(n_users, n_items, n_events, rng)
    favourite = rng.permutation(np.arange(n_users) % n_clusters)
    weight = _popularity(cluster, rng)
    users = np.repeat(np.arange(n_users), counts)
    chosen = [
        _choose(weight, cluster == favourite[user], counts[user], loyalty, rng)
        for user in range(n_users)
    ]
    frame = pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"i{item}" for item in np.concatenate(chosen)],
            "timestamp": _times(counts, rng),
        }
    )
    interactions = frame.sort_values("timestamp", kind="stable").reset_index(drop=True)
    return interactions, _items(cluster)


def _check(n_users: int, n_items: int, n_events: int, n_clusters: int, loyalty: float) -> None:
    check_int("n_users", n_users, minimum=1)
    check_int("n_items", n_items, minimum=1)
    check_int("n_events", n_events, minimum=n_users)
    if n_events > n_users * n_items:
        raise InvalidParameterError(
            f"n_events must be at most n_users * n_items = {n_users * n_items}; got {n_events}."
        )
    check_choice("n_clusters", n_clusters, range(1, len(THEMES) + 1))
    check_real("loyalty", loyalty, low=0, high=1)


def _activity(n_users: int, n_items: int, n_events: int, rng: np.random.Generator) -> np.ndarray:
    """Return how many events each user has: at least one, at most one an item."""
    share = rng.lognormal(0.0, _SPREAD, n_users)
    counts = np.ones(n_users, np.int64)
    while left := n_events - int(counts.sum()):
        open_share = share * (counts < n_items)
        more = rng.multinomial(left, open_share / open_share.sum())
        counts = np.minimum(counts + more, n_items)
    return counts


def _popularity(cluster: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a weight an item that falls by a power law with its rank in its cluster."""
    weight = np.empty(len(cluster))
    for value in np.unique(cluster):
        members = np.flatnonzero(cluster == value)
        weight[rng.permutation(members)] = 1.0 / np.arange(1, len(members) + 1) ** _EXPONENT
    return weight


def _choose(
    weight: np.ndarray, liked: np.ndarray, n: int, loyalty: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw `n` different items by weight (the largest of log-weights plus Gumbel noise)."""
    odds = np.where(liked, 1.0, 1 - loyalty)
    with np.errstate(divide="ignore"):
        keys = np.log(weight) + np.log(odds) + rng.gumbel(size=len(weight))
    # Where loyalty is 1 the keys of other items are all -inf: those follow in random order.
    return np.lexsort((rng.random(len(weight)), -keys))[:n]


def _times(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return rising moments for each user: visits in bursts, starting at any day of the year."""
    moments = []
    for n in counts:
        start = rng.integers(0, _DAYS * 86_400)
        gaps = 30 + np.minimum(rng.lognormal(8.0, 2.0, n), 5 * 86_400).astype(np.int64)
        room = (365 - _DAYS) * 86_400
        steps = np.cumsum(gaps)
        if steps[-1] > room:
            steps = np.arange(1, n + 1) * max(1, room // n)
        moments.append(start + steps)
    return _START + np.concatenate(moments).astype("timedelta64[s]")


def _items(cluster: np.ndarray) -> pd.DataFrame:
    """Name the items after their cluster; a number sets those apart that would have one name."""
    themes = list(THEMES)
    place = np.zeros(len(cluster), np.int64)
    for value in np.unique(cluster):
        members = np.flatnonzero(cluster == value)
        place[members] = np.arange(len(members))
    return pd.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(len(cluster))],
            "title": [_title(themes[c], int(p)) for c, p in zip(cluster, place, strict=True)],
            "category": [themes[c] for c in cluster],
        }
    )


def _title(theme: str, place: int) -> str:
    kinds, manners = THEMES[theme]
    kind, manner = kinds[place % len(kinds)], manners[place // len(kinds) % len(manners)]
    turn = place // (len(kinds) * len(manners))
    return f"{manner} {kind}" + (f" {turn + 1}" if turn else "")

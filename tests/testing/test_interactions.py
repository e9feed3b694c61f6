"""The generated tables look like real ones, and are the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.exceptions import InvalidParameterError
from palate.testing import make_interactions
from palate.testing.interactions import THEMES, WORDS


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tables_of_any_size(data: st.DataObject) -> None:
    n_users, n_items = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 90))
    n_events = data.draw(st.integers(n_users, n_users * n_items))
    clusters = data.draw(st.integers(1, 6))
    loyalty = data.draw(st.sampled_from([0, 0.5, 0.9, 1]))
    events, items = make_interactions(
        n_users, n_items, n_events, data.draw(st.integers(0, 9)), n_clusters=clusters,
        loyalty=loyalty,
    )  # fmt: skip
    assert events.columns.tolist() == ["user_id", "item_id", "timestamp"]
    assert items.columns.tolist() == ["item_id", "title", "category"]
    assert (len(events), events["user_id"].nunique(), len(items)) == (n_events, n_users, n_items)
    assert set(events["item_id"]) <= set(items["item_id"])
    assert not events.duplicated(["user_id", "item_id"]).any()
    assert not events.duplicated(["user_id", "timestamp"]).any()
    assert events["timestamp"].is_monotonic_increasing
    assert events["timestamp"].dt.year.eq(2024).all()
    assert items["title"].is_unique and items["category"].nunique() == min(clusters, n_items)


def test_equal_seeds_give_equal_tables() -> None:
    state = np.random.get_state()[1].copy()
    first, again = make_interactions(9, 20, 60, 4), make_interactions(9, 20, 60, 4)
    for a, b in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(a, b)
    other = make_interactions(9, 20, 60, 5)
    assert not first[0].equals(other[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    generator = np.random.RandomState(4)
    one, two = (make_interactions(9, 20, 60, generator)[0] for _ in range(2))
    assert not one.equals(two)


def test_the_default_tables_are_these() -> None:
    """Pinned: a downstream test may rely on them."""
    events, items = make_interactions()
    assert (len(events), len(items)) == (600, 60)
    assert items.iloc[[0, 1, 2, 59]].to_numpy().tolist() == [
        ["i0", "copper kettle", "kitchen"],
        ["i1", "cedar spade", "garden"],
        ["i2", "acoustic guitar", "music"],
        ["i59", "brass drum 2", "music"],
    ]
    rows = events.iloc[[0, -1]].astype(str).to_numpy().tolist()
    assert rows == [
        ["u19", "i34", "2024-01-07 21:19:35"],
        ["u9", "i22", "2024-10-21 10:13:39"],
    ]


def test_popularity_and_activity_have_a_long_tail() -> None:
    events, _ = make_interactions(900, 300, 9_000, 1)
    for name, at_least in (("item_id", 0.3), ("user_id", 0.25)):
        counts = events[name].value_counts().to_numpy()
        assert counts[: len(counts) // 10].sum() > at_least * len(events)
        assert counts[0] > 8 * np.median(counts) / (1 if name == "item_id" else 2)
    # A straight line of log count over log rank, as a power law has it.
    counts = events["item_id"].value_counts().to_numpy()[3:150]
    assert np.corrcoef(np.log(np.arange(3, 150)), np.log(counts))[0, 1] < -0.95


def test_users_have_tastes_and_texts_tell_them() -> None:
    events, items = make_interactions(200, 90, 1_600, 0, n_clusters=5)
    joined = events.merge(items)
    share = joined.groupby("user_id")["category"].agg(
        lambda seen: seen.value_counts(normalize=True).iloc[0]
    )
    assert share.mean() > 0.65
    for title, category in zip(items["title"], items["category"], strict=True):
        kinds, manners = THEMES[category]
        manner, kind, *_ = title.split()
        assert kind in kinds and manner in manners
    shared = [set(a) & set(b) for a, _ in THEMES.values() for b, _ in THEMES.values() if a != b]
    assert not any(shared)
    assert {word for title in items["title"] for word in title.split()} - set(WORDS) <= set(
        "23456789"
    )


def test_loyalty_at_its_ends() -> None:
    for loyalty, expected in ((0, 1 / 3), (1, 1.0)):
        events, items = make_interactions(300, 90, 1_500, 0, loyalty=loyalty)
        joined = events.merge(items)
        first = joined.sort_values("timestamp").groupby("user_id").head(2)
        same = first.groupby("user_id").filter(lambda rows: len(rows) == 2)
        agree = same.groupby("user_id")["category"].nunique().eq(1).mean()
        assert agree == pytest.approx(expected, abs=0.07)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_users": 0}, "n_users must be an integer of at least 1; got 0."),
        ({"n_items": 2.5}, "n_items must be an integer of at least 1; got 2.5."),
        ({"n_events": 59}, "n_events must be an integer of at least 60; got 59."),
        ({"n_events": 3601}, "n_events must be at most n_users * n_items = 3600; got 3601."),
        ({"n_clusters": 7}, "n_clusters must be one of 1, 2, 3, 4, 5, 6; got 7."),
        ({"loyalty": 1.2}, "loyalty must be a number in [0, 1]; got 1.2."),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        make_interactions(**arguments)
    assert str(caught.value) == message


def test_a_user_of_very_many_events_stays_in_the_year() -> None:
    events, _ = make_interactions(1, 700, 700, 0)
    assert events["timestamp"].is_unique and events["timestamp"].dt.year.eq(2024).all()
    assert (events["timestamp"].iloc[-1] - events["timestamp"].iloc[0]).days <= 65


def test_names_of_the_package() -> None:
    from palate import testing

    assert all(callable(getattr(testing, name)) for name in testing.__all__)
    with pytest.raises(AttributeError) as caught:
        testing.nothing  # noqa: B018
    assert str(caught.value) == "module 'palate.testing' has no attribute 'nothing'"

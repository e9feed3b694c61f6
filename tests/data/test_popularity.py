"""Counts that fade: against a plain sum over all events, and the choice of the half-life."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.coded import CodedEvents
from palate.data.histories import Histories
from palate.data.popularity import Popularity, choose_half_life

N_ITEMS, N_USERS = 7, 3


def coded(rows: list[tuple[int, int, int]], kind: str = "int64") -> CodedEvents:
    users, items, times = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return CodedEvents(users, items, times.astype(kind))


def plain(rows: list[tuple[int, int, int]], half_life: float | None, n_items: int) -> np.ndarray:
    """The share of each item, event by event, in float64."""
    newest = max(time for _, _, time in rows)
    weights = np.zeros(n_items)
    for _, item, time in rows:
        weights[item] += 1.0 if half_life is None else 0.5 ** ((newest - time) / half_life)
    return weights / weights.sum()


ROWS = st.lists(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 50)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(first=ROWS, more=ROWS, half_life=st.sampled_from([None, 3.0, 20.0]), k=st.integers(1, 9))
def test_shares_after_each_addition_are_those_of_all_events(
    first: list[tuple[int, int, int]],
    more: list[tuple[int, int, int]],
    half_life: float | None,
    k: int,
) -> None:
    found = Popularity.of(Histories.from_events(coded(first), N_USERS), N_ITEMS, half_life)
    kept = found.all_weights()
    for row in more:
        after = found.add(coded([row]))
        assert after is not found
        found = after
    shares, items = found.top(k)
    expected = plain(first + more, half_life, N_ITEMS)
    np.testing.assert_allclose(found.shares(np.arange(N_ITEMS)), expected, rtol=1e-9)
    np.testing.assert_allclose(shares, np.sort(expected)[::-1][:k], rtol=1e-9)
    np.testing.assert_allclose(expected[items], shares, rtol=1e-9)
    again = Popularity.of(Histories.from_events(coded(first), N_USERS), N_ITEMS, half_life)
    np.testing.assert_array_equal(kept, again.all_weights())


def test_ties_go_to_the_first_of_the_catalogue_and_filters_hold() -> None:
    rows = [(0, 4, 0), (0, 4, 1), (1, 2, 0), (1, 5, 0), (2, 6, 0)]
    found = Popularity.of(Histories.from_events(coded(rows), N_USERS), N_ITEMS, None)
    assert found.top(9)[1].tolist() == [4, 2, 5, 6, 0, 1, 3]
    assert found.top(2, exclude=np.array([4, 5]))[1].tolist() == [2, 6]
    assert found.top(2, include=np.array([6, 3, 5]))[1].tolist() == [5, 6]
    assert found.top(3, include=np.array([6, 3]), exclude=np.array([6]))[1].tolist() == [3]
    assert found.top(2, include=np.array([], np.int64))[1].tolist() == []


def test_items_beyond_the_counts_have_no_share_until_they_have_events() -> None:
    found = Popularity.of(Histories.from_events(coded([(0, 1, 0)]), 1), 2, None).extend(4)
    assert found.top(9)[1].tolist() == [1, 0, 2, 3]
    grown = found.add(coded([(0, 3, 1), (0, 3, 2)]))
    shares, items = grown.top(9)
    assert items.tolist() == [3, 1, 0, 2]
    np.testing.assert_allclose(shares, [2 / 3, 1 / 3, 0, 0])


def test_many_changes_are_put_in_order_again() -> None:
    n_items = 3000
    found = Popularity.of(Histories.from_events(coded([(0, 0, 0)]), 1), n_items, 50.0)
    rows = [(0, item, item) for item in range(n_items)]
    for start in range(0, n_items, 500):
        found = found.add(coded(rows[start : start + 500]))
        assert len(found.changed) <= 1024
    assert found.top(3)[1].tolist() == [n_items - 1, n_items - 2, n_items - 3]
    np.testing.assert_allclose(
        found.shares(np.arange(n_items)), plain([(0, 0, 0), *rows], 50.0, n_items), rtol=1e-9
    )


def test_times_thousands_of_half_lives_later_are_counted() -> None:
    found = Popularity.of(Histories.from_events(coded([(0, 1, 0), (0, 2, 0)]), 1), 3, 1.0)
    found = found.add(coded([(0, 0, 5000), (0, 2, 4999)]))
    np.testing.assert_allclose(found.shares(np.arange(3)), [2 / 3, 0, 1 / 3])


@pytest.mark.parametrize("kind", ["datetime64[ns]", "float64", "int64"])
def test_any_kind_of_time_fades(kind: str) -> None:
    rows = [(0, 1, 0), (0, 2, 10)]
    events = coded([(u, i, t * 10**9) for u, i, t in rows], kind)
    found = Popularity.of(Histories.from_events(events, 1), 3, 10e9)
    np.testing.assert_allclose(found.shares(np.arange(3)), [0, 1 / 3, 2 / 3])


def test_without_times_nothing_fades() -> None:
    histories = Histories.from_events(CodedEvents(np.array([0, 0, 1]), np.array([1, 1, 0])), 2)
    found = Popularity.of(histories, 2)
    assert found.half_life is None
    np.testing.assert_allclose(found.shares(np.arange(2)), [1 / 3, 2 / 3])


def drifting(n_events: int, seed: int = 0) -> CodedEvents:
    """Events whose fashion lasts a hundredth of the time."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 10**6, n_events))
    items = times // 10**4 + rng.integers(0, 3, n_events)
    return CodedEvents(rng.integers(0, 200, n_events), items, times)


def test_the_half_life_follows_the_fashion() -> None:
    events = drifting(5000)
    n_items = int(events.items.max()) + 1
    chosen = choose_half_life(events, n_items)
    assert chosen is not None and chosen <= 10**6 / 64
    steady = CodedEvents(events.users, np.random.default_rng(1).permutation(events.items) % 30)
    assert choose_half_life(steady, 30) is None  # there are no times


def test_times_that_only_number_the_events_of_a_user_do_not_fade() -> None:
    events = drifting(5000)
    order = np.lexsort((events.times, events.users))
    counts = np.bincount(events.users, minlength=200)
    steps = np.concatenate([np.arange(n) for n in counts])
    numbered = CodedEvents(events.users[order], events.items[order], steps)
    assert choose_half_life(numbered, int(events.items.max()) + 1) is None


def test_few_events_choose_nothing() -> None:
    events = drifting(999)
    assert choose_half_life(events, int(events.items.max()) + 1) is None


def test_dates_of_three_centuries_fade_as_their_seconds_do():
    """Nanoseconds of more than 292 years do not fit 64 bits."""
    days = np.array(["1690-01-01", "1700-01-01", "2018-01-01", "2019-01-01"], "M8[ns]")
    items = np.array([0, 0, 1, 1])
    seconds = days.astype("M8[s]").astype(np.int64)
    year = 365 * 86_400
    dated, numbered = (
        Popularity.of(
            Histories.from_events(CodedEvents(np.zeros(4, int), items, times), 1), 2, half_life=life
        )
        for times, life in ((days, year * 1e9), (seconds, float(year)))
    )
    np.testing.assert_allclose(dated.shares(np.arange(2)), numbered.shares(np.arange(2)))
    assert dated.top(1)[1].tolist() == [1]

"""Codes of the time between events, against loops over plain Python numbers."""

import bisect
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.coded import CodedEvents
from palate.data.histories import Histories
from palate.data.moments import times_of
from palate.data.rehearsal import only_users
from palate.data.time_gaps import gap_codes, gap_edges, time_gaps

LEAST, MOST = -(2**63), 2**63 - 1


def flat(rows, dtype=np.int64):
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.array([time for row in rows for time in sorted(row)], dtype), indptr


def gaps_of(histories, users, edges):
    indptr, times = histories.gather(users, "times")
    np.testing.assert_array_equal(times_of(histories, users, timed=True), times)
    return gap_codes(times, indptr, edges)


def gaps_by_hand(rows):
    return [
        None if place == 0 else Fraction(time) - Fraction(row[place - 1])
        for row in map(sorted, rows)
        for place, time in enumerate(row)
    ]


def edges_by_hand(rows, n_edges):
    """The least gaps that a share of 1, 2, … parts of all does not exceed."""
    gaps = sorted(gap for gap in gaps_by_hand(rows) if gap)
    ranks = [-(-share * len(gaps) // (n_edges + 1)) for share in range(1, n_edges + 1)]
    return sorted({gaps[rank - 1] for rank in ranks}) if gaps else []


def codes_by_hand(rows, edges):
    return [
        0 if gap is None else 1 if gap == 0 else 2 + bisect.bisect_left(edges, gap)
        for gap in gaps_by_hand(rows)
    ]


small = st.lists(st.lists(st.integers(-30, 30), max_size=9), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(rows=small, n_edges=st.integers(1, 17))
def test_edges_and_codes_are_those_by_hand(rows, n_edges):
    times, indptr = flat(rows)
    edges = gap_edges(times, indptr, n_edges)
    assert edges.tolist() == edges_by_hand(rows, n_edges)
    codes = gap_codes(times, indptr, edges)
    assert codes.dtype == np.int64
    assert codes.tolist() == codes_by_hand(rows, edges.tolist())


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(LEAST, MOST), max_size=5), min_size=1, max_size=4),
)
def test_whole_numbers_of_any_size_are_exact(rows):
    times, indptr = flat(rows)
    found = time_gaps(times, indptr).tolist()
    for gap, right in zip(found, gaps_by_hand(rows), strict=True):
        assert np.isnan(gap) if right is None else gap == float(int(right))


@settings(max_examples=100, deadline=None)
@given(rows=small, factor=st.sampled_from([1000, 86400, 10**9]))
def test_the_unit_of_time_does_not_matter(rows, factor):
    times, indptr = flat(rows)
    codes = gap_codes(times, indptr, gap_edges(times, indptr))
    moments = (times * 60).astype("datetime64[s]").astype("datetime64[ns]")
    others = [times * factor, times + 10**6, times / 4, moments, moments - moments.min(initial=0)]
    for other in others[: 4 if not len(times) else 5]:
        np.testing.assert_array_equal(gap_codes(other, indptr, gap_edges(other, indptr)), codes)


def test_ranges_hold_equally_many():
    rng = np.random.default_rng(0)
    times, indptr = flat([np.cumsum(rng.lognormal(5, 3, 401)) for _ in range(40)], np.float64)
    edges = gap_edges(times, indptr)
    counts = np.bincount(gap_codes(times, indptr, edges))
    assert len(edges) == 15
    assert counts.tolist() == [40, 0, *[1000] * 16]


def test_equal_gaps_share_one_edge_and_none_at_all_has_none():
    times, indptr = flat([[0, 5, 10, 15], [3, 8]])
    edges = gap_edges(times, indptr)
    assert edges.tolist() == [5]
    assert gap_codes(times, indptr, edges).tolist() == [0, 2, 2, 2, 0, 2]
    assert gap_codes(np.array([0, 6]), np.array([0, 2]), edges).tolist() == [0, 3]
    for rows in ([[4, 4, 4]], [[4], [], [5]], [[]]):
        times, indptr = flat(rows)
        edges = gap_edges(times, indptr)
        assert edges.tolist() == []
        assert gap_codes(times, indptr, edges).tolist() == [0, 1, 1][: len(times)] * (
            len(rows) == 1
        ) or [0, 0]
    assert gap_codes(np.array([0, 6]), np.array([0, 2]), np.zeros(0)).tolist() == [0, 2]


def test_a_gap_beyond_every_float_is_a_long_one():
    times, indptr = np.array([-1.7e308, 1.7e308, 1.7e308]), np.array([0, 3])
    edges = gap_edges(times, indptr)
    assert edges.tolist() == []
    assert gap_codes(times, indptr, np.array([1.0])).tolist() == [0, 3, 1]


@pytest.mark.parametrize("kind", [np.int64, np.float64, "datetime64[ns]"])
def test_late_events_move_the_gap_after_them(kind):
    rng = np.random.default_rng(1)
    n, n_users = 300, 20
    users, items = rng.integers(0, n_users, n), rng.integers(0, 9, n)
    times = rng.integers(0, 10**6, n).astype(kind)
    everything = CodedEvents(users, items, times)
    whole = Histories.from_events(everything, n_users)
    edges = gap_edges(whole.times, whole.indptr)
    grown = Histories.from_events(CodedEvents(users[:0], items[:0], times[:0]), 0)
    for start in range(0, n, 50):  # most events come before some that are known
        part = slice(start, start + 50)
        grown = grown.append(CodedEvents(users[part], items[part], times[part]), n_users)
    assert len(grown.moved) == n_users
    asked = np.array([7, 0, 7, 19])
    right = [gap_codes(whole.row(u).times, np.array([0, len(whole.of(u))]), edges) for u in asked]
    for histories in (whole, grown, grown.compact(), only_users(whole, np.arange(n_users))):
        np.testing.assert_array_equal(gaps_of(histories, asked, edges), np.concatenate(right))
        indptr, found = histories.gather(asked, "times")
        assert found.dtype == np.dtype(kind)
        assert np.diff(indptr).tolist() == [len(part) for part in right]
    assert times_of(whole, asked, timed=False) is None


def test_whole_numbers_and_fractions_mix():
    users, items = np.array([0, 0, 1, 1]), np.arange(4)
    histories = Histories.from_events(CodedEvents(users, items, np.array([1, 5, 2, 3])), 2)
    later = CodedEvents(np.array([1]), np.array([7]), np.array([2.5]))
    grown = histories.append(later, 2)
    assert grown.gather(np.array([0, 1]), "times")[1].tolist() == [1, 5, 2, 2.5, 3]
    assert gaps_of(grown, np.array([1, 0]), np.array([0.5, 3])).tolist() == [0, 2, 2, 0, 4]

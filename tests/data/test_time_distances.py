"""Codes of the time between any two events, against loops over plain Python numbers."""

import bisect
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data import time_distances as module
from palate.data.histories import Histories
from palate.data.moments import Moments, moments_of, time_edges
from palate.data.time_distances import distance_codes, distance_edges, time_distances
from palate.data.time_gaps import gap_codes, gap_edges

LEAST, MOST = -(2**63), 2**63 - 1
small = st.lists(st.lists(st.integers(-30, 30), max_size=12), min_size=1, max_size=5)


def flat(rows, dtype=np.int64):
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.array([time for row in rows for time in sorted(row)], dtype), indptr


def edges_by_hand(rows, max_length, n_edges):
    """The least distances that a share of 1, 2, … parts of those 1, 2, 4, … apart do not exceed."""
    found = sorted(
        row[place] - row[place - apart]
        for row in map(sorted, rows)
        for apart in (1, 2, 4, 8, 16)
        for place in range(apart, len(row))
        if apart < max_length and row[place] > row[place - apart]
    )
    ranks = [-(-share * len(found) // (n_edges + 1)) for share in range(1, n_edges + 1)]
    return sorted({found[rank - 1] for rank in ranks}) if found else []


@settings(max_examples=200, deadline=None)
@given(rows=small, max_length=st.integers(1, 12), n_edges=st.integers(1, 9))
def test_edges_are_those_by_hand(rows, max_length, n_edges):
    times, indptr = flat(rows)
    found = distance_edges(times, indptr, max_length, n_edges)
    assert found.dtype == np.float64
    assert found.tolist() == edges_by_hand(rows, max_length, n_edges)


@settings(max_examples=100, deadline=None)
@given(row=st.lists(st.integers(LEAST, MOST), max_size=6))
def test_whole_numbers_of_any_size_are_exact(row):
    found = time_distances(np.array(row, np.int64))
    assert found.shape == (len(row), len(row))
    assert found.tolist() == [[float(abs(a - b)) for b in row] for a in row]


def test_moments_a_nanosecond_apart_are_told_apart():
    start = 1_700_000_000 * 10**9  # as float64 in nanoseconds, steps of 256
    times = np.array([start, start + 3, start + 7]).astype("datetime64[ns]")
    assert time_distances(times).tolist() == [[0, 3, 7], [3, 0, 4], [7, 4, 0]]


@settings(max_examples=100, deadline=None)
@given(
    times=st.lists(st.lists(st.integers(-20, 20), min_size=4, max_size=4), min_size=1, max_size=3),
    edges=st.lists(st.integers(1, 30), max_size=5, unique=True).map(sorted),
    draw=st.randoms(use_true_random=False),
)
def test_codes_are_those_by_hand(times, edges, draw):
    known = [[draw.random() < 0.7 for _ in row] for row in times]
    found = distance_codes(np.array(times), np.array(known), np.array(edges, np.float64))
    assert found.dtype == np.int64
    for row, sure, codes in zip(times, known, found.tolist(), strict=True):
        for i, a in enumerate(row):
            for j, b in enumerate(row):
                right = 2 + bisect.bisect_left(edges, abs(Fraction(a) - b)) if a != b else 1
                assert codes[i][j] == (right if sure[i] and sure[j] else 0)


@settings(max_examples=100, deadline=None)
@given(rows=small, factor=st.sampled_from([1000, 86400, 10**9]))
def test_the_unit_of_time_does_not_matter(rows, factor):
    times, indptr = flat([[*row, 40, 43] for row in rows])
    known = np.ones(len(times), bool)
    codes = distance_codes(times, known, distance_edges(times, indptr, 9))
    moments = (times * 60).astype("datetime64[s]").astype("datetime64[ns]")
    others = [times * factor, times + 10**6, times / 4, moments, moments - moments.min()]
    for other in others:
        edges = distance_edges(other, indptr, 9)
        np.testing.assert_array_equal(distance_codes(other, known, edges), codes)


def test_of_many_events_evenly_many_are_measured(monkeypatch):
    rng = np.random.default_rng(0)
    times, indptr = flat([np.cumsum(rng.lognormal(3, 2, 100)) for _ in range(50)], np.float64)
    whole = distance_edges(times, indptr, 50)
    assert len(whole) == 31
    monkeypatch.setattr(module, "MOST_EVENTS", 700)
    some = distance_edges(times, indptr, 50)
    assert not np.array_equal(some, whole)
    np.testing.assert_allclose(np.log(some), np.log(whole), atol=0.5)


@pytest.mark.parametrize("rows", [[], [[]], [[5]], [[4, 4, 4], [7]], [[1], [2], [], [9]]])
def test_where_nothing_is_apart_there_are_no_edges(rows):
    times, indptr = flat(rows)
    assert distance_edges(times, indptr, 7).tolist() == []


def test_a_distance_beyond_every_float_is_a_long_one():
    times = np.array([-1.7e308, 1.7e308, 1.7e308])
    assert distance_edges(times, np.array([0, 3]), 3).tolist() == []
    codes = distance_codes(times, np.ones(3, bool), np.array([1.0]))
    assert codes.tolist() == [[1, 3, 3], [3, 1, 1], [3, 1, 1]]


def test_moments_hold_what_is_read_and_no_more():
    times, indptr = np.array([1, 4, 9, 2, 2]), np.array([0, 3, 5])
    histories = Histories(indptr, np.arange(5), times, n_users=2)
    by_gap, by_distance = gap_edges(times, indptr), distance_edges(times, indptr, 3)
    for gaps in (False, True):
        for length in (None, 3):
            found = time_edges(histories, gaps, length)
            wanted = by_gap if gaps else None, None if length is None else by_distance
            for one, two in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, two)
            moments = moments_of(times, indptr, *found)
            if not gaps and length is None:
                assert moments is None
                continue
            places, known = np.array([[1, 2], [4, 0]]), np.array([[True, True], [True, False]])
            codes, distances = moments.at(places, known)
            assert (codes is None) == (not gaps)
            assert (distances is None) == (length is None)
            if gaps:
                right = gap_codes(times, indptr, by_gap)
                assert codes.tolist() == [[right[1], right[2]], [right[4], 0]]
            if length is not None:
                assert distances.tolist() == [
                    [[1, 2 + np.searchsorted(by_distance, 5)]] * 1
                    + [[2 + np.searchsorted(by_distance, 5), 1]],
                    [[1, 0], [0, 0]],
                ]
    assert moments_of(None, indptr, by_gap, by_distance) is None
    assert moments_of(times[:0], np.array([0, 0]), by_gap, by_distance) is None
    assert time_edges(Histories(indptr, np.arange(5), n_users=2), True, 3) == (None, None)
    assert Moments().at(np.zeros((2, 3), int), np.ones((2, 3), bool)) == (None, None)


def test_histories_of_equal_length_all_have_a_say():
    n = 4_000
    times = np.sort(np.random.default_rng(0).integers(0, 10**6, (n, 2)), axis=1).ravel()
    indptr = np.arange(0, 2 * n + 1, 2)
    exact = module.distance_edges(times, indptr, 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_EVENTS", n)  # every second event is the first of a history
        some = module.distance_edges(times, indptr, 50)
    assert len(some) == len(exact) == module.N_EDGES
    np.testing.assert_allclose(some, exact, rtol=0.2)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data import histories as module
from palate.data.coded import CodedEvents, sortable_times
from palate.data.histories import Histories
from palate.exceptions import InvalidInputError

N_USERS = 7


def coded(rows, *, times=None, weighted=False):
    """Make events of (user, item, time, weight) rows."""
    users, items, stamps, weights = (list(c) for c in zip(*rows, strict=True)) if rows else [[]] * 4
    return CodedEvents(
        np.array(users, np.int64),
        np.array(items, np.int64),
        None if times is None else np.array(stamps, times),
        np.array(weights, np.float32) if weighted else None,
    )


class Naive:
    """A dict of lists: each user's events, sorted stably by time after every append."""

    def __init__(self, timed, weighted):
        self.rows, self.timed, self.weighted = {}, timed, weighted

    def append(self, rows):
        for user, *event in rows:
            self.rows.setdefault(user, []).append(event)
        if self.timed:
            for row in self.rows.values():
                row.sort(key=lambda event: event[1])


def check_same(histories, naive, n_users, asked):
    assert histories.n_users == n_users
    assert histories.n_events == sum(map(len, naive.rows.values()))
    for user in range(n_users):
        right = naive.rows.get(user, [])
        row = histories.row(user)
        assert histories.of(user).tolist() == [event[0] for event in right]
        assert row.users.tolist() == [user] * len(right)
        if naive.timed and right:
            assert row.times.tolist() == [event[1] for event in right]
        if naive.weighted and right:
            assert row.weights.tolist() == [event[2] for event in right]
    assert histories.lengths(asked).tolist() == [len(naive.rows.get(u, [])) for u in asked]
    indptr, items = histories.gather(asked)
    flat = [event[0] for user in asked.tolist() for event in naive.rows.get(user, [])]
    assert items.tolist() == flat
    assert np.diff(indptr).tolist() == histories.lengths(asked).tolist()


event = st.tuples(
    st.integers(0, N_USERS - 1),
    st.integers(0, 50),
    st.integers(-3, 3),  # few times, so many are equal
    st.sampled_from([0.5, 1.0, 2.0]),
)
batches = st.lists(st.lists(event, max_size=8), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(
    batches=batches,
    timed=st.booleans(),
    weighted=st.booleans(),
    part=st.sampled_from([1, 3, 4096]),
    most=st.sampled_from([0, 1, 256]),  # 0: always written anew; 256: always kept beside
    many=st.sampled_from([0.0, 10.0]),  # 0: large batches are sorted in with everything
    asked=st.lists(st.integers(0, N_USERS - 1), max_size=9),
    kind=st.sampled_from([np.int64, np.float64]),
)
def test_appending_equals_a_dict_of_lists(batches, timed, weighted, part, most, many, asked, kind):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ("_PART", part), ("_MOST_CHANGED", most), ("_MANY", many):
            patch.setattr(module, name, value)
        naive = Naive(timed, weighted)
        asked = np.array(asked, np.int64)
        known, histories = 0, None
        for rows in batches:
            events = coded(rows, times=kind if timed else None, weighted=weighted)
            known = max([known, *(row[0] + 1 for row in rows)])
            naive.append(rows)
            before = histories
            if histories is None:
                histories = Histories.from_events(events, known)
            else:
                old = [before.of(user).tolist() for user in range(before.n_users)]
                histories = histories.append(events, known)
                assert [before.of(user).tolist() for user in range(before.n_users)] == old
            check_same(histories, naive, known, asked[asked < known])
            compact = histories.compact()
            assert not compact.moved
            assert not compact.rewritten
            assert len(compact.indptr) == known + 1
            check_same(compact, naive, known, asked[asked < known])


def test_all_ways_of_appending_are_reached(monkeypatch):
    start = Histories.from_events(coded([(0, 1, 0, 1), (1, 2, 0, 1)]), 2)
    more = coded([(1, 3, 0, 1), (2, 4, 0, 1)])
    beside = start.append(more, 3)
    assert beside.moved == [1, 2]
    assert beside.items is start.items
    monkeypatch.setattr(module, "_PART", 2)
    monkeypatch.setattr(module, "_MOST_CHANGED", 0)
    monkeypatch.setattr(module, "_MANY", 1)
    anew = start.append(more, 3)
    assert sorted(anew.rewritten) == [0, 1]
    assert not anew.moved
    assert anew.items is start.items
    monkeypatch.setattr(module, "_MANY", 0)
    sorted_in = start.append(more, 3)
    assert not sorted_in.rewritten
    assert not sorted_in.moved
    for histories in (anew, sorted_in, anew.compact()):
        assert [histories.of(u).tolist() for u in range(3)] == [[1], [2, 3], [4]]
    assert sorted_in.compact() is sorted_in


def test_only_the_rows_of_neighbours_are_written_anew(monkeypatch):
    monkeypatch.setattr(module, "_PART", 4)
    monkeypatch.setattr(module, "_MOST_CHANGED", 1)
    histories = Histories.from_events(coded([(user, user, 0, 1) for user in range(11)]), 11)
    for user in (9, 1, 5, 10):  # 9 and 10 are neighbours
        histories = histories.append(coded([(user, 20 + user, 0, 1)]), 11)
    assert list(histories.rewritten) == [2]
    assert histories.moved == [1, 5]
    again = histories.append(coded([(8, 30, 0, 1)]), 13)  # written anew already, and beside that
    assert again.moved == [1, 5, 8]
    rows = [[0], [1, 21], [2], [3], [4], [5, 25], [6], [7], [8, 30], [9, 29], [10, 30], [], []]
    for found in (again, again.compact()):
        assert [found.of(user).tolist() for user in range(13)] == rows
        assert found.lengths(np.array([12, 10, 8, 1])).tolist() == [0, 2, 2, 2]
        assert found.gather(np.array([10, 12, 8, 5]))[1].tolist() == [10, 30, 8, 30, 5, 25]


def test_late_events_go_where_their_time_says():
    start = Histories.from_events(coded([(0, 1, 10, 1), (0, 2, 30, 1)], times=np.int64), 1)
    grown = start.append(coded([(0, 3, 30, 1), (0, 4, 5, 1), (0, 5, 10, 1)], times=np.int64), 1)
    assert grown.of(0).tolist() == [4, 1, 5, 2, 3]  # new ones after old ones of an equal time


def test_users_without_events():
    histories = Histories.from_events(coded([(2, 9, 0, 1)]), 4)
    assert [histories.of(user).tolist() for user in range(4)] == [[], [], [9], []]
    grown = histories.append(coded([]), 6)
    assert grown.n_users == 6
    assert grown.lengths(np.arange(6)).tolist() == [0, 0, 1, 0, 0, 0]
    assert grown.of(5).tolist() == []


def test_weights_that_came_late_count_one_before():
    start = Histories.from_events(coded([(0, 1, 0, 1), (1, 2, 0, 1)]), 2)
    grown = start.append(coded([(0, 3, 0, 2.5)], weighted=True), 2).compact()
    assert grown.weights.tolist() == [1.0, 2.5, 1.0]
    back = grown.append(coded([(1, 4, 0, 1)]), 2).compact()
    assert back.weights.tolist() == [1.0, 2.5, 1.0, 1.0]


@pytest.mark.parametrize("timed", [False, True])
def test_the_time_column_must_stay(timed):
    rows = [(0, 1, 5, 1)]
    with_times, without = coded(rows, times=np.int64), coded(rows)
    histories = Histories.from_events(with_times if timed else without, 1)
    with pytest.raises(InvalidInputError) as error:
        histories.append(without if timed else with_times, 1)
    assert str(error.value) == (
        "X must have a column 'timestamp', as the events learned before had one."
        if timed
        else "X must not have a column 'timestamp', as the events learned before had none."
    )


@pytest.mark.parametrize("unit", ["D", "s", "ms", "us", "ns"])
def test_datetimes_of_any_unit_become_nanoseconds(unit):
    times = np.array(["2020-01-02", "1969-12-31"], f"M8[{unit}]")
    right = np.array([1577923200, -86400], np.int64) * 10**9
    out = sortable_times(times)
    assert out.dtype == np.dtype("M8[ns]")
    np.testing.assert_array_equal(out.astype(np.int64), right)


def test_numbers_stay_numbers():
    assert sortable_times(None) is None
    assert sortable_times(np.array([1, 2], np.int16)).dtype == np.int64
    floats = sortable_times(np.array([0.5, 0.25], np.float32))
    assert floats.dtype == np.float64
    assert floats.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("weighted", [False, True])
def test_events_are_the_rows_of_all_users_one_after_the_other(weighted):
    rng = np.random.default_rng(3)
    users = np.array([4, 0, 2, 2, 4, 0, 0])  # 1 and 3 have no event
    histories = Histories.from_events(
        CodedEvents(users, np.arange(7), rng.permutation(7)), n_users=5
    )
    for step in range(9):  # 5 and 6 are new
        new = np.array([6, 2, 3, 6, 4, 0, 2, 5, 2])[step : step + 1]
        weights = np.array([0.5], np.float32) if weighted else None
        events = CodedEvents(new, np.array([7 + step]), np.array([step]), weights)
        histories = histories.append(events, 7)
        assert histories.moved
        found = histories.events()
        rows = [histories.row(user) for user in range(7)]
        for name in ("users", "items", "times"):
            expected = np.concatenate([getattr(row, name) for row in rows])
            np.testing.assert_array_equal(getattr(found, name), expected)
        if weighted:
            assert found.weights.sum() == 7 + 0.5 * (step + 1)
        else:
            assert found.weights is None
        assert histories.lengths(np.arange(7)).tolist() == [len(row) for row in rows]
        assert [histories.lengths(np.array([u]))[0] for u in range(7)] == [len(r) for r in rows]
        _, items = histories.gather(np.array([2, 6]))
        assert items.tolist() == [*histories.of(2), *histories.of(6)]


def test_times_may_come_after_no_events_at_all():
    nothing = Histories.from_events(CodedEvents(np.empty(0, np.int64), np.empty(0, np.int64)), 2)
    grown = nothing.append(coded([(1, 3, 5, 1), (0, 4, 2, 1), (1, 5, 1, 1)], times=np.int64), 2)
    whole = grown.compact()
    assert grown.moved == [0, 1]
    assert not whole.moved
    assert whole.items.tolist() == [4, 5, 3]
    assert whole.times.tolist() == [2, 1, 5]
    again = grown.append(coded([(1, 6, 4, 1)], times=np.int64), 2)
    assert again.of(1).tolist() == [5, 6, 3]
    with pytest.raises(InvalidInputError, match="must have a column 'timestamp'"):
        grown.append(coded([(1, 6, 4, 1)]), 2)


def test_dates_durations_and_numbers_do_not_mix():
    dates, spans, numbers = (np.array([3], kind) for kind in ("M8[ns]", "m8[ns]", np.int64))
    events = [CodedEvents(np.array([0]), np.array([1]), times) for times in (dates, spans, numbers)]
    for one in events:
        histories = Histories.from_events(one, 1)
        for other in events:
            if other is one:
                continue
            with pytest.raises(InvalidInputError) as caught:
                histories.append(other, 2)
            assert str(caught.value) == (
                "column 'timestamp' of X must be of the kind that the events learned before had, "
                f"{one.times.dtype}; its type is {other.times.dtype}."
            )

"""Rows that are never changed in place: against dictionaries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from palate.data.rows import Rows

CHANGES = st.lists(st.dictionaries(st.integers(0, 1100), st.integers(0, 9), max_size=6), max_size=8)


@given(changes=CHANGES, asked=st.integers(0, 1100))
def test_it_is_a_dictionary_that_leaves_the_old_one_alone(
    changes: list[dict[int, int]], asked: int
) -> None:
    rows: Rows[int] = Rows()
    naive: dict[int, int] = {}
    for change in changes:
        grown, before = rows.updated(change), dict(naive)
        assert dict(rows) == before
        rows, naive = grown, {**naive, **change}
        assert dict(rows) == naive
        assert len(rows) == len(naive)
        assert (asked in rows) == (asked in naive)
        assert rows.get(asked) == naive.get(asked)
        assert bool(rows) == bool(naive)
    assert dict(Rows(naive)) == naive
    assert "0" not in rows

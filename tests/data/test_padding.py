"""Rows of different lengths: cut into parts, padded on the right."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from palate.data.padding import cut_rows, pad_recent, steps_at_once


@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.integers(1, 9),
    st.integers(1, 50),
)
def test_parts_hold_every_row_once_and_as_many_as_there_is_room_for(lengths, n_rows, n_steps):
    lengths = np.array(sorted(lengths, reverse=True), np.int64)
    parts = list(cut_rows(lengths, n_rows, n_steps))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(
        range(len(lengths))
    )
    for part in parts:
        size, longest = part.stop - part.start, max(1, int(lengths[part.start]))
        assert size == 1 or (size <= n_rows and size * longest <= n_steps)
        # One more would have been too many.
        assert part.stop == len(lengths) or size == n_rows or (size + 1) * longest > n_steps


def test_a_cpu_takes_so_many_steps_a_thread():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert steps_at_once("cpu", 5) == 15
    finally:
        torch.set_num_threads(before)
    assert steps_at_once(torch.device("meta"), 5) == float("inf")


def test_recent_events_are_padded_on_the_right():
    codes, mask = pad_recent(np.array([0, 3, 3, 4]), np.array([5, 6, 7, 8]), 2)
    assert codes.tolist() == [[6, 7], [0, 0], [8, 0]]
    assert mask.tolist() == [[True, True], [False, False], [True, False]]
    codes, mask = pad_recent(np.array([0, 0, 0]), np.empty(0, np.int64), 4)
    assert codes.tolist() == [[0], [0]]
    assert codes.dtype == torch.int64
    assert not mask.any()

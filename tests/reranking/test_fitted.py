"""Lists put in order anew: against sorting all corrected scores in plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palate.reranking.fitted import reordered


@st.composite
def lists(draw):
    """Return scores in order, codes with -1 where a list has run out, and corrections."""
    n_rows, depth = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    n_first = draw(st.integers(1, depth))
    numbers = st.integers(-8, 8).map(lambda n: n / 4)
    scores = draw(arrays(np.float32, (n_rows, depth), elements=numbers))
    codes = np.stack([draw(st.permutations(range(9))) for _ in range(n_rows)])[:, :depth]
    order = np.lexsort((codes, -scores), axis=1)
    scores, codes = np.take_along_axis(scores, order, 1), np.take_along_axis(codes, order, 1)
    for row in range(n_rows):
        end = draw(st.integers(0, depth))
        scores[row, end:], codes[row, end:] = -np.inf, -1
    return scores, codes, draw(arrays(np.float64, (n_rows, n_first), elements=numbers))


@given(lists())
@settings(max_examples=200, deadline=None)
def test_it_is_the_order_of_the_sums_with_the_rest_behind(made):
    scores, codes, change = made
    found, items = reordered(scores, codes, change)
    assert found.dtype == np.float32
    assert items.dtype == codes.dtype
    n_first = change.shape[1]
    for row in range(len(scores)):
        head = [
            (-(float(s) + c), int(i))
            for s, c, i in zip(
                scores[row, :n_first], change[row], codes[row, :n_first], strict=True
            )
            if i >= 0
        ]
        there = int((codes[row] >= 0).sum())
        assert items[row, : len(head)].tolist() == [i for _, i in sorted(head)]
        assert found[row, : len(head)].tolist() == [-s for s, _ in sorted(head)]
        # The rest is where it was, in the same order, and scored no higher than the last before.
        assert items[row, n_first:].tolist() == codes[row, n_first:].tolist()
        assert (np.diff(found[row, :there]) <= 0).all()
        assert np.isfinite(found[row, :there]).all()
        assert np.isneginf(found[row, there:]).all()
        rest = scores[row, n_first:there]
        if len(rest):
            fall = min(0.0, float(found[row, n_first - 1]) - float(rest[0]))
            np.testing.assert_array_equal(found[row, n_first:there], rest + np.float32(fall))


@given(lists())
@settings(max_examples=50, deadline=None)
def test_no_correction_changes_nothing_at_all(made):
    scores, codes, change = made
    before = scores.copy(), codes.copy()
    found, items = reordered(scores, codes, 0 * change)
    np.testing.assert_array_equal(found, scores)
    np.testing.assert_array_equal(items, codes)
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(codes, before[1])

"""Learning on repeats a share of the other users' histories."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palate import Recommender, RunOptions
from palate import learning as learning_module
from palate.data.histories import Histories
from palate.data.rehearsal import meeting, rehearsed
from palate.exceptions import InvalidParameterError


@pytest.mark.parametrize(("n_more", "n"), [(0, 3), (2, 5), (8, 11), (20, 11)])
def test_some_of_the_others_join_in_order(n_more, n):
    users = np.array([1, 5, 9])
    found = rehearsed(users, 11, n_more, torch.Generator().manual_seed(3))
    assert len(found) == n
    assert set(users) <= set(found)
    assert (np.diff(found) > 0).all()
    again = rehearsed(users, 11, n_more, torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(found, again)


def test_partial_fit_reads_them(monkeypatch):
    histories = [[f"i{(u + t) % 6}" for t in range(4)] for u in range(20)]
    model = Recommender(
        item_encoder="id",
        epochs=1,
        validation_fraction=0,
        random_state=0,
        options=RunOptions(device="cpu", progress=False),
    ).fit(histories)
    users = []
    cut = learning_module.cut_windows
    monkeypatch.setattr(
        learning_module,
        "cut_windows",
        lambda histories, rows, *rest: users.append(len(rows)) or cut(histories, rows, *rest),
    )
    for rehearsal in (0, 0.5, "auto"):
        model.set_params(rehearsal=rehearsal).partial_fit([["i1", "i2"]])
    for new in (["i1 n1", "n2 n3", "n3 n1 i2"], ["m1 m2", "m2"]):  # in the second, all is new
        rows = [(f"{new[0]} {row}", item) for row in new for item in row.split()]
        model.partial_fit(np.array(rows), epochs=1)
    assert users == [1, 1 + round(0.5 * 19), 2, 3 + 2, 2]


def test_auto_repeats_one_other_for_each_who_met_a_known_item():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 9, rng.integers(0, 6)) for _ in range(40)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    histories = Histories(indptr, np.concatenate(rows), n_users=40)
    for _ in range(20):
        known, users = rng.random(9) < 0.2, rng.permutation(40)[:17]
        expected = sum(any(known[item] for item in rows[user]) for user in users)
        n_items = len({item for user in users for item in rows[user] if len(rows[user]) > 1})
        assert meeting(histories, users, known) == (expected, expected, n_items)
        # The model may know fewer items than there are now.
        fewer = known[:6]
        expected = sum(any(item < 6 and fewer[item] for item in rows[user]) for user in users)
        assert meeting(histories, users, fewer) == (expected, expected, n_items)


def test_a_share_out_of_range_is_refused():
    with pytest.raises(InvalidParameterError) as caught:
        Recommender(item_encoder="id", rehearsal=1.5).fit([["a", "b"]] * 3)
    assert str(caught.value) == "rehearsal must be a number in [0, 1] or 'auto'; got 1.5."

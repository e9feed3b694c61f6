"""Learning on repeats a share of the other users' histories."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palate import Recommender, RunOptions
from palate import learning as learning_module
from palate.exceptions import InvalidParameterError
from palate.learning import rehearsed


@pytest.mark.parametrize(("share", "n"), [(0.0, 3), (0.25, 5), (1.0, 11)])
def test_a_share_of_the_others_joins_in_order(share, n):
    users = np.array([1, 5, 9])
    found = rehearsed(users, 11, share, torch.Generator().manual_seed(3))
    assert len(found) == n
    assert set(users) <= set(found)
    assert (np.diff(found) > 0).all()
    again = rehearsed(users, 11, share, torch.Generator().manual_seed(3))
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
    model.partial_fit([["i1", "i2"]])
    model.set_params(rehearsal=0.5).partial_fit([["i1", "i2"]])
    assert users == [1, 1 + round(0.5 * 19)]


def test_a_share_out_of_range_is_refused():
    with pytest.raises(InvalidParameterError) as caught:
        Recommender(item_encoder="id", rehearsal=1.5).fit([["a", "b"]] * 3)
    assert str(caught.value) == "rehearsal must be a number in [0, 1]; got 1.5."

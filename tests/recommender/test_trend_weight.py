"""Similarity and what is popular now, the same for everybody: against sorting all scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import Recommender, blending


@pytest.fixture
def later() -> pd.DataFrame:
    """What happens after training: i9, and i12, which it never saw, are the fashion."""
    items = ["i12"] * 9 + ["i9"] * 5 + ["i1", "i2"]
    users = [f"v{n % 4}" for n in range(len(items))]
    return pd.DataFrame({"user_id": users, "item_id": items, "timestamp": range(100, 116)})


@pytest.mark.parametrize("depth", [1, 3, 64])
@pytest.mark.parametrize(("fading", "constant"), [(0.0, 0.02), (0.0, 3.0), (0.2, 0.1), (2.0, 0.3)])
def test_it_is_the_ranking_of_the_sums(
    model: Recommender,
    events: pd.DataFrame,
    later: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    sorted_scores: Callable[..., pd.Series],
    depth: int,
    fading: float,
    constant: float,
) -> None:
    monkeypatch.setattr(blending, "_FIRST_DEPTH", depth)
    model.observe(later)
    happened = pd.concat([events["item_id"], later["item_id"]])
    histories = [["i1"], ["i2", "i12"], ["i0", "i5", "i7"]]
    found = model.recommend(
        histories=histories, k=4, popularity_weight=fading, trend_weight=constant
    )
    for row, history in enumerate(histories):
        expected = sorted_scores(model, happened, history, fading, constant)[:4]
        rows = found[found["user_id"] == row]
        assert rows["item_id"].tolist() == expected.index.tolist()
        np.testing.assert_allclose(rows["score"], expected, atol=1e-5)


def test_it_moves_with_what_is_observed_for_people_with_long_histories(
    model: Recommender, later: pd.DataFrame
) -> None:
    asked: dict[str, Any] = {"histories": [["i1", "i2", "i3", "i4"] * 50], "k": 2}
    before = model.recommend(**asked)["item_id"].tolist()
    assert before != ["i9", "i12"]
    model.observe(later)
    assert model.recommend(**asked)["item_id"].tolist() == before
    assert model.recommend(**asked, trend_weight=5)["item_id"].tolist() == ["i9", "i12"]


def test_batch_equals_one_by_one(model: Recommender, later: pd.DataFrame, encoding: Any) -> None:
    model = encoding(model.observe(later))
    together = model.recommend(k=5, trend_weight=0.2)
    for user, rows in together.groupby("user_id"):
        alone = model.recommend([user], k=5, trend_weight=0.2)
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), alone)

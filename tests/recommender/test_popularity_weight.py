"""Similarity and popularity together: against sorting all scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import Recommender, blending
from palate.exceptions import InvalidParameterError


@pytest.mark.parametrize("depth", [1, 3, 64])
@pytest.mark.parametrize("weight", [0.01, 0.3, 5.0])
@pytest.mark.parametrize("k", [1, 4, 20])
def test_it_is_the_ranking_of_the_sums(
    fitted_once: Recommender,
    events: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    sorted_scores: Callable[..., pd.Series],
    depth: int,
    weight: float,
    k: int,
) -> None:
    monkeypatch.setattr(blending, "_FIRST_DEPTH", depth)
    histories = [["i1"], ["i2", "i12"], ["i0", "i5", "i7"], ["i9"]]
    found = fitted_once.recommend(histories=histories, k=k, popularity_weight=weight)
    for row, history in enumerate(histories):
        expected = sorted_scores(fitted_once, events["item_id"], history, weight)[:k]
        rows = found[found["user_id"] == row]
        assert rows["item_id"].tolist() == expected.index.tolist()
        np.testing.assert_allclose(rows["score"], expected, atol=1e-5)


def test_batch_equals_one_by_one(fitted_once: Recommender, encoding: Any) -> None:
    model = encoding(fitted_once)
    together = model.recommend(k=5, popularity_weight=0.4)
    for user, rows in together.groupby("user_id"):
        alone = model.recommend([user], k=5, popularity_weight=0.4)
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), alone)


def test_it_fades_with_events_and_moves_with_what_is_observed(model: Recommender) -> None:
    asked: dict[str, Any] = {"histories": [["i1"]], "k": 3, "popularity_weight": 5.0}
    model.observe(pd.DataFrame({"user_id": "u9", "item_id": ["i12"] * 80, "timestamp": 60}))
    assert model.recommend(**asked)["item_id"].tolist()[0] == "i12"
    long = [["i1", "i2", "i3", "i4"] * 500]
    light = model.recommend(histories=long, popularity_weight=0.1)
    plain = model.recommend(histories=long)
    assert light["item_id"].tolist() == plain["item_id"].tolist()


def test_filters_and_a_boost_hold(fitted_once: Recommender) -> None:
    asked: dict[str, Any] = {"histories": [["i1"]], "popularity_weight": 0.5}
    only = fitted_once.recommend(
        **asked, items_to_recommend=["i12", "i9", "i0", "i1"], items_to_exclude=["i9"]
    )
    assert set(only["item_id"]) == {"i12", "i0"}
    raised = fitted_once.recommend(**asked, new_item_boost=50, k=3)
    assert set(raised["item_id"].tolist()[:2]) == {"i11", "i12"}
    assert set(fitted_once.recommend(**asked, filter_viewed=False, k=13)["item_id"]) == set(
        fitted_once.item_ids_
    )
    popular: dict[str, Any] = {"histories": [[]], "on_unsupported_targets": "popular"}
    pd.testing.assert_frame_equal(
        fitted_once.recommend(**popular), fitted_once.recommend(**popular, popularity_weight=0.5)
    )


@pytest.mark.parametrize("weight", [-0.1, "much", None, float("nan")])
def test_it_is_a_number_of_at_least_0(fitted_once: Recommender, weight: Any) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        fitted_once.recommend(["u0"], popularity_weight=weight)
    assert str(caught.value).startswith("popularity_weight must be ")

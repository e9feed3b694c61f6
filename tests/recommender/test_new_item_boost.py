"""Items that training never saw, raised by a number: against sorting all scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import Recommender
from palate.exceptions import InvalidParameterError

NEW = ["i11", "i12"]  # in the item table of the fixture, and in no event


def sorted_scores(
    model: Recommender, user: str, boost: float, viewed: list[str]
) -> list[tuple[str, float]]:
    """Rank the catalogue the plain way."""
    ids = model.item_ids_.tolist()
    query = model.transform(pd.DataFrame({"user_id": [user]}))[0].astype(np.float64)
    items = model.item_vectors_.astype(np.float64)
    scores = items @ query / np.linalg.norm(items, axis=1) / np.linalg.norm(query)
    scores = scores + boost * np.isin(ids, NEW)
    order = np.argsort(-scores, kind="stable")
    return [(ids[i], scores[i]) for i in order if ids[i] not in viewed]


@pytest.mark.parametrize("boost", [0.0, 0.05, 0.4, 3.0])
@pytest.mark.parametrize("k", [1, 4, 20])
def test_it_is_the_ranking_of_the_raised_scores(
    fitted_once: Recommender, events: pd.DataFrame, histories_of: Any, boost: float, k: int
) -> None:
    histories = histories_of(events)
    found = fitted_once.recommend(k=k, new_item_boost=boost)
    for user, rows in found.groupby("user_id"):
        expected = sorted_scores(fitted_once, user, boost, histories[user])[:k]
        assert rows["item_id"].tolist() == [item for item, _ in expected]
        np.testing.assert_allclose(rows["score"], [score for _, score in expected], atol=1e-5)
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))


def test_filters_hold(fitted_once: Recommender) -> None:
    only = fitted_once.recommend(
        ["u0"], items_to_recommend=["i12", "i9", "i0"], items_to_exclude=["i9"], new_item_boost=9
    )
    assert only["item_id"].tolist()[0] == "i12"
    assert set(only["item_id"]) <= {"i12", "i0"}
    out = fitted_once.recommend(["u0"], items_to_exclude=NEW, new_item_boost=9)
    assert not set(out["item_id"]) & set(NEW)


def test_an_item_that_joins_is_raised_and_what_is_popular_is_not(model: Recommender) -> None:
    model.add_items(pd.DataFrame({"item_id": ["new"], "title": ["red lamp"]}))
    raised = model.recommend(["u0"], k=3, new_item_boost=9)["item_id"].tolist()
    assert set(raised) == {"new", *NEW}
    query: dict[str, Any] = {"histories": [[]], "on_unsupported_targets": "popular"}
    pd.testing.assert_frame_equal(
        model.recommend(**query), model.recommend(**query, new_item_boost=9)
    )


@pytest.mark.parametrize("boost", [-0.1, "much", None, float("nan")])
def test_it_is_a_number_of_at_least_0(fitted_once: Recommender, boost: Any) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        fitted_once.recommend(["u0"], new_item_boost=boost)
    assert str(caught.value).startswith("new_item_boost must be ")

"""Item to item."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import Recommender
from palate.exceptions import (
    InvalidInputError,
    InvalidParameterError,
    UnsupportedTargetError,
    UnsupportedTargetWarning,
)


@pytest.mark.parametrize("filter_itself", [True, False])
def test_an_independent_oracle_agrees(fitted_once: Recommender, filter_itself: bool) -> None:
    targets = ["i4", "i12", "i4"]
    table = fitted_once.recommend_to_items(targets, k=5, filter_itself=filter_itself)
    assert list(table.columns) == ["target_item_id", "item_id", "score", "rank"]
    assert table["target_item_id"].tolist() == ["i4"] * 5 + ["i12"] * 5 + ["i4"] * 5
    vectors = fitted_once.item_vectors_.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = list(fitted_once.item_ids_)
    for target, rows in table[:10].groupby("target_item_id"):
        place = names.index(target)
        scores = vectors @ vectors[place]
        order = [i for i in np.argsort(-scores, kind="stable") if i != place or not filter_itself]
        assert rows["item_id"].tolist() == [names[i] for i in order[:5]]
        np.testing.assert_allclose(rows["score"], scores[order[:5]], atol=1e-6)
        assert rows["rank"].tolist() == [1, 2, 3, 4, 5]


def test_k_beyond_the_catalogue(fitted_once: Recommender) -> None:
    assert len(fitted_once.recommend_to_items(["i0", "i1"], k=99)) == 2 * 12
    assert len(fitted_once.recommend_to_items(["i0"], k=99, filter_itself=False)) == 13
    assert len(fitted_once.recommend_to_items([], k=3)) == 0


def test_unknown_items(fitted_once: Recommender) -> None:
    asked: list[Any] = ["i1", "zz", 4]
    with pytest.raises(UnsupportedTargetError) as caught:
        fitted_once.recommend_to_items(asked)
    assert str(caught.value) == (
        "items unknown to the model: 'zz', 4. "
        "Pass on_unsupported_targets='warn' or 'ignore' to skip them."
    )
    with pytest.warns(UnsupportedTargetWarning) as warned:
        table = fitted_once.recommend_to_items(asked, on_unsupported_targets="warn")
    assert [str(warning.message) for warning in warned] == [
        "items unknown to the model: 'zz', 4. They were skipped."
    ]
    pd.testing.assert_frame_equal(table, fitted_once.recommend_to_items(["i1"]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"item_ids": "i1"}, InvalidInputError, "item_ids must be a list of item ids; got 'i1'."),
        ({"item_ids": 1}, InvalidInputError, "item_ids must be a list of item ids; got 1."),
        (
            {"item_ids": ["i1"], "k": 0},
            InvalidParameterError,
            "k must be an integer of at least 1; got 0.",
        ),
        (
            {"item_ids": ["i1"], "filter_itself": 2},
            InvalidParameterError,
            "filter_itself must be one of True, False; got 2.",
        ),
    ],
)
def test_what_is_refused(
    arguments: dict[str, Any], error: type, message: str, fitted_once: Recommender
) -> None:
    with pytest.raises(error) as caught:
        fitted_once.recommend_to_items(**arguments)
    assert str(caught.value) == message

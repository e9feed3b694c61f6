"""The popularity baseline, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_validate

from palate.baselines import MostPopular
from palate.exceptions import (
    InvalidInputError,
    InvalidParameterError,
    UnsupportedTargetError,
    UnsupportedTargetWarning,
)
from palate.model_selection import LeaveLastOut


def test_counts_and_ties_by_hand() -> None:
    # c and b three times, d twice, a and e once; c appears before b in the catalogue.
    histories = [["a", "c", "b"], ["c", "b", "d"], ["b", "c", "d", "e"]]
    model = MostPopular().fit(histories)
    assert model.item_ids_.tolist() == ["a", "c", "b", "d", "e"]
    assert model.counts_.tolist() == [1, 3, 3, 2, 1]
    table = model.recommend([1, 0], k=4, filter_viewed=False)
    assert table["user_id"].tolist() == [1] * 4 + [0] * 4
    assert table["item_id"].tolist() == ["c", "b", "d", "a"] * 2
    assert table["score"].tolist() == [3, 3, 2, 1] * 2
    assert table["rank"].tolist() == [1, 2, 3, 4] * 2
    filtered = model.recommend(k=9)
    expected = {0: ["d", "e"], 1: ["a", "e"], 2: ["a"]}
    for user, rows in filtered.groupby("user_id"):
        assert rows["item_id"].tolist() == expected[user]


def test_a_loop_agrees(events: pd.DataFrame) -> None:
    model = MostPopular().fit(events)
    order = events["item_id"].drop_duplicates().tolist()
    counts = events["item_id"].value_counts()
    ranked = sorted(order, key=lambda item: (-counts[item], order.index(item)))
    for user, rows in model.recommend(k=5).groupby("user_id"):
        viewed = set(events[events["user_id"] == user]["item_id"])
        assert rows["item_id"].tolist() == [i for i in ranked if i not in viewed][:5]


def test_score_by_hand() -> None:
    model = MostPopular().fit([["a", "b"], ["b", "c"], ["b"]])
    # User 2 is offered a, then c; user 0 c.
    test = pd.DataFrame({"user_id": [2, 0], "item_id": ["c", "c"]})
    assert model.score(test, k=2) == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert model.score(test, k=1, metric="hr") == pytest.approx(1 / 2)
    with pytest.warns(UnsupportedTargetWarning) as caught:
        assert model.score(pd.DataFrame({"user_id": [9], "item_id": ["b"]})) == 0
    assert str(caught[0].message) == "users in X unknown to the model: 9. They count as misses."


def test_it_works_under_scikit_learn(events: pd.DataFrame) -> None:
    found = cross_validate(
        clone(MostPopular()), events, cv=LeaveLastOut(n_splits=2), error_score="raise"
    )
    assert np.all((found["test_score"] >= 0) & (found["test_score"] <= 1))


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_other_libraries(library: str, events: pd.DataFrame) -> None:
    native: Any
    if library == "polars":
        native = pytest.importorskip("polars").from_pandas(events)
    else:
        native = pytest.importorskip("pyarrow").Table.from_pandas(events)
    table = MostPopular().fit(native).recommend(k=2)
    assert isinstance(table, type(native))
    pd.testing.assert_frame_equal(table.to_pandas(), MostPopular().fit(events).recommend(k=2))


def test_what_is_refused(events: pd.DataFrame) -> None:
    with pytest.raises(ValueError) as unfitted:
        MostPopular().recommend()
    assert str(unfitted.value) == (
        "This MostPopular instance is not fitted yet. Call 'fit' with appropriate arguments "
        "before using this estimator."
    )
    model = MostPopular().fit(events)
    with pytest.raises(InvalidParameterError) as caught:
        model.recommend(k=0)
    assert str(caught.value) == "k must be an integer of at least 1; got 0."
    with pytest.raises(UnsupportedTargetError) as unknown:
        model.recommend(["zz"])
    assert str(unknown.value) == "users unknown to the model: 'zz'."
    with pytest.raises(InvalidInputError) as invalid:
        model.recommend("u0")
    assert str(invalid.value) == "users must be a list of user ids; got 'u0'."
    with pytest.raises(InvalidInputError) as invalid:
        MostPopular().fit(events[:0])
    assert str(invalid.value) == "X must hold at least one event; got none."

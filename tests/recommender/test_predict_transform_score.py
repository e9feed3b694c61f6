"""Row-aligned answers, user vectors, and scores on held-out events."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import Recommender
from palate._results import padded_ids
from palate.data.vocabulary import Vocabulary
from palate.exceptions import (
    InvalidInputError,
    InvalidParameterError,
    UnsupportedTargetError,
    UnsupportedTargetWarning,
)
from palate.metrics import evaluate

Make = Callable[..., Recommender]


def test_predict_answers_row_by_row(fitted_once: Recommender, events: pd.DataFrame) -> None:
    found = fitted_once.predict(events, k=3)
    assert found.shape == (len(events), 3)
    table = fitted_once.recommend(k=3)
    for row, user in enumerate(events["user_id"]):
        assert found[row].tolist() == table[table["user_id"] == user]["item_id"].tolist()


def test_rows_that_run_out(make_recommender: Make) -> None:
    cases: list[tuple[list[Any], Any]] = [
        (["a", "b", "c"], None),
        ([1, 2, 3], math.nan),
        ([0.5, 1.5, 2.5], math.nan),
        ([2**60 + 1, 2**60 + 3, 2**60 + 5], None),  # no float holds these
        (list(np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "M8[ns]")), "NaT"),
        (list(np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "M8[s]")), "NaT"),
    ]
    for ids, empty in cases:
        model = make_recommender(epochs=0).fit([ids[:2], ids[1:]])
        found = model.predict([ids[:2], ids[:1]], k=4)
        assert found.shape == (2, 4)
        assert found[0, 0] == ids[2]
        assert set(found[1, :2].tolist()) == set(np.array(ids[1:], dtype=found.dtype).tolist())
        for value in [*found[0, 1:], *found[1, 2:]]:
            if empty is None:
                assert value is None
            else:
                assert str(value).lower() == str(empty).lower()
        np.testing.assert_array_equal(
            model.predict([ids[:1]], k=3, filter_viewed=False)[0].astype(found.dtype).shape, (3,)
        )


def test_predict_keeps_the_type_where_no_row_runs_out(make_recommender: Make) -> None:
    model = make_recommender(epochs=0).fit(np.array([[0, 5], [0, 6], [1, 7]]))
    assert model.predict(np.array([[0, 5]]), k=1).dtype == np.int64
    assert model.predict(np.array([[0, 5]]), k=3, filter_viewed=False).dtype == np.int64


def test_transform_gives_the_vector_of_each_row(
    fitted_once: Recommender, events: pd.DataFrame, histories_of: Any
) -> None:
    vectors = fitted_once.transform(events)
    assert vectors.shape == (len(events), 8)
    assert vectors.dtype == np.float32
    histories = histories_of(events)
    of_histories = fitted_once.transform(list(histories.values()))
    assert of_histories.shape == (7, 8)
    for row, user in enumerate(events["user_id"]):
        np.testing.assert_array_equal(vectors[row], of_histories[list(histories).index(user)])
    alone = np.concatenate([fitted_once.transform([row]) for row in histories.values()])
    np.testing.assert_allclose(alone, of_histories, rtol=1e-5, atol=1e-6)


def test_fit_transform(make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame) -> None:
    found = make_recommender(item_encoder="bert+id").fit_transform(events, items=items)
    model = make_recommender(item_encoder="bert+id").fit(events, items=items)
    np.testing.assert_array_equal(found, model.transform(events))


def test_only_the_user_column_is_needed(fitted_once: Recommender) -> None:
    users = pd.DataFrame({"user_id": ["u3", "u0", "u3"]})
    assert fitted_once.predict(users, k=2).shape == (3, 2)
    with pytest.raises(InvalidInputError) as caught:
        fitted_once.transform(pd.DataFrame({"item_id": ["i1"]}))
    assert str(caught.value) == "X must have a column 'user_id'; its columns are 'item_id'."


@pytest.mark.parametrize("method", ["predict", "transform"])
def test_unknown_rows_raise_without_advice_that_does_not_apply(
    method: str, fitted_once: Recommender
) -> None:
    call = getattr(fitted_once, method)
    with pytest.raises(UnsupportedTargetError) as caught:
        call(pd.DataFrame({"user_id": ["u1", "zz", "zz"]}))
    assert str(caught.value) == "users unknown to the model: 'zz'."
    with pytest.raises(UnsupportedTargetError) as caught:
        call([["i1"], ["zz"]])
    assert str(caught.value) == "items in histories unknown to the model: 'zz'."
    with pytest.raises(UnsupportedTargetError) as caught:
        call([["i1"], []])
    assert str(caught.value) == "history 1 is empty: it says nothing about taste."


METRICS = ["ndcg", "hr", "recall", "precision", "mrr", "map"]


def later(rows: list[tuple[Any, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id"])
    return frame.assign(timestamp=range(100, 100 + len(frame)))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("filter_viewed", [True, False])
def test_score_is_the_metric_of_what_recommend_returns(
    metric: str, filter_viewed: bool, fitted_once: Recommender
) -> None:
    test = later([("u0", "i12"), ("u1", "i11"), ("u0", "i4"), ("u3", "i2"), ("u6", "i12")])
    table = fitted_once.recommend(["u0", "u1", "u3", "u6"], k=4, filter_viewed=filter_viewed)
    expected = evaluate(table, test, k=4, metrics=[metric])
    found = fitted_once.score(test, metric=metric, k=4, filter_viewed=filter_viewed)
    assert found == pytest.approx(dict(expected)[f"{metric}@4"], abs=1e-12)


def test_score_by_hand(fitted_once: Recommender) -> None:
    ranked = fitted_once.recommend(["u0", "u1"], k=3)["item_id"].tolist()
    test = later([("u0", ranked[0]), ("u1", ranked[5])])  # ranks 1 and 3
    assert fitted_once.score(test, k=3) == pytest.approx((1 + 1 / 2) / 2)
    assert fitted_once.score(test, metric="mrr", k=3) == pytest.approx((1 + 1 / 3) / 2)
    assert fitted_once.score(test, metric="hr", k=2) == pytest.approx(1 / 2)


def test_unknown_users_and_items_are_misses(fitted_once: Recommender) -> None:
    favourite = fitted_once.recommend(["u0"], k=1)["item_id"][0]
    known = later([("u0", favourite)])
    assert fitted_once.score(known) == 1
    with pytest.warns(UnsupportedTargetWarning) as caught:
        score = fitted_once.score(later([("u0", favourite), ("zz", favourite), ("yy", "i1")]))
    assert score == pytest.approx(1 / 3)
    assert [str(warning.message) for warning in caught] == [
        "users in X unknown to the model: 'zz', 'yy'. They count as misses."
    ]
    # Of two items to find, the unknown one cannot be found.
    both = later([("u0", favourite), ("u0", "never seen")])
    assert fitted_once.score(both, metric="recall") == pytest.approx(1 / 2)
    with pytest.warns(UnsupportedTargetWarning):
        assert fitted_once.score(later([("zz", "i1")])) == 0


def test_score_of_histories_and_arrays(make_recommender: Make) -> None:
    histories = [["a", "b", "c"], ["b", "c", "d"], ["a", "d"]]
    model = make_recommender().fit(histories)
    favourites = model.recommend(k=1)["item_id"].tolist()
    assert model.score([[item] for item in favourites]) == 1
    array = np.array([[0, favourites[0]], [1, favourites[1]]], dtype=object)
    assert model.score(array) == 1


def test_parameters_out_of_range(fitted_once: Recommender, events: pd.DataFrame) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        fitted_once.score(events, metric="accuracy")
    assert str(caught.value).startswith("metric must be one of ")
    assert str(caught.value).endswith("; got 'accuracy'.")
    for call in (fitted_once.score, fitted_once.predict):
        with pytest.raises(InvalidParameterError) as caught:
            call(events, k=0)
        assert str(caught.value) == "k must be an integer of at least 1; got 0."
    with pytest.raises(InvalidParameterError) as caught:
        fitted_once.score(events, filter_viewed="yes")
    assert str(caught.value) == "filter_viewed must be one of True, False; got 'yes'."
    with pytest.raises(InvalidInputError) as invalid:
        fitted_once.score(events[:0])
    assert str(invalid.value) == "X must hold at least one event; got none."


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (2**53, [float(2**53), np.nan]),
        (2**53 + 1, [2**53 + 1, None]),
        (-(2**53) - 1, [-(2**53) - 1, None]),
        (2**63 + 1, [2**63 + 1, None]),
    ],
)
def test_short_rows_of_integer_ids_keep_all_their_digits(number: int, expected: list[Any]) -> None:
    found = padded_ids(np.array([[0, -1]]), Vocabulary(np.array([number])), 2)
    np.testing.assert_array_equal(found, np.array([expected], dtype=found.dtype))
    assert int(found[0, 0]) == number

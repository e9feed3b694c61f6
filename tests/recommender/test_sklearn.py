"""The estimator under scikit-learn's own contract."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.utils.estimator_checks import check_estimator

from palate import (
    BertEncoder,
    CosineRanker,
    Fusion,
    GRUEncoder,
    IdEncoder,
    Items,
    Recommender,
    RunOptions,
    TransformerEncoder,
)
from palate.metrics import make_ranking_scorer
from palate.model_selection import LeaveLastOut

Make = Callable[..., Recommender]


def test_every_check_of_scikit_learn_passes(options: RunOptions) -> None:
    estimator = Recommender(item_encoder="id", epochs=1, dim=8, options=options)
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    skipped = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "skipped"}
    assert failed == {}
    assert skipped.keys() <= {"check_array_api_input"}
    assert all("SCIPY_ARRAY_API is not set" in reason for reason in skipped.values())
    # The number, so that a tag that switches checks off is noticed.
    assert sum(r["status"] == "passed" for r in results) >= 45


def test_clone_copies_parameters_and_nothing_learned(id_fitted_once: Recommender) -> None:
    parts = {"user_encoder": GRUEncoder(n_layers=2), "ranker": CosineRanker(storage="int8")}
    fitted = copy.deepcopy(id_fitted_once).set_params(**parts)
    cloned = clone(fitted)
    assert not hasattr(cloned, "_serving")
    assert not hasattr(cloned, "history_")
    assert cloned.user_encoder is not fitted.user_encoder
    assert repr(cloned) == repr(fitted)


def test_get_params_reaches_into_named_and_nested_parts() -> None:
    params = Recommender().get_params()
    assert params["user_encoder"] == "transformer"
    assert params["user_encoder__n_layers"] == "auto"
    assert params["item_encoder__id_dropout"] == 0.1
    assert params["item_encoder__encoders__0__pooling"] == "mean"
    assert params["ranker__storage"] == "float32"
    assert "objective__n_negatives" not in params


def test_set_params_turns_a_name_into_its_spec() -> None:
    model = Recommender().set_params(
        user_encoder__n_layers=3, item_encoder__encoders__0__pooling="cls", dim=16
    )
    assert isinstance(model.user_encoder, TransformerEncoder)
    assert model.user_encoder.n_layers == 3
    assert model.item_encoder.encoders[0].pooling == "cls"
    assert model.dim == 16


def test_set_params_takes_a_name_and_its_parameters_at_once() -> None:
    model = Recommender().set_params(user_encoder__n_layers=4, user_encoder="gru")
    assert repr(model.user_encoder) == "GRUEncoder(n_layers=4)"


def test_parts_of_a_clone_are_not_shared() -> None:
    model = Recommender(item_encoder=Fusion([BertEncoder(), IdEncoder()]))
    clone(model).set_params(item_encoder__encoders__0__pooling="cls")
    assert model.item_encoder.encoders[0].pooling == "mean"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "user_encoder__depth",
            "Invalid parameter 'depth' for estimator TransformerEncoder(). Valid parameters are: "
            "['block', 'dropout', 'hidden_size', 'max_length', 'n_heads', 'n_layers', 'pooling', "
            "'shortcut'].",
        ),
    ],
)
def test_set_params_names_the_parameters_there_are(name: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Recommender().set_params(**{name: 1})
    assert str(caught.value) == message


def test_fit_does_not_change_the_parameters(make_recommender: Make, events: pd.DataFrame) -> None:
    spec = TransformerEncoder(n_layers=1)
    model = make_recommender(user_encoder=spec, ranker=CosineRanker())
    before = {name: id(value) for name, value in model.get_params(deep=False).items()}
    model.fit(events)
    assert {name: id(value) for name, value in model.get_params(deep=False).items()} == before


def test_cross_validation_leaves_the_last_out(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    # As many items as events: what cross-validation would slice without Items.
    extra = [f"x{i}" for i in range(len(events) - len(items))]
    table = pd.concat([items, pd.DataFrame({"item_id": extra, "title": "red book"})])
    assert len(table) == len(events)
    found = cross_validate(
        make_recommender(item_encoder="bert+id"),
        events,
        cv=LeaveLastOut(n_splits=2),
        params={"items": Items(table)},
        scoring={"ndcg": make_ranking_scorer("ndcg", k=5), "hr": make_ranking_scorer("hr", k=20)},
        return_estimator=True,
        error_score="raise",
    )
    assert [len(model.item_ids_) for model in found["estimator"]] == [len(events)] * 2
    assert found["test_ndcg"].shape == (2,)
    assert np.all((found["test_ndcg"] >= 0) & (found["test_ndcg"] <= 1))
    # Fold by fold by hand.
    for place, (train, test) in enumerate(LeaveLastOut(n_splits=2).split(events)):
        model = make_recommender(item_encoder="bert+id").fit(events.iloc[train], items=table)
        score = model.score(events.iloc[test], metric="ndcg", k=5)
        assert found["test_ndcg"][place] == pytest.approx(score, abs=1e-12)


def test_an_item_table_that_was_sliced_is_noticed(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    with pytest.raises(ValueError) as caught:
        make_recommender(item_encoder="bert").fit(events, items=items.iloc[:6])
    row = next(i for i, item in enumerate(events["item_id"]) if int(item[1:]) > 5)
    assert str(caught.value) == (
        f"items must have a row for every item of X; row {row} of X names "
        f"'{events['item_id'][row]}', which has none."
    )


def test_grid_search_over_parts_and_their_parameters(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame, tiny_bert: str
) -> None:
    search = GridSearchCV(
        make_recommender(),
        {"user_encoder__n_layers": [1, 2], "item_encoder": ["id", BertEncoder(tiny_bert)]},
        cv=LeaveLastOut(),
        error_score="raise",
    )
    search.fit(events, items=Items(items))
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert best.user_encoder.n_layers == search.best_params_["user_encoder__n_layers"]
    # past the shortcut
    assert len(best.user_encoder_.encoder.encoder.blocks) == best.user_encoder.n_layers


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_cross_validation_of_other_tables(
    make_recommender: Make, events: pd.DataFrame, library: str
) -> None:
    native: Any
    if library == "polars":
        native = pytest.importorskip("polars").from_pandas(events)
    else:
        native = pytest.importorskip("pyarrow").Table.from_pandas(events)
    cv = LeaveLastOut()
    found = cross_validate(make_recommender(), native, cv=cv, error_score="raise")
    expected = cross_validate(make_recommender(), events, cv=cv, error_score="raise")
    np.testing.assert_array_equal(found["test_score"], expected["test_score"])


def test_pickle_and_deepcopy_answer_the_same_and_learn_on(
    fitted_once: Recommender, events: pd.DataFrame, snapshot: Any, assert_same: Any
) -> None:
    restored = pickle.loads(pickle.dumps(fitted_once))
    assert_same(snapshot(fitted_once), snapshot(restored))
    copied = copy.deepcopy(fitted_once).partial_fit(events[:5])
    assert_same(snapshot(copied), snapshot(restored.partial_fit(events[:5])))


def test_an_unfitted_estimator_says_so(make_recommender: Make, events: pd.DataFrame) -> None:
    model = make_recommender()
    message = (
        "This Recommender instance is not fitted yet. Call 'fit' with appropriate arguments "
        "before using this estimator."
    )
    calls: list[Callable[[], Any]] = [
        lambda: model.recommend(["u1"]),
        lambda: model.recommend_to_items(["i1"]),
        lambda: model.predict(events),
        lambda: model.transform(events),
        lambda: model.score(events),
        lambda: model.observe(events),
        lambda: model.add_items(events),
        lambda: model.save("nowhere"),
        lambda: model.get_feature_names_out(),
    ]
    for call in calls:
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == message
    with pytest.raises(AttributeError) as missing:
        _ = model.item_vectors_
    assert str(missing.value) == "This Recommender is not fitted yet: call fit first."


def test_what_scikit_learn_asks_of_columns(
    id_fitted_once: Recommender, make_recommender: Make
) -> None:
    assert id_fitted_once.n_features_in_ == 3
    assert list(id_fitted_once.feature_names_in_) == ["user_id", "item_id", "timestamp"]
    assert list(id_fitted_once.get_feature_names_out()) == [f"recommender{i}" for i in range(8)]
    by_lists = make_recommender().fit([["a", "b", "c"], ["b", "c"]])
    assert not hasattr(by_lists, "n_features_in_")
    assert not hasattr(by_lists, "feature_names_in_")


def test_html_of_a_fitted_estimator_names_it(id_fitted_once: Recommender) -> None:
    assert "Recommender" in id_fitted_once._repr_html_()

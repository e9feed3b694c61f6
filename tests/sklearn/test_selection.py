"""Searches, cross-validation, pipelines and routed metadata around a recommender."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from palate import Items, Recommender
from palate.metrics import make_ranking_scorer
from palate.model_selection import LeaveLastOut

Make = Callable[..., Recommender]
SCORERS = {
    "ndcg": make_ranking_scorer("ndcg", k=5),
    "hr": make_ranking_scorer("hr", k=9),
    "mrr": make_ranking_scorer("mrr", k=3),
}


def without_item_0(events: pd.DataFrame) -> pd.DataFrame:
    return events[events["item_id"] != "i0"]


@pytest.fixture
def routed():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def pipeline(make_recommender: Make) -> Pipeline:
    return Pipeline([("keep", FunctionTransformer(without_item_0)), ("taste", make_recommender())])


def test_a_pipeline_is_the_recommender_of_what_it_prepares(
    pipeline: Pipeline, make_recommender: Make, events: pd.DataFrame
) -> None:
    pipeline.fit(events)
    plain = make_recommender().fit(without_item_0(events))
    assert "i0" not in pipeline["taste"].item_ids_
    np.testing.assert_array_equal(
        pipeline.transform(events), plain.transform(without_item_0(events))
    )
    # None of the rows is lost where the users are asked for.
    kept = without_item_0(events)
    np.testing.assert_array_equal(pipeline.predict(kept, k=3), plain.predict(kept, k=3))
    assert pipeline.score(events) == plain.score(kept)
    names = [f"recommender{i}" for i in range(8)]
    assert list(pipeline["taste"].get_feature_names_out()) == names
    assert pipeline.get_params()["taste__user_encoder__n_layers"] == "auto"
    pipeline.set_params(taste__user_encoder__n_layers=1)
    assert pipeline["taste"].user_encoder.n_layers == 1


def test_user_vectors_are_features_of_another_estimator(
    make_recommender: Make, events: pd.DataFrame
) -> None:
    target = (events["user_id"] > "u3").astype(int)
    chain = make_pipeline(make_recommender(), StandardScaler(), LogisticRegression())
    assert chain.fit(events, target).score(events, target) == 1.0


def test_a_scorer_asks_the_last_step_and_the_best_estimator(
    pipeline: Pipeline, events: pd.DataFrame
) -> None:
    train, test = next(LeaveLastOut().split(events))
    scorer = make_ranking_scorer("hr", k=4)
    fitted = pipeline.fit(events.iloc[train])
    kept = without_item_0(events.iloc[test])
    expected = fitted["taste"].score(kept, metric="hr", k=4)
    assert scorer(fitted, events.iloc[test]) == expected
    assert 0 < expected < 1
    search = GridSearchCV(pipeline, {"taste__epochs": [1]}, cv=LeaveLastOut())
    assert scorer(search.fit(events.iloc[train]), events.iloc[test]) == expected
    through = Pipeline([("same", "passthrough"), ("taste", fitted["taste"])])
    assert scorer(through, kept) == expected


def test_several_metrics_of_a_pipeline(pipeline: Pipeline, events: pd.DataFrame) -> None:
    found = cross_validate(
        pipeline, events, cv=LeaveLastOut(n_splits=2), scoring=SCORERS, error_score="raise"
    )
    for name, scorer in SCORERS.items():
        by_hand = [
            scorer(pipeline.fit(events.iloc[train]), events.iloc[test])
            for train, test in LeaveLastOut(n_splits=2).split(events)
        ]
        np.testing.assert_allclose(found[f"test_{name}"], by_hand, atol=1e-12)


def test_grid_search_with_several_metrics_refits_the_one_named(
    make_recommender: Make, events: pd.DataFrame
) -> None:
    search = GridSearchCV(
        make_recommender(),
        {"user_encoder": ["gru", "transformer"], "user_encoder__pooling": ["last", "mean"]},
        scoring=SCORERS,
        refit="mrr",
        cv=LeaveLastOut(),
        error_score="raise",
    ).fit(events)
    results = search.cv_results_
    assert len(results["params"]) == 4
    assert search.best_index_ == int(np.argmax(results["mean_test_mrr"]))
    best = search.best_estimator_
    assert (
        type(best.user_encoder).__name__
        == {
            "gru": "GRUEncoder",
            "transformer": "TransformerEncoder",
        }[search.best_params_["user_encoder"]]
    )
    assert best.user_encoder.pooling == search.best_params_["user_encoder__pooling"]
    assert search.predict(
        events,
    ).shape == (len(events), 10)


def test_randomized_search_draws_the_same_for_a_seed(
    make_recommender: Make, events: pd.DataFrame
) -> None:
    from scipy.stats import loguniform, randint

    def search() -> RandomizedSearchCV:
        return RandomizedSearchCV(
            make_recommender(),
            {
                "learning_rate": loguniform(1e-4, 1e-1),
                "user_encoder__n_layers": randint(1, 3),
                "ranker__storage": ["float32", "int8"],
            },
            n_iter=3,
            cv=LeaveLastOut(),
            random_state=5,
            error_score="raise",
        ).fit(events)

    first, second = search(), search()
    assert first.cv_results_["params"] == second.cv_results_["params"]
    np.testing.assert_array_equal(
        first.cv_results_["mean_test_score"], second.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(
        first.best_estimator_.item_vectors_, second.best_estimator_.item_vectors_
    )


def test_processes_of_joblib_find_what_one_process_finds(
    make_recommender: Make, events: pd.DataFrame
) -> None:
    cv = LeaveLastOut(n_splits=2)
    alone = cross_validate(make_recommender(), events, cv=cv, error_score="raise")
    several = cross_validate(make_recommender(), events, cv=cv, error_score="raise", n_jobs=2)
    np.testing.assert_array_equal(alone["test_score"], several["test_score"])


def test_items_by_the_name_of_the_step_without_routing(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    chain = Pipeline(
        [
            ("keep", FunctionTransformer(without_item_0)),
            ("taste", make_recommender(item_encoder="bert+id")),
        ]
    )
    search = GridSearchCV(chain, {"taste__epochs": [1, 2]}, cv=LeaveLastOut(), error_score="raise")
    search.fit(events, taste__items=Items(items))
    assert len(search.best_estimator_["taste"].item_ids_) == len(items)


@pytest.mark.usefixtures("routed")
def test_items_are_routed_metadata(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    model = make_recommender(item_encoder="bert+id").set_fit_request(items=True)
    chain = Pipeline([("keep", FunctionTransformer(without_item_0)), ("taste", model)])
    chain.fit(events, items=Items(items))
    plain = make_recommender(item_encoder="bert+id").fit(without_item_0(events), items=items)
    np.testing.assert_array_equal(chain["taste"].item_vectors_, plain.item_vectors_)
    found = cross_validate(
        chain,
        events,
        cv=LeaveLastOut(),
        params={"items": Items(items)},
        scoring=SCORERS,
        error_score="raise",
        return_estimator=True,
    )
    assert len(found["estimator"][0]["taste"].item_ids_) == len(items)
    for search in (
        GridSearchCV(chain, {"taste__dim": [8, 4]}, cv=LeaveLastOut(), error_score="raise"),
        RandomizedSearchCV(
            model, {"dim": [8, 4]}, n_iter=2, cv=LeaveLastOut(), error_score="raise"
        ),
    ):
        search.fit(events, items=Items(items))
        assert len(search.cv_results_["params"]) == 2
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.usefixtures("routed")
def test_items_are_routed_only_where_they_were_asked_for(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    chain = make_pipeline(make_recommender(item_encoder="bert+id"))
    with pytest.raises(UnsetMetadataPassedError, match=r"\[items\]"):
        chain.fit(events, items=Items(items))
    ids = make_pipeline(make_recommender().set_fit_request(items=False))
    ids.fit(events)
    assert len(ids[-1].item_ids_) == events["item_id"].nunique()


@pytest.mark.usefixtures("routed")
def test_metric_and_k_are_routed_to_score(make_recommender: Make, events: pd.DataFrame) -> None:
    train, test = next(LeaveLastOut().split(events))
    model = make_recommender().set_score_request(metric=True, k=True)
    chain = make_pipeline(model).fit(events.iloc[train])
    expected = chain[-1].score(events.iloc[test], metric="hr", k=4)
    assert chain.score(events.iloc[test], metric="hr", k=4) == expected


def test_requests_survive_cloning(make_recommender: Make) -> None:
    from sklearn.base import clone

    with config_context(enable_metadata_routing=True):
        model = clone(make_recommender().set_fit_request(items=True))
        assert model.get_metadata_routing().fit.requests["items"] is True

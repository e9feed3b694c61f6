"""Metrics: hand answers, trec_eval as the oracle, tables of every kind, errors word by word."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, KFold, cross_validate

from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.metrics import (
    ACCURACY_METRICS,
    average_precision,
    coverage,
    evaluate,
    find_hits,
    hit_rate,
    make_ranking_scorer,
    ndcg,
    novelty,
    popularity,
    precision,
    rank_metrics,
    recall,
    reciprocal_rank,
)

TREC = {
    "hr": "success",
    "recall": "recall",
    "precision": "P",
    "ndcg": "ndcg_cut",
    "mrr": "recip_rank",
    "map": "map_cut",
}


def draw_rankings(seed, n_users=29, width=7, n_items=41):
    """Random rankings, some short or empty, and truths of 1 to 12 items, some far from them."""
    rng = np.random.default_rng(seed)
    ranked = np.full((n_users, width), -1)
    truth = []
    for user in range(n_users):
        length = rng.integers(0, width + 1)
        ranked[user, :length] = rng.choice(n_items, size=length, replace=False)
        low = n_items if user % 5 == 0 else 0  # every fifth user's truth cannot be hit
        truth.append(low + rng.choice(n_items, size=rng.integers(1, 13), replace=False))
    indptr = np.concatenate([[0], np.cumsum([len(items) for items in truth])])
    return ranked, indptr, np.concatenate(truth)


def trec_values(ranked, indptr, indices, metric, k):
    qrels, run = {}, {}
    for user, row in enumerate(ranked):
        items = indices[indptr[user] : indptr[user + 1]]
        qrels[str(user)] = {str(item): 1 for item in items}
        places = [(str(item), place) for place, item in enumerate(row[:k]) if item >= 0]
        if places:
            run[str(user)] = {item: float(len(row) - place) for item, place in places}
    name = TREC[metric]
    measure = name if metric == "mrr" else f"{name}.{k}"
    found = pytrec_eval.RelevanceEvaluator(qrels, {measure}).evaluate(run)
    key = measure.replace(".", "_")
    return np.array([found.get(str(user), {key: 0.0})[key] for user in range(len(ranked))])


@pytest.mark.parametrize("metric", sorted(ACCURACY_METRICS))
@pytest.mark.parametrize("k", [1, 3, 7])
def test_each_user_equals_trec_eval(metric, k):
    for seed in range(4):
        ranked, indptr, indices = draw_rankings(seed)
        oracle = trec_values(ranked, indptr, indices, metric, k)
        assert 0 < np.count_nonzero(oracle) < len(oracle)
        values = ACCURACY_METRICS[metric](find_hits(ranked, indptr, indices), k)
        np.testing.assert_allclose(values, oracle, rtol=0, atol=1e-12)
        mean = rank_metrics(ranked, indptr, indices, k=k, metrics=[metric])
        assert mean == {f"{metric}@{k}": pytest.approx(oracle.mean(), abs=1e-12)}


def test_hand_worked_answers():
    # Truth 2, 9, 5, 6; the ranking hits at ranks 2 and 4 of five.
    hits = find_hits([[4, 2, 8, 9, 0]], [0, 4], [2, 9, 5, 6])
    log = np.log2
    assert hit_rate(hits, 1) == 0
    assert hit_rate(hits, 2) == 1
    assert recall(hits, 5) == 2 / 4
    assert recall(hits, 3) == 1 / 4
    assert precision(hits, 5) == 2 / 5
    assert precision(hits, 2) == 1 / 2
    assert reciprocal_rank(hits, 5) == 1 / 2
    assert reciprocal_rank(hits, 1) == 0
    assert average_precision(hits, 5) == pytest.approx((1 / 2 + 2 / 4) / 4)
    ideal_4 = 1 + 1 / log(3) + 1 / log(4) + 1 / log(5)
    assert ndcg(hits, 5) == pytest.approx((1 / log(3) + 1 / log(5)) / ideal_4)
    # The ideal list of length 2 has two items, although four are relevant.
    assert ndcg(hits, 2) == pytest.approx((1 / log(3)) / (1 + 1 / log(3)))


def test_k_above_the_width_adds_misses():
    hits = find_hits([[3, 1]], [0, 2], [1, 8])
    assert precision(hits, 4) == 1 / 4
    assert recall(hits, 4) == 1 / 2
    assert ndcg(hits, 4) == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))


def test_a_repeat_in_the_truth_counts_once():
    ranked = [[3, 1, 2]]
    for metric in ACCURACY_METRICS:
        once = rank_metrics(ranked, [0, 2], [1, 8], k=3, metrics=[metric])
        assert rank_metrics(ranked, [0, 4], [1, 8, 1, 1], k=3, metrics=[metric]) == once


def test_no_recommendations_is_zero_and_no_truth_is_left_out():
    ranked, indptr, indices = [[-1, -1], [5, 6], [5, 6]], [0, 1, 1, 2], [5, 5]
    hits = find_hits(ranked, indptr, indices)
    for metric, function in ACCURACY_METRICS.items():
        values = function(hits, 2)
        assert np.array_equal(np.sign(values), [0, np.nan, 1], equal_nan=True), metric
    assert rank_metrics(ranked, indptr, indices, k=2, metrics=["hr"]) == {"hr@2": 0.5}
    assert np.isnan(rank_metrics([[1]], [0, 0], [], k=1)["ndcg@1"])


def test_a_gap_keeps_the_places_after_it():
    assert reciprocal_rank(find_hits([[-1, -1, 7]], [0, 1], [7]), 3) == 1 / 3


def test_a_padded_place_is_no_item_of_the_user_before():
    # Code 4 is the greatest, so user 1's padding has the key of user 0's item 4.
    assert not find_hits([[0, 1], [-1, 2]], [0, 1, 2], [4, 3]).hit.any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_batch_equals_one_by_one_and_stays_in_range(seed, k):
    ranked, indptr, indices = draw_rankings(seed, n_users=6, width=5, n_items=14)
    together = find_hits(ranked, indptr, indices)
    for metric, function in ACCURACY_METRICS.items():
        values = function(together, k)
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
        for user in range(len(ranked)):
            truth = indices[indptr[user] : indptr[user + 1]]
            alone = find_hits(ranked[[user]], [0, len(truth)], truth)
            assert function(alone, k)[0] == values[user], metric


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ([[1, 2], [3, 3]], [0, 1, 1], [1]),
            "ranked must not repeat an item within a row; row 1 repeats 3.",
        ),
        (([1, 2], [0, 1], [1]), "ranked must have the shape (n_users, width); its shape is (2,)."),
        (
            ([[1, 2]], [0, 1, 2], [1, 2]),
            "indptr must hold 2 integers that start at 0 and never fall, one more than the rows "
            "of ranked; its shape is (3,).",
        ),
        (
            ([[1, 2]], [0, 2], [1, -4]),
            "indices must hold indptr[-1] = 2 codes of at least 0; its shape is (2,) and its "
            "least value -4.",
        ),
        (
            ([[1, -2]], [0, 1], [1]),
            "ranked must hold codes of at least 0, or -1 for no item; its least value is -2.",
        ),
        (([[1.5]], [0, 1], [1]), "ranked must hold integers; its type is float64."),
    ],
)
def test_find_hits_errors(arguments, message):
    with pytest.raises(InvalidInputError) as error:
        find_hits(*arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be an integer of at least 1; got 0."),
        ({"k": []}, "k must name at least one list length; got an empty list."),
        (
            {"metrics": ["auc"]},
            "metrics must be one of 'hr', 'recall', 'precision', 'ndcg', 'mrr', 'map'; got 'auc'.",
        ),
    ],
)
def test_rank_metrics_errors(options, message):
    with pytest.raises(InvalidParameterError) as error:
        rank_metrics([[1]], [0, 1], [1], **options)
    assert str(error.value) == message


def test_coverage_by_hand():
    ranked = np.array([[4, 2, -1], [4, 1, 0], [-1, -1, -1]])
    assert coverage(ranked, 1, 20) == 1 / 20
    assert coverage(ranked, 3, 20) == 4 / 20
    with pytest.raises(InvalidInputError) as error:
        coverage(ranked, 3, 3)
    assert str(error.value) == (
        "n_items must be at least the number of distinct items recommended, 4; got 3."
    )


def test_novelty_by_hand():
    # Four users; item 0 is had by all, item 1 by one (three times), item 2 by none.
    share = popularity([0, 1, 2, 3, 2, 2, 2], [0, 0, 0, 0, 1, 1, 1], n_items=3)
    np.testing.assert_array_equal(share, [1.0, 0.25, 0.0])
    ranked = np.array([[0, 1, 2], [1, -1, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(novelty(ranked, 3, share, 4), [4 / 3, 2.0, np.nan])
    np.testing.assert_array_equal(novelty(ranked, 1, share, 4), [0.0, 2.0, np.nan])


# Tables


RECOMMENDATIONS = {
    "user_id": ["u", "v", "u", "v", "u", "z"],
    "item_id": ["i3", "i1", "i1", "i4", "i2", "i9"],
    "score": [0.9, 0.8, 0.7, 0.2, 0.1, 0.5],
    "rank": [1, 1, 2, 2, 3, 1],
}
TRUTH = {"user_id": ["w", "u", "v", "u", "u"], "item_id": ["i1", "i1", "i4", "i5", "i1"]}
KINDS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truth_kind", KINDS)
@pytest.mark.parametrize("drop", ["score", "rank"])
def test_evaluate_by_hand_for_every_kind_of_table(kind, truth_kind, drop):
    columns = {name: values for name, values in RECOMMENDATIONS.items() if name != drop}
    found = evaluate(
        KINDS[kind](columns), KINDS[truth_kind](TRUTH), k=[1, 3], metrics=("hr", "mrr", "recall")
    )
    # u: i3, i1*, i2 of {i1, i5}; v: i1, i4* of {i4}; w has no recommendations.
    assert found == pytest.approx(
        {
            "hr@1": 0,
            "hr@3": 2 / 3,
            "mrr@1": 0,
            "mrr@3": (1 / 2 + 1 / 2 + 0) / 3,
            "recall@1": 0,
            "recall@3": (1 / 2 + 1 + 0) / 3,
        }
    )
    assert list(found) == ["hr@1", "hr@3", "mrr@1", "mrr@3", "recall@1", "recall@3"]


def test_evaluate_coverage_and_novelty():
    history = pd.DataFrame({"user_id": ["a", "b", "b", "b"], "item_id": ["i1", "i1", "i3", "i3"]})
    found = evaluate(
        pd.DataFrame(RECOMMENDATIONS),
        pd.DataFrame(TRUTH),
        k=2,
        metrics=["novelty", "coverage", "hr"],
        n_items=10,
        history=history,
    )
    # Shown to users with truth: i3, i1 and i1, i4. Bits: i1 0; i3 1; i4, that nobody had, 1.
    assert found == pytest.approx({"novelty@2": 0.5, "coverage@2": 0.3, "hr@2": 2 / 3})


def test_evaluate_equals_the_arrays_on_random_rankings():
    ranked, indptr, indices = draw_rankings(11)
    user, place = np.nonzero(ranked >= 0)
    table = pd.DataFrame({"user_id": user, "item_id": ranked[user, place], "rank": place + 1})
    truth = np.column_stack([np.repeat(np.arange(len(ranked)), np.diff(indptr)), indices])
    table, truth = table.sample(frac=1, random_state=3), np.random.default_rng(5).permutation(truth)
    metrics = list(ACCURACY_METRICS)
    assert evaluate(table, truth, k=[2, 5], metrics=metrics) == pytest.approx(
        rank_metrics(ranked, indptr, indices, k=[2, 5], metrics=metrics)
    )


def test_equal_scores_keep_the_order_of_rows():
    table = pd.DataFrame({"user_id": [1] * 3, "item_id": [5, 3, 9], "score": [0.5, 0.5, 0.5]})
    found = evaluate(table, pd.DataFrame({"user_id": [1], "item_id": [3]}), k=3, metrics=["mrr"])
    assert found == {"mrr@3": 0.5}


def test_unsigned_scores_and_absent_rows():
    table = pl.DataFrame({"user_id": [1, 1], "item_id": [5, 3], "score": [0, 200]})
    table = table.with_columns(pl.col("score").cast(pl.UInt8))
    truth = pl.DataFrame({"user_id": [1], "item_id": [3]})
    assert evaluate(table, truth, k=1) == {"ndcg@1": 1.0, "hr@1": 1.0}
    assert evaluate(table[:0], truth, k=1) == {"ndcg@1": 0.0, "hr@1": 0.0}


def test_ids_of_other_widths_meet():
    table = pd.DataFrame({"user_id": [1, 1], "item_id": [5, 3], "rank": [1.0, 2.0]})
    truth = pa.table({"user_id": pa.array([1], pa.int16()), "item_id": pa.array([3], pa.uint64())})
    assert evaluate(table, truth, k=2, metrics=["mrr"]) == {"mrr@2": 0.5}


def _changed(**columns):
    return pd.DataFrame({**RECOMMENDATIONS, **columns})


@pytest.mark.parametrize(
    ("table", "truth", "options", "kind", "message"),
    [
        (
            _changed(item_id=["i3", "i1", "i3", "i4", "i2", "i9"]),
            TRUTH,
            {},
            InvalidInputError,
            "recommendations must not repeat an item within a user; user 'u' has item 'i3' twice.",
        ),
        (
            _changed(rank=[1, 1, 1, 2, 3, 1]),
            TRUTH,
            {},
            InvalidInputError,
            "column 'rank' of recommendations must not repeat a rank within a user; "
            "user 'u' has rank 1 twice.",
        ),
        (
            _changed(rank=[1, 1, 0, 2, 3, 1]),
            TRUTH,
            {},
            InvalidInputError,
            "column 'rank' of recommendations must hold whole numbers of at least 1; row 2 is 0.",
        ),
        (
            pd.DataFrame(RECOMMENDATIONS).drop(columns=["rank", "score"]),
            TRUTH,
            {},
            InvalidInputError,
            "recommendations must have a column 'score'; its columns are 'user_id', 'item_id'.",
        ),
        (
            _changed(rank=[1, 1, 2, 2, 3, np.nan]),
            TRUTH,
            {},
            InvalidInputError,
            "column 'rank' of recommendations must hold numbers, none missing; row 5 is nan.",
        ),
        (
            _changed(),
            {"user_id": [1], "item_id": ["i1"]},
            {},
            InvalidInputError,
            "column 'user_id' must have ids of one kind; it holds numbers in truth, text in "
            "recommendations.",
        ),
        (
            _changed(),
            {"user_id": np.array([], dtype=object), "item_id": np.array([], dtype=object)},
            {},
            InvalidInputError,
            "truth must hold at least one event; it has no rows.",
        ),
        (
            _changed(),
            TRUTH,
            {"metrics": ["coverage"]},
            InvalidParameterError,
            "n_items must be the size of the catalogue when metrics name 'coverage'; got None.",
        ),
        (
            _changed(),
            TRUTH,
            {"metrics": ["novelty"]},
            InvalidParameterError,
            "history must be the event table of training when metrics name 'novelty'; got None.",
        ),
        (
            _changed(),
            TRUTH,
            {"metrics": ["auc"]},
            InvalidParameterError,
            "metrics must be one of 'hr', 'recall', 'precision', 'ndcg', 'mrr', 'map', "
            "'coverage', 'novelty'; got 'auc'.",
        ),
    ],
)
def test_evaluate_errors(table, truth, options, kind, message):
    with pytest.raises(kind) as error:
        evaluate(table, pd.DataFrame(truth), **options)
    assert str(error.value) == message


# The scorer


class LastItems(BaseEstimator):
    """Scores how it was asked, so that the scorer's arguments can be seen."""

    def __init__(self, shift=0):
        self.shift = shift

    def fit(self, X, y=None):
        self.n_ = len(X)
        return self

    def score(self, X, y=None, *, metric, k, filter_viewed):
        assert metric == "recall"
        assert filter_viewed is False
        return k + self.shift + len(X) / 100


def test_the_scorer_passes_its_options_on_in_scikit_learn():
    scorer = make_ranking_scorer("recall", k=3, filter_viewed=False)
    X = pd.DataFrame({"user_id": range(10), "item_id": range(10)})
    found = cross_validate(LastItems(), X, scoring={"r": scorer}, cv=KFold(2), error_score="raise")
    np.testing.assert_allclose(found["test_r"], [3.05, 3.05])
    search = GridSearchCV(LastItems(), {"shift": [0, 7, 1]}, scoring=scorer, cv=KFold(2))
    assert clone(search).fit(X).best_params_ == {"shift": 7}


def test_the_scorer_is_a_value():
    scorer = make_ranking_scorer("map", k=4)
    assert pickle.loads(pickle.dumps(scorer)) == scorer == copy.deepcopy(scorer)
    assert clone(scorer, safe=False) == scorer
    assert scorer != make_ranking_scorer("map", k=5)


def test_scorer_errors():
    with pytest.raises(InvalidParameterError) as error:
        make_ranking_scorer("coverage")
    assert str(error.value) == (
        "metric must be one of 'hr', 'recall', 'precision', 'ndcg', 'mrr', 'map'; got 'coverage'."
    )
    with pytest.raises(
        InvalidParameterError, match=r"^k must be an integer of at least 1; got 0.$"
    ):
        make_ranking_scorer(k=0)


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_ids_that_are_times_are_equal_in_any_unit(unit):
    days = pd.date_range("2024-01-01", periods=3)
    truth = pd.DataFrame({"user_id": list("abc"), "item_id": days.as_unit("ns")})
    found = pd.DataFrame({"user_id": list("abc"), "item_id": days.as_unit(unit), "rank": 1})
    assert evaluate(found, truth)["hr@10"] == 1.0


def test_codes_may_be_as_large_as_integers_go():
    top = 2**63 - 1
    hits = find_hits([[top, 5, -1], [top - 1, 0, top]], indptr=[0, 2, 3], indices=[top, 7, top])
    assert hits.hit.tolist() == [[True, False, False], [False, False, True]]
    assert hits.n_relevant.tolist() == [2, 1]


def test_dates_of_another_name_mean_nothing_where_order_does_not_count():
    truth = pd.DataFrame({"user_id": ["a"], "item_id": [7], "bought": [pd.Timestamp("2024-01-01")]})
    found = pd.DataFrame({"user_id": ["a"], "item_id": [7], "rank": [1]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = evaluate(found, truth, metrics=["hr", "novelty"], history=truth)
    assert values["hr@10"] == 1.0


def test_ids_of_several_kinds_in_any_order():
    mixed = {"user_id": pd.Series(["a", 1], dtype=object), "item_id": ["y", "x"], "rank": [1, 1]}
    truth = {"user_id": pd.Series([1, "a"], dtype=object), "item_id": ["x", "y"]}
    assert evaluate(pd.DataFrame(mixed), pd.DataFrame(truth), metrics=["hr"]) == {"hr@10": 1.0}


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_whole_scores_beyond_a_float_are_told_apart(kind):
    scores = np.array([2**53, 2**53 + 1], kind)
    table = pd.DataFrame({"user_id": ["a", "a"], "item_id": ["x", "y"], "score": scores})
    truth = pd.DataFrame({"user_id": ["a"], "item_id": ["y"]})
    assert evaluate(table, truth, k=1, metrics=["hr"]) == {"hr@1": 1.0}


def test_counting_refuses_what_is_no_code():
    with pytest.raises(InvalidInputError) as error:
        popularity([0, 1], [3, 7], n_items=4)
    assert str(error.value) == "items must hold codes from 0 to 3; event 1 has 7."
    # Codes of users may be of any size.
    assert popularity([2**62, 2**62 + 1], [1, 1], n_items=4).tolist() == [0, 1, 0, 0]
    for call in (
        lambda: coverage(np.array([[4, 2, 1]]), -1, 12),
        lambda: novelty(np.array([[0]]), 0, np.ones(1), 1),
    ):
        with pytest.raises(InvalidParameterError, match="k must be an integer of at least 1"):
            call()


def test_a_history_without_events_has_no_novelty():
    empty = pd.DataFrame({"user_id": [], "item_id": []})
    with pytest.raises(InvalidInputError) as error:
        evaluate(
            pd.DataFrame(RECOMMENDATIONS), pd.DataFrame(TRUTH), metrics=["novelty"], history=empty
        )
    assert str(error.value) == "history must hold at least one event; it has no rows."

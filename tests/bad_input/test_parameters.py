"""Numbers and choices out of range, at every entry that takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import CosineRanker, Recommender, Reranker, RunOptions
from palate.exceptions import InvalidParameterError
from palate.metrics import evaluate, make_ranking_scorer, rank_metrics

EVENTS = pd.DataFrame(
    {"user_id": ["u0", "u1"], "item_id": ["c", "d"], "timestamp": [90, 91]}, index=[0, 0]
)
RANKED = pd.DataFrame({"user_id": ["u0"], "item_id": ["a"], "rank": [1]})
VECTORS = np.eye(4, 3, dtype=np.float32)

# Entries with a `k`: what is asked, and of which model.
ENTRIES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "recommend": (lambda model, k: model.recommend(k=k), "learned"),
    "recommend histories": (lambda model, k: model.recommend(histories=[["a"]], k=k), "learned"),
    "recommend texts": (lambda model, k: model.recommend(texts=[["a"]], k=k), "reader"),
    "recommend_to_items": (lambda model, k: model.recommend_to_items(["a"], k=k), "learned"),
    "predict": (lambda model, k: model.predict(EVENTS, k=k), "learned"),
    "score": (lambda model, k: model.score(EVENTS, k=k), "learned"),
    "MostPopular.recommend": (lambda model, k: model.recommend(k=k), "popular"),
    "MostPopular.score": (lambda model, k: model.score([["a"]], k=k), "popular"),
    "evaluate": (lambda _, k: evaluate(RANKED, EVENTS, k=k), "learned"),
    "rank_metrics": (lambda _, k: rank_metrics([[1]], [0, 1], [1], k=k), "learned"),
    "make_ranking_scorer": (lambda _, k: make_ranking_scorer(k=k), "learned"),
    "CosineRanker.topk": (
        lambda _, k: CosineRanker().fit(VECTORS).topk(VECTORS, k),
        "learned",
    ),
}
NO_K: dict[str, tuple[Any, str]] = {
    "0": (0, "0"),
    "below 0": (-3, "-3"),
    "far below 0": (-(2**70), "-1180591620717411303424"),
    "bool": (True, "True"),
    "NumPy's bool": (np.True_, "np.True_"),
    "float": (2.0, "2.0"),
    "NumPy's float": (np.float64(2), "np.float64(2.0)"),
    "NaN": (float("nan"), "nan"),
    "text": ("3", "'3'"),
    "None": (None, "None"),
    "array of no dimension": (np.array(2), "array(2)"),
    "dict": ({"k": 1}, "{'k': 1}"),
    "set": ({3}, "{3}"),
}


@pytest.mark.parametrize("case", list(NO_K))
@pytest.mark.parametrize("entry", list(ENTRIES))
def test_k_refused(entry: str, case: str, request: pytest.FixtureRequest, refused: Any) -> None:
    ask, fixture = ENTRIES[entry]
    model = request.getfixturevalue(fixture)
    k, written = NO_K[case]
    refused(
        lambda: ask(model, k),
        InvalidParameterError,
        f"k must be an integer of at least 1; got {written}.",
        model,
    )


@pytest.mark.parametrize("k", [10**6, 2**31, 10**12, 2**63, 2**70], ids=str)
@pytest.mark.parametrize(
    "entry", ["recommend", "recommend histories", "recommend texts", "recommend_to_items"]
)
def test_a_huge_k_is_the_whole_catalogue(
    entry: str, k: int, request: pytest.FixtureRequest
) -> None:
    ask, fixture = ENTRIES[entry]
    model = request.getfixturevalue(fixture)
    pd.testing.assert_frame_equal(ask(model, k), ask(model, 4))


@pytest.mark.parametrize("k", [10**6, 10**12, 2**63, 2**70], ids=str)
@pytest.mark.parametrize("entry", ["score", "MostPopular.score", "evaluate", "rank_metrics"])
def test_a_huge_k_changes_no_metric(entry: str, k: int, request: pytest.FixtureRequest) -> None:
    ask, fixture = ENTRIES[entry]
    model = request.getfixturevalue(fixture)
    huge, plain = ask(model, k), ask(model, 4)
    if isinstance(plain, dict):
        huge, plain = list(huge.values()), list(plain.values())
    assert huge == plain


@pytest.mark.parametrize("case", ["huge k"])
@pytest.mark.parametrize("entry", ["predict", "CosineRanker.topk"])
def test_answers_that_are_k_wide(entry: str, case: str, learned: Recommender, refused: Any) -> None:
    if entry == "predict":
        wide = learned.predict(EVENTS, k=10**6)
        assert wide.shape == (2, 10**6)
        assert wide[:, :4].tolist() == learned.predict(EVENTS, k=4).tolist()
        assert set(wide[:, 4:].ravel()) == {None}
        refused(
            lambda: learned.predict(EVENTS, k=2**63),
            InvalidParameterError,
            f"k must be small enough for 2 rows of k ids to fit in memory; got {2**63}.",
            learned,
        )
        return
    ranker = CosineRanker().fit(VECTORS)
    assert (ranker.topk(VECTORS, 10**5).indices[:, 4:] == -1).all()
    refused(
        lambda: ranker.topk(VECTORS, 2**31),
        InvalidParameterError,
        "k must be an integer of at most 2147483647; got 2147483648.",
    )


@pytest.mark.parametrize("k", [np.int8(2), np.uint64(2), np.int64(2)], ids=repr)
@pytest.mark.parametrize("entry", list(ENTRIES))
def test_numpys_integers_are_integers(entry: str, k: Any, request: pytest.FixtureRequest) -> None:
    ask, fixture = ENTRIES[entry]
    model = request.getfixturevalue(fixture)
    assert str(ask(model, k)) == str(ask(model, 2))


FLAGS: dict[str, Callable[[Any, Any], Any]] = {
    "recommend filter_viewed": lambda m, value: m.recommend(filter_viewed=value),
    "predict filter_viewed": lambda m, value: m.predict(EVENTS, filter_viewed=value),
    "score filter_viewed": lambda m, value: m.score(EVENTS, filter_viewed=value),
    "recommend_to_items filter_itself": lambda m, value: m.recommend_to_items(
        ["a"], filter_itself=value
    ),
    "make_ranking_scorer filter_viewed": lambda _, value: make_ranking_scorer(filter_viewed=value),
}
NO_FLAG: dict[str, tuple[Any, str]] = {
    "None": (None, "None"),
    "text": ("yes", "'yes'"),
    "number": (2, "2"),
    "array": (np.array([True, False]), "array([ True, False])"),
    "array of one": (np.array([True]), "array([ True])"),
    "NA": (pd.NA, "<NA>"),
    "list": ([True], "[True]"),
}


@pytest.mark.parametrize("case", list(NO_FLAG))
@pytest.mark.parametrize("entry", list(FLAGS))
def test_flags(entry: str, case: str, learned: Recommender, refused: Any) -> None:
    value, written = NO_FLAG[case]
    refused(
        lambda: FLAGS[entry](learned, value),
        InvalidParameterError,
        f"{entry.split()[1]} must be one of True, False; got {written}.",
        learned,
    )


NO_CHOICE: dict[str, tuple[Any, str]] = {
    "None": (None, "None"),
    "text": ("skip", "'skip'"),
    "what the code says inside": ("must know", "'must know'"),
    "list": (["raise"], "['raise']"),
    "array": (np.array(["raise", "warn"]), "array(['raise', 'warn'], dtype='<U5')"),
    "bool": (True, "True"),
}
ON_UNSUPPORTED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "recommend": (lambda m, on: m.recommend(["u0"], on_unsupported_targets=on), "learned"),
    "recommend histories": (
        lambda m, on: m.recommend(histories=[["a"]], on_unsupported_targets=on),
        "learned",
    ),
    "recommend texts": (
        lambda m, on: m.recommend(texts=[["a"]], on_unsupported_targets=on),
        "reader",
    ),
    "recommend_to_items": (
        lambda m, on: m.recommend_to_items(["a"], on_unsupported_targets=on),
        "learned",
    ),
    "observe": (lambda m, on: m.observe(EVENTS, on_unsupported_targets=on), "learned"),
}


@pytest.mark.parametrize("case", list(NO_CHOICE))
@pytest.mark.parametrize("entry", list(ON_UNSUPPORTED))
def test_on_unsupported_targets(
    entry: str, case: str, request: pytest.FixtureRequest, refused: Any
) -> None:
    ask, fixture = ON_UNSUPPORTED[entry]
    model = request.getfixturevalue(fixture)
    value, written = NO_CHOICE[case]
    names = "'raise', 'warn', 'ignore', 'popular'"
    if entry in ("recommend_to_items", "observe"):
        names = "'raise', 'warn', 'ignore'"
    refused(
        lambda: ask(model, value),
        InvalidParameterError,
        f"on_unsupported_targets must be one of {names}; got {written}.",
        model,
    )


METRICS = "'hr', 'recall', 'precision', 'ndcg', 'mrr', 'map'"
NO_METRIC: dict[str, tuple[Any, str]] = {
    "None": (None, "None"),
    "text": ("auc", "'auc'"),
    "list": (["ndcg"], "['ndcg']"),
    "array": (np.array(["ndcg"]), "array(['ndcg'], dtype='<U4')"),
    "number": (10, "10"),
}


@pytest.mark.parametrize("case", list(NO_METRIC))
@pytest.mark.parametrize("entry", ["score", "MostPopular.score", "make_ranking_scorer"])
def test_metric(entry: str, case: str, learned: Recommender, popular: Any, refused: Any) -> None:
    value, written = NO_METRIC[case]
    calls = {
        "score": lambda: learned.score(EVENTS, metric=value),
        "MostPopular.score": lambda: popular.score([["a"]], metric=value),
        "make_ranking_scorer": lambda: make_ranking_scorer(value),
    }
    message = f"metric must be one of {METRICS}; got {written}."
    refused(calls[entry], InvalidParameterError, message, learned, popular)


# Parameters of the constructor are checked by fit and partial_fit, which then leave all as it was.
FIT: dict[str, tuple[dict[str, Any], type, str]] = {
    "dim bool": (
        {"dim": True},
        ValueError,
        "dim must be an integer of at least 1 or 'auto'; got True.",
    ),
    "dim text": (
        {"dim": "3"},
        ValueError,
        "dim must be an integer of at least 1 or 'auto'; got '3'.",
    ),
    "epochs None": (
        {"epochs": None},
        ValueError,
        "epochs must be an integer of at least 0 or 'auto'; got None.",
    ),
    "rate text": (
        {"learning_rate": "x"},
        ValueError,
        "learning_rate must be a number in (0, inf); got 'x'.",
    ),
    "rate infinite": (
        {"learning_rate": float("inf")},
        ValueError,
        "learning_rate must be a number in (0, inf); got inf.",
    ),
    "decay infinite": (
        {"weight_decay": float("inf")},
        ValueError,
        "weight_decay must be a number in [0, inf); got inf.",
    ),
    "fraction bool": (
        {"validation_fraction": True},
        ValueError,
        "validation_fraction must be a number in [0, 1]; got True.",
    ),
    "metric array": (
        {"metric": np.array(["cosine"])},
        ValueError,
        "metric must be one of 'cosine', 'dot', 'euclidean'; got array(['cosine'], dtype='<U6').",
    ),
    "options text": (
        {"options": "cpu"},
        ValueError,
        "options must be a RunOptions or None; got 'cpu'.",
    ),
    "encoder None": (
        {"user_encoder": None},
        ValueError,
        "user_encoder must be one of 'gru', 'transformer', or a spec of that kind; got None "
        "(it lacks build).",
    ),
    "re-ranker bool": (
        {"reranker": True},
        ValueError,
        "reranker must be None, one of 'gate', 'film', 'attention', or a spec of that kind; got "
        "True (it lacks check_parameters, build).",
    ),
    "re-ranker text": (
        {"reranker": "cosine"},
        ValueError,
        "reranker must be None, one of 'gate', 'film', 'attention', or a spec of that kind; got "
        "'cosine'.",
    ),
    "re-ranker infinite rate": (
        {"reranker": Reranker(learning_rate=float("inf"))},
        ValueError,
        "learning_rate must be a number in (0, inf); got inf.",
    ),
    # In scikit-learn's words, as its own estimators say it.
    "seed text": ({"random_state": "x"}, ValueError, "'x' cannot be used to seed…"),
    "seed below 0": ({"random_state": -1}, ValueError, "Seed must be between 0 and 2**32 - 1"),
    "seed of 40 bits": ({"random_state": 2**40}, ValueError, "Seed must be between…"),
    "seed float": ({"random_state": 1.5}, ValueError, "1.5 cannot be used to seed…"),
    "seed generator": (
        {"random_state": np.random.default_rng(0)},
        ValueError,
        "Generator(PCG64)…",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(FIT))
@pytest.mark.parametrize("entry", ["fit", "partial_fit"])
def test_constructor(
    entry: str, case: str, learned: Recommender, popular: Any, refused: Any
) -> None:
    params, error, message = FIT[case]
    kept = {name: learned.get_params(deep=False)[name] for name in params}
    # The parameter is what the caller set, then and after; nothing learned moves.
    learned.set_params(**params)
    try:
        refused(lambda: getattr(learned, entry)(EVENTS), error, message)
        for name, value in params.items():
            assert getattr(learned, name) is value
    finally:
        for name, value in kept.items():
            setattr(learned, name, value)
    refused(lambda: learned.recommend(k=0), ValueError, "k must be…", learned)


@pytest.mark.parametrize("value", [-1, 1.5, True, "2"], ids=repr)
@pytest.mark.parametrize("entry", ["partial_fit epochs"])
def test_epochs(entry: str, value: Any, learned: Recommender, refused: Any) -> None:
    message = f"epochs must be an integer of at least 0 or 'auto'; got {value!r}."
    refused(
        lambda: learned.partial_fit(EVENTS, epochs=value), InvalidParameterError, message, learned
    )
    fresh = Recommender(item_encoder="id", options=learned.options)
    refused(lambda: fresh.partial_fit(EVENTS, epochs=value), InvalidParameterError, message, fresh)


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no users": (
        {"inference_batch_size": 0},
        "inference_batch_size must be an integer of at least 1; got 0.",
    ),
    "bool users": (
        {"inference_batch_size": True},
        "inference_batch_size must be an integer of at least 1; got True.",
    ),
    "negative memory": (
        {"user_vectors_mb": -1},
        "user_vectors_mb must be an integer of at least 0; got -1.",
    ),
    "unknown device": ({"device": "tpu"}, "device must be 'auto' or a device of this machine…"),
}


@pytest.mark.parametrize("case", list(OPTIONS))
@pytest.mark.parametrize("entry", ["RunOptions"])
def test_options(entry: str, case: str, learned: Recommender, refused: Any) -> None:
    params, message = OPTIONS[case]
    refused(
        lambda: Recommender(item_encoder="id", options=RunOptions(**params)).fit(EVENTS),
        InvalidParameterError,
        message,
        learned,
    )

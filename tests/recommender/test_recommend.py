"""What `recommend` returns, against an independent oracle, and its rules."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import CosineRanker, Recommender, Text, TransformerEncoder
from palate.exceptions import (
    InvalidInputError,
    InvalidParameterError,
    UnsupportedTargetError,
    UnsupportedTargetWarning,
)

Make = Callable[..., Recommender]
COLUMNS = ["user_id", "item_id", "score", "rank"]


def similarity(metric: str, u: np.ndarray, v: np.ndarray) -> float:
    """One similarity in float64, term by term."""
    dot = sum(float(a) * float(b) for a, b in zip(u, v, strict=True))
    if metric == "dot":
        return dot
    if metric == "euclidean":
        return -(sum((float(a) - float(b)) ** 2 for a, b in zip(u, v, strict=True)) ** 0.5)
    return dot / (sum(float(a) ** 2 for a in u) ** 0.5 * sum(float(b) ** 2 for b in v) ** 0.5)


def best(
    model: Recommender, vector: np.ndarray, k: int, banned: Collection[Any]
) -> list[tuple[Any, float]]:
    """The k best items of a user vector by a plain loop over the catalogue."""
    scored = [
        (-similarity(model.metric, vector, item_vector), place, item)
        for place, (item, item_vector) in enumerate(
            zip(model.item_ids_, model.item_vectors_, strict=True)
        )
        if item not in banned
    ]
    return [(item, -minus) for minus, _, item in sorted(scored)[:k]]


def assert_rows(table: pd.DataFrame, expected: dict[Any, list[tuple[Any, float]]]) -> None:
    assert list(table.columns) == COLUMNS
    rows = [
        (user, item, score, rank)
        for user, ranked in expected.items()
        for rank, (item, score) in enumerate(ranked, start=1)
    ]
    assert table["user_id"].tolist() == [row[0] for row in rows]
    assert table["item_id"].tolist() == [row[1] for row in rows]
    np.testing.assert_allclose(table["score"], [row[2] for row in rows], rtol=1e-5, atol=1e-6)
    assert table["rank"].tolist() == [row[3] for row in rows]


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_an_independent_oracle_agrees(
    metric: str, make_recommender: Make, events: pd.DataFrame, histories_of: Any
) -> None:
    model = make_recommender(metric=metric, epochs=3).fit(events)
    users = ["u6", "u0", "u3"]
    vectors = dict(zip(users, model.transform(pd.DataFrame({"user_id": users})), strict=True))
    histories = histories_of(events)
    expected = {user: best(model, vectors[user], 5, histories[user]) for user in users}
    assert len(expected["u6"]) == 1  # u6 saw 10 of 11 items
    assert_rows(model.recommend(users, k=5), expected)
    everything = {user: best(model, vectors[user], 5, []) for user in users}
    assert_rows(model.recommend(users, k=5, filter_viewed=False), everything)


def test_filters_agree_with_the_oracle(
    fitted_once: Recommender, events: pd.DataFrame, histories_of: Any
) -> None:
    model, users = fitted_once, ["u5", "u1"]
    vectors = dict(zip(users, model.transform(pd.DataFrame({"user_id": users})), strict=True))
    histories = histories_of(events)
    allowed, banned = ["i12", "i3", "i0", "i7", "i5", "i3"], ["i0", "i9"]
    for include, exclude in [(allowed, None), (None, banned), (allowed, banned), ([], banned)]:
        out = set(exclude or [])
        if include is not None:
            out |= set(model.item_ids_) - set(include)
        expected = {u: best(model, vectors[u], 4, out | set(histories[u])) for u in users}
        table = model.recommend(users, k=4, items_to_recommend=include, items_to_exclude=exclude)
        assert_rows(table, expected)


def test_many_excluded_items(options: Any, make_recommender: Make) -> None:
    # More than the few that are named pair by pair.
    histories = [list(range(i, 400, 7)) for i in range(7)]
    model = make_recommender(epochs=0).fit(histories)
    vectors = model.transform([histories[0]])
    exclude = [item for item in range(400) if item % 3]
    table = model.recommend([0], k=150, items_to_exclude=exclude)
    assert_rows(table, {0: best(model, vectors[0], 150, set(exclude) | set(histories[0]))})
    both = model.recommend(
        [0], k=9, items_to_exclude=exclude, items_to_recommend=range(1, 40), filter_viewed=False
    )
    banned = set(range(400)) - {item for item in range(1, 40) if item % 3 == 0}
    assert_rows(both, {0: best(model, vectors[0], 9, banned)})


@pytest.mark.parametrize("filter_viewed", [True, False])
def test_lists_are_full_and_without_duplicates(
    fitted_once: Recommender, events: pd.DataFrame, histories_of: Any, filter_viewed: bool
) -> None:
    k = 8
    table = fitted_once.recommend(k=k, filter_viewed=filter_viewed)
    histories = histories_of(events)
    n_items = len(fitted_once.item_ids_)
    assert set(table["user_id"]) == set(histories)
    for user, rows in table.groupby("user_id"):
        viewed = set(histories[user]) if filter_viewed else set()
        assert len(rows) == min(k, n_items - len(viewed))
        assert rows["item_id"].is_unique
        assert not set(rows["item_id"]) & viewed
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert (np.diff(rows["score"]) <= 0).all()


def test_k_beyond_the_catalogue(fitted_once: Recommender) -> None:
    table = fitted_once.recommend(["u2"], k=1000, filter_viewed=False)
    assert sorted(table["item_id"]) == sorted(fitted_once.item_ids_)


def test_ties_go_to_the_catalogue_order(make_recommender: Make, items: pd.DataFrame) -> None:
    # Items of equal text have equal content vectors.
    twins = items.assign(title=["red lamp", "blue chair"] * 6 + ["green book"])
    model = make_recommender(item_encoder="bert").fit([["i4", "i1", "i9"]], items=twins)
    table = model.recommend(histories=[["i1"]], k=13, filter_viewed=False)
    places = [list(model.item_ids_).index(item) for item in table["item_id"]]
    for _, rows in table.assign(place=places).groupby("score"):
        assert rows["place"].is_monotonic_increasing
    assert table["score"].nunique() == 3


def test_the_batch_size_and_the_company_do_not_matter(
    fitted_once: Recommender, encoding: Make
) -> None:
    model, whole = encoding(fitted_once), fitted_once.recommend(k=6)
    for size in (1, 2, 3, 5):
        small = encoding(fitted_once, inference_batch_size=size)
        pd.testing.assert_frame_equal(small.recommend(k=6), whole)
    alone = [model.recommend([user], k=6) for user in fitted_once.user_ids_]
    pd.testing.assert_frame_equal(pd.concat(alone, ignore_index=True), whole)


def test_an_int8_catalogue_answers_as_a_float_one(
    make_recommender: Make, events: pd.DataFrame
) -> None:
    exact = make_recommender().fit(events)
    quantised = make_recommender(ranker=CosineRanker(storage="int8")).fit(events)
    pd.testing.assert_frame_equal(quantised.recommend(k=4), exact.recommend(k=4))


def test_users_come_back_in_the_order_asked_and_as_often(fitted_once: Recommender) -> None:
    users = ["u3", "u0", "u3"]
    table = fitted_once.recommend(users, k=2)
    assert table["user_id"].tolist() == ["u3", "u3", "u0", "u0", "u3", "u3"]
    assert table["item_id"].tolist()[:2] == table["item_id"].tolist()[-2:]


@pytest.mark.parametrize("query", [{"users": []}, {"histories": []}, {"texts": []}])
def test_no_query_gives_no_row(fitted_once: Recommender, query: dict[str, Any]) -> None:
    table = fitted_once.recommend(**query)
    assert list(table.columns) == COLUMNS
    assert len(table) == 0


def test_an_empty_answer_keeps_the_types(make_recommender: Make) -> None:
    frame = pd.DataFrame({"user_id": [5, 5, 6], "item_id": [30, 31, 32]})
    model = make_recommender().fit(frame.astype({"user_id": "int32", "item_id": "uint16"}))
    full, empty = model.recommend([5], k=1), model.recommend([])
    assert full.dtypes.astype(str).to_dict() == {
        "user_id": "int32",
        "item_id": "uint16",
        "score": "float32",
        "rank": "int64",
    }
    assert empty.dtypes.tolist() == full.dtypes.tolist()


def test_a_known_user_and_the_same_history_agree(
    fitted_once: Recommender, events: pd.DataFrame, histories_of: Any
) -> None:
    histories = histories_of(events)
    by_user = fitted_once.recommend(list(histories), k=4)
    by_history = fitted_once.recommend(histories=list(histories.values()), k=4)
    assert sorted(set(by_history["user_id"])) == list(range(7))
    names = list(histories)
    renamed = by_history.assign(user_id=[names[i] for i in by_history["user_id"]])
    pd.testing.assert_frame_equal(renamed, by_user, check_dtype=False)


def test_only_the_most_recent_events_count(make_recommender: Make, events: pd.DataFrame) -> None:
    model = make_recommender(user_encoder=TransformerEncoder(max_length=3)).fit(events)
    long, short = ["i1", "i2", "i3", "i4", "i5"], ["i3", "i4", "i5"]
    answers = [
        model.recommend(histories=[history], k=3, filter_viewed=False)
        for history in (long, short, ["i2", *short[1:]])
    ]
    pd.testing.assert_frame_equal(answers[0], answers[1])
    assert not np.allclose(answers[0]["score"], answers[2]["score"])
    # The filter knows the whole history all the same.
    viewed = set(model.recommend(histories=[long], k=20)["item_id"]) & set(long)
    assert viewed == set()


def test_texts_and_texts_among_ids(fitted_once: Recommender, items: pd.DataFrame) -> None:
    titles = dict(zip(items["item_id"], items["title"], strict=True))
    spoken = fitted_once.recommend(texts=[[titles["i3"], "i bought a red book"], ["a lamp"]], k=5)
    assert spoken["user_id"].tolist() == [0] * 5 + [1] * 5
    mixed = fitted_once.recommend(
        histories=[[Text(titles["i3"]), Text("i bought a red book")], [Text("a lamp")]], k=5
    )
    pd.testing.assert_frame_equal(mixed, spoken)
    with_id = fitted_once.recommend(histories=[["i3", Text("a lamp")]], k=13)
    assert len(with_id) == 12
    assert "i3" not in with_id["item_id"].tolist()
    # A text is an event, never a filter: an item of the same words may be recommended.
    assert "i3" in fitted_once.recommend(texts=[[titles["i3"]]], k=13)["item_id"].tolist()


def test_texts_are_answered_in_batches_as_alone(fitted_once: Recommender, options: Any) -> None:
    model = copy.deepcopy(fitted_once)
    model.options = dataclasses.replace(options, inference_batch_size=2)
    texts = [["a lamp"], ["red chair", "a book"], ["a book", "a lamp", "blue"]]
    together = fitted_once.recommend(texts=texts, k=3)
    pd.testing.assert_frame_equal(model.recommend(texts=texts, k=3), together)
    for place, history in enumerate(texts):
        alone = fitted_once.recommend(texts=[history], k=3).assign(user_id=place)
        rows = together[together["user_id"] == place].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, rows)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"users": ["u0"], "k": 0}, "k must be an integer of at least 1; got 0."),
        ({"users": ["u0"], "k": 2.0}, "k must be an integer of at least 1; got 2.0."),
        ({"users": ["u0"], "k": True}, "k must be an integer of at least 1; got True."),
        (
            {"users": ["u0"], "filter_viewed": "no"},
            "filter_viewed must be one of True, False; got 'no'.",
        ),
        (
            {"users": ["u0"], "on_unsupported_targets": "skip"},
            "on_unsupported_targets must be one of 'raise', 'warn', 'ignore', 'popular'; "
            "got 'skip'.",
        ),
        (
            {"histories": [["i0"]], "on_unsupported_targets": None},
            "on_unsupported_targets must be one of 'raise', 'warn', 'ignore', 'popular'; got None.",
        ),
    ],
)
def test_parameters_out_of_range(
    fitted_once: Recommender, query: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        fitted_once.recommend(**query)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"users": "u0"}, "users must be a list of user ids; got 'u0'."),
        ({"users": 3}, "users must be a list of user ids; got 3."),
        (
            {"users": ["u0"], "histories": [["i0"]], "texts": [["a"]]},
            "one kind of query must be given at a time; got users and histories and texts.",
        ),
        ({"histories": "i0"}, "histories must be a list of histories; got 'i0'."),
        (
            {"histories": [["i0"], "i0"]},
            "histories must be a list of histories, each a list; history 1 is 'i0'.",
        ),
        (
            {"histories": [Text("a lamp")]},
            "histories must be a list of histories, each a list; history 0 is Text(text='a lamp').",
        ),
        (
            {"histories": [[["i0"], ["i1"]]]},
            "ids must be hashable scalars; unhashable type: 'list'.",
        ),
        (
            {"texts": ["a lamp"]},
            "texts must be a list of histories, each a list; history 0 is 'a lamp'.",
        ),
        (
            {"texts": [["a lamp"], ["a", 3]]},
            "texts must hold histories of strings; history 1 holds 3.",
        ),
        (
            {"users": ["u0"], "items_to_recommend": "i0"},
            "items_to_recommend must be a list of item ids; got 'i0'.",
        ),
        (
            {"users": ["u0"], "items_to_exclude": 4},
            "items_to_exclude must be a list of item ids; got 4.",
        ),
    ],
)
def test_queries_of_another_form(
    fitted_once: Recommender, query: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        fitted_once.recommend(**query)
    assert str(caught.value) == message


OR_POPULAR = ", or 'popular' to answer by what is popular"
UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"users": ["u0", "zz", 7]}, "users unknown to the model: 'zz', 7."),
    (
        {"users": ["u0", *"abcdefg"]},
        "users unknown to the model: 'a', 'b', 'c', 'd', 'e' and 2 more.",
    ),
    ({"histories": [["i0", "zz", 3]]}, "items in histories unknown to the model: 'zz', 3."),
    (
        {"users": ["u0"], "items_to_recommend": ["i12", "zz"]},
        "items_to_recommend unknown to the model: 'zz'.",
    ),
]


@pytest.mark.parametrize(("query", "message"), UNKNOWN)
def test_unknown_ids_raise(fitted_once: Recommender, query: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedTargetError) as caught:
        fitted_once.recommend(**query)
    instead = "" if "items_to_recommend" in query else OR_POPULAR
    assert str(caught.value) == (
        f"{message} Pass on_unsupported_targets='warn' or 'ignore' to skip them{instead}."
    )


@pytest.mark.parametrize(("query", "message"), UNKNOWN)
def test_unknown_ids_are_skipped_if_asked(
    fitted_once: Recommender, query: dict[str, Any], message: str
) -> None:
    with pytest.warns(UnsupportedTargetWarning) as caught:
        warned = fitted_once.recommend(**query, on_unsupported_targets="warn")
    assert [str(warning.message) for warning in caught] == [f"{message} They were skipped."]
    assert caught[0].filename == __file__
    ignored = fitted_once.recommend(**query, on_unsupported_targets="ignore")
    known = {
        "users": ["u0"],
        **({"histories": [["i0"]], "users": None} if "histories" in query else {}),
        **({"items_to_recommend": ["i12"]} if "items_to_recommend" in query else {}),
    }
    expected = fitted_once.recommend(**known)
    pd.testing.assert_frame_equal(warned, expected)
    pd.testing.assert_frame_equal(ignored, expected)


def test_histories_without_an_event(fitted_once: Recommender) -> None:
    with pytest.raises(UnsupportedTargetError) as caught:
        fitted_once.recommend(histories=[["i0"], []])
    hint = " Pass on_unsupported_targets='popular' to answer it by what is popular."
    assert str(caught.value) == f"history 1 is empty: it says nothing about taste.{hint}"
    with pytest.raises(UnsupportedTargetError) as caught:
        fitted_once.recommend(texts=[[]])
    assert str(caught.value) == f"history 0 is empty: it says nothing about taste.{hint}"
    queries = [[], ["i0"], ["zz"]]
    with pytest.warns(UnsupportedTargetWarning) as warned:
        table = fitted_once.recommend(histories=queries, on_unsupported_targets="warn", k=2)
    assert [str(warning.message) for warning in warned] == [
        "items in histories unknown to the model: 'zz'. They were skipped.",
        "2 histories without a known item were skipped, the first is 0.",
    ]
    assert table["user_id"].tolist() == [1, 1]  # numbered as given
    assert fitted_once.recommend(histories=[[]], on_unsupported_targets="ignore").empty


def test_words_need_an_encoder_that_reads(id_fitted_once: Recommender) -> None:
    message = (
        "texts need an item encoder with content, such as item_encoder='bert+id'; "
        "got an encoder of ids alone."
    )
    queries: list[dict[str, Any]] = [{"texts": [["a"]]}, {"histories": [["i0", Text("a")]]}]
    for query in queries:
        with pytest.raises(ValueError) as caught:
            id_fitted_once.recommend(**query)
        assert str(caught.value) == message

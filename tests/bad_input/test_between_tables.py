"""Between tables: ids of another type, ids that nobody knows, no rows, one event a user."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import Recommender
from palate.baselines import MostPopular
from palate.exceptions import (
    InvalidInputError,
    MissingContentError,
    UnsupportedTargetError,
    UnsupportedTargetWarning,
)
from palate.metrics import evaluate
from palate.model_selection import TimeSplit, leave_last_out_split, time_split

EVENTS = pd.DataFrame({"user_id": ["u0", "u1"], "item_id": ["a", "b"], "timestamp": [90, 91]})
NUMBERS = pd.DataFrame({"user_id": [0, 1], "item_id": [3, 4], "timestamp": [90, 91]})
RANKED = pd.DataFrame({"user_id": ["u0"], "item_id": ["a"], "rank": [1]})
SKIP = " Pass on_unsupported_targets='warn' or 'ignore' to skip them."
SKIP_OR_POPULAR = f"{SKIP[:-1]}, or 'popular' to answer by what is popular."
HUGE = np.array([2**63, 2**64 - 1], np.uint64)

# What a model of texts as ids says about ids that are numbers, or that nobody has.
UNKNOWN: dict[str, tuple[str, Callable[[Any, Any], Any], type, str]] = {
    "observe": (
        "learned",
        lambda model, ids: model.observe(EVENTS.assign(item_id=ids)),
        UnsupportedTargetError,
        "items in X unknown to the model: {ids}." + SKIP,
    ),
    "recommend": (
        "learned",
        lambda model, ids: model.recommend(ids),
        UnsupportedTargetError,
        "users unknown to the model: {ids}." + SKIP_OR_POPULAR,
    ),
    "recommend histories": (
        "learned",
        lambda model, ids: model.recommend(histories=[["a"], ids]),
        UnsupportedTargetError,
        "items in histories unknown to the model: {ids}." + SKIP_OR_POPULAR,
    ),
    "recommend_to_items": (
        "learned",
        lambda model, ids: model.recommend_to_items(ids),
        UnsupportedTargetError,
        "items unknown to the model: {ids}." + SKIP,
    ),
    "predict": (
        "learned",
        lambda model, ids: model.predict(EVENTS.assign(user_id=ids)),
        UnsupportedTargetError,
        "users unknown to the model: {ids}.",
    ),
    "transform": (
        "learned",
        lambda model, ids: model.transform(EVENTS.assign(user_id=ids)),
        UnsupportedTargetError,
        "users unknown to the model: {ids}.",
    ),
    "MostPopular.recommend": (
        "popular",
        lambda model, ids: model.recommend([str(i) + "x" for i in ids]),
        UnsupportedTargetError,
        "users unknown to the model: {texts}.",
    ),
    "MostPopular.predict": (
        "popular",
        lambda model, ids: model.predict([["a"], ids]),
        UnsupportedTargetError,
        "items in histories unknown to the model: {ids}.",
    ),
    "partial_fit items": (
        "reader",
        lambda model, ids: model.partial_fit([["a"], ids]),
        MissingContentError,
        "items must have a row for every item of X; history 1 of X names {first}, which has none.",
    ),
}
IDS: dict[str, list[Any]] = {
    "ids of another type": [3, 4],
    "unknown ids": ["zz", "yy"],
    "ids of 2**63 and more": HUGE.tolist(),
    "unknown emoji": ["🙃", "שלום"],
}


@pytest.mark.parametrize("case", list(IDS))
@pytest.mark.parametrize("entry", list(UNKNOWN))
def test_refused(entry: str, case: str, request: pytest.FixtureRequest, refused: Any) -> None:
    fixture, ask, error, message = UNKNOWN[entry]
    model, ids = request.getfixturevalue(fixture), IDS[case]
    written = message.format(
        ids=", ".join(map(repr, ids)),
        texts=", ".join(repr(str(i) + "x") for i in ids),
        first=repr(ids[0]),
    )
    refused(lambda: ask(model, ids), error, written, model)


@pytest.mark.parametrize("case", list(IDS))
@pytest.mark.parametrize("entry", ["score", "MostPopular.score"])
def test_unknown_users_count_as_misses(
    entry: str, case: str, learned: Recommender, popular: MostPopular
) -> None:
    model: Any = learned if entry == "score" else popular
    ids = IDS[case]
    first = ", ".join(map(repr, ids))
    words = f"users in X unknown to the model: {first}. They count as misses."
    with pytest.warns(UnsupportedTargetWarning, match=f"^{re.escape(words)}$"):
        assert model.score(EVENTS.assign(user_id=ids)) == 0


@pytest.mark.parametrize("case", ["ids of another type", "ids of 2**63 and more"])
@pytest.mark.parametrize("entry", ["evaluate", "evaluate history"])
def test_metrics_want_ids_of_one_kind(entry: str, case: str, refused: Any) -> None:
    other = EVENTS.assign(item_id=IDS[case])
    if entry == "evaluate":
        message = "it holds numbers in truth, text in recommendations."
        call = lambda: evaluate(RANKED, other)  # noqa: E731
    else:
        message = "it holds text in truth, text in recommendations, numbers in history."
        call = lambda: evaluate(RANKED, EVENTS, metrics=["novelty"], history=other)  # noqa: E731
    refused(call, InvalidInputError, "column 'item_id' must have ids of one kind; " + message)


def test_the_metrics_of_unknown_ids_and_of_huge_ones() -> None:
    assert set(evaluate(RANKED.assign(user_id="zz"), EVENTS).values()) == {0.0}
    assert set(evaluate(RANKED[:0], EVENTS).values()) == {0.0}
    truth = pd.DataFrame({"user_id": HUGE, "item_id": HUGE})
    assert set(evaluate(truth.assign(rank=1), truth).values()) == {1.0}
    near = truth.assign(item_id=HUGE - np.uint64(1), rank=1)  # the same number as a float
    assert set(evaluate(near, truth).values()) == {0.0}


NEW: dict[str, list[Any]] = {
    "ids of another type": [3, "3"],
    "ids of 2**63 and more": HUGE.tolist(),
    "emoji and right to left": ["🙂", "שלום"],
    "objects": [b"x", 2.5],
    "text of 100 thousand characters": ["x" * 100_000, "y" * 100_000],
}


@pytest.mark.parametrize("case", list(NEW))
@pytest.mark.parametrize("entry", ["add_items", "partial_fit items", "partial_fit", "observe"])
def test_new_ids_are_new(
    entry: str, case: str, reader: Recommender, learned: Recommender, same_answers: Any
) -> None:
    """An oracle learns the same under other names, which come in the same order."""
    ids = pd.Series(NEW[case], dtype=object)
    plain = pd.Series(["new 1", "new 2"], dtype=object)
    changed = []
    for names in (ids, plain):
        items = pd.DataFrame({"item_id": names, "title": ["a lamp", "a blue chair"]})
        if entry == "add_items":
            model = copy.deepcopy(reader).add_items(items)
        elif entry == "partial_fit items":
            model = copy.deepcopy(reader)
            model.partial_fit([["a", *names]], items=items, epochs=1)
        elif entry == "partial_fit":
            model = copy.deepcopy(learned).partial_fit(EVENTS.assign(item_id=names), epochs=1)
        else:  # of users, since items must be known
            model = copy.deepcopy(learned).observe(EVENTS.assign(user_id=names))
        changed.append(model)
    same_answers(*changed)
    known = changed[0].user_ids_ if entry == "observe" else changed[0].item_ids_
    assert known.tolist()[-2:] == NEW[case]
    assert [type(value) for value in known[-2:]] == [type(value) for value in NEW[case]]


EMPTY: dict[str, Callable[[Any], tuple[int, ...]]] = {
    "recommend": lambda model: model.recommend([]).shape,
    "recommend histories": lambda model: model.recommend(histories=[]).shape,
    "recommend_to_items": lambda model: model.recommend_to_items([]).shape,
    "items_to_recommend": lambda model: model.recommend(items_to_recommend=[]).shape,
    "predict": lambda model: model.predict(EVENTS[:0]).shape,
    "transform": lambda model: model.transform(EVENTS[:0]).shape,
    "observe": lambda model: copy.deepcopy(model).observe(EVENTS[:0]).recommend(k=9).shape,
}


@pytest.mark.parametrize("case", ["empty table"])
@pytest.mark.parametrize("entry", [*EMPTY, "MostPopular.recommend", "MostPopular.predict"])
def test_no_rows_in_no_rows_out(
    entry: str, case: str, learned: Recommender, popular: MostPopular
) -> None:
    name = entry.removeprefix("MostPopular.")
    found = EMPTY[name](popular if name != entry else learned)
    width = {"predict": 10, "transform": 4}.get(name, 4)
    rows = len(learned.recommend(k=9)) if entry == "observe" else 0
    assert found == (rows, width)


NO_ROWS: dict[str, tuple[Callable[[Any, Any], Any], type, str]] = {
    "fit items": (
        lambda model, _: model.fit([["a"]], items=pd.DataFrame({"item_id": [], "title": []})),
        MissingContentError,
        "items must have a row for every item of X; history 0 of X names 'a', which has none.",
    ),
    "MostPopular.score": (
        lambda _, popular: popular.score(EVENTS[:0]),
        InvalidInputError,
        "X must hold at least one event; got none.",
    ),
    "evaluate": (
        lambda *_: evaluate(RANKED, EVENTS[:0]),
        InvalidInputError,
        "truth must hold at least one event; it has no rows.",
    ),
    "leave_last_out_split": (
        lambda *_: leave_last_out_split(EVENTS[:0]),
        InvalidInputError,
        "X must hold a user with at least 2 events for n=1, n_splits=1 and min_history=1; the "
        "most that a user has is 0.",
    ),
    "time_split": (
        lambda *_: time_split(EVENTS[:0]),
        InvalidInputError,
        "X must hold more than 1 * 1 events for n_splits=1 and test_size=0.1; it holds 0.",
    ),
}


@pytest.mark.parametrize("case", ["empty table"])
@pytest.mark.parametrize("entry", list(NO_ROWS))
def test_no_rows_refused(
    entry: str, case: str, reader: Recommender, popular: MostPopular, refused: Any
) -> None:
    call, error, message = NO_ROWS[entry]
    refused(lambda: call(reader, popular), error, message, reader, popular)


@pytest.mark.parametrize("case", ["one event a user"])
@pytest.mark.parametrize(
    "entry",
    [
        *("partial_fit", "observe", "score", "MostPopular.fit", "MostPopular.score", "evaluate"),
        *("leave_last_out_split", "time_split", "TimeSplit.split"),
    ],
)
def test_one_event_a_user(
    entry: str, case: str, learned: Recommender, popular: MostPopular, refused: Any
) -> None:
    events = pd.DataFrame(
        {"user_id": ["n0", "n1", "n2"], "item_id": ["a", "c", "d"], "timestamp": [97, 98, 99]}
    )
    if entry in ("partial_fit", "observe"):
        model = getattr(copy.deepcopy(learned), entry)(events)
        new = model.recommend(events["user_id"], k=9)
        assert new.groupby("user_id").size().tolist() == [3, 3, 3]
        assert np.isfinite(new["score"]).all()
        assert model.user_ids_.tolist()[-3:] == ["n0", "n1", "n2"]
    elif entry == "MostPopular.fit":
        assert MostPopular().fit(events).counts_.tolist() == [1, 1, 1]
    elif entry.endswith("score"):
        known = events.assign(user_id=["u0", "u1", "u2"])
        first = [["c"], ["d"]]
        value = learned.score(known) if entry == "score" else popular.score(first)
        assert 0 <= value <= 1
    elif entry == "evaluate":
        found = evaluate(events.assign(rank=1), events, k=1)
        assert set(found.values()) == {1.0}
    elif entry == "leave_last_out_split":
        message = "X must hold a user with at least 2 events for n=1, n_splits=1 and min_history=…"
        refused(lambda: leave_last_out_split(events), InvalidInputError, message)
    else:
        message = "X must have training and test events in every window; window 1 of 1 has 2 and 0"
        message += (
            " with test_size=0.1. Its 1 test events are of users or items without training events, "
            "which filter_cold_users and filter_cold_items leave out."
        )
        all_kept = {"filter_cold_users": False, "filter_cold_items": False}
        if entry == "time_split":
            refused(lambda: time_split(events), InvalidInputError, message)
            train, test = time_split(events, 1, **all_kept)
            assert (len(train), test["user_id"].tolist()) == (2, ["n2"])
        else:
            refused(lambda: list(TimeSplit().split(events)), InvalidInputError, message)
            folds = [[part.tolist() for part in s] for s in TimeSplit(1, **all_kept).split(events)]
            assert folds == [[[0, 1], [2]]]

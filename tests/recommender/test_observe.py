"""Real time: histories move, weights do not."""

from __future__ import annotations

import copy
from collections.abc import Callable
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

Make = Callable[..., Recommender]


def of(user: str, *item_ids: str, start: int = 100) -> pd.DataFrame:
    times = range(start, start + len(item_ids))
    return pd.DataFrame({"user_id": user, "item_id": list(item_ids), "timestamp": list(times)})


def test_the_user_moves_and_no_weight_does(model: Recommender, fitted_once: Recommender) -> None:
    users = pd.DataFrame({"user_id": ["u0", "u1"]})
    before = model.transform(users)
    vectors, catalogue = model._serving.vectors, model._serving.ranker
    model.observe(of("u0", "i12"))
    after = model.transform(users)
    assert not np.allclose(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert model._serving.vectors is vectors
    assert model._serving.ranker is catalogue
    assert model._serving.network is fitted_once._serving.network or all(
        (a == b).all()
        for a, b in zip(
            model._serving.network.state_dict().values(),
            fitted_once._serving.network.state_dict().values(),
            strict=True,
        )
    )


def test_it_answers_as_the_same_history_would(
    model: Recommender, events: pd.DataFrame, histories_of: Any
) -> None:
    new = pd.concat([of("u2", "i12", "i1"), of("newcomer", "i5", "i6", "i7")])
    model.observe(new)
    histories = histories_of(pd.concat([events, new]))
    for user in ("u2", "newcomer", "u3"):
        by_user = model.recommend([user], k=4)
        by_history = model.recommend(histories=[histories[user]], k=4)
        assert by_user["item_id"].tolist() == by_history["item_id"].tolist()
        np.testing.assert_array_equal(by_user["score"], by_history["score"])


def test_one_event_at_a_time_is_all_at_once(model: Recommender) -> None:
    new = pd.concat([of("u2", "i12", "i1"), of("newcomer", "i5", "i6", "i7"), of("u2", "i2")])
    slowly = copy.deepcopy(model)
    for row in range(len(new)):
        slowly.observe(new[row : row + 1])
    pd.testing.assert_frame_equal(slowly.recommend(k=3), model.observe(new).recommend(k=3))


def test_late_events_find_their_place_in_time(
    model: Recommender, events: pd.DataFrame, histories_of: Any
) -> None:
    late = of("u6", "i12", start=int(events["timestamp"].median()))
    model.observe(late)
    expected = histories_of(pd.concat([events, late]))["u6"]
    assert expected[-1] != "i12"
    code = list(model.user_ids_).index("u6")
    serving = model._serving
    assert serving.items.ids(serving.histories.of(code)).tolist() == expected


def test_viewed_items_are_filtered_from_then_on(model: Recommender) -> None:
    favourite = model.recommend(["u0"], k=1)["item_id"][0]
    model.observe(of("u0", favourite))
    assert favourite not in model.recommend(["u0"], k=99)["item_id"].tolist()


def test_many_users_at_once_are_merged(make_recommender: Make) -> None:
    histories = [[u % 11, (u + 1) % 11] for u in range(600)]
    model = make_recommender(epochs=0, validation_fraction=0).fit(histories)
    model.observe([[(u + 2) % 11] for u in range(400)])  # more than are kept beside the arrays
    whole = make_recommender(epochs=0, validation_fraction=0).fit(
        [[*row, (u + 2) % 11] if u < 400 else row for u, row in enumerate(histories)]
    )
    pd.testing.assert_frame_equal(model.recommend(k=2), whole.recommend(k=2))


def test_what_was_observed_is_learned_from_later(make_recommender: Make, events: Any) -> None:
    model = make_recommender(validation_fraction=0).fit(events)
    model.observe(of("u0", "i1", "i2")).partial_fit(of("u0", "i3", start=110))
    at_once = make_recommender(validation_fraction=0).fit(events)
    at_once.partial_fit(pd.concat([of("u0", "i1", "i2"), of("u0", "i3", start=110)]))
    np.testing.assert_allclose(model.item_vectors_, at_once.item_vectors_, atol=1e-6)


def test_unknown_items(
    model: Recommender, fitted_once: Recommender, snapshot: Any, assert_same: Any
) -> None:
    new = of("u0", "zz", "i12", "zz")
    with pytest.raises(UnsupportedTargetError) as caught:
        model.observe(new)
    assert str(caught.value) == (
        "items in X unknown to the model: 'zz'. "
        "Pass on_unsupported_targets='warn' or 'ignore' to skip them."
    )
    assert_same(snapshot(fitted_once), snapshot(model))
    with pytest.warns(UnsupportedTargetWarning) as warned:
        model.observe(new, on_unsupported_targets="warn")
    assert [str(warning.message) for warning in warned] == [
        "items in X unknown to the model: 'zz'. They were skipped."
    ]
    ignoring = copy.deepcopy(fitted_once).observe(new, on_unsupported_targets="ignore")
    plain = copy.deepcopy(fitted_once).observe(new[1:2])
    for other in (model, ignoring):
        assert_same(snapshot(plain), snapshot(other))
    # A user of unknown items alone stays unknown.
    model.observe(of("nobody", "zz"), on_unsupported_targets="ignore")
    assert "nobody" not in model.user_ids_.tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"X": pd.DataFrame({"user_id": ["u0"], "item_id": ["i0"]})},
            InvalidInputError,
            "X must have a column 'timestamp', as the events learned before had one.",
        ),
        (
            {"X": pd.DataFrame({"user_id": ["u0"], "timestamp": [1]})},
            InvalidInputError,
            "X must have a column 'item_id'; its columns are 'user_id', 'timestamp'.",
        ),
        (
            {"X": of("u0", "i0"), "on_unsupported_targets": "skip"},
            InvalidParameterError,
            "on_unsupported_targets must be one of 'raise', 'warn', 'ignore'; got 'skip'.",
        ),
    ],
)
def test_what_is_refused_leaves_the_estimator_as_it_was(
    arguments: dict[str, Any],
    error: type,
    message: str,
    model: Recommender,
    fitted_once: Recommender,
    snapshot: Any,
    assert_same: Any,
) -> None:
    with pytest.raises(error) as caught:
        model.observe(**arguments)
    assert str(caught.value) == message
    assert_same(snapshot(fitted_once), snapshot(model))

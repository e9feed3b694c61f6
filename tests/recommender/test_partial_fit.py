"""Learning on: the vocabulary, the weights and the optimiser grow and go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from palate import Recommender, TransformerEncoder
from palate import _estimator as estimator
from palate.data import rehearsal
from palate.defaults import Settings
from palate.encoders.user.pooled import PooledEncoder
from palate.exceptions import InvalidInputError, InvalidParameterError, MissingContentError

Make = Callable[..., Recommender]


@pytest.fixture
def more() -> pd.DataFrame:
    """Events of a known and a new user, with a known and a new item."""
    return pd.DataFrame(
        {
            "user_id": ["u1", "new", "new", "new", "u1"],
            "item_id": ["i12", "i0", "n1", "i3", "n1"],
            "timestamp": [100, 101, 103, 102, 104],
        }
    )


@pytest.fixture
def new_items() -> pd.DataFrame:
    return pd.DataFrame({"item_id": ["n1", "n2"], "title": ["a new lamp", "a new chair"]})


def moments(model: Recommender) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {key: value.clone() for key, value in state.items()}
        for name, state in model._serving.learning.optimizer_state.items()
    }


def test_users_items_and_events_grow_and_old_codes_stay(
    model: Recommender,
    more: pd.DataFrame,
    new_items: pd.DataFrame,
    events: pd.DataFrame,
    histories_of: Any,
) -> None:
    users, catalogue = model.user_ids_.tolist(), model.item_ids_.tolist()
    model.partial_fit(more, items=new_items)
    assert model.user_ids_.tolist() == [*users, "new"]
    assert model.item_ids_.tolist() == [*catalogue, "n1", "n2"]
    assert model.item_vectors_.shape == (15, 8)
    expected = histories_of(pd.concat([events, more]))
    serving = model._serving
    for code, user in enumerate(model.user_ids_):
        assert serving.items.ids(serving.histories.of(code)).tolist() == expected[user]
    viewed = expected["new"]
    recommended = model.recommend(["new"], k=99)["item_id"]
    assert sorted([*recommended, *viewed]) == sorted(model.item_ids_)


def test_the_records_go_on(model: Recommender, more: pd.DataFrame, new_items: Any) -> None:
    assert len(model.history_) == 2
    model.partial_fit(more, items=new_items, epochs=3)
    assert [(r["stage"], r["epoch"]) for r in model.history_] == [
        ("fit", 0),
        ("fit", 1),
        ("fit", 0),
        ("fit", 1),
        ("fit", 2),
    ]


def test_the_optimiser_goes_on(make_recommender: Make, events: pd.DataFrame) -> None:
    model = make_recommender(epochs=2, batch_size=4, validation_fraction=0).fit(events)
    before = moments(model)
    steps = {name: float(state["step"]) for name, state in before.items()}
    assert set(steps.values()) == {2 * 2.0}  # 2 epochs of 2 batches
    frame = pd.DataFrame({"user_id": ["u1", "u1"], "item_id": ["i0", "n1"], "timestamp": [90, 91]})
    model.partial_fit(frame, epochs=3)
    after = moments(model)
    assert {float(state["step"]) for state in after.values()} == {4.0 + 3.0}
    # The first moment of a parameter goes on from where it was: three steps of decay 0.9 cannot
    # bring a large one to nothing. Rows of new items began without a past.
    name = "items.weight"
    assert after[name]["exp_avg"].shape == (len(model.item_ids_), 8)
    kept = 0.98**3 * before[name]["exp_avg_sq"]
    assert (after[name]["exp_avg_sq"][: len(kept)] >= kept * (1 - 1e-5)).all()


def test_moments_make_a_difference(make_recommender: Make, events: pd.DataFrame) -> None:
    frame = events.iloc[:6]
    with_past = make_recommender(epochs=2, validation_fraction=0).fit(events)
    without = make_recommender(epochs=2, validation_fraction=0).fit(events)
    forgotten = replace(without._serving.learning, optimizer_state={})
    without._serving = replace(without._serving, learning=forgotten)
    with_past.partial_fit(frame)
    without.partial_fit(frame)
    assert not np.allclose(with_past.item_vectors_, without.item_vectors_, atol=1e-7)


def test_weights_go_on_from_where_they_are(make_recommender: Make, events: pd.DataFrame) -> None:
    model = make_recommender(epochs=3).fit(events)
    before = model.item_vectors_
    model.partial_fit(events.iloc[:3], epochs=0)
    np.testing.assert_array_equal(model.item_vectors_, before)
    model.set_params(learning_rate=1e-5, validation_fraction=0).partial_fit(events.iloc[:3])
    assert not np.array_equal(model.item_vectors_, before)
    np.testing.assert_allclose(model.item_vectors_, before, atol=1e-3)


def test_an_earlier_reader_sees_nothing_of_it(
    model: Recommender, more: Any, new_items: Any
) -> None:
    serving = model._serving
    before = {name: value.clone() for name, value in serving.network.state_dict().items()}
    vectors = serving.vectors.clone()
    model.set_params(validation_fraction=0).partial_fit(more, items=new_items)
    for name, value in serving.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(serving.vectors, vectors)
    assert (len(serving.items), len(serving.users)) == (13, 7)


def test_no_better_epoch_leaves_the_weights(make_recommender: Make) -> None:
    # The model knows the cycle already: no epoch can be better than at the start.
    cycle = [[(u + t) % 9 for t in range(6)] for u in range(36)]
    model = make_recommender(
        dim=24, epochs=12, batch_size=8, learning_rate=1e-2, validation_fraction=0
    ).fit(cycle)
    before, n_before = model.item_vectors_, len(model.history_)
    model.set_params(learning_rate=50.0, validation_fraction=1.0, patience=2)
    model.partial_fit(cycle)
    assert len(model.history_) == n_before + 2
    np.testing.assert_array_equal(model.item_vectors_, before)


def test_items_known_already_keep_their_content(
    model: Recommender, more: pd.DataFrame, new_items: pd.DataFrame, items: pd.DataFrame
) -> None:
    again = pd.concat([new_items, items.assign(title="another text")])
    table = model._serving.table.frame.copy()
    model.partial_fit(more, items=again, epochs=0)
    kept = model._serving.table.frame
    pd.testing.assert_frame_equal(kept.iloc[:13], table)
    assert kept["title"].tolist()[13:] == new_items["title"].tolist()


def test_a_model_moves_to_another_domain(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    # No user and no item in common: they meet in text.
    model = make_recommender(item_encoder="bert").fit(events, items=items)
    elsewhere = pd.DataFrame({"user_id": [1, 1, 1, 2, 2], "item_id": [10, 20, 30, 20, 10]})
    untimed = events.drop(columns="timestamp")
    model2 = make_recommender(item_encoder="bert").fit(untimed, items=items)
    texts = pd.DataFrame({"item_id": [10, 20, 30], "title": ["red lamp", "a chair", "a book"]})
    model2.partial_fit(elsewhere, items=texts)
    assert model2.user_ids_.tolist()[-2:] == [1, 2]
    assert model2.item_ids_.tolist()[-3:] == [10, 20, 30]
    assert len(model2.recommend([1, "u0"], k=2)) == 4
    with pytest.raises(InvalidInputError) as caught:
        model.partial_fit(elsewhere, items=texts)
    assert str(caught.value) == (
        "X must have a column 'timestamp', as the events learned before had one."
    )


def test_elsewhere_a_model_learns_at_the_pace_of_a_fit_there(
    make_recommender: Make, events: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, batches, epochs and averages are those of a fit on what is met, for that time."""
    sparse = Settings(dim=8, batch_size=7, epochs=2, n_layers=1, dropout=0.5)
    there = replace(sparse, batch_size=3, epochs=4, dropout=0.25)
    monkeypatch.setattr(estimator, "settings_of", lambda histories: sparse)
    monkeypatch.setattr(estimator, "settings_for", lambda *sizes: there)
    monkeypatch.setattr(rehearsal, "LEAST_OF_DOMAIN", 6)
    auto = {"epochs": "auto", "batch_size": "auto", "mean_weight": "auto", "dim": "auto"}
    encoder = TransformerEncoder(n_heads=1, max_length=5)
    model = make_recommender(user_encoder=encoder, **auto).fit(events)
    model._serving.network.mean_weight = 0.9
    drops = [m for m in model._serving.network.users.modules() if isinstance(m, nn.Dropout)]
    assert {drop.p for drop in drops} == {0.5}
    used: list[tuple[float, int, int]] = []
    forward, n_items = PooledEncoder.prefixes, len(model.item_ids_)

    def spy(self: PooledEncoder, x: Any, mask: Any) -> Any:
        used.append((next(m.p for m in self.modules() if isinstance(m, nn.Dropout)), *mask.shape))
        return forward(self, x, mask)

    monkeypatch.setattr(PooledEncoder, "prefixes", spy)
    new = [(f"n{user}", f"x{(user + step) % 6}") for user in range(6) for step in range(3)]
    elsewhere = pd.DataFrame(new, columns=["user_id", "item_id"]).assign(timestamp=range(18))
    model.partial_fit(elsewhere)
    assert len(model.history_) == 2 + 4
    assert {(p, rows) for p, rows, _ in used} == {(0.25, 3)}
    drops = [m for m in model._serving.network.users.modules() if isinstance(m, nn.Dropout)]
    assert {drop.p for drop in drops} == {0.5}
    assert (model.mean_weight_, model.settings_) == (0.3, sparse)
    assert len(model.item_ids_) == n_items + 6
    # At home it goes on as it did, with the weight that it has.
    model._serving.network.mean_weight = 0.9
    used.clear()
    model.partial_fit(events.head(9).assign(timestamp=range(1000, 1009)), epochs=1)
    assert {p for p, _, _ in used} == {0.5}
    assert model.mean_weight_ == 0.9


def test_before_any_fit_it_is_fit(
    make_recommender: Make, events: pd.DataFrame, snapshot: Any, assert_same: Any
) -> None:
    assert_same(
        snapshot(make_recommender(epochs=2).fit(events)),
        snapshot(make_recommender(epochs=2).partial_fit(events)),
    )
    model = make_recommender(epochs=5).partial_fit(events, epochs=2)
    assert len(model.history_) == 2
    assert model.epochs == 5


def test_other_parameters_of_a_part_do_not_reach_a_trained_one(
    make_recommender: Make, events: pd.DataFrame, folder: Any
) -> None:
    model = make_recommender(user_encoder=TransformerEncoder(max_length=4)).fit(events)
    model.set_params(user_encoder__max_length=50, user_encoder__n_layers=1, dim=16)
    long = pd.DataFrame({"user_id": "u6", "item_id": ["i1"] * 9, "timestamp": range(100, 109)})
    model.partial_fit(long)
    assert model.user_encoder_.max_length == 4
    # What is saved is what was learned.
    model.save(folder)
    loaded = Recommender.load(folder, options=model.options)
    assert repr(loaded.user_encoder) == "TransformerEncoder(max_length=4)"
    assert loaded.dim == 8
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))


def test_the_metric_stays(
    id_model: Recommender,
    id_fitted_once: Recommender,
    events: Any,
    snapshot: Any,
    assert_same: Any,
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        id_model.set_params(metric="dot").partial_fit(events)
    assert str(caught.value) == (
        "metric must be 'cosine' as in fit, for the weights were learned by it; got 'dot'."
    )
    assert_same(snapshot(id_fitted_once), snapshot(id_model.set_params(metric="cosine")))


REFUSED: list[tuple[dict[str, Any], type, str]] = [
    (
        {"X": pd.DataFrame({"user_id": ["u0"], "item_id": ["zz"], "timestamp": [1]})},
        MissingContentError,
        "items must have a row for every item of X; row 0 of X names 'zz', which has none.",
    ),
    (
        {"X": pd.DataFrame({"user_id": ["u0"], "item_id": ["i0"]})},
        InvalidInputError,
        "X must have a column 'timestamp', as the events learned before had one.",
    ),
    (
        {
            "X": pd.DataFrame({"user_id": ["u0"], "item_id": ["n1"], "timestamp": [1]}),
            "items": pd.DataFrame({"item_id": ["n1"], "name": ["a lamp"]}),
        },
        InvalidInputError,
        "items must have a column 'title', as the items learned before had; "
        "its columns are 'name'.",
    ),
    (
        {
            "X": pd.DataFrame({"user_id": ["u0"], "item_id": ["i0"], "timestamp": [1]}),
            "epochs": -1,
        },
        InvalidParameterError,
        "epochs must be an integer of at least 0 or 'auto'; got -1.",
    ),
    (
        {"X": pd.DataFrame({"user_id": ["u0"], "item_id": ["i0"], "timestamp": [1]})[:0]},
        InvalidInputError,
        "X must hold at least one event; got none.",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
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
        model.partial_fit(**arguments)
    assert str(caught.value) == message
    assert_same(snapshot(fitted_once), snapshot(model))


def test_a_refused_fit_leaves_the_estimator_as_it_was(
    model: Recommender, fitted_once: Recommender, snapshot: Any, assert_same: Any
) -> None:
    refused: list[Any] = [[], np.zeros((3, 1)), pd.DataFrame({"user_id": [1]}), 3]
    for X in refused:
        with pytest.raises(ValueError, match=r"\w"):
            model.fit(X)
        assert_same(snapshot(fitted_once), snapshot(model))
    assert list(model.feature_names_in_) == ["user_id", "item_id", "timestamp"]

"""`partial_fit()` without events: the model learns from what it has observed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palate import Recommender
from palate.exceptions import InvalidInputError

NOTHING = "X must hold events unless `observe` took some in since the model last learned; got None."


@pytest.fixture
def more() -> pd.DataFrame:
    """Four events of a known and a new user."""
    return pd.DataFrame(
        {
            "user_id": ["u1", "new", "new", "u1"],
            "item_id": ["i10", "i0", "i3", "i4"],
            "timestamp": [100, 101, 103, 104],
        }
    )


def test_observing_and_then_learning_is_learning_from_the_same_events(
    model: Recommender, more: pd.DataFrame, events: pd.DataFrame
) -> None:
    twin = Recommender(**model.get_params(deep=False)).set_params(random_state=0)
    twin.fit(events, items=model._serving.table.frame.assign(item_id=model.item_ids_))
    np.testing.assert_array_equal(twin.item_vectors_, model.item_vectors_)
    twin.partial_fit(more, epochs=2)
    for row in range(len(more)):
        model.observe(more.iloc[[row]])
    model.partial_fit(epochs=2)
    np.testing.assert_allclose(model.item_vectors_, twin.item_vectors_, rtol=0, atol=1e-6)
    assert model._serving.histories.n_events == len(events) + len(more)
    pd.testing.assert_frame_equal(model.recommend(k=3), twin.recommend(k=3), rtol=1e-4)


def test_only_users_with_events_to_learn_from_are_learned_from(
    model: Recommender, more: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    import palate.recommender as module

    learn_on = module.learn_on

    def spy(*args: object) -> object:
        users = np.asarray(args[4])
        asked.append(sorted(model._serving.users.ids(users).tolist()))
        return learn_on(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "learn_on", spy)
    model.observe(more).partial_fit()
    model.observe(more.assign(user_id="u2", timestamp=200)).partial_fit()
    assert asked == [["new", "u1"], ["u2"]]


@pytest.mark.parametrize("before", ["fit", "learned", "loaded"])
def test_nothing_observed_is_nothing_to_learn(
    model: Recommender, more: pd.DataFrame, tmp_path: Path, before: str
) -> None:
    if before == "learned":
        model.observe(more).partial_fit()
    if before == "loaded":
        model.save(tmp_path / "model")
        model = Recommender.load(tmp_path / "model", options=model.options)
    vectors = model.item_vectors_.copy()
    with pytest.raises(InvalidInputError, match=f"^{re.escape(NOTHING)}$"):
        model.partial_fit()
    np.testing.assert_array_equal(model.item_vectors_, vectors)


@pytest.mark.parametrize("mmap", [False, True])
def test_a_loaded_model_remembers_what_it_has_not_learned(
    model: Recommender, more: pd.DataFrame, tmp_path: Path, mmap: bool
) -> None:
    model.observe(more.iloc[:2]).save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", mmap=mmap, options=model.options)
    for one in (model, loaded):
        one.observe(more.iloc[2:])
        assert one._serving.users.ids(one._serving.unlearned()).tolist() == ["u1", "new"]
        one.partial_fit()
    np.testing.assert_allclose(loaded.item_vectors_, model.item_vectors_, rtol=0, atol=1e-6)
    loaded.save(tmp_path / "again")
    again = Recommender.load(tmp_path / "again", options=model.options)
    assert not len(again._serving.unlearned())


def test_new_items_may_come_with_observed_events(model: Recommender, more: pd.DataFrame) -> None:
    table = pd.DataFrame({"item_id": ["n1"], "title": ["a new lamp"]})
    model.observe(more).partial_fit(items=table)
    assert model.item_ids_[-1] == "n1"
    assert len(model._serving.table.frame) == len(model.item_ids_)


def test_the_first_time_there_must_be_events(
    make_recommender: Callable[..., Recommender],
) -> None:
    with pytest.raises(InvalidInputError) as error:
        make_recommender().partial_fit()
    assert str(error.value).startswith("X must be")


def test_learning_from_others_leaves_what_was_observed_to_be_learned(
    model: Recommender, more: pd.DataFrame
) -> None:
    model.observe(more)
    model.partial_fit(more.assign(user_id="u2", timestamp=range(200, 204)), epochs=1)
    serving = model._serving
    assert sorted(serving.users.ids(serving.unlearned()).tolist()) == ["new", "u1"]
    model.partial_fit(epochs=1)
    assert not len(model._serving.unlearned())

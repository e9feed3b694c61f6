"""A model taken to a catalogue of which it knows nothing: what all its texts say is left out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from palate import Recommender, TransformerEncoder
from palate.data import rehearsal
from palate.encoders.item import bert_items

COURSES = ["a garden course", "a kitchen course", "a chair course", "i bought a course"]


@pytest.fixture
def taught(
    make_recommender: Callable[..., Recommender], events: pd.DataFrame, items: pd.DataFrame
) -> Recommender:
    """A model of things, before it hears of courses."""
    return make_recommender(item_encoder="bert+id").fit(events, items=items)


def school(known: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events and texts of courses; one person may know one of the things."""
    codes = [0, 1, 2, 1, 3, 0, 2, 3]
    rows = {"user_id": list("aaabbbcc"), "item_id": [f"c{code}" for code in codes]}
    events = pd.DataFrame({**rows, "timestamp": range(8)})
    if known is not None:
        events.loc[8] = ["c", known, 9]
    return events, pd.DataFrame({"item_id": [f"c{n}" for n in range(4)], "title": COURSES})


def four_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let four items be another domain."""
    monkeypatch.setattr(rehearsal, "LEAST_OF_DOMAIN", 4)
    monkeypatch.setattr(bert_items, "_LEAST_OF_DOMAIN", 4)


def content(model: Recommender) -> pd.DataFrame:
    """What was read of each item, before training made anything of it."""
    rows = model._serving.network.items.parts[0].content()
    return pd.DataFrame(rows.double().numpy(), index=model.item_ids_)


def as_read(model: Recommender) -> pd.DataFrame:
    """The content of the courses by the mean of the things."""
    return content(model.add_items(school()[1])).loc[["c0", "c1", "c2", "c3"]]


def test_its_texts_are_whitened_by_themselves(
    taught: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    four_are_enough(monkeypatch)
    before = content(taught)
    events, courses = school()
    model = taught.partial_fit(events, items=courses)
    after = content(model)
    assert after.shape == (len(before) + 4, before.shape[1])
    rows = after.loc[courses["item_id"]]
    np.testing.assert_allclose(rows.mean(), 0, atol=1e-6)
    assert (rows**2).sum(axis=1).mean() == pytest.approx(1, abs=1e-5)
    # What comes later is read in the same way: a text that is known gets the row that it has.
    model.add_items(pd.DataFrame({"item_id": ["c9"], "title": [COURSES[2]]}))
    np.testing.assert_allclose(content(model).loc["c9"], rows.loc["c2"], atol=1e-5)


def test_it_is_so_for_items_that_joined_before_the_events(
    taught: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    four_are_enough(monkeypatch)
    events, courses = school()
    taught.add_items(courses)
    rows = content(taught.partial_fit(events)).loc[courses["item_id"]]
    np.testing.assert_allclose(rows.mean(), 0, atol=1e-6)


@pytest.mark.parametrize("known", ["i1", None], ids=["a thing is met", "few texts"])
def test_else_the_mean_is_kept(
    taught: Recommender, monkeypatch: pytest.MonkeyPatch, known: str | None
) -> None:
    if known is not None:
        four_are_enough(monkeypatch)
    events, courses = school(known)
    expected = as_read(copy.deepcopy(taught))
    model = taught.partial_fit(events, items=courses)
    pd.testing.assert_frame_equal(content(model).loc[expected.index], expected)


@pytest.mark.parametrize("epochs", [1, 0])
def test_a_few_new_things_take_nothing_from_what_is_known(
    taught: Recommender, events: pd.DataFrame, epochs: int
) -> None:
    """There is no window to learn from: the weights are those that were there."""
    before = {name: p.clone() for name, p in taught._serving.network.users.named_parameters()}
    asked = {"users": events["user_id"].unique().tolist(), "items_to_exclude": ["c0"]}
    answers = taught.recommend(**asked)
    latest = events["timestamp"].max()
    one = pd.DataFrame({"user_id": ["new"], "item_id": ["c0"], "timestamp": [latest]})
    taught.partial_fit(one, items=school()[1][:1], epochs=epochs)
    for name, parameter in taught._serving.network.users.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)
    pd.testing.assert_frame_equal(taught.recommend(**asked), answers)


@pytest.mark.parametrize(
    "user_encoder",
    ["gru", TransformerEncoder(n_layers=3), TransformerEncoder(max_length=7)],
    ids=str,
)
def test_the_user_encoder_stays_that_of_fit(
    taught: Recommender, monkeypatch: pytest.MonkeyPatch, user_encoder: object
) -> None:
    four_are_enough(monkeypatch)
    events, courses = school()
    twin = copy.deepcopy(taught).partial_fit(events, items=courses)
    taught.set_params(user_encoder=user_encoder).partial_fit(events, items=courses)
    state, other = (m._serving.network.users.state_dict() for m in (taught, twin))
    assert list(state) == list(other)
    assert [part.shape for part in state.values()] == [part.shape for part in other.values()]

"""A model taken to a catalogue of which it knows nothing: what all its texts say is left out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from palate import Recommender
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
    monkeypatch.setattr(bert_items, "_LEAST_OF_DOMAIN", 4)
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
    monkeypatch.setattr(bert_items, "_LEAST_OF_DOMAIN", 4)
    events, courses = school()
    taught.add_items(courses)
    rows = content(taught.partial_fit(events)).loc[courses["item_id"]]
    np.testing.assert_allclose(rows.mean(), 0, atol=1e-6)


@pytest.mark.parametrize("known", ["i1", None], ids=["a thing is met", "few texts"])
def test_else_the_mean_is_kept(
    taught: Recommender, monkeypatch: pytest.MonkeyPatch, known: str | None
) -> None:
    if known is not None:
        monkeypatch.setattr(bert_items, "_LEAST_OF_DOMAIN", 4)
    events, courses = school(known)
    expected = as_read(copy.deepcopy(taught))
    model = taught.partial_fit(events, items=courses)
    pd.testing.assert_frame_equal(content(model).loc[expected.index], expected)

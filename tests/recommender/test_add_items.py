"""Cold items: a place by content, without training."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from palate import BertEncoder, Items, Recommender
from palate.encoders.item.model_source import resolve_model
from palate.exceptions import IntegrityError, InvalidInputError, MissingContentError
from palate.testing import make_tiny_bert

Make = Callable[..., Recommender]


@pytest.fixture
def cold() -> pd.DataFrame:
    return pd.DataFrame({"item_id": ["n1", "n2"], "title": ["green chair", "a garden book"]})


def test_a_cold_item_stands_near_its_twin(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame, cold: pd.DataFrame
) -> None:
    twins = items.assign(title=items["title"] + " " + items["item_id"])
    twins.loc[1, "title"] = "green chair"
    model = make_recommender(item_encoder="bert").fit(events, items=twins)
    model.add_items(cold)
    near = model.recommend_to_items(["n1"], k=1)
    assert near["item_id"].tolist() == ["i1"]
    assert near["score"][0] == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(model.item_vectors_[13], model.item_vectors_[1], atol=1e-6)


def test_the_id_half_of_a_cold_item_is_silent(
    model: Recommender, cold: pd.DataFrame, options: Any
) -> None:
    model.add_items(cold)
    content = model._serving.network.items.encode_texts(cold["title"].tolist(), options)
    np.testing.assert_allclose(model.item_vectors_[13:], content.detach().numpy(), atol=1e-6)


def test_the_catalogue_grows_and_nothing_else_moves(
    model: Recommender, fitted_once: Recommender, cold: pd.DataFrame
) -> None:
    model.add_items(cold)
    assert model.item_ids_.tolist() == [*fitted_once.item_ids_, "n1", "n2"]
    np.testing.assert_array_equal(model.item_vectors_[:13], fitted_once.item_vectors_)
    users = pd.DataFrame({"user_id": fitted_once.user_ids_})
    np.testing.assert_array_equal(model.transform(users), fitted_once.transform(users))
    old = model.recommend(k=5, items_to_exclude=["n1", "n2"])
    pd.testing.assert_frame_equal(old, fitted_once.recommend(k=5))
    everything = model.recommend(["u0"], k=99)["item_id"].tolist()
    assert {"n1", "n2"} <= set(everything)
    assert model.recommend(histories=[["n1"]], k=3)["item_id"].tolist() != []


def test_again_and_again_is_all_at_once(
    model: Recommender,
    fitted_once: Recommender,
    cold: pd.DataFrame,
) -> None:
    at_once = copy.deepcopy(fitted_once).add_items(cold)
    model.add_items(cold[:1]).add_items(Items(cold[1:]))
    assert model.item_ids_.tolist() == at_once.item_ids_.tolist()
    # BERT reads the texts in other batches: equal up to the last bits.
    np.testing.assert_allclose(model.item_vectors_, at_once.item_vectors_, atol=1e-5)
    table, expected = model.recommend(k=3), at_once.recommend(k=3)
    assert table["item_id"].tolist() == expected["item_id"].tolist()


def test_a_cold_item_warms_up(model: Recommender, cold: pd.DataFrame, folder: Any) -> None:
    model.add_items(cold).add_items(pd.DataFrame({"item_id": ["n3"], "title": ["a red thing"]}))
    model.observe(pd.DataFrame({"user_id": ["u0"], "item_id": ["n2"], "timestamp": [99]}))
    before = model.item_vectors_
    model.set_params(validation_fraction=0)
    model.partial_fit(pd.DataFrame({"user_id": ["u0"], "item_id": ["n1"], "timestamp": [100]}))
    seen = model._serving.network.seen.tolist()
    assert seen[13:] == [True, True, False]
    assert not np.allclose(model.item_vectors_[13], before[13])


def test_a_grown_model_saves_and_loads(model: Recommender, cold: pd.DataFrame, folder: Any) -> None:
    model.add_items(cold)
    model.save(folder)
    loaded = Recommender.load(folder, options=model.options)
    pd.testing.assert_frame_equal(loaded.recommend(k=9), model.recommend(k=9))
    more = pd.DataFrame({"item_id": ["n3"], "title": ["a red thing"]})
    pd.testing.assert_frame_equal(
        loaded.add_items(more).recommend(k=9), model.add_items(more).recommend(k=9)
    )


def test_ids_alone_cannot_place_an_item(id_model: Recommender, cold: pd.DataFrame) -> None:
    with pytest.raises(MissingContentError) as caught:
        id_model.add_items(cold)
    assert str(caught.value) == (
        "add_items needs an item encoder with content, such as item_encoder='bert+id'; got 'id'."
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"item_id": ["n1", "i3"], "title": ["a", "b"]},
            "items must be new to the catalogue; row 1 names 'i3', which is in it.",
        ),
        (
            {"item_id": ["n1"], "name": ["a"]},
            "items must have a column 'title', as the items learned before had; "
            "its columns are 'name'.",
        ),
        ({"title": ["a"]}, "items must have a column 'item_id'; its columns are 'title'."),
        (
            {"item_id": ["n1", "n2", "n1"], "title": ["a", "b", "c"]},
            "column 'item_id' of items must name each item once; row 2 repeats 'n1'.",
        ),
        (
            {"item_id": ["n1", None], "title": ["a", "b"]},
            "column 'item_id' of items must have no missing values; row 1 is nan.",
        ),
    ],
)
def test_what_is_refused_leaves_the_estimator_as_it_was(
    table: dict[str, Any],
    message: str,
    model: Recommender,
    fitted_once: Recommender,
    snapshot: Any,
    assert_same: Any,
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        model.add_items(pd.DataFrame(table))
    assert str(caught.value) == message
    assert_same(snapshot(fitted_once), snapshot(model))


def test_number_ids_are_shown_plainly(make_recommender: Make) -> None:
    items = pd.DataFrame({"item_id": [3, 4], "title": ["red", "blue"]})
    model = make_recommender(item_encoder="bert").fit([[3, 4]], items=items)
    with pytest.raises(InvalidInputError) as caught:
        model.add_items(items)
    assert str(caught.value) == (
        "items must be new to the catalogue; row 0 names 3, which is in it."
    )


def test_a_table_without_rows_changes_nothing(
    model: Recommender,
    fitted_once: Recommender,
    cold: pd.DataFrame,
    snapshot: Any,
    assert_same: Any,
) -> None:
    model.add_items(cold[:0])
    assert_same(snapshot(fitted_once), snapshot(model))


def test_nothing_random_is_left_to_chance(
    fitted_once: Recommender, cold: pd.DataFrame, snapshot: Any, assert_same: Any
) -> None:
    state = torch.get_rng_state()
    models = []
    for skipped in (0, 5):
        torch.rand(skipped)  # what else a program draws does not matter
        before = torch.get_rng_state()
        model = copy.deepcopy(fitted_once).add_items(cold)
        assert torch.equal(torch.get_rng_state(), before)
        new = pd.DataFrame({"user_id": ["u0"], "item_id": ["n1"], "timestamp": [100]})
        models.append(model.set_params(validation_fraction=0).partial_fit(new))
    torch.set_rng_state(state)
    assert_same(snapshot(models[0]), snapshot(models[1]))


def test_a_number_reads_the_same_whatever_comes_with_it(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame, tiny_bert: str
) -> None:
    encoder = BertEncoder(tiny_bert, text_columns=["title", "year"])
    table = items[["item_id", "title"]].assign(year=2000)
    model = make_recommender(item_encoder=encoder, epochs=1).fit(events, items=table)
    new = pd.DataFrame({"item_id": ["n0", "n1"], "title": ["a lamp"] * 2, "year": [2001, None]})
    alone = copy.deepcopy(model).add_items(new[:1].astype({"year": int}))
    both = copy.deepcopy(model).add_items(new)
    np.testing.assert_allclose(
        both.item_vectors_[-2], alone.item_vectors_[-1], rtol=1e-5, atol=1e-7
    )
    assert both._serving.table.texts(["title", "year"], start=len(table)) == [
        "a lamp. 2001",
        "a lamp",
    ]


def test_another_text_model_under_the_same_name_is_refused(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame, tmp_path: Path
) -> None:
    bert = make_tiny_bert(tmp_path / "bert")
    model = make_recommender(item_encoder=BertEncoder(str(bert)), epochs=1).fit(events, items=items)
    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", options=model.options)
    before = loaded.item_vectors_.copy()
    before_print = resolve_model(str(bert)).fingerprint
    shutil.rmtree(bert)
    make_tiny_bert(bert, random_state=7)
    twin = items[:1].assign(item_id="twin")
    with pytest.raises(IntegrityError) as caught:
        loaded.add_items(twin)
    assert str(caught.value) == (
        f"The files of the text model {str(bert)!r} must have the SHA-256 {before_print}, as when "
        f"it read the catalogue; those in {bert} have {resolve_model(str(bert)).fingerprint}."
    )
    np.testing.assert_array_equal(loaded.item_vectors_, before)
    shutil.rmtree(bert)
    make_tiny_bert(bert)
    np.testing.assert_allclose(loaded.add_items(twin).item_vectors_[-1], before[0], atol=1e-6)

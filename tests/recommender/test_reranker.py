"""The second stage inside the estimator: what it may change, and what it must not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from palate import Recommender, Reranker, Text
from palate.exceptions import InvalidParameterError, PersistenceError
from palate.persistence.checksums import read_config, write_config
from palate.reranking.spec import MODES

Make = Callable[..., Recommender]


def stirred(model: Recommender) -> Recommender:
    """Give the correction of a fitted model weights that change the order for sure."""
    module = copy.deepcopy(model._serving.reranker.module)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        module.strength.fill_(1.0)
    second = replace(model._serving.reranker, module=module)
    model._serving = replace(model._serving, reranker=second)
    return model


WIDE = {"mean_weight": 0.6, "content_weight": 0.3}


@pytest.fixture(scope="module", params=[(mode, {}) for mode in MODES] + [("gate", WIDE)], ids=str)
def pair(
    request: pytest.FixtureRequest,
    make_recommender: Make,
    events: pd.DataFrame,
    items: pd.DataFrame,
) -> tuple[Recommender, Recommender]:
    """A model without and the same with a second stage that changes something; to be left alone."""
    mode, more = request.param
    spec = Reranker(mode, n_candidates=5, n_events=3, epochs=1)
    with_it = make_recommender(item_encoder="bert+id", reranker=spec, **more)
    without = make_recommender(item_encoder="bert+id", **more)
    return without.fit(events, items=items), stirred(with_it.fit(events, items=items))


def as_rows(table: pd.DataFrame) -> dict[Any, list[tuple[str, float]]]:
    return {
        user: list(zip(rows["item_id"], rows["score"], strict=True))
        for user, rows in table.groupby("user_id")
    }


def expected_rows(
    pair: tuple[Recommender, Recommender], histories: list[list[str]], k: int, **asked: Any
) -> dict[int, list[str]]:
    """Re-order the first stage's lists the plain way, item by item."""
    without, with_it = pair
    serving = with_it._serving
    module, content = serving.reranker.module.double(), content_of(with_it)
    codes = {item: code for code, item in enumerate(with_it.item_ids_.tolist())}
    lists = as_rows(without.recommend(histories=histories, k=13, **asked))
    users = torch.from_numpy(without.transform(histories)).double()
    out = {}
    for row, history in enumerate(histories):
        recent = [codes[item] for item in history[::-1][:3]]
        events = content[torch.tensor([recent])]
        scored = []
        for item, score in lists[row][:5]:
            visible = torch.tensor([[[codes[item] != event for event in recent]]])
            place = torch.tensor([[codes[item]]])
            vectors = serving.vectors.double()[place]
            with torch.no_grad():
                change = module(
                    users[row : row + 1],
                    vectors,
                    content[place],
                    events,
                    visible,
                )
            scored.append((-(score + float(change)), codes[item], item))
        out[row] = [item for _, _, item in sorted(scored)]
        out[row] = (out[row] + [item for item, _ in lists[row][5:]])[:k]
    module.float()
    return out


def content_of(model: Recommender) -> torch.Tensor:
    """Return the content of the catalogue, of length 1: one part has any."""
    rows = model._serving.network.items.parts[0].features.double()
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)


HISTORIES = [["i1"], ["i2", "i5", "i3", "i9"], ["i0", "i4"]]


@pytest.mark.parametrize("filter_viewed", [True, False])
@pytest.mark.parametrize("k", [1, 4, 6, 13])
def test_candidates_are_put_in_order_and_the_rest_stays_behind(
    pair: tuple[Recommender, Recommender], k: int, filter_viewed: bool
) -> None:
    pair = pair[0], copy.deepcopy(pair[1])
    asked: dict[str, Any] = {"filter_viewed": filter_viewed}
    found = pair[1].recommend(histories=HISTORIES, k=k, **asked)
    rows = {row: [item for item, _ in of_row] for row, of_row in as_rows(found).items()}
    assert rows == expected_rows(pair, HISTORIES, k, **asked)
    for _, of_row in found.groupby("user_id"):
        assert (np.diff(of_row["score"]) <= 0).all()
        assert np.isfinite(of_row["score"]).all()
        assert of_row["rank"].tolist() == list(range(1, len(of_row) + 1))


def test_something_changes(pair: tuple[Recommender, Recommender]) -> None:
    without, with_it = pair
    assert not with_it.recommend(k=3).equals(without.recommend(k=3))
    np.testing.assert_array_equal(with_it.item_vectors_, without.item_vectors_)


def test_batch_equals_one_by_one(pair: tuple[Recommender, Recommender], encoding: Make) -> None:
    model = encoding(pair[1])
    together = model.recommend(k=7)
    for user, rows in together.groupby("user_id"):
        alone = model.recommend([user], k=7)
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), alone, atol=1e-5)


def test_filters_hold(pair: tuple[Recommender, Recommender]) -> None:
    only = ["i0", "i3", "i12", "i7", "i1", "i8"]
    asked: dict[str, Any] = {"items_to_recommend": only, "items_to_exclude": ["i8"]}
    found = pair[1].recommend(histories=HISTORIES, k=13, **asked)
    for row, of_row in as_rows(found).items():
        assert {item for item, _ in of_row} == {*only} - {"i8", *HISTORIES[row]}
    rows = {row: [item for item, _ in of_row] for row, of_row in as_rows(found).items()}
    assert rows == expected_rows((pair[0], copy.deepcopy(pair[1])), HISTORIES, 13, **asked)


def test_the_other_answers_follow(
    pair: tuple[Recommender, Recommender], events: pd.DataFrame
) -> None:
    with_it = pair[1]
    lists = as_rows(with_it.recommend(k=4))
    predicted = with_it.predict(events[:9], k=4)
    for row, user in enumerate(events["user_id"][:9]):
        shown = [item for item in predicted[row] if item is not None]
        assert shown == [item for item, _ in lists[user]]
    unseen = pd.DataFrame({"user_id": ["u0", "u1"], "item_id": [lists["u0"][0][0], "i12"]})
    assert with_it.score(unseen, k=1) == (1 + (lists["u1"][0][0] == "i12")) / 2
    pd.testing.assert_frame_equal(
        with_it.recommend_to_items(["i3"]), pair[0].recommend_to_items(["i3"])
    )
    popular = with_it.recommend(["who"], on_unsupported_targets="popular")
    assert popular["item_id"].tolist() == (
        pair[0].recommend(["who"], on_unsupported_targets="popular")["item_id"].tolist()
    )


def test_texts_are_events_too(pair: tuple[Recommender, Recommender]) -> None:
    without, with_it = pair
    told = with_it.recommend(texts=[["a red lamp", "i bought a book"], ["a chair"]], k=13)
    mixed = with_it.recommend(histories=[["i3", Text("a blue chair")]], k=13)
    assert len(told) == 26
    assert len(mixed) == 12
    assert not told.equals(
        without.recommend(texts=[["a red lamp", "i bought a book"], ["a chair"]])
    )


@pytest.mark.parametrize("asked", [{"popularity_weight": 0.4}, {"new_item_boost": 0.6}], ids=str)
def test_popularity_and_boosts_choose_the_candidates(
    pair: tuple[Recommender, Recommender], asked: dict[str, float]
) -> None:
    pair = pair[0], copy.deepcopy(pair[1])
    found = as_rows(pair[1].recommend(histories=HISTORIES, k=13, **asked))
    rows = {row: [item for item, _ in of_row] for row, of_row in found.items()}
    assert rows == expected_rows(pair, HISTORIES, 13, **asked)


# ---- what is learned


def test_an_untrained_second_stage_is_the_first_stage(
    make_recommender: Make, events: pd.DataFrame
) -> None:
    without = make_recommender().fit(events)
    untrained = make_recommender(reranker=Reranker("gate", epochs=0)).fit(events)
    pd.testing.assert_frame_equal(
        untrained.recommend(k=9), without.recommend(k=9), check_exact=True
    )
    # The correction is zero: applied in full, it changes no score and no place.
    module = untrained._serving.reranker.module
    module.strength.fill_(1.0)
    assert not untrained._serving.reranker.changes_nothing
    pd.testing.assert_frame_equal(
        untrained.recommend(k=9), without.recommend(k=9), check_exact=True
    )
    assert [r["stage"] for r in untrained.history_] == ["fit"]


@pytest.mark.parametrize("mode", MODES)
def test_the_first_stage_is_the_same_with_and_without(
    make_recommender: Make, events: pd.DataFrame, mode: str
) -> None:
    without = make_recommender().fit(events)
    model = make_recommender(reranker=mode, validation_fraction=0.3).fit(events)
    same = make_recommender(validation_fraction=0.3).fit(events)
    np.testing.assert_array_equal(model.item_vectors_, same.item_vectors_)
    np.testing.assert_array_equal(model.transform(events), same.transform(events))
    assert [r["stage"] for r in model.history_] == ["fit", "rerank", "rerank", "rerank"]
    assert without._serving.reranker is None
    again = make_recommender(reranker=mode, validation_fraction=0.3).fit(events)
    pd.testing.assert_frame_equal(model.recommend(k=9), again.recommend(k=9), check_exact=True)


def test_new_events_and_new_items(
    pair: tuple[Recommender, Recommender], events: pd.DataFrame
) -> None:
    model = copy.deepcopy(pair[1])
    before = model.recommend(["u0"], k=13)
    model.observe(pd.DataFrame({"user_id": ["u0"], "item_id": ["i12"], "timestamp": [90]}))
    after = model.recommend(["u0"], k=13)
    assert "i12" in before["item_id"].tolist()
    assert "i12" not in after["item_id"].tolist()
    model.add_items(pd.DataFrame({"item_id": ["new"], "title": ["red lamp"]}))
    assert "new" in model.recommend(["u0"], k=14)["item_id"].tolist()
    content = model._serving.network.items.content()
    twin = int(np.flatnonzero(model.item_ids_ == "i0")[0])
    torch.testing.assert_close(content[13], content[twin])


def test_learning_on(pair: tuple[Recommender, Recommender], events: pd.DataFrame) -> None:
    model = copy.deepcopy(pair[1]).set_params(epochs=1)
    module = model._serving.reranker.module
    weight = module.weight.clone()
    model.set_params(reranker__epochs=1)
    more = pd.DataFrame(
        {"user_id": ["u1", "u1", "x", "x", "x"], "item_id": ["i1", "i2", "i3", "i1", "i0"]}
    ).assign(timestamp=range(100, 105))
    model.partial_fit(more)
    assert torch.equal(module.weight, weight)  # readers still hold it
    assert len(model.recommend(["x"], k=3)) == 3
    # Without a second stage from now on, and with another one.
    model.set_params(reranker=None).partial_fit(more.assign(timestamp=200))
    assert model._serving.reranker is None
    model.set_params(reranker=Reranker(epochs=1, n_candidates=3)).partial_fit(
        more.assign(timestamp=300)
    )
    assert model._serving.reranker.spec.n_candidates == 3


def test_attributes_of_users_go_with_it(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame, folder: Path, options: Any
) -> None:
    people = pd.DataFrame(
        {"user_id": [f"u{i}" for i in range(7)], "likes": ["red", "blue"] * 3 + ["a"]}
    )
    spec = Reranker(n_candidates=5, epochs=1)
    asked: dict[str, Any] = {"item_encoder": "bert+id", "user_features": ["likes"]}
    without = make_recommender(**asked).fit(events, items=items, users=people)
    model = make_recommender(**asked, reranker=spec).fit(events, items=items, users=people)
    np.testing.assert_array_equal(model.transform(events), without.transform(events))
    model = stirred(model)
    assert not model.recommend(k=5).equals(without.recommend(k=5))
    model.save(folder)
    loaded = Recommender.load(folder, options=options)
    pd.testing.assert_frame_equal(loaded.recommend(k=9), model.recommend(k=9), check_exact=True)
    # Somebody without an event has attributes alone: there is nothing to compare content with.
    new = pd.DataFrame({"user_id": ["new"], "likes": ["blue"]})
    for one in (model, without):
        one.observe(events[:0], users=new)
    pd.testing.assert_frame_equal(model.recommend(["new"], k=9), without.recommend(["new"], k=9))


# ---- keeping


def test_saving_loading_and_copies(
    pair: tuple[Recommender, Recommender], folder: Path, options: Any
) -> None:
    model = pair[1]
    expected = model.recommend(k=9)
    model.save(folder)
    assert (folder / "reranker.safetensors").is_file()
    for mmap in (False, True):
        loaded = Recommender.load(folder, options=options, mmap=mmap)
        pd.testing.assert_frame_equal(loaded.recommend(k=9), expected, check_exact=True)
        assert loaded.reranker.get_params() == model.reranker.get_params()
        texts = [["a red lamp"]]
        pd.testing.assert_frame_equal(loaded.recommend(texts=texts), model.recommend(texts=texts))
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        pd.testing.assert_frame_equal(copied.recommend(k=9), expected, check_exact=True)
    loaded.save(folder)  # over itself
    loaded.set_params(reranker=None).partial_fit(_more()).save(folder)
    assert not (folder / "reranker.safetensors").exists()
    assert Recommender.load(folder, options=options).reranker is None


def _more() -> pd.DataFrame:
    return pd.DataFrame({"user_id": ["u1"], "item_id": ["i1"], "timestamp": [99]})


def test_what_is_saved_is_what_was_learned(
    make_recommender: Make, events: pd.DataFrame, folder: Path, options: Any
) -> None:
    model = make_recommender(reranker="film").fit(events)
    model.set_params(reranker=Reranker("gate")).save(folder)
    assert Recommender.load(folder, options=options).reranker == "film"
    make_recommender().fit(events).set_params(reranker="gate").save(folder)
    assert Recommender.load(folder, options=options).reranker is None


def test_a_missing_file_is_named(
    pair: tuple[Recommender, Recommender], folder: Path, options: Any
) -> None:
    pair[1].save(folder)
    (folder / "reranker.safetensors").unlink()
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder, options=options)
    assert str(caught.value) == (
        f"{str(folder)!r} is not a complete saved model; it lacks reranker.safetensors."
    )
    config = read_config(folder, (2,), verify=True)
    write_config(folder, config)  # as if it had been written without it
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder, options=options)
    assert "it lacks reranker.safetensors" in str(caught.value)


# ---- parameters


def test_parameters_are_reached_by_name(make_recommender: Make) -> None:
    model = make_recommender(reranker="gate")
    assert model.get_params()["reranker__mode"] == "gate"
    model.set_params(reranker__n_candidates=7)
    assert (model.reranker.mode, model.reranker.n_candidates) == ("gate", 7)
    copied = clone(model)
    assert copied.reranker is not model.reranker
    assert copied.reranker.get_params() == model.reranker.get_params()
    model.set_params(reranker="film", reranker__epochs=2)
    assert (model.reranker.mode, model.reranker.epochs) == ("film", 2)
    assert "reranker__mode" not in make_recommender().get_params()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "mlp",
            "reranker must be None, one of 'gate', 'film', 'attention', or a spec of that kind; "
            "got 'mlp'.",
        ),
        (
            Reranker,
            "reranker must be None, one of 'gate', 'film', 'attention', or a spec of that kind; "
            "got <class 'palate.reranking.spec.Reranker'>.",
        ),
        (Reranker(n_candidates=0), "n_candidates must be an integer of at least 1; got 0."),
        (Reranker("mlp"), "mode must be one of 'gate', 'film', 'attention'; got 'mlp'."),
    ],
    ids=["name", "class", "number", "mode"],
)
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_what_is_refused(
    make_recommender: Make, events: pd.DataFrame, given: Any, message: str, call: str
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        getattr(make_recommender(reranker=given), call)(events)
    assert str(caught.value) == message


def test_parameters_of_no_second_stage(make_recommender: Make) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        make_recommender().set_params(reranker__epochs=2)
    assert str(caught.value) == (
        "reranker must not be None where its own parameters are set; got None."
    )


def test_onnx_says_that_it_has_one_stage(
    pair: tuple[Recommender, Recommender], folder: Path
) -> None:
    pytest.importorskip("onnx", reason="needs palate[export]")
    from palate.export import to_onnx

    with pytest.raises(InvalidParameterError) as caught:
        to_onnx(pair[1], folder)
    assert str(caught.value) == (
        "reranker must be None in fit for a model to be written as ONNX, which holds the first "
        f"stage alone; got {pair[1].reranker!r}."
    )

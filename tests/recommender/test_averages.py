"""Plain averages of a history beside the encoder's vector, from `fit` to an answer."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import Recommender, Text
from palate.exceptions import InvalidParameterError

A, B = 0.6, 0.3
KEPT = 0.8
Make = Callable[..., Recommender]


@pytest.fixture(scope="module")
def pair(make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame) -> Any:
    """The same training twice, answering without and with averages."""
    plain = make_recommender(item_encoder="bert+id", mean_weight=0, content_weight=0)
    mixed = make_recommender(item_encoder="bert+id", mean_weight=A, content_weight=B)
    return plain.fit(events, items=items), mixed.fit(events, items=items)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def scores_of(plain: Recommender, history: list[Any]) -> np.ndarray:
    """Return the score of every item for a history, in float64."""
    vectors = unit(plain.item_vectors_.astype(np.float64))
    content = unit(plain.item_encoder_.content(None).double().numpy())
    codes = [plain.item_ids_.tolist().index(item) for item in history][-50:]
    fade = KEPT ** np.arange(len(codes) - 1, -1, -1)
    e = unit(plain.transform([history])[0].astype(np.float64))
    m, c = unit(fade @ vectors[codes]), unit(fade @ content[codes])
    length = np.sqrt(((e + A * m) ** 2).sum() + B) * np.sqrt(1 + B)
    return (vectors @ e + A * vectors @ m + B * content @ c) / length


def test_scores_are_the_formula(pair: Any) -> None:
    plain, mixed = pair
    ids = plain.item_ids_.tolist()
    histories = [ids[:3], [ids[4]], [ids[2], ids[6], ids[2], ids[1]]]
    found = mixed.recommend(histories=histories, k=len(ids), filter_viewed=False)
    for row, history in enumerate(histories):
        mine = found[found["user_id"] == row].set_index("item_id")["score"]
        right = dict(zip(ids, scores_of(plain, history), strict=True))
        np.testing.assert_allclose(mine, [right[item] for item in mine.index], rtol=0, atol=1e-6)
        assert sorted(mine.index) == sorted(ids)


def test_vectors_are_wider_and_their_cosines_are_the_scores(pair: Any) -> None:
    plain, mixed = pair
    width = plain.item_encoder_.content(None).shape[1]
    assert mixed.item_vectors_.shape == (len(mixed.item_ids_), 8 + width)
    np.testing.assert_array_equal(mixed.item_vectors_[:, :8], plain.item_vectors_)
    assert len(mixed.get_feature_names_out()) == 8 + width
    history = mixed.item_ids_[:4].tolist()
    user = mixed.transform([history])[0]
    found = mixed.recommend(histories=[history], k=3)
    codes = [mixed.item_ids_.tolist().index(item) for item in found["item_id"]]
    cosines = unit(mixed.item_vectors_[codes]) @ unit(user)
    np.testing.assert_allclose(found["score"], cosines, rtol=0, atol=1e-6)
    assert (mixed.mean_weight_, mixed.content_weight_) == (A, B)
    assert (plain.mean_weight_, plain.content_weight_) == (0.0, 0.0)


def test_a_batch_answers_as_one_by_one(pair: Any) -> None:
    _, mixed = pair
    histories = [mixed.item_ids_[a:b].tolist() for a, b in ((0, 1), (2, 7), (1, 4))]
    together = mixed.transform(histories)
    for row, history in enumerate(histories):
        alone = mixed.transform([history])[0]
        np.testing.assert_allclose(together[row], alone, rtol=0, atol=1e-5)


def test_it_is_kept_by_every_way_of_keeping(pair: Any, tmp_path: Path) -> None:
    _, mixed = pair
    mixed.save(tmp_path / "model")
    for mmap in (False, True):
        loaded = Recommender.load(tmp_path / "model", mmap=mmap)
        np.testing.assert_array_equal(loaded.item_vectors_, mixed.item_vectors_)
        pd.testing.assert_frame_equal(loaded.recommend(k=4), mixed.recommend(k=4))
        assert (loaded.mean_weight_, loaded.content_weight_) == (A, B)
    pd.testing.assert_frame_equal(
        pickle.loads(pickle.dumps(mixed)).recommend(k=4), mixed.recommend(k=4)
    )


def test_new_items_texts_and_events_join(pair: Any, items: pd.DataFrame) -> None:
    model = copy.deepcopy(pair[1])
    row = items.iloc[[0]].assign(item_id="brand new")
    known = items["item_id"].iloc[0]
    model.add_items(row)
    assert model.item_vectors_.shape == (len(model.item_ids_), pair[1].item_vectors_.shape[1])
    # The same text, so the same content: only the part of the id tells them apart.
    new, old = model.item_vectors_[-1], model.item_vectors_[model.item_ids_.tolist().index(known)]
    np.testing.assert_allclose(unit(new[8:]), unit(old[8:]), rtol=0, atol=1e-5)
    text = str(row["title"].iloc[0])
    spoken = model.transform([[Text(text)]])[0]
    taken = model.transform([["brand new"]])[0]
    np.testing.assert_allclose(spoken[8:], taken[8:], rtol=0, atol=1e-4)
    before = model.recommend(users=[model.user_ids_[0]], k=3)
    event = {"user_id": [model.user_ids_[0]], "item_id": ["brand new"], "timestamp": [10**6]}
    model.observe(pd.DataFrame(event))
    assert not before.equals(model.recommend(users=[model.user_ids_[0]], k=3))
    near = model.recommend_to_items([known], k=3)
    assert np.isfinite(near["score"]).all()


def test_learning_on_keeps_the_weights_or_takes_new_ones(
    pair: Any, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    model = copy.deepcopy(pair[1])
    model.partial_fit(events.iloc[:9], items=items)
    assert (model.mean_weight_, model.content_weight_) == (A, B)
    model.set_params(mean_weight="auto", content_weight="auto").partial_fit(events.iloc[:9])
    assert (model.mean_weight_, model.content_weight_) == (A, B)
    model.set_params(content_weight=0).partial_fit(events.iloc[:9])
    assert (model.mean_weight_, model.content_weight_) == (A, 0.0)
    assert model.item_vectors_.shape[1] == 8


def test_few_held_out_users_leave_what_is_usual_and_many_choose(make_recommender: Make) -> None:
    rng = np.random.default_rng(0)
    # Five items a text, in no order, and no training: what was read says all that there is to say.
    histories = [
        rng.permutation(np.arange(5) + 5 * group).tolist() for group in rng.integers(0, 20, 150)
    ]
    words = [
        f"{a} {b}"
        for a in ("red", "green", "blue", "old")
        for b in ("lamp", "chair", "book", "garden", "kitchen")
    ]
    items = pd.DataFrame({"item_id": range(100), "title": np.repeat(words, 5)})
    params = {"item_encoder": "bert+id", "epochs": 0}
    few = make_recommender(validation_fraction=0.3, **params).fit(histories[:99], items=items)
    assert (few.mean_weight_, few.content_weight_) == (0.3, 0.0)
    given = clone_of(few, mean_weight=0.7, content_weight=0.2).fit(histories[:99], items=items)
    assert (given.mean_weight_, given.content_weight_) == (0.7, 0.2)
    many = make_recommender(validation_fraction=0.4, **params).fit(histories, items=items)
    assert many.content_weight_ > 0
    off = clone_of(many, mean_weight=0, content_weight=0).fit(histories, items=items)
    np.testing.assert_array_equal(off.item_vectors_, many.item_vectors_[:, :8])
    dot = clone_of(many, metric="dot").fit(histories, items=items)
    assert (dot.mean_weight_, dot.content_weight_) == (0.0, 0.0)


def clone_of(model: Recommender, **params: Any) -> Recommender:
    return Recommender(**{**model.get_params(deep=False), **params})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"mean_weight": -1},
            "mean_weight must be a number in [0, inf) or 'auto'; got -1.",
        ),
        (
            {"content_weight": "some"},
            "content_weight must be a number in [0, inf) or 'auto'; got 'some'.",
        ),
        (
            {"mean_weight": 0.5, "metric": "dot"},
            "mean_weight must be 0 or 'auto' unless metric='cosine'; got 0.5 and metric='dot'.",
        ),
        (
            {"content_weight": 0.5},
            "content_weight must be 0 or 'auto' where the item encoder reads no text; got 0.5.",
        ),
    ],
)
def test_weights_that_cannot_be(
    make_recommender: Make, events: pd.DataFrame, params: dict[str, Any], message: str
) -> None:
    model = make_recommender(**params)
    with pytest.raises(InvalidParameterError) as caught:
        model.fit(events)
    assert str(caught.value) == message
    assert not hasattr(model, "item_ids_")

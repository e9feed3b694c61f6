"""Small habits of scikit-learn's estimators: seeds, containers, copies, pictures, attributes."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import check_is_fitted

from palate import (
    ApproximateRanker,
    BertItemEncoder,
    CosineRanker,
    GRUEncoder,
    HistoryEncoder,
    Recommender,
    RunOptions,
)
from palate.baselines import MostPopular

Make = Callable[..., Recommender]


# ---- random_state


def vectors(model: Recommender, events: pd.DataFrame) -> np.ndarray:
    return model.fit(events).item_vectors_


def test_an_integer_seed_repeats(make_recommender: Make, events: pd.DataFrame) -> None:
    model = make_recommender(random_state=3)
    first = vectors(model, events)
    np.testing.assert_array_equal(vectors(model, events), first)
    np.testing.assert_array_equal(vectors(clone(model), events), first)
    np.testing.assert_array_equal(
        vectors(make_recommender(random_state=np.int64(3)), events), first
    )
    assert not np.array_equal(vectors(make_recommender(random_state=4), events), first)


def test_a_random_state_goes_on(make_recommender: Make, events: pd.DataFrame) -> None:
    shared = np.random.RandomState(3)
    model = make_recommender(random_state=shared)
    first, second = vectors(model, events), vectors(model, events)
    assert not np.array_equal(first, second)
    assert model.random_state is shared
    again = make_recommender(random_state=np.random.RandomState(3))
    np.testing.assert_array_equal(vectors(again, events), first)
    np.testing.assert_array_equal(vectors(again, events), second)
    # A clone starts where the generator stands, and does not share it.
    copied = clone(again)
    assert copied.random_state is not again.random_state
    np.testing.assert_array_equal(vectors(copied, events), vectors(again, events))


def test_no_seed_follows_numpy_and_leaves_torch_alone(
    make_recommender: Make, events: pd.DataFrame
) -> None:
    model = make_recommender(random_state=None)
    before = np.random.get_state()
    try:
        torch_state = torch.get_rng_state()
        first, second = vectors(model, events), vectors(model, events)
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert not np.array_equal(first, second)
        np.random.seed(8)
        third = vectors(model, events)
        np.random.seed(8)
        np.testing.assert_array_equal(vectors(model, events), third)
    finally:
        np.random.set_state(before)


def test_what_scikit_learn_refuses_as_a_seed(make_recommender: Make, events: pd.DataFrame) -> None:
    for seed in (np.random.default_rng(0), "0", 1.5):
        with pytest.raises(ValueError, match="cannot be used to seed"):
            make_recommender(random_state=seed).fit(events)


def test_the_seed_of_approximate_lists() -> None:
    pytest.importorskip("faiss", reason="the extra palate[ann] is not installed")
    x = torch.randn(900, 6, generator=torch.Generator().manual_seed(0))

    def found(ranker: ApproximateRanker) -> list[list[int]]:
        return ranker.fit(x).topk(x[:30], 9).indices.tolist()

    seeded = ApproximateRanker(n_probe=1, random_state=5)
    assert found(seeded) == found(seeded)
    shared = ApproximateRanker(n_probe=1, random_state=np.random.RandomState(5))
    first, second = found(shared), found(shared)
    assert first != second
    assert first == found(seeded)
    free = ApproximateRanker(n_probe=1, random_state=None)
    assert found(free) != found(free)


# ---- containers of transform


def test_user_vectors_as_tables(id_fitted_once: Recommender, events: pd.DataFrame) -> None:
    model = copy.deepcopy(id_fitted_once)
    plain = model.transform(events)
    assert isinstance(plain, np.ndarray)
    rows = events.iloc[[5, 2, 40]]
    frame = model.set_output(transform="pandas").transform(rows)
    assert list(frame.columns) == [f"recommender{i}" for i in range(8)]
    assert list(frame.index) == [5, 2, 40]
    np.testing.assert_allclose(frame.to_numpy(), plain[[5, 2, 40]], rtol=0, atol=1e-6)
    fitted = model.fit_transform(events)
    assert isinstance(fitted, pd.DataFrame)
    assert fitted.index.equals(events.index)
    assert model.transform([["i1", "i2"], ["i3"]]).shape == (2, 8)
    # A copy keeps the choice, an estimator without one follows the configuration.
    assert isinstance(clone(model).fit(events).transform(events), pd.DataFrame)
    with config_context(transform_output="pandas"):
        assert isinstance(id_fitted_once.transform(events), pd.DataFrame)
    assert isinstance(id_fitted_once.transform(events), np.ndarray)
    pl = pytest.importorskip("polars")
    polars = model.set_output(transform="polars").transform(pl.from_pandas(rows))
    assert isinstance(polars, pl.DataFrame)
    np.testing.assert_allclose(polars.to_numpy(), plain[[5, 2, 40]], rtol=0, atol=1e-6)


# ---- fitted or not


def unfitted(tiny_bert: str, options: RunOptions) -> list[Any]:
    return [
        Recommender(item_encoder="id", options=options),
        MostPopular(),
        CosineRanker(),
        ApproximateRanker(),
        BertItemEncoder(tiny_bert, options=options),
        HistoryEncoder(item_vectors=np.eye(3), options=options),
    ]


def test_check_is_fitted_knows(
    tiny_bert: str, options: RunOptions, fitted: dict[str, tuple[Any, Any]]
) -> None:
    for part in unfitted(tiny_bert, options):
        with pytest.raises(NotFittedError):
            check_is_fitted(part)
    for part, _ in fitted.values():
        check_is_fitted(part)
        with pytest.raises(NotFittedError):
            check_is_fitted(clone(part))


@pytest.fixture(scope="module")
def fitted(
    id_fitted_once: Recommender, events: pd.DataFrame, tiny_bert: str, options: RunOptions
) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Fitted parts, each with a question."""
    texts = ["a red lamp", "a blue chair", "green book", "a book"]
    points = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32)
    found: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "Recommender": (id_fitted_once, lambda part: part.transform(events)),
        "MostPopular": (MostPopular().fit(events), lambda part: part.predict(events, k=3)),
        "CosineRanker": (
            CosineRanker(storage="int8").fit(points),
            lambda part: part.kneighbors(points[:5])[0],
        ),
        "BertItemEncoder": (
            BertItemEncoder(tiny_bert, options=options).fit(texts),
            lambda part: part.transform(texts),
        ),
        "HistoryEncoder": (
            HistoryEncoder(
                "gru", item_vectors=points, epochs=1, random_state=0, options=options
            ).fit([[1, 2, 3], [4, 5], [59, 0, 7, 8]]),
            lambda part: part.transform([[9, 1], [3]]),
        ),
    }
    return found


@pytest.mark.parametrize(
    "name", ["Recommender", "MostPopular", "CosineRanker", "BertItemEncoder", "HistoryEncoder"]
)
def test_copies_answer_the_same(name: str, fitted: dict[str, tuple[Any, Any]]) -> None:
    part, ask = fitted[name]
    file = io.BytesIO()
    joblib.dump(part, file)
    file.seek(0)
    copies = [copy.deepcopy(part), pickle.loads(pickle.dumps(part)), joblib.load(file)]
    for other in copies:
        np.testing.assert_array_equal(ask(other), ask(part))


def test_an_approximate_ranker_can_be_pickled() -> None:
    pytest.importorskip("faiss", reason="the extra palate[ann] is not installed")
    points = np.random.default_rng(0).normal(size=(60, 7))
    ranker = ApproximateRanker(n_lists=3, n_probe=3).fit(points)
    other = pickle.loads(pickle.dumps(ranker))
    for a, b in zip(ranker.kneighbors(points), other.kneighbors(points), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- pictures and names


def test_html_shows_the_parts_and_their_parameters() -> None:
    page = estimator_html_repr(Recommender(GRUEncoder(hidden_size=77), ranker=CosineRanker()))
    for word in ("Recommender", "GRUEncoder", "hidden_size", "77", "CosineRanker"):
        assert word in page


def test_columns_are_remembered(fitted: dict[str, tuple[Any, Any]], events: pd.DataFrame) -> None:
    popular = fitted["MostPopular"][0]
    assert popular.n_features_in_ == 3
    assert list(popular.feature_names_in_) == list(events.columns)
    assert fitted["CosineRanker"][0].n_features_in_ == 7
    frame = pd.DataFrame(np.eye(3), columns=["a", "b", "c"])
    ranker = CosineRanker().fit(frame)
    assert list(ranker.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names should match"):
        ranker.kneighbors(frame.rename(columns={"c": "d"}), 1)
    ranker.fit(torch.eye(4))
    assert ranker.n_features_in_ == 4
    assert not hasattr(ranker, "feature_names_in_")


def test_the_most_popular_predicts_what_it_recommends(events: pd.DataFrame) -> None:
    model = MostPopular().fit(events)
    table = model.recommend(k=4)
    rows = model.predict(events, k=4)
    for row, user in enumerate(events["user_id"]):
        expected = list(table.loc[table["user_id"] == user, "item_id"])
        assert list(rows[row][: len(expected)]) == expected
        assert all(item is None for item in rows[row][len(expected) :])
    everything = model.predict([["i1"], ["i2", "i3"]], k=11)
    assert everything.shape == (2, 11)
    assert "i1" not in everything[0]

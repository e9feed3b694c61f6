"""Encoders alone as transformers of texts and histories, and rankers like NearestNeighbors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from palate import (
    ApproximateRanker,
    BertEncoder,
    BertItemEncoder,
    CosineRanker,
    GRUEncoder,
    HistoryEncoder,
    RunOptions,
)
from palate.data.items import ItemTable
from palate.encoders.item.text_model import TextModel
from palate.exceptions import InvalidInputError, InvalidParameterError, MissingContentError

TEXTS = [
    "a red lamp",
    "a blue lamp",
    "green chair",
    "a red chair",
    "a green garden book",
    "kitchen",
    "i bought a book",
]


@pytest.fixture
def encoder(tiny_bert: str, options: RunOptions) -> BertEncoder:
    return BertItemEncoder(tiny_bert, n_components=4, options=options)


# ---- texts


def test_vectors_of_texts_are_white_and_those_of_a_recommender(
    encoder: BertEncoder, options: RunOptions
) -> None:
    encoder = clone(encoder).set_params(whitening=1.0)
    found = encoder.fit_transform(TEXTS)
    assert found.shape == (7, 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.T @ found / 7, np.eye(4) / 4, atol=1e-4)
    np.testing.assert_array_equal(encoder.transform(TEXTS), found)
    np.testing.assert_array_equal(clone(encoder).fit(TEXTS).transform(TEXTS), found)
    table = ItemTable(pd.DataFrame({"title": TEXTS}))
    built = encoder.build(table, 5, options)
    np.testing.assert_array_equal(built.features.numpy(), found)


def test_the_same_texts_in_every_container(encoder: BertEncoder) -> None:
    expected = encoder.fit_transform(TEXTS)
    frame = pd.DataFrame({"item_id": [f"i{i}" for i in range(7)], "title": TEXTS, "price": 2.5})
    kinds: list[Any] = [
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS, dtype=object)[:, None],
        pd.Series(TEXTS),
        frame,
        frame[["title"]],
        (text for text in TEXTS),
        [f"  {text} " for text in TEXTS],
    ]
    try:
        import polars as pl
        import pyarrow as pa
    except ImportError:  # pragma: no cover
        pass
    else:
        kinds += [pl.Series(TEXTS), pl.DataFrame({"t": TEXTS}), pa.chunked_array([TEXTS])]
    for X in kinds:
        np.testing.assert_array_equal(clone(encoder).fit_transform(X), expected)


def test_columns_of_a_table(encoder: BertEncoder) -> None:
    frame = pd.DataFrame(
        {"title": ["lamp", "chair", None], "about": ["red", "", "blue"], "n": [1, 2, 3]}
    )
    joined = encoder.fit_transform(["lamp. red", "chair", "blue"])
    np.testing.assert_array_equal(encoder.fit_transform(frame), joined)
    assert encoder.text_columns_ == ["title", "about"]
    assert encoder.n_features_in_ == 3
    assert list(encoder.feature_names_in_) == ["title", "about", "n"]
    # By name, whatever else a table holds and in whatever order.
    other = frame[["n", "about", "title"]].assign(more="words")
    np.testing.assert_array_equal(encoder.transform(other), joined)
    titles = clone(encoder).set_params(text_columns=["title"])
    np.testing.assert_array_equal(
        titles.fit_transform(frame), encoder.fit_transform(["lamp", "chair", ""])
    )
    assert not hasattr(encoder, "n_features_in_")


def test_inside_a_column_transformer_and_a_search(encoder: BertEncoder) -> None:
    frame = pd.DataFrame({"title": TEXTS * 2, "price": np.arange(14.0)}, index=np.arange(14) * 3)
    columns = ColumnTransformer(
        [("text", encoder, "title"), ("number", StandardScaler(), ["price"])]
    )
    found = columns.fit_transform(frame)
    np.testing.assert_array_equal(found[:, :4], clone(encoder).fit_transform(TEXTS * 2))
    names = [f"text__bertencoder{i}" for i in range(4)]
    assert list(columns.get_feature_names_out()) == [*names, "number__price"]
    table = columns.set_output(transform="pandas").fit_transform(frame)
    assert list(table.index) == list(frame.index)
    assert list(table.columns) == [*names, "number__price"]
    target = frame["title"].str.contains("lamp")
    search = GridSearchCV(
        make_pipeline(columns.set_output(transform="default"), LogisticRegression()),
        {"columntransformer__text__pooling": ["mean", "cls"]},
        cv=2,
        error_score="raise",
    ).fit(frame, target)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(frame).shape == (14,)


def test_fit_transform_reads_each_text_once(tiny_bert: str) -> None:
    quiet = RunOptions(device="cpu", progress=False, cache=False)
    before = TextModel.n_encoded_
    BertItemEncoder(tiny_bert, options=quiet).fit_transform([*TEXTS, TEXTS[0]])
    assert TextModel.n_encoded_ - before == len(TEXTS)


def test_the_directions_that_few_texts_have(encoder: BertEncoder) -> None:
    assert encoder.set_params(n_components=None).fit_transform(TEXTS).shape == (7, 6)
    assert encoder.fit_transform(["a lamp"]).tolist() == [[0.0]]
    encoder.fit(TEXTS)
    assert encoder.transform([]).shape == (0, 6)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (
            "a lamp",
            InvalidInputError,
            "X must be a column of texts or a table with text columns; got 'a lamp'.",
        ),
        (
            5,
            InvalidInputError,
            "X must be a column of texts or a table with text columns; got 5.",
        ),
        (["a", 7], InvalidInputError, "X must hold texts; row 1 holds 7."),
        (np.ones((2, 3)), InvalidInputError, "X must hold texts; row 0 holds 1.0."),
        ([], InvalidInputError, "X must hold at least one text; got none."),
        (
            pd.DataFrame({"price": [1.0]}),
            MissingContentError,
            "X must have a text column (such as 'text' or 'title'); its columns are 'price'.",
        ),
    ],
)
def test_what_is_no_text_is_refused(
    encoder: BertEncoder, X: Any, error: type[Exception], message: str
) -> None:
    encoder.fit(TEXTS)
    before = {name: id(value) for name, value in vars(encoder).items()}
    with pytest.raises(error) as caught:
        encoder.fit(X)
    assert str(caught.value) == message
    assert {name: id(value) for name, value in vars(encoder).items()} == before


def test_parameters_of_an_encoder_alone(encoder: BertEncoder) -> None:
    for changed, message in [
        (
            {"finetune": "last"},
            "finetune must be 'frozen' for an encoder that is used alone, for only a Recommender "
            "trains BERT; got 'last'.",
        ),
        (
            {"finetune": "lora"},
            "finetune must be 'frozen' for an encoder that is used alone, for only a Recommender "
            "trains BERT; got 'lora'.",
        ),
        ({"pooling": "max"}, "pooling must be one of 'mean', 'cls'; got 'max'."),
        ({"n_components": 0}, "n_components must be an integer of at least 1; got 0."),
    ]:
        with pytest.raises(InvalidParameterError) as caught:
            clone(encoder).set_params(**changed).fit(TEXTS)
        assert str(caught.value) == message
    with pytest.raises(InvalidInputError) as missing:
        clone(encoder).set_params(text_columns=["t"]).fit(pd.DataFrame({"title": TEXTS}))
    assert str(missing.value) == "X must have a column 't'; its columns are 'title'."


def test_a_search_engine_of_two_parts(encoder: BertEncoder) -> None:
    engine = make_pipeline(encoder, CosineRanker()).fit(TEXTS)
    distances, rows = engine[-1].kneighbors(engine[:-1].transform(["a blue lamp"]), 1)
    assert rows.tolist() == [[1]]
    assert distances[0, 0] == pytest.approx(0, abs=1e-5)


def test_a_saved_recommender_forgets_how_its_encoder_ran(
    encoder: BertEncoder, make_recommender: Any, events: Any, items: Any, folder: Any
) -> None:
    from palate import Recommender

    model = make_recommender(item_encoder=encoder).fit(events, items=items)
    model.save(folder)
    loaded = Recommender.load(folder, options=RunOptions(device="cpu"))
    assert loaded.item_encoder.options is None
    np.testing.assert_array_equal(loaded.item_vectors_, model.item_vectors_)


# ---- histories


def learner(**params: Any) -> HistoryEncoder:
    quiet = RunOptions(device="cpu", progress=False, cache=False)
    chosen = {"item_vectors": np.eye(9, 6) + 0.1, "epochs": 1, "random_state": 0, "options": quiet}
    return HistoryEncoder("gru", **{**chosen, **params})


def test_it_learns_what_comes_next_in_the_space_of_the_items() -> None:
    vectors = np.random.default_rng(0).normal(size=(10, 16))
    encoder = learner(item_vectors=vectors, epochs=80, validation_fraction=0, learning_rate=0.01)
    users = encoder.fit_transform([[0, 1, 2], [3, 4, 5, 6]] * 16)
    assert users.shape == (32, 16)
    assert users.dtype == np.float32
    asked = encoder.transform([[0, 1], [3, 4, 5], [3]])
    ranker = CosineRanker().fit(vectors)
    assert ranker.kneighbors(asked, 1, return_distance=False).ravel().tolist() == [2, 6, 4]
    np.testing.assert_array_equal(encoder.recommender_.item_vectors_, vectors.astype(np.float32))


def test_histories_in_every_container() -> None:
    encoder = learner().fit([[0, 1, 2], [3, 4]])
    expected = encoder.transform([[0, 1, 2], [3, 4]])
    padded = np.array([[0, 1, 2], [3, 4, -1]])
    kinds: list[Any] = [
        ((0, 1, 2), (3, 4)),
        padded,
        np.where(padded < 0, np.nan, padded),
        pd.Series([[0, 1, 2], [3, 4]]),
        np.array([[0, 1, 2], [3, 4, None]], dtype=object),
    ]
    for X in kinds:
        np.testing.assert_array_equal(encoder.transform(X), expected)
        np.testing.assert_array_equal(clone(encoder).fit(X).transform(X), expected)


def test_items_of_a_table_are_named_by_its_index() -> None:
    table = pd.DataFrame(np.eye(9, 6) + 0.1, index=[f"i{i}" for i in range(9)])
    named = learner(item_vectors=table).fit_transform([["i0", "i1", "i2"], ["i3", "i4"]])
    np.testing.assert_array_equal(named, learner().fit_transform([[0, 1, 2], [3, 4]]))


def test_parameters_reach_the_network() -> None:
    encoder = learner()
    assert encoder.get_params()["user_encoder__n_layers"] == 1
    encoder.set_params(user_encoder__n_layers=2, metric="euclidean").fit([[0, 1, 2], [3, 4]])
    assert isinstance(encoder.user_encoder, GRUEncoder)
    assert encoder.recommender_.user_encoder_.encoder.gru.num_layers == 2
    assert encoder.recommender_.metric == "euclidean"
    names = [f"historyencoder{i}" for i in range(6)]
    assert list(encoder.get_feature_names_out()) == names
    table = encoder.set_output(transform="pandas").transform(pd.Series([[1], [2, 3]], index=[7, 4]))
    assert list(table.columns) == names
    assert list(table.index) == [7, 4]


@pytest.mark.parametrize(
    ("params", "X", "message"),
    [
        (
            {"item_vectors": None},
            [[0, 1]],
            "item_vectors must be numbers of shape (n_items, dim), at least one each; got None.",
        ),
        (
            {"item_vectors": np.array(["a"])},
            [[0, 1]],
            "item_vectors must be numbers of shape (n_items, dim), at least one each; got <U1 of "
            "shape (1,).",
        ),
        (
            {"item_vectors": np.array([[1.0], [np.nan]])},
            [[0, 1]],
            "item_vectors must be finite numbers; row 1 is not.",
        ),
        ({}, "abc", "X must be a list of histories, each a list of items; got str."),
        ({}, [3], "X must be a list of histories, each a list of items; history 0 is 3."),
        (
            {},
            [[0, 12]],
            "items must have a row for every item of X; history 0 of X names 12, which has none.",
        ),
    ],
)
def test_what_cannot_be_a_history(params: dict[str, Any], X: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        learner(**params).fit(X)
    assert str(caught.value) == message


# ---- rankers


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(240, 7))


def rankers(metric: str) -> list[Any]:
    found: list[Any] = [CosineRanker(metric=metric), CosineRanker(metric=metric, storage="int8")]
    pytest.importorskip("faiss", reason="the extra palate[ann] is not installed")
    return [*found, ApproximateRanker(metric=metric, n_lists=5, n_probe=5)]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_those_of_scikit_learn(metric: str, points: np.ndarray) -> None:
    theirs = NearestNeighbors(metric=metric).fit(points)
    for ours in rankers(metric):
        ours.fit(points)
        for X in (points[:9] + 0.1, (points[:9] + 0.1).tolist(), torch.tensor(points[:9] + 0.1)):
            expected = theirs.kneighbors(points[:9] + 0.1, 6)
            distances, indices = ours.kneighbors(X, 6)
            np.testing.assert_array_equal(indices, expected[1])
            np.testing.assert_allclose(distances, expected[0], atol=1e-5)
            assert (distances.dtype, indices.dtype) == (np.float32, np.int64)
            only = ours.kneighbors(X, n_neighbors=6, return_distance=False)
            np.testing.assert_array_equal(only, indices)
        # Of the items themselves, each without itself.
        expected = theirs.kneighbors(n_neighbors=4)
        distances, indices = ours.kneighbors(n_neighbors=4)
        np.testing.assert_array_equal(indices, expected[1])
        np.testing.assert_allclose(distances, expected[0], atol=1e-5)


@pytest.mark.parametrize("mode", ["connectivity", "distance"])
def test_the_graph_is_that_of_scikit_learn(mode: str, points: np.ndarray) -> None:
    theirs = NearestNeighbors(metric="cosine").fit(points)
    for ours in rankers("cosine"):
        for X in (None, points[:11] * 2):
            expected = theirs.kneighbors_graph(X, 3, mode=mode)
            found = ours.fit(points).kneighbors_graph(X, 3, mode=mode)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-5)


def test_places_that_lists_cannot_fill(points: np.ndarray) -> None:
    pytest.importorskip("faiss", reason="the extra palate[ann] is not installed")
    ranker = ApproximateRanker(n_lists=60, n_probe=1).fit(points)
    distances, indices = ranker.kneighbors(points[:20], 50)
    empty = indices < 0
    assert empty.any()
    assert np.isinf(distances[empty]).all()
    assert np.isfinite(distances[~empty]).all()
    graph = ranker.kneighbors_graph(points[:20], 50)
    assert graph.nnz == (~empty).sum()


def test_distances_are_never_below_zero() -> None:
    x = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    for metric in ("cosine", "euclidean"):
        distances = CosineRanker(metric=metric).fit(x).kneighbors(x, 1)[0]
        assert (distances >= 0).all()
        assert not np.signbit(distances).any()


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12).reshape(4, 3),
        np.arange(12.0).reshape(4, 3)[::-1],
        np.asfortranarray(np.arange(12.0).reshape(4, 3)),
        np.arange(12, dtype=np.float16).reshape(4, 3),
        pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=list("abc")),
        np.arange(12).reshape(4, 3).tolist(),
    ],
    ids=["ints", "reversed", "fortran", "float16", "frame", "list"],
)
def test_arrays_of_every_layout(values: Any) -> None:
    rows = torch.tensor(np.array(values, dtype=np.float64))
    expected = CosineRanker(metric="dot").fit(rows).kneighbors(rows, 2)
    if isinstance(values, np.ndarray):
        values.flags.writeable = False
    found = CosineRanker(metric="dot").fit(values).kneighbors(values, 2)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_wrong_questions_to_a_ranker() -> None:
    ranker = CosineRanker().fit(np.eye(3, 2) + 1)
    before = dict(vars(ranker))
    cases: list[tuple[Any, str]] = [
        (
            lambda: ranker.kneighbors(np.ones((1, 2)), 4),
            "n_neighbors must be at most the 3 items; got 4.",
        ),
        (
            lambda: ranker.kneighbors(None, 3),
            "n_neighbors must be at most the 2 other items; got 3.",
        ),
        (
            lambda: ranker.kneighbors(np.ones((1, 2)), 0),
            "n_neighbors must be an integer of at least 1; got 0.",
        ),
        (lambda: ranker.kneighbors(torch.ones(1, 5)), "X must have 2 columns; got 5."),
        (
            lambda: ranker.kneighbors_graph(np.ones((1, 2)), 1, mode="both"),
            "mode must be one of 'connectivity', 'distance'; got 'both'.",
        ),
        (
            lambda: ranker.topk(np.array([["a"]]), 1),
            "queries must be two-dimensional floats; got <U1 of shape (1, 1).",
        ),
        (
            lambda: ranker.kneighbors(np.ones((1, 5)), 1),
            "X has 5 features, but CosineRanker is expecting 2 features as input.",
        ),
        (
            lambda: ranker.fit(torch.tensor([[float("nan")]])),
            "vectors must be finite numbers; got nan in row 0.",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == message
    with pytest.raises(ValueError, match="NaN"):
        ranker.fit(np.array([[np.nan, 1.0, 2.0]]))
    assert vars(ranker) == before


def test_padding_is_what_it_was_in_fit() -> None:
    vectors = np.eye(4, dtype=np.float32)
    encoder = HistoryEncoder("gru", item_vectors=vectors, epochs=0, random_state=0)
    encoder.fit([[0, 1, -1], [2, 3, -1]])
    expected = encoder.transform([[0, 1, -1]])
    encoder.set_params(item_vectors=pd.DataFrame(vectors, index=list("abcd")))
    np.testing.assert_array_equal(encoder.transform([[0, 1, -1]]), expected)

"""An export answers as the model it was written from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import (
    ApproximateRanker,
    CosineRanker,
    GRUEncoder,
    Recommender,
    RunOptions,
    TransformerEncoder,
)
from palate.exceptions import UnsupportedTargetError
from palate.export import OnnxRecommender, to_onnx

TOLERANCE = 1e-4
MAX_LENGTH = 6


def histories_of(rec: Recommender, lengths: Any, seed: int = 0) -> list[list[Any]]:
    rng = np.random.default_rng(seed)
    return [rng.choice(rec.item_ids_, n).tolist() for n in lengths]


def assert_equal_answers(rec: Recommender, reader: OnnxRecommender, **arguments: Any) -> None:
    table = rec.recommend(**arguments)
    found = pd.DataFrame(reader.recommend(**arguments))
    assert found.columns.tolist() == table.columns.tolist()
    for name in ("user_id", "rank"):
        np.testing.assert_array_equal(found[name], table[name])
    gap = np.abs(found["score"].to_numpy() - table["score"].to_numpy())
    assert gap.max(initial=0) <= TOLERANCE
    # Items may change places only where their scores are closer than that.
    moved = (found["item_id"] != table["item_id"]).to_numpy()
    assert not moved.any(), table[moved]


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize("item_encoder", ["id", "bert+id"])
@pytest.mark.parametrize("user_encoder", ["transformer", "gru"])
def test_every_encoder_pooling_and_metric(
    variant: Callable[..., Recommender],
    tmp_path: Path,
    user_encoder: str,
    item_encoder: str,
    pooling: str,
    metric: str,
) -> None:
    rec = variant(user_encoder, item_encoder, pooling=pooling, metric=metric)
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    # Every length up to the encoder's own, and beyond: in one batch, in an order of no rule.
    histories = histories_of(rec, [9, 1, 4, 2, 6, 7, 3, 5, 14, 6, 1])
    for k in (1, 4, 40):
        for filter_viewed in (True, False):
            assert_equal_answers(rec, reader, histories=histories, k=k, filter_viewed=filter_viewed)
    for history in histories[:5]:
        assert_equal_answers(rec, reader, histories=[history], k=3)


def test_fitted_as_users_fit_it(
    make_recommender: Callable[..., Recommender],
    events: pd.DataFrame,
    items: pd.DataFrame,
    tmp_path: Path,
) -> None:
    """Nothing put around: parameters in, an export out."""
    rec = make_recommender(user_encoder="gru", item_encoder="bert+id", metric="euclidean", epochs=2)
    rec.set_params(user_encoder__pooling="attention", user_encoder__max_length=1)
    rec.fit(events, items=items)
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    assert_equal_answers(rec, reader, histories=histories_of(rec, [1, 2, 5]), k=4)


@pytest.mark.parametrize("user_encoder", ["transformer", "gru"])
@pytest.mark.parametrize(
    ("mean_weight", "content_weight", "pooling"),
    [(0.4, 0.3, "last"), (0.7, 0, "mean"), (0.2, 0.5, "attention"), (0, 0.4, "last")],
)
def test_averages_beside_the_encoder(
    make_recommender: Callable[..., Recommender],
    events: pd.DataFrame,
    items: pd.DataFrame,
    tmp_path: Path,
    user_encoder: str,
    mean_weight: float,
    content_weight: float,
    pooling: str,
) -> None:
    encoder = TransformerEncoder(max_length=MAX_LENGTH, pooling=pooling, shortcut=True)
    rec = make_recommender(
        item_encoder="bert+id",
        user_encoder=encoder if user_encoder == "transformer" else GRUEncoder(pooling=pooling),
        mean_weight=mean_weight,
        content_weight=content_weight,
    ).fit(events, items=items)
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    histories = histories_of(rec, [9, 1, 4, 2, 6, 1])
    assert_equal_answers(rec, reader, histories=histories, k=4)
    assert_equal_answers(rec, reader, histories=histories[1:2], k=4)


@pytest.mark.parametrize("block", ["swiglu", "ligr", "hstu"])
def test_other_blocks_and_a_gate(
    make_recommender: Callable[..., Recommender],
    events: pd.DataFrame,
    items: pd.DataFrame,
    tmp_path: Path,
    block: str,
) -> None:
    encoder = TransformerEncoder(n_layers=2, n_heads=2, max_length=MAX_LENGTH, block=block)
    rec = make_recommender(user_encoder=encoder, item_encoder="bert+id", epochs=2)
    rec.set_params(item_encoder__mode="gate", averaging=1.0)
    rec.fit(events, items=items)
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    histories = histories_of(rec, [9, 1, 4, 2, 6, 7, 3, 5])
    assert_equal_answers(rec, reader, histories=histories, k=4)
    assert_equal_answers(rec, reader, histories=histories[1:2], k=4)


def test_lists_of_allowed_and_of_excluded_items(
    variant: Callable[..., Recommender], exported: Path
) -> None:
    rec, reader = variant(), OnnxRecommender(exported)
    histories = histories_of(rec, [3, 8])
    some, others = rec.item_ids_[[7, 2, 5, 0]].tolist(), rec.item_ids_[[2, 9]].tolist()
    for arguments in (
        {"items_to_recommend": some},
        {"items_to_exclude": others},
        {"items_to_exclude": [*others, "no such item"]},
        {"items_to_recommend": some, "items_to_exclude": others, "filter_viewed": False},
        {"items_to_recommend": []},
    ):
        assert_equal_answers(rec, reader, histories=histories, k=5, **arguments)


def test_items_added_and_models_trained_on(
    variant: Callable[..., Recommender], events: pd.DataFrame, tmp_path: Path
) -> None:
    rec = variant(item_encoder="bert+id")
    new = pd.DataFrame({"item_id": ["new 0", "new 1"], "title": ["red lamp", "a blue book"]})
    rec.add_items(new)  # the catalogue now lies in two pieces
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    assert reader.item_ids_.tolist() == rec.item_ids_.tolist()
    histories = [["new 1", "i3"], *histories_of(rec, [4, 7])]
    assert_equal_answers(rec, reader, histories=histories, k=15)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("storage", ["float16", "bfloat16", "int8"])
def test_a_catalogue_in_fewer_bits(
    variant: Callable[..., Recommender], tmp_path: Path, storage: str, metric: str
) -> None:
    rec = variant(metric=metric, ranker=CosineRanker(storage=storage))
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    assert_equal_answers(rec, reader, histories=histories_of(rec, [2, 9]), k=9)


def test_an_approximate_ranker_becomes_exact(
    variant: Callable[..., Recommender], tmp_path: Path
) -> None:
    pytest.importorskip("faiss", reason="needs palate[ann]")
    rec = variant(ranker=ApproximateRanker(n_lists=4, n_probe=1))
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    assert_equal_answers(variant(), reader, histories=histories_of(rec, [2, 9]), k=9)


def test_vectors_in_a_file_of_their_own(
    variant: Callable[..., Recommender], tmp_path: Path
) -> None:
    rec = variant()
    folder = to_onnx(rec, tmp_path / "export", inline_bytes=100)
    assert (folder / "model.onnx.data").stat().st_size >= rec.item_vectors_.nbytes
    reader = OnnxRecommender(folder)
    assert_equal_answers(rec, reader, histories=histories_of(rec, [2, 9]), k=9)


def test_the_batch_size_changes_nothing(
    exported: Path, monkeypatch: pytest.MonkeyPatch, variant: Callable[..., Recommender]
) -> None:
    from palate.export import reader as module

    histories = histories_of(variant(), [3, 1, 12, 5, 5, 2, 8])
    reader = OnnxRecommender(exported, n_threads=1)
    whole = reader.recommend(histories, k=6)
    for rows in (1, 2, 3):
        monkeypatch.setattr(module, "_MAX_BATCH", rows)
        parts = reader.recommend(histories, k=6)
        for name in ("user_id", "item_id", "rank"):
            np.testing.assert_array_equal(parts[name], whole[name])
        np.testing.assert_allclose(parts["score"], whole["score"], atol=1e-6)


def test_a_model_of_ints_and_one_of_a_short_catalogue(
    make_recommender: Callable[..., Recommender], tmp_path: Path, options: RunOptions
) -> None:
    rec = make_recommender(user_encoder="gru").fit([[7, 3], [3, 11], [11, 7]])
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    found = reader.recommend([[7], np.array([3, 11])], k=10)
    assert found["item_id"].dtype == rec.recommend(histories=[[7]])["item_id"].to_numpy().dtype
    assert_equal_answers(rec, reader, histories=[[7], [3, 11]], k=10)
    assert len(reader.recommend([[7, 3, 11]])["item_id"]) == 0


def test_moments_as_ids(make_recommender: Callable[..., Recommender], tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=5).to_numpy()
    rec = make_recommender(user_encoder="gru").fit([days[[0, 1, 2]], days[[2, 3, 4]]])
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    assert_equal_answers(rec, reader, histories=[[days[1]], [pd.Timestamp(days[2]), days[0]]], k=3)
    for ask in (reader.recommend, rec.recommend):
        with pytest.raises(UnsupportedTargetError, match="unknown to the model: 2025-01-01"):
            ask(histories=[[np.datetime64("2025-01-01", "ns")]])

"""What is written, what is refused, and what stays when writing fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from palate import CosineRanker, Recommender
from palate.baselines import MostPopular
from palate.exceptions import InvalidParameterError, PersistenceError
from palate.export import OnnxRecommender, _check, to_onnx, writer


class Decay(BaseEstimator):
    """A user encoder of somebody else's; one that takes a size from ``len`` cannot be traced."""

    def __init__(self, fault: str = "", max_length: int = 5, pooling: str = "mean") -> None:
        self.fault = fault
        self.max_length = max_length
        self.pooling = pooling

    def build(self, dim: int) -> nn.Module:
        return _Decay(dim, self.fault)


class _Decay(nn.Module):
    def __init__(self, dim: int, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        age = torch.arange(x.shape[1], device=x.device)
        weights = 0.7 ** (age[:, None] - age).clamp(min=0).float()
        if self.fault == "len":
            return self.project(weights.tril() @ x) + torch.zeros(len(x), 1, 1)
        if self.fault == "sorts" and torch.compiler.is_exporting():
            raise NotImplementedError("as if the exporter knew no such operation")
        return self.project(weights.tril() @ x * mask[..., None])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files(exported: Path) -> None:
    assert sorted(p.name for p in exported.iterdir()) == [
        "items.json",
        "model.onnx",
        "signature.json",
    ]
    assert [p.name for p in exported.parent.iterdir()] == ["export"]


def test_the_model_is_not_changed(variant: Callable[..., Recommender], tmp_path: Path) -> None:
    rec = variant("gru", pooling="attention")
    before = rec.recommend(k=5)
    weights = {n: t.clone() for n, t in rec._serving.network.state_dict().items()}
    state = torch.get_rng_state()
    to_onnx(rec, tmp_path / "export")
    pd.testing.assert_frame_equal(rec.recommend(k=5), before)
    assert all(torch.equal(weights[n], t) for n, t in rec._serving.network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_export_replaces_an_export_and_nothing_else(
    exported: Path, variant: Callable[..., Recommender], tmp_path: Path
) -> None:
    before = contents(exported)
    to_onnx(variant(metric="dot"), exported)
    assert contents(exported).keys() == before.keys()
    assert OnnxRecommender(exported).signature_["metric"] == "dot"
    (tmp_path / "empty").mkdir()
    to_onnx(variant(), tmp_path / "empty")
    for name, holds in (("other", "holds other files"), ("file", "is a file")):
        target = tmp_path / name
        if name == "other":
            target.mkdir()
            (target / "thesis.txt").write_text("mine")
        else:
            target.write_text("mine")
        with pytest.raises(PersistenceError) as caught:
            to_onnx(variant(), target)
        assert str(caught.value) == (
            f"folder must be new, empty or an export; {str(target)!r} {holds}."
        )
    variant().save(tmp_path / "model")
    with pytest.raises(PersistenceError, match="holds other files"):
        to_onnx(variant(), tmp_path / "model")


@pytest.mark.parametrize("place", ["_write_model", "write_item_ids", "check_against"])
def test_a_failure_leaves_what_was_there(
    exported: Path,
    variant: Callable[..., Recommender],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    before = contents(exported)

    def fail(*args: Any, **more: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(writer, place, fail)
    with pytest.raises(OSError, match="the disk is full"):
        to_onnx(variant(metric="dot"), exported)
    assert contents(exported) == before
    assert [p.name for p in exported.parent.iterdir()] == ["export"]


def test_a_wrong_export_is_noticed(
    exported: Path, variant: Callable[..., Recommender], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, tables = contents(exported), writer._tables

    def off_by_a_little(serving: Any) -> dict[str, np.ndarray]:
        found = tables(serving)
        found["norms"] = found["norms"] * 1.5
        return found

    monkeypatch.setattr(writer, "_tables", off_by_a_little)
    with pytest.raises(PersistenceError) as caught:
        to_onnx(variant(), exported)
    assert str(caught.value).startswith(
        "the written model must give the scores of rec within 0.0001; histories in a batch differ"
    )
    assert contents(exported) == before


def test_an_encoder_of_somebody_else(
    make_recommender: Callable[..., Recommender], events: pd.DataFrame, tmp_path: Path
) -> None:
    rec = make_recommender(user_encoder=Decay()).fit(events)
    reader = OnnxRecommender(to_onnx(rec, tmp_path / "export"))
    histories = [["i1"], ["i2", "i3", "i4", "i5", "i6", "i7", "i8"]]
    table = rec.recommend(histories=histories, k=4)
    found = pd.DataFrame(reader.recommend(histories, k=4))
    assert found["item_id"].tolist() == table["item_id"].tolist()
    np.testing.assert_allclose(found["score"], table["score"], atol=1e-4)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "len",
            "the written model does not run on 8 histories of 1 to 8 events. A user encoder must "
            "take its sizes from x.shape: len(x) becomes a fixed number in the trace.",
        ),
        (
            "sorts",
            "the user encoder _Decay cannot be written as ONNX: torch's exporter refused it.",
        ),
    ],
)
def test_an_encoder_that_cannot_be_traced(
    make_recommender: Callable[..., Recommender],
    events: pd.DataFrame,
    tmp_path: Path,
    fault: str,
    message: str,
) -> None:
    rec = make_recommender(user_encoder=Decay(fault)).fit(events)
    with pytest.raises(PersistenceError) as caught:
        to_onnx(rec, tmp_path / "export")
    assert str(caught.value) == message
    assert caught.value.__cause__ is not None
    assert list(tmp_path.iterdir()) == []


class Own(BaseEstimator):
    def fit(self, vectors: Tensor) -> Own:
        self.exact = CosineRanker().fit(vectors)
        return self

    def extend(self, vectors: Tensor) -> Own:
        return self

    def topk(self, queries: Tensor, k: int, **filters: Any) -> Any:
        return self.exact.topk(queries, k, **filters)


def test_what_cannot_be_written(
    make_recommender: Callable[..., Recommender], events: pd.DataFrame, tmp_path: Path
) -> None:
    popular = MostPopular().fit(events)
    with pytest.raises(InvalidParameterError) as caught:
        to_onnx(popular, tmp_path / "export")
    assert str(caught.value) == "rec must be a Recommender; got MostPopular()."
    with pytest.raises(NotFittedError):
        to_onnx(make_recommender(), tmp_path / "export")
    rec = make_recommender(ranker=Own()).fit(events)
    with pytest.raises(InvalidParameterError) as caught:
        to_onnx(rec, tmp_path / "export")
    assert str(caught.value) == (
        "ranker must be a CosineRanker or an ApproximateRanker to be written as ONNX; got Own()."
    )
    with pytest.raises(InvalidParameterError) as caught:
        to_onnx(rec, tmp_path / "export", inline_bytes=-1)
    assert str(caught.value) == "inline_bytes must be an integer of at least 0; got -1."


@pytest.mark.parametrize("module", ["onnx", "onnxscript"])
def test_what_is_missing_is_named(
    fitted: Callable[..., Recommender],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
) -> None:
    rec = fitted("gru", "id")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError) as caught:
        to_onnx(rec, tmp_path / "export")
    assert str(caught.value) == (
        f"to_onnx needs the package {module!r}, which is not installed. "
        "Install it with: pip install 'palate[export]'"
    )


def test_the_check_covers_every_length_up_to_a_little_beyond(
    variant: Callable[..., Recommender], exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    run = _check._run

    def spy(reader: Any, histories: Any, k: int) -> Any:
        seen.extend(len(history) for history in histories)
        return run(reader, histories, k)

    monkeypatch.setattr(_check, "_run", spy)
    _check.check_against(variant()._serving, exported)
    assert {1, 5, 6, 9} <= set(seen)

"""Saving to a folder, loading it elsewhere, and learning on."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import importlib.metadata
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from palate import (
    BertEncoder,
    CosineRanker,
    Fusion,
    GBCEObjective,
    GRUEncoder,
    IdEncoder,
    Recommender,
    Reranker,
    RunOptions,
    SampledSoftmaxObjective,
    SoftmaxObjective,
    Text,
    TransformerEncoder,
)
from palate._parts import known_parts
from palate.encoders.item.finetuning import FINETUNE_MODES
from palate.encoders.item.text_model import TextModel
from palate.exceptions import PersistenceError
from palate.persistence import folder as folders
from palate.persistence import writing
from palate.persistence.checksums import write_config

Make = Callable[..., Recommender]
FILES = [
    "config.json",
    "histories.safetensors",
    "items.parquet",
    "model.safetensors",
    "optimizer.safetensors",
    "users.parquet",
    "vectors.safetensors",
]


def test_a_loaded_model_gives_equal_results(
    model: Recommender,
    folder: Path,
    events: pd.DataFrame,
    options: RunOptions,
    snapshot: Any,
    assert_same: Any,
) -> None:
    model.observe(pd.DataFrame({"user_id": ["x"], "item_id": ["i12"], "timestamp": [77]}))
    model.save(folder)
    before = TextModel.n_encoded_
    loaded = Recommender.load(folder, options=options)
    assert TextModel.n_encoded_ == before
    with_params, without = snapshot(model), snapshot(loaded)
    assert_same(with_params, without)
    np.testing.assert_array_equal(loaded.transform(events), model.transform(events))
    np.testing.assert_array_equal(loaded.predict(events), model.predict(events))
    queries: list[dict[str, Any]] = [
        {"texts": [["a red lamp", "i bought a book"]]},
        {"histories": [["i3", Text("a blue chair")]]},
        {"users": ["x"], "filter_viewed": False},
    ]
    for query in queries:
        pd.testing.assert_frame_equal(loaded.recommend(**query), model.recommend(**query))
    assert loaded.n_features_in_ == 3
    assert list(loaded.feature_names_in_) == list(model.feature_names_in_)
    assert repr(loaded) == repr(model)


def test_a_loaded_model_keeps_learning(
    model: Recommender, folder: Path, options: RunOptions, snapshot: Any, assert_same: Any
) -> None:
    model.save(folder)
    loaded = Recommender.load(folder, options=options)
    new = pd.DataFrame(
        {"user_id": ["x", "x", "u1"], "item_id": ["i12", "n1", "n1"], "timestamp": [77, 78, 79]}
    )
    items = pd.DataFrame({"item_id": ["n1"], "title": ["a new lamp"]})
    for one in (model, loaded):
        one.set_params(validation_fraction=0).partial_fit(new, items=items, epochs=2)
    assert_same(snapshot(model), snapshot(loaded))


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    "params",
    [
        {"user_encoder": "gru"},
        {"user_encoder": TransformerEncoder(dropout=0.3), "validation_fraction": 0.4},
        {"objective": SampledSoftmaxObjective(5), "random_state": np.random.RandomState(5)},
        {"item_encoder": "bert+id", "pretrain_epochs": 1, "learning_rate": 0.01},
        {"item_encoder": "last", "batch_size": 3},
        {"item_encoder": "lora", "batch_size": 3, "averaging": 1.0},
    ],
)
def test_learning_on_is_equal_to_never_having_stopped(
    params: dict[str, Any],
    mmap: bool,
    make_recommender: Make,
    tiny_bert: str,
    events: pd.DataFrame,
    items: pd.DataFrame,
    folder: Path,
    options: RunOptions,
    snapshot: Any,
    assert_same: Any,
) -> None:
    if params.get("item_encoder") in FINETUNE_MODES:
        live = Fusion([BertEncoder(tiny_bert, finetune=params["item_encoder"]), IdEncoder()])
        params = {**params, "item_encoder": live}
    content = items if "item_encoder" in params else None
    model = make_recommender(**copy.deepcopy(params)).fit(events, items=content)
    a = pd.DataFrame({"user_id": ["x", "u1", "x"], "item_id": ["i2", "n1", "i5"]})
    b = pd.DataFrame({"user_id": ["u1", "y", "y"], "item_id": ["i3", "n2", "n1"]})
    a["timestamp"], b["timestamp"] = (77, 78, 79), (80, 81, 82)
    more = pd.DataFrame({"item_id": ["n1", "n2"], "title": ["a new lamp", "a new chair"]})
    more = more if content is not None else None
    model.partial_fit(a, items=more, epochs=2)
    model.save(folder)
    loaded = Recommender.load(folder, options=options, mmap=mmap)
    for one in (model, loaded):
        one.partial_fit(b, items=more, epochs=3)
    if isinstance(model.random_state, np.random.RandomState):
        assert model.random_state.random_sample() == loaded.random_state.random_sample()
        loaded.random_state = model.random_state  # else their addresses would differ below
    assert_same(snapshot(model), snapshot(loaded))


def test_the_state_of_the_optimiser_matters(
    model: Recommender, folder: Path, options: RunOptions, events: pd.DataFrame
) -> None:
    """So the test above would see it missing."""
    model.set_params(validation_fraction=0).save(folder)
    found = []
    for forget in (False, True):
        loaded = Recommender.load(folder, options=options)
        if forget:
            learning = dataclasses.replace(loaded._serving.learning, optimizer_state={})
            loaded._serving = dataclasses.replace(loaded._serving, learning=learning)
        found.append(loaded.partial_fit(events[:5], epochs=1).item_vectors_)
    assert not np.array_equal(*found)


def test_a_model_trained_on_a_gpu_loads_without_one(
    model: Recommender, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saving asks every tensor onto the CPU, and the folder names no device."""
    moved, plain = [], Tensor.cpu

    def cpu(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        moved.append(self.data_ptr())
        return plain(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "cpu", cpu)
        model.set_params(options=RunOptions(device="cuda")).save(folder)
    serving = model._serving
    tensors = [*serving.network.state_dict().values(), serving.vectors]
    assert {tensor.data_ptr() for tensor in tensors if tensor.numel()} <= set(moved)
    assert b"cuda" not in b"".join(read_all(folder).values())
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        loaded = Recommender.load(folder)
        assert loaded._serving.vectors.device.type in ("cpu", "mps")
        answers = model.set_params(options=None).recommend(k=3)
        pd.testing.assert_frame_equal(loaded.recommend(k=3), answers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="trains on CUDA")
def test_a_model_that_was_trained_on_cuda_goes_on_without(
    make_recommender: Make, events: pd.DataFrame, folder: Path
) -> None:
    there = RunOptions(device="cuda", progress=False)
    model = make_recommender(options=there).fit(events)
    model.save(folder)
    loaded = Recommender.load(folder, options=RunOptions(device="cpu", progress=False))
    np.testing.assert_array_equal(loaded.item_vectors_, model.item_vectors_)
    loaded.partial_fit(events[:3], epochs=1)
    assert np.isfinite(loaded.item_vectors_).all()


def test_the_folder_holds_data_and_no_code(model: Recommender, folder: Path) -> None:
    model.save(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == FILES
    for path in folder.iterdir():
        data = path.read_bytes()
        # Every file is read by a format that can hold no code.
        if path.suffix == ".json":
            assert json.loads(data)["format"] == 2
        elif path.suffix == ".parquet":
            assert data[:4] == data[-4:] == b"PAR1"
        else:
            length = int.from_bytes(data[:8], "little")
            assert isinstance(json.loads(data[8 : 8 + length]), dict)


def test_items_added_cold_keep_every_bit(
    make_recommender: Make, folder: Path, options: RunOptions
) -> None:
    # Many rows: a product over all of them rounds otherwise than one over the new row alone.
    n_items, rng = 507, np.random.default_rng(0)
    items = pd.DataFrame(
        {"item_id": range(n_items), "text": [f"item {i} w{i % 7}" for i in range(n_items)]}
    )
    events = pd.DataFrame(
        {"user_id": rng.integers(0, 31, 900), "item_id": rng.integers(0, 500, 900)}
    )
    model = make_recommender(item_encoder="bert+id", dim=64).fit(events, items=items[:-1])
    model.add_items(items[-1:])
    model.save(folder)
    loaded = Recommender.load(folder, options=options)
    np.testing.assert_array_equal(loaded.item_vectors_, model.item_vectors_)
    pd.testing.assert_frame_equal(loaded.recommend(k=9), model.recommend(k=9), check_exact=True)


def test_vectors_of_another_catalogue_are_refused(id_model: Recommender, folder: Path) -> None:
    id_model.save(folder)
    save_file({"vectors": torch.zeros(2, 3)}, folder / "vectors.safetensors")
    reseal(folder)
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder)
    n_items = len(id_model.item_ids_)
    assert str(caught.value) == (
        f"vectors.safetensors must hold one vector of width 8 for each of {n_items} items; "
        "it holds an array of shape (2, 3)."
    )


def test_nothing_stays_beside_the_folder(model: Recommender, folder: Path) -> None:
    model.save(folder)
    model.save(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_parents_are_made(id_model: Recommender, tmp_path: Path) -> None:
    id_model.save(tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == FILES


def test_an_empty_folder_is_filled(id_model: Recommender, folder: Path) -> None:
    folder.mkdir()
    id_model.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("step", ["write_ids", "history_tensors", "flat_moments", "rename"])
def test_a_failed_save_leaves_the_old_folder(
    step: str, id_model: Recommender, folder: Path, monkeypatch: pytest.MonkeyPatch, options: Any
) -> None:
    id_model.save(folder)
    before = read_all(folder)
    id_model.observe(pd.DataFrame({"user_id": ["x"], "item_id": ["i1"], "timestamp": [77]}))

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    if step == "rename":
        rename, calls = os.rename, []

        def rename_once(source: Any, target: Any) -> None:
            calls.append(target)
            if len(calls) == 2:  # the old folder has just been put aside
                raise OSError("disk full")
            rename(source, target)

        monkeypatch.setattr(os, "rename", rename_once)
        monkeypatch.setattr(folders, "swap", lambda first, second: False)
    else:
        monkeypatch.setattr(writing, step, fail)
    with pytest.raises(OSError, match=r"^disk full$"):
        id_model.save(folder)
    monkeypatch.undo()
    assert read_all(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert "x" not in Recommender.load(folder, options=options).user_ids_.tolist()


def test_other_files_are_not_overwritten(id_model: Recommender, folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(PersistenceError) as caught:
        id_model.save(folder)
    assert str(caught.value) == (
        f"folder must be new, empty or a saved model; {str(folder)!r} holds other files."
    )
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_a_saved_model_with_another_file_is_not_overwritten(
    id_model: Recommender, folder: Path
) -> None:
    id_model.save(folder)
    (folder / "notes.txt").write_text("keep")
    with pytest.raises(PersistenceError, match=r"holds other files\.$"):
        id_model.save(folder)
    assert (folder / "notes.txt").read_text() == "keep"


def test_the_model_folder_of_another_library_is_not_overwritten(
    id_model: Recommender, tiny_bert: str, folder: Path
) -> None:
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((Path(tiny_bert) / name).read_bytes())
    before = read_all(folder)
    with pytest.raises(PersistenceError, match=r"holds other files\.$"):
        id_model.save(folder)
    assert read_all(folder) == before


def test_a_file_is_not_overwritten(id_model: Recommender, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(PersistenceError) as caught:
        id_model.save(folder)
    assert str(caught.value) == (
        f"folder must be new, empty or a saved model; {str(folder)!r} is a file."
    )
    assert folder.read_text() == "a file"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, id_model: Recommender, folder: Path) -> None:
    id_model.save(folder)
    (folder / name).unlink()
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder)
    assert str(caught.value) == f"{str(folder)!r} is not a complete saved model; it lacks {name}."


def test_no_folder_at_all(folder: Path) -> None:
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder)
    names = "config.json, model.safetensors, vectors.safetensors, optimizer.safetensors"
    assert str(caught.value) == (
        f"{str(folder)!r} is not a complete saved model; it lacks {names}, users.parquet, "
        "items.parquet, histories.safetensors."
    )


def reseal(folder: Path) -> None:
    """Write the checksums again, as if the files had been saved as they are now."""
    write_config(folder, json.loads((folder / "config.json").read_text()))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_another_format_is_refused(id_model: Recommender, folder: Path) -> None:
    id_model.save(folder)
    edit(folder, lambda config: config.update(format=99))
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder)
    assert str(caught.value) == (
        "config.json must have format 1 or 2; got 99. Another version of palate wrote this model."
    )


def test_a_file_that_is_cut_short_is_named(id_model: Recommender, folder: Path) -> None:
    id_model.save(folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text[: len(text) // 2])
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder)
    assert str(caught.value).startswith("config.json cannot be read: ")


def test_unexpected_and_missing_tensors_are_listed(id_model: Recommender, folder: Path) -> None:
    id_model.save(folder)
    weights = load_file(folder / "model.safetensors")
    weights["surprise"] = torch.zeros(2)
    del weights["log_scale"], weights["mask_vector"]
    save_file(weights, folder / "model.safetensors")
    reseal(folder)
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder, options=RunOptions(device="cpu"))
    assert str(caught.value) == (
        "model.safetensors must hold the tensors of this model; "
        "missing: log_scale, mask_vector; unexpected: surprise."
    )


def test_tensors_of_another_shape_are_named(id_model: Recommender, folder: Path) -> None:
    id_model.save(folder)
    weights = load_file(folder / "model.safetensors")
    weights["items.weight"] = weights["items.weight"][:-1].clone()
    save_file(weights, folder / "model.safetensors")
    reseal(folder)
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder, options=RunOptions(device="cpu"))
    assert str(caught.value) == (
        "model.safetensors must hold the tensors of this model; "
        "items.weight must have the shape (11, 8) and has (10, 8)."
    )


IDS: dict[str, Callable[[int], Any]] = {
    "int": lambda i: i * 7 - 3,
    "large int": lambda i: 2**61 + i,
    "str": lambda i: f"id-{i}",
    "float": lambda i: i + 0.5,
    "bool and str": lambda i: bool(i % 2) if i < 2 else f"s{i}",
    "int and str": lambda i: i if i % 2 else f"s{i}",
    "uuid": lambda i: uuid.UUID(int=i + 1),
    "numpy datetime": lambda i: np.datetime64("2024-05-01") + np.timedelta64(i, "D"),
    "date": lambda i: datetime.date(2024, 5, 1 + i),
    "bytes": lambda i: f"b{i}".encode(),
}


@pytest.mark.parametrize("kind", list(IDS))
def test_ids_of_every_type_come_back(
    kind: str, make_recommender: Make, folder: Path, options: RunOptions
) -> None:
    make = IDS[kind]
    users = [make(u) for u in (0, 0, 0, 1, 1, 2, 2, 2)]
    item_ids = [make(i) for i in (5, 3, 4, 3, 6, 4, 5, 6)]
    frame = pd.DataFrame({"user_id": users, "item_id": item_ids})
    model = make_recommender().fit(frame)
    model.save(folder)
    loaded = Recommender.load(folder, options=options)
    assert loaded.item_ids_.dtype == model.item_ids_.dtype
    assert loaded.user_ids_.dtype == model.user_ids_.dtype
    assert [type(value) for value in loaded.item_ids_] == [type(v) for v in model.item_ids_]
    pd.testing.assert_frame_equal(loaded.recommend(k=2), model.recommend(k=2))
    pd.testing.assert_frame_equal(
        loaded.recommend(users[:1], k=2),
        loaded.recommend(histories=[item_ids[:3]], k=2).assign(
            user_id=frame["user_id"][:1]
            .repeat(2)
            .to_numpy()[: len(loaded.recommend(users[:1], k=2))]
        ),
        check_dtype=False,
    )
    # New ids beside the old ones, after loading.
    more = pd.DataFrame({"user_id": [make(9)], "item_id": [item_ids[0]]})
    assert len(loaded.observe(more).recommend([make(9)], k=2)) == 2


def test_an_id_that_cannot_be_written_is_named(make_recommender: Make, folder: Path) -> None:
    model = make_recommender().fit([[("a", 1), ("b", 2)], [("a", 1), "c"]])
    with pytest.raises(PersistenceError) as caught:
        model.save(folder)
    assert str(caught.value) == (
        "ids must be of type str, bool, int, float, bytes, uuid, datetime, timestamp, decimal, "
        "date to be saved; "
        "got ('a', 1) of type tuple."
    )
    assert not folder.exists()
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize(
    "params",
    [
        {"user_encoder": "gru", "item_encoder": "id", "objective": "sampled_softmax"},
        {"user_encoder": GRUEncoder(hidden_size=6, pooling="attention"), "metric": "euclidean"},
        {"user_encoder": TransformerEncoder(n_heads=2, pooling="mean"), "metric": "dot"},
        {"ranker": CosineRanker(storage="int8"), "objective": SampledSoftmaxObjective(9)},
        {"averaging": np.float32(0.5), "objective": GBCEObjective(9, t=0.5, temperature=0.2)},
        {"objective": SoftmaxObjective(label_smoothing=0.1, temperature=0.05)},
        {"user_encoder": TransformerEncoder(block="swiglu")},
        {"user_encoder": TransformerEncoder(block="ligr", n_heads=2), "pretrain_epochs": 1},
        {"user_encoder": TransformerEncoder(block="hstu", n_heads=2), "pretrain_epochs": 1},
        {"item_encoder": Fusion((IdEncoder(), IdEncoder())), "random_state": np.int64(4)},
        {"epochs": 0, "random_state": np.random.RandomState(4), "learning_rate": np.float32(1)},
    ],
)
def test_every_part_comes_back(
    params: dict[str, Any], make_recommender: Make, events: pd.DataFrame, folder: Path, options: Any
) -> None:
    model = make_recommender(**params).fit(events)
    model.save(folder)
    loaded = Recommender.load(folder, options=options)
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))
    assert repr(loaded.user_encoder) == repr(model.user_encoder)
    assert repr(loaded.ranker) == repr(model.ranker)
    assert repr(loaded.objective) == repr(model.objective)
    loaded.partial_fit(events[:3])


def test_the_ways_to_read_content_come_back(
    make_recommender: Make,
    events: pd.DataFrame,
    items: pd.DataFrame,
    folder: Path,
    options: Any,
    tiny_bert: str,
) -> None:
    encoder = Fusion(
        [BertEncoder(tiny_bert, whitening=0.4, whitening_groups=2), IdEncoder()], mode="gate"
    )
    model = make_recommender(item_encoder=encoder, epochs=2).fit(events, items=items)
    assert model.item_encoder_.gate.weight.abs().sum() > 0
    model.save(folder)
    loaded = Recommender.load(folder, options=options)
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))
    np.testing.assert_array_equal(loaded.transform(events), model.transform(events))
    assert loaded.item_encoder.get_params()["mode"] == "gate"
    assert loaded.item_encoder.get_params()["encoders__0__whitening"] == 0.4
    assert loaded.item_encoder.get_params()["encoders__0__whitening_groups"] == 2
    loaded.partial_fit(events[:3])


def test_times_and_weights_come_back(
    make_recommender: Make, events: pd.DataFrame, folder: Path, options: Any
) -> None:
    timed = events.assign(
        timestamp=pd.Timestamp("2024-01-01") + pd.to_timedelta(events["timestamp"], "h"),
        weight=np.linspace(0.1, 2, len(events)),
    ).rename(columns={"timestamp": "datetime"})
    model = make_recommender().fit(timed)
    model.save(folder)
    loaded = Recommender.load(folder, options=options)
    for saved, read in zip(
        vars(model._serving.histories.events()).values(),
        vars(loaded._serving.histories.events()).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(saved, read)
    late = pd.DataFrame(
        {"user_id": ["u6"], "item_id": ["i1"], "datetime": [pd.Timestamp("2024-01-01 05:00")]}
    )
    for one in (model, loaded):
        one.observe(late)
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_the_library_of_the_tables_comes_back(
    library: str, make_recommender: Make, events: pd.DataFrame, folder: Path, options: Any
) -> None:
    native: Any
    if library == "polars":
        native = pytest.importorskip("polars").from_pandas(events)
    else:
        native = pytest.importorskip("pyarrow").Table.from_pandas(events)
    model = make_recommender().fit(native)
    model.save(folder)
    table = Recommender.load(folder, options=options).recommend(k=2)
    assert type(table) is type(native)
    assert table.equals(model.recommend(k=2))


class Decay:
    """Somebody else's user encoder: a plain class, no estimator."""

    def __init__(self, rate: float = 0.5, max_length: int = 6, pooling: str = "last") -> None:
        self.rate = rate
        self.max_length = max_length
        self.pooling = pooling

    def build(self, dim: int) -> nn.Module:
        return _Decay(dim, self.rate)


class _Decay(nn.Module):
    """Exponentially decayed sums, mixed by one matrix under two names."""

    def __init__(self, dim: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.mix = nn.Linear(dim, dim)
        self.again = self.mix  # tied weights

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1])
        ages = steps[:, None] - steps
        weights = torch.where(ages >= 0, self.rate ** ages.clamp_min(0), 0.0)
        return self.again(weights @ x)  # type: ignore[no-any-return]


class _EntryPoint:
    name = "decay"

    @staticmethod
    def load() -> type:
        return Decay


def test_a_part_of_somebody_else_must_be_registered(
    make_recommender: Make,
    events: pd.DataFrame,
    folder: Path,
    options: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_recommender(user_encoder=Decay(rate=0.25)).fit(events)
    with pytest.raises(PersistenceError) as caught:
        model.save(folder)
    shown = repr(model._architecture["user_encoder"])
    assert str(caught.value) == (
        f"user_encoder must be a plain value or a registered part to be saved; got {shown}. "
        "Register its class under the entry point group 'palate.parts'."
    )
    assert not folder.exists()

    def entry_points(*, group: str) -> list[type]:
        assert group == "palate.parts"
        return [_EntryPoint]

    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", entry_points)
        model.save(folder)
        loaded = Recommender.load(folder, options=options)
    assert isinstance(loaded.user_encoder, Decay)
    assert vars(loaded.user_encoder) == {"rate": 0.25, "max_length": 6, "pooling": "last"}
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))
    # Where it is not installed, loading says which part is missing.
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(folder, options=options)
    known = sorted(known_parts())
    assert str(caught.value) == (
        "config.json names the part 'decay', which is not registered here; "
        f"known are {', '.join(known)}."
    )
    assert {"BertEncoder", "CosineRanker", "Fusion", "GRUEncoder", "IdEncoder"} <= set(known)


def test_parts_that_set_params_changed_are_saved_as_they_were_fitted(
    make_recommender: Make, events: pd.DataFrame, folder: Path, options: RunOptions
) -> None:
    ranker, second = CosineRanker(), Reranker("attention", n_examples=50)
    model = make_recommender(ranker=ranker, reranker=second).fit(events)
    expected = model.recommend(k=3)
    model.set_params(metric="euclidean", ranker__metric="euclidean").save(folder)
    for _ in range(2):  # a loaded model's own parts are no others
        loaded = Recommender.load(folder, options=options)
        assert (loaded.metric, loaded.ranker_.metric) == ("cosine", "cosine")
        loaded.set_params(reranker__n_events=3, reranker__n_candidates=1, ranker__metric="dot")
        pd.testing.assert_frame_equal(loaded.recommend(k=3), expected)
        loaded.save(folder)


def test_a_path_to_a_text_model_is_saved(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame, tiny_bert: str, folder: Path
) -> None:
    model = make_recommender(item_encoder=BertEncoder(Path(tiny_bert)))  # type: ignore[arg-type]
    model.fit(events, items=items).save(folder)
    assert Recommender.load(folder).item_encoder.model == tiny_bert

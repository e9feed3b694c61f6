"""A catalogue that stays in its file: shared by processes, and never written to."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from palate import CosineRanker, GRUEncoder, Recommender, RunOptions
from palate.exceptions import InvalidParameterError

SMAPS = Path("/proc/self/smaps")


def mappings_of(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[str, int]]:
    """Return the file that each tensor lies in, and the kilobytes of it written to since."""
    spans: list[list[Any]] = []
    for line in SMAPS.read_text().splitlines():
        if head := re.match(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ *(.*)$", line):
            spans.append([int(head[1], 16), int(head[2], 16), head[3], 0])
        elif entry := re.match(r"^Private_Dirty: +(\d+) kB$", line):
            spans[-1][3] = int(entry[1])
    return {
        name: next((s[2], s[3]) for s in spans if s[0] <= tensor.data_ptr() < s[1])
        for name, tensor in tensors.items()
    }


def tensors_of(model: Recommender) -> dict[str, torch.Tensor]:
    """Everything large that a model holds, by the file it should lie in."""
    serving = model._serving
    histories = serving.histories
    return {
        **{f"model.safetensors {n}": t for n, t in serving.network.state_dict().items()},
        "vectors.safetensors": serving.vectors,
        "vectors.safetensors scored": serving.ranker.catalogue_.segments[0].vectors,
        "histories.safetensors items": torch.from_numpy(histories.items),
        "histories.safetensors indptr": torch.from_numpy(histories.indptr),
        **{
            f"optimizer.safetensors {name} {key}": tensor
            for name, moments in serving.learning.optimizer_state.items()
            for key, tensor in moments.items()
        },
    }


@pytest.mark.skipif(not SMAPS.exists(), reason="reads /proc/self/smaps")
def test_the_tensors_are_the_file(model: Recommender, folder: Path, options: RunOptions) -> None:
    model.save(folder)
    mapped = Recommender.load(folder, options=options, mmap=True)
    mapped.recommend(k=3)
    for where, (name, written) in mappings_of(tensors_of(mapped)).items():
        assert name == str(folder / where.split()[0]), where
        assert written == 0, where  # so other processes share it
    read = Recommender.load(folder, options=options)
    for where, (name, _) in mappings_of(tensors_of(read)).items():
        assert str(folder) not in name, where


@pytest.mark.parametrize(
    "params",
    [
        {"item_encoder": "bert+id"},
        {"metric": "dot", "user_encoder": GRUEncoder()},
        {"metric": "euclidean"},
        {"ranker": CosineRanker(storage="int8")},
        {"ranker": CosineRanker(storage="bfloat16")},
        {"ranker": CosineRanker(storage="float16", metric="dot"), "metric": "dot"},
    ],
)
def test_answers_and_learning_are_equal_and_files_stay(
    params: dict[str, Any],
    make_recommender: Callable[..., Recommender],
    events: pd.DataFrame,
    items: pd.DataFrame,
    folder: Path,
    options: RunOptions,
    snapshot: Any,
    assert_same: Any,
) -> None:
    content = items if params.get("item_encoder") == "bert+id" else None
    model = make_recommender(**params, validation_fraction=0).fit(events, items=content)
    model.save(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    mapped = Recommender.load(folder, options=options, mmap=True)
    assert_same(snapshot(model), snapshot(mapped))
    new = pd.DataFrame({"user_id": ["x", "u1"], "item_id": ["i1", "i2"], "timestamp": [77, 78]})
    later = pd.DataFrame({"user_id": ["y"], "item_id": ["i3"], "timestamp": [79]})
    for one in (model, mapped):
        one.observe(new)
        if content is not None:
            one.add_items(pd.DataFrame({"item_id": ["n1"], "title": ["a new lamp"]}))
        one.partial_fit(later, epochs=2).observe(new)
    assert_same(snapshot(model), snapshot(mapped))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_mapped_model_outlives_its_folder(
    model: Recommender, folder: Path, options: RunOptions
) -> None:
    model.save(folder)
    mapped = Recommender.load(folder, options=options, mmap=True)
    answers = mapped.recommend(k=4)
    model.observe(pd.DataFrame({"user_id": ["x"], "item_id": ["i1"], "timestamp": [77]}))
    model.save(folder)  # the file it lies in has lost its name
    pd.testing.assert_frame_equal(mapped.recommend(k=4), answers, check_exact=True)
    mapped.save(folder)  # over the model that came after it
    again = Recommender.load(folder, options=options, mmap=True)
    pd.testing.assert_frame_equal(again.recommend(k=4), answers, check_exact=True)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_mapped_model_is_copied(
    way: Callable[[Recommender], Recommender],
    model: Recommender,
    folder: Path,
    options: RunOptions,
) -> None:
    model.save(folder)
    mapped = Recommender.load(folder, options=options, mmap=True)
    pd.testing.assert_frame_equal(way(mapped).recommend(k=4), model.recommend(k=4))
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert len(pickle.dumps(mapped)) < 4 * size  # each tensor once, not its whole file


def test_an_old_format_is_read_whole(options: RunOptions) -> None:
    folder = Path(__file__).parents[1] / "golden" / "format-1" / "id"
    mapped = Recommender.load(folder, options=options, mmap=True)
    assert len(mapped.recommend(k=1)) == len(mapped.user_ids_)


@pytest.mark.parametrize("name", ["mmap", "verify"])
def test_a_choice_is_yes_or_no(name: str, folder: Path) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        Recommender.load(folder, **{name: "r"})
    assert str(caught.value) == f"{name} must be one of True, False; got 'r'."

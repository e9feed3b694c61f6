"""Models that earlier versions saved still load, and answer as they did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palate import Recommender, RunOptions
from palate.persistence import FORMAT

HERE = Path(__file__).parent
GOLDEN = sorted(path.with_suffix("") for path in HERE.glob("format-*/*.json"))


def test_the_present_format_is_kept() -> None:
    kept = {(path.parent.name, path.name) for path in GOLDEN}
    assert kept == {(f"format-{n}", name) for n in range(1, FORMAT + 1) for name in ("bert", "id")}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("folder", GOLDEN, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_a_golden_model_answers_as_it_did(folder: Path, mmap: bool) -> None:
    expected = json.loads(folder.with_suffix(".json").read_text())
    model = Recommender.load(folder, options=RunOptions(device="cpu"), mmap=mmap)
    answers = {
        "recommend": model.recommend(k=4),
        "histories": model.recommend(histories=[[100, 103], [107]], k=5),
        "similar": model.recommend_to_items([102], k=3),
    }
    for name, found in answers.items():
        frame = pd.DataFrame(expected[name])
        pd.testing.assert_frame_equal(found, frame, check_dtype=False, rtol=0, atol=1e-6)
    users = pd.DataFrame({"user_id": [f"u{i}" for i in (0, 0, 0, 1, 1, 1, 1, 2, 2)]})
    vectors = {"item_vectors": model.item_vectors_, "user_vectors": model.transform(users)}
    for name, found in vectors.items():
        np.testing.assert_allclose(found, np.array(expected[name]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_a_golden_model_learns_on(folder: Path, tmp_path: Path) -> None:
    model = Recommender.load(folder, options=RunOptions(device="cpu", progress=False))
    new = pd.DataFrame(
        {
            "user_id": ["x", "u1"],
            "item_id": [101, 102],
            "timestamp": pd.to_datetime(["2024-06-01", "2024-06-02"]),
        }
    )
    model.observe(new).partial_fit(new, epochs=1)
    model.save(tmp_path / "again")
    loaded = Recommender.load(tmp_path / "again", options=RunOptions(device="cpu"))
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3), check_exact=True)

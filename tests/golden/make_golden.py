"""Write the golden models of the format that the installed palate saves.

``python tests/golden/make_golden.py`` makes ``tests/golden/format-N/<name>/`` and the answers that
every later version must still give from it. Run it once for each new format, and keep the old ones.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from palate import BertEncoder, Fusion, GRUEncoder, IdEncoder, Recommender, RunOptions
from palate.testing.tiny_bert import make_tiny_bert

HERE = Path(__file__).resolve().parent


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return 7 users' events, with weights, on 11 of 13 items, and the items."""
    rng = np.random.default_rng(7)
    lengths = [3, 4, 5, 6, 7, 8, 10]
    events = pd.DataFrame(
        {
            "user_id": np.repeat([f"u{i}" for i in range(7)], lengths),
            "item_id": 100 + np.concatenate([rng.permutation(11)[:n] for n in lengths]),
            "timestamp": pd.Timestamp("2024-05-01")
            + pd.to_timedelta(rng.integers(0, 40, sum(lengths)), "h"),
            "weight": rng.uniform(0.5, 2.0, sum(lengths)).round(2),
        }
    )
    colours, things = ("red", "green", "blue"), ("lamp", "chair", "book", "garden", "kitchen")
    titles = [f"{colours[i % 3]} {things[i % 5]}" for i in range(13)]
    return events, pd.DataFrame({"item_id": 100 + np.arange(13), "title": titles})


def models() -> dict[str, Recommender]:
    """Return unfitted recommenders; the BERT lies in the working folder."""
    options = RunOptions(device="cpu", progress=False, cache=False)
    content = Fusion([BertEncoder("tiny-bert", n_components=6), IdEncoder()])
    return {
        "id": Recommender(item_encoder="id", dim=8, epochs=2, random_state=0, options=options),
        "bert": Recommender(
            GRUEncoder(), content, dim=8, epochs=2, random_state=0, options=options
        ),
    }


def expected(model: Recommender) -> dict[str, object]:
    """Return what the model answers, as JSON."""
    found = model.recommend(k=4)
    strangers = model.recommend(histories=[[100, 103], [107]], k=5)
    return {
        "recommend": found.to_dict("list"),
        "histories": strangers.to_dict("list"),
        "similar": model.recommend_to_items([102], k=3).to_dict("list"),
        "item_vectors": model.item_vectors_.tolist(),
        "user_vectors": model.transform(tables()[0][:9]).tolist(),
    }


def main() -> None:
    """Fit, save and note the answers."""
    events, items = tables()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        make_tiny_bert("tiny-bert", hidden_size=12, n_layers=1)
        for name, model in models().items():
            model.fit(events, items=items if name == "bert" else None)
            model.save(Path(work) / name)
            number = json.loads((Path(work) / name / "config.json").read_text())["format"]
            place = HERE / f"format-{number}"
            model.save(place / name)
            (place / f"{name}.json").write_text(json.dumps(expected(model), indent=1) + "\n")
            sys.stdout.write(f"{place / name}\n")


if __name__ == "__main__":
    main()

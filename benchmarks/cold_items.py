"""Items that training never saw: placed by their text, ranked among all items.

    python benchmarks/cold_items.py DATASET_FOLDER [--models popularity zero-shot id text fused]

The folder holds interactions.parquet (user_id, item_id, timestamp) and items.parquet (item_id,
text). A tenth of the items, drawn at random, is held out: neither their events nor their text take
part in training. Then they join by `add_items`, and their events by `observe`. Each user's last
event is the test: *cold* is the mean NDCG@10 of the users whose last event is of a held-out item,
*warm* that of the others, all items ranked, viewed ones filtered; *warm alone* the same before the
held-out items joined. A boost is `recommend(new_item_boost=...)`.

popularity counts the events of training, popularity-now also those that `observe` takes in.
zero-shot is the mean of the BERT vectors of the history, and the cosine to those of the items: no
training at all. zero-shot-white is the same after whitening.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from palate import Recommender, RunOptions
from palate.baselines import MostPopular
from palate.datasets import read_folder
from palate.encoders.item.bert import BertEncoder
from palate.history_encoder import GivenVectors
from palate.model_selection import leave_last_out_split

ENCODERS = {"id": "id", "text": "bert", "fused": "bert+id"}
MODELS = ("popularity", "popularity-now", "zero-shot", "zero-shot-white", *ENCODERS)
OPTIONS = RunOptions(device="cpu", progress=False)


@dataclass
class Split:
    """Events before the last of each user, the last ones, and which items are held out."""

    train: pd.DataFrame
    test: pd.DataFrame
    items: pd.DataFrame
    cold: np.ndarray

    def warm_events(self) -> pd.DataFrame:
        """Events to train on."""
        return self.train[~self.train["item_id"].isin(self.cold)]

    def cold_events(self) -> pd.DataFrame:
        """Events of held-out items in the histories."""
        return self.train[self.train["item_id"].isin(self.cold)]

    def tests(self) -> dict[str, pd.DataFrame]:
        """Test events by whether their item is held out."""
        is_cold = self.test["item_id"].isin(self.cold)
        return {"cold": self.test[is_cold], "warm": self.test[~is_cold]}


def split(folder: Path, share: float, seed: int) -> Split:
    """Read a set and hold out a share of its items."""
    data = read_folder(folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    items = data.items.loc[data.items["item_id"].isin(events["item_id"]), ["item_id", "text"]]
    train, test = leave_last_out_split(events, min_history=2)
    ids = items["item_id"].to_numpy()
    cold = np.random.default_rng(seed).choice(ids, round(share * len(ids)), replace=False)
    return Split(train, test, items, cold)


def fit(name: str, held: Split, seed: int, params: dict[str, Any]) -> Any:
    """Return a fitted model that knows every event before the last ones, as far as it can."""
    if name.startswith("popularity"):
        return MostPopular().fit(held.train if name.endswith("now") else held.warm_events())
    if name.startswith("zero-shot"):
        return zero_shot(held, white=name.endswith("white"))
    is_cold = held.items["item_id"].isin(held.cold)
    warm = held.warm_events()
    model = Recommender(item_encoder=ENCODERS[name], random_state=seed, options=OPTIONS)
    model.set_params(**params)
    model.fit(warm, items=None if name == "id" else held.items[~is_cold])
    if name != "id":
        model.add_items(held.items[is_cold])
    return model.observe(held.cold_events(), on_unsupported_targets="ignore")


def zero_shot(held: Split, *, white: bool) -> Any:
    """Return a model without weights: the mean of a history's text vectors, by cosine."""
    encoder = BertEncoder(
        n_components=None if white else 384, whitening=1.0 if white else 0.0, options=OPTIONS
    )
    vectors = encoder.fit_transform(held.items["text"].tolist())
    if not white:  # undo the whitening: what the encoder itself said
        vectors = vectors @ np.linalg.pinv(encoder.whitening_) + encoder.mean_
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = pd.DataFrame(vectors, columns=[f"v{i}" for i in range(vectors.shape[1])])
    table.insert(0, "item_id", held.items["item_id"].to_numpy())
    model = Recommender(MeanOfHistory(), GivenVectors(), dim=vectors.shape[1], epochs=0)
    # The mean alone, without what the estimator would choose to count beside it.
    model.set_params(mean_weight=0, content_weight=0, random_state=0, options=OPTIONS)
    return model.fit(held.train, items=table)


class MeanOfHistory:
    """A user encoder without weights: the mean of the events."""

    max_length, pooling = 10_000, "mean"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return nothing: there is nothing to set."""
        return {}

    def build(self, dim: int) -> torch.nn.Module:
        """Return the identity."""
        return _Identity()


class _Identity(torch.nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--share", type=float, default=0.1, help="share of items held out")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="one split and fit each")
    parser.add_argument("--params", type=json.loads, default={}, help="JSON of Recommender params")
    parser.add_argument("--boosts", nargs="+", type=float, default=[0.0, 0.01, 0.02])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def ndcg(model: Any, test: pd.DataFrame, **how: Any) -> float:
    """Return the mean of ``1 / log2(1 + rank)`` of the tested items, 0 beyond rank 10."""
    known = test[test["user_id"].isin(model.recommend(k=1)["user_id"])]
    table = model.recommend(known["user_id"].tolist(), k=10, **how)
    ranks = table.set_index(["user_id", "item_id"])["rank"]
    found = ranks.reindex(pd.MultiIndex.from_frame(known[["user_id", "item_id"]])).to_numpy()
    return float(np.nansum(1 / np.log2(1 + found)) / len(test))


def measure(name: str, model: Any, held: Split, boosts: list[float]) -> dict[str, list[float]]:
    """Return cold, warm and warm alone for each boost."""
    tests = held.tests()
    if name not in ENCODERS:
        return {name: [ndcg(model, tests["cold"]), ndcg(model, tests["warm"]), np.nan]}
    ids = held.items["item_id"]
    warm = ids[~ids.isin(held.cold)].tolist()
    alone = ndcg(model, tests["warm"], items_to_recommend=warm, on_unsupported_targets="ignore")
    return {
        f"{name} + {boost}" if boost else name: [
            *(ndcg(model, tests[kind], new_item_boost=boost) for kind in ("cold", "warm")),
            alone,
        ]
        for boost in (boosts if name != "id" else [0.0])
    }


def main() -> None:
    """Print the table."""
    args = parse()
    torch.set_num_threads(args.threads)
    splits = {seed: split(args.folder, args.share, seed) for seed in args.seeds}
    sizes = [sum(len(s.tests()[kind]) for s in splits.values()) for kind in ("cold", "warm")]
    print(
        f"{args.folder.resolve().name}: {args.share:.0%} of the items held out, splits "
        f"{args.seeds}; {sizes[0]} cold and {sizes[1]} warm test events; NDCG@10, full ranking"
    )
    print(f"{'model':16}{'cold':>8}{'warm':>8}{'warm alone':>12}{'fit s':>8}")
    for name in args.models:
        found: dict[str, list[list[float]]] = {}
        seconds = 0.0
        for seed, held in splits.items():
            started = time.perf_counter()
            model = fit(name, held, seed, args.params)
            seconds += (time.perf_counter() - started) / len(splits)
            for way, values in measure(name, model, held, args.boosts).items():
                found.setdefault(way, []).append(values)
        for way, values in found.items():
            cold, warm, alone = np.mean(values, axis=0)
            print(f"{way:16}{cold:8.4f}{warm:8.4f}{alone:12.4f}{seconds:8.0f}", flush=True)


if __name__ == "__main__":
    main()

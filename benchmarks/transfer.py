"""A model pretrained on other domains, taken on to a target with ids of its own.

    python benchmarks/transfer.py TARGET_FOLDER --pretrained MODEL_FOLDER [--shares 0.01 0.1 1]
    python benchmarks/transfer.py TARGET_FOLDER --pretrained MODEL_FOLDER --sources FOLDER ...

The folders of data hold interactions.parquet (user_id, item_id, timestamp) and items.parquet
(item_id, text). With --sources a model is fitted on all of them together, with their ids kept
apart, and saved to MODEL_FOLDER; without, MODEL_FOLDER is a model saved before. Then, for each
share of the target's users (drawn at random) and each seed:

scratch       a new Recommender, fitted on the events of these users;
pretrained    `Recommender.load` of the folder, then `partial_fit` on the same events;
as it was     the loaded model with the target's items and no training on them.

All get the text of every item of the target. The test is the last event of at most
--test-users users of the target, drawn once, their histories given in the call; all items of the
target are ranked, viewed ones filtered. Printed: the mean of NDCG@10 over seeds, its standard error
and seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from palate import Recommender, RunOptions
from palate.datasets import read_folder
from palate.metrics import evaluate
from palate.model_selection import leave_last_out_split

OPTIONS = RunOptions(device="cpu", progress=False)
WAYS = ("scratch", "pretrained", "as it was")


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the events and the items of a set, with ids that no other set has."""
    data = read_folder(folder)
    name = folder.resolve().name
    events = data.interactions[["user_id", "item_id", "timestamp"]].copy()
    items = data.items.loc[
        data.items["item_id"].isin(events["item_id"]), ["item_id", "text"]
    ].copy()
    for column in ("user_id", "item_id"):
        events[column] = name + ":" + events[column].astype(str)
    items["item_id"] = name + ":" + items["item_id"].astype(str)
    return events, items


def pretrain(sources: list[Path], folder: Path, params: dict[str, Any]) -> None:
    """Fit on all sources together, and save."""
    events, items = (pd.concat(tables) for tables in zip(*map(read, sources), strict=True))
    # Only the order inside a history counts: clocks of different units need not agree.
    events["timestamp"] = events.groupby("user_id")["timestamp"].rank(method="first")
    model = Recommender(random_state=0, options=OPTIONS).set_params(**params)
    started = time.perf_counter()
    model.fit(events, items=items).save(folder)
    print(f"pretrained on {len(events):,} events in {time.perf_counter() - started:.0f} s")


def drawn(users: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random share of the users, at least ten."""
    return rng.choice(users, min(len(users), max(10, round(share * len(users)))), replace=False)


def learned(way: str, args: argparse.Namespace, part: pd.DataFrame, items: Any, seed: int) -> Any:
    """Return the model of one way."""
    if way == "scratch":
        model = Recommender(random_state=seed, options=OPTIONS).set_params(**args.params)
        return model.fit(part, items=items)
    model = Recommender.load(args.pretrained, options=OPTIONS).set_params(random_state=seed)
    if way == "as it was":
        return model.add_items(items)
    return model.partial_fit(part, items=items, epochs=args.epochs)


def ndcg(model: Any, train: pd.DataFrame, test: pd.DataFrame, items: Any) -> float:
    """Return NDCG@10 with the histories given in the call and the target's items ranked."""
    lists = train.groupby("user_id", sort=False)["item_id"].agg(list)
    found = model.recommend(
        histories=lists[test["user_id"]].tolist(),
        items_to_recommend=items["item_id"].tolist(),
        on_unsupported_targets="ignore",
    )
    found["user_id"] = test["user_id"].to_numpy()[found["user_id"].to_numpy()]
    return evaluate(found, test)["ndcg@10"]


def measure(args: argparse.Namespace) -> pd.DataFrame:
    """Return one row a share, seed and way."""
    events, items = read(args.folder)
    train, test = leave_last_out_split(events, min_history=2)
    train = train.sort_values("timestamp", kind="stable")
    rng = np.random.default_rng(0)
    test = test.iloc[np.sort(rng.permutation(len(test))[: args.test_users])]
    users, rows = train["user_id"].unique(), []
    for share in args.shares:
        for seed in range(args.seeds):
            some = drawn(users, share, np.random.default_rng(seed))
            part = train[train["user_id"].isin(some)]
            for way in args.ways:
                started = time.perf_counter()
                model = learned(way, args, part, items, seed)
                seconds = time.perf_counter() - started
                score = ndcg(model, train, test, items)
                rows.append({"share": share, "way": way, "ndcg": score, "seconds": seconds})
                print(json.dumps({**rows[-1], "seed": seed}), flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("--sources", type=Path, nargs="+", default=[])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.1, 1.0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--epochs", type=int, default=None, help="of partial_fit")
    parser.add_argument("--test-users", type=int, default=3_000, help="judged at most")
    parser.add_argument("--params", type=json.loads, default={}, help="JSON of Recommender params")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.sources:
        pretrain(args.sources, args.pretrained, args.params)
    table = measure(args).groupby(["share", "way"], sort=False)
    shown = table.agg(
        ndcg=("ndcg", "mean"),
        error=("ndcg", lambda x: x.std() / math.sqrt(len(x))),
        seconds=("seconds", "mean"),
    )
    print(
        f"{args.folder.resolve().name}: {args.seeds} seed(s), pretrained on {args.pretrained.name}"
    )
    print(shown.round(4).to_string())


if __name__ == "__main__":
    main()

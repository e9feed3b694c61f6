"""Ten slices of new events learned one after another, beside one refit on everything.

    python benchmarks/slices.py DATASET_FOLDER [--rehearsal auto 0 0.1] [--epochs auto] [--seeds 1]
                                [--later first]

The events lie in the order of time. A model is fitted on the first 60 %; the next 30 % come in ten
slices, each passed to `partial_fit` with new users and items; the events of each known user in the
last 10 %, or the first of them, are to be found (full ranking, viewed items filtered). Beside it:
the same model that only observes, and a model fitted afresh on all 90 %.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SLICES, WARM, TOTAL = 10, 0.6, 0.9


def parts(
    events: pd.DataFrame, later: str
) -> tuple[pd.DataFrame, list[pd.DataFrame], pd.DataFrame]:
    """Return the warm events, the slices, and all later events of known users, or the first."""
    events = events.sort_values("timestamp", kind="stable").reset_index(drop=True)
    edges = np.linspace(WARM, TOTAL, SLICES + 1) * len(events)
    cuts = edges.round().astype(int)
    slices = [events.iloc[a:b] for a, b in itertools.pairwise(cuts)]
    known = events.iloc[: cuts[-1]]
    test = events.iloc[cuts[-1] :]
    test = test[test["user_id"].isin(known["user_id"])]
    test = test.drop_duplicates("user_id" if later == "first" else ["user_id", "item_id"])
    return events.iloc[: cuts[0]], slices, test


def run(
    model: Any, slices: list[pd.DataFrame], items: Any, epochs: int | None, test: pd.DataFrame
) -> dict[str, float]:
    """Learn the slices one after another."""
    seconds = []
    for part in slices:
        new = items[items["item_id"].isin(part["item_id"])] if items is not None else None
        started = time.perf_counter()
        model.partial_fit(part, items=new, epochs=epochs)
        seconds.append(time.perf_counter() - started)
    return {"ndcg": model.score(test), "total": sum(seconds), "slice": float(np.mean(seconds))}


def observed(model: Any, slices: list[pd.DataFrame], test: pd.DataFrame) -> dict[str, float]:
    """Take the slices in without learning."""
    started = time.perf_counter()
    for part in slices:
        model.observe(part, on_unsupported_targets="ignore")
    total = time.perf_counter() - started
    return {"ndcg": model.score(test), "total": total, "slice": total / SLICES}


def measure(args: argparse.Namespace, seed: int) -> pd.DataFrame:
    """Return one row a way of keeping up."""
    import torch

    from palate import Recommender, RunOptions
    from palate.datasets import read_folder

    torch.set_num_threads(args.threads)
    data = read_folder(args.folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    items = None if args.item_encoder == "id" else data.items[["item_id", "text"]]
    warm, slices, test = parts(events, args.later)
    options = RunOptions(device="cpu", progress=False)
    fresh = Recommender(item_encoder=args.item_encoder, random_state=seed, options=options)
    fresh.set_params(**args.params)

    def fitted(part: pd.DataFrame) -> tuple[Any, float]:
        known = None if items is None else items[items["item_id"].isin(part["item_id"])]
        started = time.perf_counter()
        return copy.deepcopy(fresh).fit(part, items=known), time.perf_counter() - started

    base, _ = fitted(warm)
    full, full_seconds = fitted(pd.concat([warm, *slices]))
    rows = {"refit on all": {"ndcg": full.score(test), "total": full_seconds, "slice": np.nan}}
    rows["observe only"] = observed(copy.deepcopy(base), slices, test)
    for share in args.rehearsal:
        for epochs in args.epochs:
            model = copy.deepcopy(base).set_params(rehearsal=share)
            rows[f"partial_fit, rehearsal {share}, epochs {epochs}"] = run(
                model, slices, items, None if epochs == "auto" else int(epochs), test
            )
    table = pd.DataFrame(rows).T
    table["of refit"] = table["ndcg"] / table.loc["refit on all", "ndcg"]
    table["cost a slice / refit"] = table["slice"] / full_seconds
    return table


def share_or_auto(text: str) -> float | str:
    """Read a value of the parameter `rehearsal`."""
    return text if text == "auto" else float(text)


def main() -> None:
    """Print the mean over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rehearsal", type=share_or_auto, nargs="+", default=["auto", 0.0, 0.1])
    parser.add_argument("--epochs", nargs="+", default=["auto"], help="of partial_fit")
    parser.add_argument("--later", choices=("all", "first"), default="all", help="events judged by")
    parser.add_argument("--params", type=json.loads, default={}, help="JSON of Recommender params")
    parser.add_argument("--item-encoder", default="bert+id")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    tables = [measure(args, seed) for seed in range(args.seeds)]
    judged = "all later events" if args.later == "all" else "the first later event"
    print(
        f"{args.folder.resolve().name}: {SLICES} slices, {args.seeds} seed(s), judged by {judged}"
    )
    print((sum(tables[1:], tables[0]) / len(tables)).round(4).to_string())


if __name__ == "__main__":
    main()

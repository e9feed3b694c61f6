"""People whom training never saw: how good the list is after 0, 1, 2, 3, 5 and 10 events.

    python benchmarks/new_people.py DATASET_FOLDER [--model bert+id]

The folder holds interactions.parquet (user_id, item_id, timestamp: real times) and items.parquet
(item_id, text). The fifth of the people who came last are new: the model learns from the events
before the first of them came, and nothing of what came later. Then time goes on: each event of a
new person is a question that knows the n events before it, and whatever happens is observed.
NDCG@10 of the event, all items ranked, viewed ones filtered; an item that the model does not know
counts as a miss for all.

popularity counts the events of training. popularity now is what `recommend` says of an empty
history: counts that fade, and that `observe` keeps current. pop w is
`recommend(popularity_weight=w)`, trend w is `recommend(trend_weight=w)`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from palate import Recommender, RunOptions
from palate.datasets import read_folder

KNOWN = (0, 1, 2, 3, 5, 10)
K = 10


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="bert+id", help="item encoder")
    parser.add_argument("--new", type=float, default=0.2, help="share of people who are new")
    parser.add_argument("--steps", type=int, default=50, help="times that events are observed")
    parser.add_argument("--weights", nargs="+", type=float, default=[0.05, 0.15])
    parser.add_argument("--trends", nargs="+", type=float, default=[0.05, 0.15])
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def questions(late: pd.DataFrame, new: pd.Index) -> pd.DataFrame:
    """Return the events of new people that are asked for, with the items before each."""
    rows = []
    for user, events in late[late["user_id"].isin(new)].groupby("user_id", sort=False):
        ids = events["item_id"].tolist()
        for n in KNOWN:
            if n < len(ids):
                rows.append((events.index[n], user, n, ids[:n], ids[n]))
    columns = ["at", "user_id", "n", "history", "target"]
    return pd.DataFrame(rows, columns=columns).sort_values("at", kind="stable")


def gains(lists: list[list[Any]], targets: list[Any]) -> np.ndarray:
    """Return NDCG@10 of each list with one right answer."""
    found = np.zeros(len(targets))
    for row, (ids, target) in enumerate(zip(lists, targets, strict=True)):
        if target in ids:
            found[row] = 1 / np.log2(2 + ids.index(target))
    return found


def ways(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return how palate is asked, by the name of the column."""
    popular: dict[str, dict[str, Any]] = {
        f"pop {w}": {"popularity_weight": w} for w in args.weights
    }
    trends = {f"trend {w}": {"trend_weight": w} for w in args.trends}
    return {"palate": {}, **popular, **trends}


def lists_of(
    model: Recommender, histories: list[list[Any]], asked: dict[str, Any]
) -> list[list[Any]]:
    """Return the best items of each history, of what is popular for an empty one."""
    table = model.recommend(histories=histories, k=K, on_unsupported_targets="popular", **asked)
    grouped = table.groupby("user_id")["item_id"].apply(list)
    return [grouped.get(row, []) for row in range(len(histories))]


def unseen(ranked: list[Any], histories: list[list[Any]]) -> list[list[Any]]:
    """Return the best of one ranking that each history does not hold."""
    most = K + max(KNOWN)
    return [[i for i in ranked[:most] if i not in set(history)][:K] for history in histories]


def walk(
    model: Recommender, late: pd.DataFrame, asked: pd.DataFrame, args: argparse.Namespace
) -> pd.DataFrame:
    """Answer every question with what is known by then; return the gains of each way."""
    counts = model._serving.histories.events().items
    order = np.argsort(-np.bincount(counts, minlength=len(model.item_ids_)), kind="stable")
    ever = model.item_ids_[order[: K + max(KNOWN)]].tolist()
    parts = []
    for span in np.array_split(late.index.to_numpy(), args.steps):
        now = asked[(asked["at"] >= span[0]) & (asked["at"] <= span[-1])]
        if len(now):
            histories, targets = now["history"].tolist(), now["target"].tolist()
            trend = model.recommend(
                histories=[[]], k=K + max(KNOWN), on_unsupported_targets="popular"
            )["item_id"].tolist()
            parts.append(
                pd.DataFrame(
                    {
                        "n": now["n"].to_numpy(),
                        "popularity": gains(unseen(ever, histories), targets),
                        "popularity now": gains(unseen(trend, histories), targets),
                        **{
                            name: gains(lists_of(model, histories, way), targets)
                            for name, way in ways(args).items()
                        },
                    }
                )
            )
        model.observe(late.loc[span], on_unsupported_targets="ignore")
    return pd.concat(parts)


def main() -> None:
    """Print the table."""
    args = parse()
    torch.set_num_threads(args.threads)
    data = read_folder(args.folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    events = events.sort_values("timestamp", kind="stable").reset_index(drop=True)
    came = events.groupby("user_id")["timestamp"].min()
    start = came.quantile(1 - args.new)
    early, late = events[events["timestamp"] < start], events[events["timestamp"] >= start]
    items = data.items[data.items["item_id"].isin(early["item_id"])]
    model = Recommender(
        item_encoder=args.model,
        random_state=args.seed,
        options=RunOptions(device="cpu", progress=False),
    )
    if args.epochs is not None:
        model.set_params(epochs=args.epochs)
    started = time.perf_counter()
    model.fit(early, items=None if args.model == "id" else items[["item_id", "text"]])
    fit_seconds = time.perf_counter() - started
    asked = questions(late, came.index[came >= start])
    table = walk(model, late, asked, args)
    print(
        f"{args.folder.resolve().name}: {len(early)} events to learn from ({fit_seconds:.0f} s), "
        f"{(came >= start).sum()} new people; NDCG@10, full ranking"
    )
    names = [name for name in table.columns if name != "n"]
    print(f"{'events known':>12}{'people':>8}" + "".join(f"{name:>16}" for name in names))
    for n, rows in table.groupby("n"):
        values = "".join(f"{rows[name].mean():16.4f}" for name in names)
        print(f"{n:12d}{len(rows):8d}{values}")


if __name__ == "__main__":
    main()

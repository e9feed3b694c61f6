"""A data set walked in time order: recommend before each event, take it in after it.

    python benchmarks/replay.py DATASET_FOLDER [--days 10] [--keep-viewed]

The folder holds interactions.parquet (user_id, item_id, timestamp: real times) and items.parquet
(item_id, text). The model learns from the first 70 % of the events; the rest is cut into "days" of
equal numbers of events and walked in small steps. Before a step each of its events is a question:
NDCG@10 of its item among all items that the model knows (an item that it does not know is a miss;
people of whom nothing is known get what is popular). Three ways:

frozen   nothing is taken in
observe  `observe` after each step: histories and popularity move, weights do not
nightly  the same, and `partial_fit` on the day's events after each day (with the text of the items
         that came by then): it serves as a copy, so that no event counts twice

`--trend W` asks with `trend_weight=W`: what is popular now counts for everybody.

*old people* is NDCG@10 of the last event, held out from the start, of people who do not come back
in the walk: how much the way forgets from the first day to the last.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from palate import Recommender, RunOptions
from palate.datasets import read_folder

K = 10
WAYS = ("frozen", "observe", "nightly")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--model", default="bert+id", help="item encoder")
    parser.add_argument("--share", type=float, default=0.3, help="share of events walked")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--step", type=int, default=100, help="events asked for at once")
    parser.add_argument("--trend", type=float, nargs="+", default=[0.0, 0.15])
    parser.add_argument("--night-epochs", type=int, default=None, help="the default follows fit")
    parser.add_argument("--epochs", type=int, default=None, help="of the first fit")
    parser.add_argument(
        "--keep-viewed", action="store_true", help="where people come back to items"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class Walk:
    """The events of a set before and during the walk, and the held-out ones of old people."""

    def __init__(self, args: argparse.Namespace) -> None:
        data = read_folder(args.folder)
        events = data.interactions[["user_id", "item_id", "timestamp"]]
        events = events.sort_values("timestamp", kind="stable").reset_index(drop=True)
        start = round((1 - args.share) * len(events))
        early, self.late = events[:start], events[start:]
        gone = ~early["user_id"].isin(self.late["user_id"])
        last = early[gone].drop_duplicates("user_id", keep="last")
        self.early = early.drop(last.index)
        self.old = last[last["user_id"].isin(self.early["user_id"])]
        self.content = None if args.model == "id" else data.items[["item_id", "text"]]
        self.viewed = not args.keep_viewed

    def items(self, events: pd.DataFrame) -> pd.DataFrame | None:
        """Return the content of the items of some events."""
        if self.content is None:
            return None
        return self.content[self.content["item_id"].isin(events["item_id"])]

    def gains(self, model: Recommender, questions: pd.DataFrame, trend: float = 0.0) -> np.ndarray:
        """Return NDCG@10 of each question: (n_questions,)."""
        users = questions["user_id"].drop_duplicates()
        table = model.recommend(
            users.tolist(),
            k=K,
            filter_viewed=self.viewed,
            trend_weight=trend,
            on_unsupported_targets="popular",
        )
        ranks = table.set_index(["user_id", "item_id"])["rank"]
        asked = pd.MultiIndex.from_frame(questions[["user_id", "item_id"]])
        return np.nan_to_num(1 / np.log2(1 + ranks.reindex(asked).to_numpy()))


def run(way: str, first: Recommender, walk: Walk, args: argparse.Namespace) -> dict[str, Any]:
    """Walk once; return the gain of each event by each trend, and what it cost."""
    night = copy.deepcopy(first)
    live = copy.deepcopy(night)
    before = walk.gains(live, walk.old).mean()
    gains: dict[float, list[np.ndarray]] = {trend: [] for trend in args.trend}
    observing = learning = 0.0
    for day in np.array_split(np.arange(len(walk.late)), args.days):
        for at in range(0, len(day), args.step):
            step = walk.late.iloc[day[at : at + args.step]]
            for trend, found in gains.items():
                found.append(walk.gains(live, step, trend))
            if way != "frozen":
                started = time.perf_counter()
                live.observe(step, on_unsupported_targets="ignore")
                observing += time.perf_counter() - started
        if way == "nightly" and day[-1] < len(walk.late) - 1:
            today = walk.late.iloc[day]
            started = time.perf_counter()
            night.partial_fit(today, items=walk.items(today), epochs=args.night_epochs)
            live = copy.deepcopy(night)
            learning += time.perf_counter() - started
    after = walk.gains(live, walk.old).mean()
    return {
        "gains": {trend: np.concatenate(found) for trend, found in gains.items()},
        "old": (before, after),
        "observe_ms": 1000 * observing / len(walk.late),
        "learning": learning,
    }


def main() -> None:
    """Print the table."""
    args = parse()
    torch.set_num_threads(args.threads)
    walk = Walk(args)
    model = Recommender(
        item_encoder=args.model,
        random_state=args.seed,
        options=RunOptions(device="cpu", progress=False),
    )
    if args.epochs is not None:
        model.set_params(epochs=args.epochs)
    started = time.perf_counter()
    model.fit(walk.early, items=walk.items(walk.early))
    seconds = time.perf_counter() - started
    print(
        f"{args.folder.resolve().name}: fit on {len(walk.early)} events in {seconds:.0f} s, "
        f"{len(walk.late)} events walked in {args.days} days and steps of {args.step}; NDCG@10"
    )
    print(
        f"{'way':16}{'all':>8}{'first day':>11}{'last day':>10}{'old people':>18}"
        f"{'observe ms':>12}{'partial_fit s':>15}"
    )
    for way in args.ways:
        found = run(way, model, walk, args)
        old = "{:.4f} to {:.4f}".format(*found["old"])
        for trend, gains in found["gains"].items():
            first, *_, last = np.array_split(gains, args.days)
            name = f"{way} + {trend}" if trend else way
            print(
                f"{name:16}{gains.mean():8.4f}{first.mean():11.4f}{last.mean():10.4f}"
                f"{old:>18}{found['observe_ms']:12.2f}{found['learning']:15.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

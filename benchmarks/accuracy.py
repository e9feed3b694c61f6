"""Accuracy under leave-one-out with full ranking, for popularity, ids, text and both.

    python benchmarks/accuracy.py DATASET_FOLDER [--models popularity id text fused] [--threads 1]

The folder holds interactions.parquet (user_id, item_id, timestamp) and items.parquet (item_id,
text). Each user's last event is the test; every item with an event is ranked. Nothing but the item
encoder is set: the estimator's defaults follow the data, and hold out the last training event of a
tenth of the users to choose the best epoch. ``--params '{"validation_fraction": 1.0}'`` holds out
that of every user, which is then never trained on, as in the published tables. Each model runs in
a process of its own, whose peak memory is printed. ``--ask '{"trend_weight": 0.02}' ...`` asks the
fitted models again with parameters of `recommend`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODELS = {"popularity": None, "id": "id", "text": "bert", "fused": "bert+id"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--params", type=json.loads, default={}, help="JSON of Recommender params")
    parser.add_argument("--ask", nargs="+", type=json.loads, default=[], help="JSON for recommend")
    parser.add_argument("--log", action="store_true", help="print each epoch to stderr")
    parser.add_argument("--child", choices=MODELS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run each model in a process of its own and print the table."""
    args = parse()
    if args.child:
        print(json.dumps(measure(args)))
        return
    print(f"{args.folder.resolve().name}: leave-one-out, full ranking, {args.threads} thread(s)")
    print(
        f"{'model':12}{'HR@10':>8}{'NDCG@10':>9}{'HR@10*':>9}{'NDCG@10*':>10}"
        f"{'epochs':>8}{'s/epoch':>9}{'fit s':>8}{'peak MB':>9}"
    )
    for model in args.models:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", model]
        environment = {**os.environ, "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(args.threads)}
        out = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        row = json.loads(out.splitlines()[-1])
        print(
            f"{model:12}{row['hr']:8.4f}{row['ndcg']:9.4f}{row['hr_all']:9.4f}{row['ndcg_all']:10.4f}"
            f"{row['epochs']:8d}{row['epoch_seconds']:9.1f}{row['seconds']:8.0f}{row['peak_mb']:9.0f}",
            flush=True,
        )
        for asked, (hr, ndcg) in row["asked"].items():
            print(f"{'':12}{hr:8.4f}{ndcg:9.4f}  {asked}", flush=True)
    print("* with viewed items left in (filter_viewed=False)")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Fit and score one model."""
    import torch

    from palate import Recommender, RunOptions
    from palate.baselines import MostPopular
    from palate.datasets import read_folder
    from palate.model_selection import leave_last_out_split

    torch.set_num_threads(args.threads)
    data = read_folder(args.folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    items = data.items[data.items["item_id"].isin(events["item_id"])]
    train, test = leave_last_out_split(events, min_history=2)
    started = time.perf_counter()
    history: list[dict[str, Any]] = []
    if MODELS[args.child] is None:
        model: Any = MostPopular().fit(train)
    else:
        model = Recommender(
            item_encoder=MODELS[args.child],
            random_state=args.seed,
            options=RunOptions(
                device="cpu", progress=False, on_epoch_end=log_epoch if args.log else None
            ),
        ).set_params(**args.params)
        model.fit(train, items=None if args.child == "id" else items[["item_id", "text"]])
        history = model.history_
    seconds = time.perf_counter() - started
    scores = {
        f"{metric}{suffix}": model.score(test, metric=metric, filter_viewed=viewed)
        for metric in ("hr", "ndcg")
        for suffix, viewed in (("", True), ("_all", False))
    }
    return {
        **scores,
        "asked": {json.dumps(ask): asked_anew(model, test, ask) for ask in args.ask},
        "seconds": seconds,
        "epochs": len(history),
        "epoch_seconds": sum(r["seconds"] for r in history) / max(1, len(history)),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def asked_anew(model: Any, test: Any, ask: dict[str, Any]) -> tuple[float, float]:
    """Return HR@10 and NDCG@10 of what the model recommends when asked in a way."""
    from palate.metrics import evaluate

    table = model.recommend(test["user_id"], k=10, **ask)
    found = evaluate(table, test, metrics=["hr", "ndcg"])
    return found["hr@10"], found["ndcg@10"]


def log_epoch(record: Any) -> None:
    """Print one record of history_."""
    print(json.dumps(dict(record)), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

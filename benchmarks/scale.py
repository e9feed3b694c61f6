"""Time and memory of an epoch as a data set grows from 100 thousand to 10 million events.

    python benchmarks/scale.py DATASET_FOLDER [--events 100000 1000000 10000000] [--epochs 1]

Copies of the folder's users, each copy with items of its own until there are as many as
``--items-per-event`` asks for, in the real order of their events: a million items at ten million
events. Each size runs in a process of its own, whose peak memory is printed. Everything but the
number of epochs is the estimator's default for ids (text would add one BERT pass an item, once).
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

import numpy as np

ITEMS_PER_EVENT = 0.1


def resampled(users: np.ndarray, items: np.ndarray, n_events: int, n_items: int) -> np.ndarray:
    """Return (n_events, 2) users and items: whole copies of all users, with items of their own.

    Parameters
    ----------
    users, items : int64 ndarrays of shape (n_real,)
        Numbered from 0, in the order of events.
    n_events, n_items : int
        How many are wanted; items go round once there are enough.
    """
    n_users, n_real_items = users.max() + 1, items.max() + 1
    copy, place = np.divmod(np.arange(n_events), len(users))
    n_sets = max(1, n_items // n_real_items)
    return np.stack(
        [users[place] + copy * n_users, items[place] + copy % n_sets * n_real_items], axis=1
    )


def measure(folder: Path, n_events: int, epochs: int, threads: int) -> dict[str, float]:
    """Fit one size and say what it cost."""
    import pandas as pd
    import torch

    from palate import Recommender, RunOptions
    from palate.datasets import read_folder

    torch.set_num_threads(threads)
    events = read_folder(folder).interactions.sort_values("timestamp", kind="stable")
    users = np.unique(events["user_id"], return_inverse=True)[1]
    items = np.unique(events["item_id"], return_inverse=True)[1]
    table = resampled(users, items, n_events, int(n_events * ITEMS_PER_EVENT))
    frame = pd.DataFrame(table, columns=["user_id", "item_id"])
    n_users, n_items = (int(frame[name].nunique()) for name in frame)
    del events, users, items, table
    model = Recommender(
        item_encoder="id",
        epochs=epochs,
        random_state=0,
        options=RunOptions(device="cpu", progress=False),
    )
    started = time.perf_counter()
    model.fit(frame)
    return {
        "n_events": n_events,
        "n_users": n_users,
        "n_items": n_items,
        "fit": time.perf_counter() - started,
        "epoch": sum(record["seconds"] for record in model.history_) / epochs,
        "ndcg": model.history_[-1]["ndcg@10"],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Run each size in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--events", type=int, nargs="+", default=[100_000, 300_000, 1_000_000, 10_000_000]
    )
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.folder, args.child, args.epochs, args.threads)))
        return
    print(f"Resampled from {args.folder.resolve().name}; {args.threads} thread(s)\n")
    print("| events | users | items | s/epoch | µs/event | fit s | peak MB | validation NDCG@10 |")
    print("|---" * 8 + "|")
    environment = {**os.environ, "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(args.threads)}
    for n_events in args.events:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", str(n_events)]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {row['n_events']:,} | {row['n_users']:,} | {row['n_items']:,} | {row['epoch']:.1f} "
            f"| {row['epoch'] / row['n_events'] * 1e6:.1f} | {row['fit']:.0f} | {row['peak']:,.0f} "
            f"| {row['ndcg']:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

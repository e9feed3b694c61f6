"""What keeping the vectors of known users saves: everybody at once, and one user at a time.

    python benchmarks/asked_again.py MODEL_FOLDER [MODEL_FOLDER ...] [--threads 1]

Each folder holds a saved model. "first" is the first question after loading, for everybody; "kept"
the best of five later ones; "anew" the best of five with `user_vectors_mb=0`. One user: the medians
of 500 questions each, of users in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate import Recommender, RunOptions

KEEPING = RunOptions(device="cpu", progress=False)
ANEW = RunOptions(device="cpu", progress=False, user_vectors_mb=0)


def seconds(ask: Callable[[int], Any], times: int) -> list[float]:
    """Return how long each of so many calls took."""
    taken = []
    for turn in range(times):
        started = time.perf_counter()
        ask(turn)
        taken.append(time.perf_counter() - started)
    return taken


def main() -> None:
    """Print one row a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        "| model | users | events a user | items × width | first s | kept s | anew s | ratio |",
        end="",
    )
    print(" one user, kept ms | anew ms | ratio |\n|---|" + "---:|" * 10)
    for folder in args.folders:
        print(row(folder), flush=True)


def row(folder: Path) -> str:
    """Measure one model."""
    model = Recommender.load(folder, options=KEEPING)
    users = model.user_ids_

    def everybody(_: int) -> Any:
        return model.recommend(k=10)

    def one(turn: int) -> Any:
        place = turn * 7 % len(users)
        return model.recommend(users[place : place + 1].tolist(), k=10)

    first = seconds(everybody, 1)[0]
    kept, kept_one = min(seconds(everybody, 5)), np.median(seconds(one, 500))
    model.options = ANEW
    anew, anew_one = min(seconds(everybody, 5)), np.median(seconds(one, 500))
    n_items, width = model.item_vectors_.shape
    events = model._serving.histories.n_events / len(users)
    return (
        f"| {folder.name} | {len(users):,} | {events:.0f} | {n_items:,} × {width} | {first:.2f} |"
        f" {kept:.3f} | {anew:.3f} | {anew / kept:.1f} | {1000 * kept_one:.2f} |"
        f" {1000 * anew_one:.2f} | {anew_one / kept_one:.1f} |"
    )


if __name__ == "__main__":
    main()

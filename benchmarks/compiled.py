"""Whether `torch.compile` pays in training: epochs with the user encoder as it is and compiled.

    python benchmarks/compiled.py DATASET_FOLDER [--epochs 6] [--threads 1]

The folder is as for benchmarks/accuracy.py. One process trains two models with the defaults, in
turns of an epoch; in one of them the network over histories (the states of all prefixes) is
compiled, with dynamic shapes, for batches have many lengths. Printed are the seconds of each epoch,
of which the first holds the compiling, and the median share of the others.
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate import Recommender, RunOptions
from palate.datasets import read_folder
from palate.encoders.user.pooled import PooledEncoder

AS_IT_IS = PooledEncoder.prefixes


class Turns:
    """Lets two trainings go on in turns of an epoch; each tells here what an epoch took."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"as it is": [], "compiled": []}
        self.ways = {"as it is": AS_IT_IS, "compiled": torch.compile(AS_IT_IS, dynamic=True)}
        self.now = "as it is"
        self.condition = threading.Condition()

    def wait(self, name: str) -> None:
        """Wait until it is the turn of a training."""
        with self.condition:
            self.condition.wait_for(lambda: self.now == name)
            PooledEncoder.prefixes = self.ways[name]  # type: ignore[method-assign]

    def note(self, name: str, record: Any) -> None:
        """Keep the seconds of an epoch and let the other one go on."""
        self.seconds[name].append(record["seconds"])
        self.hand_over(name)
        self.wait(name)

    def hand_over(self, name: str) -> None:
        """Let the other one go on."""
        with self.condition:
            self.now = next(other for other in self.ways if other != name)
            self.condition.notify_all()


def main() -> None:
    """Print the seconds of each epoch and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = read_folder(args.folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    items = data.items[data.items["item_id"].isin(events["item_id"])][["item_id", "text"]]
    turns = Turns()

    def train(name: str) -> None:
        turns.wait(name)
        options = RunOptions(
            device="cpu", progress=False, on_epoch_end=lambda record: turns.note(name, record)
        )
        model = Recommender(random_state=0, epochs=args.epochs, options=options)
        model.fit(events, items=items)
        turns.hand_over(name)

    threads = [threading.Thread(target=train, args=(name,)) for name in turns.ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{args.folder.resolve().name}: seconds an epoch, {args.threads} thread(s)")
    for name, seconds in turns.seconds.items():
        print(f"{name:10}" + "".join(f"{value:8.1f}" for value in seconds))
    ratio = np.array(turns.seconds["compiled"][1:]) / np.array(turns.seconds["as it is"][1:])
    print(f"compiled / as it is, after the first epoch: {np.median(ratio):.2f}")


if __name__ == "__main__":
    main()

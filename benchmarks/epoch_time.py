"""Seconds of one training epoch: palate beside RecTools' SASRec, in one process.

    pip install 'rectools[torch]'
    python benchmarks/epoch_time.py DATASET_FOLDER [--loss sampled_softmax] [--epochs 2]

Both read the same events with the same width, depth, heads, history length and batch size; epochs
of one and the other alternate, so that a busy machine slows both. Validation is not timed.
palate scores the full catalogue at every position; `--loss` is what RecTools trains with
(`sampled_softmax` with 256 negatives, or its full `softmax`).
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")

import pandas as pd
import torch

DIM, LAYERS, HEADS, LENGTH, BATCH, DROPOUT = 64, 1, 1, 50, 128, 0.3


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--loss", default="sampled_softmax", choices=("sampled_softmax", "softmax"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    events = pd.read_parquet(args.folder / "interactions.parquet")
    items = pd.read_parquet(args.folder / "items.parquet")
    items = items[items["item_id"].isin(events["item_id"])][["item_id", "text"]]
    print(f"{args.folder.name}: {len(events):,} events, {args.threads} thread(s), width {DIM}")
    ours, theirs = [], []
    for turn in range(args.epochs):
        ours.append(palate_epoch(events, items))
        theirs.append(rectools_epoch(events, args.loss))
        ratio = theirs[-1] / ours[-1]
        print(
            f"  epoch {turn}: palate {ours[-1]:.1f} s (bert+id, full softmax), "
            f"RecTools SASRec {theirs[-1]:.1f} s ({args.loss}), ratio {ratio:.2f}",
            flush=True,
        )
    print(
        f"best of each: palate {min(ours):.1f} s, RecTools {min(theirs):.1f} s, "
        f"ratio {min(theirs) / min(ours):.2f}"
    )


def palate_epoch(events: pd.DataFrame, items: pd.DataFrame) -> float:
    """Fit one epoch; content vectors are computed (or cached) before it and not counted."""
    from palate import Recommender, RunOptions, TransformerEncoder

    model = Recommender(
        user_encoder=TransformerEncoder(
            n_layers=LAYERS, n_heads=HEADS, dropout=DROPOUT, max_length=LENGTH
        ),
        dim=DIM,
        epochs=1,
        batch_size=BATCH,
        validation_fraction=0,
        random_state=0,
        options=RunOptions(device="cpu", progress=False),
    ).fit(events[["user_id", "item_id", "timestamp"]], items=items)
    return float(model.history_[-1]["seconds"])


def rectools_epoch(events: pd.DataFrame, loss: str) -> float:
    """Fit one epoch of RecTools' SASRec and time its training loop alone."""
    import logging

    from pytorch_lightning import Callback, Trainer
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    seconds: list[float] = []  # RecTools copies the trainer, so the callback keeps nothing itself

    class Clock(Callback):
        """Time the training epoch."""

        def on_train_epoch_start(self, *args: Any) -> None:
            self.started = time.perf_counter()

        def on_train_epoch_end(self, *args: Any) -> None:
            seconds.append(time.perf_counter() - self.started)

    table = pd.DataFrame(
        {
            Columns.User: events["user_id"].astype(object),
            Columns.Item: events["item_id"].astype(object),
            Columns.Weight: 1.0,
            # An order is all that the model needs, and the dates must be dates.
            Columns.Datetime: pd.Timestamp("2020-01-01")
            + pd.to_timedelta(events.groupby("user_id").cumcount(), unit="s"),
        }
    )
    model = SASRecModel(
        n_factors=DIM,
        n_blocks=LAYERS,
        n_heads=HEADS,
        session_max_len=LENGTH,
        dropout_rate=DROPOUT,
        batch_size=BATCH,
        loss=loss,
        n_negatives=256,
        epochs=1,
        get_trainer_func=lambda **_: Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=[Clock()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ),
    )
    model.fit(Dataset.construct(table))
    return seconds[-1]


if __name__ == "__main__":
    main()

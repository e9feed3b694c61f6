"""palate beside its peers: one split, one evaluator, each model in a process of its own.

    pip install 'rectools[torch]' implicit matplotlib
    python benchmarks/compare.py DATASET_FOLDER --out RESULTS [--cold] [--time-to]

The folder holds interactions.parquet (user_id, item_id, timestamp) and items.parquet (item_id,
text). Each user's last event is the test; every item is ranked, viewed items are filtered. palate
runs with the estimator's defaults. RecTools and implicit are set as comparing/rectools_models.py
and comparing/peers.py say; they hold out, for stopping and choosing, the same events as palate.
All lists of ten are scored by palate.metrics. Recommend seconds are the better of two calls for
all users, of palate with the user vectors that `fit` kept and, as "encoding anew", without; peak
memory is that of the model's process.

`--cold` takes a tenth of the items out of training and scores events of those, ranked among all
items and among themselves. `--time-to` compares the time to RecTools SASRec's best validation.

A finished row is kept under RESULTS and not computed again. `--budget` cuts RecTools' training
into calls of so many seconds: the next call goes on from there. `--peer-python` names an
interpreter that has the peers, where this one has not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from comparing import report
from comparing.split import Split, cold_split, warm_split

from palate.metrics import evaluate

K = 10
PEERS = (
    "rectools-sasrec",
    "rectools-sasrec-softmax",
    "rectools-bert4rec",
    "implicit-als",
    "implicit-bm25",
)
OURS = ("popularity", "palate-id", "palate-text", "palate-fused", "palate-gru")
READ_TEXT = ("palate-text", "palate-fused", "palate-gru")
COLD = ("popularity", *READ_TEXT)
SCRIPTS = Path(__file__).parent / "comparing"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", choices=(*PEERS, *OURS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="most epochs of every model, for quick checks")
    parser.add_argument("--budget", type=float, default=1e9, help="seconds a RecTools call")
    parser.add_argument("--cold", action="store_true", help="items without a training event")
    parser.add_argument("--time-to", action="store_true", help="time to RecTools' best validation")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--out", type=Path, help="folder of rows and tables; kept between calls")
    parser.add_argument("--report-only", action="store_true", help="compute no row")
    args = parser.parse_args(arguments)
    allowed = COLD if args.cold else (*PEERS, *OURS)
    args.models = [m for m in args.models or (*PEERS, *OURS) if m in allowed]
    return args


def main(arguments: list[str] | None = None) -> None:
    """Compute the rows that are missing, print and write the tables."""
    args = parse(arguments)
    if args.out is None:
        with tempfile.TemporaryDirectory() as folder:
            args.out = Path(folder)
            run(args)
    else:
        run(args)


def run(args: argparse.Namespace) -> None:
    """Compute seed by seed, then report."""
    (args.out / "rows").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        split = None
        for model in args.models:
            path = row_path(args, model, seed)
            row = json.loads(path.read_text()) if path.exists() else None
            if not args.report_only and (row is None or not row["done"]):
                split = split or make_split(args, seed)
                row = measure(args, model, seed, split, path)
            if row is not None:
                rows.append(row)
    if rows:
        publish(args, rows)


def make_split(args: argparse.Namespace, seed: int) -> Split:
    """Split the set; which items are cold depends on the seed."""
    return cold_split(args.folder, seed) if args.cold else warm_split(args.folder)


def row_path(args: argparse.Namespace, model: str, seed: int) -> Path:
    """Name the file of a row; a limit of epochs makes another row."""
    kind = "cold" if args.cold else "warm"
    limit = f"-e{args.epochs}" if args.epochs else ""
    name = f"{args.folder.resolve().name}-{kind}-{model}-{seed}-t{args.threads}{limit}.json"
    return args.out / "rows" / name


def measure(
    args: argparse.Namespace, model: str, seed: int, split: Split, path: Path
) -> dict[str, Any] | None:
    """Run a model in a process of its own, score its lists, keep the row."""
    if model in READ_TEXT and "text" not in split.items:
        print(f"{model} is skipped: the set has no text", flush=True)
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split.write(folder, seed)
        task = {
            "model": model,
            "seed": seed,
            "threads": args.threads,
            "epochs": args.epochs,
            "budget": args.budget,
            "state": str(path.resolve().with_suffix(".pt")),
            "k": K,
        }
        (folder / "task.json").write_text(json.dumps(task))
        start(args, model, folder)
        row = json.loads((folder / "row.json").read_text())
        if "missing" in row:
            print(f"{model} is skipped: {row['missing']}", flush=True)
            return None
        before = json.loads(path.read_text()) if path.exists() else {"peak_mb": 0.0}
        row["peak_mb"] = max(row["peak_mb"], before["peak_mb"])
        row = {"model": model, "seed": seed, **row, **score(split, np.load(folder / "lists.npz"))}
    path.write_text(json.dumps(row))
    print(f"{model} seed {seed}: NDCG@10 {row['ndcg']:.4f}, {row['seconds']:.1f} s", flush=True)
    return row


def start(args: argparse.Namespace, model: str, folder: Path) -> None:
    """Run the process of a model."""
    peer = model in PEERS
    python = args.peer_python if peer else sys.executable
    script = SCRIPTS / ("peers.py" if peer else "ours.py")
    threads = {f"{name}_NUM_THREADS": str(args.threads) for name in ("OMP", "OPENBLAS", "MKL")}
    subprocess.run(
        [python, str(script), str(folder)],
        env={**os.environ, "GOMP_SPINCOUNT": "0", **threads},
        check=True,
    )


def score(split: Split, lists: Any) -> dict[str, float]:
    """Score lists of codes, all models alike."""
    found = evaluate(
        as_table(split, lists["lists"]),
        split.test,
        k=K,
        metrics=["hr", "ndcg", "coverage"],
        n_items=split.n_items,
    )
    scores = {name.removesuffix(f"@{K}"): value for name, value in found.items()}
    if "cold_lists" in lists:
        among = evaluate(as_table(split, lists["cold_lists"]), split.test, metrics=["hr", "ndcg"])
        scores |= {f"{name.removesuffix('@10')}_cold": value for name, value in among.items()}
    elif len(split.cold):
        # What a model that cannot tell these items apart gets on average: chance.
        places = np.arange(min(K, len(split.cold)))
        scores["hr_cold"] = len(places) / len(split.cold)
        scores["ndcg_cold"] = float((1 / np.log2(places + 2)).sum() / len(split.cold))
    return scores


def as_table(split: Split, lists: np.ndarray) -> pd.DataFrame:
    """Turn rows of codes into a table of recommendations."""
    rows, places = np.nonzero(lists >= 0)
    return pd.DataFrame(
        {"user_id": split.asked[rows], "item_id": lists[rows, places], "rank": places + 1}
    )


def publish(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Print and write the tables."""
    name, kind = args.folder.resolve().name, "cold" if args.cold else "warm"
    what = "items without a training event" if args.cold else "leave-last-out, full ranking"
    title = f"{name}: {what}, {args.threads} thread(s)"
    summary = report.summarise(rows)
    text = report.as_markdown(summary)
    if args.time_to:
        text += "\n\n" + report.time_to_best(rows)
    print(f"\n{title}\n\n{text}")
    report.write(summary, text, title, args.out / f"{name}-{kind}")


if __name__ == "__main__":
    main()

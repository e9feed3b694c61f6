"""What each ingredient of the recipe does: the same model with one thing changed, several seeds.

    python benchmarks/ablations.py DATASET_FOLDER [--only VARIANT ...] [--seeds 3] [--out FOLDER]

The folder is as for benchmarks/accuracy.py. Each user's last event is the test and is never seen;
of a tenth of the users the event before it is the validation, by which to choose. Every item with
an event is ranked, viewed ones left out. Each run is kept as a JSON file in --out and is not
repeated: a stopped benchmark goes on where it was. The table is of all runs that --out holds:
means over the seeds, with their standard errors, and the mean difference to the base run of the
same seed. The variants last and lora, in which BERT reads in every step and 64 negatives are
sampled, run only where --only names them. --params sets parameters of all variants: give each
setting an --out of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

#: Parameters of the recommender, as its set_params takes them, beside the defaults.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "average 0.5": {"averaging": 0.5},
    "average 1": {"averaging": 1.0},
    "average 2": {"averaging": 2.0},
    "smoothing 0.1": {"objective": "softmax", "objective__label_smoothing": 0.1},
    "temperature 0.05": {"objective": "softmax", "objective__temperature": 0.05},
    "temperature 0.07": {"objective": "softmax", "objective__temperature": 0.07},
    "sampled 512": {"objective": "sampled_softmax"},
    "sampled 64": {"objective": "sampled_softmax", "objective__n_negatives": 64},
    "sampled 3000": {"objective": "sampled_softmax", "objective__n_negatives": 3000},
    "gbce 256": {"objective": "gbce"},
    "whitening 1": {"item_encoder__encoders__0__whitening": 1.0},
    "whitening 0.5": {"item_encoder__encoders__0__whitening": 0.5},
    "whitening 0": {"item_encoder__encoders__0__whitening": 0.0},
    "whitening groups 4": {"item_encoder__encoders__0__whitening_groups": 4},
    "last": {"item_encoder__encoders__0__finetune": "last"},
    "lora": {"item_encoder__encoders__0__finetune": "lora"},
    "gate": {"item_encoder__mode": "gate"},
    "swiglu": {"user_encoder__block": "swiglu"},
    "ligr": {"user_encoder__block": "ligr"},
    "hstu": {"user_encoder__block": "hstu"},
    "gru": {"user_encoder": "gru"},
    "no shortcut": {"user_encoder__shortcut": False},
    "no averages": {"mean_weight": 0, "content_weight": 0},
    "dim 64": {"dim": 64},
    "dim 128": {"dim": 128},
    "dropout 0.1": {"user_encoder__dropout": 0.1},
    "dropout 0.5": {"user_encoder__dropout": 0.5},
    "length 20": {"user_encoder__max_length": 20},
    "pretrain 5": {"pretrain_epochs": 5},
    "time gaps": {"time_gaps": True},
    "time bias": {"time_bias": True},
    "time gaps and bias": {"time_gaps": True, "time_bias": True},
    "hstu, time bias": {"user_encoder__block": "hstu", "time_bias": True},
    "id dropout 0": {"item_encoder__id_dropout": 0.0},
    "id dropout 0.3": {"item_encoder__id_dropout": 0.3},
}
#: BERT reads in every step of these: they run where --only names them.
SLOW = ("last", "lora")
METRICS = ("validation", "ndcg", "hr", "seconds")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    usual = [variant for variant in VARIANTS if variant not in SLOW]
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=usual)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--params", type=json.loads, default={}, help="JSON, for all variants")
    parser.add_argument("--limit", type=float, default=1e9, help="start no run after these seconds")
    parser.add_argument("--out", type=Path, default=Path("ablations"))
    parser.add_argument("--table", action="store_true", help="run nothing, print what there is")
    return parser.parse_args()


def main() -> None:
    """Run what is not there yet, then print the table."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    name, begun = args.folder.resolve().name, time.perf_counter()
    for seed in range(0 if args.table else args.seeds):
        for variant in args.only:
            path = args.out / f"{name}-{variant.replace(',', '').replace(' ', '-')}-{seed}.json"
            if not path.exists() and time.perf_counter() - begun < args.limit:
                row = measure(args.folder, args.params | VARIANTS[variant], seed, args.threads)
                path.write_text(json.dumps({"variant": variant, "seed": seed, **row}))
                print(path.name, json.dumps(row), flush=True)
    rows = [json.loads(path.read_text()) for path in sorted(args.out.glob(f"{name}-*.json"))]
    print_table(name, rows)


def measure(folder: Path, params: dict[str, Any], seed: int, threads: int) -> dict[str, float]:
    """Fit one model and score it."""
    import torch

    from palate import Recommender, RunOptions
    from palate.datasets import read_folder
    from palate.model_selection import leave_last_out_split

    torch.set_num_threads(threads)
    data = read_folder(folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    items = data.items[data.items["item_id"].isin(events["item_id"])]
    train, test = leave_last_out_split(events, min_history=2)
    options = RunOptions(device="cpu", progress=False)
    model = Recommender(random_state=seed, options=options).set_params(**params)
    started = time.perf_counter()
    model.fit(train, items=items[["item_id", "text"]])
    seconds = time.perf_counter() - started
    curve = [record["ndcg@10"] for record in model.history_ if record["stage"] == "fit"]
    return {
        "validation": max(curve),
        "ndcg": model.score(test),
        "hr": model.score(test, metric="hr"),
        "seconds": seconds,
        "epochs": len(curve),
        "best_epoch": int(np.argmax(curve)),
    }


def print_table(name: str, rows: list[dict[str, Any]]) -> None:
    """Print means, standard errors, and differences to the base of the same seed."""
    base = {row["seed"]: row for row in rows if row["variant"] == "base"}
    print(f"\n{name}: NDCG@10 of validation and test, HR@10 of the test; difference to base")
    for variant in VARIANTS:
        mine = [row for row in rows if row["variant"] == variant]
        if not mine:
            continue
        cells = [spread([row[metric] for row in mine]) for metric in METRICS[:3]]
        seconds = np.mean([row["seconds"] for row in mine])
        pairs = [(row, base[row["seed"]]) for row in mine if row["seed"] in base]
        gains = [spread([a[m] - b[m] for a, b in pairs], "+") for m in METRICS[:2] if pairs]
        print(f"| {variant} | {' | '.join(cells + gains)} | {seconds:.0f} s | {len(mine)} |")


def spread(values: list[float], sign: str = "") -> str:
    """Return a mean and its standard error."""
    mean, n = np.mean(values), len(values)
    error = np.std(values, ddof=1) / n**0.5 if n > 1 else float("nan")
    return f"{mean:{sign}.4f} ± {error:.4f}"


if __name__ == "__main__":
    main()

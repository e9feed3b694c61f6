"""What a second stage adds: NDCG@10 with and without each mode of the re-ranker.

    python benchmarks/reranker.py DATASET_FOLDER [--seeds 3] [--modes attention gate film]

The folder holds interactions.parquet (user_id, item_id, timestamp) and items.parquet (item_id,
text). Each user's last event is the test; every item with an event is ranked. The first stage is
fitted once a seed, with the estimator's defaults, and each re-ranker learns on top of that very
model, from the same events and by the same validation users as inside `fit`. ``all`` leaves viewed
items in the lists. ``plain`` is attention that learns from the first stage's lists as they are,
without dropout; the line of a seed also says what the first stage makes of the events that a
re-ranker learns from, which it was trained on. ``seconds`` are those of learning the stage,
``asking`` those of one `score`. ``--reranker '{"epochs": 5}'`` passes parameters to the re-ranker,
``--params '{"validation_fraction": 1.0}'`` to the estimator.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("attention", "gate", "film", "plain")
NONE = "none"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES[:3]))
    parser.add_argument("--item-encoder", choices=("bert+id", "bert", "id"), default="bert+id")
    parser.add_argument("--params", type=json.loads, default={}, help="JSON of Recommender params")
    parser.add_argument("--reranker", type=json.loads, default={}, help="JSON of Reranker params")
    parser.add_argument("--keep", type=Path, help="where first stages are kept between runs")
    return parser.parse_args()


def main() -> None:
    """Fit each seed, put each mode on top, and print the table."""
    import torch

    from palate.datasets import read_folder
    from palate.model_selection import leave_last_out_split

    args = parse()
    torch.set_num_threads(1)
    data = read_folder(args.folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    items = data.items[data.items["item_id"].isin(events["item_id"])][["item_id", "text"]]
    train, test = leave_last_out_split(events, min_history=2)
    print(f"{args.folder.resolve().name}: leave-one-out, full ranking, {args.seeds} seed(s)")
    rows: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        for row in measure(args, seed, train, test, items):
            rows.append(row)
            print(json.dumps(row), flush=True)
    show(rows)


def measure(args: argparse.Namespace, seed: int, train: Any, test: Any, items: Any) -> Any:
    """Yield the figures of the first stage alone, then of each mode on top of it."""
    rec, seconds = first_stage(args, seed, train, items)
    first, options = rec._serving, rec._options()
    # As inside `fit`: the same users are held out.
    from palate import Reranker
    from palate._random import draw_seed, torch_generator
    from palate.learning import _HOLDOUT, _RERANK, _stream_seed
    from palate.reranking.fitted import FittedReranker
    from palate.reranking.training import Tables, held_gains, learn_reranker, make_held
    from palate.training.validation import hold_out

    drawn = draw_seed(seed)
    left, holdout = hold_out(
        first.histories, rec.validation_fraction, torch_generator(drawn, _HOLDOUT)
    )
    for mode in (NONE, *args.modes):
        named = mode in ("gate", "film")
        spec = Reranker(mode if named else "attention", **args.reranker)
        tables = Tables.of(first.network)
        held = make_held(spec, first.network, tables, holdout)
        if mode == NONE:
            rec._serving = replace(first, reranker=None)
            change = tables.vectors.new_zeros(held.scores.shape)
            print(json.dumps({"seed": seed, **on_its_own(spec, first.network, left)}), flush=True)
        else:
            started = time.perf_counter()
            with undropped(mode == "plain"):
                module, _ = learn_reranker(
                    *(spec, first.network, left, holdout, _stream_seed(drawn, _RERANK)),
                    *(spec.epochs, options),
                )
            seconds = time.perf_counter() - started
            rec._serving = replace(first, reranker=FittedReranker(mode, spec, module))
            change = tables.correct(module, held)
        started = time.perf_counter()
        ndcg = rec.score(test)
        asking = time.perf_counter() - started
        yield {
            "seed": seed,
            "mode": mode,
            "validation": float(held_gains(held, change).mean()),
            "ndcg": ndcg,
            "ndcg_all": rec.score(test, filter_viewed=False),
            "hr": rec.score(test, metric="hr"),
            "seconds": seconds,
            "asking": asking,
        }


@contextmanager
def undropped(wanted: bool) -> Iterator[None]:
    """Let a re-ranker learn from the first stage's lists as they are."""
    from palate.reranking import training

    original = training.make_examples
    if wanted:
        training.make_examples = lambda *given, **named: original(
            *given, **{**named, "dropout": False}
        )
    try:
        yield
    finally:
        training.make_examples = original


def on_its_own(spec: Any, network: Any, histories: Any) -> dict[str, float]:
    """Return the first stage's NDCG@10 on events that it was trained on."""
    import torch

    from palate._random import ModuleSeed
    from palate.reranking.examples import last_prefixes, make_examples
    from palate.reranking.training import held_gains

    prefixes = last_prefixes(histories, spec.n_examples, torch.Generator())
    vectors, sizes = network.catalogue(), (spec.n_candidates, spec.n_events)
    found = {}
    for name, dropout in (("trained_on", False), ("trained_on_dropout", True)):
        with ModuleSeed(0):
            examples = make_examples(network, vectors, prefixes, *sizes, dropout=dropout)
        found[name] = float(held_gains(examples, torch.zeros(examples.scores.shape)).mean())
    return found


def first_stage(args: argparse.Namespace, seed: int, train: Any, items: Any) -> tuple[Any, float]:
    """Return a model without a second stage, and the seconds that it took."""
    from palate import Recommender, RunOptions

    options = RunOptions(device="cpu", progress=False)
    kept = args.keep and args.keep / f"{args.folder.resolve().name}-{seed}"
    if kept and kept.exists():
        return Recommender.load(kept, options=options), 0.0
    rec = Recommender(item_encoder=args.item_encoder, random_state=seed, options=options)
    rec.set_params(**args.params)
    started = time.perf_counter()
    rec.fit(train, items=None if args.item_encoder == "id" else items)
    seconds = time.perf_counter() - started
    if kept:
        rec.save(kept)
    return rec, seconds


def show(rows: list[dict[str, Any]]) -> None:
    """Print means over seeds, and differences to the first stage of the same seed."""
    names = ("validation", "ndcg", "ndcg_all", "hr")
    base = {row["seed"]: row for row in rows if row["mode"] == NONE}
    print(
        f"{'mode':10}" + "".join(f"{name:>34}" for name in names) + f"{'seconds':>9}{'asking':>9}"
    )
    for mode in dict.fromkeys(row["mode"] for row in rows):
        of_mode = [row for row in rows if row["mode"] == mode]
        line = f"{mode:10}"
        for name in names:
            level = np.mean([row[name] for row in of_mode])
            gains = np.array([row[name] - base[row["seed"]][name] for row in of_mode])
            error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
            share = gains.mean() / max(1e-12, level - gains.mean())
            line += f"{level:10.4f} {gains.mean():+8.4f} ± {error:.4f} {share:+.1%}".rjust(34)
        for name in ("seconds", "asking"):
            line += f"{np.mean([row[name] for row in of_mode]):9.1f}"
        print(line)


if __name__ == "__main__":
    main()

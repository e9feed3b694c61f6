"""Where the seconds of `fit` and of `recommend` for everybody go.

    python benchmarks/where_time_goes.py DATASET_FOLDER [--epochs 2] [--threads 1]

The folder holds interactions.parquet (user_id, item_id, timestamp) and items.parquet (item_id,
text). The estimator's defaults are fitted for a few epochs, with a clock around each part: a part
does not hold the parts that it calls. Encoding texts is there with an empty cache alone
(PALATE_CACHE names its folder).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

import palate._estimator as estimator
import palate.learning as learning
import palate.recommender as recommender
import palate.serving as serving
import palate.training.loop as loop
import palate.training.objectives as objectives
from palate import CosineRanker, Recommender, RunOptions
from palate.datasets import read_folder
from palate.encoders.item.fusion import FusedItems
from palate.encoders.item.text_model import TextModel
from palate.encoders.user.pooled import PooledEncoder
from palate.kept_vectors import KeptVectors
from palate.training.network import TasteNetwork
from palate.training.optimizer import RowAdamW

# What is timed: where a name is looked up, the name, and what the table calls it.
FIT = [
    (estimator, "code_afresh", "read events and items, give codes"),
    (TextModel, "encode_batches", "encode texts"),
    (FusedItems, "extend", "content: cache, whitening"),
    (FusedItems, "forward", "item vectors, forward"),
    (learning, "iterate_batches", "cut and pad batches"),
    (PooledEncoder, "prefixes", "user encoder, forward"),
    (objectives, "softmax_loss", "softmax loss, forward, and its gradient"),
    (Accelerator, "backward", "backward"),
    (loop, "clip_gradients", "clip and step"),
    (Accelerator, "clip_grad_norm_", "clip and step"),
    (RowAdamW, "step", "clip and step"),
    (learning, "validation_ndcg", "validation"),
    (learning, "weigh", "choose weights of averages"),
    (TasteNetwork, "catalogue", "catalogue vectors"),
    (estimator, "keep_user_vectors", "vectors of all users"),
]
ASK = [
    (TasteNetwork, "encode_histories", "user vectors"),
    (KeptVectors, "find", "find user vectors"),
    (CosineRanker, "topk", "exact top-k"),
    (recommender, "result_table", "table of results"),
    (estimator, "known_queries", "look up users and histories"),
    (serving, "Asking", "what is viewed, left out, boosted"),
]


class Clocks:
    """Seconds of each part, less those of the parts inside it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.open: list[float] = []

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with a clock; of a generator, each step is timed."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            found = self.run(name, lambda: function(*args, **kwargs))
            return self.steps(name, found) if isinstance(found, Iterator) else found

        return timed

    def steps(self, name: str, iterator: Iterator[Any]) -> Iterator[Any]:
        """Yield what `iterator` yields, and count its own time alone."""
        end = object()
        while (value := self.run(name, lambda: next(iterator, end))) is not end:
            yield value

    def run(self, name: str, call: Callable[[], Any]) -> Any:
        """Call, and count."""
        self.open.append(0.0)
        started = time.perf_counter()
        try:
            return call()
        finally:
            passed = time.perf_counter() - started
            self.seconds[name] += passed - self.open.pop()
            if self.open:
                self.open[-1] += passed

    def put(self, parts: list[tuple[Any, str, str]]) -> None:
        """Put clocks around what is there."""
        for owner, name, label in parts:
            if hasattr(owner, name):
                setattr(owner, name, self.around(label, getattr(owner, name)))

    def show(self, title: str, total: float) -> None:
        """Print the parts, the longest first."""
        print(f"\n{title}: {total:.2f} s")
        rest = total - sum(self.seconds.values())
        for name, seconds in [*self.seconds.most_common(), ("everything else", rest)]:
            print(f"{seconds / total:6.1%} {seconds:9.2f} s  {name}")


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--item-encoder", default="bert+id")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = read_folder(args.folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    items = None if args.item_encoder == "id" else data.items[["item_id", "text"]]
    model = Recommender(
        item_encoder=args.item_encoder,
        epochs=args.epochs,
        random_state=0,
        options=RunOptions(device="cpu", progress=False),
    )
    # The first optimiser of a process imports what torch.compile needs: seconds, once.
    importlib.import_module("torch._dynamo")
    clocks = Clocks()
    clocks.put(FIT)
    started = time.perf_counter()
    model.fit(events, items=items)
    name = args.folder.resolve().name
    clocks.show(f"{name}, fit, {args.epochs} epochs", time.perf_counter() - started)
    clocks = Clocks()
    clocks.put(ASK)
    for how, memory in (("as fit left it", 512), ("encoding anew", 0)):
        model.options = dataclasses.replace(model.options, user_vectors_mb=memory)
        model.recommend(k=10)
        clocks.seconds.clear()
        started = time.perf_counter()
        model.recommend(k=10)
        passed = time.perf_counter() - started
        clocks.show(f"{name}, recommend for {len(model.user_ids_)} users, {how}", passed)


if __name__ == "__main__":
    main()

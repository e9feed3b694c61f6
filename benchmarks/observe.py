"""One event of one person: how long until the model knows it, and answers with it.

    python benchmarks/observe.py [--users 1000 100000] [--items 1000000] [--encoders gru]

The model is untrained (the time does not depend on the weights). What is in memory before the first
call is kept from the interpreter's garbage collection (`gc.freeze`), as in a service: to look for
cycles through all that was imported takes a fifth of a second, whatever it is that calls for it.
*observe* takes in one event, *vector* is the person's new vector (`transform`), *recommend* the ten
nearest of all items. Each call is for another person, all on one thread; the median, the 99th of a
hundred and the longest, in ms.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from palate import Recommender, RunOptions


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", nargs="+", type=int, default=[1_000, 100_000])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=50, help="events of each user")
    parser.add_argument("--encoders", nargs="+", default=["transformer", "gru"])
    parser.add_argument("--calls", type=int, default=2_000, help="events observed")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def model_of(encoder: str, n_users: int, n_items: int, n_events: int) -> Recommender:
    """Return a model of random histories, with the weights that it starts from."""
    rng = np.random.default_rng(0)
    total = n_users * n_events
    items = rng.integers(0, n_items, total)
    items[: min(n_items, total)] = np.arange(min(n_items, total))
    events = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(n_users), n_events),
            "item_id": items,
            "timestamp": np.arange(total),
        }
    )
    model = Recommender(
        encoder,
        "id",
        dim=64,
        epochs=0,
        validation_fraction=0,
        random_state=0,
        options=RunOptions(device="cpu", progress=False),
    )
    return model.fit(events)


def milliseconds(calls: list[Callable[[], object]]) -> tuple[float, float, float]:
    """Return the median, the 99th of a hundred and the longest time of some calls."""
    spent = []
    for call in calls:
        started = time.perf_counter()
        call()
        spent.append((time.perf_counter() - started) * 1000)
    return float(np.median(spent)), float(np.quantile(spent, 0.99)), max(spent)


def calls_of(
    model: Recommender, n_users: int, n_items: int, n_calls: int
) -> dict[str, list[Callable[[], object]]]:
    """Return what is timed: events to observe, and questions of some of their people."""
    rng = np.random.default_rng(1)
    columns = ["user_id", "item_id", "timestamp"]
    tables = [
        pd.DataFrame([[rng.integers(n_users), rng.integers(n_items), 10**9 + i]], columns=columns)
        for i in range(n_calls)
    ]
    asked = tables[:100]
    return {
        "observe": [lambda t=t: model.observe(t) for t in tables],
        "vector": [lambda t=t: model.transform(t) for t in asked],
        "recommend": [lambda t=t: model.recommend(t["user_id"].tolist()) for t in asked[:30]],
    }


def main() -> None:
    """Print the table."""
    args = parse()
    torch.set_num_threads(args.threads)
    print(f"one event at a time, {args.threads} thread(s), {args.events} events a user; ms")
    print(f"{'encoder':12}{'users':>9}{'items':>9}  {'call':10}{'median':>8}{'99 %':>8}{'most':>8}")
    for encoder in args.encoders:
        for n_users in args.users:
            model = model_of(encoder, n_users, args.items, args.events)
            n_items = len(model.item_ids_)
            timed = calls_of(model, n_users, n_items, args.calls)
            gc.collect()
            gc.freeze()
            for name, calls in timed.items():
                figures = "".join(f"{value:8.2f}" for value in milliseconds(calls))
                print(f"{encoder:12}{n_users:9d}{n_items:9d}  {name:10}{figures}", flush=True)


if __name__ == "__main__":
    main()

"""Seconds and memory of saving and loading a large catalogue, read or mapped, by several workers.

    python benchmarks/loading.py [--items 1000000] [--dim 64] [--workers 3]

The model is not trained: what is measured depends on sizes alone. Each loading runs in a process of
its own. "Own" is the memory that a process has filled itself (the kernel's Private_Dirty), over
what it had before; the pages of a mapped file are not written to, and shared. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import pandas as pd

from palate import Recommender, RunOptions

OPTIONS = RunOptions(device="cpu", progress=False)


def own_mb() -> float:
    """Return the memory in MB that this process has filled itself."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def work(folder: str, how: str, wait: bool) -> None:
    """Load, answer once, and print the seconds and the memory."""
    before, start = own_mb(), time.perf_counter()
    options = {"mmap": "mmap" in how, "verify": "verify" in how}
    model = Recommender.load(folder, options=OPTIONS, **options)
    loaded = time.perf_counter()
    model.recommend([0], k=10)
    first = time.perf_counter()
    for _ in range(10):
        model.recommend([0], k=10)
    each = (time.perf_counter() - first) / 10
    numbers = loaded - start, first - loaded, each, own_mb() - before
    print(*(f"{number:.4f}" for number in numbers), flush=True)
    if wait:
        sys.stdin.readline()


def start_worker(folder: str, how: str, *, wait: bool = False) -> subprocess.Popen[str]:
    """Start a process that loads."""
    command = [sys.executable, __file__, "--work", folder, how, str(int(wait))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes)  # type: ignore[call-overload, no-any-return]


def main() -> None:
    """Make a model, save it, and load it in every way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--workers", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    events = pd.DataFrame(
        {
            "user_id": rng.integers(0, args.users, 3 * args.items),
            "item_id": np.concatenate(
                [np.arange(args.items), rng.integers(0, args.items, 2 * args.items)]
            ),
        }
    )
    model = Recommender(
        item_encoder="id", dim=args.dim, epochs=0, validation_fraction=0, options=OPTIONS
    ).fit(events)
    with tempfile.TemporaryDirectory() as folder:
        target = f"{folder}/model"
        start = time.perf_counter()
        model.save(target)
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(target).iterdir()) / 2**20
        print(f"{args.items} items x {args.dim}, {args.users} users, {len(events)} events")
        print(f"save: {seconds:.2f} s, {size:.0f} MB on disk\n")
        names = ("seconds", "first answer", "each answer", "own MB")
        print(f"{'load':<16}" + "".join(f"{name:>14}" for name in names))
        for how in ("read,verify", "read", "mmap,verify", "mmap"):
            said = start_worker(target, how).communicate()[0].split()
            load, first, each, own = map(float, said)
            print(f"{how:<16}{load:14.2f}{first:14.3f}{each:14.4f}{own:14.0f}")
        for how in ("read", "mmap"):
            workers = [start_worker(target, how, wait=True) for _ in range(args.workers)]
            own = sum(float(w.stdout.readline().split()[3]) for w in workers if w.stdout)
            print(f"\n{args.workers} workers, {how}: {own:.0f} MB of their own in all", end="")
            for worker in workers:
                worker.communicate("\n")
        print()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], sys.argv[3], sys.argv[4] == "1")
    else:
        main()

"""Time palate's exact top-k where each query leaves items out, as `filter_viewed` does.

    python benchmarks/topk_excluded.py [--threads 1] [--queries 1024]

Random vectors; each query leaves out so many random items, given as pairs. The least time of 20
calls, sorting the pairs included.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from palate.ranking import CosineRanker

CATALOGUES = ((3_416, 128), (10_506, 128), (100_000, 64))
ASKED = ((10, 0), (10, 8), (10, 40), (10, 180), (50, 0), (100, 0), (100, 180))


def main() -> None:
    """Print one row a catalogue, and a column for each k and number of items left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--queries", type=int, default=1024)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    heads = [f"k = {k}, {n} left out" for k, n in ASKED]
    print("| items × width | " + " | ".join(heads) + " |\n|---|" + "---:|" * len(ASKED))
    for n_items, dim in CATALOGUES:
        cells = [f"{milliseconds(n_items, dim, args.queries, k, n):.1f}" for k, n in ASKED]
        print(f"| {n_items:,} × {dim} | " + " | ".join(cells) + " |", flush=True)


def milliseconds(n_items: int, dim: int, n_queries: int, k: int, n_out: int) -> float:
    """Return the least time of a search."""
    generator = torch.Generator().manual_seed(0)
    ranker = CosineRanker().fit(torch.randn(n_items, dim, generator=generator))
    queries = torch.randn(n_queries, dim, generator=generator)
    rng = np.random.default_rng(0)
    out = [rng.choice(n_items, n_out, replace=False) for _ in range(n_queries)]
    pairs = np.repeat(np.arange(n_queries), n_out), np.concatenate(out).astype(np.int64)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        ranker.topk(queries, k, exclude=pairs if n_out else None)
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


if __name__ == "__main__":
    main()

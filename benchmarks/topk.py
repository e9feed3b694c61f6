"""Time palate's exact top-k beside its peers, in one process and interleaved.

Run ``python benchmarks/topk.py`` for the whole table, ``--quick`` for a small part, ``--cpu-time``
where other work keeps the processors busy. Peers that are not installed are left out
(``pip install 'palate[bench]'`` brings them). Times are the least of several interleaved rounds.
Short calls are made in bursts after a moment of rest, as in a busy service: each library finds its
own copy of the catalogue in the processor's caches, and no thread of the library before it still
spins (OpenBLAS' do for a tenth of a second). A peer, other than implicit, that a smaller batch
shows to need longer than ``--patience`` seconds is skipped and printed as "-".
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from palate.ops._topk_library import load
from palate.ranking import CosineRanker

BARE = "torch.mm"
ALWAYS = (BARE, "palate float32", "palate int8", "implicit")
SIZES = {"n_items": (100_000, 1_000_000), "dim": (64, 128), "batch": (1, 32, 256, 1024)}
QUICK = {"n_items": (100_000,), "dim": (64,), "batch": (1, 32, 256)}
K = (10, 100)

WARM_MS, BURST_MS, IDLE_S = 20.0, 100.0, 0.15
CLOCK = [time.perf_counter]

Method = Callable[[torch.Tensor, int], object]


def machine() -> str:
    """Name the processor and the versions."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [row for row in info.read_text().splitlines() if row.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    packages = [f"torch {torch.__version__}"]
    for name in ("faiss", "implicit", "usearch"):
        try:
            packages.append(f"{name} {importlib.import_module(name).__version__}")
        except ImportError:
            packages.append(f"{name} absent")
    kernel = "compiled" if load() is not None else "plain torch"
    return f"{model}, {torch.get_num_threads()} threads, kernel: {kernel}; {', '.join(packages)}"


def peers(items: torch.Tensor, threads: int) -> Iterator[tuple[str, Method]]:
    """Yield what searches a catalogue of unit vectors, each made ready once."""
    for storage in ("float32", "int8"):
        ranker = CosineRanker(storage=storage).fit(items)
        yield f"palate {storage}", lambda q, k, ranker=ranker: ranker.topk(q, k)
    array = items.numpy()
    try:
        from implicit.cpu.topk import topk as implicit_topk

        yield "implicit", lambda q, k: implicit_topk(array, q.numpy(), k, num_threads=threads)
    except ImportError:
        pass
    try:
        import faiss

        faiss.omp_set_num_threads(threads)
        index = faiss.IndexFlatIP(items.shape[1])
        index.add(array)
        yield "faiss", lambda q, k: index.search(q.numpy(), k)
    except ImportError:
        pass
    try:
        from usearch.index import MetricKind, search

        yield (
            "usearch",
            lambda q, k: search(
                array, q.numpy(), k, MetricKind.InnerProduct, exact=True, threads=threads
            ),
        )
    except ImportError:
        pass


def products(items: torch.Tensor, buffer: torch.Tensor) -> Iterator[tuple[str, Method]]:
    """Yield the bare product into a ready buffer, and with torch's own selection."""

    def scores(q: torch.Tensor) -> torch.Tensor:
        out = buffer[: len(q) * len(items)].view(len(q), len(items))
        return torch.mm(q, items.T, out=out)

    yield BARE, lambda q, k: scores(q)
    yield "mm + topk", lambda q, k: scores(q).topk(k)


def timed(function: Callable[[], object]) -> float:
    """Return the milliseconds of one call."""
    start = CLOCK[0]()
    function()
    return (CLOCK[0]() - start) * 1e3


def least(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Return each call's least time over interleaved rounds that fill about `seconds`."""
    best = {name: timed(call) for name, call in calls.items()}
    end, rounds = CLOCK[0]() + seconds, 0
    while rounds < 2 or (CLOCK[0]() < end and rounds < 200):
        for name, call in calls.items():
            if rounds == 0 or best[name] < seconds * 1e3 / 4:
                short = best[name] < WARM_MS
                if short:
                    time.sleep(IDLE_S)
                repeats = 1 + int(short and BURST_MS / best[name])
                best[name] = min([best[name], *(timed(call) for _ in range(repeats))])
        rounds += 1
    return best


def read_time(items: torch.Tensor) -> float:
    """Return the milliseconds of reading the catalogue once, by torch's fastest reduction."""
    flat = items.view(-1)
    return min(least({"amax": flat.amax, "sum": flat.sum}, 0.5).values())


def verify(items: torch.Tensor, queries: torch.Tensor, k: int, methods: dict[str, Method]) -> None:
    """Stop unless both of palate's answers equal a float64 sort, for two queries."""
    exact = CosineRanker().fit(items)
    unit = exact.catalogue_.segments[0].vectors.double()
    queries = queries[:2]
    for name in ("palate float32", "palate int8"):
        found = methods[name](queries, k)
        for row, query in enumerate(queries):
            wide = query.double()
            scores = (unit @ (wide / wide.norm()).float().double()).float()
            order = torch.sort(scores, descending=True, stable=True).indices[:k]
            if not torch.equal(found.indices[row], order):
                raise SystemExit(f"{name} is not exact for k={k}, query {row}.")


def measure(arguments: argparse.Namespace) -> None:
    """Print the table, one row a cell."""
    sizes = QUICK if arguments.quick else SIZES
    buffer = torch.empty(max(sizes["n_items"]) * max(sizes["batch"]))
    header = None
    for n_items in sizes["n_items"]:
        for dim in sizes["dim"]:
            generator = torch.Generator().manual_seed(0)
            items = torch.randn(n_items, dim, generator=generator)
            items /= items.norm(dim=1, keepdim=True)
            methods = dict(products(items, buffer)) | dict(peers(items, arguments.threads))
            slow: dict[str, float] = {}
            for batch in sizes["batch"]:
                queries = torch.randn(batch, dim, generator=generator)
                queries /= queries.norm(dim=1, keepdim=True)
                for k in K:
                    if batch == 1:
                        verify(items, queries, k, methods)
                    row = cell(methods, queries, k, slow, arguments)
                    if header is None:
                        header = list(methods)
                        print("| N | d | batch | k | " + " | ".join(header) + " | read |")
                        print("|---" * (5 + len(header)) + "|")
                    read = f"{read_time(items):.2f}" if batch == 1 else ""
                    texts = " | ".join(shown(row, name) for name in header)
                    print(f"| {n_items:,} | {dim} | {batch} | {k} | {texts} | {read} |", flush=True)
            gbs = items.nbytes / 1e6 / read_time(items)
            print(f"<!-- N={n_items} d={dim}: memory read at {gbs:.1f} GB/s -->", flush=True)


def cell(
    methods: dict[str, Method],
    queries: torch.Tensor,
    k: int,
    slow: dict[str, float],
    arguments: argparse.Namespace,
) -> dict[str, float]:
    """Time one cell; `slow` holds milliseconds a query seen so far."""
    batch = len(queries)
    calls = {
        name: (lambda method=method: method(queries, k))
        for name, method in methods.items()
        if name in ALWAYS or slow.get(name, 0.0) * batch < arguments.patience * 1e3
    }
    best = least(calls, arguments.seconds)
    slow.update({name: value / batch for name, value in best.items() if batch > 1})
    return best


def shown(row: dict[str, float], name: str) -> str:
    """Write milliseconds and the ratio to the bare product."""
    if name not in row:
        return "-"
    ratio = "" if name == BARE else f" ({row[name] / row[BARE]:.2f})"
    digits = 2 if row[name] < 100 else 0
    return f"{row[name]:.{digits}f}{ratio}"


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small part of the table")
    parser.add_argument("--threads", type=int, default=2)
    for size in SIZES:
        flag = f"--{size.replace('_', '-')}"
        parser.add_argument(flag, type=int, nargs="*", help="instead of the table's")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="one thread, processor time: for a busy machine (set OPENBLAS_NUM_THREADS=1)",
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="about this long a cell")
    parser.add_argument("--patience", type=float, default=4.0, help="skip what takes longer")
    arguments = parser.parse_args()
    if arguments.cpu_time:
        CLOCK[0] = time.process_time
        arguments.threads = 1
    if arguments.n_items:
        SIZES.update(n_items=tuple(arguments.n_items))
    if arguments.dim:
        SIZES.update(dim=tuple(arguments.dim))
    if arguments.batch:
        SIZES.update(batch=tuple(arguments.batch))
    torch.set_num_threads(arguments.threads)
    print(f"Machine: {machine()}")
    print(f"Command: python {' '.join(sys.argv)}")
    what = "Milliseconds of processor time" if arguments.cpu_time else "Milliseconds"
    print(f"{what} (ratio to {BARE}); numpy {np.__version__}\n")
    measure(arguments)


if __name__ == "__main__":
    main()

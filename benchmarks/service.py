"""Time the serving example over real HTTP: latency and throughput beside a large catalogue.

``python benchmarks/service.py`` makes a model of ids (weights as they were drawn: the time does not
depend on them), serves it by uvicorn in a process of its own, and asks it from threads of this
one. Every client sends its next request when it has the answer to the last. The service and the
clients share the machine, as printed. Needs ``palate[serve]``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from palate import CosineRanker, Recommender, RunOptions

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

Request = tuple[str, dict[str, Any]]


def make_model(n_items: int, n_users: int, storage: str) -> Recommender:
    """Return a model of so many items, each in one of the histories."""
    rng = np.random.default_rng(0)
    users = np.concatenate([np.arange(n_users), rng.integers(0, n_users, n_items - n_users)])
    table = pd.DataFrame(
        {"user_id": users, "item_id": rng.permutation(n_items), "timestamp": np.arange(n_items)}
    )
    return Recommender(
        item_encoder="id",
        ranker=CosineRanker(storage=storage),
        epochs=0,
        validation_fraction=0,
        random_state=0,
        options=RunOptions(device="cpu", progress=False),
    ).fit(table)


@contextmanager
def served(state: Path, **settings: Any) -> Iterator[int]:
    """Run the service by its documented command; yields its port once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PALATE_STATE": str(state), "PALATE_SAVE_SECONDS": "0"}
    environment |= {f"PALATE_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--factory"]
    command += ["service.app:create_app", "--port", str(port), "--log-level", "warning"]
    command += ["--no-access-log"]
    process = subprocess.Popen(command, env=environment)
    try:
        while not is_ready(port):
            if process.poll() is not None:
                raise RuntimeError("the service ended at its start.")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def is_ready(port: int) -> bool:
    """Tell whether the service can recommend."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def load(
    port: int, n_clients: int, seconds: float, request: Callable[[np.random.Generator], Request]
) -> np.ndarray:
    """Return the milliseconds of every answer that `n_clients` clients got in so many seconds."""
    times: list[list[float]] = [[] for _ in range(n_clients)]
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        rng = np.random.default_rng([number, int(time.time() * 1e3)])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < end:
            path, body = request(rng)
            text = json.dumps(body)
            start = time.perf_counter()
            connection.request("POST", path, text, {"content-type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            times[number].append((time.perf_counter() - start) * 1e3)
            if answer.status != 200:
                raise RuntimeError(f"{path} answered {answer.status}: {content[:200]!r}")
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.concatenate(times)


def recommend_one(n_users: int) -> Callable[[np.random.Generator], Request]:
    """Ask for ten items for one known user."""
    return lambda rng: ("/recommend", {"users": [int(rng.integers(n_users))], "k": 10})


def observe_one(n_users: int, n_items: int) -> Callable[[np.random.Generator], Request]:
    """Tell one event of a known user."""

    def request(rng: np.random.Generator) -> Request:
        user, item = int(rng.integers(n_users)), int(rng.integers(n_items))
        event = {"user_id": user, "item_id": item, "timestamp": n_items + int(rng.integers(9**9))}
        return "/observe", {"events": [event]}

    return request


def show(name: str, n_clients: int, seconds: float, times: np.ndarray) -> None:
    """Print a row of the table."""
    p50, p99 = np.percentile(times, [50, 99])
    rate = len(times) / seconds
    print(f"{name:<34}{n_clients:>8}{p50:>10.1f}{p99:>10.1f}{times.max():>10.1f}{rate:>10.0f}")


def machine() -> str:
    """Name the processor and the versions."""
    import fastapi
    import uvicorn

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [row for row in info.read_text().splitlines() if row.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    versions = f"torch {torch.__version__}, fastapi {fastapi.__version__}"
    versions += f", uvicorn {uvicorn.__version__}, Python {platform.python_version()}"
    return (
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"{torch.get_num_threads()} threads of torch; {versions}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--storage", choices=["int8", "float32"], default="int8")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row")
    options = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    from service.model_store import ModelStore

    asked = recommend_one(options.users)
    told = observe_one(options.users, options.items)
    print(machine())
    print(f"{options.items:,} items, {options.users:,} users, {options.storage}, 64 wide\n")
    print(f"{'':<34}{'clients':>8}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}{'a second':>10}")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(options.items, options.users, options.storage)
        times = in_python(model, options.users)
        show("recommend in Python, no HTTP", 1, times.sum() / 1e3, times)
        ModelStore(Path(folder) / "models").publish(model.save, 0)
        del model
        threads = {"threads": torch.get_num_threads()}
        with served(Path(folder), **threads) as port:
            load(port, 1, 1, asked)  # warm
            for n_clients in options.clients:
                times = load(port, n_clients, options.seconds, asked)
                show("/recommend", n_clients, options.seconds, times)
            for n_clients in options.clients:
                times = load(port, n_clients, options.seconds, told)
                show("/observe", n_clients, options.seconds, times)
            mixed(port, max(options.clients), options.seconds, asked, told)
        with served(Path(folder), max_batch=1, **threads) as port:
            load(port, 1, 1, asked)
            most = max(options.clients)
            times = load(port, most, options.seconds, asked)
            show("/recommend, PALATE_MAX_BATCH=1", most, options.seconds, times)
            times = load(port, most, options.seconds, told)
            show("/observe, PALATE_MAX_BATCH=1", most, options.seconds, times)


def mixed(port: int, n_clients: int, seconds: float, asked: Any, told: Any) -> None:
    """Ask and tell at once, half of the clients each."""
    found: list[np.ndarray] = []
    half = max(1, n_clients // 2)
    writers = threading.Thread(target=lambda: found.append(load(port, half, seconds, told)))
    writers.start()
    times = load(port, half, seconds, asked)
    writers.join()
    show("/recommend beside /observe", half, seconds, times)
    show("/observe beside /recommend", half, seconds, found[0])


def in_python(model: Recommender, n_users: int, n_calls: int = 200) -> np.ndarray:
    """Return the milliseconds of calls of the model itself."""
    times = []
    for user in np.random.default_rng(1).integers(0, n_users, n_calls):
        start = time.perf_counter()
        model.recommend([user], k=10)
        times.append((time.perf_counter() - start) * 1e3)
    return np.array(times)


if __name__ == "__main__":
    main()

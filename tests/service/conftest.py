"""The service as its own process, started quickly, and a tiny model for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import BertEncoder, Fusion, IdEncoder, Recommender, RunOptions

EXAMPLES = Path(__file__).parents[2] / "examples"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))

# What the service would import when it first needs it.
LAZY = ("safetensors.torch", "pandas", "pyarrow.parquet", "torch", "uvicorn.protocols.http.auto")
QUIET = RunOptions(device="cpu", progress=False)
ITEMS = [f"i{i}" for i in range(13)]


def serve(state: Path, listener: socket.socket, settings: dict[str, Any]) -> None:
    """Run uvicorn in this process until it is told to stop."""
    import torch
    import uvicorn
    from service.app import create_app
    from service.settings import Settings

    torch.set_num_threads(1)
    app = create_app(Settings(state=state, **settings))
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


class Server:
    """A running uvicorn process."""

    def __init__(self, context: Any, state: Path, settings: dict[str, Any]) -> None:
        import httpx

        self.state, self._context = state, context
        # Bound here and handed over: nobody else can take the port in between.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            arguments = (state, listener, settings)
            self.process = context.Process(target=serve, args=arguments, daemon=True)
            self.process.start()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def wait(self, ready: bool = True) -> Server:
        """Wait until it answers, and until it can recommend."""
        import httpx

        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self.process.is_alive(), "the service died at its start"
            with suppress(httpx.TransportError):
                answer = self.http.get("/healthz")
                if answer.json()["ready"] or not (ready or "loaded" in answer.json()["detail"]):
                    return self
            time.sleep(0.02)
        pytest.fail("the service did not become ready")

    def post(self, path: str, body: Any = None) -> Any:
        return self.http.post(path, json=body)

    def observe(self, *events: tuple[Any, ...]) -> Any:
        names = ("user_id", "item_id", "timestamp")
        return self.post("/observe", {"events": [dict(zip(names, e, strict=True)) for e in events]})

    def lists(self, **query: Any) -> list[list[tuple[str, float]]]:
        """Return (item, score) pairs of each query."""
        answer = self.post("/recommend", query)
        assert answer.status_code == 200, answer.text
        found = answer.json()["recommendations"]
        return [[(row["item_id"], row["score"]) for row in each["items"]] for each in found]

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.process.is_alive():
            self.signal(signal.SIGKILL)
        self.process.join()
        self.http.close()


@pytest.fixture(scope="session")
def fork_context() -> Any:
    """Processes forked from one that has imported everything: they start in a moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["uvicorn", "service.app", "palate.recommender", *LAZY])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES), *sys.path]))
        forkserver.ensure_running()
    return context


def starting(context: Any) -> Iterator[Callable[..., Server]]:
    """Start services, each on a state folder; end those that still run at the end."""
    servers: list[Server] = []

    def run(state: Path, *, ready: bool = True, **settings: Any) -> Server:
        servers.append(Server(context, state, {"save_seconds": 0, "threads": 1, **settings}))
        return servers[-1].wait(ready)

    yield run
    for server in servers:
        server.kill()


@pytest.fixture
def start(fork_context: Any) -> Iterator[Callable[..., Server]]:
    """Start services for one test."""
    yield from starting(fork_context)


@pytest.fixture(scope="module")
def start_for_module(fork_context: Any) -> Iterator[Callable[..., Server]]:
    """Start services for the tests of one file."""
    yield from starting(fork_context)


@pytest.fixture(scope="session")
def shop_events() -> pd.DataFrame:
    """9 users, all 13 items, 70 events."""
    rng = np.random.default_rng(5)
    items = np.concatenate([np.arange(13), rng.integers(0, 13, 57)])
    users = [f"u{i}" for i in rng.integers(0, 9, 70)]
    return pd.DataFrame(
        {"user_id": users, "item_id": [ITEMS[i] for i in items], "timestamp": np.arange(70)}
    )


@pytest.fixture(scope="session")
def id_model(shop_events: pd.DataFrame) -> Recommender:
    """A model of ids; not to be changed."""
    return Recommender(
        item_encoder="id", dim=8, epochs=2, validation_fraction=0, random_state=0, options=QUIET
    ).fit(shop_events)


@pytest.fixture(scope="session")
def text_model(shop_events: pd.DataFrame, items: pd.DataFrame, tiny_bert: str) -> Recommender:
    """A model that reads titles; not to be changed."""
    encoder = Fusion([BertEncoder(tiny_bert), IdEncoder()])
    return Recommender(
        item_encoder=encoder, dim=8, epochs=1, validation_fraction=0, random_state=0, options=QUIET
    ).fit(shop_events, items=items)


@pytest.fixture(scope="session")
def publish() -> Callable[..., Any]:
    """Put a model into a state folder as the version to serve."""
    from service.model_store import ModelStore

    def put(model: Recommender, state: Path, watermark: int = 0) -> Any:
        return ModelStore(state / "models").publish(model.save, watermark)

    return put


@pytest.fixture
def state(tmp_path: Path, id_model: Recommender, publish: Callable[..., Any]) -> Path:
    """A state folder with the model of ids."""
    publish(id_model, tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def text_state(tmp_path: Path, text_model: Recommender, publish: Callable[..., Any]) -> Path:
    """A state folder with the model that reads titles."""
    publish(text_model, tmp_path / "text_state")
    return tmp_path / "text_state"


def close_to(found: list[tuple[str, float]], table: Any) -> bool:
    """Tell whether a list equals the rows of a model's answer, up to the last bits of scores."""
    if [item for item, _ in found] != table["item_id"].tolist():
        return False
    return bool(np.allclose([score for _, score in found], table["score"], atol=1e-5))

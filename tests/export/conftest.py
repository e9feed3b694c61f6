"""Exports: two networks traced once, every pooling and metric put around them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from palate import CosineRanker, GRUEncoder, Recommender, TransformerEncoder
from palate.export import writer

MAX_LENGTH = 6
ENCODERS = {
    "transformer": TransformerEncoder(n_layers=2, n_heads=2, max_length=MAX_LENGTH),
    "gru": GRUEncoder(n_layers=2, hidden_size=5, max_length=MAX_LENGTH),
}


@pytest.fixture(scope="session", autouse=True)
def runtime() -> None:
    """Skip where an export cannot be written and run."""
    for module in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(module, reason="needs palate[export]")


@pytest.fixture(scope="session")
def fitted(
    make_recommender: Callable[..., Recommender], events: pd.DataFrame, items: pd.DataFrame
) -> Callable[[str, str], Recommender]:
    """Fit a recommender of one user encoder and one item encoder, once each."""
    known: dict[tuple[str, str], Recommender] = {}

    def fit(user_encoder: str, item_encoder: str) -> Recommender:
        key = (user_encoder, item_encoder)
        if key not in known:
            rec = make_recommender(
                user_encoder=ENCODERS[user_encoder], item_encoder=item_encoder, epochs=2
            )
            known[key] = rec.fit(events, items=None if item_encoder == "id" else items)
        return known[key]

    return fit


@pytest.fixture(scope="session")
def traced() -> dict[str, Any]:
    """What torch traced so far; tracing takes seconds."""
    return {}


@pytest.fixture(scope="session")
def cached_trace(traced: dict[str, Any]) -> Callable[..., Any]:
    """Trace networks of equal weights once in a session."""
    trace = writer.trace

    def cached(network: nn.Module, dim: int, max_length: int) -> Any:
        key = "".join(f"{n}{t.double().sum()}" for n, t in network.state_dict().items())
        if key not in traced:
            traced[key] = trace(network, dim, max_length)
        return traced[key]

    return cached


@pytest.fixture
def trace_once(monkeypatch: pytest.MonkeyPatch, cached_trace: Callable[..., Any]) -> None:
    """Let the writer trace by `cached_trace`."""
    monkeypatch.setattr(writer, "trace", cached_trace)


@pytest.fixture
def variant(fitted: Callable[..., Recommender], trace_once: None) -> Callable[..., Recommender]:
    """Return a recommender with another pooling and metric around the same networks."""

    def make(
        user_encoder: str = "transformer",
        item_encoder: str = "id",
        *,
        pooling: str = "last",
        metric: str = "cosine",
        ranker: Any = None,
    ) -> Recommender:
        rec = copy.deepcopy(fitted(user_encoder, item_encoder))
        serving = rec._serving
        if metric != "cosine":  # averages have a place in cosines alone
            serving.network.mean_weight = 0.0
        users = serving.network.users
        users.pooling = pooling
        if pooling == "attention":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                users.attention = nn.Linear(serving.vectors.shape[1], 1, bias=False)
        ranker = (ranker or CosineRanker()).set_params(metric=metric).fit(serving.vectors)
        rec._serving = replace(serving, ranker=ranker)
        return rec

    return make


@pytest.fixture
def exported(variant: Callable[..., Recommender], tmp_path: Path) -> Path:
    """An export of a model of ids alone."""
    return writer.to_onnx(variant(), tmp_path / "export")

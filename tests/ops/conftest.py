"""Back ends to test, and an independent float64 oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from palate.ops import _topk_live, _topk_native, _topk_prepare
from palate.ops._topk_library import load


@pytest.fixture(params=["torch", "native", "tiles"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test in plain torch, with the compiled kernel, and with its tiles for every batch."""
    if request.param == "native":
        if load() is None:
            pytest.skip("the top-k kernel is not compiled for this machine")
        monkeypatch.setattr(_topk_native, "has_tiles", lambda: False)
    elif request.param == "tiles":
        if not _topk_native.has_tiles():
            pytest.skip("this processor multiplies no tiles of bfloat16")
        monkeypatch.setattr(_topk_native, "TILE_QUERIES", 1)
        monkeypatch.setattr(_topk_native, "ROWS_QUERIES", 0)
        monkeypatch.setattr(_topk_native, "CODES8_QUERIES", 0)
    else:
        monkeypatch.setattr(_topk_live, "load", lambda: None)
        monkeypatch.setattr(_topk_native, "load", lambda: None)
        monkeypatch.setattr(_topk_prepare, "load", lambda: None)
    return request.param


def _unit(x: np.ndarray) -> np.ndarray:
    norm = np.sqrt((x * x).sum(1, keepdims=True))
    return (x / np.where(norm == 0, 1, norm)).astype(np.float32).astype(np.float64)


def oracle_topk(
    queries: Any,
    items: Any,
    k: int,
    metric: str = "cosine",
    exclude: Any = None,
    include: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sort every allowed item of every query by (-score, item), scores in float64."""
    q, x = np.asarray(queries, np.float64), np.asarray(items, np.float64)
    if metric == "cosine":
        q, x = _unit(q), _unit(x)
    if metric == "euclidean":
        full = -np.sqrt(((q[:, None] - x[None]) ** 2).sum(-1))
    else:
        full = (q[:, None] * x[None]).sum(-1)
    limit = float(np.finfo(np.float32).max)
    full = np.clip(full, -limit, limit).astype(np.float32) + np.float32(0)
    scores = np.full((len(q), k), -np.inf, np.float32)
    codes = np.full((len(q), k), -1, np.int64)
    for row in range(len(q)):
        allowed = np.ones(len(x), bool)
        if include is not None:
            allowed[:] = False
            allowed[np.asarray(include, np.int64)] = True
        if exclude is not None:
            rows, codes_of = (np.asarray(side, np.int64) for side in exclude)
            allowed[codes_of[rows == row]] = False
        ids = np.flatnonzero(allowed)
        best = ids[np.lexsort((ids, -full[row, ids]))][:k]
        scores[row, : len(best)], codes[row, : len(best)] = full[row, best], best
    return scores, codes


@pytest.fixture
def check() -> Callable[..., None]:
    """Return a function that compares a result with the oracle, bit for bit."""

    def compare(found: Any, queries: Any, items: Any, k: int, **options: Any) -> None:
        scores, codes = oracle_topk(queries, items, k, **options)
        np.testing.assert_array_equal(found.indices.numpy(), codes)
        np.testing.assert_array_equal(found.scores.numpy(), scores)
        assert not np.signbit(found.scores.numpy()[found.scores.numpy() == 0]).any()
        assert found.scores.dtype == torch.float32
        assert found.indices.dtype == torch.int64

    return compare

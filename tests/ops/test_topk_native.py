"""What only the compiled kernel has: bounds of the int8 screen, preparation, workers."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.ops import _topk_native, _topk_prepare, _topk_threads
from palate.ops._topk_library import load
from palate.ops._topk_native import query_codes
from palate.ops._topk_prepare import NORM_BLOCK, prepared_rows, quantized
from palate.ops.topk import topk

pytestmark = pytest.mark.skipif(
    load() is None, reason="the top-k kernel is not compiled for this machine"
)


@settings(deadline=None, max_examples=60)
@given(
    dim=st.integers(1, 70),
    scale=st.sampled_from([1e-40, 1e-20, 1e-3, 1.0, 1e15]),
    seed=st.integers(0, 10**6),
)
def test_the_int8_bound_holds_for_every_pair(dim, scale, seed):
    """The inequality of docs/topk.md, evaluated in float64 without the kernel's own slack."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(40, dim, generator=generator) ** 3 * scale
    q = torch.randn(5, dim, generator=generator) ** 3
    codes, scales, rho = quantized(x)
    p, b, errors = query_codes(q)
    assert int(codes.abs().max()) <= 127
    product = p.long()[:, : codes.shape[1]] @ codes.long().T
    assert int(product.abs().max()) < 2**31
    a, wide = scales.double(), q.double()
    screened = b.double()[:, None] * a * product.double()
    gap = (wide @ x.double().T - screened).abs()
    length = wide.norm(dim=1)[:, None]
    reach = x.double().norm(dim=1) + a * rho[0]
    bound = a * length * rho[0] + errors[:, None] * reach
    rounding = 1e-15 * length * x.double().norm(dim=1)  # of the float64 products above
    assert bool((gap <= bound * (1 + 1e-9) + rounding + 1e-300).all())


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("dim", [1, 3, 8, 21, 64, 129])
def test_prepared_rows_have_the_bits_of_plain_torch(monkeypatch, unit, dim):
    generator = torch.Generator().manual_seed(dim)
    x = torch.randn(50, dim, generator=generator) * torch.logspace(-44, 18, 50)[:, None]
    x[7] = 0
    rows, norms = prepared_rows("x", x, unit=unit)
    monkeypatch.setattr(_topk_prepare, "load", lambda: None)
    plain_rows, plain_norms = prepared_rows("x", x, unit=unit)
    np.testing.assert_array_equal(rows.numpy().view(np.int32), plain_rows.numpy().view(np.int32))
    np.testing.assert_array_equal(norms.numpy(), plain_norms.numpy())


def test_large_catalogues_are_prepared_in_threads_and_name_the_first_bad_row():
    x = torch.ones(40_000, 32)
    assert torch.equal(prepared_rows("x", x, unit=True)[0][[0, -1]], x[:2] / 32**0.5)
    x[39_999, 1] = x[25_001, 3] = float("nan")
    with pytest.raises(ValueError, match=r"^x must be finite numbers; got nan in row 25001\.$"):
        prepared_rows("x", x, unit=True)


def test_residuals_are_measured_in_blocks():
    x = torch.full((NORM_BLOCK + 3, 4), 127.0)
    x[NORM_BLOCK + 1, 0] = 63.5  # half a code off, in the second block only
    rho = quantized(x).rho
    assert rho[0] == 0
    assert float(rho[1]) == pytest.approx(0.5)


def test_a_worker_that_no_core_is_free_for_is_called_off():
    started = []

    def work(worker: int) -> int:
        started.append(worker)
        return worker

    found = _topk_threads.run_sharing(work, 4)
    assert found[0] == 0
    assert found == sorted(found)
    assert set(found) <= set(started) <= {0, 1, 2, 3}
    assert _topk_threads.run(work, 3) == [0, 1, 2]


def test_an_error_in_another_thread_is_raised_and_the_thread_lives_on():
    def work(worker: int) -> int:
        if worker:
            raise MemoryError(f"no room in {worker}")
        return worker

    for _ in range(3):
        with pytest.raises(MemoryError, match=r"^no room in 1$"):
            _topk_threads.run(work, 2)
    assert _topk_threads.run(lambda worker: worker, 2) == [0, 1]


def test_many_callers_share_the_threads():
    def call(start: int) -> list[int]:
        return [x for _ in range(50) for x in _topk_threads.run(lambda w: start + w, 3)]

    with ThreadPoolExecutor(6) as callers:
        found = list(callers.map(call, range(0, 6000, 1000)))
    for start, values in zip(range(0, 6000, 1000), found, strict=True):
        assert values == [start, start + 1, start + 2] * 50


@pytest.mark.parametrize("n_queries", [1, 3])
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_ties_go_to_the_first_item_whichever_worker_takes_whose_share(
    monkeypatch, order, metric, n_queries
):
    """The first in `order` takes the shares of all; going back, it meets ties with lower codes."""

    def one_after_another(work, n_workers):
        return [work(worker) for worker in order]

    monkeypatch.setattr(_topk_threads, "run_sharing", one_after_another)
    monkeypatch.setattr(_topk_native, "SMALL_WORK", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    items = torch.ones(700, 5)
    items[::7] = torch.tensor([1.0, 2.0, 0.0, 1.0, 1.0])  # ties among the better ones too
    queries = torch.ones(n_queries, 5) * torch.arange(1, n_queries + 1)[:, None]
    found = topk(queries, items, 120, metric=metric, item_block=16)
    gap = torch.cdist(queries.double(), items.double())
    scores = queries.double() @ items.double().T if metric == "dot" else -gap
    expected = torch.sort(scores.float(), descending=True, stable=True).indices[:, :120]
    torch.testing.assert_close(found.indices, expected, rtol=0, atol=0)


def test_threads_end_when_asked_and_work_is_done_without_them():
    before = set(threading.enumerate())
    calls = _topk_threads._queue.__wrapped__(3, 0)
    threads = [t for t in threading.enumerate() if t not in before]
    assert len(threads) == 3
    _topk_threads._stop(calls, threads)
    assert not any(thread.is_alive() for thread in threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_topk_threads, "_queue", lambda *_: calls)
        assert _topk_threads.run(lambda worker: worker * 10, 4) == [0, 10, 20, 30]
        assert _topk_threads.run_sharing(lambda worker: worker * 10, 4) == [0]


@pytest.fixture
def not_a_number_in_fresh_memory():
    """Let the C library fill what it hands out with NaN, where it can."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    perturb = -6
    if mallopt is None or not mallopt(perturb, 0x100):
        pytest.skip("needs the C library glibc")
    yield
    mallopt(perturb, 0)


@pytest.mark.parametrize("n_queries", [3, 20])
@pytest.mark.parametrize("n_items", [1, 3, 8, 9, 15, 17, 31, 33])
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_what_memory_held_before_hides_no_item(
    not_a_number_in_fresh_memory, n_queries, n_items, metric
):
    generator = torch.Generator().manual_seed(n_items)
    queries = torch.randn(n_queries, 5, generator=generator)
    items = torch.randn(n_items, 5, generator=generator)
    products = queries.double() @ items.double().T
    if metric == "euclidean":
        products = -torch.cdist(queries.double(), items.double())
    k = min(2, n_items)
    found = topk(queries, items, k, metric=metric)
    assert found.indices.tolist() == products.topk(k).indices.tolist()

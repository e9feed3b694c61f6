"""What only the compiled kernel has: bounds of the int8 screen, preparation, workers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.ops import _topk_prepare, _topk_threads
from palate.ops._topk_library import load
from palate.ops._topk_native import query_codes
from palate.ops._topk_prepare import NORM_BLOCK, prepared_rows, quantized

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

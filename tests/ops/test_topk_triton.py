"""The Triton kernels: equal to the oracle in the interpreter, and compiled ahead for GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

from palate.ops import _topk_live, _topk_native, _topk_triton
from palate.ops.similarity import METRICS
from palate.ops.topk import topk
from palate.ranking.exact import CosineRanker

pytest.importorskip("triton", reason="triton is not installed")


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.skipif(INTERPRETED, reason="this is the inner run")
def test_in_the_interpreter():
    """Run this file's other tests in a process that had the variable before triton's import."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", __file__],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert result.returncode == 0, result.stdout
    assert int(re.findall(r"(\d+) passed", result.stdout)[0]) == 9


@pytest.fixture
def interpreted(monkeypatch):
    """Send searches on the CPU through the kernels, run by Triton's interpreter."""
    if not INTERPRETED:
        pytest.skip("runs inside test_in_the_interpreter")
    monkeypatch.setattr(_topk_triton, "_on_gpu", lambda block, segment: True)
    monkeypatch.setattr(_topk_live, "load", lambda: None)
    monkeypatch.setattr(_topk_native, "load", lambda: None)
    calls: list[int] = []
    original = _topk_triton.peak_scores

    def counted(*arguments):
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(_topk_triton, "peak_scores", counted)
    return calls


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n_queries", "n_items", "dim", "k"), [(3, 700, 37, 2), (35, 300, 5, 2)])
def test_kernels_equal_the_oracle(interpreted, check, metric, n_queries, n_items, dim, k):
    q, x = draw(0, n_queries, dim), draw(1, n_items, dim).round(decimals=1)
    pairs = torch.randint(0, n_items, (2, 40), generator=torch.Generator().manual_seed(2))
    exclude = (pairs[0] % n_queries, pairs[1])
    for options in ({}, {"exclude": exclude, "include": torch.arange(0, n_items, 2)}):
        found = topk(q, x, k, metric=metric, item_block=350, **options)
        check(found, q, x, k, metric=metric, **options)
    assert interpreted


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_half_precision_catalogues_equal_plain_torch(interpreted, monkeypatch, storage):
    q, x = draw(3, 5, 20), draw(4, 900, 20)
    ranker = CosineRanker(storage=storage).fit(x[:500]).extend(x[500:])
    found = ranker.topk(q, 4)
    count = len(interpreted)
    assert count
    monkeypatch.setattr(_topk_triton, "_on_gpu", lambda block, segment: False)
    plain = ranker.topk(q, 4)
    assert len(interpreted) == count
    assert torch.equal(found.indices, plain.indices)
    assert torch.equal(found.scores, plain.scores)


def test_equal_items_come_in_their_order(interpreted):
    found = topk(torch.ones(2, 3), torch.ones(600, 3), 5)
    assert found.indices.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert interpreted


COMPILE = """
import warnings
warnings.simplefilter("ignore")
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from palate.ops import _topk_triton_kernels as kernels

flags = {"HAS_BIAS": True, "HAS_ALLOWED": True, "BLOCK_I": kernels.BLOCK_ITEMS, "BLOCK_D": 32}
peaks = {"peaks": "*fp32", "n_queries": "i32", "n_items": "i32", "dim": "i32", "n_blocks": "i32"}
pairs = {"rows": "*i64", "blocks": "*i64", "scores": "*fp32", "n_items": "i32", "dim": "i32"}
jobs = [(kernels.block_peaks, peaks, {**flags, "BLOCK_Q": 32}), (kernels.pair_scores, pairs, flags)]
for capability, vectors in ((80, "fp32"), (90, "fp32"), (90, "bf16")):
    common = {"queries": "*fp32", "items": f"*{vectors}", "bias": "*fp32", "allowed": "*u8"}
    for kernel, own, constants in jobs:
        names = {**common, **own, **dict.fromkeys(constants, "constexpr")}
        signature = {name: names[name] for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert compiled.asm["cubin"] and compiled.metadata.shared <= 48 * 1024
        print(capability, vectors, kernel.__name__)
"""


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
def test_kernels_compile_ahead_for_sm_80_and_sm_90():
    result = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("metric", METRICS)
def test_a_gpu_gives_the_same_bits(metric):
    q, x = draw(5, 70, 48), draw(6, 20_000, 48)
    x[10_000:] = x[:10_000]
    here, there = topk(q, x, 13, metric=metric), topk(q.cuda(), x.cuda(), 13, metric=metric)
    assert torch.equal(here.indices, there.indices.cpu())
    assert torch.equal(here.scores, there.scores.cpu())

"""The search stays within its memory budget: measured as the peak of a fresh process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from palate.ops._topk_library import load

PROGRAM = """
import resource, sys
import torch
from palate.ops import _topk_native, _topk_prepare
from palate.ops.topk import topk
from palate.ranking.exact import CosineRanker

backend, kind, metric, budget = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
if backend == "torch":
    _topk_native.load = _topk_prepare.load = lambda: None
generator = torch.Generator().manual_seed(0)
n_queries, n_items, dim, k = (int(value) for value in sys.argv[5:9])
items = torch.randn(n_items, dim, generator=generator)
queries = torch.randn(n_queries, dim, generator=generator)
options = {"include": torch.arange(0, n_items, 5)} if kind == "include" else {}
if kind == "ranker":
    items = CosineRanker(metric=metric).fit(items).catalogue_
topk(queries[:2], items[:100] if kind != "ranker" else items, 2, metric=metric)  # start threads

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def current():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

filler = torch.ones(max(peak() - current(), 0) // 4 + 1)  # so that a new peak shows at once
before = peak()
out = topk(queries, items, k, metric=metric, memory_budget=budget, **options)
print(peak() - before - out.scores.nbytes - out.indices.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and kilobytes of ru_maxrss")
@pytest.mark.parametrize("backend", ["torch", "native"])
@pytest.mark.parametrize(
    ("kind", "metric", "k"),
    [("ranker", "cosine", 10), ("plain", "cosine", 100), ("include", "euclidean", 10)],
)
def test_peak_memory(backend, kind, metric, k):
    if backend == "native" and load() is None:
        pytest.skip("the top-k kernel is not compiled for this machine")
    budget = 24 * 2**20
    sizes = ["1024", "60000", "64", str(k)]
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), backend, kind, metric, str(budget)]
    result = subprocess.run([*command, *sizes], capture_output=True, text=True, check=True)
    # A whole score matrix would be 245 MB.
    assert int(result.stdout) < budget

"""Recommending for everybody takes bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import palate

pytest.importorskip("resource", reason="peak memory is read through the resource module")

SCRIPT = """
import resource, sys
import numpy as np, pandas as pd, torch
torch.set_num_threads(1)
from palate import Recommender, RunOptions, TransformerEncoder

n_users, n_items, k = 200_000, 1_000, 5
rng = np.random.default_rng(0)
frame = pd.DataFrame({
    "user_id": np.repeat(np.arange(n_users), 2),
    "item_id": np.concatenate(
        [np.arange(n_items), rng.integers(0, n_items, 2 * n_users - n_items)]
    ),
})
model = Recommender(
    TransformerEncoder(n_layers=1), "id", dim=4, epochs=0, random_state=0,
    options=RunOptions(device="cpu", progress=False),
).fit(frame)
model.recommend([0], k=k)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
    1 if sys.platform == "darwin" else 1024
)
before = peak()
table = model.recommend(k=k)
assert len(table) == n_users * k, len(table)
print((peak() - before) / 2**20)
"""


def test_two_hundred_thousand_users_in_bounded_memory() -> None:
    source = str(Path(palate.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    grown = float(done.stdout)
    # All scores at once would be 763 MiB; the answer itself is 27 MiB.
    assert grown < 300, f"recommend took {grown:.0f} MiB more"

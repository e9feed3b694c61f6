"""A model in other processes: forked after it was used, and spawned from its pickle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import palate

START = """
import multiprocessing, os, sys, threading, time
import numpy as np, pandas as pd, torch
from palate import Recommender, RunOptions
from palate._threads import resolved_threads

rng = np.random.default_rng(0)
n_items = 60_000  # enough that torch and the top-k search both use their threads
histories = [rng.integers(0, n_items, 5).tolist() for _ in range(300)]
histories.append(list(range(n_items)))
options = RunOptions(device="cpu", progress=False)
model = Recommender(
    item_encoder="id", dim=32, epochs=0, validation_fraction=0, random_state=0, options=options,
    objective="sampled_softmax",
).fit(histories)
ask = lambda: model.recommend(list(range(300)), k=7)

def changed():
    new = pd.DataFrame({"user_id": [1, 5000], "item_id": [3, 4]})
    model.observe(new).partial_fit(new, epochs=1)
    return model.recommend([1, 5000], k=7)

def same(a, b):
    pd.testing.assert_frame_equal(a, b, rtol=0, atol=1e-5)
"""

FORK = """
torch.set_num_threads(2)
before = ask()
torch.randn(2_000_000).exp().sum()  # OpenMP's threads are there now
context = multiprocessing.get_context("fork")
ours, theirs = context.Pipe()

def child():
    assert resolved_threads(2) == 1
    found = [ask()]
    others = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: others.append(ask()))
        thread.start()
        thread.join()
    theirs.send([found[0], *others, changed()])

holding, let_go = threading.Event(), threading.Event()
def hold():
    with model._lock.held:  # a writer is at work when the process is forked
        holding.set()
        let_go.wait()
writer = threading.Thread(target=hold)
writer.start()
holding.wait()
workers = [context.Process(target=child) for _ in range(2)]
for worker in workers:
    worker.start()
let_go.set()
writer.join()
answers = []
for worker in workers:
    if not ours.poll(60):
        for worker in workers:
            worker.kill()
        sys.exit("a forked process hangs")
    answers.append(ours.recv())
for worker in workers:
    worker.join()
    assert worker.exitcode == 0
after = changed()
for *found, learned in answers:
    for one in found:
        same(one, before)
    same(learned, after)
assert resolved_threads(2) == 2
print("forked", len(answers))
"""

SPAWN = """
if __name__ == "__main__":
    folder = sys.argv[1]
    model.save(folder)
    before = ask()
    mapped = Recommender.load(folder, options=options, mmap=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        asked = [pool.apply_async(m.recommend, (list(range(300)),), {"k": 7})
                 for m in (model, mapped)]
        asked.append(pool.apply_async(ask_folder, (folder,)))
        for one in asked:
            same(one.get(timeout=100), before)
    print("spawned", len(asked))
"""

WORKER = """
from palate import Recommender, RunOptions

def ask_folder(folder):
    model = Recommender.load(folder, options=RunOptions(device="cpu", n_jobs=1), mmap=True)
    return model.recommend(list(range(300)), k=7)
"""


def run(script: Path, *arguments: str) -> str:
    source = str(Path(palate.__file__).parents[1])
    places = os.pathsep.join([source, str(script.parent)])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_answers_and_learns(tmp_path: Path, record_property: Any) -> None:
    script = tmp_path / "fork.py"
    script.write_text(START + FORK)
    assert run(script) == "forked 2"
    record_property("forked", 2)


def test_a_spawned_process_answers_from_a_pickle_and_from_the_folder(
    tmp_path: Path, record_property: Any
) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    script = tmp_path / "spawn.py"
    begin = START.replace("rng = np", "from worker import ask_folder\nrng = np")
    head, body = begin.split("rng = np", 1)
    guarded = "if __name__ == '__main__':\n" + "".join(
        f"    {line}\n" if line else "\n" for line in ("rng = np" + body).splitlines()
    )
    script.write_text(head + guarded + SPAWN)
    assert run(script, str(tmp_path / "model")) == "spawned 3"
    record_property("spawned", 3)

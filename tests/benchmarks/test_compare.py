"""benchmarks/compare.py: the split, the scores, the tables, and one small run."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palate import Recommender, RunOptions

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import compare

    return compare


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty users of five to nine events, of eleven items, in rows out of order; user 'short'."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u{user:02d}", f"i{item}", time)
        for user in range(40)
        for time, item in enumerate(rng.choice(11, rng.integers(5, 10), replace=False))
    ]
    rows += [("short", "i1", 3), ("short", "i2", 4)]
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    path = tmp_path_factory.mktemp("tiny")
    events.sample(frac=1, random_state=0).to_parquet(path / "interactions.parquet")
    texts = {"item_id": [f"i{i}" for i in range(12)], "text": [f"item {i}" for i in range(12)]}
    pd.DataFrame(texts).to_parquet(path / "items.parquet")
    return path


def events_of(folder: Path) -> pd.DataFrame:
    events = pd.read_parquet(folder / "interactions.parquet")
    for column in ("user_id", "item_id"):
        events[column] = events[column].map(
            {v: c for c, v in enumerate(sorted(set(events[column])))}
        )
    return events.sort_values(["user_id", "timestamp"])


def test_a_warm_split_leaves_the_last_event_of_each_user_out(compare, folder):
    split = compare.warm_split(folder)
    events = events_of(folder)
    long = events[events["user_id"] != 0]  # 'short' comes first in order, and has two events
    expected = long.groupby("user_id").tail(1)
    assert split.test[["user_id", "item_id"]].to_numpy().tolist() == (
        expected[["user_id", "item_id"]].to_numpy().tolist()
    )
    assert len(split.train) == len(events) - len(expected)
    assert split.n_items == 11
    assert split.items["text"].tolist() == [
        f"item {i[1:]}" for i in sorted(f"i{n}" for n in range(11))
    ]


def test_a_cold_split_trains_on_no_cold_item_and_on_nothing_after_a_test_event(compare, folder):
    split = compare.cold_split(folder, seed=3)
    assert len(split.cold) == 1
    assert not split.train["item_id"].isin(split.cold).any()
    assert split.test["item_id"].isin(split.cold).all()
    assert len(split.test) > 5
    events = events_of(folder)
    for user, _, time in split.test.to_numpy():
        mine = events[(events["user_id"] == user) & (events["timestamp"] < time)]
        kept = split.train[split.train["user_id"] == user]
        warm = mine[~mine["item_id"].isin(split.cold)]
        assert kept["item_id"].tolist() == warm["item_id"].tolist()
        assert len(kept) >= 2


def test_peers_hold_out_the_events_that_palate_holds_out(compare, folder, monkeypatch):
    split = compare.warm_split(folder)
    from palate import learning

    seen = []
    whole = learning.hold_out

    def spy(*args, **params):
        left, held = whole(*args, **params)
        seen.append((left, held))
        return left, held

    monkeypatch.setattr(learning, "hold_out", spy)
    options = RunOptions(device="cpu", progress=False)
    model = Recommender(item_encoder="id", dim=4, epochs=1, random_state=7, options=options)
    model.fit(split.train)
    users = split.held_out(7)
    last = split.train[split.train["user_id"].isin(users)].groupby("user_id").tail(1)
    assert len(users) == 20  # half of those who have three events
    assert model.item_ids_[seen[0][1].targets].tolist() == last["item_id"].tolist()
    assert split.held_out(8).tolist() != users.tolist()


def test_scores_are_those_of_hand(compare, folder):
    split = compare.warm_split(folder)
    lists = np.full((len(split.asked), 10), -1)
    lists[0, 2] = split.test["item_id"].iloc[0]
    lists[1, 0] = split.test["item_id"].iloc[1]
    other = (split.test["item_id"].iloc[2] + 1) % 11
    lists[2, 0] = other
    scores = compare.score(split, {"lists": lists})
    assert scores["hr"] == pytest.approx(2 / 40)
    assert scores["ndcg"] == pytest.approx((1 / math.log2(4) + 1) / 40)
    named = {lists[0, 2], lists[1, 0], other}
    assert scores["coverage"] == pytest.approx(len(named) / 11)


def test_chance_stands_for_models_that_cannot_tell_cold_items_apart(compare, folder):
    split = compare.cold_split(folder, seed=3)
    nothing = {"lists": np.full((len(split.asked), 10), -1)}
    one = compare.score(split, nothing)
    assert [one[name] for name in ("hr", "hr_cold", "ndcg_cold")] == [0.0, 1.0, 1.0]
    many = compare.score(dataclasses.replace(split, cold=np.arange(40)), nothing)
    gains = sum(1 / math.log2(place + 1) for place in range(1, 11))
    assert many["hr_cold"] == 10 / 40
    assert many["ndcg_cold"] == pytest.approx(gains / 40)


def test_time_to_the_best_of_a_peer(compare):
    peer = {"model": "rectools-sasrec", "seed": 1, "done": False, "epochs": 3}
    peer["curve"] = [(10.0, 0.1), (20.0, 0.3), (30.0, 0.2)]
    fast = {"model": "palate-id", "seed": 1, "curve": [(3.0, 0.2), (5.0, 0.31), (9.0, 0.4)]}
    slow = {"model": "palate-gru", "seed": 1, "curve": [(3.0, 0.2)]}
    other = {"model": "palate-id", "seed": 2, "curve": [(3.0, 0.2)]}
    lines = compare.report.time_to_best([peer, fast, slow, other]).splitlines()[2:]
    named = "rectools-sasrec (cut short at 3 epochs)"
    assert lines == [
        f"| palate-id | 1 | 0.4000 | {named} | 0.3000 | 5.0 | 20.0 | 0.250 |",
        f"| palate-gru | 1 | 0.2000 | {named} | 0.3000 | not reached | 20.0 |  |",
    ]


def test_a_run_reports_skips_and_resumes(compare, folder, tmp_path, monkeypatch, capsys):
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "pytorch_lightning.py").write_text("raise ImportError('no lightning here')")
    source = str(BENCHMARKS.parent / "src")
    path = os.pathsep.join([str(absent), source, os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    out = tmp_path / "out"
    models = ["rectools-sasrec", "palate-id"]
    call = [str(folder), "--out", str(out), "--seeds", "0", "--epochs", "1", "--models", *models]
    compare.main(call)
    printed = capsys.readouterr().out
    assert "rectools-sasrec is skipped: no lightning here" in printed
    name = folder.name
    table = pd.read_csv(out / f"{name}-warm.csv")
    assert table["model"].tolist() == ["palate-id"]
    assert (out / f"{name}-warm.md").read_text().strip() in printed
    row = json.loads((out / "rows" / f"{name}-warm-palate-id-0-t1-e1.json").read_text())
    assert row["epochs"] == len(row["curve"]) == 1
    assert 0 <= row["ndcg"] <= row["hr"] <= 1
    assert row["parameters"] > 11 * row["settings"]["dim"]

    monkeypatch.setattr(compare, "start", None)
    compare.main([*call[:-2], "palate-id"])
    assert pd.read_csv(out / f"{name}-warm.csv").equals(table)

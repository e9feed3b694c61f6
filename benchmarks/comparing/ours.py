"""Train and ask one model of palate, in a process of its own.

    python benchmarks/comparing/ours.py TASK_FOLDER

The folder holds task.json, split.npz and items.parquet; lists.npz and row.json are left there.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from memory import peak_mb  # beside this script

from palate import Recommender, RunOptions
from palate.baselines import MostPopular

PARTS = {
    "palate-id": {"item_encoder": "id"},
    "palate-text": {"item_encoder": "bert"},
    "palate-fused": {},
    "palate-gru": {"user_encoder": "gru"},
}


def main() -> None:
    """Read the task, do it, write the answer."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    torch.set_num_threads(task["threads"])
    data = dict(np.load(folder / "split.npz"))
    items = pd.read_parquet(folder / "items.parquet")
    events = pd.DataFrame(
        {"user_id": data["users"], "item_id": data["items"], "timestamp": data["times"]}
    )
    row, model = train(task, events, items, data["cold"])
    answer(folder, task, row, model, data)


def train(
    task: dict[str, Any], events: pd.DataFrame, items: pd.DataFrame, cold: np.ndarray
) -> tuple[dict[str, Any], Any]:
    """Fit with the estimator's defaults; the clock includes the encoding of texts."""
    curve: list[tuple[float, float]] = []
    started = time.perf_counter()
    if task["model"] == "popularity":
        model = MostPopular().fit(events)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "parameters": len(model.item_ids_), "curve": []}, model

    def note(record: Any) -> None:
        ndcg = record.get("ndcg@10")
        curve.append((time.perf_counter() - started, float("nan") if ndcg is None else ndcg))

    options = RunOptions(device="cpu", progress=False, on_epoch_end=note)
    parts = PARTS[task["model"]]
    model = Recommender(**parts, random_state=task["seed"], options=options)
    if task["epochs"]:
        model.set_params(epochs=task["epochs"])
    reads_text = parts.get("item_encoder") != "id"
    is_cold = items["item_id"].isin(cold)
    model.fit(events, items=items[~is_cold] if reads_text else None)
    seconds = time.perf_counter() - started
    if len(cold):
        model.add_items(items[is_cold])
    return {
        "seconds": seconds,
        "parameters": n_parameters(model),
        "curve": curve,
        "epochs": len(model.history_),
        "settings": asdict(model.settings_),
    }, model


def n_parameters(model: Recommender) -> int:
    """Count the numbers that training moves."""
    return sum(p.numel() for p in model._serving.network.parameters())


def answer(
    folder: Path, task: dict[str, Any], row: dict[str, Any], model: Any, data: dict[str, Any]
) -> None:
    """Recommend for all users at once: as `fit` left the model, and encoding them anew."""
    asked = data["asked"].tolist()
    row["recommend_seconds"], table = ask(model, asked, task["k"])
    lists = {"lists": as_matrix(table, data["asked"], task["k"])}
    if len(data["cold"]) and task["model"] != "popularity":
        only = model.recommend(asked, k=task["k"], items_to_recommend=data["cold"].tolist())
        lists["cold_lists"] = as_matrix(only, data["asked"], task["k"])
    if task["model"] != "popularity":
        model.options = replace(model.options, user_vectors_mb=0)
        row["anew_seconds"], _ = ask(model, asked, task["k"])
    row["peak_mb"] = peak_mb()
    row["done"] = True
    np.savez(folder / "lists.npz", **lists)
    (folder / "row.json").write_text(json.dumps(row))


def ask(model: Any, asked: list[Any], k: int) -> tuple[float, pd.DataFrame]:
    """Recommend for all users, twice: the faster counts."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        table = model.recommend(asked, k=k)
        times.append(time.perf_counter() - started)
    return min(times), table


def as_matrix(table: pd.DataFrame, asked: np.ndarray, k: int) -> np.ndarray:
    """Turn a table of recommendations into one row of codes a user, -1 where there is none."""
    lists = np.full((len(asked), k), -1, dtype=np.int64)
    rows = np.searchsorted(asked, table["user_id"].to_numpy())
    lists[rows, table["rank"].to_numpy() - 1] = table["item_id"].to_numpy()
    return lists


if __name__ == "__main__":
    main()

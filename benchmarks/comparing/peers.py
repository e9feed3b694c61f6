"""Train and ask one model of another library, in a process and an interpreter of its own.

    python benchmarks/comparing/peers.py TASK_FOLDER

palate is not imported here. The folder holds task.json and split.npz; lists.npz and row.json are
left there. A library that is missing is named in row.json.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from memory import peak_mb  # beside this script

IMPLICIT = ("implicit-als", "implicit-bm25")
# Small grids; the best by NDCG@10 on the held-out events is fitted again on everything.
GRIDS: dict[str, dict[str, list[Any]]] = {
    "implicit-als": {"factors": [64, 128], "alpha": [1, 10, 40], "regularization": [0.01, 1.0]},
    "implicit-bm25": {"K": [20, 100, 500], "B": [0.25, 0.75]},
}


def main() -> None:
    """Read the task, do it, write the answer."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    data = dict(np.load(folder / "split.npz"))
    warnings.simplefilter("ignore")
    try:
        if task["model"] in IMPLICIT:
            lists, row = run_implicit(task, data)
        else:
            # The folder of this file is on the path of a script.
            from rectools_models import run_rectools

            lists, row = run_rectools(task, data)
    except ImportError as error:
        (folder / "row.json").write_text(json.dumps({"missing": str(error)}))
        return
    row["peak_mb"] = peak_mb()
    np.savez(folder / "lists.npz", lists=lists)
    (folder / "row.json").write_text(json.dumps(row))


def run_implicit(
    task: dict[str, Any], data: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Choose settings on the held-out events, fit on all, ask twice: the faster counts."""
    import implicit  # noqa: F401  (its absence is reported before any work)

    grid = GRIDS[task["model"]]
    started = time.perf_counter()
    tried = {
        values: validation_ndcg(task, data, dict(zip(grid, values, strict=True)))
        for values in itertools.product(*grid.values())
    }
    search_seconds = time.perf_counter() - started
    chosen = dict(zip(grid, max(tried, key=lambda values: tried[values]), strict=True))
    matrix = as_csr(data["users"], data["items"], data)
    started = time.perf_counter()
    model = fit_implicit(task, chosen, matrix)
    seconds = time.perf_counter() - started
    times = []
    for _ in range(2):
        started = time.perf_counter()
        lists = ask_implicit(model, matrix, data["asked"], task["k"])
        times.append(time.perf_counter() - started)
    return lists, {
        "seconds": seconds,
        "search_seconds": search_seconds,
        "recommend_seconds": min(times),
        "parameters": count_implicit(model),
        "settings": chosen,
        "curve": [],
        "done": True,
    }


def as_csr(users: np.ndarray, items: np.ndarray, data: dict[str, np.ndarray]) -> Any:
    """Count events in a user-item matrix."""
    from scipy.sparse import coo_matrix

    shape = (int(data["users"].max()) + 1, int(data["n_items"]))
    return coo_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape).tocsr()


def fit_implicit(task: dict[str, Any], settings: dict[str, Any], matrix: Any) -> Any:
    """Fit one model."""
    from implicit.als import AlternatingLeastSquares
    from implicit.nearest_neighbours import BM25Recommender

    if task["model"] == "implicit-bm25":
        model = BM25Recommender(num_threads=task["threads"], **settings)
    else:
        model = AlternatingLeastSquares(
            num_threads=task["threads"], random_state=task["seed"], use_gpu=False, **settings
        )
    model.fit(matrix, show_progress=False)
    return model


def ask_implicit(model: Any, matrix: Any, users: np.ndarray, k: int) -> np.ndarray:
    """Recommend; a place that the library fills with a viewed item is -1."""
    ids, scores = model.recommend(users, matrix[users], N=k, filter_already_liked_items=True)
    return np.where(scores > -1e38, ids, -1).astype(np.int64)


def validation_ndcg(
    task: dict[str, Any], data: dict[str, np.ndarray], settings: dict[str, Any]
) -> float:
    """Return NDCG@10 on the last training events of the held-out users."""
    users, items, held = data["users"], data["items"], data["held"]
    last = np.append(users[1:] != users[:-1], True) & np.isin(users, held)
    matrix = as_csr(users[~last], items[~last], data)
    lists = ask_implicit(fit_implicit(task, settings, matrix), matrix, users[last], 10)
    hit = lists == items[last][:, None]
    return float((hit / np.log2(np.arange(2, 12))).sum() / max(1, last.sum()))


def count_implicit(model: Any) -> int:
    """Count the numbers that the model keeps."""
    if hasattr(model, "user_factors"):
        return int(model.user_factors.size + model.item_factors.size)
    return int(model.similarity.nnz)


if __name__ == "__main__":
    main()

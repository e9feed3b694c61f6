"""RecTools' transformers as its authors' published benchmarks set them.

- SASRec: the table of selected hyperparameters of github.com/blondered/transformer_benchmark
  (sampled softmax, 256 negatives; 64 wide; one block on the sparse Amazon sets, two on ML-1M).
- SASRec with the full softmax instead, the loss of the other benchmark (below), which costs less
  time where the catalogue is small.
- BERT4Rec: the defaults of the library, which github.com/blondered/bert4rec_repro uses for all
  its sets (full softmax, 256 wide, two blocks of four heads).

Both benchmarks train for at most 100 to 200 epochs, stop after 50 without a better validation
score, and keep the best weights. So here, by NDCG@10 on the events that palate holds out too.
"""

from __future__ import annotations

import copy
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

DENSE_EVENTS = 50  # mean events a user from which the settings of ML-1M are taken
PATIENCE, MOST_EPOCHS = 50, 200
SAMPLED = {"loss": "sampled_softmax", "n_negatives": 256, "n_factors": 64, "n_heads": 1}
BERT4REC = {
    "loss": "softmax",
    "n_factors": 256,
    "n_heads": 4,
    "n_blocks": 2,
    "session_max_len": 100,
    "dropout_rate": 0.2,
}
SPARSE_SASREC = {**SAMPLED, "n_blocks": 1, "session_max_len": 50, "dropout_rate": 0.2}
DENSE_SASREC = {**SAMPLED, "n_blocks": 2, "session_max_len": 200, "dropout_rate": 0.1}


def settings(model: str, n_events: int, n_users: int) -> dict[str, Any]:
    """Return the constructor's arguments for a set."""
    if model == "rectools-bert4rec":
        return dict(BERT4REC)
    chosen = DENSE_SASREC if n_events >= DENSE_EVENTS * n_users else SPARSE_SASREC
    loss = {"loss": "softmax"} if model.endswith("softmax") else {}
    return {**chosen, **loss}


def run_rectools(
    task: dict[str, Any], data: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Train on from the state of the last call, as long as the budget lasts; ask twice."""
    from pytorch_lightning import Trainer, seed_everything  # noqa: I001  (named first if missing)
    from rectools.models import BERT4RecModel, SASRecModel
    import torch

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(task["threads"])
    state = read_state(Path(task["state"]))
    done = len(state["curve"])
    most = task["epochs"] or MOST_EPOCHS
    finished = is_finished(state["curve"], most)
    seed_everything(task["seed"] + 1000 * done, verbose=False)
    chosen = settings(task["model"], len(data["users"]), len(np.unique(data["users"])))
    kind = BERT4RecModel if task["model"] == "rectools-bert4rec" else SASRecModel
    model = kind(
        **chosen,
        get_val_mask_func=lambda table: last_events(table, data["held"]),
        get_trainer_func=lambda **_: Trainer(
            max_epochs=0 if finished else most - done,
            accelerator="cpu",
            callbacks=[make_watch(task, state, lambda: model, len(data["held"]), most)],
            logger=False,
            limit_val_batches=0,  # the callback validates, off the clock
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ),
    )
    dataset = make_dataset(data)
    model.fit(dataset)
    model.torch_model.load_state_dict(state["best"])
    lists, seconds = ask(model, dataset, data["asked"], task["k"])
    return lists, {
        "seconds": sum(second for second, _ in state["curve"]),
        "recommend_seconds": seconds,
        "parameters": sum(p.numel() for p in model.torch_model.parameters()),
        "epochs": len(state["curve"]),
        "settings": chosen,
        "curve": cumulated(state["curve"]),
        "done": is_finished(state["curve"], most),
    }


def read_state(path: Path) -> dict[str, Any]:
    """Return what an earlier call left: weights, optimiser, and seconds and NDCG of each epoch."""
    import torch

    return torch.load(path, weights_only=True) if path.exists() else {"curve": []}


def is_finished(curve: list[Any], most: int) -> bool:
    """Say whether the epochs are spent, or the patience."""
    ndcg = [value for _, value in curve]
    return len(ndcg) >= most or (len(ndcg) - 1 - int(np.argmax(ndcg or [0])) >= PATIENCE)


def cumulated(curve: list[Any]) -> list[tuple[float, float]]:
    """Return seconds since the start of training beside each NDCG."""
    seconds = np.cumsum([second for second, _ in curve]).tolist()
    return list(zip(seconds, (ndcg for _, ndcg in curve), strict=True))


def make_dataset(data: dict[str, np.ndarray]) -> Any:
    """Make RecTools' data set; its dates must be dates, and only their order is read."""
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset

    users = pd.Series(data["users"])
    places = pd.to_timedelta(users.groupby(users).cumcount(), unit="s")
    table = {
        Columns.User: users.astype(object),
        Columns.Item: pd.Series(data["items"]).astype(object),
        Columns.Weight: 1.0,
        Columns.Datetime: pd.Timestamp("2020-01-01") + places,
    }
    return Dataset.construct(pd.DataFrame(table))


def last_events(table: Any, held: np.ndarray) -> np.ndarray:
    """Mark the last event of each held-out user."""
    last = table["datetime"] == table.groupby("user_id")["datetime"].transform("max")
    return (last & table["user_id"].isin(held)).to_numpy()


def make_watch(task: dict[str, Any], state: dict[str, Any], model: Any, n_held: int, most: int):
    """Return a callback that times epochs, validates, keeps the best and the latest, and stops."""
    import torch
    from pytorch_lightning import Callback

    began = time.perf_counter()
    clock = {"start": 0.0, "seconds": 0.0}

    class Watch(Callback):  # RecTools copies it: what it keeps is outside
        """Watch over one training."""

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if "network" in state and not clock["start"]:
                module.torch_model.load_state_dict(state["network"])
                trainer.optimizers[0].load_state_dict(state["optimizer"])
            clock["start"] = time.perf_counter()

        def on_train_batch_end(self, *args: Any) -> None:
            clock["seconds"] = time.perf_counter() - clock["start"]

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            ndcg = validation_ndcg(module, model().data_preparator.get_dataloader_val(), n_held)
            weights = copy.deepcopy(module.torch_model.state_dict())
            if ndcg > max((value for _, value in state["curve"]), default=-1.0):
                state["best"] = weights
            state["curve"].append((clock["seconds"], ndcg))
            state["network"] = weights
            state["optimizer"] = trainer.optimizers[0].state_dict()
            torch.save(state, task["state"])
            spent = time.perf_counter() - began
            trainer.should_stop = spent > task["budget"] or is_finished(state["curve"], most)

    return Watch()


def validation_ndcg(module: Any, loader: Any, n_held: int) -> float:
    """Rank the catalogue for each held-out event, viewed items filtered: the mean NDCG@10."""
    import torch

    network, total = module.torch_model, 0.0
    network.eval()
    with torch.no_grad():
        items = network.item_model.get_all_embeddings()
        for batch in loader:
            scores = network.encode_sessions(batch, items)[:, -1] @ items.T
            target = scores.gather(1, batch["y"])
            scores.scatter_(1, batch["x"], -torch.inf)
            scores[:, : len(module.item_extra_tokens)] = -torch.inf
            rank = 1 + (scores > target).sum(1)
            total += float((1 / torch.log2(1 + rank.double()))[rank <= 10].sum())
    network.train()
    return total / max(1, n_held)


def ask(model: Any, dataset: Any, asked: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """Recommend for all users twice; return the lists and the faster time."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        table = model.recommend(
            users=asked.astype(object),
            dataset=dataset,
            k=k,
            filter_viewed=True,
            on_unsupported_targets="ignore",
        )
        times.append(time.perf_counter() - started)
    lists = np.full((len(asked), k), -1, dtype=np.int64)
    rows = np.searchsorted(asked, table["user_id"].to_numpy().astype(np.int64))
    lists[rows, table["rank"].to_numpy() - 1] = table["item_id"].to_numpy().astype(np.int64)
    return lists, min(times)

"""From a fitted model to its folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from palate._parts import encode_value
from palate.data.ids_table import write_ids
from palate.exceptions import PersistenceError
from palate.persistence.checksums import CONFIG, write_config
from palate.persistence.folder import located, replaced
from palate.persistence.parts import (
    encode_random_state,
    flat_moments,
    history_tensors,
    scored_rows,
    weight_tensors,
)
from palate.persistence.tensors import write_tensors
from palate.serving import Serving

FORMAT = 2
WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
VECTORS = "vectors.safetensors"
HISTORIES = "histories.safetensors"
USERS, ITEMS = "users.parquet", "items.parquet"
FILES = (CONFIG, WEIGHTS, VECTORS, OPTIMIZER, USERS, ITEMS, HISTORIES)
#: Attribute texts, of models with `user_features` alone.
PEOPLE = "people.parquet"
#: Only there where the model has a second stage.
RERANKER = "reranker.safetensors"
#: In `HISTORIES`: how long each was when the model last learned, where one is longer now.
LEARNED = "learned"
#: What version 0.1 wrote in place of `HISTORIES`.
EVENTS = "histories.parquet"


def save(rec: Any, folder: str | os.PathLike[str]) -> None:
    """Write a fitted recommender: all files to a folder beside, then one swap.

    Parameters
    ----------
    rec : Recommender
        Another thread may go on changing it: what is written is one state.
    folder : path

    Raises
    ------
    PersistenceError
        If the folder exists and is no saved model, or a parameter cannot be written.
    """
    target = Path(os.path.realpath(folder))
    check_replaceable(located(target), folder)
    serving: Serving = rec._serving
    config = config_of(rec, serving)
    with replaced(target) as fresh:
        config["users"] = write_ids(fresh / USERS, serving.users.array, _people_of(serving))
        if serving.people is not None:
            config["people"] = write_ids(fresh / PEOPLE, serving.people.texts.array)
        config["items"] = write_ids(fresh / ITEMS, serving.items.array, serving.table.frame)
        tensors, config["times"] = history_tensors(serving.histories)
        if len(serving.unlearned()):
            tensors[LEARNED] = torch.from_numpy(serving.learning.lengths)
        write_tensors(fresh / HISTORIES, tensors)
        write_tensors(fresh / WEIGHTS, weight_tensors(serving.network))
        vectors = {"vectors": serving.vectors}
        rows = scored_rows(serving.ranker)
        write_tensors(fresh / VECTORS, vectors if rows is None else {**vectors, "scored": rows})
        if serving.reranker is not None:
            write_tensors(fresh / RERANKER, weight_tensors(serving.reranker.module))
        write_tensors(fresh / OPTIMIZER, flat_moments(serving.learning.optimizer_state))
        write_config(fresh, config)


def check_replaceable(target: Path, shown: str | os.PathLike[str]) -> None:
    """Raise if something else than a saved model would be lost."""
    holds = None
    if target.is_file():
        holds = "is a file"
    elif target.exists():
        names = {path.name for path in target.iterdir()}
        if names and not (
            names <= {*FILES, EVENTS, PEOPLE, RERANKER} and _is_ours(target / CONFIG)
        ):
            holds = "holds other files"
    if holds:
        raise PersistenceError(
            f"folder must be new, empty or a saved model; {os.fspath(shown)!r} {holds}."
        )


def _people_of(serving: Serving) -> pd.DataFrame | None:
    """Return the code of each user's attribute text, where there are any."""
    if serving.people is None:
        return None
    return pd.DataFrame({"people": serving.people.of(np.arange(len(serving.users)))})


def _is_ours(config: Path) -> bool:
    try:
        return {"format", "params"} <= json.loads(config.read_bytes()).keys()
    except (OSError, ValueError, AttributeError):
        return False


def config_of(rec: Any, serving: Serving) -> dict[str, Any]:
    """Return everything but arrays, as JSON values."""
    # The parts that the weights belong to, whatever set_params did since.
    params = {**rec.get_params(deep=False), **rec._architecture}
    if serving.given_ranker is not None:
        params["ranker"] = serving.given_ranker
    params["reranker"] = None if serving.reranker is None else serving.reranker.given
    params.pop("options")
    seed, network = params.pop("random_state"), serving.network
    edges = {"gap_edges": network.gap_edges, "bias_edges": network.bias_edges}
    return {
        "format": FORMAT,
        "params": {
            **{name: encode_value(name, value) for name, value in params.items()},
            "random_state": encode_random_state(seed),
        },
        "settings": asdict(rec.settings_),
        **{name: found.tolist() for name, found in edges.items() if found is not None},
        "averages": [network.mean_weight, network.content_weight],
        "history": serving.learning.records,
        "library": rec._library.__name__,
        "n_fits": serving.learning.n_fits,
        "half_life": serving.learning.half_life,
        "columns": list(map(str, getattr(rec, "feature_names_in_", []))),
        "n_features_in": getattr(rec, "n_features_in_", None),
        "n_events": serving.histories.n_events,
    }

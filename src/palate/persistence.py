"""A fitted model as a folder: JSON, safetensors and parquet, written at once, read without code."""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from palate._estimator import architecture, library_named
from palate._options import RunOptions
from palate._parts import decode_value, encode_value, resolve_part
from palate.data.histories import CodedEvents, Histories
from palate.data.ids_table import read_ids, write_ids
from palate.data.items import ItemTable
from palate.data.vocabulary import Vocabulary
from palate.exceptions import PersistenceError
from palate.serving import Serving
from palate.training.network import TasteNetwork

LIBRARIES = ("pandas", "polars", "pyarrow")
FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
VECTORS = "vectors.safetensors"
USERS, ITEMS, EVENTS = "users.parquet", "items.parquet", "histories.parquet"
FILES = (CONFIG, WEIGHTS, VECTORS, OPTIMIZER, USERS, ITEMS, EVENTS)

R = TypeVar("R")


def save(rec: Any, folder: str | os.PathLike[str]) -> None:
    """Write a fitted recommender: all files to a folder beside, then one rename.

    Parameters
    ----------
    rec : Recommender
    folder : path

    Raises
    ------
    PersistenceError
        If the folder exists and is no saved model, or a parameter cannot be written.
    """
    from safetensors.torch import save_file

    target = Path(folder)
    _check_replaceable(target)
    serving: Serving = rec._serving
    config = _config(rec, serving)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    fresh.mkdir()
    try:
        config["users"] = write_ids(fresh / USERS, serving.users.array)
        config["items"] = write_ids(fresh / ITEMS, serving.items.array, serving.table.frame)
        _write_histories(fresh / EVENTS, serving.histories)
        save_file(_tensors(serving.network), fresh / WEIGHTS)
        save_file({"vectors": serving.vectors.cpu().contiguous()}, fresh / VECTORS)
        save_file(_flat(rec._optimizer_state), fresh / OPTIMIZER)
        (fresh / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
        _swap(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_replaceable(target: Path) -> None:
    """Raise if something else than a saved model would be lost."""
    holds = None
    if target.is_file():
        holds = "is a file"
    elif target.exists():
        names = {path.name for path in target.iterdir()}
        if names and not (names <= set(FILES) and _is_ours(target / CONFIG)):
            holds = "holds other files"
    if holds:
        raise PersistenceError(
            f"folder must be new, empty or a saved model; {str(target)!r} {holds}."
        )


def _is_ours(config: Path) -> bool:
    try:
        return {"format", "params"} <= json.loads(config.read_text()).keys()
    except (OSError, ValueError, AttributeError):
        return False


def _tensors(network: TasteNetwork) -> dict[str, Tensor]:
    """Return the network's tensors on the CPU, those of tied weights each by itself."""
    tensors: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in network.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in places:
            tensor = tensor.clone()
        places.add(tensor.untyped_storage().data_ptr())
        tensors[name] = tensor
    return tensors


def _swap(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _config(rec: Any, serving: Serving) -> dict[str, Any]:
    # The parts that the weights belong to, whatever set_params did since.
    params = {**rec.get_params(deep=False), **rec._architecture}
    params.pop("options")
    if not (
        params["random_state"] is None or isinstance(params["random_state"], (int, np.integer))
    ):
        params["random_state"] = None  # a generator's state is of one run
    return {
        "format": FORMAT,
        "params": {name: encode_value(name, value) for name, value in params.items()},
        "history": rec.history_,
        "library": rec._library.__name__,
        "n_fits": rec._n_fits,
        "columns": list(map(str, getattr(rec, "feature_names_in_", []))),
        "n_features_in": getattr(rec, "n_features_in_", None),
        "n_events": serving.histories.n_events,
    }


def load(cls: Callable[..., R], folder: str | os.PathLike[str], options: RunOptions | None) -> R:
    """Read a fitted recommender of class `cls` from a folder.

    Raises
    ------
    PersistenceError
        If a file is absent, the format is another one, or tensors are missing or unexpected.
    """
    from safetensors.torch import load_file

    source = Path(folder)
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        raise PersistenceError(
            f"{str(source)!r} is not a complete saved model; it lacks {', '.join(missing)}."
        )
    try:
        config = json.loads((source / CONFIG).read_text())
    except ValueError as error:
        raise PersistenceError(f"{CONFIG} cannot be read: {error}.") from error
    if config.get("format") != FORMAT:
        raise PersistenceError(
            f"{CONFIG} must have format {FORMAT}; got {config.get('format')!r}. "
            "Another version of palate wrote this model."
        )
    rec: Any = cls(**{n: decode_value(v) for n, v in config["params"].items()}, options=options)
    run = RunOptions() if options is None else options
    users, _ = read_ids(source / USERS, config["users"])
    items, content = read_ids(source / ITEMS, config["items"])
    network = _network(rec, ItemTable(content), load_file(source / WEIGHTS), run)
    # Computed again in one batch, they could differ in their last bits.
    vectors = load_file(source / VECTORS)["vectors"].clone().to(run.torch_device)
    if vectors.shape != (len(items), rec.dim):
        raise PersistenceError(
            f"{VECTORS} must hold one vector of width {rec.dim} for each of {len(items)} items; "
            f"it holds an array of shape {tuple(vectors.shape)}."
        )
    ranker = _ranker(rec).fit(vectors)
    rec._serving = Serving(
        Vocabulary(users),
        Vocabulary(items),
        ItemTable(content),
        _read_histories(source / EVENTS, len(users)),
        network,
        vectors,
        ranker,
    )
    rec._optimizer_state = _nested(load_file(source / OPTIMIZER))
    rec._architecture = architecture(rec)
    rec.history_, rec._n_fits = config["history"], config["n_fits"]
    # Only these names: a file must not choose what is imported.
    library = config["library"] if config["library"] in LIBRARIES else "pandas"
    rec._library, rec._lock = library_named(library), threading.Lock()
    if config["n_features_in"] is not None:
        rec.n_features_in_ = config["n_features_in"]
    if config["columns"]:
        rec.feature_names_in_ = np.array(config["columns"], dtype=object)
    return rec  # type: ignore[no-any-return]


def _network(
    rec: Any, table: ItemTable, weights: dict[str, Tensor], options: RunOptions
) -> TasteNetwork:
    prefix = "items."
    state = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    with torch.random.fork_rng(devices=[]):
        items = resolve_part("item_encoder", rec.item_encoder).build(table, rec.dim, options, state)
        network = TasteNetwork(
            items,
            resolve_part("user_encoder", rec.user_encoder),
            rec.dim,
            rec.metric,
            torch.zeros(len(table), dtype=torch.bool),
        )
    _check_tensors(network.state_dict(), weights)
    network.load_state_dict(weights)
    return network.to(options.torch_device).eval()


def _check_tensors(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    must = f"{WEIGHTS} must hold the tensors of this model;"
    absent = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    if absent or unexpected:
        raise PersistenceError(
            f"{must} missing: {', '.join(absent) or 'none'}; "
            f"unexpected: {', '.join(unexpected) or 'none'}."
        )
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            raise PersistenceError(
                f"{must} {name} must have the shape {tuple(tensor.shape)} and has "
                f"{tuple(found[name].shape)}."
            )


def _ranker(rec: Any) -> Any:
    ranker = resolve_part("ranker", rec.ranker)
    return ranker.set_params(metric=rec.metric) if isinstance(rec.ranker, str) else ranker


# ---- arrays


def _write_histories(path: Path, histories: Histories) -> None:
    events = histories.events()
    columns = {"user": events.users, "item": events.items}
    if events.times is not None:
        columns["time"] = events.times
    if events.weights is not None:
        columns["weight"] = events.weights
    pd.DataFrame(columns).to_parquet(path, compression="zstd")


def _read_histories(path: Path, n_users: int) -> Histories:
    frame = pd.read_parquet(path)
    arrays = [
        frame[n].to_numpy() if n in frame else None for n in ("user", "item", "time", "weight")
    ]
    return Histories.from_events(CodedEvents(*arrays), n_users)  # type: ignore[arg-type]


def _flat(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {
        f"{name}|{key}": value.contiguous()
        for name, moments in state.items()
        for key, value in moments.items()
    }


def _nested(flat: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    state: dict[str, dict[str, Tensor]] = {}
    for joined, value in flat.items():
        name, key = joined.rsplit("|", 1)
        state.setdefault(name, {})[key] = value
    return state

"""From a folder to a fitted model; no code from the folder runs."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from palate._estimator import architecture, width_of
from palate._options import RunOptions
from palate._parts import decode_value, resolve_items, resolve_part
from palate._results import library_named
from palate._threads import ForkedLock, torch_threads
from palate._validation import check_choice
from palate.data.alike import of_one_type
from palate.data.coded import CodedEvents
from palate.data.histories import Histories
from palate.data.ids_table import read_ids
from palate.data.items import ItemTable
from palate.data.people import People
from palate.data.vocabulary import Vocabulary
from palate.defaults import STANDALONE, Settings, fill_spec
from palate.exceptions import PersistenceError
from palate.persistence.checksums import CONFIG, check_files, read_config
from palate.persistence.folder import located
from palate.persistence.parts import (
    decode_random_state,
    fill,
    histories_of,
    nested_moments,
    ranker_of,
)
from palate.persistence.tensors import read_tensors
from palate.persistence.writing import (
    EVENTS,
    FILES,
    FORMAT,
    HISTORIES,
    ITEMS,
    LEARNED,
    OPTIMIZER,
    PEOPLE,
    RERANKER,
    USERS,
    VECTORS,
    WEIGHTS,
)
from palate.reranking.content import content_of
from palate.reranking.fitted import FittedReranker
from palate.serving import Learning, Serving
from palate.training.network import TasteNetwork

LIBRARIES = ("pandas", "polars", "pyarrow")
#: Formats that can be read.
FORMATS = (1, FORMAT)
_TRIES = 5

R = TypeVar("R")


def load(
    cls: Callable[..., R],
    folder: str | os.PathLike[str],
    options: RunOptions | None,
    *,
    mmap: bool = False,
    verify: bool = True,
) -> R:
    """Read a fitted recommender of class `cls` from a folder.

    A folder that is replaced meanwhile is read again.

    Raises
    ------
    DamagedModelError
        If a file does not have the bytes that were written.
    PersistenceError
        If a file is absent, the format is another one, or tensors are missing or unexpected.
    """
    check_choice("mmap", mmap, (True, False))
    check_choice("verify", verify, (True, False))
    target = Path(os.path.realpath(folder))
    for last in (*[False] * (_TRIES - 1), True):
        source = located(target)
        before = _stamp(source)
        try:
            found = _read(cls, source, options, mmap=mmap, verify=verify)
        except (PersistenceError, OSError):
            if last or _stamp(source) == before:
                raise
        else:
            if last or _stamp(source) == before:
                return found
    raise AssertionError("unreachable")


def _stamp(folder: Path) -> tuple[Any, ...]:
    """Return what changes when a folder is replaced."""
    try:
        return folder.stat().st_ino, (folder / CONFIG).read_bytes()
    except OSError:
        return ()


def _read(
    cls: Callable[..., R], source: Path, options: RunOptions | None, *, mmap: bool, verify: bool
) -> R:
    present = {path.name for path in source.iterdir()} if source.is_dir() else set()
    old = EVENTS in present
    names = (*FILES[:-1], EVENTS) if old else FILES
    _check_complete(source, names, present)
    config = read_config(source, FORMATS, verify=verify)
    _check_complete(source, (PEOPLE,) if "people" in config else (), present)
    if config.get("params", {}).get("reranker") is not None:
        _check_complete(source, (RERANKER,), present)
    check_files(source, config, verify=verify)
    try:
        return _assemble(cls, source, config, options, mmap=mmap and not old)
    except (KeyError, TypeError, AttributeError) as error:
        raise PersistenceError(
            f"{CONFIG} must describe the files beside it; got {type(error).__name__}: {error}."
        ) from error


def _check_complete(source: Path, names: Iterable[str], present: set[str]) -> None:
    if missing := [name for name in names if name not in present]:
        raise PersistenceError(
            f"{str(source)!r} is not a complete saved model; it lacks {', '.join(missing)}."
        )


def _assemble(
    cls: Callable[..., R],
    source: Path,
    config: dict[str, Any],
    options: RunOptions | None,
    *,
    mmap: bool,
) -> R:
    params = dict(config["params"])
    params["random_state"] = decode_random_state(params["random_state"])
    rec: Any = cls(
        **{n: v if n == "random_state" else decode_value(v) for n, v in params.items()},
        options=options,
    )
    rec.settings_ = Settings(**config["settings"]) if "settings" in config else STANDALONE
    run = RunOptions() if options is None else options
    with torch_threads(run.n_jobs):
        rec._serving = _serving(rec, source, config, run, mmap=mmap)
    rec._architecture = architecture(rec)
    # Only these names: a file must not choose what is imported.
    library = config["library"] if config["library"] in LIBRARIES else "pandas"
    rec._library, rec._lock = library_named(library), ForkedLock()
    if config["n_features_in"] is not None:
        rec.n_features_in_ = config["n_features_in"]
    if config["columns"]:
        rec.feature_names_in_ = np.array(config["columns"], dtype=object)
    return rec  # type: ignore[no-any-return]


def _serving(
    rec: Any, source: Path, config: dict[str, Any], options: RunOptions, *, mmap: bool
) -> Serving:
    users, told = read_ids(source / USERS, config["users"])
    people = None
    if "people" in config:
        texts, _ = read_ids(source / PEOPLE, config["people"])
        people = People(Vocabulary(texts), told["people"].to_numpy(np.int64))
    items, read = read_ids(source / ITEMS, config["items"])
    content = pd.DataFrame({n: of_one_type(c) for n, c in read.items()}, index=read.index)
    weights = read_tensors(source / WEIGHTS, mapped=mmap)
    edges = [
        np.array(config[name], np.float64) if name in config else None
        for name in ("gap_edges", "bias_edges")
    ]
    network = _network(rec, ItemTable(content), weights, people, edges, options, mapped=mmap)
    averages = config.get("averages", (0.0, 0.0))
    network.mean_weight, network.content_weight = map(float, averages)
    found = read_tensors(source / VECTORS, mapped=mmap)
    # Computed again in one batch, they could differ in their last bits.
    vectors = found["vectors"].to(options.torch_device)
    if vectors.shape != (len(items), network.width):
        raise PersistenceError(
            f"{VECTORS} must hold one vector of width {network.width} for each of {len(items)} "
            "items; "
            f"it holds an array of shape {tuple(vectors.shape)}."
        )
    histories, lengths = _histories(source, config, len(users), mapped=mmap)
    moments = nested_moments(read_tensors(source / OPTIMIZER, mapped=mmap))
    return Serving(
        Vocabulary(users),
        Vocabulary(items),
        ItemTable(content),
        histories,
        network,
        vectors,
        ranker_of(_ranker(rec), vectors, found.get("scored")),
        Learning(
            config["history"], moments, config["n_fits"], lengths, config.get("half_life", "auto")
        ),
        people,
        _reranker(rec, source, network, mapped=mmap),
        copy.deepcopy(rec.ranker),
    )


def _network(
    rec: Any,
    table: ItemTable,
    weights: dict[str, Tensor],
    people: People | None,
    edges: Sequence[np.ndarray | None],
    options: RunOptions,
    *,
    mapped: bool,
) -> TasteNetwork:
    prefix, dim = "items.", width_of(rec)
    state = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    with torch.random.fork_rng(devices=[]):
        items = resolve_items(rec).build(table, dim, options, state)
        network = TasteNetwork(
            items,
            fill_spec(resolve_part("user_encoder", rec.user_encoder), rec.settings_, dim),
            dim,
            rec.metric,
            torch.zeros(len(table), dtype=torch.bool),
        )
    if people is not None:
        network.people_texts = tuple(people.texts.array.tolist())
        shape = (len(people.texts), items.text_width)
        network.people, network.people_mean = torch.empty(shape), torch.empty(shape[1])
        network.people_spread = torch.empty(())
    network.read_times(*edges)
    fill(network, weights, WEIGHTS, mapped=mapped)
    return network.to(options.torch_device).eval()


def _ranker(rec: Any) -> Any:
    ranker = resolve_part("ranker", rec.ranker)
    return ranker.set_params(metric=rec.metric) if isinstance(rec.ranker, str) else ranker


def _reranker(
    rec: Any, source: Path, network: TasteNetwork, *, mapped: bool
) -> FittedReranker | None:
    if rec.reranker is None:
        return None
    spec = resolve_part("reranker", rec.reranker)
    device = next(network.parameters()).device
    first = torch.zeros(1, dtype=torch.int64, device=device)
    width = content_of(network.items, first).shape[1]
    with torch.random.fork_rng(devices=[]):
        module = spec.build(width_of(rec), width)
    fill(module, read_tensors(source / RERANKER, mapped=mapped), RERANKER, mapped=mapped)
    given = copy.deepcopy(rec.reranker)  # what `set_params` will change is not what was fitted
    return FittedReranker(given, spec, module.to(device).eval().requires_grad_(False))


def _histories(
    source: Path, config: dict[str, Any], n_users: int, *, mapped: bool
) -> tuple[Histories, np.ndarray]:
    """Return the histories, and their lengths when the model last learned."""
    if config["format"] > 1:
        tensors = read_tensors(source / HISTORIES, mapped=mapped)
        learned = tensors.pop(LEARNED, None)
        histories = histories_of(tensors, config["times"])
        return histories, histories.all_lengths() if learned is None else learned.numpy()
    frame = pd.read_parquet(source / EVENTS)
    arrays = [
        frame[n].to_numpy() if n in frame else None for n in ("user", "item", "time", "weight")
    ]
    histories = Histories.from_events(CodedEvents(*arrays), n_users)  # type: ignore[arg-type]
    return histories, histories.all_lengths()

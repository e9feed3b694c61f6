"""Pieces of a fitted model as tensors and JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from palate.data.histories import Histories
from palate.exceptions import PersistenceError
from palate.ops._topk_catalogue import Catalogue, segment_of
from palate.ranking.exact import CosineRanker
from palate.training.optimizer import OptimizerState

_MERSENNE = "MT19937"


# ---- histories


def history_tensors(histories: Histories) -> tuple[dict[str, Tensor], str | None]:
    """Return the arrays of histories, and the dtype of their times."""
    whole = histories.compact()
    arrays = {"indptr": whole.indptr, "items": whole.items}
    kind = None
    if whole.times is not None:
        kind = whole.times.dtype.str
        arrays["times"] = whole.times.view(np.int64) if kind[1] in "mM" else whole.times
    if whole.weights is not None:
        arrays["weights"] = whole.weights
    return {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in arrays.items()}, kind


def histories_of(tensors: Mapping[str, Tensor], kind: str | None) -> Histories:
    """Return what :func:`history_tensors` took apart; nothing is copied."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    if {"indptr", "items"} - arrays.keys() or (kind is None) == ("times" in arrays):
        raise PersistenceError(
            "the histories must hold indptr, items and, where the config names their dtype, times; "
            f"got {', '.join(arrays)}."
        )
    times = arrays.get("times")
    if kind is not None and times is not None and kind[1] in "mM":
        times = times.view(np.dtype(kind))
    return Histories(
        indptr=arrays["indptr"],
        items=arrays["items"],
        times=times,
        weights=arrays.get("weights"),
        n_users=len(arrays["indptr"]) - 1,
    )


# ---- weights and moments


def weight_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network on the CPU."""
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}


def flat_moments(state: OptimizerState) -> dict[str, Tensor]:
    """Return an optimiser's state under one name each."""
    return {
        f"{name}|{key}": value for name, moments in state.items() for key, value in moments.items()
    }


def nested_moments(flat: Mapping[str, Tensor]) -> OptimizerState:
    """Return what :func:`flat_moments` took apart."""
    state: OptimizerState = {}
    for joined, value in flat.items():
        name, key = joined.rsplit("|", 1)
        state.setdefault(name, {})[key] = value
    return state


def fill(network: nn.Module, weights: Mapping[str, Tensor], name: str, *, mapped: bool) -> None:
    """Give a network its weights: copies, or with `mapped` the very tensors.

    Raises
    ------
    PersistenceError
        If tensors are missing, unexpected or of another shape; `name` is the file's.
    """
    expected = network.state_dict()
    must = f"{name} must hold the tensors of this model;"
    absent = sorted(expected.keys() - weights.keys())
    unexpected = sorted(weights.keys() - expected.keys())
    if absent or unexpected:
        raise PersistenceError(
            f"{must} missing: {', '.join(absent) or 'none'}; "
            f"unexpected: {', '.join(unexpected) or 'none'}."
        )
    for key, tensor in expected.items():
        if tensor.shape != weights[key].shape:
            raise PersistenceError(
                f"{must} {key} must have the shape {tuple(tensor.shape)} and has "
                f"{tuple(weights[key].shape)}."
            )
    # Tied weights would come apart if each name got a tensor of its own.
    n_names = sum(1 for _ in network.named_parameters(remove_duplicate=False))
    tied = n_names > sum(1 for _ in network.parameters())
    network.load_state_dict(weights, assign=mapped and not tied)


# ---- the ranker


def scored_rows(ranker: Any) -> Tensor | None:
    """Return the rows that a ranker scores, where they are not the vectors themselves."""
    if type(ranker) is not CosineRanker or _scores_vectors(ranker) or not ranker.n_items_:
        return None
    return torch.cat([segment.vectors for segment in ranker.catalogue_.segments]).cpu()


def ranker_of(ranker: Any, vectors: Tensor, rows: Tensor | None) -> Any:
    """Return an unfitted ranker with its catalogue: `rows` where they are given, not copied."""
    ready = vectors if type(ranker) is CosineRanker and _scores_vectors(ranker) else rows
    if ready is None or not len(vectors) or ready.shape != vectors.shape:
        return ranker.fit(vectors)
    int8 = ranker.storage == "int8"
    segment = segment_of(ready.to(vectors.device), ranker.metric, int8=int8)
    ranker.n_items_, ranker.dim_ = vectors.shape
    ranker.catalogue_ = Catalogue(
        ranker.metric, (segment,), ranker.n_items_, ranker.dim_, ranker.storage
    )
    return ranker


def _scores_vectors(ranker: CosineRanker) -> bool:
    return ranker.metric != "cosine" and ranker.storage in ("float32", "int8")


# ---- seeds


def encode_random_state(value: Any) -> Any:
    """Return `random_state` as JSON, a generator with where it stands."""
    if not isinstance(value, np.random.RandomState):
        return value.item() if isinstance(value, np.integer) else value
    state: tuple[Any, ...] = value.get_state(legacy=True)  # type: ignore[assignment]
    kind, keys, at, has_gauss, gauss = state
    if kind != _MERSENNE:
        raise PersistenceError(
            f"random_state must be None, an integer or a RandomState over {_MERSENNE} to be "
            f"saved; got one over {kind}."
        )
    return {"generator": [keys.tolist(), int(at), int(has_gauss), float(gauss)]}


def decode_random_state(value: Any) -> Any:
    """Return what :func:`encode_random_state` wrote.

    Examples
    --------
    >>> state = np.random.RandomState(3)
    >>> _ = state.normal()
    >>> again = decode_random_state(encode_random_state(state))
    >>> again.normal() == state.normal()
    True
    """
    if not isinstance(value, dict):
        return value
    keys, at, has_gauss, gauss = value["generator"]
    state = np.random.RandomState()
    state.set_state((_MERSENNE, np.array(keys, np.uint32), at, has_gauss, gauss))
    return state

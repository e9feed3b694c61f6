"""Names to part specs, and specs to JSON: what a parameter stands for, here and in a file."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone

from palate._options import RunOptions
from palate._validation import check_verbs
from palate.encoders.item.bert import BertEncoder
from palate.encoders.item.features import FeatureEncoder, with_features
from palate.encoders.item.fusion import Fusion
from palate.encoders.item.ids import IdEncoder
from palate.encoders.item.knowledge import KnowledgeEncoder
from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.transformer import TransformerEncoder
from palate.exceptions import InvalidParameterError, PersistenceError
from palate.ranking.ann import ApproximateRanker
from palate.ranking.exact import CosineRanker
from palate.reranking.spec import MODES, Reranker
from palate.training.objectives import GBCEObjective, SampledSoftmaxObjective, SoftmaxObjective

# Parts that no name stands for.
_UNNAMED = (FeatureEncoder, KnowledgeEncoder)


@dataclass(frozen=True)
class Kind:
    """One kind of part: its named defaults, and the verbs that any spec must have."""

    named: dict[str, Callable[[], Any]]
    verbs: tuple[str, ...]
    optional: bool = False  # None stands for no such part


KINDS: dict[str, Kind] = {
    "user_encoder": Kind({"gru": GRUEncoder, "transformer": TransformerEncoder}, ("build",)),
    "item_encoder": Kind(
        {
            "bert": BertEncoder,
            "id": IdEncoder,
            "bert+id": lambda: Fusion([BertEncoder(), IdEncoder()]),
        },
        ("build",),
    ),
    "ranker": Kind(
        {"exact": CosineRanker, "approximate": ApproximateRanker}, ("fit", "extend", "topk")
    ),
    "objective": Kind(
        {
            "softmax": SoftmaxObjective,
            "sampled_softmax": SampledSoftmaxObjective,
            "gbce": GBCEObjective,
        },
        ("candidates",),
    ),
    "reranker": Kind(
        {mode: partial(Reranker, mode) for mode in MODES},
        ("check_parameters", "build"),
        optional=True,
    ),
}


def default_spec(kind: str, value: Any) -> Any:
    """Return the spec that a name stands for, or `value` itself if it is no known name."""
    factory = KINDS[kind].named.get(value) if isinstance(value, str) else None
    return value if factory is None else factory()


def resolve_part(kind: str, value: Any) -> Any:
    """Return a fresh copy of the spec that a parameter names or holds.

    Raises
    ------
    InvalidParameterError
        If a string is no known name, or an object lacks the verbs of its kind.

    Examples
    --------
    >>> resolve_part("user_encoder", "gru")
    GRUEncoder()
    """
    import torch

    names = ", ".join(repr(name) for name in KINDS[kind].named)
    spec = default_spec(kind, value)
    if isinstance(spec, torch.nn.Module):
        raise InvalidParameterError(
            f"{kind} must be a spec whose build() makes a network, so that fit can start afresh; "
            f"got the network {type(spec).__name__} itself."
        )
    accepted = f"{'None, ' if KINDS[kind].optional else ''}one of {names}, or a spec of that kind"
    check_verbs(kind, spec, KINDS[kind].verbs, accepted)
    return clone(spec, safe=False)


def resolve_items(rec: Any) -> Any:
    """Return a fresh copy of a recommender's item encoder, with its `item_features` added."""
    return with_features(resolve_part("item_encoder", rec.item_encoder), rec.item_features)


class NamedPartsMixin:
    """Parameters of parts that may be named by a string, such as ``user_encoder="gru"``."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, also those of the parts, named ones included."""
        params: dict[str, Any] = super().get_params(deep=False)  # type: ignore[misc]
        for kind in [*KINDS] if deep else []:
            spec = default_spec(kind, params.get(kind))
            if hasattr(spec, "get_params") and not isinstance(spec, type):
                nested = spec.get_params()
                params |= {f"{kind}__{name}": value for name, value in nested.items()}
        return params

    def set_params(self, **params: Any) -> Any:
        """Set parameters; ``user_encoder__n_layers=3`` works on a named part too."""
        parts = [part for part in self.get_params().values() if hasattr(part, "get_params")]
        before = [(part, {**vars(part)}) for part in (self, *parts) if not isinstance(part, type)]
        try:
            return self._set_params(params)
        except Exception:
            for part, values in before:
                vars(part).clear()
                vars(part).update(values)
            raise

    def _set_params(self, params: dict[str, Any]) -> Any:
        for kind in KINDS:
            if hasattr(self, kind) and any(name.startswith(f"{kind}__") for name in params):
                spec = default_spec(kind, params.pop(kind, getattr(self, kind)))
                if spec is None and KINDS[kind].optional:
                    raise InvalidParameterError(
                        f"{kind} must not be None where its own parameters are set; got None."
                    )
                setattr(self, kind, spec)
        super().set_params(**params)  # type: ignore[misc]
        return self


def known_parts() -> dict[str, type]:
    """Return the spec classes that a saved model may name: palate's, and registered ones.

    A third party registers its classes under the entry point group ``palate.parts``.
    """
    classes: dict[str, type] = {part.__name__: part for part in _UNNAMED}
    for kind in KINDS.values():
        for factory in kind.named.values():
            spec = factory()
            classes[type(spec).__name__] = type(spec)
    for point in importlib.metadata.entry_points(group="palate.parts"):
        classes[point.name] = point.load()
    return classes


def encode_value(name: str, value: Any) -> Any:
    """Return a parameter as JSON: plain values, lists, and known specs.

    How to run, and the state of a random generator, belong to one run: they become None.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (RunOptions, np.random.RandomState)):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [encode_value(f"{name}[{i}]", part) for i, part in enumerate(value)]
    found = next((n for n, c in known_parts().items() if c is type(value)), None)
    if found is None:
        raise PersistenceError(
            f"{name} must be a plain value or a registered part to be saved; got {value!r}. "
            "Register its class under the entry point group 'palate.parts'."
        )
    # A plain class keeps its constructor's arguments under their names.
    params = value.get_params(deep=False) if hasattr(value, "get_params") else vars(value)
    return {"part": found, "params": {n: encode_value(f"{name}.{n}", v) for n, v in params.items()}}


def decode_value(value: Any) -> Any:
    """Return what :func:`encode_value` wrote."""
    if isinstance(value, list):
        return [decode_value(part) for part in value]
    if not isinstance(value, dict):
        return value
    classes = known_parts()
    if value["part"] not in classes:
        raise PersistenceError(
            f"config.json names the part {value['part']!r}, which is not registered here; "
            f"known are {', '.join(sorted(classes))}."
        )
    return classes[value["part"]](**{n: decode_value(v) for n, v in value["params"].items()})

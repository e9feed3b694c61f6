"""Names to part specs: what a string parameter stands for, and what may replace it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.base import clone

from palate._validation import check_verbs
from palate.encoders.item.bert import BertEncoder
from palate.encoders.item.fusion import Fusion
from palate.encoders.item.ids import IdEncoder
from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.transformer import TransformerEncoder
from palate.exceptions import InvalidParameterError
from palate.ranking.ann import ApproximateRanker
from palate.ranking.exact import CosineRanker
from palate.training.objectives import SampledSoftmaxObjective, SoftmaxObjective


@dataclass(frozen=True)
class Kind:
    """One kind of part: its named defaults, and the verbs that any spec must have."""

    named: dict[str, Callable[[], Any]]
    verbs: tuple[str, ...]


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
        {"softmax": SoftmaxObjective, "sampled_softmax": SampledSoftmaxObjective},
        ("candidates",),
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
    check_verbs(kind, spec, KINDS[kind].verbs, f"one of {names}, or a spec of that kind")
    return clone(spec, safe=False)

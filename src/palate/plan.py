"""What to learn: the parameters of a recommender, checked, with every "auto" resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from palate._options import RunOptions
from palate._parts import resolve_items, resolve_part
from palate._validation import check_choice, check_int, check_real
from palate.defaults import (
    AUTO,
    STANDALONE,
    Settings,
    check_int_or_auto,
    check_real_or_auto,
    fill_spec,
)
from palate.encoders.item.features import check_columns
from palate.exceptions import InvalidParameterError
from palate.ops.similarity import METRICS
from palate.reranking.spec import Reranker


@dataclass(frozen=True)
class Plan:
    """What to learn: resolved parts and checked numbers.

    Attributes
    ----------
    user_encoder, item_encoder, ranker : specs
    objective : Objective or None
        None chooses by the size of the catalogue.
    metric : str
    dim, pretrain_epochs, epochs, batch_size : int
    patience : int or None
    learning_rate, weight_decay, validation_fraction : float
    averaging : float or None
    rehearsal : float or None
        Share of the other users whom learning on repeats; None: see
        :func:`palate.data.rehearsal.meeting`.
    mean_weight, content_weight : float or None
        What the plain averages of a history count in answers; None is chosen by the held-out users.
    user_features : list of str or None
    time_gaps : bool
        Whether the network is told how long after the event before it an event came.
    time_bias : bool
        Whether its attention is told how long after one event another came.
    reranker : Reranker or None
        The second stage.
    """

    user_encoder: Any
    item_encoder: Any
    ranker: Any
    objective: Any
    metric: str
    dim: int
    pretrain_epochs: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    validation_fraction: float
    patience: int | None
    averaging: float | None = None
    rehearsal: float | None = 0.0
    mean_weight: float | None = 0.0
    content_weight: float | None = 0.0
    user_features: list[str] | None = None
    time_gaps: bool = False
    time_bias: bool = False
    reranker: Reranker | None = None


def plan_of(rec: Any, epochs: int | None = None, settings: Settings = STANDALONE) -> Plan:
    """Check the parameters of a recommender and resolve its parts, "auto" to `settings`."""
    check_choice("metric", rec.metric, METRICS)
    if rec.options is not None and not isinstance(rec.options, RunOptions):
        raise InvalidParameterError(f"options must be a RunOptions or None; got {rec.options!r}.")
    dim = check_int_or_auto("dim", rec.dim, minimum=1) or settings.dim
    n_epochs = check_int_or_auto("epochs", rec.epochs if epochs is None else epochs)
    return Plan(
        user_encoder=fill_spec(resolve_part("user_encoder", rec.user_encoder), settings, dim),
        item_encoder=resolve_items(rec),
        ranker=_ranker(rec),
        objective=_objective(rec),
        metric=rec.metric,
        dim=dim,
        pretrain_epochs=check_int("pretrain_epochs", rec.pretrain_epochs),
        epochs=settings.epochs if n_epochs is None else n_epochs,
        batch_size=check_int_or_auto("batch_size", rec.batch_size, minimum=1)
        or settings.batch_size,
        learning_rate=check_real(
            "learning_rate", rec.learning_rate, low=0, low_open=True, high_open=True
        ),
        weight_decay=check_real("weight_decay", rec.weight_decay, low=0, high_open=True),
        averaging=_averaging(rec),
        validation_fraction=check_real(
            "validation_fraction", rec.validation_fraction, low=0, high=1
        ),
        rehearsal=check_real_or_auto("rehearsal", rec.rehearsal, high=1),
        mean_weight=_average_weight(rec, "mean_weight"),
        content_weight=_average_weight(rec, "content_weight"),
        reranker=_reranker(rec),
        patience=None if rec.patience is None else check_int("patience", rec.patience, minimum=1),
        user_features=None
        if rec.user_features is None
        else check_columns("user_features", rec.user_features),
        time_gaps=check_choice("time_gaps", rec.time_gaps, (True, False)),
        time_bias=check_choice("time_bias", rec.time_bias, (True, False)),
    )


def _averaging(rec: Any) -> float | None:
    if rec.averaging is None:
        return None
    return check_real("averaging", rec.averaging, low=0, low_open=True, high_open=True)


def _average_weight(rec: Any, name: str) -> float | None:
    weight = check_real_or_auto(name, getattr(rec, name), high_open=True)
    if weight and rec.metric != "cosine":
        raise InvalidParameterError(
            f"{name} must be 0 or 'auto' unless metric='cosine'; got {getattr(rec, name)!r} and "
            f"metric={rec.metric!r}."
        )
    return weight


def _objective(rec: Any) -> Any:
    if isinstance(rec.objective, str) and rec.objective == AUTO:
        return None
    objective = resolve_part("objective", rec.objective)
    if hasattr(objective, "check_parameters"):
        objective.check_parameters()
    return objective


def _ranker(rec: Any) -> Any:
    ranker = resolve_part("ranker", rec.ranker)
    if isinstance(rec.ranker, str):
        return ranker.set_params(metric=rec.metric)
    if getattr(ranker, "metric", rec.metric) != rec.metric:
        raise InvalidParameterError(
            f"ranker must rank by the metric that is trained, {rec.metric!r}; "
            f"got one that ranks by {ranker.metric!r}."
        )
    return ranker


def _reranker(rec: Any) -> Any:
    if rec.reranker is None:
        return None
    spec = resolve_part("reranker", rec.reranker)
    spec.check_parameters()
    return spec

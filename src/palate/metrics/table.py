"""Metrics of a recommendation table against an event table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from palate.data.checks import missing_values, shown
from palate.data.frames import Events, column, id_column, open_frame, read_events
from palate.data.vocabulary import as_objects
from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.metrics.catalogue import coverage, novelty, popularity
from palate.metrics.ranking import (
    ACCURACY_METRICS,
    check_k,
    check_names,
    find_repeat,
    rank_metrics,
)

METRICS = (*ACCURACY_METRICS, "coverage", "novelty")
# As integers, larger ones would wrap around.
_MOST_RANK = 2**62


def evaluate(
    recommendations: Any,
    truth: Any,
    *,
    k: int | Sequence[int] = 10,
    metrics: Sequence[str] = ("ndcg", "hr"),
    n_items: int | None = None,
    history: Any = None,
) -> dict[str, float]:
    """Score a table of recommendations against the events that came true.

    Parameters
    ----------
    recommendations : pandas, polars or pyarrow table
        Columns ``user_id``, ``item_id`` and ``rank`` (whole numbers from 1) or, where there is no
        ``rank``, ``score`` (greater is better; ties keep the order of rows).
    truth : event table
        Columns ``user_id``, ``item_id``; every event is relevant, a repeat counts once. Times and
        weights do not count; where there are any, they are checked as in every event table.
    k : int or sequence of int, default=10
        List lengths.
    metrics : sequence of str, default=("ndcg", "hr")
        Any of ``hr``, ``recall``, ``precision``, ``ndcg``, ``mrr``, ``map``, ``coverage``,
        ``novelty``. Formulas: `palate.metrics.ranking` and `palate.metrics.catalogue`.
    n_items : int, default=None
        Size of the catalogue; needed for ``coverage``.
    history : event table, default=None
        What the model was trained on; needed for ``novelty``.

    Returns
    -------
    dict of str to float
        ``"<metric>@<k>"`` in the order asked for. Accuracy metrics are means over the users of
        `truth`: one without recommendations counts 0. Rows of users that `truth` does not have
        are not read. Novelty (bits) is the mean over users that have recommendations.

    Raises
    ------
    InvalidInputError
        If a table lacks a column, repeats an item or a rank within a user, holds ids of another
        kind than the other table, or `truth` or `history` is empty.
    InvalidParameterError
        If a metric is unknown, or `n_items` or `history` is needed and not given.

    Examples
    --------
    >>> import pandas as pd
    >>> recommendations = pd.DataFrame(
    ...     {"user_id": ["a", "a", "b"], "item_id": [7, 8, 7], "rank": [1, 2, 1]})
    >>> truth = pd.DataFrame({"user_id": ["a", "b", "c"], "item_id": [8, 7, 7]})
    >>> evaluate(recommendations, truth, k=2, metrics=["hr", "mrr"])
    {'hr@2': 0.6666666666666666, 'mrr@2': 0.5}
    """
    lengths = check_k(k)
    names = check_names(metrics, METRICS)
    _check_needs(names, n_items, history)
    events = _read_some_events(truth, "truth")
    past = _read_some_events(history, "history") if "novelty" in names else None
    rec_users, rec_items, order = _read_recommendations(recommendations)
    users, user_ids = _joint_codes("user_id", truth=events.user_id, recommendations=rec_users)
    items, item_ids = _joint_codes(
        "item_id",
        truth=events.item_id,
        recommendations=rec_items,
        **({} if past is None else {"history": past.item_id}),
    )
    n_users = int(users["truth"].max()) + 1
    listed = users["recommendations"], items["recommendations"], order
    ranked = _rank_matrix(*listed, n_users, max(lengths), user_ids)
    _check_repeats(ranked, user_ids, item_ids)
    indptr, indices = _csr(users["truth"], items["truth"], n_users)
    asked = [name for name in names if name in ACCURACY_METRICS]
    found = rank_metrics(ranked, indptr, indices, k=lengths, metrics=asked)
    if "coverage" in names and n_items is not None:
        found |= {f"coverage@{length}": coverage(ranked, length, n_items) for length in lengths}
    if past is not None:
        found |= _mean_novelties(ranked, lengths, past.user_id, items["history"], len(item_ids))
    return {f"{name}@{length}": found[f"{name}@{length}"] for name in names for length in lengths}


def _check_needs(names: Sequence[str], n_items: int | None, history: Any) -> None:
    if "coverage" in names and n_items is None:
        raise InvalidParameterError(
            "n_items must be the size of the catalogue when metrics name 'coverage'; got None."
        )
    if "novelty" in names and history is None:
        raise InvalidParameterError(
            "history must be the event table of training when metrics name 'novelty'; got None."
        )


def _read_some_events(table: Any, name: str) -> Events:
    events = read_events(table, name, in_order=False)
    if not len(events):
        raise InvalidInputError(f"{name} must hold at least one event; it has no rows.")
    return events


def _read_recommendations(table: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user ids, item ids and a number that sorts each user's rows, from 0 if ranked."""
    name = "recommendations"
    frame = open_frame(table, name)
    users, items = id_column(frame, "user_id", name), id_column(frame, "item_id", name)
    key = "rank" if "rank" in frame.columns else "score"
    values = column(frame, key, name)
    if values.dtype.kind not in "iuf":
        raise InvalidInputError(
            f"column {key!r} of {name} must hold numbers; its type is {values.dtype}."
        )
    lost = missing_values(values)
    if lost.any():
        raise InvalidInputError(
            f"column {key!r} of {name} must hold numbers, none missing; row "
            f"{int(np.flatnonzero(lost)[0])} is nan."
        )
    if key == "score":
        return users, items, _positions_by_score(users, values)
    wrong = (values < 1) | (values != np.floor(values)) | (values >= _MOST_RANK)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InvalidInputError(
            f"column 'rank' of {name} must hold whole numbers of at least 1; row {row} is "
            f"{shown(values[row])}."
        )
    return users, items, values.astype(np.int64) - 1


def _positions_by_score(users: np.ndarray, scores: np.ndarray) -> np.ndarray:
    codes = pd.factorize(users)[0]
    # lexsort is stable. Flipping the bits of whole numbers turns their order round without a loss:
    # negated, an unsigned one would wrap, and as floats large ones would be equal.
    falling = -scores.astype(np.float64) if scores.dtype.kind == "f" else ~scores
    order = np.lexsort((falling, codes))
    counts = np.bincount(codes)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    positions = np.empty(len(codes), dtype=np.int64)
    positions[order] = np.arange(len(codes)) - starts
    return positions


def _joint_codes(name: str, **columns: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return codes that several tables share, by first appearance, and the id of each code."""
    kinds = {table: _kinds(ids) for table, ids in columns.items() if len(ids)}
    if len(kinds) > 1 and not set.intersection(*kinds.values()):
        listed = ", ".join(f"{' and '.join(sorted(k))} in {table}" for table, k in kinds.items())
        raise InvalidInputError(f"column {name!r} must have ids of one kind; it holds {listed}.")
    parts = list(columns.values())
    if len({part.dtype for part in parts}) > 1:
        parts = [as_objects(part) for part in parts]
    codes, ids = pd.factorize(np.concatenate(parts))
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return dict(zip(columns, np.split(codes.astype(np.int64), ends), strict=True)), ids


def _kinds(ids: np.ndarray) -> set[str]:
    if ids.dtype != object:
        return {"numbers" if ids.dtype.kind in "iufb" else type(ids[0]).__name__}
    return {_kind(type_) for type_ in set(map(type, ids))}


def _kind(type_: type) -> str:
    if issubclass(type_, (int, float, np.number)):
        return "numbers"
    return "text" if issubclass(type_, str) else type_.__name__


def _rank_matrix(
    users: np.ndarray,
    items: np.ndarray,
    positions: np.ndarray,
    n_users: int,
    width: int,
    user_ids: np.ndarray,
) -> np.ndarray:
    """Return the items at each user's places; no place is named twice."""
    width = min(width, int(positions.max(initial=-1)) + 1)  # whatever the k
    kept = (users < n_users) & (positions < width)
    users, items, positions = users[kept], items[kept], positions[kept]
    ranked = np.full((n_users, width), -1, dtype=np.int64)
    ranked[users, positions] = items
    if int((ranked >= 0).sum()) < len(items):
        raise _repeats_a_rank(users, positions, width, user_ids)
    return ranked


def _repeats_a_rank(
    users: np.ndarray, positions: np.ndarray, width: int, user_ids: np.ndarray
) -> InvalidInputError:
    row = int(np.flatnonzero(pd.Series(users * width + positions).duplicated())[0])
    return InvalidInputError(
        "column 'rank' of recommendations must not repeat a rank within a user; user "
        f"{_plain(user_ids[users[row]])!r} has rank {int(positions[row]) + 1} twice."
    )


def _check_repeats(ranked: np.ndarray, user_ids: np.ndarray, item_ids: np.ndarray) -> None:
    repeat = find_repeat(ranked)
    if repeat is not None:
        user, item = user_ids[repeat[0]], item_ids[repeat[1]]
        raise InvalidInputError(
            "recommendations must not repeat an item within a user; user "
            f"{_plain(user)!r} has item {_plain(item)!r} twice."
        )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _csr(users: np.ndarray, items: np.ndarray, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(users, kind="stable")
    counts = np.bincount(users, minlength=n_users)
    return np.concatenate([[0], np.cumsum(counts)]), items[order]


def _mean_novelties(
    ranked: np.ndarray, lengths: list[int], user_ids: np.ndarray, items: np.ndarray, n_items: int
) -> dict[str, float]:
    users, ids = pd.factorize(user_ids)
    share = popularity(users, items, n_items)
    found = {}
    for length in lengths:
        values = novelty(ranked, length, share, len(ids))
        values = values[~np.isnan(values)]
        found[f"novelty@{length}"] = float(values.mean()) if len(values) else float("nan")
    return found

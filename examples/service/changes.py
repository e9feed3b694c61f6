"""Changes of a model: events and new items, applied to a copy, alone or many as one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from palate import Recommender
from palate.exceptions import PalateError

# As in the log: {"kind": "events" or "items", "unknown": ..., "columns": {name: [...]}}
Change = dict[str, Any]

# Changes read back from the log are applied as one up to so many rows.
_ROWS_AT_ONCE = 20_000


def rows_of(change: Change) -> int:
    """Return the number of rows of a change."""
    return len(next(iter(change["columns"].values())))


def apply_each(
    model: Recommender, changes: Sequence[Change]
) -> tuple[Recommender, list[Exception | None]]:
    """Return a model with the changes, and for each change the error that kept it out.

    The model given is not changed: a copy shares its arrays, which are replaced, never written to.
    """
    outcomes: list[Exception | None] = []
    for _, group in groupby(changes, key=_form):
        alike = list(group)
        try:
            model = _applied(model, _joined(alike))
            outcomes += [None] * len(alike)
        except Exception as error:
            if len(alike) == 1:
                outcomes.append(error)
                continue
            for change in alike:
                model, alone = apply_each(model, [change])
                outcomes += alone
    return model, outcomes


def replay(model: Recommender, changes: Iterable[Change]) -> tuple[Recommender, int]:
    """Return a model with changes from the log, and the number of rows that do not fit it.

    A row does not fit a newer model if, say, the model knows the item already.
    """
    skipped = 0
    for batch in _batches(changes):
        model, failed = _fitting(model, batch)
        skipped += failed
    return model, skipped


def _fitting(model: Recommender, changes: list[Change]) -> tuple[Recommender, int]:
    """Apply changes of one form in their order, by halves where they do not fit as a whole."""
    try:
        return _applied(model, _joined(changes)), 0
    except PalateError:
        rows = rows_of(changes[0])
        if len(changes) == rows == 1:
            return model, 1
    if len(changes) > 1:
        halves = [changes[: len(changes) // 2], changes[len(changes) // 2 :]]
    else:
        halves = [[_rows(changes[0], 0, rows // 2)], [_rows(changes[0], rows // 2, rows)]]
    model, before = _fitting(model, halves[0])
    model, behind = _fitting(model, halves[1])
    return model, before + behind


def _applied(model: Recommender, change: Change) -> Recommender:
    changed = copy.copy(model)
    table = pd.DataFrame(change["columns"])
    if change["kind"] == "items":
        return changed.add_items(table)
    if "timestamp" in table and table["timestamp"].dtype.kind not in "iuf":
        times = pd.to_datetime(table["timestamp"], utc=True, format="ISO8601")
        table["timestamp"] = times.dt.tz_localize(None)
    return changed.observe(table, on_unsupported_targets=change["unknown"])


def _form(change: Change) -> tuple[Any, ...]:
    """Return what two changes must have in common to be applied as one table."""
    times = change["columns"].get("timestamp", [None])
    return change["kind"], change.get("unknown"), tuple(change["columns"]), type(times[0])


def _joined(changes: Sequence[Change]) -> Change:
    names = changes[0]["columns"]
    columns = {n: [v for change in changes for v in change["columns"][n]] for n in names}
    return {**changes[0], "columns": columns}


def _rows(change: Change, start: int, stop: int) -> Change:
    return {**change, "columns": {n: v[start:stop] for n, v in change["columns"].items()}}


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Yield runs of changes of one form; unknown items of the log are not an error."""
    lenient = (c | {"unknown": "ignore"} if c["kind"] == "events" else c for c in changes)
    for _, group in groupby(lenient, key=_form):
        batch: list[Change] = []
        rows = 0
        for change in group:
            batch.append(change)
            rows += rows_of(change)
            if rows >= _ROWS_AT_ONCE:
                yield batch
                batch, rows = [], 0
        if batch:
            yield batch

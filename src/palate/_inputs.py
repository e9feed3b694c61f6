"""What the estimator is given, turned into codes; nothing is changed until all of it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.data.frames import Events, is_frame, read_events, shown
from palate.data.histories import CodedEvents, sortable_times
from palate.data.items import ItemTable, read_items
from palate.data.vocabulary import Vocabulary, as_id_array
from palate.exceptions import InvalidInputError, MissingContentError


@dataclass(frozen=True)
class Coded:
    """Events in codes, and the vocabularies and content that the codes point to.

    Attributes
    ----------
    events : CodedEvents
    users, items : Vocabulary
        Those known before, and the new ids behind them.
    table : ItemTable
        One row an item.
    """

    events: CodedEvents
    users: Vocabulary
    items: Vocabulary
    table: ItemTable


def is_histories(X: Any) -> bool:
    """Tell whether X is a sequence of histories rather than a table or an array of events."""
    return isinstance(X, (list, tuple)) and not is_frame(X)


def read_interactions(X: Any, name: str = "X") -> Events:
    """Read events from a table, a 2-D array, or a sequence of histories (users 0, 1, …)."""
    if not is_histories(X):
        return read_events(X, name)
    lengths: list[int] = []
    flat: list[Any] = []
    for row, history in enumerate(X):
        if isinstance(history, (str, bytes)) or not hasattr(history, "__iter__"):
            raise InvalidInputError(
                f"{name} must be a table of events or a list of histories, each a list of item "
                f"ids; history {row} is {history!r}."
            )
        events = list(history)
        flat += events
        lengths.append(len(events))
    if not flat:
        raise InvalidInputError(f"{name} must hold at least one event; got none.")
    return Events(np.repeat(np.arange(len(lengths)), lengths), as_id_array(flat))


def code_interactions(
    X: Any,
    items: Any,
    *,
    users: Vocabulary,
    known: Vocabulary,
    table: ItemTable,
    needs_content: bool,
) -> Coded:
    """Read events and item rows, and give every new user and item a code.

    Parameters
    ----------
    X : events in any accepted form
    items : item table, `Items` or None
    users, known : Vocabulary
        Users and items known before.
    table : ItemTable
        Content of the items known before.
    needs_content : bool
        Whether the item encoder reads content: then every item must have a row, and items without
        events join the catalogue too.

    Raises
    ------
    InvalidInputError
        If a table is not usable, or it holds no event.
    MissingContentError
        If content is needed and not given, or an event names an item without a row.
    """
    events = read_interactions(X)
    if not len(events):
        raise InvalidInputError("X must hold at least one event; got none.")
    vocabulary = known
    if items is not None:
        ids, content = read_items(items)
        fresh = known.codes(ids) < 0
        named = Vocabulary(ids)
        _check_named(events, known, named)
        if needs_content:
            vocabulary = known.extend(ids)
            table = table.concatenate(ItemTable(content.frame[fresh])) if len(known) else content
    elif needs_content:
        _check_named(events, known, None)
    if not needs_content:
        vocabulary = known.extend(events.item_id)
        table = ItemTable.without_content(len(vocabulary))
    all_users = users.extend(events.user_id)
    coded = CodedEvents(
        all_users.codes(events.user_id),
        vocabulary.codes(events.item_id),
        sortable_times(events.timestamp),
        events.weight,
    )
    return Coded(coded, all_users, vocabulary, table)


def _check_named(events: Events, known: Vocabulary, named: Vocabulary | None) -> None:
    """Raise where an event names an item that has no row of content."""
    missing = known.codes(events.item_id) < 0
    if named is not None:
        missing &= named.codes(events.item_id) < 0
    if not missing.any():
        return
    row = int(np.flatnonzero(missing)[0])
    value = events.item_id[row]
    if named is None and not len(known):
        raise MissingContentError(
            "items must be given: the item encoder reads the content of items. "
            "Pass items=table, or use item_encoder='id'."
        )
    raise MissingContentError(
        f"items must have a row for every item of X; row {row} of X names {shown(value)}, "
        f"which has none.{_type_hint(events.item_id, named)}"
    )


def _type_hint(item_id: np.ndarray, named: Vocabulary | None) -> str:
    """Say so where no id of the two tables can be equal, "7" and 7 for example."""
    if named is None or not len(named):
        return ""
    of_events, of_items = (
        {type(value).__name__ for value in ids.tolist()} for ids in (item_id, named.array)
    )
    if of_events & of_items:
        return ""
    return (
        f" The ids of X are of type {', '.join(sorted(of_events))}, those of items of type "
        f"{', '.join(sorted(of_items))}."
    )


def code_observed(
    X: Any, users: Vocabulary, items: Vocabulary
) -> tuple[CodedEvents, Vocabulary, np.ndarray]:
    """Read events about known items.

    Returns
    -------
    events : CodedEvents
        Those whose item is known.
    users : Vocabulary
        With the users of those events.
    unknown : ndarray
        Ids of unknown items, each once.
    """
    events = read_interactions(X)
    codes = items.codes(events.item_id)
    known = codes >= 0
    all_users = users.extend(events.user_id[known])
    times = sortable_times(events.timestamp)
    coded = CodedEvents(
        all_users.codes(events.user_id[known]),
        codes[known],
        None if times is None else times[known],
        None if events.weight is None else events.weight[known],
    )
    return coded, all_users, Vocabulary().extend(events.item_id[~known]).array


def code_list(name: str, ids: Sequence[Any] | None, items: Vocabulary) -> tuple[Any, list[Any]]:
    """Return the codes of a list of item ids, or None for None, and the unknown ids."""
    if ids is None:
        return None, []
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__iter__"):
        raise InvalidInputError(f"{name} must be a list of item ids; got {ids!r}.")
    array = as_id_array(ids)
    codes = items.codes(array)
    return np.unique(codes[codes >= 0]), array[codes < 0].tolist()

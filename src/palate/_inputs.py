"""What the estimator is given, turned into codes; nothing is changed until all of it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate._validation import warn_caller
from palate.data.checks import shown, unusable_id
from palate.data.coded import CodedEvents, sortable_times
from palate.data.frames import Events, check_unmasked, is_frame, read_events
from palate.data.items import ItemTable, read_items
from palate.data.lists import given, history_rows, id_list
from palate.data.people import People
from palate.data.vocabulary import Vocabulary, as_id_array
from palate.exceptions import InvalidInputError, MissingContentError, UnreadInputWarning
from palate.queries import Text


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
    people : People or None
        What `user_features` tells of the users.
    """

    events: CodedEvents
    users: Vocabulary
    items: Vocabulary
    table: ItemTable
    people: People | None = None


def is_histories(X: Any) -> bool:
    """Tell whether X is a sequence of histories rather than a table or an array of events."""
    return isinstance(X, (list, tuple)) and not is_frame(X)


def check_form(X: Any, name: str = "X") -> None:
    """Raise unless X is a table, a list of histories, or something like an array.

    What is like an array goes to scikit-learn's checks, which speak of samples and features.
    """
    array = hasattr(X, "__array__") or hasattr(X, "shape")
    check_unmasked(X, name)
    if not (array or is_histories(X) or is_frame(X)):
        raise InvalidInputError(
            f"{name} must be a table with the columns 'user_id' and 'item_id', an array of shape "
            f"(n_events, 2 or more), or a list of histories; got {given(X)}."
        )


def plain_array(X: Any) -> Any:
    """Return numpy's new strings as objects, and numbers in this machine's order of bytes."""
    if isinstance(X, np.ndarray) and X.dtype.kind == "T":
        return X.astype(object)
    if isinstance(X, np.ndarray) and not X.dtype.isnative:
        return X.astype(X.dtype.newbyteorder("="))
    return X


def read_interactions(X: Any, name: str = "X") -> Events:
    """Read events from a table, a 2-D array, or a sequence of histories (users 0, 1, …)."""
    check_form(X, name)
    if not is_histories(X):
        return read_events(plain_array(X), name)
    rows = history_rows(
        X, f"{name} must be a table of events or a list of histories, each a list of item ids"
    )
    if isinstance(X, (list, tuple)) and _looks_like_events(X):
        warn_caller(
            f"{name} is a list of tuples, and each is read as the history of one user. Pass rows "
            "of user, item and time as a table, or as np.array(rows, dtype=object).",
            UnreadInputWarning,
        )
    lengths = np.array([len(row) for row in rows], np.int64)
    flat = [event for row in rows for event in row]
    users, ids = np.repeat(np.arange(len(rows)), lengths), as_id_array(flat)
    bad = unusable_id(ids)
    if bad is not None:
        place, reason = bad
    else:
        place = next((i for i, event in enumerate(flat) if isinstance(event, Text)), -1)
        reason = "hold item ids, and no Text"
    if place >= 0:
        raise InvalidInputError(
            f"{name} must {reason}; history {users[place]} holds {shown(flat[place])}."
        )
    return Events(users, ids)


def _looks_like_events(rows: Sequence[Any]) -> bool:
    """Tell whether all rows are short tuples of one length that mix texts with something else."""
    return (
        all(isinstance(row, tuple) and 2 <= len(row) <= 4 for row in rows)
        and len(set(map(len, rows))) == 1
        and all(len({isinstance(value, str) for value in row}) == 2 for row in rows)
    )


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
    X : events in any accepted form, or None for no event
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
    if X is None:
        events = Events(users.array[:0], known.array[:0])
    elif not len(events := read_interactions(X)):
        raise InvalidInputError("X must hold at least one event; got none.")
    vocabulary = known
    if items is not None:
        ids, content = read_items(items)
        fresh = known.codes(ids) < 0
        named = Vocabulary(ids)
        _check_named(events, known, named, is_histories(X))
        if needs_content:
            if not len(known):
                content.check_writable()
            vocabulary = known.extend(ids)
            table = table.concatenate(ItemTable(content.frame[fresh])) if len(known) else content
    elif needs_content:
        _check_named(events, known, None, is_histories(X))
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


def check_timed(events: CodedEvents, name: str) -> None:
    """Raise unless there are times, for the parameter `name`."""
    if events.times is None:
        raise InvalidInputError(
            f"X must have timestamps with {name}=True: a column 'timestamp' of a table, or the "
            "third column of an array; got none."
        )


def _check_named(
    events: Events, known: Vocabulary, named: Vocabulary | None, in_histories: bool
) -> None:
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
    place = f"history {events.user_id[row]}" if in_histories else f"row {row}"
    raise MissingContentError(
        f"items must have a row for every item of X; {place} of X names {shown(value)}, "
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
    array = id_list(name, ids, "item", ordered=False)
    codes = items.codes(array)
    return np.unique(codes[codes >= 0]), array[codes < 0].tolist()

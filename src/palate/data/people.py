"""What is known about people beside what they did: chosen columns of a table, told as a text."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from palate.data.checks import check_named_once, is_exactly_whole, is_unicode, shown
from palate.data.frames import id_column, open_frame
from palate.data.vocabulary import Vocabulary
from palate.exceptions import InvalidInputError

_MOMENTS = (datetime.date, datetime.time, datetime.timedelta)


class Users:
    """A table of users that cross-validation leaves whole, as :class:`palate.Items` is for items.

    Parameters
    ----------
    table : pandas, polars or pyarrow table
        One row a user, with a column ``user_id`` and columns of attributes.

    Examples
    --------
    >>> users = Users(pd.DataFrame({"user_id": [1], "age": [25]}))
    >>> hasattr(users, "__len__")
    False
    """

    def __init__(self, table: Any) -> None:
        self.table = table


@dataclass(frozen=True)
class People:
    """The attribute text of each user: immutable, so that readers may keep it while it grows.

    Attributes
    ----------
    texts : Vocabulary
        Distinct texts; each is read once.
    codes : int64 ndarray of shape (n_rows,)
        The text of user i, -1 for none; users beyond it have none.

    Examples
    --------
    >>> people = People().told(np.array([2, 0]), ["age: 25", "age: 25"])
    >>> people.of(np.array([0, 1, 2, 9])).tolist(), people.texts.array.tolist()
    ([0, -1, 0, -1], ['age: 25'])
    """

    texts: Vocabulary = field(default_factory=Vocabulary)
    codes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def of(self, users: np.ndarray) -> np.ndarray:
        """Return the code of each user's text, -1 for none."""
        if not len(self.codes):
            return np.full(len(users), -1, np.int64)
        known = (users >= 0) & (users < len(self.codes))
        return np.where(known, self.codes[np.where(known, users, 0)], -1)

    def told(self, users: np.ndarray, texts: Sequence[str]) -> People:
        """Return these people with the texts of some users set or replaced; "" takes one away."""
        array = np.array(texts, dtype=object)
        known = self.texts.extend(array[array != ""])
        size = max(len(self.codes), int(users.max(initial=-1)) + 1)
        codes = np.full(size, -1, np.int64)
        codes[: len(self.codes)] = self.codes
        codes[users] = np.where(array == "", -1, known.codes(array))
        return People(known, codes)


def changed_places(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the users whose codes differ; those beyond either array have -1.

    Examples
    --------
    >>> changed_places(np.array([0, 1, -1]), np.array([0, 2, -1, -1, 3])).tolist()
    [1, 4]
    """
    shared = min(len(before), len(after))
    rest = before[shared:] if len(before) > shared else after[shared:]
    return np.concatenate(
        [np.flatnonzero(before[:shared] != after[:shared]), shared + np.flatnonzero(rest != -1)]
    )


def add_people(
    before: People | None, table: Any, columns: Sequence[str] | None, users: Vocabulary
) -> tuple[People | None, Vocabulary]:
    """Read a users table, and give everybody of whom it tells something a code.

    Parameters
    ----------
    before : People or None
        Those known; None at the first time.
    table : pandas, polars or pyarrow table, Users or None
    columns : list of str or None
        What `user_features` names.
    users : Vocabulary
        Known users, those with events among them.

    Returns
    -------
    people : People or None
        None where `columns` is.
    users : Vocabulary
        The known users, and behind them those of the table alone who have an attribute.

    Raises
    ------
    InvalidInputError
        If there is a table and no columns, the first time columns and no table, or a table that
        cannot be used.
    """
    if columns is None:
        if table is not None:
            raise InvalidInputError(
                "users must be None unless user_features names columns of it; got "
                f"{type(table).__name__}."
            )
        return None, users
    if table is None:
        if before is None:
            raise InvalidInputError(
                f"users must be given: user_features={list(columns)!r} names columns of it. Pass "
                "users=table."
            )
        return before, users
    ids, texts = read_users(table, columns)
    told = np.array([text != "" for text in texts], dtype=bool)
    if before is None and not (users.codes(ids[told]) >= 0).any():
        raise InvalidInputError(
            "users must hold an attribute of at least one user of X; got none."
            + _type_hint(users.array, ids)
        )
    users = users.extend(ids[told])
    codes = users.codes(ids)
    rows = np.flatnonzero(codes >= 0)  # of somebody unknown, nothing is nothing
    people = People() if before is None else before
    return people.told(codes[rows], [texts[row] for row in rows.tolist()]), users


def read_users(
    users: Any, columns: Sequence[str], name: str = "users"
) -> tuple[np.ndarray, list[str]]:
    """Read the ids of a users table, and chosen columns of each row as one text.

    Parameters
    ----------
    users : pandas, polars or pyarrow table, or Users
    columns : sequence of str
        In the order in which they are told.
    name : str, default="users"
        What errors call the table.

    Returns
    -------
    ids : ndarray of shape (n_rows,)
    texts : list of str
        Such as ``"age: 25; occupation: student"``; missing and empty values are left out.

    Raises
    ------
    InvalidInputError
        If a column is absent, ``user_id`` has missing values or names a user twice, or a value is
        no text, number, bool, time or list of those.

    Examples
    --------
    >>> table = pd.DataFrame({"user_id": ["a", "b"], "age": [25, None], "job": ["baker", ""]})
    >>> read_users(table, ["age", "job"])[1]
    ['age: 25; job: baker', '']
    """
    frame = open_frame(users.table if isinstance(users, Users) else users, name)
    ids = id_column(frame, "user_id", name)
    check_named_once(ids, "user", name)
    for column in columns:
        if column not in frame.columns:
            raise InvalidInputError(
                f"{name} must have the column {column!r} that user_features names; its columns are "
                f"{', '.join(map(repr, frame.columns)) or 'none'}."
            )
    told = [_told(frame.get_column(column).to_list(), column, name) for column in columns]
    rows = zip(*told, strict=True)
    return ids, ["; ".join(part for part in row if part) for row in rows]


def _told(values: list[Any], column: str, table: str) -> list[str]:
    """Return ``column: value`` for each row, "" for a missing one."""
    out = []
    for row, value in enumerate(values):
        text = _as_text(value)
        if text is None or not is_unicode(text):
            reason = (
                "texts, numbers, bools, times or lists of those"
                if text is None
                else "text without lone surrogates"
            )
            raise InvalidInputError(
                f"column {column!r} of {table} must hold {reason}; row {row} is {shown(value)}."
            )
        out.append(f"{column}: {text}" if text else "")
    return out


def _as_text(value: Any) -> str | None:
    """Return a value in words, "" for a missing one, or None for what has no words."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, (list, tuple, np.ndarray)):
        parts = [_as_text(part) for part in value] if np.ndim(value) <= 1 else [None]
        return None if None in parts else ", ".join(filter(None, parts))
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, (Real, Decimal)):
        number = float(value)
        if np.isnan(number):
            return ""
        # A missing value makes a column of floats: those that are whole are told as integers.
        return str(int(number)) if is_exactly_whole(number) else f"{number:.6g}"
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return "" if np.isnat(value) else str(value)
    return str(value) if isinstance(value, _MOMENTS) else None


def _type_hint(of_events: np.ndarray, of_users: np.ndarray) -> str:
    """Say so where no id of the two tables can be equal, "7" and 7 for example."""
    kinds = [{type(value).__name__ for value in ids.tolist()} for ids in (of_events, of_users)]
    if not kinds[1] or kinds[0] & kinds[1]:
        return ""
    named = [", ".join(sorted(kind)) for kind in kinds]
    return f" The ids of X are of type {named[0]}, those of users of type {named[1]}."

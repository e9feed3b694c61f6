"""Any data frame in and out, through narwhals; 2-D arrays by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.exceptions import DuplicateError

from palate._validation import warn_caller
from palate.data.checks import check_ids, check_times, check_weights, shown
from palate.exceptions import InvalidInputError, UnreadInputWarning

__all__ = [
    "Events",
    "as_rows",
    "check_ids",
    "check_unmasked",
    "collected",
    "column",
    "id_column",
    "is_frame",
    "is_lazy",
    "make_frame",
    "native_namespace",
    "open_frame",
    "read_events",
    "shown",
]

TIMESTAMP_NAMES = ("timestamp", "datetime")


@dataclass(frozen=True)
class Events:
    """Columns of an event table, row by row as they were given.

    Attributes
    ----------
    user_id, item_id : ndarray of shape (n_events,)
        Ids in the table's own types.
    timestamp : ndarray of shape (n_events,) or None
        Numbers or datetimes: anything that sorts.
    weight : float32 ndarray of shape (n_events,) or None
    """

    user_id: np.ndarray
    item_id: np.ndarray
    timestamp: np.ndarray | None = None
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user_id)


def is_frame(X: Any) -> bool:
    """Tell whether narwhals can read `X` as a table."""
    try:
        return isinstance(nw.from_native(X, pass_through=True), (nw.DataFrame, nw.LazyFrame))
    except DuplicateError:  # a table, which `open_frame` refuses
        return True


def open_frame(X: Any, name: str = "X") -> nw.DataFrame[Any]:
    """Wrap a pandas, polars or pyarrow table (lazy polars frames are collected)."""
    try:
        frame = nw.from_native(X, pass_through=True)
    except DuplicateError as error:
        names = [str(column) for column in getattr(X, "column_names", X.columns)]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError(
            f"{name} must have columns of distinct names; {names.count(twice)} are named {twice!r}."
        ) from error
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, nw.DataFrame):
        raise InvalidInputError(
            f"{name} must be a pandas, polars or pyarrow table; got {type(X).__name__}."
        )
    return frame


def is_lazy(X: Any) -> bool:
    """Tell whether `X` is a table whose rows are yet to be computed."""
    try:
        return isinstance(nw.from_native(X, pass_through=True), nw.LazyFrame)
    except DuplicateError:  # a table, which `open_frame` refuses
        return False


def collected(X: Any) -> Any:
    """Return a lazy table as one that is held: each run of its query may order rows anew."""
    return open_frame(X).to_native() if is_lazy(X) else X


def as_rows(X: Any) -> np.ndarray:
    """Return what is like an array as one; lists of texts and numbers keep both as they are.

    Examples
    --------
    >>> as_rows([("a", 7), ("b", 8)])
    array([['a', 7],
           ['b', 8]], dtype=object)
    """
    array = np.asarray(X)
    if array.dtype.kind not in "US" or isinstance(X, np.ndarray):
        return array
    plain = np.asarray(X, dtype=object)
    return array if all(isinstance(value, (str, bytes)) for value in plain.flat) else plain


def column(frame: nw.DataFrame[Any], name: str, table: str = "X") -> np.ndarray:
    """Return one column as an array, or say which columns there are."""
    if name not in frame.columns:
        raise InvalidInputError(
            f"{table} must have a column {name!r}; its columns are "
            f"{', '.join(map(repr, frame.columns)) or 'none'}."
        )
    values = np.asarray(frame.get_column(name).to_numpy())
    # NumPy's strings drop zeros at the end: "a" and "a\0" would be one id.
    return _objects(frame, name) if values.dtype.kind in "UST" else values


def _objects(frame: nw.DataFrame[Any], name: str) -> np.ndarray:
    values = frame.get_column(name).to_list()
    return np.fromiter(values, dtype=object, count=len(values))


def id_column(frame: nw.DataFrame[Any], name: str, table: str = "X") -> np.ndarray:
    """Return a column of ids, checked; times with a zone stay objects, which keep it."""
    if name in frame.columns and getattr(frame.schema[name], "time_zone", None) is not None:
        return check_ids(_objects(frame, name), name, table)
    return check_ids(column(frame, name, table), name, table)


def read_events(X: Any, name: str = "X", *, in_order: bool = True) -> Events:
    """Read the event columns of a table or of a 2-D array.

    Parameters
    ----------
    X : pandas, polars or pyarrow table, or array-like of shape (n_events, 2 or more)
        A table has the columns ``user_id``, ``item_id`` and optionally ``timestamp`` (or
        ``datetime``) and ``weight``; an array holds user, item and optionally time by position.
        Times are numbers, datetimes, or ISO 8601 texts.
    name : str, default="X"
        What errors call the table.
    in_order : bool, default=True
        Whether the order of the events counts, so that dates which are not read are warned of.

    Returns
    -------
    Events

    Raises
    ------
    InvalidInputError
        If a column is absent, holds missing values or does not have a usable type.

    Examples
    --------
    >>> import pandas as pd
    >>> read_events(pd.DataFrame({"user_id": ["a"], "item_id": [3]})).item_id
    array([3])
    """
    if not is_frame(X):
        return _events_from_array(X, name)
    frame = open_frame(X, name)
    users = id_column(frame, "user_id", name)
    items = id_column(frame, "item_id", name)
    times = next((column(frame, c, name) for c in TIMESTAMP_NAMES if c in frame.columns), None)
    if in_order and times is None:
        _warn_of_unread_times(frame, name)
    weights = column(frame, "weight", name) if "weight" in frame.columns else None
    return Events(users, items, check_times(times, name), check_weights(weights, name))


def _warn_of_unread_times(frame: nw.DataFrame[Any], name: str) -> None:
    """Warn where the order of rows will count, and a column of dates will not."""
    dated = [
        column
        for column, kind in frame.schema.items()
        if kind in (nw.Datetime, nw.Date) and column not in ("user_id", "item_id")
    ]
    if dated:
        warn_caller(
            f"{name} has no column 'timestamp', so the order of its rows is the order of time; the "
            f"dates of column {dated[0]!r} are not read. Rename it to 'timestamp' if they should "
            "count.",
            UnreadInputWarning,
        )


def check_unmasked(X: Any, name: str) -> None:
    """Raise where an array hides some of its values."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise InvalidInputError(f"{name} must have no masked values; got {int(X.mask.sum())}.")


def _events_from_array(X: Any, name: str) -> Events:
    check_unmasked(X, name)
    shape: tuple[int, ...] | str = "that differs from row to row"
    try:
        array = as_rows(X)
        shape = array.shape
    except ValueError:  # lists of several lengths
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] < 2:
        raise InvalidInputError(
            f"{name} must be a table with the columns 'user_id' and 'item_id', or an array of "
            f"shape (n_events, 2 or more); got {type(X).__name__} of shape {shape}."
        )
    times = array[:, 2] if array.shape[1] > 2 else None
    return Events(
        check_ids(array[:, 0], "user_id", name),
        check_ids(array[:, 1], "item_id", name),
        check_times(times, name),
    )


def native_namespace(X: Any) -> ModuleType:
    """Return the library that a table belongs to (pandas for anything that is not a table)."""
    if is_frame(X):
        return nw.from_native(X).__native_namespace__()  # type: ignore[no-any-return]
    import pandas as pd

    return pd


def make_frame(columns: Mapping[str, np.ndarray], namespace: ModuleType) -> Any:
    """Build a table of the library `namespace` from named arrays."""
    if namespace.__name__ == "pandas":
        return namespace.DataFrame(dict(columns))
    plain = {name: _as_column(name, values, namespace) for name, values in columns.items()}
    return nw.from_dict(plain, backend=namespace).to_native()


def _as_column(name: str, values: np.ndarray, namespace: ModuleType) -> Any:
    if values.dtype != object:
        return values
    types = {type(value).__name__ for value in values}
    if len(types) > 1:
        raise InvalidInputError(
            f"column {name!r} of a table of {namespace.__name__} must have values of one type; "
            f"it would hold {' and '.join(sorted(types))}."
        )
    # Without a value to go by, a column of objects would have the type "null".
    return values.tolist() if len(values) else np.empty(0, dtype=str)

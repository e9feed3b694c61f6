"""Any data frame in and out, through narwhals; 2-D arrays by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from palate.exceptions import InvalidInputError

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
    return isinstance(nw.from_native(X, pass_through=True), (nw.DataFrame, nw.LazyFrame))


def open_frame(X: Any, name: str = "X") -> nw.DataFrame[Any]:
    """Wrap a pandas, polars or pyarrow table (lazy polars frames are collected)."""
    frame = nw.from_native(X, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, nw.DataFrame):
        raise InvalidInputError(
            f"{name} must be a pandas, polars or pyarrow table; got {type(X).__name__}."
        )
    return frame


def column(frame: nw.DataFrame[Any], name: str, table: str = "X") -> np.ndarray:
    """Return one column as an array, or say which columns there are."""
    if name not in frame.columns:
        raise InvalidInputError(
            f"{table} must have a column {name!r}; its columns are "
            f"{', '.join(map(repr, frame.columns))}."
        )
    values = np.asarray(frame.get_column(name).to_numpy())
    return values.astype(object) if values.dtype.kind in "US" else values


def check_ids(ids: np.ndarray, name: str, table: str = "X") -> np.ndarray:
    """Return ids as a 1-D array in which every value is a scalar and none is missing."""
    if ids.dtype.kind in "US":
        ids = ids.astype(object)
    missing = _missing(ids)
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise InvalidInputError(
            f"column {name!r} of {table} must have no missing values; "
            f"row {row} is {shown(ids[row])}."
        )
    return ids


def shown(value: Any) -> str:
    """Write a value for an error message, without numpy's type around it."""
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return str(value)
    return repr(value.item() if isinstance(value, np.generic) else value)


def _missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "Mm":
        return np.isnat(values)
    if values.dtype == object:
        import pandas as pd

        return np.asarray(pd.isna(values), dtype=bool)
    return np.zeros(len(values), dtype=bool)


def read_events(X: Any, name: str = "X") -> Events:
    """Read the event columns of a table or of a 2-D array.

    Parameters
    ----------
    X : pandas, polars or pyarrow table, or array-like of shape (n_events, 2 or more)
        A table has the columns ``user_id``, ``item_id`` and optionally ``timestamp`` (or
        ``datetime``) and ``weight``; an array holds user, item and optionally time by position.
    name : str, default="X"
        What errors call the table.

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
    users = check_ids(column(frame, "user_id", name), "user_id", name)
    items = check_ids(column(frame, "item_id", name), "item_id", name)
    times = next((column(frame, c, name) for c in TIMESTAMP_NAMES if c in frame.columns), None)
    weights = column(frame, "weight", name) if "weight" in frame.columns else None
    return Events(users, items, _check_times(times, name), _check_weights(weights, name))


def _events_from_array(X: Any, name: str) -> Events:
    array = np.asarray(X)
    if array.ndim != 2 or array.shape[1] < 2:
        raise InvalidInputError(
            f"{name} must be a table with the columns 'user_id' and 'item_id', or an array of "
            f"shape (n_events, 2 or more); got {type(X).__name__} of shape {array.shape}."
        )
    times = array[:, 2] if array.shape[1] > 2 else None
    if times is not None and times.dtype == object:
        times = np.asarray(times.tolist())
    return Events(
        check_ids(array[:, 0], "user_id", name),
        check_ids(array[:, 1], "item_id", name),
        _check_times(times, name),
    )


def _check_times(times: np.ndarray | None, name: str) -> np.ndarray | None:
    if times is None:
        return None
    if times.dtype == object:
        import pandas as pd

        numbers = np.asarray(times.tolist())
        if numbers.dtype.kind in "iuf":
            return check_ids(numbers, "timestamp", name)
        try:
            times = pd.to_datetime(pd.Series(times), utc=True).dt.tz_localize(None).to_numpy()
        except (ValueError, TypeError) as error:
            raise InvalidInputError(
                f"column 'timestamp' of {name} must hold numbers or datetimes; "
                f"row 0 is {shown(times[0])}."
            ) from error
    if times.dtype.kind not in "iufMmb":
        raise InvalidInputError(
            f"column 'timestamp' of {name} must hold numbers or datetimes; "
            f"its type is {times.dtype}."
        )
    times = check_ids(times, "timestamp", name)
    if times.dtype.kind == "M":
        _check_years(times, name)
    return times


def _check_years(times: np.ndarray, name: str) -> None:
    # Histories count nanoseconds, which numpy would wrap around without a word.
    years = times.astype("M8[Y]").astype(int) + 1970
    bad = (years < 1678) | (years > 2261)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InvalidInputError(
            f"column 'timestamp' of {name} must hold datetimes between 1678 and 2261; "
            f"row {row} is {times[row]}."
        )


def _check_weights(weights: np.ndarray | None, name: str) -> np.ndarray | None:
    if weights is None:
        return None
    try:
        numbers = weights.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"column 'weight' of {name} must hold numbers; its type is {weights.dtype}."
        ) from error
    bad = ~np.isfinite(numbers) | (numbers < 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InvalidInputError(
            f"column 'weight' of {name} must hold finite numbers of at least 0; "
            f"row {row} is {shown(weights[row])}."
        )
    return numbers


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
    plain = {name: _as_column(values) for name, values in columns.items()}
    return nw.from_dict(plain, backend=namespace).to_native()


def _as_column(values: np.ndarray) -> Any:
    if values.dtype != object:
        return values
    # Without a value to go by, a column of objects would have the type "null".
    return values.tolist() if len(values) else np.empty(0, dtype=str)

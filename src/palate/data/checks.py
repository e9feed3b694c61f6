"""Columns of ids, times and weights: what is accepted, and which row is not."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from palate.exceptions import InvalidInputError

# An id can be a text of any length; a message quotes its beginning.
_LONGEST = 200
#: Whole numbers up to here are floats too; beyond, a float is several of them.
EXACT_FLOAT = 2**53
_LARGEST_TIME = np.iinfo(np.int64).max
_LARGEST_WEIGHT = float(np.finfo(np.float32).max)
# ISO 8601 with an offset: "…T12:00+02:00", "… 12:00Z".
_ZONED = r"^[^T ]*[T ].*(?:Z|[+-]\d{2}(?::?\d{2})?)$"


def is_exactly_whole(number: float) -> bool:
    """Tell whether a float is a whole number, and that one alone.

    Examples
    --------
    >>> is_exactly_whole(2001.0), is_exactly_whole(0.5), is_exactly_whole(2.0**60)
    (True, False, False)
    """
    return number.is_integer() and abs(number) <= EXACT_FLOAT


def shown(value: Any) -> str:
    """Write a value for an error message, without numpy's type around it and not too long.

    Examples
    --------
    >>> shown(np.int64(3))
    '3'
    """
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return str(value)
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class Unusable(NamedTuple):
    """An id that cannot be used: its row, and what ids must be instead."""

    row: int
    reason: str


def check_ids(ids: np.ndarray, name: str, table: str = "X") -> np.ndarray:
    """Return ids as a 1-D array in which every value is a scalar and none is missing."""
    if ids.dtype.kind in "UST":
        ids = ids.astype(object)
    if ids.dtype.kind == "f" and ids.dtype.itemsize not in (4, 8):  # which no index has
        ids = ids.astype(np.float64)
    bad = unusable_id(ids)
    if bad is not None:
        raise InvalidInputError(
            f"column {name!r} of {table} must {bad.reason}; row {bad.row} is {shown(ids[bad.row])}."
        )
    return ids


def check_named_once(ids: np.ndarray, what: str, table: str) -> None:
    """Raise if a table of users or items (`what`) names one of them twice."""
    twice = pd.Series(ids).duplicated().to_numpy()
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        raise InvalidInputError(
            f"column '{what}_id' of {table} must name each {what} once; row {row} repeats "
            f"{shown(ids[row])}."
        )


def unusable_id(ids: np.ndarray, *, missing: bool = True) -> Unusable | None:
    """Find an id that is missing, cannot be looked up, or cannot be written, if there is one.

    Examples
    --------
    >>> unusable_id(np.array(["a", None], dtype=object))
    Unusable(row=1, reason='have no missing values')
    """
    lost = missing_values(ids) if missing else np.zeros(0, bool)
    if lost.any():
        return Unusable(int(np.flatnonzero(lost)[0]), "have no missing values")
    return _unusable_object(ids) if ids.dtype == object else None


def missing_values(values: np.ndarray) -> np.ndarray:
    """Tell which values are missing: NaN, NaT, None, NA."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "Mm":
        return np.isnat(values)
    if values.dtype == object:
        return np.asarray(pd.isna(values), dtype=bool)
    return np.zeros(len(values), dtype=bool)


def _unusable_object(ids: np.ndarray) -> Unusable | None:
    kinds = {type(value) for value in ids}
    unhashable = tuple(kind for kind in kinds if kind.__hash__ is None)
    if unhashable:
        row = _first(ids, lambda value: isinstance(value, unhashable))
        return Unusable(row, "hold hashable scalars")
    texts = any(issubclass(kind, str) for kind in kinds)
    if texts and not is_unicode("".join(value for value in ids if isinstance(value, str))):
        row = _first(ids, lambda value: isinstance(value, str) and not is_unicode(value))
        return Unusable(row, "hold text without lone surrogates")
    return None


def is_unicode(text: str) -> bool:
    """Tell whether UTF-8 can write a text: it cannot write half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _first(values: np.ndarray, test: Callable[[Any], bool]) -> int:
    return next(row for row, value in enumerate(values) if test(value))


# ---- times


def check_times(times: np.ndarray | None, table: str) -> np.ndarray | None:
    """Return times as numbers or datetimes without a zone (those with one as instants of UTC).

    Parameters
    ----------
    times : ndarray of shape (n_events,) or None
        Numbers, datetimes, durations, or objects: numbers, datetimes, or ISO 8601 texts.
    table : str
        What errors call the table.

    Raises
    ------
    InvalidInputError
        If a time is missing, cannot be read, is infinite or too large, or is of another kind
        than the others: a number among datetimes, one without a time zone among those with one.
    """
    if times is None:
        return None
    if times.dtype == object:
        times = _read_objects(times, table)
    if times.dtype.kind not in "iufMmb":
        raise InvalidInputError(
            f"column 'timestamp' of {table} must hold numbers or datetimes; "
            f"its type is {times.dtype}."
        )
    times = check_ids(times, "timestamp", table)
    if times.dtype.kind == "M":
        _check_years(times, table)
    elif times.dtype.kind == "m":  # as nanoseconds they would wrap around without a word
        _check_durations(times, table)
    elif times.dtype.kind == "f":
        _refuse(np.isinf(times), times, "finite numbers", table)
    elif times.dtype.kind == "u":  # as int64 they would wrap around without a word
        _refuse(times > _LARGEST_TIME, times, "numbers below 2**63", table)
    return times


def _read_objects(times: np.ndarray, table: str) -> np.ndarray:
    """Read a column of objects, which must be of one kind."""
    if not len(times):
        return np.empty(0, np.int64)
    check_ids(times, "timestamp", table)
    kinds = {kind: _time_kind(kind) for kind in {type(value) for value in times}}
    unknown = np.array([kinds[type(value)] == "" for value in times])
    _refuse(unknown, times, "numbers or datetimes", table)
    if len(set(kinds.values())) > 1:
        first = kinds[type(times[0])]
        row = _first(times, lambda value: kinds[type(value)] != first)
        raise InvalidInputError(
            f"column 'timestamp' of {table} must hold times of one kind; row 0 is "
            f"{shown(times[0])} and row {row} is {shown(times[row])}."
        )
    kind = kinds[type(times[0])]
    if kind == "number":
        numbers = np.asarray(times.tolist())
        if numbers.dtype == object:
            large = np.array([abs(value) > _LARGEST_TIME for value in times])
            _refuse(large, times, "numbers below 2**63", table)
        return numbers
    return _read_moments(times, table, text=kind == "text")


def _time_kind(kind: type) -> str:
    if issubclass(kind, str):
        return "text"
    if issubclass(kind, (datetime.date, np.datetime64)):
        return "moment"
    return "number" if issubclass(kind, (int, float, np.number, np.bool_)) else ""


def _read_moments(times: np.ndarray, table: str, *, text: bool) -> np.ndarray:
    if text:
        zoned = pd.Series(times, dtype=object).str.contains(_ZONED).to_numpy(dtype=bool)
    else:
        zoned = np.array([getattr(value, "tzinfo", None) is not None for value in times])
    if zoned.any() and not zoned.all():
        row = int(np.flatnonzero(zoned != zoned[0])[0])
        raise InvalidInputError(
            f"column 'timestamp' of {table} must hold datetimes that all have a time zone, or "
            f"none of them; row 0 is {shown(times[0])} and row {row} is {shown(times[row])}."
        )
    # Other forms than ISO 8601 would be guessed: 01/02 as January or as February.
    form = {"format": "ISO8601"} if text else {}
    series = pd.Series(times, dtype=object)
    read = pd.to_datetime(series, utc=True, errors="coerce", **form)
    words = series.isin(["now", "today"]).to_numpy() if text else np.zeros(len(times), bool)
    _refuse(read.isna().to_numpy() | words, times, "numbers or datetimes", table)
    return np.asarray(read.dt.tz_localize(None).to_numpy())


def _refuse(bad: np.ndarray, times: np.ndarray, accepted: str, table: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InvalidInputError(
            f"column 'timestamp' of {table} must hold {accepted}; row {row} is {shown(times[row])}."
        )


def _check_durations(times: np.ndarray, table: str) -> None:
    unit = np.datetime_data(times.dtype)[0]
    if unit in ("W", "D", "h", "m", "s", "ms", "us"):
        # As a float: durations themselves are compared in nanoseconds.
        one = np.ones(1, times.dtype).astype("m8[ns]").astype(np.int64)
        far = np.abs(times.astype(np.int64).astype(np.float64)) * one >= float(_LARGEST_TIME)
        _refuse(far, times, "durations below 2**63 nanoseconds", table)


def _check_years(times: np.ndarray, table: str) -> None:
    # Histories count nanoseconds, which numpy would wrap around without a word.
    years = times.astype("M8[Y]").astype(int) + 1970
    bad = (years < 1678) | (years > 2261)
    _refuse(bad, times, "datetimes between 1678 and 2261", table)


# ---- weights


def check_weights(weights: np.ndarray | None, table: str) -> np.ndarray | None:
    """Return weights as float32: finite numbers of at least 0."""
    if weights is None:
        return None
    if weights.dtype == object:
        weights = _plain_numbers(weights)
    if weights.dtype.kind not in "iufb":
        raise InvalidInputError(
            f"column 'weight' of {table} must hold numbers; its type is {weights.dtype}."
        )
    wide = weights.astype(np.float64)
    bad = ~np.isfinite(wide) | (wide < 0)
    accepted = "finite numbers of at least 0"
    if not bad.any():
        bad, accepted = wide > _LARGEST_WEIGHT, f"numbers of at most {_LARGEST_WEIGHT:.4g}"
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InvalidInputError(
            f"column 'weight' of {table} must hold {accepted}; row {row} is {shown(weights[row])}."
        )
    return wide.astype(np.float32)


def _plain_numbers(weights: np.ndarray) -> np.ndarray:
    """Return objects as floats if all are numbers or missing; texts of digits are no numbers."""
    missing = missing_values(weights)
    if all(isinstance(value, Real) for value in weights[~missing]):
        return np.where(missing, np.nan, weights).astype(np.float64)
    return weights

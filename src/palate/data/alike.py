"""New values of a column in the type of the old ones: it stays a column of one type."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from palate.data.checks import shown
from palate.exceptions import InvalidInputError

# Old values that are looked at.
_ENOUGH = 1_000
_NUMBERS = (int, float, Decimal, np.number)


def as_before(old: pd.Series, new: pd.Series, name: str) -> pd.Series:
    """Return new values of a column of items in the type of the old ones.

    Dates may come as ISO 8601 texts, and numbers as decimals; a number among texts is a text; what
    is missing is missing in the type of the column.

    Raises
    ------
    InvalidInputError
        If a value among dates, durations or numbers is of another kind: no file could hold both.

    Examples
    --------
    >>> days = pd.Series(pd.to_datetime(["2024-01-01"]))
    >>> as_before(days, pd.Series(["2024-05-01", None]), "day").dt.month.tolist()
    [5.0, nan]
    """
    if old.dtype == new.dtype and new.dtype != object:
        return new
    kind = getattr(old.dtype, "kind", "O")
    if kind in "Mm":
        return _checked(old, new, name, _as_times(old, new))
    if kind in "iuf":
        return _checked(old, new, name, _as_numbers(new))
    known = old.dropna().head(_ENOUGH)
    if len(known) and all(isinstance(value, str) for value in known):
        words = [str(v) if isinstance(v, _NUMBERS) and not pd.isna(v) else v for v in new]
        return pd.Series(words, index=new.index, dtype=object) if words != list(new) else new
    return new


def _as_times(old: pd.Series, new: pd.Series) -> pd.Series:
    plain = new.where([not isinstance(v, (bool, int, float, np.number)) for v in new], None)
    if old.dtype.kind == "m":
        return pd.to_timedelta(plain, errors="coerce")
    times = pd.to_datetime(plain, errors="coerce", utc=True)
    return times.dt.tz_convert(getattr(old.dtype, "tz", None))


def _as_numbers(new: pd.Series) -> pd.Series:
    if getattr(new.dtype, "kind", "O") in "iuf":
        return new
    plain = new.where([not isinstance(v, (bool, str)) for v in new], None)
    return plain.map(as_float, na_action="ignore").astype(np.float64)


def as_float(value: Any) -> float:
    """Return a value as a float, NaN where it is no number or no float reaches it."""
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return np.nan


def _checked(old: pd.Series, new: pd.Series, name: str, made: pd.Series) -> pd.Series:
    bad = np.flatnonzero(made.isna().to_numpy() & new.notna().to_numpy())
    if len(bad):
        raise _unlike(old, new, name, int(bad[0]))
    return made


def _unlike(old: pd.Series, new: pd.Series, name: str, row: int) -> InvalidInputError:
    known = old.dropna()
    example = f", such as {shown(known.iloc[0])}" if len(known) else ""
    return InvalidInputError(
        f"column {name!r} of items must hold values like those of the items learned before"
        f"{example}; row {row} holds {shown(new.iloc[row])}."
    )

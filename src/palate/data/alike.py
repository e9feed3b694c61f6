"""New values of a column in the type of the old ones: it stays a column of one type."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.checks import is_exactly_whole, shown
from palate.exceptions import InvalidInputError

# Old values that are looked at.
_ENOUGH = 1_000
_NUMBERS = (int, float, Decimal, np.number)
#: What a cell of several labels may be.
LISTS = (list, tuple, np.ndarray, set, frozenset)
_IN_ORDER = (list, tuple, np.ndarray)
_NOTHING = (float, np.floating, type(None), type(pd.NA), type(pd.NaT))


def as_before(old: pd.Series, new: pd.Series, name: str) -> pd.Series:
    """Return new values of a column of items in the type of the old ones.

    Dates may come as ISO 8601 texts, and numbers as decimals; a number among texts is a text, and
    a label among lists a list of one; what is missing is missing in the type of the column.

    Raises
    ------
    InvalidInputError
        If a value is of another kind than the column's: no file could hold both.

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
    known = _known(old)
    if kind in "fO" and not len(known) and not isinstance(old.dtype, pd.CategoricalDtype):
        return new  # of an empty column, nothing is known but that a file made floats of it
    if kind in "iuf":
        return _checked(old, new, name, _as_numbers(new))
    kinds = {_kind_of(value) for value in known}
    made = new if len(kinds) != 1 or kinds == {""} else _of_kind(old, new, name, *kinds)
    return _checked_writable(old, made, name)


def _known(old: pd.Series) -> pd.Series:
    """Return some of the values, the first ones if any of these tells what a column holds."""
    for some in (old.iloc[:_ENOUGH], old):
        there = some.dropna()
        telling = there[[not _is_empty_list(value) for value in there]]
        if len(telling):
            return telling.head(_ENOUGH)
    return there.head(_ENOUGH)


def _kind_of(value: Any) -> str:
    """Name what a column of objects holds; "" for what has no rule here."""
    if isinstance(value, LISTS):
        texts = all(isinstance(v, str) or is_missing(v) for v in value)
        return "list of texts" if len(value) and texts else "list"
    kinds = {bool: "truth", np.bool_: "truth", str: "text", Decimal: "decimal", date: "day"}
    return kinds.get(type(value), "text" if isinstance(value, str) else "")


def _is_empty_list(value: Any) -> bool:
    return isinstance(value, LISTS) and not len(value)


def _of_kind(old: pd.Series, new: pd.Series, name: str, kind: str) -> pd.Series:
    before = list(new)
    made = [value if is_missing(value) else _brought_to(value, kind) for value in before]
    for row, value in enumerate(made):
        anything = is_missing(value) or _is_empty_list(value)
        if not (anything or _kind_of(value).startswith(kind)):
            raise _unlike(old, new, name, row)
    if all(value is given for value, given in zip(made, before, strict=True)):
        return new
    return pd.Series(made, index=new.index, dtype=object)


def _brought_to(value: Any, kind: str) -> Any:
    """Return a value as one of a kind where that is plain, else as it is."""
    if kind.startswith("list"):
        value = value if isinstance(value, _IN_ORDER) else _listed(value)
        mixed = kind == "list of texts" and _kind_of(value) == "list"
        return _as_texts(value) if mixed else value
    if kind == "day":
        return _as_day(value)
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        return value
    if kind == "decimal":
        return value if isinstance(value, Decimal) else Decimal(str(value))
    return number_as_text(value) if kind == "text" else value


def _as_day(value: Any) -> Any:
    time = _as_times(pd.Series([], dtype="M8[ns]"), pd.Series([value], dtype=object))[0]
    return value if pd.isna(time) or time != time.normalize() else time.date()


def number_as_text(value: Any) -> str:
    """Write a number; whole ones without a point, which a column got where a value was missing.

    What is no float is written as it is.

    Examples
    --------
    >>> number_as_text(2001.0), number_as_text(2001), number_as_text(0.5)
    ('2001', '2001', '0.5')
    """
    whole = isinstance(value, (float, np.floating)) and is_exactly_whole(float(value))
    return str(int(value)) if whole else str(value)


def _checked_writable(old: pd.Series, new: pd.Series, name: str) -> pd.Series:
    """Return new values, unless no file could hold one of them beside the old ones."""
    known = _known(old).astype(object)
    if is_writable(pd.concat([known, new.astype(object)], ignore_index=True)):
        return new
    fit, n = 0, len(new)  # so many first rows can be written, and so many cannot
    while n - fit > 1:
        middle = (fit + n) // 2
        if is_writable(pd.concat([known, new.iloc[:middle].astype(object)])):
            fit = middle
        else:
            n = middle
    raise _unlike(old, new, name, fit)


def is_writable(values: pd.Series) -> bool:
    """Tell whether a file can hold a column: values of one type, or of types that become one.

    Examples
    --------
    >>> is_writable(pd.Series(["a", None])), is_writable(pd.Series(["a", 5]))
    (True, False)
    """
    types = _types_inside(values) if values.dtype == object else set()
    if {str, bytes} <= types:  # a file would make bytes of all
        return False
    try:
        table = pa.Table.from_pandas(pd.DataFrame({"column": values}), preserve_index=False)
        pq.write_table(table.slice(0, 1), pa.BufferOutputStream())
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    coded = pa.types.is_dictionary(kind := table.schema.types[0])
    return not (coded and isinstance(kind.value_type, pa.BaseExtensionType))


def of_one_type(values: pd.Series) -> pd.Series:
    """Return a column of objects as values of one type, where that is plain; else as it is.

    Numbers among texts become texts, and beside decimals decimals. Where some cells are lists, all
    are: a set becomes a list in order, and what stands alone a list of its own.

    Examples
    --------
    >>> of_one_type(pd.Series([["a", 1], "b", None])).tolist()
    [['a', '1'], ['b'], None]
    >>> of_one_type(pd.Series(["a", 2.0])).tolist()
    ['a', '2']
    """
    if isinstance(values.dtype, pd.ArrowDtype) and pa.types.is_nested(values.dtype.pyarrow_dtype):
        values = values.astype(object)  # pandas cannot read the names of such types in a file
    if values.dtype != object:
        return values
    types = set(map(type, values))
    if not any(issubclass(kind, LISTS) for kind in types):
        if not _mix(types) and not (Decimal in types and len(types - {type(None)}) > 1):
            return values
        kind = "text" if any(issubclass(kind, str) for kind in types) else "decimal"
        return values.map(partial(_brought_to, kind=kind), na_action="ignore")
    mix = _mix(_types_inside(values))
    plain = all(issubclass(kind, (*_IN_ORDER, *_NOTHING)) for kind in types)
    if plain and not mix and not any(_holds_times(value) for value in values):
        return values
    rows = [None if is_missing(value) else _listed(value) for value in values]
    rows = [row and _as_texts(row) for row in rows] if mix else rows
    return pd.Series(rows, index=values.index, dtype=object)


def _holds_times(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "mM"


def _mix(types: set[type]) -> bool:
    """Tell whether there are texts and numbers; a missing value may be a number."""
    return any(issubclass(kind, str) for kind in types) and any(
        issubclass(kind, _NUMBERS) for kind in types
    )


def _types_inside(values: pd.Series) -> set[type]:
    """Return the types of what cells hold, lists or not; arrays of numbers are not read."""
    types: set[type] = set()
    for value in values:
        if isinstance(value, np.ndarray) and value.dtype.kind not in "OUST":
            types.add(value.dtype.type)
        else:
            types.update(map(type, value if isinstance(value, LISTS) else [value]))
    return types


def _as_texts(values: list[Any]) -> list[Any]:
    return [value if is_missing(value) else number_as_text(value) for value in values]


def _listed(value: Any) -> list[Any]:
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if _holds_times(value):  # a file gives back such arrays for lists
        return pd.Index(value).astype(object).tolist()
    return list(value) if isinstance(value, LISTS) else [value]


def is_missing(value: Any) -> bool:
    """Tell whether a cell, which may hold a list, has no value: None, NA, NaT or NaN.

    Examples
    --------
    >>> is_missing(float("nan")), is_missing([]), is_missing("")
    (True, False, False)
    """
    missing = value is None or value is pd.NA or value is pd.NaT
    return missing or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _as_times(old: pd.Series, new: pd.Series) -> pd.Series:
    plain = new.where([not isinstance(v, (bool, int, float, np.number)) for v in new], None)
    texts = [v.strip() if isinstance(v, str) else "" for v in plain]
    # No unit is guessed, nor what day "today" was meant to be.
    vague = [text.isdigit() or text.lower() in ("now", "today") for text in texts]
    plain = plain.mask(np.array(vague, bool), None)
    if old.dtype.kind == "m":
        return pd.to_timedelta(plain, errors="coerce")
    times = pd.to_datetime(plain, errors="coerce", utc=True, format="ISO8601")
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
    known = _known(old)
    example = f", such as {shown(known.iloc[0])}" if len(known) else ""
    return InvalidInputError(
        f"column {name!r} of items must hold values like those of the items learned before"
        f"{example}; row {row} holds {shown(new.iloc[row])}."
    )

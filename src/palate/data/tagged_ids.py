"""Ids of types that one column cannot hold together: JSON with the type's name."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from typing import Any

import numpy as np

from palate.exceptions import PersistenceError


def _write_timestamp(time: Any) -> str:
    import pandas as pd

    try:
        zone = str(time.tz) if pd.Timestamp(time).tz_convert(str(time.tz)) == time else None
    except (LookupError, TypeError, ValueError):  # no zone, or none of a name that is known
        zone = None
    return f"{time.isoformat()} {zone}"


def _read_timestamp(written: str) -> Any:
    """Read a time with nanoseconds and the name of its zone, where it has one."""
    import pandas as pd  # readers of exports need it for such ids alone

    time, zone = written.split(" ", 1)
    return pd.Timestamp(time) if zone == "None" else pd.Timestamp(time).tz_convert(zone)


_TAGGED: dict[str, tuple[type | None, Any, Any]] = {
    "str": (str, str, str),
    "bool": (bool, bool, bool),
    "int": (int, int, int),
    "float": (float, float, float),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "datetime": (
        datetime.datetime,
        datetime.datetime.isoformat,
        datetime.datetime.fromisoformat,
    ),
    "timestamp": (None, _write_timestamp, _read_timestamp),
    "decimal": (Decimal, str, Decimal),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
}


def tag(value: Any) -> str:
    """Write an id with the name of its type.

    Raises
    ------
    PersistenceError
        If its type cannot be written.

    Examples
    --------
    >>> tag(b"ab")
    '["bytes", "6162"]'
    """
    plain = value.item() if isinstance(value, np.generic) else value
    for name, (kind, write, _) in _TAGGED.items():
        if type(plain) is kind or (kind is None and _is_timestamp(plain)):
            return json.dumps([name, write(plain)])
    raise PersistenceError(
        f"ids must be of type {', '.join(_TAGGED)} to be saved; got {value!r} "
        f"of type {type(value).__name__}."
    )


def _is_timestamp(value: Any) -> bool:
    """Tell whether a value is pandas' own kind of time, without importing pandas."""
    return type(value).__name__ == "Timestamp" and hasattr(value, "nanosecond")


def untag(value: str) -> Any:
    """Read what :func:`tag` wrote.

    Examples
    --------
    >>> untag(tag(b"ab"))
    b'ab'
    """
    name, written = json.loads(value)
    return _TAGGED[name][2](written)

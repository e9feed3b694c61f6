"""Ids of any scalar type in a parquet file, and back in the same types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from palate.data.tagged_ids import tag, untag
from palate.exceptions import PersistenceError


def write_ids(path: Path, ids: np.ndarray, content: pd.DataFrame | None = None) -> dict[str, str]:
    """Write ids, and content columns beside them.

    Parameters
    ----------
    path : Path
    ids : ndarray of shape (n,)
    content : DataFrame of n rows, default=None
        Its columns are written as ``content:name``.

    Returns
    -------
    dict
        What :func:`read_ids` needs to know: how the ids were written, and their dtype.

    Raises
    ------
    PersistenceError
        If an id or a column of content has a type that cannot be written.
    """
    columns: dict[str, Any] = {}
    if ids.dtype != object:
        columns["id"], how = ids, "plain"
    elif all(type(value) is str for value in ids):
        columns["id"], how = ids, "str"
    else:
        columns["id"], how = [tag(value) for value in ids], "tagged"
    for name in () if content is None else content.columns:
        columns[f"content:{name}"] = content[name]  # type: ignore[index]
    try:
        pd.DataFrame(columns).to_parquet(path, compression="zstd")
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise PersistenceError(
            f"{_unwritable(columns)} to be saved must hold values of one type that parquet has; "
            f"{error.args[0]!s}."
        ) from error
    return {"how": how, "dtype": ids.dtype.str}


def _unwritable(columns: dict[str, Any]) -> str:
    """Name the column that parquet refuses."""
    for name, values in columns.items():
        try:
            pa.Table.from_pandas(pd.DataFrame({name: values}))
        except (pa.ArrowException, UnicodeEncodeError):
            return "ids" if name == "id" else f"column {name.removeprefix('content:')!r} of items"
    return "the table"


def read_ids(path: Path, written: dict[str, str]) -> tuple[np.ndarray, pd.DataFrame]:
    """Read what :func:`write_ids` wrote: ids in their own dtype, and the content columns."""
    frame = pd.read_parquet(path)
    column = frame["id"]
    if written["how"] == "plain":
        ids = column.to_numpy().astype(np.dtype(written["dtype"]))
    else:
        values = column.to_list()
        ids = np.empty(len(values), dtype=object)
        ids[:] = values if written["how"] == "str" else [untag(value) for value in values]
    names = [name for name in frame.columns if name.startswith("content:")]
    content = frame[names].rename(columns=lambda name: name.removeprefix("content:"))
    return ids, content

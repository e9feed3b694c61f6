"""Ids of any scalar type in a parquet file, and back in the same types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from palate.data.tagged_ids import tag, untag


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
        If an id has a type that cannot be written.
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
    pd.DataFrame(columns).to_parquet(path, compression="zstd")
    return {"how": how, "dtype": ids.dtype.str}


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

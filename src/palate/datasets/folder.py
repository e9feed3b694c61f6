"""A data set from a folder of parquet files."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palate._validation import check_path
from palate.datasets.dataset import Dataset, check_as_frame, convert
from palate.exceptions import InvalidInputError

NOTES = ("SOURCE.md", "README.md")


def read_folder(path: str | os.PathLike[str], *, as_frame: str = "pandas") -> Dataset:
    """Read a data set from a folder that holds ``interactions.parquet``.

    Parameters
    ----------
    path : path-like
        Folder with ``interactions.parquet`` (``user_id``, ``item_id``, ...), optionally
        ``items.parquet`` (``item_id``, ...) and a note, ``SOURCE.md`` or ``README.md``.
    as_frame : {"pandas", "polars", "pyarrow"}, default="pandas"
        Library of the tables.

    Returns
    -------
    Dataset
        Columns and rows as the files have them; ``items`` is None without ``items.parquet``;
        ``description`` is the note's text; ``licence`` and ``citation`` are empty.

    Raises
    ------
    FileNotFoundError
        If there is no ``interactions.parquet``.
    InvalidInputError
        If a file is no parquet file, or a table lacks an id column.

    Examples
    --------
    >>> import tempfile, pyarrow as pa, pyarrow.parquet as pq
    >>> with tempfile.TemporaryDirectory() as path:
    ...     table = pa.table({"user_id": ["a", "a"], "item_id": [3, 5]})
    ...     pq.write_table(table, f"{path}/interactions.parquet")
    ...     len(read_folder(path).interactions)
    2
    """
    check_as_frame(as_frame)
    folder = check_path("path", path)
    if not (folder / "interactions.parquet").is_file():
        raise FileNotFoundError(
            f"path must be a folder that holds interactions.parquet; got {str(folder)!r}."
        )
    interactions = _read(folder / "interactions.parquet", ("user_id", "item_id"))
    has_items = (folder / "items.parquet").is_file()
    items = _read(folder / "items.parquet", ("item_id",)) if has_items else None
    note = next((folder / name for name in NOTES if (folder / name).is_file()), None)
    return Dataset(
        name=folder.resolve().name,
        interactions=convert(interactions, as_frame),
        items=None if items is None else convert(items, as_frame),
        description="" if note is None else note.read_text(encoding="utf-8", errors="replace"),
        licence="",
        citation="",
    )


def _read(path: Path, needed: tuple[str, ...]) -> pa.Table:
    # The open file keeps a folder named like "a=b" from adding a partition column.
    with path.open("rb") as stream:
        try:
            table = pq.read_table(stream)
        except (pa.ArrowException, OSError) as error:
            raise InvalidInputError(f"{path.name} must be a parquet file; {error}.") from error
    for name in needed:
        if name not in table.column_names:
            raise InvalidInputError(
                f"{path.name} must have a column {name!r}; its columns are "
                f"{', '.join(map(repr, table.column_names))}."
            )
    return table

"""The one shape in which every loader returns its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from palate._optional import require
from palate._validation import check_choice

FRAMES = ("pandas", "polars", "pyarrow")


@dataclass(frozen=True, repr=False, eq=False)
class Dataset:
    """Tables of a data set with what is known about them.

    Attributes
    ----------
    name : str
        Short name.
    interactions : table
        One row an event: ``user_id``, ``item_id``, ``timestamp`` (int64 seconds since 1970-01-01,
        or the order within a user where a source has no times) and further columns.
    items : table or None
        One row an item: ``item_id``, ``title``, ``text`` and further columns.
    description, licence, citation : str
        What the rows are and how they were made; terms of use; whom to cite.
    """

    name: str
    interactions: Any
    items: Any
    description: str
    licence: str
    citation: str

    def __repr__(self) -> str:
        n_items = "no item table" if self.items is None else f"{len(self.items):,} items"
        return f"<Dataset {self.name}: {len(self.interactions):,} interactions, {n_items}>"


def check_as_frame(as_frame: str) -> str:
    """Return the name of a table library, or say which there are."""
    return str(check_choice("as_frame", as_frame, FRAMES))


def convert(table: pa.Table, as_frame: str) -> Any:
    """Turn an Arrow table into one of the library that was asked for."""
    if as_frame == "pandas":
        return table.to_pandas()
    if as_frame == "polars":
        return require("polars", extra="polars", purpose="as_frame='polars'").from_arrow(table)
    return table


def item_text(title: str, genres: str) -> str:
    """Return a title and its genres, given as ``"A|B"``, as one sentence for a text encoder.

    Examples
    --------
    >>> item_text("Heat (1995)", "Action|Crime")
    'Heat (1995). Genres: Action, Crime'
    """
    title = title.strip()
    if genres in ("", "unknown"):
        return title
    return f"{title}. Genres: {genres.replace('|', ', ')}"

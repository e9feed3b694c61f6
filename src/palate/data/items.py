"""The item table: content rows in the order of the item codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from palate.data.alike import LISTS, as_before, is_missing, is_writable, number_as_text, of_one_type
from palate.data.checks import check_named_once, is_unicode, shown
from palate.data.frames import id_column, open_frame
from palate.data.knowledge import FACTS, TOLD, KnowledgeGraph
from palate.exceptions import InvalidInputError, MissingContentError


class Items:
    """An item table with a knowledge graph, or one that cross-validation leaves whole.

    Cross-validation of scikit-learn slices every fit argument that is as long as X. A table of as
    many items as X has events would be cut without a word; this wrapper has no length, so it is
    passed on whole.

    Parameters
    ----------
    table : pandas, polars or pyarrow table
        One row an item, with a column ``item_id`` and content columns.
    knowledge : KnowledgeGraph, default=None
        Facts about the items of the table. What they say in words becomes part of the items' text,
        and :class:`palate.KnowledgeEncoder` learns from them. Items learned later need one too.

    Examples
    --------
    >>> items = Items(pd.DataFrame({"item_id": [1], "title": ["lamp"]}))
    >>> hasattr(items, "__len__")
    False
    """

    def __init__(self, table: Any, knowledge: KnowledgeGraph | None = None) -> None:
        self.table = table
        self.knowledge = knowledge


@dataclass(frozen=True)
class ItemTable:
    """Content of the items of a vocabulary.

    Attributes
    ----------
    frame : pandas.DataFrame of n_items rows
        Content columns, row i for code i; no columns where there is no content.
    """

    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def without_content(cls, n_items: int) -> ItemTable:
        """Return a table of so many items and no columns."""
        return cls(pd.DataFrame(index=pd.RangeIndex(n_items)))

    def text_columns(self) -> list[str]:
        """Name the columns that make an item's text: ``text`` alone, else every text column.

        What a knowledge graph tells in words comes last.
        """
        columns = [name for name in self.frame.columns if name != FACTS]
        if "text" in columns:
            return [name for name in ("text", TOLD) if name in columns]
        return [name for name in columns if _holds_text(self.frame[name])]

    def texts(self, columns: Sequence[str] | None = None, start: int = 0) -> list[str]:
        """Return one text an item: its text columns joined by a full stop and a space.

        Parameters
        ----------
        columns : sequence of str, default=None
            The columns to join; by default those that :meth:`text_columns` names.
        start : int, default=0
            The first item that is read.

        Raises
        ------
        InvalidInputError
            If a named column is absent.
        MissingContentError
            If the table has no text column at all.
        """
        names = self.text_columns() if columns is None else list(columns)
        for name in names:
            if name not in self.frame.columns:
                raise InvalidInputError(
                    f"items must have a column {name!r}; its columns are "
                    f"{', '.join(map(repr, self.frame.columns)) or 'none'}."
                )
        if not names:
            raise MissingContentError(
                "items must have a text column (such as 'text' or 'title') for a text encoder; "
                f"its columns are {', '.join(map(repr, self.frame.columns)) or 'none'}."
            )
        parts = [[_as_text(value) for value in self.frame[name].iloc[start:]] for name in names]
        return [". ".join(part for part in row if part) for row in zip(*parts, strict=True)]

    def check_writable(self) -> None:
        """Raise if a file could not hold a column, before anything is learned beside it."""
        for name, values in self.frame.items():
            if not is_writable(values):
                kinds = ", ".join(sorted({type(value).__name__ for value in values}))
                raise InvalidInputError(
                    f"column {name!r} of items must hold values of one type that a file can hold, "
                    f"so that the model can be saved, or be left out; it holds {kinds}."
                )

    def concatenate(self, other: ItemTable) -> ItemTable:
        """Return a table with the rows of `other` behind these."""
        if not len(other):  # a table without rows need not have the columns
            return self
        missing = [name for name in self.frame.columns if name not in other.frame.columns]
        if FACTS in missing:
            raise InvalidInputError(
                "items must come with a knowledge graph, as in Items(table, knowledge=graph), for "
                "the items learned before did."
            )
        if missing:
            raise InvalidInputError(
                f"items must have a column {missing[0]!r}, as the items learned before had; "
                f"its columns are {', '.join(map(repr, other.frame.columns)) or 'none'}."
            )
        new = {
            name: as_before(self.frame[name], other.frame[name], name) if len(self) else part
            for name, part in other.frame[list(self.frame.columns)].items()
        }
        behind = pd.DataFrame(new, index=other.frame.index)
        return ItemTable(pd.concat([self.frame, behind], ignore_index=True))


def read_items(items: Any, name: str = "items") -> tuple[np.ndarray, ItemTable]:
    """Read an item table.

    Parameters
    ----------
    items : pandas, polars or pyarrow table, or Items
    name : str, default="items"
        What errors call it.

    Returns
    -------
    ids : ndarray of shape (n_items,)
    table : ItemTable

    Raises
    ------
    InvalidInputError
        If the column ``item_id`` is absent, has missing values or names an item twice.
    """
    table = items.table if isinstance(items, Items) else items
    frame = open_frame(table, name)
    ids = id_column(frame, "item_id", name)
    check_named_once(ids, "item", name)
    names = [c for c in frame.columns if c != "item_id"]
    # A saved model names its columns by text, whatever they were.
    _check_distinct(names, name)
    content = pd.DataFrame({str(c): _content(frame, c, name) for c in names})
    content = content if names else ItemTable.without_content(len(ids)).frame
    return ids, ItemTable(
        _with_knowledge(content, ids, items.knowledge if isinstance(items, Items) else None)
    )


def _check_distinct(names: list[Any], table: str) -> None:
    """Raise where two columns would have one name as text."""
    first: dict[str, Any] = {}
    for name in names:
        if (other := first.setdefault(str(name), name)) is not name:
            raise InvalidInputError(
                f"{table} must have columns of distinct names as text; got {other!r} and {name!r}."
            )


def _with_knowledge(content: pd.DataFrame, ids: np.ndarray, graph: Any) -> pd.DataFrame:
    """Add the columns that a graph gives."""
    if graph is None:
        return content
    if not isinstance(graph, KnowledgeGraph):
        raise InvalidInputError(
            f"knowledge of items must be a KnowledgeGraph; got {type(graph).__name__}."
        )
    return content.assign(
        **{
            name: pd.Series(values, index=content.index, dtype=object)
            for name, values in graph.columns_for(ids).items()
        }
    )


def _content(frame: Any, name: str, table: str) -> Any:
    """Return a column of content; no file could hold half of a surrogate pair."""
    values = of_one_type(frame.get_column(name).to_pandas()).array
    if values.dtype.kind == "O":
        texts = [_spelled(value) for value in values]
        if not is_unicode("".join(texts)):
            row = next(row for row, text in enumerate(texts) if not is_unicode(text))
            raise InvalidInputError(
                f"column {name!r} of {table} must hold text without lone surrogates; row {row} is "
                f"{shown(texts[row])}."
            )
    return values


def _spelled(value: Any) -> str:
    """Return all characters of a text, or of the texts of a list."""
    if isinstance(value, str):
        return value
    return "".join(v for v in value if isinstance(v, str)) if isinstance(value, list) else ""


def _holds_text(values: pd.Series) -> bool:
    if values.dtype.kind in "iufbMmc":
        return False
    first = next((value for value in values if not is_missing(value)), None)
    return isinstance(first, str) or (
        isinstance(first, LISTS) and all(isinstance(v, str) or is_missing(v) for v in first)
    )


def _as_text(value: Any) -> str:
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Iterable):
        return ", ".join(_as_text(part) for part in value if not is_missing(part))
    return number_as_text(value)

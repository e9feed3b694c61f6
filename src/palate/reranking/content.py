"""What a re-ranker reads of items and of texts: rows of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from palate.ops.similarity import unit_norm
from palate.protocols import ItemModule


def content_of(items: ItemModule, codes: Tensor | None = None) -> Tensor:
    """Return the content of item codes, of all items for None: (n, width), of length 1 or 0.

    Where nothing is read, the items' vectors without ids stand for it, or those of ids alone.
    """
    content = items.content(codes)
    rows = items(codes, content_only=True) if content is None else content
    return unit_norm(rows.detach().float())


def content_of_texts(items: ItemModule, texts: Sequence[str], context: Any) -> Tensor:
    """Return the content of free texts in the space of :func:`content_of`."""
    vectors, content = items.hear_texts(texts, context)
    return unit_norm((vectors if content is None else content).float())

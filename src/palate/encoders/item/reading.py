"""Reading texts with a BERT: what the item encoder does as a part and alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from palate._memory import give_back_memory
from palate._options import RunOptions
from palate.data.frames import is_frame, open_frame, shown
from palate.data.items import Items, ItemTable
from palate.data.lists import given
from palate.defaults import AUTO, SMALL_ITEMS
from palate.encoders.item.content_cache import ContentCache, cached_encode
from palate.encoders.item.model_source import ModelSource
from palate.encoders.item.text_model import TextModel, load_text_model
from palate.exceptions import InvalidInputError, InvalidParameterError, MissingContentError
from palate.ops.whitening import fit_whitening

#: Directions kept at most, unless a spec asks for more.
MOST_COMPONENTS = 256


def default_power(n_items: int) -> float:
    """Return how far to whiten the texts of a catalogue of so many items.

    Whitening makes the many directions of little variance as long as the few of much. It takes
    many items to learn what such a direction is worth: below 2,000 all are left as BERT made them.

    Examples
    --------
    >>> default_power(957), default_power(12_101)
    (0.0, 1.0)
    """
    return 1.0 if n_items >= SMALL_ITEMS else 0.0


def default_components(n_items: int, power: float = 1.0) -> int:
    """Return how many directions a catalogue of so many items can tell from noise.

    Where directions are left as long as they are (a power of 0) the last ones hardly count, and
    none needs to be cut.

    Examples
    --------
    >>> [default_components(n) for n in (50, 957, 12_101)]
    [16, 119, 256]
    >>> default_components(957, power=0.0)
    256
    """
    return min(MOST_COMPONENTS, max(16, n_items // 8)) if power else MOST_COMPONENTS


def learn_whitening(
    spec: Any, raw: np.ndarray, power: float | None = None, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean and the matrix by which a spec whitens the vectors of texts.

    Parameters
    ----------
    spec : BertEncoder
        Of which `n_components`, `whitening` and `whitening_groups` count.
    raw : float32 ndarray of shape (n_texts, hidden)
        Pooled vectors, at least one.
    power : float, default=None
        What "auto" stands for; by default it goes by the number of texts.
    most : int, default=None
        Directions kept at most.

    Returns
    -------
    mean : float32 Tensor of shape (hidden,)
    matrix : float32 Tensor of shape (hidden, n_kept)

    Raises
    ------
    InvalidParameterError
        If the groups do not divide the width.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> spec = SimpleNamespace(n_components=None, whitening=1.0, whitening_groups=2)
    >>> raw = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    >>> learn_whitening(spec, raw)[1].shape
    torch.Size([4, 4])
    """
    groups = spec.whitening_groups
    if raw.shape[1] % groups:
        raise InvalidParameterError(
            f"whitening_groups must divide {raw.shape[1]}, the width of the model's vectors; "
            f"got {groups}."
        )
    if spec.whitening != AUTO:
        power = spec.whitening
    elif power is None:
        power = default_power(len(raw))
    n_components = spec.n_components or max(default_components(len(raw), power), groups)
    n_components = n_components if most is None else min(n_components, most)
    # Vectors of length about 1: Adam then moves content and ids at the same pace.
    return fit_whitening(
        torch.from_numpy(raw), n_components, power=power, unit_length=True, groups=groups
    )


def frozen_model(source: ModelSource) -> TextModel:
    """Load a model once for all the encoders that only read with it, and again once it changes."""
    return loaded_model(source, source.fingerprint)


@lru_cache(maxsize=2)
def loaded_model(source: ModelSource, fingerprint: str) -> TextModel:
    """Return the model whose files had a fingerprint; it stays in memory."""
    return load_text_model(source)


def forget_frozen() -> None:
    """Let go of the models of :func:`frozen_model`, whose memory training can use."""
    if loaded_model.cache_info().currsize:
        loaded_model.cache_clear()
        give_back_memory()


def open_cache(context: RunOptions) -> ContentCache | None:
    """Return the content cache that the options ask for."""
    if context.cache is False:
        return None
    return ContentCache(None if context.cache is True else context.cache)


def read_frozen(
    spec: Any,
    source: ModelSource,
    texts: Sequence[str],
    context: RunOptions,
    cache: ContentCache | None,
) -> np.ndarray:
    """Return the pooled vectors (n_texts, hidden) that a spec's frozen model makes of texts."""
    return cached_encode(
        texts,
        source,
        pooling=spec.pooling,
        max_tokens=spec.max_tokens,
        device=context.torch_device,
        cache=cache,
        progress=context.hide_progress is False,
        load=lambda: frozen_model(source),
    )


def read_live(spec: Any, model: TextModel, texts: Sequence[str], context: RunOptions) -> np.ndarray:
    """Return the pooled vectors (n_texts, hidden) that a spec's model in training makes of texts.

    Nothing is kept on disk, for the weights change.
    """
    return model.encode(
        texts,
        pooling=spec.pooling,
        max_tokens=spec.max_tokens,
        device=context.torch_device,
        progress=context.hide_progress is False,
    )


def texts_of(X: Any, columns: Sequence[str] | None = None) -> tuple[list[str], list[str] | None]:
    """Read one text a row from a column of texts or from the text columns of a table.

    Parameters
    ----------
    X : sequence of str, 2-D array of str, or pandas, polars or pyarrow table
        A missing value is the empty text. Several columns are joined by a full stop and a space,
        as in an item table; a column ``item_id`` is left out.
    columns : sequence of str, default=None
        Columns of a table; by default ``text`` where there is one, else every text column.

    Returns
    -------
    texts : list of str
    columns : list of str or None
        Those that were read; None where X is no table.

    Raises
    ------
    InvalidInputError
        If X is one string, holds something that is no text, or lacks a column.
    MissingContentError
        If a table has no text column.

    Examples
    --------
    >>> texts_of(["a lamp", None])
    (['a lamp', ''], None)
    >>> texts_of(pd.DataFrame({"title": ["lamp"], "price": [3], "about": ["tall"]}))
    (['lamp. tall'], ['title', 'about'])
    """
    X = X.table if isinstance(X, Items) else X
    if is_frame(X):
        frame = open_frame(X)
        names = [name for name in frame.columns if name != "item_id"]
        if columns is None and not len(frame):  # an empty column has no type that tells
            return [], []
        table = ItemTable(pd.DataFrame({n: frame.get_column(n).to_pandas().array for n in names}))
        used = table.text_columns() if columns is None else list(columns)
        _check_columns(used, names)
        return table.texts(used), used
    if (
        isinstance(X, (str, bytes, Mapping, Set))
        or not hasattr(X, "__iter__")
        or (isinstance(X, np.ndarray) and X.ndim == 0)
    ):
        raise InvalidInputError(
            f"X must be a column of texts or a table with text columns; got {given(X)}."
        )
    rows = X.to_pylist() if hasattr(X, "to_pylist") else list(X)
    return [_joined(row, value) for row, value in enumerate(rows)], None


def _check_columns(used: Sequence[str], names: Sequence[str]) -> None:
    listed = ", ".join(map(repr, names)) or "none"
    for name in used:
        if name not in names:
            raise InvalidInputError(f"X must have a column {name!r}; its columns are {listed}.")
    if not used:
        raise MissingContentError(
            f"X must have a text column (such as 'text' or 'title'); its columns are {listed}."
        )


def _joined(row: int, value: Any) -> str:
    parts = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    return ". ".join(text for text in (_text(row, part) for part in parts) if text)


def _text(row: int, value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    raise InvalidInputError(f"X must hold texts; row {row} holds {shown(value)}.")

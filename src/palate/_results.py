"""Rankings as the caller gets them: tables of the caller's library, or padded arrays of ids."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from palate.data.checks import EXACT_FLOAT
from palate.data.frames import make_frame
from palate.data.vocabulary import Vocabulary
from palate.exceptions import InvalidParameterError


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a view that cannot be written to, of what the model goes on using."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def padded_ids(codes: np.ndarray, items: Vocabulary, k: int) -> np.ndarray:
    """Return ids (n, k) for codes, with NaN, NaT or None where there is none."""
    if codes.shape[1] < k:
        try:
            codes = np.pad(codes, ((0, 0), (0, k - codes.shape[1])), constant_values=-1)
        except (ValueError, OverflowError, MemoryError) as error:
            raise InvalidParameterError(
                f"k must be small enough for {len(codes)} rows of k ids to fit in memory; got {k}."
            ) from error
    ids = items.ids(np.maximum(codes, 0))
    empty = codes < 0
    if not empty.any():
        return ids
    if ids.dtype.kind in "iu" and max(-int(ids.min()), int(ids.max())) <= EXACT_FLOAT:
        ids = ids.astype(np.float64)
    if ids.dtype.kind not in "fmM":
        ids = ids.astype(object)
    ids[empty] = {"f": np.nan, "O": None}.get(ids.dtype.kind, "NaT")
    return ids


def result_table(
    labels: Mapping[str, np.ndarray],
    scores: np.ndarray,
    codes: np.ndarray,
    items: Vocabulary,
    library: ModuleType,
) -> Any:
    """Return the long table of a ranking: labels, item_id, score, rank from 1."""
    found = codes >= 0
    counts = found.sum(1)
    rank = np.broadcast_to(np.arange(1, codes.shape[1] + 1), codes.shape)
    columns = {name: np.repeat(values, counts) for name, values in labels.items()}
    columns |= {"item_id": items.ids(codes[found]), "score": scores[found], "rank": rank[found]}
    return make_frame(columns, library)


def library_named(name: str) -> ModuleType:
    """Import the data frame library of a saved model, or pandas where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return importlib.import_module("pandas")

"""A user encoder alone: histories in, user vectors out, over item vectors that are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import TransformerTags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from palate._options import RunOptions
from palate._parts import NamedPartsMixin
from palate.data.checks import shown, unusable_id
from palate.data.items import Items, ItemTable
from palate.data.lists import as_list, given, is_list, is_list_of_lists
from palate.data.vocabulary import as_id_array
from palate.exceptions import InvalidInputError
from palate.protocols import ItemModule
from palate.queries import Text
from palate.recommender import Recommender


class HistoryEncoder(
    NamedPartsMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """A user encoder as a transformer of histories, over item vectors that you already have.

    `fit` trains the network to point from each event to the next one, as a
    :class:`palate.Recommender` does; the item vectors stay as they are, so user vectors lie in
    their space and a :class:`palate.CosineRanker` over the items answers them.

    Parameters
    ----------
    user_encoder : {"transformer", "gru"} or spec, default="transformer"
        Reads a history.
    item_vectors : array-like of shape (n_items, dim), or DataFrame, default=None
        Must be given. The items of a DataFrame are named by its index, those of an array by the
        numbers of its rows.
    metric : {"cosine", "euclidean", "dot"}, default="cosine"
    epochs, batch_size, learning_rate, validation_fraction
        As in :class:`palate.Recommender`.
    random_state : int, RandomState or None, default=None
    options : RunOptions, default=None

    Attributes
    ----------
    recommender_ : Recommender
        What was fitted: it answers ``recommend(histories=...)`` too.

    Examples
    --------
    >>> vectors = np.eye(5)
    >>> encoder = HistoryEncoder(
    ...     "gru", item_vectors=vectors, epochs=60, learning_rate=0.01, validation_fraction=0,
    ...     random_state=0, options=RunOptions(device="cpu", progress=False),
    ... ).fit([[0, 1, 2], [3, 4]] * 8)
    >>> users = encoder.transform([[0, 1], [3]])
    >>> users.shape
    (2, 5)
    >>> (users @ vectors.T).argmax(1)
    array([2, 4])
    """

    _numbered: bool | None = None

    def __init__(
        self,
        user_encoder: Any = "transformer",
        *,
        item_vectors: Any = None,
        metric: str = "cosine",
        epochs: int = 30,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        options: RunOptions | None = None,
    ) -> None:
        self.user_encoder = user_encoder
        self.item_vectors = item_vectors
        self.metric = metric
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.options = options

    def fit(self, X: Any, y: Any = None) -> HistoryEncoder:
        """Train the network.

        Parameters
        ----------
        X : sequence of histories, or array of shape (n_histories, n_steps)
            Items of each history, the oldest first. None, NaN and, where the items are numbered,
            -1 are padding.
        y : None
            Ignored.

        Returns
        -------
        HistoryEncoder
            Itself.

        Raises
        ------
        InvalidInputError, InvalidParameterError
            The encoder is then as it was.
        """
        ids, vectors = _vectors_of(self.item_vectors)
        numbered = not isinstance(self.item_vectors, pd.DataFrame)
        table = pd.DataFrame(vectors, columns=[f"v{i}" for i in range(vectors.shape[1])])
        table.insert(0, "item_id", ids)
        self.recommender_ = Recommender(
            self.user_encoder,
            GivenVectors(),
            metric=self.metric,
            dim=vectors.shape[1],
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            validation_fraction=self.validation_fraction,
            random_state=self.random_state,
            options=replace(self.options or RunOptions(), user_vectors_mb=0),
        ).fit(_histories(X, numbered), items=Items(table))
        self._numbered = numbered
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the user vector of each history.

        Parameters
        ----------
        X : as in `fit`
            People who need not be those of `fit`.

        Returns
        -------
        float32 ndarray of shape (n_histories, dim)

        Raises
        ------
        UnsupportedTargetError
            If a history is empty or names an item without a vector.
        """
        check_is_fitted(self)
        return np.asarray(self.recommender_.transform(_histories(X, self._is_numbered())))

    def _is_numbered(self) -> bool:
        if self._numbered is None:  # a pickle made before that was kept
            return not isinstance(self.item_vectors, pd.DataFrame)
        return self._numbered

    @property
    def _n_features_out(self) -> int:
        return int(self.recommender_.item_vectors_.shape[1])

    def __sklearn_tags__(self) -> Any:
        tags: Any = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        tags.transformer_tags = TransformerTags(preserves_dtype=[])
        return tags


def _histories(X: Any, numbered: bool) -> list[list[Any]]:
    """Return histories without their padding."""
    if not is_list_of_lists(X):
        raise InvalidInputError(
            f"X must be a list of histories, each a list of items; got {type(X).__name__}."
        )
    rows = []
    for row, history in enumerate(X):
        if not is_list(history):
            raise InvalidInputError(
                f"X must be a list of histories, each a list of items; history {row} is "
                f"{given(history)}."
            )
        events = history.tolist() if isinstance(history, np.ndarray) else as_list(history)
        if spoken := next((event for event in events if isinstance(event, Text)), None):
            raise InvalidInputError(
                f"X must hold item ids, and no Text; history {row} holds {shown(spoken)}."
            )
        rows.append([event for event in events if not _is_padding(event, numbered)])
    return rows


class GivenVectors(BaseEstimator):
    """An item encoder spec: the number columns of the item table are the item's vector."""

    def build(
        self,
        items: ItemTable,
        dim: int,
        context: Any,
        state: Mapping[str, Tensor] | None = None,
    ) -> ItemModule:
        """Return a module of the vectors of every row of `items`."""
        return _GivenItems(items)


class _GivenItems(ItemModule):
    has_content = True
    vectors: Tensor

    def __init__(self, items: ItemTable) -> None:
        super().__init__()
        self.register_buffer("vectors", _rows_of(items))

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        return self.vectors if codes is None else self.vectors[codes]

    def extend(self, items: ItemTable, seen: Tensor, context: Any) -> None:
        self.vectors = _rows_of(items).to(self.vectors.device)


def _rows_of(items: ItemTable) -> Tensor:
    return torch.from_numpy(items.frame.to_numpy(np.float32, copy=True))


def _vectors_of(item_vectors: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids (n_items,) and vectors (n_items, dim) of a table or an array."""
    if isinstance(item_vectors, Tensor):
        item_vectors = item_vectors.detach().cpu().numpy()
    must = "item_vectors must be numbers of shape (n_items, dim), at least one each; got "
    try:
        array = None if item_vectors is None else np.asarray(item_vectors)
    except ValueError as error:  # lists of several lengths
        raise InvalidInputError(f"{must}a {type(item_vectors).__name__} that is ragged.") from error
    if array is None or array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        got = "None" if array is None else f"{array.dtype} of shape {array.shape}"
        raise InvalidInputError(f"{must}{got}.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    bad = ~np.isfinite(array).all(1)
    if bad.any():
        raise InvalidInputError(
            f"item_vectors must be finite numbers; row {int(np.flatnonzero(bad)[0])} is not."
        )
    if not isinstance(item_vectors, pd.DataFrame):
        return np.arange(len(array)), array
    return _ids_of(item_vectors.index), array


def _ids_of(index: pd.Index) -> np.ndarray:
    """Return the items that an index names, each once."""
    ids = as_id_array(index.to_numpy())
    bad = unusable_id(ids)
    if bad is not None:
        raise InvalidInputError(
            f"the index of item_vectors must {bad.reason}; row {bad.row} is {shown(ids[bad.row])}."
        )
    repeated = np.flatnonzero(index.duplicated())
    if len(repeated):
        raise InvalidInputError(
            f"the index of item_vectors must name each item once; row {repeated[0]} repeats "
            f"{shown(ids[repeated[0]])}."
        )
    return ids


def _is_padding(event: Any, numbered: bool) -> bool:
    if isinstance(event, (int, np.integer)):
        return numbered and event == -1
    if isinstance(event, (float, np.floating)):
        return bool(np.isnan(event)) or (numbered and event == -1)
    return event is None

"""The exact ranker: a catalogue normalised and placed once, searched block by block."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from palate._validation import check_choice, check_int
from palate.ops._topk_catalogue import Catalogue, extend_catalogue, new_catalogue
from palate.ops.similarity import METRICS
from palate.ops.topk import TopK, topk
from palate.ranking._neighbors import NeighborsMixin, as_vectors, note_columns, rows_to_fit

STORAGES = ("float32", "float16", "bfloat16", "int8")


class CosineRanker(NeighborsMixin, BaseEstimator):
    """Exact nearest items by cosine, dot product or Euclidean distance.

    Alone it is used like :class:`sklearn.neighbors.NearestNeighbors`: `fit`, `kneighbors`,
    `kneighbors_graph`.

    Parameters
    ----------
    metric : {"cosine", "dot", "euclidean"}, default="cosine"
        What a score is; ``"euclidean"`` scores are minus the distance.
    storage : {"float32", "float16", "bfloat16", "int8"}, default="float32"
        How the catalogue is kept. The two 16-bit forms round the vectors and are exact for the
        rounded ones. ``"int8"`` keeps a quantised copy beside the float32 vectors, which makes
        single queries faster and gives the same answer as ``"float32"``.
    item_block : int, default=None
        Items scored at once; by default what fits the processor's cache.
    memory_budget : int, default=256 MiB
        Bytes that a search may use beyond its inputs and outputs.

    Attributes
    ----------
    n_items_ : int
        Size of the catalogue.
    dim_ : int
        Width of its vectors.
    n_features_in_ : int
        The same width, by scikit-learn's name.
    feature_names_in_ : ndarray of str
        Names of the columns, where `fit` was given a table whose columns have names.
    catalogue_ : Catalogue
        What :func:`palate.ops.topk.topk` searches; replaced, never changed, by ``extend``.

    Examples
    --------
    >>> import torch
    >>> items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    >>> ranker = CosineRanker().fit(items)
    >>> ranker.topk(torch.tensor([[0.0, 3.0]]), k=2).indices
    tensor([[1, 2]])
    >>> distances, indices = ranker.kneighbors([[0.0, 3.0]], n_neighbors=2)
    >>> distances.round(4), indices
    (array([[0.    , 0.2929]], dtype=float32), array([[1, 2]]))
    """

    def __init__(
        self,
        *,
        metric: str = "cosine",
        storage: str = "float32",
        item_block: int | None = None,
        memory_budget: int = 256 * 2**20,
    ) -> None:
        self.metric = metric
        self.storage = storage
        self.item_block = item_block
        self.memory_budget = memory_budget

    def fit(self, vectors: Any, y: Any = None) -> CosineRanker:
        """Take a catalogue.

        Parameters
        ----------
        vectors : float Tensor, or array-like or table of numbers, of shape (n_items, dim)
            Copied; their length matters only for ``"dot"`` and ``"euclidean"``. Only a tensor may
            have no rows.
        y : None
            Ignored, for scikit-learn's convention.

        Returns
        -------
        CosineRanker
            Itself.
        """
        check_choice("metric", self.metric, METRICS)
        check_choice("storage", self.storage, STORAGES)
        check_int("memory_budget", self.memory_budget, minimum=1)
        if self.item_block is not None:
            check_int("item_block", self.item_block, minimum=1)
        rows, noted = rows_to_fit(self, vectors)
        self.catalogue_ = new_catalogue(rows, self.metric, self.storage)
        note_columns(self, noted)
        self.n_items_, self.dim_ = self.catalogue_.n_items, self.catalogue_.dim
        return self

    def extend(self, vectors: Any) -> CosineRanker:
        """Append rows to the catalogue; what a shallow copy of the ranker shares is not changed.

        Parameters
        ----------
        vectors : float Tensor or array of shape (n_new, dim)

        Returns
        -------
        CosineRanker
            Itself.
        """
        check_is_fitted(self)
        new = as_vectors("vectors", vectors, self.dim_)
        self.catalogue_ = extend_catalogue(self.catalogue_, new)
        self.n_items_ = self.catalogue_.n_items
        return self

    def topk(self, queries: Any, k: int, *, exclude: Any = None, include: Any = None) -> TopK:
        """Find the `k` best items of each query.

        Parameters
        ----------
        queries : float Tensor or array of shape (n_queries, dim)
        k : int
        exclude, include : optional
            Filters, as in :func:`palate.ops.topk.topk`.

        Returns
        -------
        TopK of scores (n_queries, k) and indices (n_queries, k)
        """
        if "catalogue_" not in self.__dict__:  # the check itself costs as much as a small search
            check_is_fitted(self)
        return topk(
            as_vectors("queries", queries, self.dim_),
            self.catalogue_,
            k,
            metric=self.metric,
            exclude=exclude,
            include=include,
            item_block=self.item_block,
            memory_budget=self.memory_budget,
        )

    def _kept(self) -> Catalogue:
        return self.catalogue_

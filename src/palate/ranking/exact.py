"""The exact ranker: a catalogue normalised and placed once, searched block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from palate._validation import check_choice, check_int
from palate.exceptions import InvalidInputError
from palate.ops._topk_catalogue import extend_catalogue, new_catalogue
from palate.ops.similarity import METRICS
from palate.ops.topk import TopK, topk

STORAGES = ("float32", "float16", "bfloat16", "int8")


class CosineRanker(BaseEstimator):
    """Exact nearest items by cosine, dot product or Euclidean distance.

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
    catalogue_ : Catalogue
        What :func:`palate.ops.topk.topk` searches; replaced, never changed, by ``extend``.

    Examples
    --------
    >>> items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    >>> ranker = CosineRanker().fit(items)
    >>> ranker.topk(torch.tensor([[0.0, 3.0]]), k=2).indices
    tensor([[1, 2]])
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
        vectors : float Tensor or array of shape (n_items, dim)
            Copied; their length matters only for ``"dot"`` and ``"euclidean"``.
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
        self.catalogue_ = new_catalogue(as_vectors("vectors", vectors), self.metric, self.storage)
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

    def kneighbors(self, queries: Any, n_neighbors: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Find nearest items in scikit-learn's convention.

        Parameters
        ----------
        queries : float Tensor or array of shape (n_queries, dim)
        n_neighbors : int, default=5
            At most `n_items_`.

        Returns
        -------
        distances : float32 array of shape (n_queries, n_neighbors)
            Rising: ``1 - cosine``, minus the dot product, or the Euclidean distance.
        indices : int64 array of shape (n_queries, n_neighbors)

        Examples
        --------
        >>> ranker = CosineRanker(metric="euclidean").fit(torch.tensor([[0.0], [4.0]]))
        >>> ranker.kneighbors(torch.tensor([[1.0]]), n_neighbors=2)[0]
        array([[1., 3.]], dtype=float32)
        """
        return as_neighbors(self, queries, n_neighbors)


def as_neighbors(ranker: Any, queries: Any, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a ranker's answer as distances and indices of numpy, nearest first."""
    check_is_fitted(ranker)
    check_int("n_neighbors", n_neighbors, minimum=1)
    if n_neighbors > ranker.n_items_:
        raise InvalidInputError(
            f"n_neighbors must be at most the {ranker.n_items_} items; got {n_neighbors}."
        )
    found = ranker.topk(queries, n_neighbors)
    base = 1.0 if ranker.metric == "cosine" else 0.0
    return (base - found.scores).cpu().numpy(), found.indices.cpu().numpy()


def as_vectors(name: str, values: Any, dim: int | None = None) -> Tensor:
    """Return `values` as a two-dimensional float tensor of width `dim`."""
    vectors = values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    if vectors.ndim != 2 or not vectors.is_floating_point():
        raise InvalidInputError(
            f"{name} must be two-dimensional floats; got {vectors.dtype} of shape "
            f"{tuple(vectors.shape)}."
        )
    if dim is not None and vectors.shape[1] != dim:
        raise InvalidInputError(f"{name} must have {dim} columns; got {vectors.shape[1]}.")
    return vectors

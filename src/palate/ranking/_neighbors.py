"""What rankers share: rows read from tensors, arrays and tables, and scikit-learn's neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from palate._validation import check_choice, check_int
from palate.exceptions import InvalidInputError
from palate.ops._topk_catalogue import Catalogue, rows_of

_FLOATS = (np.float64, np.float32)
_NOTED = ("n_features_in_", "feature_names_in_")


class NeighborsMixin:
    """The questions of :class:`sklearn.neighbors.NearestNeighbors`, asked of a fitted ranker."""

    metric: str
    n_items_: int

    def topk(self, queries: Any, k: int, *, exclude: Any = None, include: Any = None) -> Any:
        """Find the best items of each query."""
        raise NotImplementedError

    def _kept(self) -> Catalogue:
        """Return the catalogue whose rows are the items."""
        raise NotImplementedError

    def kneighbors(
        self, X: Any = None, n_neighbors: int = 5, return_distance: bool = True
    ) -> tuple[np.ndarray, np.ndarray] | np.ndarray:
        """Find nearest items, as :meth:`sklearn.neighbors.NearestNeighbors.kneighbors` does.

        Parameters
        ----------
        X : float Tensor, array or table of shape (n_queries, dim), default=None
            The queries. None asks for the neighbours of every item, itself left out.
        n_neighbors : int, default=5
            At most the number of items, less one for None.
        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        distances : float32 array of shape (n_queries, n_neighbors)
            Rising: ``1 - cosine``, minus the dot product, or the Euclidean distance. Left out
            without `return_distance`.
        indices : int64 array of shape (n_queries, n_neighbors)
            Rows of what was fitted. Equal distances keep the order of rows.

        Raises
        ------
        InvalidInputError
            If there are fewer items than `n_neighbors`.

        Examples
        --------
        >>> from palate import CosineRanker
        >>> ranker = CosineRanker(metric="euclidean").fit([[0.0], [4.0], [5.0]])
        >>> ranker.kneighbors([[1.0]], n_neighbors=2)[0]
        array([[1., 3.]], dtype=float32)
        >>> ranker.kneighbors(n_neighbors=1, return_distance=False)
        array([[1],
               [2],
               [1]])
        """
        check_is_fitted(self)
        n_neighbors = check_int("n_neighbors", n_neighbors, minimum=1)
        queries = self._own_rows() if X is None else read_queries(self, X)
        most = self.n_items_ - 1 if X is None else self.n_items_
        if n_neighbors > most:
            raise InvalidInputError(
                f"n_neighbors must be at most the {max(most, 0)} {'other ' if X is None else ''}"
                f"items; got {n_neighbors}."
            )
        itself = torch.arange(len(queries))
        found = self.topk(queries, n_neighbors, exclude=(itself, itself) if X is None else None)
        indices = found.indices.cpu().numpy()
        if not return_distance:
            return indices  # type: ignore[no-any-return]
        distances = found.scores.neg()
        if self.metric == "cosine":
            distances = (1.0 + distances).clamp_(min=0.0)  # a rounded cosine may exceed 1
        return distances.cpu().numpy() + 0.0, indices  # minus zero becomes zero

    def kneighbors_graph(
        self, X: Any = None, n_neighbors: int = 5, mode: str = "connectivity"
    ) -> csr_matrix:
        """Return the graph of nearest items as a sparse matrix.

        Parameters
        ----------
        X : as in `kneighbors`, default=None
        n_neighbors : int, default=5
        mode : {"connectivity", "distance"}, default="connectivity"
            Whether an entry is 1 or the distance.

        Returns
        -------
        sparse matrix in CSR form of shape (n_queries, n_items)

        Examples
        --------
        >>> from palate import CosineRanker
        >>> CosineRanker(metric="euclidean").fit([[0.0], [4.0], [5.0]]).kneighbors_graph(
        ...     n_neighbors=1, mode="distance"
        ... ).toarray()
        array([[0., 4., 0.],
               [0., 0., 1.],
               [0., 1., 0.]])
        """
        check_choice("mode", mode, ("connectivity", "distance"))
        distances, indices = self.kneighbors(X, n_neighbors)
        found = indices >= 0
        indptr = np.concatenate([[0], np.cumsum(found.sum(1))])
        values = distances[found].astype(np.float64)
        if mode == "connectivity":
            values = np.ones_like(values)
        return csr_matrix((values, indices[found], indptr), (len(indices), self.n_items_))

    def _own_rows(self) -> Tensor:
        kept = self._kept()
        device = kept.segments[0].vectors.device if kept.segments else None
        return rows_of(kept, torch.arange(kept.n_items, device=device))


def rows_to_fit(ranker: Any, values: Any) -> tuple[Tensor, dict[str, Any]]:
    """Return rows as a float tensor, and what a fitted estimator knows of their columns.

    Tensors, the estimator's own way in, are read as they are; arrays, lists and tables are checked
    as any scikit-learn estimator checks them.
    """
    if isinstance(values, Tensor):
        rows = as_vectors("vectors", values)
        return rows, {"n_features_in_": rows.shape[1]}
    # On a blank copy, so that a refused input leaves the ranker as it was.
    blank = type(ranker)()
    rows = tensor_of(validate_data(blank, values, dtype=_FLOATS))
    return rows, {name: value for name, value in vars(blank).items() if name in _NOTED}


def note_columns(ranker: Any, noted: dict[str, Any]) -> None:
    """Remember what `rows_to_fit` found, and forget what an earlier fit did."""
    for name in _NOTED:
        vars(ranker).pop(name, None)
    vars(ranker).update(noted)


def read_queries(ranker: Any, X: Any) -> Tensor:
    """Return queries as a float tensor of the fitted width."""
    if isinstance(X, Tensor):
        return as_vectors("X", X, ranker.dim_)
    return tensor_of(validate_data(ranker, X, reset=False, dtype=_FLOATS))


def tensor_of(array: np.ndarray) -> Tensor:
    """Return an array as a tensor, copied only where torch cannot share it."""
    # A type that torch lacks (long double) and foreign bytes become plain ones.
    plain = np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(array, plain, requirements=["C", "W"]))


def as_vectors(name: str, values: Any, dim: int | None = None) -> Tensor:
    """Return `values` as a two-dimensional float tensor of width `dim`."""
    if isinstance(values, Tensor):
        vectors = values.detach()
    else:
        try:
            array = np.asarray(values)
        except ValueError as error:  # lists of several lengths
            raise InvalidInputError(
                f"{name} must be two-dimensional floats; got a {type(values).__name__} that is "
                "ragged."
            ) from error
        if array.dtype.kind not in "fiub":
            raise InvalidInputError(
                f"{name} must be two-dimensional floats; got {array.dtype} of shape {array.shape}."
            )
        vectors = tensor_of(array)
    dense = vectors.layout == torch.strided
    if vectors.ndim != 2 or not vectors.is_floating_point() or not dense:
        raise InvalidInputError(
            f"{name} must be two-dimensional floats; got "
            f"{vectors.dtype if dense else vectors.layout} of shape {tuple(vectors.shape)}."
        )
    if dim is not None and vectors.shape[1] != dim:
        raise InvalidInputError(f"{name} must have {dim} columns; got {vectors.shape[1]}.")
    return vectors

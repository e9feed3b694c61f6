"""The approximate ranker: inverted lists for catalogues where the exact search is too slow."""

from __future__ import annotations

import math
from typing import Any

import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from palate._optional import require
from palate._random import draw_seed
from palate._validation import check_choice, check_int
from palate.ops._topk_canonical import canonical_scores
from palate.ops._topk_catalogue import Catalogue, check_metric, rows_of
from palate.ops._topk_filters import ItemLists, exclusion_lists, included_codes
from palate.ops._topk_prepare import prepared_rows
from palate.ops.similarity import METRICS
from palate.ops.topk import TopK
from palate.ranking._neighbors import NeighborsMixin, as_vectors, note_columns, rows_to_fit
from palate.ranking.exact import CosineRanker

#: Numbers gathered at once while candidates are scored.
_GATHER = 1 << 22
#: Growth after which the lists are learned again.
_REGROW = 4
#: Longest list, as of the exact search.
_MOST = 2**31 - 1


class ApproximateRanker(NeighborsMixin, BaseEstimator):
    """Approximately nearest items, from the lists nearest to the query (faiss' ``IVFFlat``).

    Alone it is used like :class:`sklearn.neighbors.NearestNeighbors`; places that the lists cannot
    fill hold an infinite distance and -1.

    The items found are scored as :class:`CosineRanker` scores them, so both agree on every pair;
    only some of the best items may be missing. :meth:`recall` measures how many.

    Parameters
    ----------
    metric : {"cosine", "dot", "euclidean"}, default="cosine"
        What a score is; ``"euclidean"`` scores are minus the distance.
    n_lists : int, default=None
        Groups of the catalogue; by default the square root of its size.
    n_probe : int, default=16
        Groups that a query reads: more is slower and finds more.
    random_state : int, RandomState or None, default=0
        Seed of the grouping.

    Attributes
    ----------
    n_items_, dim_ : int
    n_features_in_ : int
        The width `dim_`, by scikit-learn's name.
    feature_names_in_ : ndarray of str
        Names of the columns, where `fit` was given a table whose columns have names.
    exact_ : CosineRanker
        The same catalogue, for scores and for :meth:`recall`.
    index_ : faiss.IndexIVFFlat

    Notes
    -----
    Needs the extra ``palate[ann]``. The vectors are kept twice, in the lists and in `exact_`.

    Examples
    --------
    >>> items = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    >>> ranker = ApproximateRanker(n_lists=4, n_probe=4).fit(items)
    >>> ranker.topk(items[:1], k=1).indices
    tensor([[0]])
    >>> ranker.recall(items[:20], k=10)
    1.0
    """

    def __init__(
        self,
        *,
        metric: str = "cosine",
        n_lists: int | None = None,
        n_probe: int = 16,
        random_state: Any = 0,
    ) -> None:
        self.metric = metric
        self.n_lists = n_lists
        self.n_probe = n_probe
        self.random_state = random_state

    def fit(self, vectors: Any, y: Any = None) -> ApproximateRanker:
        """Take a catalogue (n_items, dim) and learn its lists.

        Parameters
        ----------
        vectors : float Tensor, or array-like or table of numbers, of shape (n_items, dim)
        y : None
            Ignored, for scikit-learn's convention.

        Returns
        -------
        ApproximateRanker
            Itself.
        """
        check_choice("metric", self.metric, METRICS)
        check_int("n_probe", self.n_probe, minimum=1)
        if self.n_lists is not None:
            check_int("n_lists", self.n_lists, minimum=1)
        rows, noted = rows_to_fit(self, vectors)
        exact = CosineRanker(metric=self.metric).fit(rows)
        self._seed = draw_seed(self.random_state)
        self._take(exact, None)
        note_columns(self, noted)
        return self

    def extend(self, vectors: Any) -> ApproximateRanker:
        """Append rows (n_new, dim); what a shallow copy of the ranker shares is not changed.

        The lists are copied, and learned again when the catalogue has grown fourfold.
        """
        check_is_fitted(self)
        check_metric(self.exact_.catalogue_, self.metric)
        exact = CosineRanker(metric=self.metric)
        exact.__dict__.update(self.exact_.__dict__)
        exact.extend(vectors)
        grown = exact.n_items_ > _REGROW * self._n_learned
        index = None if grown or not self.n_items_ else _faiss().clone_index(self.index_)
        self._take(exact, index)
        return self

    def _take(self, exact: CosineRanker, index: Any) -> None:
        """Learn the lists where there are none, and add the rows that they lack."""
        faiss, n_items = _faiss(), exact.n_items_
        if index is None:
            euclidean = self.metric == "euclidean"
            kind = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
            n_lists = min(self.n_lists or max(1, math.isqrt(n_items)), max(1, n_items))
            coarse = faiss.IndexFlatL2(exact.dim_) if euclidean else faiss.IndexFlatIP(exact.dim_)
            index = faiss.IndexIVFFlat(coarse, exact.dim_, n_lists, kind)
            index.cp.seed = self._seed
            index.cp.min_points_per_centroid = 1  # small catalogues are fine
            if n_items:
                index.train(rows_of(exact.catalogue_, torch.arange(n_items)).numpy())
            self._n_learned = n_items
        new = torch.arange(index.ntotal, n_items)
        if len(new):
            index.add(rows_of(exact.catalogue_, new).numpy())
        self.exact_, self.index_ = exact, index
        self.n_items_, self.dim_ = n_items, exact.dim_

    def topk(self, queries: Any, k: int, *, exclude: Any = None, include: Any = None) -> TopK:
        """Find about the `k` best items of each query.

        Parameters
        ----------
        queries : float Tensor or array of shape (n_queries, dim)
        k : int
        exclude, include : optional
            Filters, as in :func:`palate.ops.topk.topk`.

        Returns
        -------
        TopK of scores (n_queries, k) and indices (n_queries, k)
            A row ends in -inf and -1 where the lists that were read hold fewer items.
        """
        check_is_fitted(self)
        check_metric(self.exact_.catalogue_, self.metric)
        k = check_int("k", k, minimum=1, maximum=_MOST)
        vectors = as_vectors("queries", queries, self.dim_)
        ready = prepared_rows("queries", vectors, unit=self.metric == "cosine")[0].float()
        lists = exclusion_lists(exclude, len(ready), self.n_items_)
        codes = self._search(ready, k, lists, included_codes(include, self.n_items_))
        rows = max(1, _GATHER // max(codes.shape[1] * self.dim_, 1))
        parts = [
            self._scored(ready[i : i + rows], codes[i : i + rows], k)
            for i in range(0, len(ready), rows)
        ]
        if not parts:
            return TopK(torch.empty(0, k), torch.empty(0, k, dtype=torch.int64))
        return TopK(torch.cat([p.scores for p in parts]), torch.cat([p.indices for p in parts]))

    def _search(
        self, queries: Tensor, k: int, lists: ItemLists | None, include: Tensor | None
    ) -> Tensor:
        """Return candidates (n_queries, n), -1 where there is none or it is excluded."""
        faiss = _faiss()
        most = int(lists.indptr.diff().max()) if lists is not None else 0
        fetch = min(k + most, max(self.n_items_, 1))
        options: dict[str, Any] = {"nprobe": min(self.n_probe, self.index_.nlist)}
        if include is not None:
            options["sel"] = faiss.IDSelectorBatch(include.numpy())
        parameters = faiss.SearchParametersIVF(**options)
        if not self.n_items_ or not len(queries):
            return torch.full((len(queries), fetch), -1)
        found = torch.from_numpy(self.index_.search(queries.numpy(), fetch, params=parameters)[1])
        if lists is not None:
            for row, codes in enumerate(lists.indices.split(lists.indptr.diff().tolist())):
                found[row][torch.isin(found[row], codes)] = -1
        return found

    def _scored(self, queries: Tensor, codes: Tensor, k: int) -> TopK:
        """Score candidates canonically and sort them by (-score, code)."""
        n_queries, n = codes.shape
        if not self.n_items_:
            return TopK(torch.full((n_queries, k), -torch.inf), torch.full((n_queries, k), -1))
        codes = codes.sort(dim=1).values  # so that a stable sort by score leaves ties in order
        items = rows_of(self.exact_.catalogue_, codes.clamp(min=0).reshape(-1))
        kind = "dot" if self.metric == "cosine" else self.metric
        pairs = queries.repeat_interleave(n, 0)
        scores = canonical_scores(pairs, items, kind).view(n_queries, n)
        scores = scores.masked_fill(codes < 0, -torch.inf)
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
        pad = (0, k - order.shape[1])
        best = torch.nn.functional.pad(scores.gather(1, order), pad, value=-torch.inf)
        return TopK(best, torch.nn.functional.pad(codes.gather(1, order), pad, value=-1))

    def _kept(self) -> Catalogue:
        return self.exact_.catalogue_

    def recall(self, queries: Any, k: int) -> float:
        """Return the share of the exact `k` best items that the approximate search finds.

        Parameters
        ----------
        queries : float Tensor or array of shape (n_queries, dim)
        k : int

        Returns
        -------
        float
            In [0, 1], over all queries; 1 where there is nothing to find.
        """
        exact = self.exact_.topk(queries, k).indices
        found = self.topk(queries, k).indices
        wanted = exact >= 0
        hits = sum(int(torch.isin(a, b[b >= 0]).sum()) for a, b in zip(exact, found, strict=True))
        return hits / max(int(wanted.sum()), 1) if bool(wanted.any()) else 1.0


def _faiss() -> Any:
    return require("faiss", extra="ann", purpose="ApproximateRanker")

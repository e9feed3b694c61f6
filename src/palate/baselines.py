"""The baseline that a model must beat: the same popular items for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from palate._estimator import result_table, score
from palate._inputs import code_interactions
from palate._options import RunOptions
from palate._validation import check_int
from palate.data.frames import native_namespace
from palate.data.histories import Histories
from palate.data.items import ItemTable
from palate.data.vocabulary import Vocabulary
from palate.queries import MUST_KNOW, Queries, user_queries
from palate.ranking.exact import CosineRanker
from palate.serving import top_items


@dataclass(frozen=True)
class _Counted:
    """A catalogue whose items have one number each, their count."""

    users: Vocabulary
    items: Vocabulary
    histories: Histories
    ranker: CosineRanker

    def user_vectors(self, queries: Queries, options: RunOptions) -> Tensor:
        """Return the same query for everybody."""
        return torch.ones(len(queries), 1)


class MostPopular(BaseEstimator):
    """Recommends the items with the most events.

    Attributes
    ----------
    item_ids_ : ndarray of shape (n_items,)
    counts_ : int64 ndarray of shape (n_items,)
        Events of each item.

    Examples
    --------
    >>> model = MostPopular().fit([["a", "b"], ["b", "c"], ["b"]])
    >>> model.recommend([2], k=1)["item_id"].tolist()
    ['a']
    >>> model.recommend([2], k=1, filter_viewed=False)["item_id"].tolist()
    ['b']
    """

    def fit(self, X: Any, y: Any = None) -> MostPopular:
        """Count the events of each item.

        Parameters
        ----------
        X : as in :meth:`palate.Recommender.fit`
        y : None
            Ignored.

        Returns
        -------
        MostPopular
            Itself.
        """
        coded = code_interactions(
            X,
            None,
            users=Vocabulary(),
            known=Vocabulary(),
            table=ItemTable.without_content(0),
            needs_content=False,
        )
        counts = np.bincount(coded.events.items, minlength=len(coded.items))
        # A dot product with the query (1,) is the count itself.
        ranker = CosineRanker(metric="dot").fit(
            torch.from_numpy(counts.astype(np.float32))[:, None]
        )
        histories = Histories.from_events(coded.events, len(coded.users))
        self._serving = _Counted(coded.users, coded.items, histories, ranker)
        self._library = native_namespace(X)
        self.item_ids_, self.counts_ = coded.items.array, counts
        return self

    def recommend(
        self, users: Sequence[Any] | None = None, *, k: int = 10, filter_viewed: bool = True
    ) -> Any:
        """Return the most popular items for known users, as `Recommender.recommend` does."""
        check_is_fitted(self)
        check_int("k", k, minimum=1)
        serving = self._serving
        queries = user_queries(
            users, serving.users, serving.histories, len(serving.items), MUST_KNOW
        )
        scores, codes = top_items(serving, queries, k, RunOptions(), filter_viewed=filter_viewed)
        labels = {"user_id": queries.labels}
        return result_table(labels, scores, codes, serving.items, self._library)

    def score(
        self,
        X: Any,
        y: Any = None,
        *,
        metric: str = "ndcg",
        k: int = 10,
        filter_viewed: bool = True,
    ) -> float:
        """Return a ranking metric on held-out events, as `Recommender.score` does."""
        check_is_fitted(self)
        return score(self._serving, X, metric, k, filter_viewed, RunOptions())

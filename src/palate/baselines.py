"""The baseline that a model must beat: the same popular items for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from palate._estimator import (
    check_columns,
    note_columns,
    score,
    tags,
    users_of_rows,
)
from palate._inputs import code_interactions, is_histories
from palate._options import RunOptions
from palate._results import library_named, padded_ids, read_only, result_table
from palate._validation import check_int
from palate.data.frames import native_namespace
from palate.data.histories import Histories
from palate.data.items import ItemTable
from palate.data.popularity import Popularity
from palate.data.vocabulary import Vocabulary
from palate.queries import MUST_KNOW, Queries, history_queries, user_queries
from palate.ranking.exact import CosineRanker
from palate.serving import top_items


@dataclass(frozen=True)
class _Counted:
    """A catalogue whose items have one number each, their count."""

    users: Vocabulary
    items: Vocabulary
    histories: Histories
    ranker: CosineRanker

    @property
    def popularity(self) -> Popularity:
        """The counts, which do not fade."""
        return Popularity.of(self.histories, len(self.items), None)

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
    n_features_in_ : int
        Columns of X in `fit`, unless it was a list of histories.
    feature_names_in_ : ndarray of str
        Their names, where X was a table.

    Examples
    --------
    >>> model = MostPopular().fit([["a", "b"], ["b", "c"], ["b"]])
    >>> model.recommend([2], k=1)["item_id"].tolist()
    ['a']
    >>> model.recommend([2], k=1, filter_viewed=False)["item_id"].tolist()
    ['b']
    """

    # A pipeline passes `sample_weight=None` to every score; any other value is refused.
    __metadata_request__score: ClassVar = {"sample_weight": None}

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
        n_columns = check_columns(self, X, reset=True)
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
        note_columns(self, X, n_columns)
        self.item_ids_, self.counts_ = read_only(coded.items.array), counts
        return self

    def recommend(
        self, users: Sequence[Any] | None = None, *, k: int = 10, filter_viewed: bool = True
    ) -> Any:
        """Return the most popular items for known users, as `Recommender.recommend` does."""
        check_is_fitted(self)
        k = check_int("k", k, minimum=1)
        serving = self._serving
        queries = user_queries(
            users, serving.users, serving.histories, len(serving.items), MUST_KNOW
        )
        scores, codes = top_items(serving, queries, k, RunOptions(), filter_viewed=filter_viewed)
        labels = {"user_id": queries.labels}
        return result_table(labels, scores, codes, serving.items, self._library)

    def predict(self, X: Any, *, k: int = 10, filter_viewed: bool = True) -> np.ndarray:
        """Return the most popular items for the user of each row, as `Recommender.predict` does."""
        check_is_fitted(self)
        k = check_int("k", k, minimum=1)
        serving = self._serving
        if is_histories(X):
            queries = history_queries(X, serving.items, MUST_KNOW)
            rows = np.arange(len(queries))
        else:
            users, rows = users_of_rows(self, X)
            queries = user_queries(
                users, serving.users, serving.histories, len(serving.items), MUST_KNOW
            )
        _, codes = top_items(serving, queries, k, RunOptions(), filter_viewed=filter_viewed)
        return padded_ids(codes, serving.items, k)[rows]

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
        check_columns(self, X, reset=False)
        return score(self._serving, X, metric, k, filter_viewed, RunOptions())

    def __getstate__(self) -> dict[str, Any]:
        # A module cannot be pickled; its name can.
        state: dict[str, Any] = dict(super().__getstate__())
        if isinstance(state.get("_library"), ModuleType):
            state["_library"] = state["_library"].__name__
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if isinstance(state.get("_library"), str):
            state["_library"] = library_named(state["_library"])
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        described: Any = tags(super().__sklearn_tags__())
        described.transformer_tags = None
        return described

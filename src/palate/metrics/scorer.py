"""A scikit-learn scorer that asks an estimator for one ranking metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sklearn.pipeline import Pipeline

from palate._validation import check_choice, check_int
from palate.metrics.ranking import ACCURACY_METRICS


@dataclass(frozen=True)
class RankingScorer:
    """Callable ``scorer(estimator, X, y=None)``: greater is better; see `make_ranking_scorer`."""

    metric: str = "ndcg"
    k: int = 10
    filter_viewed: bool = True

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        """Return ``estimator.score(X, metric=..., k=..., filter_viewed=...)`` as a float.

        A search stands for its best estimator, and a pipeline for its last step, asked about what
        the steps before make of X: neither passes a metric on to the score of what it wraps.
        """
        while True:
            if hasattr(estimator, "best_estimator_"):
                estimator = estimator.best_estimator_
            elif isinstance(estimator, Pipeline):
                for _, step in estimator.steps[:-1]:
                    X = X if step is None or step == "passthrough" else step.transform(X)
                estimator = estimator.steps[-1][1]
            else:
                break
        return float(
            estimator.score(X, metric=self.metric, k=self.k, filter_viewed=self.filter_viewed)
        )


def make_ranking_scorer(
    metric: str = "ndcg", k: int = 10, filter_viewed: bool = True
) -> RankingScorer:
    """Make a scorer for ``cross_validate`` and ``GridSearchCV``.

    Parameters
    ----------
    metric : str, default="ndcg"
        One of ``hr``, ``recall``, ``precision``, ``ndcg``, ``mrr``, ``map``.
    k : int, default=10
        List length, at least 1.
    filter_viewed : bool, default=True
        Whether items of the user's own history are left out of the recommendations.

    Returns
    -------
    RankingScorer
        It can be pickled, copied, compared and used in a dict of several scorers.

    Raises
    ------
    InvalidParameterError
        If the metric is unknown or `k` is below 1.

    Examples
    --------
    >>> make_ranking_scorer("hr", k=5)
    RankingScorer(metric='hr', k=5, filter_viewed=True)
    """
    return RankingScorer(
        check_choice("metric", metric, ACCURACY_METRICS),
        check_int("k", k, minimum=1),
        bool(check_choice("filter_viewed", filter_viewed, (True, False))),
    )

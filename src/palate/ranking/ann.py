"""The approximate ranker."""

from __future__ import annotations

from sklearn.base import BaseEstimator


class ApproximateRanker(BaseEstimator):
    """Nearest items through an approximate index (extra ``ann``)."""

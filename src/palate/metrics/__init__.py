"""Full-ranking metrics: pure array functions, tables in and a dict out, and a scorer."""

from __future__ import annotations

from palate.metrics.catalogue import coverage, novelty, popularity
from palate.metrics.ranking import (
    ACCURACY_METRICS,
    Hits,
    average_precision,
    find_hits,
    hit_rate,
    ndcg,
    precision,
    rank_metrics,
    recall,
    reciprocal_rank,
)
from palate.metrics.scorer import RankingScorer, make_ranking_scorer
from palate.metrics.table import METRICS, evaluate

__all__ = [
    "ACCURACY_METRICS",
    "METRICS",
    "Hits",
    "RankingScorer",
    "average_precision",
    "coverage",
    "evaluate",
    "find_hits",
    "hit_rate",
    "make_ranking_scorer",
    "ndcg",
    "novelty",
    "popularity",
    "precision",
    "rank_metrics",
    "recall",
    "reciprocal_rank",
]

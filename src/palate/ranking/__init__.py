"""Rankers: holders of a catalogue that find the best items of a query."""

from __future__ import annotations

from palate.ranking.ann import ApproximateRanker
from palate.ranking.exact import CosineRanker

__all__ = ["ApproximateRanker", "CosineRanker"]

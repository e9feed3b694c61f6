"""The numbers that move a ranking: how much new or popular items are raised."""

from __future__ import annotations

from typing import Any

import pytest

from palate import Recommender
from palate.exceptions import InvalidParameterError

WEIGHTS = ("new_item_boost", "popularity_weight", "trend_weight")

NO_NUMBER: dict[str, Any] = {
    "NaN": float("nan"),
    "infinite": float("inf"),
    "below 0": -0.5,
    "None": None,
    "bool": True,
    "text": "1",
    "list": [1.0],
    "complex": 1j,
}


@pytest.mark.parametrize("case", list(NO_NUMBER))
@pytest.mark.parametrize("entry", [f"recommend {name}" for name in WEIGHTS])
def test_refused(entry: str, case: str, learned: Recommender, refused: Any) -> None:
    name, value = entry.split()[1], NO_NUMBER[case]
    refused(
        lambda: learned.recommend(**{name: value}),
        InvalidParameterError,
        f"{name} must be a number in [0, inf); got {value!r}.",
        learned,
    )

"""Helpers for the tests of palate and of what builds on it.

Names are imported when first used: pytest loads the plugin of this package at its start, which
must not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palate.testing.contracts import check_item_encoder, check_ranker, check_user_encoder
    from palate.testing.interactions import make_interactions
    from palate.testing.tiny_bert import make_tiny_bert

_HOMES = {
    "check_item_encoder": "palate.testing.contracts",
    "check_ranker": "palate.testing.contracts",
    "check_user_encoder": "palate.testing.contracts",
    "make_interactions": "palate.testing.interactions",
    "make_tiny_bert": "palate.testing.tiny_bert",
}

__all__ = [
    "check_item_encoder",
    "check_ranker",
    "check_user_encoder",
    "make_interactions",
    "make_tiny_bert",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value

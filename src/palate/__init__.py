"""palate learns people's taste from what they did and what things are, and ranks a catalogue."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palate._options import RunOptions
    from palate.data.items import Items
    from palate.data.knowledge import KnowledgeGraph
    from palate.data.people import Users
    from palate.encoders.item.bert import BertEncoder, BertItemEncoder
    from palate.encoders.item.features import FeatureEncoder
    from palate.encoders.item.fusion import Fusion
    from palate.encoders.item.ids import IdEncoder
    from palate.encoders.item.knowledge import KnowledgeEncoder
    from palate.encoders.user.gru import GRUEncoder
    from palate.encoders.user.transformer import TransformerEncoder
    from palate.history_encoder import HistoryEncoder
    from palate.queries import Text
    from palate.ranking.ann import ApproximateRanker
    from palate.ranking.exact import CosineRanker
    from palate.recommender import Recommender
    from palate.reranking.spec import Reranker
    from palate.training.objectives import (
        GBCEObjective,
        SampledSoftmaxObjective,
        SoftmaxObjective,
    )

__version__ = "0.1.0"

# Where each public name lives: imported when first used, since scikit-learn and pandas together
# take longer to import than torch.
_HOMES = {
    "ApproximateRanker": "palate.ranking.ann",
    "BertEncoder": "palate.encoders.item.bert",
    "BertItemEncoder": "palate.encoders.item.bert",
    "CosineRanker": "palate.ranking.exact",
    "FeatureEncoder": "palate.encoders.item.features",
    "Fusion": "palate.encoders.item.fusion",
    "GBCEObjective": "palate.training.objectives",
    "GRUEncoder": "palate.encoders.user.gru",
    "HistoryEncoder": "palate.history_encoder",
    "IdEncoder": "palate.encoders.item.ids",
    "Items": "palate.data.items",
    "KnowledgeEncoder": "palate.encoders.item.knowledge",
    "KnowledgeGraph": "palate.data.knowledge",
    "Recommender": "palate.recommender",
    "Reranker": "palate.reranking.spec",
    "RunOptions": "palate._options",
    "SampledSoftmaxObjective": "palate.training.objectives",
    "SoftmaxObjective": "palate.training.objectives",
    "Text": "palate.queries",
    "TransformerEncoder": "palate.encoders.user.transformer",
    "Users": "palate.data.people",
}
_MODULES = ("baselines", "datasets", "export", "metrics", "model_selection", "ops", "testing")

__all__ = [
    "ApproximateRanker",
    "BertEncoder",
    "BertItemEncoder",
    "CosineRanker",
    "FeatureEncoder",
    "Fusion",
    "GBCEObjective",
    "GRUEncoder",
    "HistoryEncoder",
    "IdEncoder",
    "Items",
    "KnowledgeEncoder",
    "KnowledgeGraph",
    "Recommender",
    "Reranker",
    "RunOptions",
    "SampledSoftmaxObjective",
    "SoftmaxObjective",
    "Text",
    "TransformerEncoder",
    "Users",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"palate.{name}")
    else:
        raise AttributeError(f"module 'palate' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})

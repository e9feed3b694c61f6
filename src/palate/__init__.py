"""palate learns people's taste from what they did and what things are, and ranks a catalogue."""

from __future__ import annotations

from palate._options import RunOptions
from palate.data.items import Items
from palate.encoders.item.bert import BertEncoder
from palate.encoders.item.fusion import Fusion
from palate.encoders.item.ids import IdEncoder
from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.transformer import TransformerEncoder
from palate.queries import Text
from palate.ranking.ann import ApproximateRanker
from palate.ranking.exact import CosineRanker
from palate.recommender import Recommender
from palate.training.objectives import SampledSoftmaxObjective, SoftmaxObjective

__version__ = "0.1.0"

__all__ = [
    "ApproximateRanker",
    "BertEncoder",
    "CosineRanker",
    "Fusion",
    "GRUEncoder",
    "IdEncoder",
    "Items",
    "Recommender",
    "RunOptions",
    "SampledSoftmaxObjective",
    "SoftmaxObjective",
    "Text",
    "TransformerEncoder",
    "__version__",
]

"""The recommender that the pytest plugin hands out."""

from __future__ import annotations

import pandas as pd

from palate._options import RunOptions
from palate.encoders.item.bert import BertEncoder
from palate.encoders.item.fusion import Fusion
from palate.encoders.item.ids import IdEncoder
from palate.encoders.user.transformer import TransformerEncoder
from palate.recommender import Recommender


def fit_tiny(interactions: pd.DataFrame, items: pd.DataFrame, bert: str) -> Recommender:
    """Fit a small recommender in which every public method works, in under a second.

    Parameters
    ----------
    interactions, items : DataFrame
        As :func:`palate.testing.make_interactions` returns them.
    bert : str
        Folder of a BERT, as :func:`palate.testing.make_tiny_bert` writes it.

    Returns
    -------
    Recommender
        Of text and ids, on the CPU, with nothing kept on disk.
    """
    return Recommender(
        user_encoder=TransformerEncoder(n_layers=1, max_length=10),
        item_encoder=Fusion([BertEncoder(bert), IdEncoder()]),
        dim=16,
        epochs=10,
        learning_rate=1e-2,
        batch_size=32,
        validation_fraction=0,
        random_state=0,
        options=RunOptions(device="cpu", progress=False, cache=False),
    ).fit(interactions, items=items)

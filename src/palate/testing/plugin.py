"""The pytest plugin: small data and a fitted recommender for the tests of other projects.

pytest loads this module at its start in every project where palate is installed, so everything
but pytest is imported inside the fixtures. Switch it off with ``-p no:palate``.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import pandas as pd

    from palate import Recommender


@pytest.fixture(scope="session")
def _palate_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    from palate.testing.interactions import make_interactions

    return make_interactions()


@pytest.fixture
def tiny_interactions(_palate_tables: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    """Hand out 600 events of 60 users and 60 items: `palate.testing.make_interactions`."""
    return _palate_tables[0].copy()


@pytest.fixture
def tiny_items(_palate_tables: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    """Hand out the items of `tiny_interactions`, with a title and a category each."""
    return _palate_tables[1].copy()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a BERT with random weights in a folder; nothing is downloaded."""
    from palate.testing.interactions import WORDS
    from palate.testing.tiny_bert import make_tiny_bert

    return str(make_tiny_bert(tmp_path_factory.mktemp("palate") / "tiny-bert", words=WORDS))


@pytest.fixture(scope="session")
def _palate_fitted(
    _palate_tables: tuple[pd.DataFrame, pd.DataFrame], tiny_bert: str
) -> Recommender:
    from palate.testing.fitted import fit_tiny

    return fit_tiny(*_palate_tables, tiny_bert)


@pytest.fixture
def tiny_recommender(_palate_fitted: Recommender) -> Recommender:
    """Hand out a copy of a recommender of text and ids, fitted once on `tiny_interactions`."""
    return copy.deepcopy(_palate_fitted)

"""What several tests of the recommender measure it against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from palate import Recommender


@pytest.fixture(scope="session")
def sorted_scores() -> Callable[..., pd.Series]:
    """Rank the catalogue the plain way, in float64: cosine, and popularity by two weights."""

    def rank(
        model: Recommender,
        happened: pd.Series,
        history: list[str],
        fading: float = 0.0,
        constant: float = 0.0,
    ) -> pd.Series:
        ids = model.item_ids_.tolist()
        query = model.transform([history])[0].astype(np.float64)
        items = model.item_vectors_.astype(np.float64)
        scores = items @ query / np.linalg.norm(items, axis=1) / np.linalg.norm(query)
        counts = happened.value_counts().reindex(ids, fill_value=0).to_numpy()
        popular = np.log((counts / counts.sum() * len(ids) + 0.1) / 1.1)
        scores = scores + (fading / len(history) + constant) * popular
        ranked = pd.Series(scores, index=ids).drop(history)
        return ranked.sort_values(ascending=False, kind="stable")

    return rank


@pytest.fixture(scope="session")
def vectors() -> Callable[..., np.ndarray]:
    """Return the vectors of users, by their ids."""

    def transform(model: Recommender, users: list[str]) -> np.ndarray:
        return model.transform(pd.DataFrame({"user_id": users}))

    return transform


@pytest.fixture(scope="session")
def weights() -> Callable[[Recommender], dict[str, np.ndarray]]:
    """Return the tensors of a model's network, by name."""

    def take(model: Recommender) -> dict[str, np.ndarray]:
        state = model._serving.network.state_dict()
        return {name: value.numpy() for name, value in state.items()}

    return take


@pytest.fixture(scope="session")
def assert_same_weights(weights: Callable[..., dict[str, np.ndarray]]) -> Callable[..., None]:
    """Compare the tensors of two models exactly."""

    def check(one: Recommender, two: Recommender) -> None:
        first, second = weights(one), weights(two)
        assert first.keys() == second.keys()
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name], err_msg=name)

    return check

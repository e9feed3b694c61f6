"""The source method's worked example, done right."""

from __future__ import annotations

import pytest
import torch

from palate import CosineRanker, Recommender, Text
from palate.ops.similarity import cosine, euclidean

USER, ITEM = (1.2, 0.9, -0.8), (0.8, 1.1, -0.7)


def test_the_cosine_is_9652_and_not_98() -> None:
    u, i = torch.tensor(USER), torch.tensor(ITEM)
    assert float(u @ i) == pytest.approx(0.96 + 0.99 + 0.56)
    assert float(cosine(u, i)) == pytest.approx(2.51 / (1.7 * 1.5297), abs=5e-5)
    assert round(float(cosine(u, i)), 4) == 0.9652


def test_the_ranker_gives_the_same_number() -> None:
    items = torch.tensor([(-0.8, -1.1, 0.7), ITEM])
    for metric, expected in (
        ("cosine", 0.9652),
        ("dot", 2.51),
        ("euclidean", -float(euclidean(torch.tensor(USER), torch.tensor(ITEM)))),
    ):
        found = CosineRanker(metric=metric).fit(items).topk(torch.tensor([USER]), k=1)
        assert found.indices.tolist() == [[1]]
        assert found.scores.item() == pytest.approx(expected, abs=5e-5)


def test_three_events_in_words_are_one_user_vector_and_one_item(fitted_once: Recommender) -> None:
    events = ["I bought a book", "I bought a red lamp", "I bought a chair"]
    vector = fitted_once.transform([[Text(event) for event in events]])
    assert vector.shape == (1, 8)
    table = fitted_once.recommend(texts=[events], k=1)
    assert table["user_id"].tolist() == [0]
    assert table["rank"].tolist() == [1]
    place = list(fitted_once.item_ids_).index(table["item_id"][0])
    u, i = torch.tensor(vector[0]), torch.tensor(fitted_once.item_vectors_[place])
    assert table["score"][0] == pytest.approx(float(cosine(u, i)), abs=1e-5)
    # The order of the events is part of the history.
    turned = fitted_once.transform([[Text(event) for event in reversed(events)]])
    assert abs(turned - vector).max() > 1e-4

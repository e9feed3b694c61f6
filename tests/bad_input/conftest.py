"""Fitted models that no refused call may change, and the helper that looks."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import BertEncoder, Recommender
from palate.baselines import MostPopular
from palate.exceptions import NotFittedError

Refused = Callable[..., None]


@pytest.fixture(scope="session")
def learned(options: Any) -> Recommender:
    """A model of ids, times as numbers: users u0, u1, u2 and items a, b, c, d."""
    table = pd.DataFrame(
        {
            "user_id": ["u0", "u0", "u1", "u1", "u1", "u2"],
            "item_id": ["a", "b", "b", "c", "a", "d"],
            "timestamp": [1, 2, 3, 4, 5, 6],
        }
    )
    model = Recommender(item_encoder="id", dim=4, epochs=1, random_state=0, options=options)
    return model.fit(table)


@pytest.fixture(scope="session")
def reader(options: Any, tiny_bert: str) -> Recommender:
    """A model of texts: items a, b, c, d with a title."""
    items = pd.DataFrame(
        {"item_id": list("abcd"), "title": ["red lamp", "green chair", "blue book", "a garden"]}
    )
    model = Recommender(
        item_encoder=BertEncoder(tiny_bert), dim=4, epochs=1, random_state=0, options=options
    )
    return model.fit([["a", "b"], ["b", "c", "a"]], items=items)


@pytest.fixture(scope="session")
def popular() -> MostPopular:
    """The baseline, fitted."""
    return MostPopular().fit([["a", "b"], ["b", "c"], ["b"]])


def fingerprint(model: Any) -> dict[str, Any]:
    """Return what can be seen of a model: answers, records, vectors, ids, parameters, weights."""
    seen: dict[str, Any] = {"params": repr(model.get_params())}
    for name in ("history_", "n_features_in_", "feature_names_in_", "counts_", "item_ids_"):
        seen[name] = repr(getattr(model, name, None))
    try:
        answers = model.recommend(k=3)
    except NotFittedError:
        return seen
    seen["answers"] = answers.to_dict("list")
    if isinstance(model, Recommender):
        state = model._serving
        seen["users"], seen["vectors"] = model.user_ids_.tolist(), model.item_vectors_.tobytes()
        seen["weights"] = {n: t.numpy().tobytes() for n, t in state.network.state_dict().items()}
        events = state.histories.events()
        seen["events"] = [events.users.tolist(), events.items.tolist(), str(events.times)]
        seen["content"] = state.table.frame.to_dict("list")
        if state.people is not None:
            seen["people"] = [state.people.codes.tolist(), state.people.texts.array.tolist()]
        seen["rows of the ranker"] = model.ranker_.n_items_
        with model._lock.held:  # free again: this would wait for ever
            pass
    return seen


@pytest.fixture(scope="session")
def before() -> dict[int, dict[str, Any]]:
    """What every model of the session was when it was first looked at."""
    return {}


@pytest.fixture
def refused(before: dict[int, dict[str, Any]], record_property: Any) -> Iterator[Refused]:
    """Assert that a call raises this error with this whole message, and changes no model."""
    counts = {"refusals": 0, "models_compared": 0}

    def check(call: Callable[[], Any], error: type, message: str, *models: Any) -> None:
        for model in models:
            if id(model) not in before:
                before[id(model)] = fingerprint(model)
                # The number of a model that is gone may be given to another.
                weakref.finalize(model, before.pop, id(model), None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is said in passing
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            with pytest.raises(error) as caught:
                call()
        if message.endswith("…"):  # words of another library follow
            assert str(caught.value).startswith(message[:-1])
        else:
            assert str(caught.value) == message
        for model in models:
            assert fingerprint(model) == before[id(model)]
        counts["refusals"] += 1
        counts["models_compared"] += len(models)

    yield check
    for name, count in counts.items():
        record_property(name, count)


@pytest.fixture(scope="session")
def same_answers() -> Callable[[Any, Any], None]:
    """Assert that two models of renamed ids answer alike: scores and ranks, row by row."""

    def check(one: Any, other: Any) -> None:
        left, right = one.recommend(k=2), other.recommend(k=2)
        assert len(left) == len(right) > 0
        np.testing.assert_array_equal(left["score"], right["score"])
        np.testing.assert_array_equal(left["rank"], right["rank"])

    return check

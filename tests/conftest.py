"""Shared fixtures: small event tables with every axis a different size, and a tiny BERT."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from palate import BertEncoder, Fusion, IdEncoder, Recommender, RunOptions
from palate.testing.tiny_bert import make_tiny_bert

WORDS = ("red", "green", "blue", "lamp", "chair", "book", "garden", "kitchen", "i", "bought", "a")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same weights, whichever ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of random weights in a folder of this session."""
    return str(make_tiny_bert(tmp_path_factory.mktemp("tiny-bert"), hidden_size=20, words=WORDS))


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    """Run on the CPU, silently, with a cache of this session."""
    return RunOptions(device="cpu", progress=False, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def events() -> pd.DataFrame:
    """7 users, 11 of the 13 items, 43 events in shuffled order with some equal timestamps."""
    rng = np.random.default_rng(7)
    lengths = [3, 4, 5, 6, 7, 8, 10]
    users = np.repeat([f"u{i}" for i in range(7)], lengths)
    codes = np.concatenate([rng.permutation(11)[:n] for n in lengths])
    frame = pd.DataFrame(
        {
            "user_id": users,
            "item_id": [f"i{code}" for code in codes],
            "timestamp": rng.integers(0, 40, len(users)),
        }
    )
    return frame.sample(frac=1, random_state=3).reset_index(drop=True)


@pytest.fixture(scope="session")
def items() -> pd.DataFrame:
    """13 items with a title, two of them without events."""
    colours, things = ("red", "green", "blue"), ("lamp", "chair", "book", "garden", "kitchen")
    titles = [f"{colours[i % 3]} {things[i % 5]}" for i in range(13)]
    return pd.DataFrame({"item_id": [f"i{i}" for i in range(13)], "title": titles})


@pytest.fixture(scope="session")
def make_recommender(options: RunOptions, tiny_bert: str) -> Callable[..., Recommender]:
    """Make a small, quick recommender; ``item_encoder="bert+id"`` reads with the tiny BERT."""

    def make(**params: Any) -> Recommender:
        if params.get("item_encoder") == "bert+id":
            params["item_encoder"] = Fusion([BertEncoder(tiny_bert), IdEncoder()])
        elif params.get("item_encoder") == "bert":
            params["item_encoder"] = BertEncoder(tiny_bert)
        chosen = {
            "item_encoder": "id",
            "dim": 8,
            "epochs": 1,
            "random_state": 0,
            "options": options,
        }
        return Recommender(**{**chosen, **params})

    return make


@pytest.fixture(scope="session")
def fitted_once(
    make_recommender: Callable[..., Recommender], events: pd.DataFrame, items: pd.DataFrame
) -> Recommender:
    """A fitted model with content; not to be changed."""
    return make_recommender(item_encoder="bert+id", epochs=2).fit(events, items=items)


@pytest.fixture
def model(fitted_once: Recommender) -> Recommender:
    """A fitted model with content, to be changed at will."""
    return copy.deepcopy(fitted_once)


@pytest.fixture(scope="session")
def id_fitted_once(
    make_recommender: Callable[..., Recommender], events: pd.DataFrame
) -> Recommender:
    """A fitted model of ids alone; not to be changed."""
    return make_recommender().fit(events)


@pytest.fixture
def id_model(id_fitted_once: Recommender) -> Recommender:
    """A fitted model of ids alone, to be changed at will."""
    return copy.deepcopy(id_fitted_once)


@pytest.fixture(scope="session")
def encoding() -> Callable[..., Recommender]:
    """Copy a model into one that keeps no user vectors: each question encodes whom it asks for."""

    def encode(model: Recommender, **options: Any) -> Recommender:
        other = copy.deepcopy(model)
        before = RunOptions() if model.options is None else model.options
        other.options = dataclasses.replace(before, user_vectors_mb=0, **options)
        return other

    return encode


@pytest.fixture(scope="session")
def histories_of() -> Callable[[pd.DataFrame], dict[Any, list[Any]]]:
    """Group a table into histories the plain way: stable order by time, user by user."""

    def group(frame: pd.DataFrame) -> dict[Any, list[Any]]:
        ordered = frame
        if "timestamp" in frame:
            ordered = frame.sort_values("timestamp", kind="stable")
        return {user: list(rows["item_id"]) for user, rows in ordered.groupby("user_id")}

    return group


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Recommender], dict[str, Any]]:
    """Return everything that a caller can see of a fitted model, to compare it later."""

    def take(model: Recommender) -> dict[str, Any]:
        serving = model._serving
        weights = {n: t.clone().numpy() for n, t in serving.network.state_dict().items()}
        return {
            **{f"weight {name}": value for name, value in weights.items()},
            **{
                f"moment {name} {key}": value.clone().numpy()
                for name, moments in serving.learning.optimizer_state.items()
                for key, value in moments.items()
            },
            "items": model.item_ids_.copy(),
            "users": model.user_ids_.copy(),
            "vectors": model.item_vectors_.copy(),
            "events": serving.histories.events().items.copy(),
            "history": [{**record, "seconds": None} for record in model.history_],
            "answers": model.recommend(k=3).to_numpy(),
            "params": str(model.get_params()),
        }

    return take


@pytest.fixture(scope="session")
def assert_same() -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Compare two snapshots exactly."""

    def check(before: dict[str, Any], after: dict[str, Any]) -> None:
        assert before.keys() == after.keys()
        for name, value in before.items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, after[name], err_msg=name)
            else:
                assert value == after[name], name

    return check


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A path where nothing is yet."""
    return tmp_path / "model"

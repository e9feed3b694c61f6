"""What "auto" stands for: the rule, and that the estimator follows and keeps it."""

from __future__ import annotations

import numpy as np
import pytest

from palate import Recommender, RunOptions
from palate.defaults import (
    STANDALONE,
    Settings,
    check_int_or_auto,
    epochs_on,
    fill_spec,
    settings_for,
)
from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.transformer import TransformerEncoder
from palate.exceptions import InvalidParameterError

SMALL = Settings(64, 32, 15, 1, 1, 50, 0.3, shortcut=True)
SPARSE = Settings(128, 128, 18, 1, 1, 50, 0.5, shortcut=True)
DENSE = Settings(128, 16, 20, 2, 2, 200, 0.2, shortcut=True)


@pytest.mark.parametrize(
    ("n_events", "n_users", "n_items", "expected"),
    [
        (198_502, 22_363, 12_101, SPARSE),
        (999_611, 6_040, 3_416, DENSE),
        (22_000, 3_000, 957, SMALL),
        (22_000, 3_000, 1_999, SMALL),
        (22_000, 3_000, 2_000, SPARSE),
        (149_999, 3_000, 1_500, SMALL),
        (150_000, 3_000, 1_500, DENSE),
    ],
)
def test_settings_follow_density_and_size(n_events, n_users, n_items, expected):
    assert settings_for(n_events, n_users, n_items) == expected


@pytest.mark.parametrize(
    ("n_events", "n_users", "n_items", "epochs"),
    [
        (12, 4, 5, 60),  # one step an epoch: 200 would be wanted
        (1_000, 320, 400, 20),  # ten steps an epoch
        (2_000_000, 300_000, 90_000, 15),
        (10_000_000, 1_000_000, 1_000_000, 5),
        (2_000_000, 10_000, 9_000, 15),
        (0, 0, 0, 60),
    ],
)
def test_tiny_sets_take_some_steps_and_huge_ones_few_epochs(n_events, n_users, n_items, epochs):
    assert settings_for(n_events, n_users, n_items).epochs == epochs


@pytest.mark.parametrize(
    ("n_learned", "n_epochs"), [(1, 20), (1_000, 20), (3_999, 10), (8_000, 5), (40_000, 5)]
)
def test_learning_on_reads_a_tenth_of_what_fit_reads(n_learned, n_epochs):
    assert epochs_on(Settings(epochs=20), 20_000, n_learned) == n_epochs


def test_learning_on_takes_no_more_epochs_than_fit():
    assert epochs_on(Settings(epochs=3), 20_000, 20_000) == 3


def test_the_estimator_learns_on_for_so_many_epochs(make_recommender):
    histories = [[f"i{(u + t) % 7}" for t in range(5)] for u in range(60)]
    model = make_recommender(dim=6, epochs="auto", validation_fraction=0).fit(histories)
    assert model.settings_.epochs == 60  # so small a set takes the most epochs there are
    # 12 people, and 12 who are repeated, have 5 events each and 3 new ones: 156 of 336 are read.
    rows = [(u, f"i{(u + t) % 7}") for u in range(12) for t in range(5, 8)]
    n_before = len(model.history_)
    model.partial_fit(np.array(rows, dtype=object))
    assert len(model.history_) - n_before == round(0.1 * 60 * 336 / (2 * 12 * 8))
    # Where all is new, 200 steps or 60 epochs.
    n_before = len(model.history_)
    model.partial_fit(np.array([(f"u{u}", f"n{u % 3 + t}") for u in range(9) for t in range(3)]))
    assert len(model.history_) - n_before == 60


def test_only_auto_is_filled():
    spec = fill_spec(TransformerEncoder(dropout=0.0, n_layers=3), DENSE, dim=10)
    assert spec.get_params() == {
        "n_layers": 3,
        "n_heads": 2,
        "hidden_size": None,
        "block": "prenorm",
        "dropout": 0.0,
        "max_length": 200,
        "pooling": "last",
        "shortcut": True,
    }
    assert fill_spec(TransformerEncoder(), DENSE, dim=9).n_heads == 1
    spec = fill_spec(GRUEncoder(max_length=7), SPARSE, dim=9)
    assert (spec.n_layers, spec.dropout, spec.max_length) == (1, 0.5, 7)


def test_a_number_or_auto():
    assert check_int_or_auto("dim", "auto", minimum=1) is None
    assert check_int_or_auto("dim", 3, minimum=1) == 3
    with pytest.raises(InvalidParameterError) as caught:
        check_int_or_auto("dim", "wide", minimum=1)
    assert str(caught.value) == "dim must be an integer of at least 1 or 'auto'; got 'wide'."


HISTORIES = [[f"i{(u + t) % 7}" for t in range(4 + u % 3)] for u in range(9)]


@pytest.fixture(scope="module")
def model() -> Recommender:
    return Recommender(
        item_encoder="id", random_state=0, options=RunOptions(device="cpu", progress=False)
    ).fit(HISTORIES)


def test_the_estimator_keeps_auto_and_states_what_it_stood_for(model, tmp_path):
    n_events = sum(map(len, HISTORIES))
    assert model.settings_ == settings_for(n_events, 9, 7)
    assert model.item_vectors_.shape == (7, 64)
    assert len(model.history_) == model.settings_.epochs == 60
    assert model.dim == "auto"
    model.save(tmp_path / "m")
    again = Recommender.load(tmp_path / "m", options=model.options)
    assert again.settings_ == model.settings_
    assert again.get_params()["user_encoder__max_length"] == "auto"
    assert again.partial_fit(HISTORIES[:2], epochs=1).item_vectors_.shape == (7, 64)


def test_numbers_given_stay(model):
    fixed = Recommender(
        TransformerEncoder(max_length=3),
        "id",
        dim=5,
        epochs=2,
        batch_size=4,
        options=RunOptions(device="cpu", progress=False),
    ).fit(HISTORIES)
    assert fixed.item_vectors_.shape == (7, 5)
    assert len(fixed.history_) == 2
    encoder = fixed._serving.network.users
    blocks = encoder.encoder.encoder.blocks  # past the shortcut
    assert (encoder.max_length, len(blocks)) == (3, model.settings_.n_layers)


def test_a_part_alone_has_numbers_too():
    network = TransformerEncoder().build(dim=6)
    assert len(network.blocks) == STANDALONE.n_layers == 2
    assert network.positions.shape == (50, 6)

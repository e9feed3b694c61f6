"""The bias by time through the estimator: what it is worth, and what must hold of it."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator
from torch import nn

from palate import GRUEncoder, Recommender, Reranker, TransformerEncoder, learning
from palate.encoders.user.transformer import BLOCKS
from palate.exceptions import InvalidParameterError
from palate.testing import check_user_encoder


@pytest.fixture(scope="session")
def make(make_recommender):
    def build(**params):
        chosen = {"time_bias": True, "epochs": 2, "learning_rate": 0.05, **params}
        return make_recommender(**chosen)

    return build


@pytest.fixture(scope="session")
def timed_once(make, events):
    """A fitted model, not to be changed: histories of up to 10 events, of which it reads 5."""
    user_encoder = TransformerEncoder(n_layers=2, n_heads=2, max_length=5)
    model = make(user_encoder=user_encoder, mean_weight=0).fit(events)
    weight = model._serving.network.time_bias.weight
    assert weight.any()
    with torch.no_grad():  # as after a long training
        weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    return model


@pytest.fixture
def timed(timed_once):
    return copy.deepcopy(timed_once)


def code_of(one, two, edges):
    return 1 if one == two else 2 + sum(edge < abs(one - two) for edge in edges)


def test_attention_has_the_number_of_the_time_between(timed, events, vectors):
    network, serving = timed._serving.network, timed._serving
    edges, ordered = timed.time_bias_edges_, events.sort_values("timestamp", kind="stable")
    seen = set()
    for user, rows in ordered.groupby("user_id"):
        times = rows["timestamp"].tolist()[-5:]
        codes = [[code_of(a, b, edges) for b in times] for a in times]
        seen |= {code for row in codes for code in row}
        x = serving.vectors[torch.from_numpy(serving.items.codes(rows["item_id"].tolist()))][-5:]
        bias = torch.zeros(2, 1, 2, len(x), len(x))
        for i, row in enumerate(codes):
            for j, code in enumerate(row):
                bias[:, 0, :, i, j] = network.time_bias.weight.detach()[:, :, code - 1]
        with torch.no_grad():
            mask = torch.ones(1, len(x), dtype=torch.bool)
            alone = network.users.prefixes(x[None], mask, bias)[:, -1]
        np.testing.assert_allclose(vectors(timed, [user]), alone, atol=2e-6, err_msg=user)
    assert len(seen) > 10
    assert 1 in seen
    every = {
        abs(a - b)
        for _, rows in ordered.groupby("user_id")
        for a in rows["timestamp"]
        for b in rows["timestamp"]
    }
    assert set(edges) <= every - {0}


@pytest.mark.parametrize("both", [False, True])
def test_the_time_of_what_comes_next_changes_no_weight(
    make, events, monkeypatch, both, vectors, assert_same_weights
):
    ordered = events.sort_values("timestamp", kind="stable")
    last = ordered.groupby("user_id").tail(1).index
    edges = np.array([2.0, 5.0]) if both else None, np.array([1.0, 4.0, 9.0])
    monkeypatch.setattr(learning, "time_edges", lambda *args: edges)
    found = []
    for moved in (0, 10**6):
        frame = events.copy()
        frame.loc[last, "timestamp"] += moved
        found.append(make(validation_fraction=0.5, time_gaps=both).fit(frame))
    assert_same_weights(*found)
    assert found[0]._serving.network.time_bias.weight.any()
    assert found[0].history_[-1]["ndcg@10"] == found[1].history_[-1]["ndcg@10"]
    users = found[0].user_ids_.tolist()
    assert np.abs(vectors(found[0], users) - vectors(found[1], users)).max() > 1e-3


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("block", ["prenorm", "hstu"])
def test_saved_models_are_equal_and_learn_on_equally(
    make, events, options, tmp_path, snapshot, assert_same, mmap, block
):
    moments = events.assign(timestamp=pd.to_datetime(events["timestamp"], unit="D"))
    encoder = TransformerEncoder(n_heads=2, block=block)
    both = block == "hstu"
    model = make(pretrain_epochs=1, user_encoder=encoder, time_gaps=both).fit(moments)
    model.observe(moments[:2].assign(timestamp=pd.Timestamp("2001-02-03")))
    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", options=options, mmap=mmap)
    assert_same(snapshot(model), snapshot(loaded))
    assert loaded.time_bias is True
    assert loaded.time_gaps is both
    np.testing.assert_array_equal(loaded.time_bias_edges_, model.time_bias_edges_)
    more = moments.assign(user_id="later")[:4]
    for one in (model, loaded):
        one.partial_fit(more, epochs=1)
    assert_same(snapshot(model), snapshot(loaded))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["bias_edges"] == model.time_bias_edges_.tolist()
    assert ("gap_edges" in config) == both


def rounds(n_users=400):
    """Two things, a question, and of the two the one that came about 100 before the question."""
    rng, rows = np.random.default_rng(0), []
    for user in range(n_users):
        time = 0.0
        for _ in range(2 + user % 5):
            time += rng.uniform(10_000, 20_000)
            near, middle, far = rng.uniform(1, 2), rng.uniform(80, 120), rng.uniform(800, 1200)
            first, second = rng.permutation(["left", "right"])
            first_is_it = rng.random() < 0.5
            waits = (middle, near) if first_is_it else (far, middle)
            rows += [(user, first, time - waits[0]), (user, second, time - waits[1])]
            rows += [(user, "?", time), (user, first if first_is_it else second, time + 0.1)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@pytest.mark.parametrize("block", ["prenorm", "hstu"])
def test_what_the_time_between_events_tells_is_learned(make_recommender, block):
    frame = rounds()
    test = frame.groupby("user_id").tail(1)
    train = frame.drop(test.index)
    test = test[test["user_id"] % 5 < 4]  # the longest end where no other has trained a position
    shares = {}
    for on in (False, True):
        model = make_recommender(
            user_encoder=TransformerEncoder(n_layers=1, n_heads=2, dropout=0.0, block=block),
            time_bias=on,
            dim=16,
            epochs=24,
            batch_size=16,
            learning_rate=1e-2,
            validation_fraction=0,
            mean_weight=0,
        ).fit(train)
        shares[on] = model.score(test, metric="hr", k=1, filter_viewed=False)
    assert 0.4 < shares[False] < 0.6
    assert shares[True] > 0.9


def test_beside_gaps_attributes_a_second_stage_and_averages(make, events, items):
    people = pd.DataFrame({"user_id": ["u0", "u1", "u6"], "age": [1, 2, 3]})
    model = make(
        item_encoder="bert+id",
        time_gaps=True,
        user_features=["age"],
        reranker=Reranker(n_candidates=4),
        mean_weight=0.3,
        content_weight=0.2,
        pretrain_epochs=1,
        averaging=1.0,
        metric="cosine",
    ).fit(events, items=items, users=people)
    users = model.user_ids_.tolist()
    together = model.recommend(users, k=3)
    alone = pd.concat([model.recommend([user], k=3) for user in users], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone, atol=1e-5, rtol=0)
    model.observe(events[:3].assign(timestamp=99)).partial_fit()
    assert len(model.recommend(users, k=3)) == 3 * len(users)
    assert model.recommend(texts=[["a red lamp"]], k=1).shape[0] == 1


class Doubling(nn.Module):
    def forward(self, x, mask):
        return 2 * x


class Own(BaseEstimator):
    """A user encoder of somebody's own, which takes vectors and mask alone."""

    max_length, pooling = 4, "last"

    def build(self, dim):
        return Doubling()


class Looking(nn.Module):
    """A network of somebody's own that looks back, by the bias alone."""

    bias_shape = (1, 1)

    def __init__(self, dim):
        super().__init__()
        self.project = nn.Linear(dim, dim)

    def forward(self, x, mask, bias=None):
        scores = torch.zeros(len(x), 1, *[x.shape[1]] * 2) if bias is None else bias[0]
        later = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
        return self.project(scores[:, 0].masked_fill(later, -torch.inf).softmax(-1) @ x)


class OwnLooking(Own):
    def build(self, dim):
        return Looking(dim)


@pytest.mark.parametrize("encoder", [GRUEncoder(), GRUEncoder(shortcut=True), Own()])
def test_an_encoder_that_cannot_use_it_is_refused(make, events, encoder):
    model = make(user_encoder=encoder)
    with pytest.raises(InvalidParameterError) as found:
        model.fit(events)
    assert str(found.value) == (
        "time_bias needs a user encoder whose network takes a bias (with bias_shape), such as "
        f"user_encoder='transformer'; got {type(encoder).__name__}."
    )
    assert not hasattr(model, "_serving")
    model.set_params(time_bias=False).fit(events)


def test_an_encoder_of_ones_own_may_use_it(make, events, encoding, vectors, weights):
    check_user_encoder(OwnLooking())
    model = encoding(make(user_encoder=OwnLooking(), mean_weight=0).fit(events))
    assert weights(model)["time_bias.weight"].any()
    users = model.user_ids_.tolist()
    known = vectors(model, users)
    with torch.no_grad():
        model._serving.network.time_bias.weight.zero_()
    assert np.abs(vectors(model, users) - known).max() > 1e-3


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_learns_it(make, events, block, weights):
    encoder = TransformerEncoder(n_layers=1, block=block)
    model = make(user_encoder=encoder, validation_fraction=0).fit(events)
    assert weights(model)["time_bias.weight"].any()

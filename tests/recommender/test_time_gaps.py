"""Gaps between events through the estimator: what they are worth, and what must hold of them."""

import copy
import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from palate import GRUEncoder, Recommender, TransformerEncoder
from palate.training.validation import hold_out


@pytest.fixture(scope="session")
def make(make_recommender):
    def build(**params):
        chosen = {"time_gaps": True, "epochs": 2, "learning_rate": 0.05, **params}
        return make_recommender(**chosen)

    return build


@pytest.fixture(scope="session")
def timed_once(make, events):
    """A fitted model, not to be changed: histories of up to 10 events, of which it reads 5."""
    user_encoder = TransformerEncoder(n_layers=1, max_length=5)
    return make(user_encoder=user_encoder, mean_weight=0).fit(events)


@pytest.fixture
def timed(timed_once):
    return copy.deepcopy(timed_once)


def code_of(gap, edges):
    return 0 if gap is None else 1 if gap == 0 else 2 + sum(edge < gap for edge in edges)


def test_each_event_has_the_vector_of_the_gap_before_it(timed, events, vectors):
    network, catalogue = timed._serving.network, timed._serving.vectors
    edges, ordered = timed.time_gap_edges_, events.sort_values("timestamp", kind="stable")
    seen = set()
    for user, rows in ordered.groupby("user_id"):
        times = rows["timestamp"].tolist()
        gaps = [None, *(b - a for a, b in itertools.pairwise(times))]
        codes = [code_of(gap, edges) for gap in gaps][-5:]
        seen |= set(codes)
        x = catalogue[torch.from_numpy(timed._serving.items.codes(rows["item_id"].tolist()))][-5:]
        with torch.no_grad():
            x = torch.stack(
                [v + network.gaps.weight[code] for v, code in zip(x, codes, strict=True)]
            )
            alone = network.users(x[None], torch.ones(1, len(x), dtype=torch.bool))
        np.testing.assert_allclose(vectors(timed, [user]), alone, atol=2e-6, err_msg=user)
    assert len(seen) > 5
    assert 0 in seen
    positive = [gap for _, rows in ordered.groupby("user_id") for gap in np.diff(rows["timestamp"])]
    assert set(edges) <= {gap for gap in positive if gap}
    assert not network.gaps.weight[0].any()
    assert network.gaps.weight[1:].any()


def test_the_time_of_what_comes_next_changes_nothing_before_it(make, events):
    ordered = events.sort_values("timestamp", kind="stable")
    last = ordered.groupby("user_id").tail(1).index
    model = make(epochs=0).fit(events)
    network = model._serving.network
    nn.init.normal_(network.gaps.weight.data[1:])
    found = []
    for moved in (0, 10**6):
        frame = events.copy()
        frame.loc[last, "timestamp"] += moved
        other = make(epochs=0).fit(frame)._serving.histories
        users = np.arange(other.n_users)
        serving = dataclasses.replace(model._serving, histories=other)
        held = copy.deepcopy(model)
        held._serving = serving
        found.append(held.recommend(k=3))
        _, holdout = hold_out(other, 1.0, torch.Generator(), timed=True)
        assert len(holdout.targets) == len(users)
        rows = holdout.indptr, holdout.items, None, holdout.times
        found.append(network.encode_histories(serving.vectors, *rows))
    assert not found[0].equals(found[2])
    assert torch.equal(found[1], found[3])


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("pretrained", [False, True])
def test_saved_models_are_equal_and_learn_on_equally(
    make, timed, events, options, tmp_path, snapshot, assert_same, mmap, pretrained
):
    model = timed
    if pretrained:
        moments = events.assign(timestamp=pd.to_datetime(events["timestamp"], unit="D"))
        model = make(pretrain_epochs=1, user_encoder="gru").fit(moments)
    else:
        model.observe(events[:2].assign(timestamp=50))
    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", options=options, mmap=mmap)
    assert_same(snapshot(model), snapshot(loaded))
    assert loaded.time_gaps is True
    np.testing.assert_array_equal(loaded.time_gap_edges_, model.time_gap_edges_)
    more = events.assign(user_id="later")[:4]
    if pretrained:
        more = more.assign(timestamp=pd.to_datetime(more["timestamp"], unit="D"))
    for one in (model, loaded):
        one.partial_fit(more, epochs=1)
    assert_same(snapshot(model), snapshot(loaded))
    assert json.loads((tmp_path / "model" / "config.json").read_text())["gap_edges"]


def test_a_night_is_learned_from_with_its_gaps(make, events, weights):
    early = events[events["timestamp"] < 25]
    late = events[(events["timestamp"] >= 25) & events["item_id"].isin(early["item_id"])]
    one = make(validation_fraction=0).fit(early)
    two = copy.deepcopy(one)
    one.partial_fit(late, epochs=2)
    two.observe(late).partial_fit(epochs=2)
    np.testing.assert_allclose(
        weights(one)["gaps.weight"], weights(two)["gaps.weight"], atol=1e-5, rtol=0
    )
    pd.testing.assert_frame_equal(one.recommend(k=3), two.recommend(k=3), rtol=1e-4)


class Averaging(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, x, mask):
        steps = torch.arange(1, x.shape[1] + 1)[:, None]
        return self.linear(x.cumsum(1) / steps)


class Own(GRUEncoder):
    """A user encoder of somebody's own, which knows nothing of gaps."""

    def build(self, dim):
        return Averaging(dim)


@pytest.mark.parametrize("encoder", [TransformerEncoder(), GRUEncoder(), Own()])
def test_what_the_gap_tells_is_learned(make_recommender, encoder):
    rng = np.random.default_rng(0)
    rows = []
    for user in range(400):
        time = 0.0
        for long in rng.random(6) < 0.5:  # the gap before a break tells what comes after it
            time += rng.uniform(100, 200) if long else rng.uniform(1, 2)
            rows += [(user, "break", time), (user, "long" if long else "short", time)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    test = frame.groupby("user_id").tail(1)
    train = frame.drop(test.index)
    shares = {}
    for on in (False, True):
        model = make_recommender(
            user_encoder=encoder,
            time_gaps=on,
            dim=16,
            epochs=15,
            batch_size=16,
            learning_rate=1e-2,
            validation_fraction=0,
            mean_weight=0,
        ).fit(train)
        shares[on] = model.score(test, metric="hr", k=1, filter_viewed=False)
    assert shares[False] < 0.65
    assert shares[True] > (0.75 if isinstance(encoder, Own) else 0.95)

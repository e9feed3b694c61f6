"""Gaps between events through the estimator: what they are worth, and what must hold of them."""

import copy
import dataclasses
import itertools
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch import nn

from palate import GRUEncoder, Recommender, Reranker, TransformerEncoder
from palate.data.histories import Histories
from palate.exceptions import InvalidInputError, InvalidParameterError, PersistenceError
from palate.export import to_onnx
from palate.persistence.checksums import write_config
from palate.training.validation import hold_out

NO_TIMES = (
    "X must have timestamps with time_gaps=True: a column 'timestamp' of a table, or the third "
    "column of an array; got none."
)


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


def vectors(model, users):
    return model.transform(pd.DataFrame({"user_id": users}))


def weights(model):
    return {name: value.numpy() for name, value in model._serving.network.state_dict().items()}


def assert_same_weights(one, two):
    one, two = weights(one), weights(two)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


def code_of(gap, edges):
    return 0 if gap is None else 1 if gap == 0 else 2 + sum(edge < gap for edge in edges)


def test_each_event_has_the_vector_of_the_gap_before_it(timed, events):
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


def test_all_at_once_are_as_one_by_one(timed, encoding):
    timed = encoding(timed)
    users = timed.user_ids_.tolist()
    together = timed.recommend(users, k=3)
    alone = pd.concat([timed.recommend([user], k=3) for user in users], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone, atol=2e-6, rtol=0)
    small = encoding(timed, inference_batch_size=2)
    pd.testing.assert_frame_equal(small.recommend(users, k=3), together, atol=2e-6, rtol=0)
    popular = small.recommend(
        ["nobody", *users], k=3, on_unsupported_targets="popular", popularity_weight=1e-9
    )
    popular = popular[popular["user_id"] != "nobody"].reset_index(drop=True)
    assert popular["item_id"].tolist() == together["item_id"].tolist()


def test_histories_without_times_have_unknown_gaps(timed, events, histories_of):
    network, serving = timed._serving.network, timed._serving
    histories = histories_of(events)
    asked = [histories[user][-5:] for user in ("u1", "u6")]
    x = serving.vectors[torch.from_numpy(serving.items.codes(asked[1]))]
    with torch.no_grad():
        alone = network.users(x[None], torch.ones(1, 5, dtype=torch.bool))
    np.testing.assert_allclose(timed.transform(asked)[1:], alone, atol=2e-6)
    assert np.abs(timed.transform(asked) - vectors(timed, ["u1", "u6"])).max() > 1e-3
    assert len(timed.recommend(histories=asked, k=2)) == 4


def test_before_any_training_it_is_the_model_without(make, events):
    plain, timed = (make(time_gaps=on, epochs=0).fit(events) for on in (False, True))
    pd.testing.assert_frame_equal(plain.recommend(k=3), timed.recommend(k=3))
    for name, value in weights(plain).items():
        np.testing.assert_array_equal(value, weights(timed)[name])
    assert weights(timed).keys() - weights(plain).keys() == {"gaps.weight"}
    assert plain.time_gap_edges_ is None


@pytest.mark.parametrize("late", [False, True])
def test_observing_is_having_known(timed, events, late):
    more = pd.DataFrame(
        {
            "user_id": ["u2", "new", "u5", "new", "u2"],
            "item_id": ["i1", "i2", "i3", "i4", "i5"],
            "timestamp": [7, 8, 9, 6, 7] if late else [100, 101, 130, 220, 102],
        }
    )
    before = vectors(timed, ["u2", "u5"])
    for row in range(len(more)):
        timed.observe(more.iloc[[row]])
    users = ["new", "u2", "u5", "u0"]
    serving = timed._serving
    assert len(serving.histories.moved) == 3
    whole = pd.concat([events, more], ignore_index=True)
    coded = dataclasses.replace(
        serving.histories.events(),
        users=serving.users.codes(whole["user_id"].tolist()),
        items=serving.items.codes(whole["item_id"].tolist()),
        times=whole["timestamp"].to_numpy(),
    )
    twin = copy.deepcopy(timed)
    known = Histories.from_events(coded, len(serving.users))
    twin._serving = dataclasses.replace(serving, histories=known)
    np.testing.assert_allclose(vectors(timed, users), vectors(twin, users), atol=1e-6)
    pd.testing.assert_frame_equal(timed.recommend(users, k=3), twin.recommend(users, k=3))
    assert np.abs(vectors(timed, ["u2", "u5"]) - before).min(1).max() > 0


def test_the_same_items_at_other_times_are_another_history(timed):
    rows = pd.DataFrame({"user_id": ["a"] * 3, "item_id": ["i1", "i2", "i3"]})
    fast, slow = rows.assign(timestamp=[100, 100, 100]), rows.assign(timestamp=[100, 130, 190])
    first = copy.deepcopy(timed).observe(fast.assign(user_id="b"))
    timed.observe(slow)
    assert np.abs(vectors(timed, ["a"]) - vectors(first, ["b"])).max() > 1e-3
    later = fast.assign(user_id="c", timestamp=fast["timestamp"] + 10**6)
    np.testing.assert_allclose(
        vectors(first.observe(later), ["c"]), vectors(first, ["b"]), atol=1e-6
    )  # when it was does not matter


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


def test_a_saved_model_lacking_its_edges_is_refused(timed, options, tmp_path):
    timed.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for key in ("gap_edges", "files"):
        config.pop(key)
    (tmp_path / "model" / "config.json").unlink()
    write_config(tmp_path / "model", config)
    message = (
        "model.safetensors must hold the tensors of this model; missing: none; unexpected: "
        "gaps.weight."
    )
    with pytest.raises(PersistenceError) as found:
        Recommender.load(tmp_path / "model", options=options)
    assert str(found.value) == message


def test_events_at_one_time_have_no_edges(make, events, options, tmp_path):
    model = make(time_gaps=np.True_).fit(events.assign(timestamp=0))
    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", options=options)
    for one in (model, loaded):
        assert one.time_gap_edges_.shape == (0,)
        one.observe(events[:3].assign(timestamp=4))
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))


def test_without_it_nothing_of_it_is_saved(id_model, tmp_path):
    id_model.save(tmp_path / "model")
    assert "gap_edges" not in json.loads((tmp_path / "model" / "config.json").read_text())
    assert not [name for name in weights(id_model) if "gaps" in name]


def test_learning_on_keeps_the_edges_and_fit_does_not(timed, events):
    edges = timed.time_gap_edges_
    before = weights(timed)["gaps.weight"].copy()
    far = events.assign(user_id="far", timestamp=events["timestamp"] * 1000)
    timed.set_params(validation_fraction=0).partial_fit(far, epochs=2)
    np.testing.assert_array_equal(timed.time_gap_edges_, edges)
    assert np.abs(weights(timed)["gaps.weight"] - before).max() > 0
    timed.observe(far.assign(user_id="later")[:5])
    timed.set_params(time_gaps=False).partial_fit(epochs=1)  # the network is what it is
    np.testing.assert_array_equal(timed.time_gap_edges_, edges)
    timed.set_params(time_gaps=True).fit(far)
    assert (timed.time_gap_edges_ >= 1000).all()
    assert timed.set_params(time_gaps=False).fit(far).time_gap_edges_ is None


def test_a_night_is_learned_from_with_its_gaps(make, events):
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


def test_another_unit_of_time_is_the_same_model(make, events):
    plain = make().fit(events)
    times = events["timestamp"]
    others = [
        times * 1000,
        times / 8,
        pd.to_datetime(times, unit="D"),
        pd.to_datetime(times, unit="h", utc=True),
        times + 10**9,
    ]
    for other in others:
        model = make().fit(events.assign(timestamp=other))
        assert_same_weights(model, plain)
        pd.testing.assert_frame_equal(model.recommend(k=3), plain.recommend(k=3))
    day = 24 * 3600 * 10**9
    moments = make(epochs=0).fit(events.assign(timestamp=others[2]))
    np.testing.assert_array_equal(moments.time_gap_edges_, plain.time_gap_edges_ * day)
    array = make().fit(events.to_numpy())
    assert_same_weights(array, plain)


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


def test_beside_attributes_a_second_stage_and_averages(make, events, items):
    people = pd.DataFrame({"user_id": ["u0", "u1", "u6"], "age": [1, 2, 3]})
    model = make(
        item_encoder="bert+id",
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


def test_copies_keep_everything(timed):
    expected = timed.recommend(k=3)
    for again in (pickle.loads(pickle.dumps(timed)), copy.deepcopy(timed)):
        pd.testing.assert_frame_equal(again.recommend(k=3), expected)
    assert timed.get_params()["time_gaps"] is True
    assert clone(timed).get_params()["time_gaps"] is True
    assert "time_gaps=True" in repr(clone(timed))
    assert Recommender().time_gaps is False


@pytest.mark.parametrize("form", ["table", "array", "lists"])
def test_events_without_times_are_refused(make, events, histories_of, form):
    X = {
        "table": events[["user_id", "item_id"]],
        "array": events[["user_id", "item_id"]].to_numpy(),
        "lists": list(histories_of(events).values()),
    }[form]
    model = make()
    with pytest.raises(InvalidInputError) as found:
        model.fit(X)
    assert str(found.value) == NO_TIMES
    assert not hasattr(model, "_serving")


def test_later_events_without_times_are_refused(timed, events):
    expected = timed.recommend(k=3)
    for call in (timed.partial_fit, timed.observe):
        with pytest.raises(InvalidInputError) as found:
            call(events[["user_id", "item_id"]])
        assert str(found.value) == (
            "X must have a column 'timestamp', as the events learned before had one."
        )
    pd.testing.assert_frame_equal(timed.recommend(k=3), expected)


@pytest.mark.parametrize("value", [None, "yes", 2, [True], np.array([True])])
def test_what_is_no_bool_is_refused(make, events, value):
    with pytest.raises(InvalidParameterError) as found:
        make(time_gaps=value).fit(events)
    assert str(found.value) == f"time_gaps must be one of True, False; got {value!r}."


def test_it_cannot_be_exported(timed, tmp_path):
    with pytest.raises(InvalidParameterError) as found:
        to_onnx(timed, tmp_path / "onnx")
    assert str(found.value) == (
        "rec must be fitted with time_gaps=False to be written as ONNX; got time_gaps=True."
    )
    assert not (tmp_path / "onnx").exists()

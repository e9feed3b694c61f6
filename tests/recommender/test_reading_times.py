"""What holds of a model that reads times, by the gaps between events or by a bias of attention."""

import copy
import dataclasses
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from palate import Recommender, TransformerEncoder
from palate.data.histories import Histories
from palate.exceptions import InvalidInputError, InvalidParameterError, PersistenceError
from palate.export import to_onnx
from palate.persistence.checksums import write_config


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to read times: its parameter, attribute, tensor and entry of a saved model."""

    name: str
    attribute: str
    tensor: str
    entry: str

    def edges(self, model):
        return getattr(model, self.attribute)


KINDS = {
    "time_gaps": Kind("time_gaps", "time_gap_edges_", "gaps.weight", "gap_edges"),
    "time_bias": Kind("time_bias", "time_bias_edges_", "time_bias.weight", "bias_edges"),
}


@pytest.fixture(scope="session", params=list(KINDS))
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="session")
def make(make_recommender, kind):
    def build(**params):
        chosen = {kind.name: True, "epochs": 2, "learning_rate": 0.05, **params}
        return make_recommender(**chosen)

    return build


@pytest.fixture(scope="session")
def timed_once(make, kind, events):
    """A fitted model, not to be changed: histories of up to 10 events, of which it reads 5."""
    user_encoder = TransformerEncoder(n_layers=2, n_heads=2, max_length=5)
    model = make(user_encoder=user_encoder, mean_weight=0).fit(events)
    learned = model._serving.network.get_parameter(kind.tensor)
    assert learned.any()
    with torch.no_grad():  # as after a long training; the gap of the first event stays silent
        drawn = torch.randn(learned.shape, generator=torch.Generator().manual_seed(0))
        learned.add_(drawn * (learned != 0))
    return model


@pytest.fixture
def timed(timed_once):
    return copy.deepcopy(timed_once)


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


def test_histories_without_times_are_read_without(timed, events, histories_of, vectors):
    network, serving = timed._serving.network, timed._serving
    histories = histories_of(events)
    asked = [histories[user][-5:] for user in ("u1", "u6")]
    x = serving.vectors[torch.from_numpy(serving.items.codes(asked[1]))]
    with torch.no_grad():
        alone = network.users(x[None], torch.ones(1, 5, dtype=torch.bool))
    np.testing.assert_allclose(timed.transform(asked)[1:], alone, atol=2e-6)
    assert np.abs(timed.transform(asked) - vectors(timed, ["u1", "u6"])).max() > 1e-3
    assert len(timed.recommend(histories=asked, k=2)) == 4


def test_before_any_training_it_is_the_model_without(make, kind, events, weights):
    plain, timed = (make(**{kind.name: on}, epochs=0).fit(events) for on in (False, True))
    pd.testing.assert_frame_equal(plain.recommend(k=3), timed.recommend(k=3))
    for name, value in weights(plain).items():
        np.testing.assert_array_equal(value, weights(timed)[name])
    assert weights(timed).keys() - weights(plain).keys() == {kind.tensor}
    assert all(each.edges(plain) is None for each in KINDS.values())
    assert [each for each in KINDS.values() if each.edges(timed) is not None] == [kind]


@pytest.mark.parametrize("late", [False, True])
def test_observing_is_having_known(timed, events, late, vectors):
    more = pd.DataFrame(
        {
            "user_id": ["u2", "new", "u5", "new", "u2"],
            "item_id": ["i1", "i2", "i3", "i4", "i5"],
            "timestamp": [27, 28, 29, 26, 27] if late else [100, 101, 130, 220, 102],
        }
    )
    before = vectors(timed, ["u2", "u5"])
    for row in range(len(more)):
        timed.observe(more.iloc[[row]])
    users, serving = ["new", "u2", "u5", "u0"], timed._serving
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


def test_the_same_items_at_other_times_are_another_history(timed, vectors):
    rows = pd.DataFrame({"user_id": ["a"] * 3, "item_id": ["i1", "i2", "i3"]})
    fast, slow = rows.assign(timestamp=[100, 100, 100]), rows.assign(timestamp=[100, 130, 190])
    first = copy.deepcopy(timed).observe(fast.assign(user_id="b"))
    timed.observe(slow)
    assert np.abs(vectors(timed, ["a"]) - vectors(first, ["b"])).max() > 1e-3
    later = fast.assign(user_id="c", timestamp=fast["timestamp"] + 10**6)
    np.testing.assert_allclose(
        vectors(first.observe(later), ["c"]), vectors(first, ["b"]), atol=1e-6
    )  # when it was does not matter


def test_a_saved_model_lacking_its_edges_is_refused(timed, kind, options, tmp_path):
    timed.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for key in (kind.entry, "files"):
        config.pop(key)
    (tmp_path / "model" / "config.json").unlink()
    write_config(tmp_path / "model", config)
    message = (
        "model.safetensors must hold the tensors of this model; missing: none; unexpected: "
        f"{kind.tensor}."
    )
    with pytest.raises(PersistenceError) as found:
        Recommender.load(tmp_path / "model", options=options)
    assert str(found.value) == message


def test_events_at_one_time_have_no_edges(make, kind, events, options, tmp_path):
    model = make(**{kind.name: np.True_}).fit(events.assign(timestamp=0))
    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", options=options)
    for one in (model, loaded):
        assert kind.edges(one).shape == (0,)
        one.observe(events[:3].assign(timestamp=4))
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))


def test_without_it_nothing_of_it_is_saved(id_model, kind, tmp_path, weights):
    id_model.save(tmp_path / "model")
    assert kind.entry not in json.loads((tmp_path / "model" / "config.json").read_text())
    assert kind.tensor not in weights(id_model)


def test_learning_on_keeps_the_edges_and_fit_does_not(timed, kind, events, weights):
    edges = kind.edges(timed)
    before = weights(timed)[kind.tensor].copy()
    far = events.assign(user_id="far", timestamp=events["timestamp"] * 1000)
    timed.set_params(validation_fraction=0).partial_fit(far, epochs=2)
    np.testing.assert_array_equal(kind.edges(timed), edges)
    assert np.abs(weights(timed)[kind.tensor] - before).max() > 0
    timed.observe(far.assign(user_id="later")[:5])
    timed.set_params(**{kind.name: False}).partial_fit(epochs=1)  # the network is what it is
    np.testing.assert_array_equal(kind.edges(timed), edges)
    timed.set_params(**{kind.name: True}).fit(far)
    assert (kind.edges(timed) >= 1000).all()
    assert kind.edges(timed.set_params(**{kind.name: False}).fit(far)) is None


def test_another_unit_of_time_is_the_same_model(make, kind, events, assert_same_weights):
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
    np.testing.assert_array_equal(kind.edges(moments), kind.edges(plain) * day)
    array = make().fit(events.to_numpy())
    assert_same_weights(array, plain)


def test_copies_keep_everything(timed, kind):
    expected = timed.recommend(k=3)
    for again in (pickle.loads(pickle.dumps(timed)), copy.deepcopy(timed)):
        pd.testing.assert_frame_equal(again.recommend(k=3), expected)
    assert timed.get_params()[kind.name] is True
    assert clone(timed).get_params()[kind.name] is True
    assert f"{kind.name}=True" in repr(clone(timed))
    assert Recommender().get_params()[kind.name] is False


@pytest.mark.parametrize("form", ["table", "array", "lists"])
def test_events_without_times_are_refused(make, kind, events, histories_of, form):
    X = {
        "table": events[["user_id", "item_id"]],
        "array": events[["user_id", "item_id"]].to_numpy(),
        "lists": list(histories_of(events).values()),
    }[form]
    model = make()
    with pytest.raises(InvalidInputError) as found:
        model.fit(X)
    assert str(found.value) == (
        f"X must have timestamps with {kind.name}=True: a column 'timestamp' of a table, or the "
        "third column of an array; got none."
    )
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
def test_what_is_no_bool_is_refused(make, kind, events, value):
    with pytest.raises(InvalidParameterError) as found:
        make(**{kind.name: value}).fit(events)
    assert str(found.value) == f"{kind.name} must be one of True, False; got {value!r}."


def test_it_cannot_be_exported(timed, kind, tmp_path):
    with pytest.raises(InvalidParameterError) as found:
        to_onnx(timed, tmp_path / "onnx")
    assert str(found.value) == (
        f"rec must be fitted with {kind.name}=False to be written as ONNX; got {kind.name}=True."
    )
    assert not (tmp_path / "onnx").exists()

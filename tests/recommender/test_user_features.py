"""Attributes of users through the estimator: what they are worth, and what must hold of them."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_validate

from palate import (
    BertEncoder,
    Fusion,
    IdEncoder,
    Items,
    Recommender,
    TransformerEncoder,
    Users,
)
from palate.data.people import read_users
from palate.encoders.item.text_model import TextModel
from palate.exceptions import (
    InvalidInputError,
    InvalidParameterError,
    PersistenceError,
    UnsupportedTargetError,
)
from palate.export import to_onnx
from palate.model_selection import LeaveLastOut

COLUMNS = ["colour", "age"]
TEXTS = [
    "colour: red; age: 25",
    "colour: green; age: 30",
    "colour: blue",
    "colour: blue; age: 40",
]


@pytest.fixture(scope="session")
def people():
    """8 users: the 7 with events and one without; 4 distinct texts, and one user without values."""
    return pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in range(7)] + ["new"],
            "colour": ["red", "green", "red", None, "red", "blue", "green", "blue"],
            "age": [25, 30, 25, None, 25, None, 30, 40],
            "unread": range(8),
        }
    )


@pytest.fixture(scope="session")
def make(make_recommender):
    def build(**params):
        chosen = {"item_encoder": "bert+id", "user_features": COLUMNS, "epochs": 2, **params}
        return make_recommender(**chosen)

    return build


@pytest.fixture(scope="session")
def told_once(make, events, items, people):
    """A fitted model, not to be changed: histories of up to 10 events, of which it reads 5."""
    encoder = TransformerEncoder(n_layers=1, max_length=6)
    model = make(user_encoder=encoder, mean_weight=0)
    return model.fit(events, items=items, users=people)


@pytest.fixture
def told(told_once):
    return copy.deepcopy(told_once)


def text_of(people, user):
    ids, texts = read_users(people, COLUMNS)
    return texts[ids.tolist().index(user)]


def test_attributes_stand_before_the_recent_events(told, events, people, histories_of, vectors):
    network, catalogue = told._serving.network, told._serving.vectors
    assert network.room == 5
    histories = {**histories_of(events), "new": []}
    for user, history in histories.items():
        codes = told._serving.items.codes(history[-5:])
        x = catalogue[torch.from_numpy(codes)]
        if text := text_of(people, user):
            read = network.items.read_texts([*TEXTS, text], told.options)
            apart = read[:4].double() - read[:4].double().mean(0)
            size = (apart**2).sum(1).mean().sqrt()
            said = (read[4:].double() - read[:4].double().mean(0)) / size
            x = torch.cat([network.items.place_texts(said.float()).detach(), x])
        with torch.no_grad():
            alone = network.users(x[None], torch.ones(1, len(x), dtype=torch.bool))
        np.testing.assert_allclose(vectors(told, [user]), alone, atol=2e-6, err_msg=user)
    assert text_of(people, "u3") == ""
    assert text_of(people, "u5") == "colour: blue"


def test_all_at_once_are_as_one_by_one(told, people, encoding, vectors):
    told = encoding(told)
    users = people["user_id"].tolist()
    assert told.user_ids_.tolist() == [*dict.fromkeys(told.user_ids_.tolist())]
    assert set(told.user_ids_) == set(users)
    together = told.recommend(users, k=3)
    alone = pd.concat([told.recommend([user], k=3) for user in users], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone, atol=2e-6, rtol=0)
    np.testing.assert_allclose(
        vectors(told, users), np.concatenate([vectors(told, [u]) for u in users]), atol=2e-6
    )
    small = encoding(told, inference_batch_size=2)
    pd.testing.assert_frame_equal(small.recommend(users, k=3), together, atol=2e-6, rtol=0)


def test_each_distinct_text_is_read_once(make, events, items, people, options, tmp_path):
    run = type(options)(device="cpu", progress=False, cache=tmp_path)
    before = TextModel.n_encoded_
    model = make(epochs=3, pretrain_epochs=2, options=run).fit(events, items=items, users=people)
    n_titles = items["title"].nunique()
    assert TextModel.n_encoded_ - before == n_titles + 4
    model.partial_fit(events[:3], users=people, epochs=1).recommend(k=2)
    assert TextModel.n_encoded_ - before == n_titles + 4
    make(epochs=1, options=run).fit(events, items=items, users=people)
    assert TextModel.n_encoded_ - before == n_titles + 4  # from the disk


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("pretrained", [False, True])
def test_saved_models_are_equal_and_learn_on_equally(
    make,
    told,
    events,
    items,
    people,
    options,
    tmp_path,
    snapshot,
    assert_same,
    mmap,
    pretrained,
    vectors,
):
    model = told
    if pretrained:
        model = make(pretrain_epochs=1, user_encoder="gru").fit(events, items=items, users=people)
    model.observe(events[:0], users=people.assign(colour="pink")[:2])
    model.save(tmp_path / "model")
    before = TextModel.n_encoded_
    loaded = Recommender.load(tmp_path / "model", options=options, mmap=mmap)
    assert TextModel.n_encoded_ == before
    assert_same(snapshot(model), snapshot(loaded))
    users = people["user_id"].tolist()
    np.testing.assert_array_equal(vectors(loaded, users), vectors(model, users))
    more = events.assign(user_id="later")[:4]
    table = pd.DataFrame({"user_id": ["later"], "colour": ["grey"], "age": [1]})
    for one in (model, loaded):
        one.partial_fit(more, users=table, epochs=1)
    assert_same(snapshot(model), snapshot(loaded))
    loaded.save(tmp_path / "model")  # replaced whole
    again = Recommender.load(tmp_path / "model", options=options)
    assert_same(snapshot(again), snapshot(loaded))
    (tmp_path / "model" / "people.parquet").unlink()
    with pytest.raises(PersistenceError, match=r"it lacks people\.parquet"):
        Recommender.load(tmp_path / "model")


def test_the_encoder_that_is_trained_reads_again(
    make, events, items, people, tiny_bert, options, tmp_path
):
    live = Fusion([BertEncoder(tiny_bert, finetune="last"), IdEncoder()])
    for fraction in (0, 0.5):
        model = make(item_encoder=live, learning_rate=0.5, validation_fraction=fraction)
        model.fit(events, items=items, users=people)
        network = model._serving.network
        texts = list(network.people_texts)
        read = network.items.read_texts(texts, options)
        right = (read - read.mean(0)) / (read - read.mean(0)).square().sum(1).mean().sqrt()
        torch.testing.assert_close(network.people, right)
        model.save(tmp_path / "model")
        loaded = Recommender.load(tmp_path / "model", options=options)
        pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))


def test_copies_keep_everything(told, people):
    expected = told.recommend(k=3)
    for again in (pickle.loads(pickle.dumps(told)), copy.deepcopy(told)):
        pd.testing.assert_frame_equal(again.recommend(k=3), expected)
        again.observe(pd.DataFrame({"user_id": ["u1"], "item_id": ["i1"], "timestamp": [99]}))
    assert told.get_params()["user_features"] == COLUMNS
    assert clone(told).get_params()["user_features"] == COLUMNS
    assert "user_features=['colour', 'age']" in repr(clone(told))
    pd.testing.assert_frame_equal(told.recommend(k=3), expected)


def test_the_latest_row_counts(told, events, people, vectors):
    row = pd.DataFrame({"user_id": ["u0", "u3"], "colour": ["blue", "red"], "age": [40, 25]})
    users, before = people["user_id"].tolist(), vectors(told, people["user_id"].tolist())
    by_observe = copy.deepcopy(told).observe(events[:0], users=row)
    by_fit = copy.deepcopy(told).partial_fit(events[:1], users=row, epochs=0)
    for model in (by_observe, by_fit):
        state = model._serving
        texts = {
            user: str(state.people.texts.array[code]) if code >= 0 else ""
            for user, code in zip(
                users, state.people.of(state.users.codes(users)).tolist(), strict=True
            )
        }
        assert texts["u0"] == texts["new"] == "colour: blue; age: 40"
        assert texts["u3"] == texts["u2"] == "colour: red; age: 25"
        assert len(state.people.texts) == 4  # no new text
    after = vectors(by_observe, users)
    moved = {
        u for u, old, new in zip(users, before, after, strict=True) if abs(old - new).max() > 0
    }
    assert moved == {"u0", "u3"}
    gone = by_observe.observe(events[:0], users=row.assign(colour=None, age=None))
    assert gone._serving.people.of(gone._serving.users.codes(["u0", "u3"])).tolist() == [-1, -1]


def test_new_people_come_with_attributes(told, events, people, items, vectors):
    event = pd.DataFrame({"user_id": ["later"], "item_id": ["i1"], "timestamp": [99]})
    row = pd.DataFrame({"user_id": ["later", "alone"], "colour": ["grey", "red"], "age": [7, 25]})
    told.observe(event, users=pl.from_pandas(row))
    assert told.user_ids_[-2:].tolist() == ["later", "alone"]
    other = copy.deepcopy(told).observe(event[:0], users=row.assign(colour="red", age=25))
    assert abs(vectors(told, ["later"]) - vectors(other, ["later"])).max() > 0
    told.partial_fit(event.assign(timestamp=100), epochs=1)
    told.add_items(pd.DataFrame({"item_id": ["i99"], "title": ["red garden"]}))
    assert len(told.recommend(["alone", "later"], k=3)) == 6


def test_attributes_alone(told, events, people):
    found = told.recommend(["new"], k=99)
    assert len(found) == len(told.item_ids_)
    assert found["score"].between(-1, 1).all()  # cosines, not shares
    popular = told.recommend(["new", "stranger"], k=2, on_unsupported_targets="popular")
    assert popular["user_id"].tolist() == ["new", "new", "stranger", "stranger"]
    pd.testing.assert_frame_equal(popular[:2], found[:2], atol=2e-6, rtol=0)
    weighted = told.recommend(["new"], k=99, popularity_weight=0.1)
    assert np.isfinite(weighted["score"]).all()
    assert told.predict(pd.DataFrame({"user_id": ["new", "u1"]}), k=2).shape == (2, 2)
    truth = pd.DataFrame({"user_id": ["new", "u1"], "item_id": ["i1", "i2"], "timestamp": [50, 60]})
    assert 0 <= told.score(truth) <= 1
    told.observe(events[:0], users=people[people["user_id"] == "new"].assign(colour="", age=None))
    assert set(told.recommend(k=1)["user_id"]) == {f"u{i}" for i in range(7)}
    for ask in (
        lambda: told.recommend(["new"]),
        lambda: told.predict(truth),
        lambda: told.transform(truth),
    ):
        with pytest.raises(UnsupportedTargetError, match=r"users unknown to the model: 'new'\."):
            ask()
    again = told.recommend(["new"], k=2, on_unsupported_targets="popular")
    assert again["score"].tolist() == popular["score"].tolist()[2:]


def test_one_event_and_attributes_are_something_to_learn(make, items, people):
    events = pd.DataFrame({"user_id": ["u0", "u1", "u2"], "item_id": ["i1", "i2", "i1"]})
    model = make(pretrain_epochs=1, validation_fraction=0).fit(events, items=items, users=people)
    assert all(record["loss"] > 0 for record in model.history_ if record["stage"] == "fit")


def test_they_tell_what_people_like(make, items):
    # Who is red takes the even items, who is blue the odd ones.
    rows = [(f"{c}{u}", f"i{2 * ((u + s) % 6) + (c == 'blue')}") for c in ("red", "blue")
            for u in range(20) for s in range(3)]  # fmt: skip
    events = pd.DataFrame(rows, columns=["user_id", "item_id"])
    names = [*events["user_id"].unique(), "red99", "blue99"]
    table = pd.DataFrame({"user_id": names, "colour": [n.rstrip("0123456789") for n in names]})
    model = make(user_features=["colour"], epochs=40, learning_rate=0.01, validation_fraction=0)
    model.fit(events, items=items, users=table)
    for name, odd in (("red99", False), ("blue99", True)):
        best = model.recommend([name], k=6)["item_id"]
        assert [int(item[1:]) % 2 == odd for item in best] == [True] * 6


def test_cross_validation_leaves_a_wrapped_table_whole(make, events, people, items):
    wide = pd.concat([people, people.assign(user_id=[f"x{i}" for i in range(len(people))])])
    wide = pd.concat([wide, pd.DataFrame({"user_id": range(len(events) - len(wide))})])
    assert len(wide) == len(events)  # which scikit-learn would cut
    found = cross_validate(
        make(epochs=1),
        events,
        cv=LeaveLastOut(),
        params={"items": Items(items), "users": Users(wide)},
        return_estimator=True,
        error_score="raise",
    )
    assert "x7" in found["estimator"][0].user_ids_


def refusal(error_type, call):
    with pytest.raises(error_type) as error:
        call()
    return str(error.value)


def test_refused_whole(told, events, items, people, snapshot, assert_same):
    before, event = snapshot(told), events[:1]
    bad = people.drop(columns="age")
    message = (
        "users must have the column 'age' that user_features names; its columns are 'user_id', "
        "'colour', 'unread'."
    )
    for call in (
        lambda: told.fit(events, items=items, users=bad),
        lambda: told.partial_fit(event, users=bad),
        lambda: told.observe(event, users=bad),
    ):
        assert refusal(InvalidInputError, call) == message
    assert refusal(InvalidInputError, lambda: told.fit(events, items=items)) == (
        "users must be given: user_features=['colour', 'age'] names columns of it. Pass "
        "users=table."
    )
    unknown = event.assign(item_id="nothing")
    with pytest.raises(UnsupportedTargetError):
        told.observe(unknown, users=people.assign(colour="pink"))
    assert_same(snapshot(told), before)


def test_parameters_that_cannot_be(make, make_recommender, events, items, people, tmp_path):
    fit = {"items": items, "users": people}
    for value in ("age", [], ["age", "age"], [3], {"age"}):
        model = make(user_features=value)
        assert refusal(InvalidParameterError, lambda m=model: m.fit(events, **fit)) == (
            f"user_features must be a list of distinct column names; got {value!r}."
        )
    plain = make_recommender(user_features=COLUMNS)
    assert refusal(InvalidParameterError, lambda: plain.fit(events, **fit)) == (
        "user_features needs an item encoder that reads text, such as item_encoder='bert+id'; got "
        "IdEncoder()."
    )
    assert not hasattr(plain, "_serving")
    short = make(user_encoder=TransformerEncoder(max_length=1))
    assert refusal(InvalidParameterError, lambda: short.fit(events, **fit)) == (
        "max_length must be at least 2 with user_features, which take one place; got 1."
    )
    without = make_recommender().fit(events)
    for call in (without.observe, without.partial_fit, make_recommender().fit):
        assert refusal(InvalidInputError, lambda c=call: c(events, users=people)) == (
            "users must be None unless user_features names columns of it; got DataFrame."
        )


def test_what_set_params_says_counts_from_the_next_fit_on(told, events, people, tmp_path):
    told.set_params(user_features=["unread"])
    told.partial_fit(events[:1], users=people[["user_id", *COLUMNS]], epochs=0)
    assert list(told._serving.network.people_texts) == TEXTS
    told.save(tmp_path / "model")
    assert Recommender.load(tmp_path / "model").user_features == COLUMNS


def test_there_is_no_graph_for_them(told, tmp_path):
    assert refusal(InvalidParameterError, lambda: to_onnx(told, tmp_path / "onnx")) == (
        "rec must be fitted with user_features=None to be written as ONNX; got ['colour', 'age']."
    )


def test_a_first_partial_fit_is_fit(make, events, items, people, told_once):
    encoder = TransformerEncoder(n_layers=1, max_length=6)
    params = {"user_encoder": encoder, "mean_weight": 0}
    model = make(**params).partial_fit(events, items=items, users=people)
    pd.testing.assert_frame_equal(model.recommend(k=3), told_once.recommend(k=3))
    fresh = make(**params)
    found = fresh.fit_transform(events, items=items, users=people)
    np.testing.assert_array_equal(found, told_once.transform(events))

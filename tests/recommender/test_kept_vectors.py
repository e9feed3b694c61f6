"""Vectors of known users are kept: nobody is encoded twice, and nobody is answered by the past."""

import copy
import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest

from palate import HistoryEncoder, TransformerEncoder
from palate.exceptions import PalateWarning
from palate.serving import Serving
from palate.training.network import TasteNetwork


def of(user, *items, start=100):
    times = range(start, start + len(items))
    return pd.DataFrame({"user_id": user, "item_id": list(items), "timestamp": list(times)})


@pytest.fixture
def encoded(monkeypatch):
    """The number of histories that each call encoded since the last look."""
    counts, before = [], TasteNetwork.encode_histories

    def count(self, vectors, indptr, *rest):
        counts.append(len(indptr) - 1)
        return before(self, vectors, indptr, *rest)

    monkeypatch.setattr(TasteNetwork, "encode_histories", count)

    def look():
        seen = counts.copy()
        counts.clear()
        return seen

    return look


def test_fit_encodes_everybody_and_questions_nobody(make_recommender, events, encoded):
    model = make_recommender(validation_fraction=0).fit(events)
    assert encoded()[-1] == 7
    model.recommend(k=3)
    model.recommend(["u3", "u1", "u3"], k=4, filter_viewed=False, items_to_exclude=["i2"])
    model.transform(events)
    model.score(events)
    assert encoded() == []
    model.recommend(histories=[["i1", "i2"]])
    assert encoded() == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("no room")])
def test_what_goes_wrong_after_training_loses_nothing_learned(
    make_recommender, events, options, monkeypatch, error
):
    before, calls = Serving.user_vectors, []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 2:
            raise error
        return before(*args)

    monkeypatch.setattr(Serving, "user_vectors", interrupt)
    small = dataclasses.replace(options, inference_batch_size=3)
    with pytest.warns(PalateWarning) as caught:
        model = make_recommender(options=small).fit(events)
    assert [str(w.message) for w in caught] == [
        "The vectors of all users were not computed after training; those missing are computed "
        f"when they are asked for: {error!r}."
    ]
    assert len(model._serving.kept) == 3
    assert model.recommend(k=2)["user_id"].nunique() == 7
    assert len(model._serving.kept) == 7


def test_who_interrupts_training_waits_for_nothing_else(make_recommender, events, options, encoded):
    def interrupt(record):
        raise KeyboardInterrupt

    impatient = dataclasses.replace(options, on_epoch_end=interrupt)
    with pytest.warns(PalateWarning, match="Training was interrupted in epoch 1"):
        model = make_recommender(options=impatient, validation_fraction=0).fit(events)
    assert encoded() == []
    assert len(model.recommend(k=1)) == 7


def test_an_encoder_of_histories_keeps_none(encoded):
    encoder = HistoryEncoder("gru", item_vectors=np.eye(5), epochs=1, validation_fraction=0)
    encoder.fit([[0, 1, 2], [3, 4]])
    assert encoded() == []
    assert encoder.options is None


def test_those_who_moved_are_encoded_once(model, encoded):
    model.recommend()
    encoded()
    model.observe(pd.concat([of("u2", "i12"), of("new", "i3"), of("u0", "i1")]))
    assert encoded() == []
    model.recommend(["u1", "u2"])
    assert encoded() == [1]
    model.recommend()
    assert encoded() == [2]
    model.recommend()
    assert encoded() == []


def test_new_items_move_nobody(model, encoded):
    model.recommend()
    encoded()
    model.add_items(pd.DataFrame({"item_id": ["n0"], "title": ["a red book"]}))
    model.recommend()
    assert encoded() == []


def test_learning_moves_everybody(model, encoded):
    model.recommend()
    model.partial_fit(of("u2", "i12"), epochs=1)
    encoded()
    model.recommend(["u5"])
    model.recommend()
    assert encoded() == [1, 6]


CHANGES = {
    "nothing": lambda m: m,
    "an event": lambda m: m.observe(of("u2", "i12")),
    "late events": lambda m: m.observe(of("u6", "i12", "i11", start=3)),
    "newcomers": lambda m: m.observe(pd.concat([of("a", "i1"), of("b", "i2", "i3")])),
    "one after another": lambda m: m.observe(of("a", "i1")).observe(of("a", "i2", start=101)),
    "an item": lambda m: m.add_items(pd.DataFrame({"item_id": ["n"], "title": ["a lamp"]})).observe(
        of("u1", "n")
    ),
    "learning": lambda m: m.partial_fit(of("u4", "i12"), epochs=1),
    "a pickle": lambda m: pickle.loads(pickle.dumps(m)),
}


@pytest.mark.parametrize("second", list(CHANGES))
@pytest.mark.parametrize("first", list(CHANGES))
def test_answers_are_those_of_a_model_that_keeps_none(model, encoding, first, second):
    for name in (first, second):
        model.recommend(["u2", "u6"])
        if name == "an item" and "n" in model.item_ids_:
            continue
        model = CHANGES[name](model)
        plain = encoding(model)
        for asked in ({"k": 5}, {"users": ["u4", "u2", "u4"], "k": 3}):
            pd.testing.assert_frame_equal(
                model.recommend(**asked), plain.recommend(**asked), rtol=0, atol=2e-6
            )
        users = pd.DataFrame({"user_id": model.user_ids_})
        np.testing.assert_allclose(model.transform(users), plain.transform(users), atol=2e-6)


def test_two_copies_that_go_apart(model, encoding):
    other = copy.copy(model)
    model.recommend()
    model.observe(of("u2", "i12"))
    other.observe(of("u2", "i0"))
    for one in (model, other):
        one.recommend()
        pd.testing.assert_frame_equal(
            one.recommend(k=4), encoding(one).recommend(k=4), rtol=0, atol=2e-6
        )
    assert not model.recommend(["u2"]).equals(other.recommend(["u2"]))


def test_a_state_that_was_left_answers_as_before(model, encoding):
    left = model._serving
    before = encoding(model).recommend(k=4)
    model.recommend()
    model.observe(of("u2", "i12"))
    now = model._serving
    model._serving = left
    for _ in range(2):
        pd.testing.assert_frame_equal(model.recommend(k=4), before, rtol=0, atol=2e-6)
    model._serving = now
    after = encoding(model).recommend(k=4)
    pd.testing.assert_frame_equal(model.recommend(k=4), after, rtol=0, atol=2e-6)


def test_attributes_move_those_whose_they_are(make_recommender, events, items, encoding, encoded):
    people = pd.DataFrame({"user_id": ["u0", "u1", "idle"], "colour": ["red", "blue", "red"]})
    model = make_recommender(
        user_encoder=TransformerEncoder(n_layers=1, max_length=6),
        item_encoder="bert+id",
        user_features=["colour"],
    ).fit(events, items=items, users=people)
    encoded()
    model.recommend()
    assert encoded() == []
    changed = pd.DataFrame({"user_id": ["u1", "u3", "idle"], "colour": ["green", "red", "red"]})
    model.observe(of("u5", "i2"), users=changed)
    model.recommend()
    assert encoded() == [3]
    pd.testing.assert_frame_equal(
        model.recommend(k=4), encoding(model).recommend(k=4), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("timed", ["time_gaps", "time_bias"])
def test_a_model_that_reads_times(make_recommender, events, encoding, timed):
    model = make_recommender(**{timed: True}).fit(events)
    for change in (of("u2", "i3"), of("u0", "i1", start=5), of("new", "i1", "i2")):
        model.observe(change)
        model.recommend(["u2", "u1"])
        pd.testing.assert_frame_equal(
            model.recommend(k=4), encoding(model).recommend(k=4), rtol=0, atol=2e-6
        )


def test_what_is_not_to_be_kept_is_not(fitted_once, events, encoding, encoded):
    none = encoding(fitted_once)
    for _ in range(2):
        none.recommend()
        assert encoded() == [7]
    assert len(none._serving.kept) == 0


def test_memory_is_given_back_when_none_are_to_be_kept_any_more(model, encoded):
    model.recommend()
    before = model.options
    model.options = dataclasses.replace(before, user_vectors_mb=0)
    model.recommend(["u1"])
    model.options = dataclasses.replace(before, user_vectors_mb=np.int16(512))
    encoded()
    model.recommend()
    assert encoded() == [7]


@pytest.mark.parametrize("more", [-1, 0])
def test_the_limit_is_that_of_the_vectors_of_all_users(encoding, id_model, encoded, more):
    users = [f"n{i}" for i in range(2**20 // (4 * 8) - 7 + 1 + more)]
    model = encoding(id_model)
    model.options = dataclasses.replace(model.options, user_vectors_mb=1)
    model.observe(pd.DataFrame({"user_id": users, "item_id": "i1", "timestamp": 9}))
    for _ in range(2):
        model.recommend(["u1"])
    assert len(model._serving.kept) == (1 if more < 0 else 0)
    assert sum(encoded()) == (1 if more < 0 else 2)

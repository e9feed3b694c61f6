"""Readers see a whole state: the one before a change or the one after it."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from palate import Recommender
from palate.data.vocabulary import Vocabulary

CHANGES: list[Callable[[Recommender], Any]] = [
    lambda m: m.observe(event("u0", "i12", 50)),
    lambda m: m.add_items(pd.DataFrame({"item_id": ["n0"], "title": ["a red chair"]})),
    lambda m: m.observe(event("u0", "n0", 51)),
    lambda m: m.partial_fit(
        event("u0", "n1", 52), items=pd.DataFrame({"item_id": ["n1"], "title": ["a book"]})
    ),
    lambda m: m.observe(event("u1", "n1", 53)),
    lambda m: m.partial_fit(event("u0", "i3", 54)),
    lambda m: m.add_items(pd.DataFrame({"item_id": ["n2"], "title": ["a garden"]})),
]


def event(user: str, item: str, time: int) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [user], "item_id": [item], "timestamp": [time]})


def answers(model: Recommender) -> dict[str, Callable[[], Any]]:
    users = pd.DataFrame({"user_id": ["u0", "u1"]})
    return {
        "recommend": lambda: model.recommend(["u0", "u1"], k=99).to_numpy().tolist(),
        "transform": lambda: model.transform(users).tolist(),
        "predict": lambda: model.predict(users, k=99).tolist(),
        "similar": lambda: model.recommend_to_items(["i1"], k=99).to_numpy().tolist(),
    }


def alike(found: Any, state: Any) -> bool:
    """Whether answers are the same: whom a question encodes together moves the last bits."""
    a, b = np.array(found, object), np.array(state, object)
    return a.shape == b.shape and all(
        abs(x - y) < 1e-5 if isinstance(x, float) else x == y
        for x, y in zip(a.ravel(), b.ravel(), strict=True)
    )


@pytest.mark.parametrize("keeping", [True, False])
def test_readers_in_threads_see_whole_states(
    fitted_once: Recommender, encoding: Any, keeping: bool
) -> None:
    model = copy.deepcopy(fitted_once) if keeping else encoding(fitted_once)
    allowed: dict[str, list[Any]] = {name: [] for name in answers(model)}
    replay = copy.deepcopy(fitted_once)
    for change in [lambda m: None, *CHANGES]:
        change(replay)
        for name, ask in answers(replay).items():
            allowed[name].append(ask())
    stop, wrong, states = threading.Event(), [], {name: set() for name in allowed}

    def read(name: str) -> None:
        last = 0
        try:
            while not stop.is_set():
                found = answers(model)[name]()
                at = max(i for i, state in enumerate(allowed[name]) if alike(found, state))
                assert at >= last, "a reader went back in time"
                last = at
                states[name].add(at)  # type: ignore[attr-defined]
        except BaseException as error:
            wrong.append((name, error))

    readers = [threading.Thread(target=read, args=(name,)) for name in allowed]
    for reader in readers:
        reader.start()
    for change in CHANGES:
        change(model)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert all(states.values())


class Switching(Recommender):
    """A model whose state changes after so many reads of it."""

    _later: Any = None
    _reads = 10**9

    def __getattribute__(self, name: str) -> Any:
        if name == "_serving":
            reads = object.__getattribute__(self, "_reads")
            object.__setattr__(self, "_reads", reads - 1)
            if reads <= 0:
                return object.__getattribute__(self, "_later")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("reads", range(5))
def test_a_call_reads_the_state_once(reads: int, fitted_once: Recommender) -> None:
    before = copy.deepcopy(fitted_once)
    after = copy.deepcopy(fitted_once)
    for change in CHANGES[:3]:
        change(after)
    allowed = {name: (ask(), answers(after)[name]()) for name, ask in answers(before).items()}
    for name, states in allowed.items():
        model = Switching(**before.get_params(deep=False))
        vars(model).update(vars(before))
        model._later, model._reads = after._serving, reads
        assert answers(model)[name]() in states, name


def test_writers_wait_for_each_other(fitted_once: Recommender) -> None:
    model = copy.deepcopy(fitted_once)
    rows = [[(f"w{t}", f"i{n}", 100 + n) for n in range(8)] for t in range(4)]

    def write(mine: list[tuple[str, str, int]]) -> None:
        for row in mine:
            model.observe(event(*row))

    writers = [threading.Thread(target=write, args=(mine,)) for mine in rows]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert model._serving.histories.n_events == fitted_once._serving.histories.n_events + 32
    serving = model._serving
    for user in ("w0", "w1", "w2", "w3"):
        code = int(serving.users.codes([user])[0])
        item_ids = serving.items.ids(serving.histories.of(code)).tolist()
        assert item_ids == [f"i{n}" for n in range(8)]


def test_a_failed_writer_lets_the_next_one_in(fitted_once: Recommender) -> None:
    model = copy.deepcopy(fitted_once)
    for call in (model.observe, model.partial_fit, model.add_items):
        with pytest.raises(ValueError, match=r"\w"):
            call(pd.DataFrame({"nothing": [1]}))
    done = threading.Thread(target=lambda: model.observe(event("u0", "i1", 99)), daemon=True)
    done.start()
    done.join(timeout=10)
    assert not done.is_alive()
    assert np.isfinite(model.transform(pd.DataFrame({"user_id": ["u0"]}))).all()


def test_readers_do_not_wait_for_a_writer(fitted_once: Recommender, folder: Path) -> None:
    model = copy.deepcopy(fitted_once)
    done: list[str] = []

    def read() -> None:
        for name, ask in answers(model).items():
            ask()
            done.append(name)
        model.recommend(texts=[["a red lamp"]], k=1)
        model.save(folder)
        pickle.loads(pickle.dumps(model)).recommend(k=1)
        done.append("rest")

    with model._lock.held:  # as a writer that trains holds it
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(timeout=30)
        assert done == [*answers(model), "rest"]


def test_a_saved_or_copied_model_is_one_state(
    fitted_once: Recommender, folder: Path, options: Any
) -> None:
    """What `partial_fit` changes is changed at once: moments belong to the weights beside them."""
    model = copy.deepcopy(fitted_once)
    model.set_params(validation_fraction=0)
    states = [model._serving]
    stop = threading.Event()
    kept: list[Any] = []
    wrong: list[Any] = []

    def keep() -> None:
        try:
            while not stop.is_set():
                model.save(folder)
                for one in (Recommender.load(folder, options=options), copy.deepcopy(model)):
                    kept.append(one)
        except BaseException as error:
            wrong.append(error)

    keeper = threading.Thread(target=keep)
    keeper.start()
    for time in range(6):
        model.partial_fit(event("u0", "i3", 60 + time), epochs=1)
        states.append(model._serving)
    stop.set()
    keeper.join()
    assert wrong == []
    assert len(kept) >= 2
    # Compared once all states are known: a second training beside it may differ in the last bit.
    for one in kept:
        state = states[one._serving.learning.n_fits - 1]
        found = one._serving.learning.optimizer_state["log_scale"]["exp_avg"]
        assert torch.equal(found, state.learning.optimizer_state["log_scale"]["exp_avg"])
        np.testing.assert_array_equal(one.item_vectors_, state.vectors.numpy())
        assert len(one.history_) == len(state.learning.records)


def test_a_vocabulary_is_ready_before_it_is_shared() -> None:
    """pandas builds its hash at the first look-up, and half of one finds half of the ids."""
    for ids in (np.arange(9) * 7, np.array(["a", "b"], dtype=object)):
        assert Vocabulary(ids)._base._engine.is_mapping_populated
        assert Vocabulary().extend(ids)._base._engine.is_mapping_populated

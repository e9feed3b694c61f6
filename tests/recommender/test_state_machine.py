"""Random calls in random order, against a model in plain dictionaries that knows what must hold.

`PALATE_STATE_EXAMPLES=200 pytest tests/recommender/test_state_machine.py --hypothesis-seed=7`
runs longer, with other draws.
"""

from __future__ import annotations

import collections
import copy
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from palate import BertEncoder, Fusion, IdEncoder, Recommender, Text
from palate.exceptions import (
    InvalidInputError,
    InvalidParameterError,
    MissingContentError,
    PalateError,
    PersistenceError,
    UnsupportedTargetError,
)

EXAMPLES = int(os.environ.get("PALATE_STATE_EXAMPLES", "0"))
# Calls made so far, by rule, for the figures of the docs and for the test that each was made.
STEPS: collections.Counter[str] = collections.Counter()

USERS: dict[str, list[Any]] = {
    "int": [7, -3, 2**40, 0, 11, 5],
    "str": ["ann", "bob", "", "ann ", "🙂", "שלום"],
    "mixed": [1, "1", 2.5, b"1", "x", (1, 2)],
}
ITEMS: dict[str, list[Any]] = {
    "int": [30, 10, 20, -1, 2**53 + 1, 99, 1, 0],
    "str": ["a", "b", "A", "é", "e\u0301", "a\0", "ab", "🙂🙂"],
    "mixed": [3, "3", b"3", 3.5, "y", -1, "", "z"],
}
WORDS = ["red lamp", "green chair", "blue book", "", "a garden", "🙂", "red lamp", "kitchen"]
FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}

place = st.integers(0, 5)
event = st.tuples(place, st.integers(0, 7), st.integers(0, 5))
events = st.lists(event, min_size=1, max_size=12)
few = st.lists(event, min_size=0, max_size=4)
some = st.lists(st.integers(0, 7), max_size=5)


class Naive:
    """What a recommender must know: users, items and histories, in the order they came."""

    def __init__(self) -> None:
        self.users: list[Any] = []
        self.items: list[Any] = []
        self.histories: dict[Any, list[tuple[int, Any]]] = {}

    def know(self, items: list[Any]) -> None:
        for item in items:
            if item not in self.items:
                self.items.append(item)

    def add(self, rows: list[tuple[Any, Any, int]], *, timed: bool) -> None:
        for user, item, time in rows:
            if user not in self.users:
                self.users.append(user)
            self.histories.setdefault(user, []).append((time, item))
        if timed:
            for history in self.histories.values():
                history.sort(key=lambda pair: pair[0])  # stable: equal times as they came

    def seen(self, user: Any) -> list[Any]:
        return [item for _, item in self.histories[user]]


def records(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a table of any library."""
    if isinstance(table, pl.DataFrame):
        return table.to_dicts()
    if isinstance(table, pa.Table):
        return table.to_pylist()
    return table.astype(object).to_dict("records")


class Machine(RuleBasedStateMachine):
    """Calls on a model of ids."""

    def __init__(self, options: Any, bert: str | None) -> None:
        super().__init__()
        self.options, self.bert = options, bert
        self.home = Path(tempfile.mkdtemp(prefix="palate-"))

    def teardown(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    # ---- what is drawn

    def rows(self, drawn: list[tuple[int, int, int]]) -> list[tuple[Any, Any, int]]:
        users, items = USERS[self.kind], ITEMS[self.kind]
        return [(users[user], items[item], time) for user, item, time in drawn]

    def table(self, rows: list[tuple[Any, Any, int]], library: str = "") -> Any:
        columns: dict[str, Any] = {"user_id": [r[0] for r in rows], "item_id": [r[1] for r in rows]}
        if not rows:
            columns = {name: np.empty(0, object) for name in columns}
        if self.kind == "mixed":
            columns = {name: self.objects(values) for name, values in columns.items()}
        if self.timed:
            columns["timestamp"] = np.array([r[2] for r in rows], np.int64)
        if self.weighted:
            columns["weight"] = np.array([1.0 + r[2] for r in rows])
        return FRAMES[library or self.library](columns)

    def objects(self, values: Any) -> np.ndarray:
        array = np.empty(len(values), dtype=object)
        array[:] = list(values)
        return array

    def content(self, ids: list[Any]) -> pd.DataFrame:
        titles = [WORDS[ITEMS[self.kind].index(i)] for i in ids]
        return pd.DataFrame({"item_id": self.objects(ids), "title": self.objects(titles)})

    # ---- calls that change the model

    @initialize(
        kind=st.sampled_from(list(USERS)),
        library=st.sampled_from(list(FRAMES)),
        timed=st.booleans(),
        weighted=st.booleans(),
        encoder=st.sampled_from(["gru", "transformer"]),
        epochs=st.integers(0, 1),
        drawn=events,
        extra=some,
    )
    def fit(self, kind, library, timed, weighted, encoder, epochs, drawn, extra):
        self.kind, self.timed, self.weighted = kind, timed, weighted
        self.library = "pandas" if kind == "mixed" else library  # others hold one type a column
        items: Any = IdEncoder()
        if self.bert is not None:
            items = Fusion([BertEncoder(self.bert), IdEncoder()])
        self.model = Recommender(
            encoder,
            items,
            dim=4,
            epochs=epochs,
            random_state=0,
            options=self.options,
        )
        self.learn(self.model.fit, drawn, extra, Naive())
        self.n_records = len(self.model.history_)

    def learn(self, call: Any, drawn: Any, extra: list[int], naive: Naive, **keywords: Any) -> None:
        rows = self.rows(drawn)
        named = [ITEMS[self.kind][i] for i in extra]
        new = dict.fromkeys(i for i in [*named, *(row[1] for row in rows)])
        if self.bert is None:
            naive.know([row[1] for row in rows])
            call(self.table(rows), **keywords)
        else:
            naive.know(list(new))
            call(self.table(rows), items=self.content(list(new)), **keywords)
        naive.add(rows, timed=self.timed)
        self.naive = naive

    @rule(drawn=events, extra=some, epochs=st.integers(0, 1))
    def partial_fit(self, drawn, extra, epochs):
        STEPS["partial_fit"] += 1
        before = self.model.history_
        self.learn(self.model.partial_fit, drawn, extra, self.naive, epochs=epochs)
        assert self.model.history_[: len(before)] == before

    @rule(drawn=events, extra=some)
    def fit_again(self, drawn, extra):
        STEPS["fit_again"] += 1
        self.learn(self.model.fit, drawn, extra, Naive())

    @rule(drawn=few, unsupported=st.sampled_from(["raise", "warn", "ignore"]))
    def observe(self, drawn, unsupported):
        STEPS["observe"] += 1
        rows = self.rows(drawn)
        known = [row for row in rows if row[1] in self.naive.items]
        touched = {row[0] for row in known}
        vectors, bits = self.user_vectors(), self.model.item_vectors_.tobytes()
        if len(known) < len(rows) and unsupported == "raise":
            self.refuse(UnsupportedTargetError, lambda: self.model.observe(self.table(rows)))
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.observe(self.table(rows), on_unsupported_targets=unsupported)
        self.naive.add(known, timed=self.timed)
        # Only those users move, and no item does.
        assert self.model.item_vectors_.tobytes() == bits
        after = self.user_vectors()
        for user in set(vectors) - touched:
            np.testing.assert_allclose(after[user], vectors[user], atol=2e-6)

    @precondition(lambda self: self.bert is not None)
    @rule(extra=some)
    def add_items(self, extra):
        STEPS["add_items"] += 1
        ids = list(dict.fromkeys(ITEMS[self.kind][i] for i in extra))
        known = [i for i in ids if i in self.naive.items]
        bits = self.model.item_vectors_.tobytes()
        if known:
            self.refuse(InvalidInputError, lambda: self.model.add_items(self.content(ids)))
            return
        self.model.add_items(self.content(ids))
        self.naive.know(ids)
        assert self.model.item_vectors_.tobytes()[: len(bits)] == bits

    @rule(mmap=st.booleans(), learn=st.booleans(), drawn=events)
    def save_and_load(self, mmap, learn, drawn):
        STEPS["save_and_load"] += 1
        folder = self.home / "model"
        unsaved = (tuple,)  # no file holds these ids
        if any(isinstance(i, unsaved) for i in [*self.naive.users, *self.naive.items]):
            self.refuse(PersistenceError, lambda: self.model.save(folder))
            return
        self.model.save(folder)
        loaded = Recommender.load(folder, options=self.options, mmap=mmap)
        assert self.look(loaded) == self.look(self.model)
        if learn:  # goes on as if never stopped
            rows = [row for row in self.rows(drawn) if row[1] in self.naive.items]
            twin = copy.deepcopy(self.model)
            if rows:
                for model in (twin, loaded):
                    model.partial_fit(self.table(rows), epochs=1)
                assert self.look(loaded) == self.look(twin)
            loaded = Recommender.load(folder, options=self.options, mmap=mmap)
        self.model = loaded

    # ---- calls that ask

    @rule(
        users=st.lists(place, max_size=4),
        k=st.integers(1, 12),
        filter_viewed=st.booleans(),
        include=st.none() | some,
        exclude=st.none() | some,
    )
    def recommend(self, users, k, filter_viewed, include, exclude):
        STEPS["recommend"] += 1
        names = [USERS[self.kind][user] for user in users]
        pool = ITEMS[self.kind]
        allowed = None if include is None else [pool[i] for i in include]
        banned = [] if exclude is None else [pool[i] for i in exclude]
        answers = self.model.recommend(
            self.objects(names),
            k=k,
            filter_viewed=filter_viewed,
            items_to_recommend=None if allowed is None else self.objects(allowed),
            items_to_exclude=None if exclude is None else self.objects(banned),
            on_unsupported_targets="ignore",
        )
        vectors = self.user_vectors()
        found = iter(records(answers))
        for user in names:
            if user not in self.naive.users:
                continue
            valid = [
                item
                for item in self.naive.items
                if (allowed is None or item in allowed)
                and item not in banned
                and not (filter_viewed and item in self.naive.seen(user))
            ]
            rows = [next(found) for _ in range(min(k, len(valid)))]
            assert all(self.same(row["user_id"], user) for row in rows)
            self.check_ranking(rows, vectors[user], valid)
        assert next(found, None) is None  # and no row more

    @rule(user=place, k=st.integers(1, 9), extra=some)
    def histories(self, user, k, extra):
        STEPS["histories"] += 1
        history: list[Any] = [ITEMS[self.kind][i] for i in extra]
        name = USERS[self.kind][user]
        if name in self.naive.users:  # the same history gives the same answer, whoever asks
            own = self.model.recommend(histories=[self.naive.seen(name)], k=k)
            known = self.model.recommend(self.objects([name]), k=k)
            scores = [[row["score"] for row in records(table)] for table in (own, known)]
            np.testing.assert_allclose(*scores, atol=2e-6)
        if self.bert is not None:
            history.append(Text("red lamp"))
        unknown = [item for item in history if not isinstance(item, Text)]
        unknown = [item for item in unknown if item not in self.naive.items]
        if unknown or not history:
            self.refuse(
                UnsupportedTargetError, lambda: self.model.recommend(histories=[history], k=k)
            )
            return
        rows = records(self.model.recommend(histories=[history], k=k))
        valid = [item for item in self.naive.items if item not in history]
        assert len(rows) == min(k, len(valid))
        assert [row["user_id"] for row in rows] == [0] * len(rows)
        if self.bert is None:
            self.check_ranking(rows, self.model.transform([history])[0], valid)

    @rule(item=st.integers(0, 7), k=st.integers(1, 9), filter_itself=st.booleans())
    def similar_items(self, item, k, filter_itself):
        STEPS["similar_items"] += 1
        name = ITEMS[self.kind][item]
        ask = lambda: self.model.recommend_to_items(  # noqa: E731
            self.objects([name]), k=k, filter_itself=filter_itself
        )
        if name not in self.naive.items:
            self.refuse(UnsupportedTargetError, ask)
            return
        valid = [other for other in self.naive.items if not (filter_itself and other == name)]
        rows = records(ask())
        assert len(rows) == min(k, len(valid))
        assert all(self.same(row["target_item_id"], name) for row in rows)
        own = self.model.item_vectors_[self.naive.items.index(name)]
        self.check_ranking(rows, own, valid)

    @rule(drawn=events, k=st.integers(1, 9))
    def predict(self, drawn, k):
        STEPS["predict"] += 1
        rows = [row for row in self.rows(drawn) if row[0] in self.naive.users]
        answers = self.model.predict(self.table(rows), k=k)
        assert answers.shape == (len(rows), k)
        by_user = {row[0]: self.model.recommend(self.objects([row[0]]), k=k) for row in rows}
        for (user, _, _), answer in zip(rows, answers, strict=True):
            expected = [row["item_id"] for row in records(by_user[user])]
            assert answer[: len(expected)].tolist() == expected
            assert pd.isna(answer[len(expected) :]).all()

    @rule(drawn=events, metric=st.sampled_from(["ndcg", "hr", "mrr"]))
    def score(self, drawn, metric):
        STEPS["score"] += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = self.model.score(self.table(self.rows(drawn)), metric=metric, k=3)
        assert 0 <= value <= 1

    # ---- calls that are refused

    @rule(which=st.integers(0, 7), drawn=events)
    def refused(self, which, drawn):
        STEPS["refused"] += 1
        rows, model = self.rows(drawn), self.model
        lost = pd.DataFrame({"user_id": ["u", None], "item_id": ["a", "b"], "timestamp": [1, 2]})
        (self.home / "other").mkdir(exist_ok=True)
        (self.home / "other" / "file").write_text("mine")
        self.timed = not self.timed
        another = self.table(rows, "pandas")
        self.timed = not self.timed
        known = another.assign(item_id=self.objects([self.naive.items[0]] * len(rows)))
        calls: list[tuple[type, Any]] = [
            (InvalidInputError, lambda: model.fit(lost)),
            (InvalidInputError, lambda: model.observe(lost)),
            (InvalidInputError, lambda: model.partial_fit(known)),
            (InvalidInputError, lambda: model.observe(known)),
            (InvalidParameterError, lambda: model.partial_fit(self.table(rows), epochs=-1)),
            (InvalidParameterError, lambda: model.recommend(k=0)),
            (PersistenceError, lambda: model.save(self.home / "other")),
            (
                MissingContentError if self.bert is None else InvalidInputError,
                lambda: model.add_items(self.content(self.naive.items[:1])),
            ),
        ]
        self.refuse(*calls[which])

    # ---- what must always hold

    @invariant()
    def knows_what_it_was_told(self):
        for found, expected in (
            (self.model.user_ids_, self.naive.users),
            (self.model.item_ids_, self.naive.items),
        ):
            assert len(found) == len(expected)
            assert all(self.same(*pair) for pair in zip(found.tolist(), expected, strict=True))
        serving = self.model._serving
        for code, user in enumerate(self.naive.users):
            history = serving.items.ids(serving.histories.of(code)).tolist()
            assert history == self.naive.seen(user)
        assert serving.ranker.n_items_ == len(self.naive.items)
        assert np.isfinite(self.model.item_vectors_).all()

    def same(self, found: Any, expected: Any) -> bool:
        """Tell whether an id came back as it was given, type included."""
        return type(found) is type(expected) and found == expected

    def user_vectors(self) -> dict[Any, np.ndarray]:
        users = pd.DataFrame({"user_id": self.objects(self.naive.users)})
        return dict(zip(self.naive.users, self.model.transform(users), strict=True))

    def check_ranking(self, rows: list[dict[str, Any]], vector: np.ndarray, valid: list) -> None:
        """Compare one list with float64 cosines of all valid items."""
        items = self.model.item_vectors_.astype(np.float64)
        lengths = np.linalg.norm(items, axis=1) * np.linalg.norm(vector.astype(np.float64))
        cosines = items @ vector.astype(np.float64) / np.where(lengths > 0, lengths, 1)
        of = dict(zip(self.naive.items, cosines, strict=True))
        names = [row["item_id"] for row in rows]
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
        assert len(set(names)) == len(names) and set(names) <= set(valid)
        known = [self.naive.items.index(name) for name in names]
        assert all(
            self.same(name, self.naive.items[at]) for name, at in zip(names, known, strict=True)
        )
        scores = [row["score"] for row in rows]
        np.testing.assert_allclose(scores, [of[name] for name in names], atol=2e-6)
        pairs = list(zip(scores, known, strict=True))
        assert pairs == sorted(pairs, key=lambda pair: (-pair[0], pair[1]))
        left = [of[item] for item in valid if item not in names]
        assert not left or not scores or max(left) <= scores[-1] + 2e-6

    def look(self, model: Recommender) -> dict[str, Any]:
        """Return what can be seen of a model."""
        state = model._serving
        events = state.histories.compact()
        return {
            "users": model.user_ids_.tolist(),
            "items": model.item_ids_.tolist(),
            "types": [model.user_ids_.dtype.kind, model.item_ids_.dtype.kind],
            "vectors": model.item_vectors_.tobytes(),
            "weights": {n: t.numpy().tobytes() for n, t in state.network.state_dict().items()},
            "events": [events.indptr.tolist(), events.items.tolist(), str(events.times)],
            "weights of events": str(events.weights),
            "answers": records(model.recommend(k=4)),
            "records": [{**record, "seconds": None} for record in model.history_],
            "params": {n: str(v) for n, v in model.get_params().items() if n != "options"},
        }

    def refuse(self, error: type, call: Any) -> None:
        """Assert that a call raises, and that nothing is different after it."""
        before = self.look(self.model)
        with pytest.raises(error) as caught:
            call()
        assert isinstance(caught.value, PalateError) and str(caught.value).endswith(".")
        assert self.look(self.model) == before


RULES = {
    *("partial_fit", "fit_again", "observe", "save_and_load", "recommend", "histories"),
    *("similar_items", "predict", "score", "refused"),
}


def run(options: Any, bert: str | None, examples: int) -> None:
    """Run the machine, the same way each time unless asked for more."""
    STEPS.clear()
    profile = settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=15,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: Machine(options, bert), settings=profile)


def test_a_model_of_ids(options: Any, record_property: Any) -> None:
    run(options, None, 40)
    record_property("steps", sum(STEPS.values()))
    assert set(STEPS) == RULES


def test_a_model_of_texts(options: Any, tiny_bert: str, record_property: Any) -> None:
    run(options, tiny_bert, 20)
    record_property("steps", sum(STEPS.values()))
    assert set(STEPS) == {*RULES, "add_items"}

"""Eight readers, a writer and a saver at once: every answer is that of a state that existed.

``PALATE_STRESS_SECONDS`` sets how long they run; ``make stress`` takes 30 seconds.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from palate import Recommender, Text

SECONDS = float(os.environ.get("PALATE_STRESS_SECONDS", "5"))
N_READERS = 8
PAUSE = 0.01  # of the writer, so that there are readers' answers for every state
WHO = pd.DataFrame({"user_id": ["u0", "u1", "u0"]})

Ask = Callable[[Recommender], Any]
QUESTIONS: dict[str, Ask] = {
    "recommend": lambda m: m.recommend(["u0", "u1"], k=999),
    "histories": lambda m: m.recommend(histories=[["i1", Text("a red lamp")], ["i2"]], k=7),
    "texts": lambda m: m.recommend(texts=[["i bought a blue chair"]], k=5),
    "everybody": lambda m: m.recommend(k=2, filter_viewed=False),
    "similar": lambda m: m.recommend_to_items(["i1", "i3"], k=999),
    "predict": lambda m: m.predict(WHO, k=9),
    "transform": lambda m: m.transform(WHO),
    "vectors": lambda m: m.item_vectors_,
}


def answer(model: Recommender, name: str) -> bytes:
    """Return an answer, to the last bit."""
    found = QUESTIONS[name](model)
    if isinstance(found, pd.DataFrame):
        return b"|".join(bits(found[column].to_numpy()) for column in found)
    return bits(found)


def bits(array: Any) -> bytes:
    return repr(array.tolist()).encode() if array.dtype == object else bytes(array.tobytes())


class Writer:
    """Changes a model in every way, and keeps each state."""

    def __init__(self, model: Recommender) -> None:
        self.model, self.states, self.count = model, [model._serving], 0

    def step(self) -> None:
        """Make one change: mostly events, now and then items or learning."""
        n = self.count = self.count + 1
        if n % 40 == 0:
            item = pd.DataFrame({"item_id": [f"p{n}"], "title": [f"a green book {n % 9}"]})
            self.model.partial_fit(event("u0", f"p{n}", n), items=item, epochs=1)
        elif n % 9 == 0:
            item = pd.DataFrame({"item_id": [f"n{n}"], "title": [f"a red chair {n % 7}"]})
            self.model.add_items(item)
        else:
            user = ("u0", "u1", f"new{n}")[n % 3]
            self.model.observe(event(user, f"i{n % 11}", n))
        self.states.append(self.model._serving)


def event(user: str, item: str, time: int) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [user], "item_id": [item], "timestamp": [100 + time]})


def test_every_answer_is_of_a_state_that_existed(
    fitted_once: Recommender, folder: Path, encoding: Any, record_property: Any
) -> None:
    # Whom a question encodes together moves the last bits: with kept vectors that is up to chance.
    model = encoding(fitted_once)
    options = model.options
    writer, stop, errors = Writer(model), threading.Event(), []
    heard: list[list[tuple[str, bytes]]] = [[] for _ in range(N_READERS + 1)]

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                errors.append(error)
                stop.set()

        return run

    def reader(place: int) -> Callable[[], None]:
        names = list(QUESTIONS)[place:] + list(QUESTIONS)[:place]

        def read() -> None:
            name = names[len(heard[place]) % len(names)]
            heard[place].append((name, answer(model, name)))

        return read

    def save() -> None:
        model.save(folder)
        loaded = Recommender.load(folder, options=options, mmap=True)
        for name in ("vectors", "recommend"):
            heard[-1].append((name, answer(loaded, name)))

    jobs = [guarded(reader(place)) for place in range(N_READERS)] + [guarded(save)]
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and not stop.is_set():
        writer.step()
        time.sleep(PAUSE)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    for name, value in check(writer, heard).items():
        record_property(name, value)


def check(writer: Writer, heard: list[list[tuple[str, bytes]]]) -> dict[str, float]:
    """Compare all that was heard with each state, asked again in peace; return what was counted."""
    replay = copy.copy(writer.model)
    valid: dict[tuple[str, bytes], list[int]] = {}
    for at, state in enumerate(writer.states):
        replay._serving = state
        for name in QUESTIONS:
            valid.setdefault((name, answer(replay, name)), []).append(at)
    n_states, torn, back = set(), 0, 0
    for answers in heard:
        last = 0
        for given in answers:
            if given not in valid:
                torn += 1
                continue
            later = [at for at in valid[given] if at >= last]
            back += not later
            last = later[0] if later else last
            n_states.add(last)
    total = sum(map(len, heard))
    said = (
        f"{total} answers, {len(heard[-1]) // 2} saves, {len(writer.states)} states, of which "
        f"{len(n_states)} were seen; {torn} torn, {back} back in time"
    )
    print(f"\n{SECONDS:g} s: {said}")  # noqa: T201 shown by make stress
    assert torn == back == 0, said
    assert len(n_states) > 5 and all(heard), said
    return {
        "seconds": SECONDS,
        "readers": N_READERS,
        "answers": total,
        "saves": len(heard[-1]) // 2,
        "states": len(writer.states),
        "states_seen": len(n_states),
        "torn": torn + back,
    }

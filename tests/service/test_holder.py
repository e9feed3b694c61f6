"""The live model without HTTP: crashes at every step of a save, replay, batches."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import threading

import pytest

pytest.importorskip("fcntl", reason="the example serves on POSIX systems")

from service import changes as changes_module
from service import event_log
from service.answers import Question, answer_each
from service.batching import Batcher, Busy
from service.changes import apply_each, replay
from service.event_log import LogError
from service.model_holder import ModelHolder, NotReady
from service.model_store import ModelStore
from service.settings import Settings


def events(user, items, start=0, unknown="raise"):
    times = list(range(start, start + len(items)))
    columns = {"user_id": [user] * len(items), "item_id": list(items), "timestamp": times}
    return {"kind": "events", "unknown": unknown, "columns": columns}


def question(*users, k=13, **options):
    options = {"k": k, "filter_viewed": False, **options}
    return Question("users", list(users), tuple(options.items()))


def items_of(model, *users):
    """Return the lists of users, which differ as soon as a history does."""
    (answer,) = answer_each(model, [question(*users)])
    return [[(row["item_id"], round(row["score"], 5)) for row in rows] for _, rows in answer]


def opened(state, **settings):
    holder = ModelHolder(Settings(state=state, keep_versions=1, **settings))
    holder.reload()
    return holder


def test_a_reload_waits_for_the_first_event_before_it_numbers_an_empty_log(state, monkeypatch):
    holder, fsync, reloads = opened(state), os.fsync, []

    def reload_meanwhile(number):
        if not reloads:
            reloads.append(threading.Thread(target=holder.reload))
            reloads[0].start()
            reloads[0].join(0.3)
        return fsync(number)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", reload_meanwhile)
        holder.write([events("new", ["i1"])])
        reloads[0].join()
    assert [frame.sequence for frame in holder.log.read(0)] == [1]


class Crash(BaseException):
    """Stands for the end of the process."""


STEPS = ("fsync", "rename", "replace", "symlink", "unlink", "mkdir")


def save_and_crash(state, monkeypatch, at):
    """Save a model with events, end at step `at`, and tell whether there was such a step."""
    holder = opened(state)
    holder.write([events("new", ["i1", "i5"])])
    holder.save()
    holder.write([events("new", ["i5"], 2), events("other", ["i7"])])
    holder.write([events("new", ["i2"], 3)])
    left = at

    def crashing(function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for name in STEPS:
            patched.setattr(os, name, crashing(getattr(os, name)))
        patched.setattr(shutil, "rmtree", lambda *a, **k: None)  # no tidying up
        try:
            holder.save()
        except Crash:
            return True
        finally:
            holder.close()
    return False


def test_a_crash_at_any_step_of_a_save_loses_nothing_and_doubles_nothing(
    state, id_model, monkeypatch, record_property
):
    whole = [events("new", ["i1", "i5", "i5", "i2"]), events("other", ["i7"])]
    twin, _ = apply_each(id_model, whole)
    saved = []
    for at in itertools.count():
        folder = state.with_name(f"state{at}")
        shutil.copytree(state, folder, symlinks=True)
        crashed = save_and_crash(folder, monkeypatch, at)
        saved.append(ModelStore(folder / "models").current().name)
        for _ in range(2):
            after = opened(folder)
            assert items_of(after.live.model, "new", "other") == items_of(twin, "new", "other")
            assert after.skipped == 0
            assert after.save().watermark == 3
            after.close()
        if not crashed:
            break
    # It was tried before the new version is current, and behind that, in tidying up.
    assert saved == sorted(saved)
    assert saved.count("00000002") > 10
    assert saved.count("00000003") > 3
    record_property("crashed_saves", len(saved) - 1)


def test_a_log_that_cannot_be_written_changes_nothing(state, monkeypatch):
    holder = opened(state)
    before = holder.live

    def fail(*arguments):
        raise LogError("the log could not be written: no space.")

    monkeypatch.setattr(holder.log, "append", fail)
    with pytest.raises(LogError, match="no space"):
        holder.write([events("u1", ["i1"])])
    assert holder.live is before
    holder.close()


def test_a_batch_is_one_frame_and_one_fsync_without_its_bad_changes(state, id_model, monkeypatch):
    holder, synced, real = opened(state), [], os.fsync
    monkeypatch.setattr(event_log.os, "fsync", lambda handle: (synced.append(handle), real(handle)))
    batch = [events("a", ["i1"]), events("b", ["nothing"]), events("a", ["i2"], 1)]
    first, bad, last = holder.write(batch)
    assert (first, last) == (1, 1)
    assert str(bad).startswith("items in X unknown to the model: 'nothing'.")
    assert len(synced) == 1
    assert [frame.changes for frame in holder.log.read(0)] == [[batch[0], batch[2]]]
    assert (holder.live.sequence, holder.live.unsaved) == (1, 2)
    twin, _ = apply_each(id_model, [events("a", ["i1", "i2"])])
    assert items_of(holder.live.model, "a") == items_of(twin, "a")
    assert "b" not in set(holder.live.model.user_ids_)
    holder.close()


def test_a_batch_of_nothing_good_is_not_logged(state):
    holder = opened(state)
    before = holder.live
    results = holder.write([events("b", ["x"]), events("b", ["y"])])
    assert all(isinstance(result, ValueError) for result in results)
    assert (holder.live, holder.log.last) == (before, 0)
    holder.close()


def test_before_the_first_load_nothing_can_be_asked(tmp_path):
    holder = ModelHolder(Settings(state=tmp_path))
    with pytest.raises(NotReady, match=r"^no model is loaded yet; try again soon\.$"):
        holder.answer([question("u1")])


def test_changes_alone_or_together_make_the_same_model(id_model):
    changes = [events(f"n{n % 3}", [f"i{(5 * n) % 13}"], start=n) for n in range(20)]
    together, outcomes = apply_each(id_model, changes)
    alone = id_model
    for change in changes:
        alone, _ = apply_each(alone, [change])
    replayed, skipped = replay(id_model, iter(changes))
    assert (outcomes, skipped) == ([None] * 20, 0)
    users = ["n0", "n1", "n2"]
    assert items_of(together, *users) == items_of(alone, *users) == items_of(replayed, *users)
    assert "n0" not in set(id_model.user_ids_)


def test_a_newer_model_takes_from_the_log_what_fits_it(text_model):
    items = {"kind": "items", "columns": {"item_id": ["i1", "n1"], "title": ["x", "red lamp"]}}
    known = {"kind": "items", "columns": {"item_id": ["i2"], "title": ["x"]}}
    model, skipped = replay(
        text_model, [items, known, events("new", ["n1", "gone", "i3"], unknown="raise")]
    )
    assert skipped == 2  # i1 and i2 are in the catalogue already
    twin, _ = apply_each(
        text_model,
        [
            {"kind": "items", "columns": {"item_id": ["n1"], "title": ["red lamp"]}},
            events("new", ["n1"]),
            events("new", ["i3"], 2),
        ],
    )
    assert items_of(model, "new") == items_of(twin, "new")


@pytest.mark.parametrize("rows_at_once", [1, 3, 7, 100])
def test_replay_in_pieces_is_replay_in_one(id_model, monkeypatch, rows_at_once):
    log = [events(f"n{n % 2}", ["i1", f"i{n}", "i4"][: 1 + n % 3], start=3 * n) for n in range(9)]
    whole, _ = replay(id_model, log)
    monkeypatch.setattr(changes_module, "_ROWS_AT_ONCE", rows_at_once)
    pieces, _ = replay(id_model, log)
    assert items_of(pieces, "n0", "n1") == items_of(whole, "n0", "n1")


def test_questions_of_one_kind_are_one_call_and_each_gets_its_own(id_model, monkeypatch):
    calls = []
    real = type(id_model).recommend

    def counting(model, *arguments, **options):
        calls.append(options)
        return real(model, *arguments, **options)

    monkeypatch.setattr(type(id_model), "recommend", counting)
    questions = [
        question("u1", "u2", k=3),
        question("u2", k=3),
        question("u1", k=4),
        Question("histories", [["i1"], ["i2"]], (("k", 3),)),
        Question("histories", [["i3"]], (("k", 3),)),
    ]
    together = answer_each(id_model, questions)
    assert len(calls) == 3
    assert calls[0]["users"] == ["u1", "u2"]
    for asked, found in zip(questions, together, strict=True):
        alone = answer_each(id_model, [asked])[0]
        assert [label for label, _ in found] == [label for label, _ in alone]
        for (_, rows), (_, expected) in zip(found, alone, strict=True):
            assert [row["item_id"] for row in rows] == [row["item_id"] for row in expected]
            scores = [row["score"] for row in expected]
            assert [row["score"] for row in rows] == pytest.approx(scores, abs=1e-5)


async def settled(batcher, requests):
    worker = asyncio.create_task(batcher.run())
    try:
        jobs = [asyncio.create_task(batcher.submit(request)) for request in requests]
        return await asyncio.gather(*jobs, return_exceptions=True)
    finally:
        worker.cancel()
        batcher.close()


def test_what_waits_is_handled_together_up_to_the_limit():
    batches = []

    def handle(requests):
        batches.append(requests)
        return [ValueError(str(r)) if r == 4 else r * 10 for r in requests]

    batcher = Batcher(handle, size=int, max_batch=5, max_waiting=100)
    results = asyncio.run(settled(batcher, [1, 3, 1, 4, 9, 2]))
    assert batches == [[1, 3, 1], [4], [9], [2]]
    assert [str(r) for r in results] == ["10", "30", "10", "4", "90", "20"]
    assert isinstance(results[3], ValueError)
    assert batcher.waiting == 0


def test_a_full_queue_refuses_and_a_broken_batch_fails_alone():
    def handle(requests):
        if 7 in requests:
            raise RuntimeError("broken")
        return requests

    batcher = Batcher(handle, size=lambda request: 1, max_batch=1, max_waiting=2)
    results = asyncio.run(settled(batcher, [1, 7, 3, 4]))
    assert results[0] == 1
    assert [type(result) for result in results[1:]] == [RuntimeError, Busy, Busy]
    assert str(results[2]) == "2 requests are waiting already; try again soon."


def test_a_client_that_left_does_not_stop_the_queue():
    gate = threading.Event()

    def handle(requests):
        gate.wait(10)
        return requests

    async def leave():
        batcher = Batcher(handle, size=lambda request: 1, max_batch=1, max_waiting=9)
        worker = asyncio.create_task(batcher.run())
        gone = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.05)
        gone.cancel()
        later = asyncio.create_task(batcher.submit(2))
        gate.set()
        result = await asyncio.wait_for(later, 10)
        worker.cancel()
        batcher.close()
        return result

    assert asyncio.run(leave()) == 2


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"PALATE_MAX_K": "many"}, "PALATE_MAX_K must be of type int; got 'many'."),
        ({"PALATE_MAX_K": "0"}, "max_k must be at least 1; got 0."),
        ({"PALATE_SAVE_SECONDS": "-1"}, "save_seconds must be at least 0; got -1.0."),
    ],
)
def test_a_bad_setting_is_named(env, sentence):
    with pytest.raises(ValueError) as caught:
        Settings.from_env(env)
    assert str(caught.value) == sentence


def test_settings_come_from_the_environment():
    found = Settings.from_env({"PALATE_STATE": "s", "PALATE_SAVE_SECONDS": "1.5", "HOME": "/"})
    assert (str(found.state), found.save_seconds, found.max_k) == ("s", 1.5, 100)

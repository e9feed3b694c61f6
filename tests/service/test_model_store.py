"""Versions appear whole or not at all, and the log is needed down to the oldest one kept."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("fcntl", reason="the example serves on POSIX systems")

from service import model_store
from service.model_store import ModelStore, StoreError
from service.publish import publish


def writes(text: str):
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "file").write_text(text)

    return write


def text_of(version) -> str:
    return (version.folder / "file").read_text()


def test_the_last_published_version_is_current(tmp_path):
    store = ModelStore(tmp_path)
    for number, text in enumerate(["a", "b", "c"], start=1):
        made = store.publish(writes(text), watermark=10 * number)
        assert (made.name, made.watermark) == (f"{number:08d}", 10 * number)
        assert store.current() == made
        assert text_of(made) == text
    assert [text_of(version) for version in store.versions()] == ["a", "b", "c"]


def test_without_a_version_the_sentence_says_so(tmp_path):
    with pytest.raises(StoreError) as caught:
        ModelStore(tmp_path).current()
    assert str(caught.value) == f"{str(tmp_path)!r} holds no model yet: publish one."


def test_what_was_saved_from_an_older_model_does_not_replace_a_newer_one(tmp_path):
    store = ModelStore(tmp_path)
    old = store.publish(writes("old"), 1)

    def slow(folder):
        writes("saved from old")(folder)
        store.publish(writes("new"), 2)

    with pytest.raises(StoreError) as caught:
        store.publish(slow, 3, onto=old.name)
    assert str(caught.value) == (
        "the current version must still be '00000001'; it is '00000002': reload first."
    )
    assert text_of(store.current()) == "new"
    assert [text_of(version) for version in store.versions()] == ["old", "new"]


@pytest.mark.parametrize(("keep", "kept"), [(1, ["d"]), (2, ["c", "d"]), (9, ["a", "b", "c", "d"])])
def test_pruning_keeps_the_last_ones_and_says_what_they_need(tmp_path, keep, kept):
    store = ModelStore(tmp_path)
    for number, text in enumerate("abcd"):
        store.publish(writes(text), watermark=number)
    assert store.prune(keep) == 4 - len(kept)
    assert [text_of(version) for version in store.versions()] == kept
    assert store.publish(writes("e"), 9).name == "00000005"


def test_pruning_keeps_a_current_version_that_was_put_back_by_hand(tmp_path):
    store = ModelStore(tmp_path)
    for number, text in enumerate("abcd"):
        store.publish(writes(text), watermark=number)
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("00000001")
    assert store.prune(1) == 0
    assert [text_of(version) for version in store.versions()] == ["a", "d"]
    assert text_of(store.current()) == "a"


class Crash(BaseException):
    """Stands for the end of the process."""


STEPS = ["fsync", "rename", "replace", "symlink"]


@pytest.mark.parametrize("at", range(12))
def test_a_crash_at_any_step_leaves_the_old_version_or_the_new_one(tmp_path, monkeypatch, at):
    store = ModelStore(tmp_path)
    store.publish(writes("old"), 1)
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
        patched.setattr(model_store.shutil, "rmtree", lambda *a, **k: None)  # no tidying up
        with suppress(Crash):
            store.publish(writes("new"), 2)
    found = store.current()
    assert (text_of(found), found.watermark) in (("old", 1), ("new", 2))
    assert at > 3 or found.watermark == 1
    assert at < 11 or found.watermark == 2
    later = store.publish(writes("later"), 3)
    assert store.current() == later
    store.prune(1)
    store.sweep(older_than=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", later.name, "current"]


def test_sweeping_spares_what_somebody_is_writing(tmp_path):
    store = ModelStore(tmp_path)

    def write(folder):
        store.sweep()
        writes("a")(folder)

    assert text_of(store.publish(write, 0)) == "a"


def test_a_version_that_is_not_complete_is_refused(tmp_path):
    store = ModelStore(tmp_path)
    version = store.publish(writes("a"), 0)
    (version.folder.parent / "version.json").write_text("{")
    with pytest.raises(StoreError, match=r"^version '00000001' is not complete: "):
        store.current()


def test_the_second_model_of_a_service_must_say_how_much_of_the_log_it_holds(tmp_path):
    model = tmp_path / "model"
    writes("a")(model)
    assert publish(model, tmp_path / "state").watermark == 0
    with pytest.raises(StoreError, match=r"^watermark must be given: "):
        publish(model, tmp_path / "state")
    made = publish(model, tmp_path / "state", 7)
    assert (made.name, made.watermark, text_of(made)) == ("00000002", 7, "a")
    assert text_of(made) == (model / "file").read_text()

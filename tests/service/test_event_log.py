"""The log: what was appended is read back after any crash, and damage is never taken for one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fcntl", reason="the example serves on POSIX systems")

from service import event_log
from service.event_log import EventLog, LogError, encode


def changes(number: int) -> list[dict]:
    """Changes of a length that differs from frame to frame."""
    return [{"kind": "events", "columns": {"user_id": ["ü" * number, number]}}]


def filled(folder: Path, n_frames: int, rotate_behind: tuple[int, ...] = ()) -> None:
    log = EventLog(folder)
    for number in range(1, n_frames + 1):
        assert log.append(changes(number)) == number
        if number in rotate_behind:
            log.rotate()
    log.close()


def contents(folder: Path, after: int = 0) -> list[tuple[int, list]]:
    log = EventLog(folder)
    try:
        return [(frame.sequence, frame.changes) for frame in log.read(after)]
    finally:
        log.close()


def expected(*numbers: int) -> list[tuple[int, list]]:
    return [(number, changes(number)) for number in numbers]


@pytest.mark.parametrize("after", range(8))
def test_frames_come_back_in_order_across_segments(tmp_path, after):
    filled(tmp_path, 7, rotate_behind=(2, 3, 6))
    assert contents(tmp_path, after) == expected(*range(after + 1, 8))


def test_an_append_is_on_disk_when_it_returns(tmp_path, monkeypatch):
    log = EventLog(tmp_path)
    synced = []
    real = os.fsync
    monkeypatch.setattr(event_log.os, "fsync", lambda h: (synced.append(os.fstat(h)), real(h))[1])
    log.append(changes(1))
    path = tmp_path / f"{1:020d}.log"
    assert [info.st_ino for info in synced] == [path.stat().st_ino]
    assert synced[0].st_size == path.stat().st_size == len(encode(1, changes(1)))
    log.close()


def test_a_cut_at_any_byte_of_the_last_frame_loses_that_frame_alone(tmp_path, record_property):
    filled(tmp_path / "whole", 3)
    path = tmp_path / "whole" / f"{1:020d}.log"
    data, last = path.read_bytes(), len(encode(3, changes(3)))
    for missing in range(1, last + 1):
        torn = tmp_path / f"torn{missing}"
        torn.mkdir()
        (torn / path.name).write_bytes(data[:-missing])
        log = EventLog(torn)
        assert (log.last, log.dropped_bytes) == (2, last - missing)
        assert log.append(changes(3)) == 3
        log.close()
        assert contents(torn) == expected(1, 2, 3)
    record_property("cut_logs", last)


@pytest.mark.parametrize("tail", [b"\0" * 40, b"\xff" * 5, b"\xff" * 40])
def test_what_a_power_cut_leaves_behind_the_end_is_dropped(tmp_path, tail):
    filled(tmp_path, 2)
    with (tmp_path / f"{1:020d}.log").open("ab") as file:
        file.write(tail)
    assert contents(tmp_path) == expected(1, 2)


def test_a_changed_byte_before_the_last_frame_is_damage(tmp_path, record_property):
    filled(tmp_path / "whole", 4)
    name = f"{1:020d}.log"
    data, last = (tmp_path / "whole" / name).read_bytes(), len(encode(4, changes(4)))
    for place in range(len(data) - last):
        folder = tmp_path / f"at{place}"
        folder.mkdir()
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        (folder / name).write_bytes(damaged)
        with pytest.raises(LogError, match=rf"^{name} is damaged behind frame [0-2]\.$"):
            EventLog(folder)
    record_property("changed_logs", len(data) - last)


def test_damage_in_an_older_segment_is_found_when_it_is_read(tmp_path):
    filled(tmp_path, 4, rotate_behind=(2,))
    path = tmp_path / f"{1:020d}.log"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LogError, match=r"log is damaged behind frame 1\.$"):
        contents(tmp_path)
    assert contents(tmp_path, after=2) == expected(3, 4)


def test_a_lost_segment_is_missed(tmp_path):
    filled(tmp_path, 5, rotate_behind=(2, 4))
    (tmp_path / f"{3:020d}.log").unlink()
    with pytest.raises(LogError, match=r"is damaged behind frame 2\.$"):
        contents(tmp_path)


@pytest.mark.parametrize(("through", "kept"), [(0, 1), (1, 1), (2, 3), (3, 3), (4, 5), (9, 5)])
def test_only_whole_segments_that_nobody_needs_are_dropped(tmp_path, through, kept):
    filled(tmp_path, 4, rotate_behind=(2, 4))
    log = EventLog(tmp_path)
    log.drop_through(through)
    assert (log.first, log.last) == (kept, 4)
    assert log.append(changes(5)) == 5
    log.close()
    assert contents(tmp_path, after=kept - 1) == expected(*range(kept, 6))


def test_numbers_go_on_when_all_frames_were_dropped(tmp_path):
    filled(tmp_path, 3, rotate_behind=(3,))
    log = EventLog(tmp_path)
    log.drop_through(3)
    log.close()
    log = EventLog(tmp_path)
    assert (log.first, log.last, log.append(changes(4))) == (4, 3, 4)
    log.close()


def test_a_second_process_is_refused(tmp_path):
    log = EventLog(tmp_path)
    with pytest.raises(LogError) as caught:
        EventLog(tmp_path)
    assert str(caught.value) == f"{str(tmp_path)!r} is in use by another process."
    log.close()
    EventLog(tmp_path).close()


class Failing:
    """A file whose disk is full after some bytes, or whose fsync fails."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, data):
        return self._file.write(data[: self._room])

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_full_disk_refuses_a_change_and_takes_the_next_when_there_is_room(tmp_path, room):
    filled(tmp_path, 2)
    log = EventLog(tmp_path)
    file, log._file = log._file, Failing(log._file, room)
    with pytest.raises(LogError) as caught:
        log.append(changes(3))
    assert str(caught.value) == ("the log could not be written: the disk took only a part.")
    log._file = file
    assert log.append(changes(3)) == 3
    log.close()
    assert contents(tmp_path) == expected(1, 2, 3)


def test_after_a_failed_fsync_nothing_is_taken_until_a_restart(tmp_path, monkeypatch):
    log = EventLog(tmp_path)

    def fail(handle):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(event_log.os, "fsync", fail)
        with pytest.raises(LogError, match=r"^the log could not be written: .*Input/output error"):
            log.append(changes(1))
    with pytest.raises(LogError, match=r"takes nothing more until a restart\.$"):
        log.append(changes(1))
    log.close()
    assert contents(tmp_path) in ([], expected(1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(st.sampled_from(["append", "rotate", "reopen", "drop", "tear"]), max_size=20),
    data=st.data(),
)
def test_any_history_of_use_keeps_what_was_appended(tmp_path_factory, steps, data):
    folder = tmp_path_factory.mktemp("log")
    log, model, dropped = EventLog(folder), 0, 0
    for step in steps:
        if step == "append":
            model += 1
            assert log.append(changes(model)) == model
        elif step == "rotate":
            log.rotate()
        elif step == "drop":
            dropped = max(dropped, data.draw(st.integers(0, model)))
            log.drop_through(dropped)
        else:
            log.close()
            if step == "tear":  # a crash in the middle of an append
                frame = encode(model + 1, changes(model + 1))
                with sorted(folder.glob("*.log"))[-1].open("ab") as file:
                    file.write(frame[: data.draw(st.integers(0, len(frame) - 1))])
            log = EventLog(folder)
        assert log.last == model
        assert log.first <= dropped + 1
        frames = [(frame.sequence, frame.changes) for frame in log.read(dropped)]
        assert frames == expected(*range(dropped + 1, model + 1))
    log.close()


def test_the_size_is_known_while_a_save_drops_segments(tmp_path, monkeypatch):
    filled(tmp_path, 3, rotate_behind=(1, 2))
    log = EventLog(tmp_path)
    segments = log._segments()
    right = sum(path.stat().st_size for path in segments[1:])
    gone = segments[0]
    gone.unlink()
    monkeypatch.setattr(log, "_segments", lambda: segments)
    assert log.size == right
    log.close()

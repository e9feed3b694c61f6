"""Killed or failing at any line, a save leaves the old folder or the new one."""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import pytest

import palate.persistence
from palate import Recommender, RunOptions
from palate.exceptions import PersistenceError
from palate.persistence import folder as folders
from palate.persistence import writing

PACKAGE = str(Path(palate.persistence.__file__).parent)
Line = tuple[str, int]
Note = Callable[[str, object], None]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")


@contextmanager
def at_each_line(act: Callable[[int, Line], None]) -> Iterator[None]:
    """Call ``act(number, line)`` before every line that saving executes in its package."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            act(count, (Path(frame.f_code.co_filename).name, frame.f_lineno))
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.fixture(params=["swap", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to replace a folder: the second is for systems that cannot swap."""
    if request.param == "two renames":
        monkeypatch.setattr(folders, "swap", lambda first, second: False)
    return str(request.param)


@pytest.fixture
def lines(model: Recommender, tmp_path: Path, way: str) -> list[Line]:
    """The lines of a save over an existing model, in order, each once."""
    model.save(tmp_path / "scratch")
    folders._swap_call()  # looked up once a process
    found: list[Line] = []
    with at_each_line(lambda number, line: found.append(line)):
        model.save(tmp_path / "scratch")
    shutil.rmtree(tmp_path / "scratch")
    return list(dict.fromkeys(found))


def some(lines: list[Line]) -> list[Line]:
    """All lines from where folders get their names, and some before; in a long run, all lines."""
    if float(os.environ.get("PALATE_STRESS_SECONDS", "5")) >= 30:
        return lines
    naming = lines.index(("folder.py", inspect.getsourcelines(folders._put)[1] + 2))
    return [*lines[:naming:12], *lines[naming:]]


def change(model: Recommender) -> None:
    model.observe(pd.DataFrame({"user_id": ["x"], "item_id": ["i1"], "timestamp": [77]}))


def is_new(folder: Path, options: RunOptions) -> bool:
    """Load the whole model, checksums and all, and tell which it is."""
    return "x" in Recommender.load(folder, options=options).user_ids_.tolist()


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if path.name != folder.name)


def killed_at(line: Line, model: Recommender, folder: Path) -> bool:
    """Save in a forked process that is killed at a line; tell whether it came there."""
    child = os.fork()
    if not child:

        def kill(_: int, here: Line) -> None:
            if here == line:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with at_each_line(kill):
                model.save(folder)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.WIFSIGNALED(status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"saving hangs in a forked process, on the way to {line}")


@needs_fork
def test_killed_at_any_line_over_an_old_model(
    model: Recommender,
    folder: Path,
    tmp_path: Path,
    lines: list[Line],
    options: RunOptions,
    record_property: Note,
) -> None:
    model.save(tmp_path / "kept")
    change(model)
    states, n_killed = set(), 0
    lines = some(lines)
    for line in lines:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", folder)
        n_killed += killed_at(line, model, folder)
        states.add(is_new(folder, options))
    assert n_killed == len(lines) > 20
    record_property("kills_over_a_model", n_killed)
    assert states == {False, True}
    shutil.rmtree(tmp_path / "kept")
    assert beside(folder)
    model.save(folder)  # takes away what the killed ones left
    assert beside(folder) == []
    assert is_new(folder, options)


@needs_fork
def test_killed_at_any_line_where_nothing_was(
    model: Recommender,
    folder: Path,
    lines: list[Line],
    options: RunOptions,
    record_property: Note,
) -> None:
    change(model)
    found = {"nothing": 0, "new": 0}
    for line in some(lines)[::2]:
        shutil.rmtree(folder, ignore_errors=True)
        killed_at(line, model, folder)
        if folder.exists():
            assert is_new(folder, options)
            found["new"] += 1
        else:
            with pytest.raises(PersistenceError, match="is not a complete saved model"):
                Recommender.load(folder)
            found["nothing"] += 1
    assert all(found.values())
    record_property("kills_where_nothing_was", sum(found.values()))
    model.save(folder)
    assert beside(folder) == []


class Refusing(OSError):
    """What a full disk raises."""


def test_a_disk_that_fails_at_any_line(
    model: Recommender,
    folder: Path,
    lines: list[Line],
    options: RunOptions,
    record_property: Note,
) -> None:
    model.save(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    change(model)
    tried = [line for line in lines if line[0] != "folder.py"]  # the next test has those
    for line in tried:

        def fail(_: int, here: Line, line: Line = line) -> None:
            if here == line:
                raise Refusing("disk full")

        # A config that cannot be read might be anybody's: then the folder is refused.
        with pytest.raises((Refusing, PersistenceError)), at_each_line(fail):
            model.save(folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, line
        assert beside(folder) == [], line
    assert len(tried) > 50
    record_property("failing_lines", len(tried))
    assert not is_new(folder, options)


@pytest.mark.parametrize("name", ["fsync", "rename", "open"])
def test_a_call_of_the_system_that_fails(
    name: str,
    way: str,
    model: Recommender,
    folder: Path,
    options: RunOptions,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Note,
) -> None:
    """Every call in turn: after an error the folder is whole, and the next save succeeds."""
    model.save(folder)
    change(model)
    call, states, number = getattr(os, name), [], 0
    while True:
        model_calls: list[Any] = []

        def failing(*args: Any, seen: list[Any] = model_calls, nth: int = number, **kw: Any) -> Any:
            seen.append(args)
            if len(seen) == nth + 1:
                raise Refusing("disk full")
            return call(*args, **kw)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            try:
                model.save(folder)
            except Refusing:
                states.append(is_new(folder, options))
            else:
                if len(model_calls) <= number:
                    break
        assert is_new(folder, options) in (states[-1:] or [True])
        number += 1
    assert number > (8 if name != "rename" else -1)
    record_property("failing_calls", number)
    if name == "rename":
        assert number == (2 if way == "two renames" else 0)
    assert beside(folder) == []
    assert is_new(folder, options)


def test_a_save_that_is_at_work_is_left_alone(model: Recommender, folder: Path) -> None:
    pytest.importorskip("fcntl")
    model.save(folder)
    with folders.replaced(folder) as fresh:
        (fresh / "half").write_text("…")
        model.save(folder)  # sweeps, but not this one
        assert (fresh / "half").exists()
        (fresh / "half").unlink()
        for name, data in {p.name: p.read_bytes() for p in folder.iterdir()}.items():
            (fresh / name).write_bytes(data)
    assert beside(folder) == []


def test_a_link_to_a_folder_stays_a_link(
    model: Recommender, folder: Path, options: RunOptions
) -> None:
    real = folder.with_name("version-1")
    model.save(real)
    try:
        folder.symlink_to(real, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    change(model)
    model.save(folder)
    assert folder.is_symlink()
    assert is_new(real, options)
    assert is_new(folder, options)


def test_a_folder_replaced_while_it_is_read_is_read_again(
    model: Recommender, folder: Path, options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(folder)
    change(model)
    read, again = palate.persistence.reading.read_ids, []

    def saving_first(*args: Any) -> Any:
        if not again:
            again.append(True)
            model.save(folder)  # between the config, read before, and the files
        return read(*args)

    monkeypatch.setattr(palate.persistence.reading, "read_ids", saving_first)
    assert is_new(folder, options)
    assert writing.FORMAT == 2

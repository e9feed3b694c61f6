"""A folder replaced in one step: a crash leaves the old one or the new one, never half."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_ASIDE = ".old"
# A kernel or a file system that cannot swap two folders says so by one of these.
_CANNOT_SWAP = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it then takes the place of `folder` at once.

    Everything is on the disk before the swap. If the block raises, `folder` stays as it was. What
    a killed process left beside `folder` is removed by the next one.

    Parameters
    ----------
    folder : Path
        Need not exist. Nobody but this function should put files into it.

    Yields
    ------
    Path
        A folder beside it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, held = _new_beside(folder)
    try:
        yield fresh
        for path in (*fresh.iterdir(), fresh):
            _flush(path)
        _put(fresh, folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        _release(held)
    _sweep(folder)


def located(folder: Path) -> Path:
    """Return the folder to read: `folder`, or what a crash between two renames left of it.

    That crash is possible only where the file system cannot swap folders.
    """
    if folder.exists():
        return folder
    for aside in folder.parent.glob(f".{folder.name}.*{_ASIDE}"):
        # Without the new one beside it, the old one is only a left-over.
        if aside.with_name(aside.name.removesuffix(_ASIDE)).is_dir():
            return aside
    return folder


def _new_beside(folder: Path) -> tuple[Path, int | None]:
    """Make a hidden folder that a sweep by another process leaves alone."""
    while True:
        fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        fresh.mkdir()
        held = _hold(fresh, wait=True)
        if fresh.exists():  # else a sweep came between the two lines above
            return fresh, held
        _release(held)


def _hold(folder: Path, *, wait: bool) -> int | None:
    """Lock a folder until the process ends or releases it; None where that is not possible."""
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        _release(descriptor)
        return None
    return descriptor


def _release(held: int | None) -> None:
    if held is not None:
        os.close(held)


def _flush(path: Path) -> None:
    """Ask the system to write a file or the entries of a folder to the disk now."""
    if path.is_dir() and sys.platform == "win32":
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(fresh: Path, folder: Path) -> None:
    """Give `fresh` the name `folder`; what had it takes the name of `fresh` or is gone."""
    if not folder.exists():
        try:
            os.rename(fresh, folder)
            return
        except OSError:
            if not folder.exists():
                raise
            # Somebody else has just saved there: theirs is replaced.
    if swap(fresh, folder):
        return
    aside = fresh.with_name(fresh.name + _ASIDE)
    os.rename(folder, aside)
    try:
        os.rename(fresh, folder)
    except BaseException:
        os.rename(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def swap(first: Path, second: Path) -> bool:
    """Exchange the names of two folders in one step; tell whether the system can."""
    call = _swap_call()
    if call is None:
        return False
    if call(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_SWAP:
        return False
    raise OSError(number, os.strerror(number), str(second))


@functools.lru_cache(maxsize=1)
def _swap_call() -> Callable[[bytes, bytes], int] | None:
    if sys.platform == "win32":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    here, exchange = -100, 2  # AT_FDCWD; RENAME_EXCHANGE, on macOS RENAME_SWAP
    if hasattr(library, "renameat2"):
        return lambda a, b: int(library.renameat2(here, a, here, b, exchange))
    if hasattr(library, "renamex_np"):
        return lambda a, b: int(library.renamex_np(a, b, exchange))
    return None


def _sweep(folder: Path) -> None:
    """Remove what killed processes left beside a folder; those still at work hold a lock."""
    if fcntl is None:
        return
    for path in folder.parent.glob(f".{folder.name}.*"):
        fresh = path.with_name(path.name.removesuffix(_ASIDE))
        code = fresh.name.removeprefix(f".{folder.name}.")
        if len(code) != 32 or set(code) - set("0123456789abcdef"):
            continue
        with suppress(OSError):
            held = _hold(fresh, wait=False) if fresh.exists() else None
            if held is not None or not fresh.exists():
                shutil.rmtree(path, ignore_errors=True)
            _release(held)

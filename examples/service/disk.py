"""Writing so that it stays written: fsync of files and folders, and a lock between processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Make one file, or the entries of one folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make a folder and everything in it survive a power cut."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for, and hold, a lock that ends with the process that holds it."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

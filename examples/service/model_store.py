"""Saved models side by side, each with the number of the last change it holds, and one in use.

``models/current`` is a symbolic link to the version to serve. A version is a folder that appears
whole, by one rename: ``model/`` (what ``Recommender.save`` writes) and ``version.json``.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.disk import locked, sync, sync_tree


class StoreError(Exception):
    """There is no usable version, or another one was put in its place."""


@dataclass(frozen=True)
class Version:
    """A saved model.

    Attributes
    ----------
    name : str
    folder : Path
        What ``Recommender.load`` reads.
    watermark : int
        Sequence number of the last change of the log that the model holds.
    """

    name: str
    folder: Path
    watermark: int


class ModelStore:
    """The folder of versions; several processes may publish into it.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._link = folder / "current"

    def current(self) -> Version:
        """Return the version that ``current`` points to."""
        if not self._link.is_symlink():
            raise StoreError(f"{str(self._folder)!r} holds no model yet: publish one.")
        return self._version(os.readlink(self._link))

    def versions(self) -> list[Version]:
        """Return all versions, oldest first."""
        return [self._version(f"{number:08d}") for number in self._numbers()]

    def publish(
        self, write: Callable[[Path], None], watermark: int, *, onto: str | None = None
    ) -> Version:
        """Add a version and let ``current`` point to it, both at once or not at all.

        Parameters
        ----------
        write : callable
            Gets a path and writes a model there, such as ``recommender.save``.
        watermark : int
            The last change of the log that the model holds.
        onto : str, default=None
            If given, the version that must still be the current one at the end: what was saved
            from an older model must not replace a newer one.
        """
        self._check_current(onto)
        fresh = self._folder / f".new-{uuid.uuid4().hex}"
        fresh.mkdir()
        try:
            write(fresh / "model")
            (fresh / "version.json").write_text(json.dumps({"watermark": watermark}))
            sync_tree(fresh)
            with locked(self._folder / ".lock"):
                self._check_current(onto)
                name = f"{max(self._numbers(), default=0) + 1:08d}"
                fresh.rename(self._folder / name)
                sync(self._folder)
                self._point_to(name)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return self._version(name)

    def prune(self, keep: int) -> int:
        """Delete all versions but the last `keep` and the current one.

        Returns
        -------
        int
            The lowest watermark of those that stay: what the log may be dropped through.
        """
        with locked(self._folder / ".lock"):
            current, versions = self.current(), self.versions()
            for version in versions[: max(0, len(versions) - keep)]:
                if version.name != current.name:
                    gone = self._folder / f".old-{uuid.uuid4().hex}"
                    (self._folder / version.name).rename(gone)
            sync(self._folder)  # before the log lets go of what they needed
            for path in self._folder.glob(".old-*"):
                shutil.rmtree(path, ignore_errors=True)
            return min(version.watermark for version in [*self.versions(), current])

    def sweep(self, older_than: float = 86_400) -> None:
        """Delete what a crash left half written, but not what somebody may be writing now."""
        for path in self._folder.glob(".*-*"):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime < older_than:
                    continue
                if path.is_symlink():
                    path.unlink()
                else:
                    shutil.rmtree(path)

    def _check_current(self, name: str | None) -> None:
        if name is not None and self.current().name != name:
            raise StoreError(
                f"the current version must still be {name!r}; it is "
                f"{self.current().name!r}: reload first."
            )

    def _point_to(self, name: str) -> None:
        link = self._folder / f".link-{uuid.uuid4().hex}"
        link.symlink_to(name)
        link.replace(self._link)
        sync(self._folder)

    def _numbers(self) -> list[int]:
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def _version(self, name: str) -> Version:
        folder = self._folder / name
        try:
            watermark = json.loads((folder / "version.json").read_text())["watermark"]
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"version {name!r} is not complete: {error}.") from error
        return Version(name, folder / "model", int(watermark))

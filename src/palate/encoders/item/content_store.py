"""A store of vectors in one SQLite file, whose failures never fail its caller."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from palate.exceptions import PalateWarning

_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
_MOVING = threading.Lock()
_LOOKUP = 900  # keys in one query; the smallest limit of variables that SQLite is built with is 999


class ContentCache:
    """A store of float32 vectors in one SQLite file.

    Threads and processes may share a file. A cache that fails never fails its caller: a
    damaged file is moved aside and a new one begun, and where the folder cannot be
    written (or read), the rest of the work runs without the cache. Each says so in one
    `PalateWarning`.

    Parameters
    ----------
    folder : str or path, default=None
        Where ``content.sqlite3`` lies; made at the first write. None stands for the
        folder ``content`` in ``$PALATE_CACHE``, or in ``~/.cache/palate`` where that
        variable is not set.

    Examples
    --------
    >>> import tempfile
    >>> cache = ContentCache(tempfile.mkdtemp())
    >>> cache.put_many([b"a"], np.array([[1.0, 2.0]], dtype=np.float32))
    >>> cache.get_many([b"a", b"b"])
    {b'a': array([1., 2.], dtype=float32)}
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = folder
        self._failed: set[str] = set()  # of "read" and "write"

    @property
    def path(self) -> Path:
        """The database file."""
        if self.folder is not None:
            return Path(self.folder).expanduser() / "content.sqlite3"
        root = os.environ.get("PALATE_CACHE") or "~/.cache/palate"
        return Path(root).expanduser() / "content" / "content.sqlite3"

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Return the vectors of the keys that are stored.

        Parameters
        ----------
        keys : sequence of bytes
            Any number of keys, as `content_keys` makes them.

        Returns
        -------
        dict of bytes to float32 ndarray of shape (dim,)
            Read-only arrays; a key that is not stored is left out.
        """
        found: dict[bytes, np.ndarray] = {}
        if "read" not in self._failed:
            with self._guard("read"):
                found = self._select(keys)
        return found

    def put_many(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Store vectors in one transaction; a vector with NaN or infinity is left out.

        Parameters
        ----------
        keys : sequence of bytes
            One key for each row.
        vectors : float ndarray of shape (n_keys, dim)
            Kept as float32; a key that is stored already is overwritten.
        """
        if "write" in self._failed or not len(keys):
            return
        values = np.ascontiguousarray(vectors, dtype="<f4")
        finite = np.isfinite(values).all(axis=1)
        rows = [(k, v.tobytes()) for k, v, good in zip(keys, values, finite, strict=True) if good]
        with self._guard("write"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as database, database:
                database.execute("BEGIN IMMEDIATE")
                database.execute(_TABLE)
                database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

    def clear(self) -> None:
        """Delete the database file."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _select(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        found: dict[bytes, np.ndarray] = {}
        if not self.path.is_file():  # connecting would make one
            return found
        with closing(self._connect()) as database:
            if not database.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'vectors'"
            ).fetchone():
                return found
            for start in range(0, len(keys), _LOOKUP):
                part = keys[start : start + _LOOKUP]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value FROM vectors WHERE key IN ({marks})"
                for key, value in database.execute(query, part):
                    if isinstance(value, bytes) and len(value) % 4 == 0:  # else damaged
                        found[key] = np.frombuffer(value, dtype="<f4")
        return found

    def _connect(self) -> sqlite3.Connection:
        # A connection for each call: none is shared by threads or inherited by a fork.
        # Not WAL: its side files would need write access for a mere look-up.
        return sqlite3.connect(self.path, timeout=30.0)

    def _files(self) -> tuple[Path, Path]:
        return self.path, self.path.with_name(self.path.name + "-journal")

    @contextmanager
    def _guard(self, verb: str) -> Iterator[None]:
        """Turn the failures of disk and database into one warning and work without cache."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            first = not self._failed
            self._failed.add(verb)
            if first:
                self._warn(f"The content cache {self.path} failed to {verb} ({error}).")
        except sqlite3.DatabaseError as error:
            self._move_aside(error)

    def _move_aside(self, error: sqlite3.DatabaseError) -> None:
        aside = f".damaged-{time.time_ns()}"
        try:
            with _MOVING:
                # The journal belongs to the damaged file: a new one must not replay it.
                for path in self._files():
                    if path.exists():
                        path.rename(path.with_name(path.name + aside))
            target = f"was moved to {self.path.name}{aside}"
        except OSError:
            self._failed |= {"read", "write"}
            target = "could not be moved"
        self._warn(f"The content cache {self.path} is damaged ({error}); it {target}.")

    @staticmethod
    def _warn(message: str) -> None:
        warnings.warn(message + " Texts are encoded again.", PalateWarning, stacklevel=2)

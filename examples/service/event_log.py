"""An append-only log of changes: a change is on disk before anybody is told that it was taken.

The log is a folder of segments. A segment is a file of frames, named by the sequence number of its
first frame. A frame is ``sequence, length, checksum`` (8, 4 and 4 bytes, little endian) and then
`length` bytes of JSON: a list of changes that were written with one fsync. The checksum is the
CRC-32 of the sequence number, the length and the JSON.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from service.disk import sync

_log = logging.getLogger(__name__)
_HEAD = struct.Struct("<QII")
_KEY = struct.Struct("<QI")

Change = dict[str, Any]


class LogError(Exception):
    """The log cannot be read or written; the sentence says where and what."""


@dataclass(frozen=True)
class Frame:
    """Changes that became durable together."""

    sequence: int
    changes: list[Change]


class EventLog:
    """The log of one process: no other process may hold the same folder.

    Parameters
    ----------
    folder : Path
        Made if it does not exist. A frame at the end that was cut off by a crash, which nobody
        was told of, is dropped; any other damage raises.

    Attributes
    ----------
    last : int
        Sequence number of the last frame; frames are numbered from 1.
    dropped_bytes : int
        Length of the cut-off frame that was dropped at the start.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = (folder / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise LogError(f"{str(folder)!r} is in use by another process.") from error
        self.dropped_bytes = 0
        self._broken = False
        if not self._segments():
            self.last = 0
            self._start_segment()
        else:
            self._open_last()

    @property
    def first(self) -> int:
        """Sequence number of the oldest frame that is kept (of the next one in an empty log)."""
        return _first_of(self._segments()[0])

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        total = 0
        for path in self._segments():
            with suppress(FileNotFoundError):  # dropped meanwhile
                total += path.stat().st_size
        return total

    def append(self, changes: list[Change]) -> int:
        """Write changes as one frame; when this returns, they are on disk.

        Returns
        -------
        int
            The frame's sequence number.

        Raises
        ------
        LogError
            If they could not be written. The log is as it was before, or, if even that is not
            sure, it takes nothing more until it is opened again.
        """
        if self._broken:
            raise LogError("the log failed before and takes nothing more until a restart.")
        frame = encode(self.last + 1, changes)
        try:
            if self._file.write(frame) != len(frame):
                raise OSError("the disk took only a part")
        except OSError as error:
            self._cut_back()
            raise LogError(f"the log could not be written: {error}.") from error
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            self._broken = True  # what a failed fsync left on disk is not known
            raise LogError(f"the log could not be written: {error}.") from error
        self._end += len(frame)
        self.last += 1
        return self.last

    def read(self, after: int) -> Iterator[Frame]:
        """Yield the frames behind sequence number `after`, up to the last one of this moment."""
        last = self.last
        paths = self._segments()
        starts = [_first_of(path) for path in paths]
        for place, path in enumerate(paths):
            stop = starts[place + 1] - 1 if place + 1 < len(paths) else last
            if stop <= after or starts[place] > last:
                continue
            sequence = starts[place] - 1
            for frame, _ in scan(path.read_bytes(), starts[place]):
                sequence = frame.sequence
                if after < sequence <= last:
                    yield frame
                if sequence == last:
                    return
            if sequence != stop:
                raise LogError(f"{path.name} is damaged behind frame {sequence}.")

    def rotate(self) -> None:
        """Begin a new segment, so that all frames so far can be dropped together."""
        if self._end:
            self._file.close()
            self._start_segment()

    def start_behind(self, sequence: int) -> None:
        """Let the next frame of an empty log have the number ``sequence + 1``."""
        for path in self._segments():
            path.unlink()
        self._file.close()
        self.last = sequence
        self._start_segment()

    def drop_through(self, sequence: int) -> None:
        """Delete the segments whose frames all have numbers up to `sequence`."""
        paths = self._segments()
        for path, following in pairwise(paths):
            if _first_of(following) > sequence + 1:
                return
            path.unlink()

    def close(self) -> None:
        """Let another process have the folder."""
        self._file.close()
        self._lock.close()

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("*.log"))

    def _start_segment(self) -> None:
        path = self._folder / f"{self.last + 1:020d}.log"
        self._file, self._end = path.open("ab", buffering=0), 0
        sync(self._folder)

    def _open_last(self) -> None:
        path = self._segments()[-1]
        start, data = _first_of(path), path.read_bytes()
        self.last, self._end = start - 1, 0
        for frame, end in scan(data, start):
            self.last, self._end = frame.sequence, end
        self.dropped_bytes = len(data) - self._end
        # One frame is written at a time, so a whole one behind a broken one means damage.
        if _holds_frame_behind(data, self._end, self.last + 1):
            raise LogError(f"{path.name} is damaged behind frame {self.last}.")
        self._file = path.open("ab", buffering=0)
        if self.dropped_bytes:
            _log.warning("dropped a frame cut off by a crash: %d bytes", self.dropped_bytes)
            self._file.truncate(self._end)
            os.fsync(self._file.fileno())

    def _cut_back(self) -> None:
        try:
            self._file.truncate(self._end)
            os.fsync(self._file.fileno())
        except OSError:
            self._broken = True


def encode(sequence: int, changes: list[Change]) -> bytes:
    """Return the bytes of one frame."""
    payload = json.dumps(changes, separators=(",", ":"), allow_nan=False).encode()
    checksum = zlib.crc32(payload, zlib.crc32(_KEY.pack(sequence, len(payload))))
    return _HEAD.pack(sequence, len(payload), checksum) + payload


def scan(data: bytes, first: int) -> Iterator[tuple[Frame, int]]:
    """Yield the whole frames from the start of `data`, numbered from `first`, and their ends."""
    end = 0
    while (frame := _frame_at(data, end, first)) is not None:
        found, end = frame
        first += 1
        yield found, end


def _frame_at(data: bytes, start: int, sequence: int) -> tuple[Frame, int] | None:
    if start + _HEAD.size > len(data):
        return None
    number, length, checksum = _HEAD.unpack_from(data, start)
    end = start + _HEAD.size + length
    payload = data[start + _HEAD.size : end]
    if number != sequence or len(payload) != length:
        return None
    if zlib.crc32(payload, zlib.crc32(_KEY.pack(number, length))) != checksum:
        return None
    return Frame(number, json.loads(payload)), end


def _holds_frame_behind(data: bytes, start: int, broken: int) -> bool:
    """Tell whether a whole frame follows the broken one that starts at `start`."""
    following = broken + 1
    place = data.find(struct.pack("<Q", following), start)
    while place >= 0:
        if _frame_at(data, place, following) is not None:
            return True
        place = data.find(struct.pack("<Q", following), place + 1)
    return False


def _first_of(path: Path) -> int:
    return int(path.stem)

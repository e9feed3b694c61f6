"""The model that answers now: changed by logging first, saved and replaced while it serves."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from palate import Recommender, RunOptions
from service.answers import Answer, Question, answer_each
from service.changes import Change, apply_each, replay, rows_of
from service.event_log import EventLog, LogError
from service.model_store import ModelStore, StoreError, Version
from service.settings import Settings

_log = logging.getLogger(__name__)


class NotReady(Exception):
    """No model is loaded yet."""


@dataclass(frozen=True)
class Live:
    """One state of the service, never changed: a reader that holds it sees all of it.

    Attributes
    ----------
    model : Recommender
    version : str
        The saved version that the model came from, or was last saved as.
    sequence : int
        The last change of the log that the model holds.
    unsaved : int
        Rows of changes that the model holds and the version does not.
    """

    model: Recommender
    version: str
    sequence: int
    unsaved: int


class ModelHolder:
    """Keeps one `Live` state and moves it on; reads take no lock.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    log : EventLog or None
        Open from the first `reload` to `close`.
    skipped : int
        Rows of the log that did not fit the model that they were replayed on.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._live: Live | None = None
        self._writing = threading.Lock()  # held for the moment of a change
        self._upkeep = threading.Lock()  # held for the minutes of a save or a reload
        self.log: EventLog | None = None
        self.skipped = 0

    @property
    def live(self) -> Live:
        """The state to answer from."""
        if self._live is None:
            raise NotReady("no model is loaded yet; try again soon.")
        return self._live

    @property
    def ready(self) -> bool:
        """Whether there is a model."""
        return self._live is not None

    def answer(self, questions: Sequence[Question]) -> list[tuple[str, Answer] | Exception]:
        """Answer questions from one state: for each, the version and the rows found."""
        live = self.live
        found = answer_each(live.model, questions)
        return [a if isinstance(a, Exception) else (live.version, a) for a in found]

    def write(self, changes: Sequence[Change]) -> list[int | Exception]:
        """Take changes in: first the model must accept them, then the log, then readers see them.

        Returns
        -------
        list of int or Exception
            For each change its sequence number, once it is on disk, or why it was not taken.
        """
        with self._writing:
            live = self.live
            model, errors = apply_each(live.model, changes)
            taken = [c for c, error in zip(changes, errors, strict=True) if error is None]
            if not taken:
                return [error for error in errors if error is not None]
            assert self.log is not None
            sequence = self.log.append(taken)
            unsaved = live.unsaved + sum(map(rows_of, taken))
            self._live = Live(model, live.version, sequence, unsaved)
            return [sequence if error is None else error for error in errors]

    def reload(self) -> Version:
        """Serve the version that is current now, with the changes of the log that it lacks.

        Reads and writes go on meanwhile. The first call opens the log, too.
        """
        store = self._store()
        with self._upkeep:
            if self.log is None:
                store.sweep()
                self.log = EventLog(self._settings.state / "events")
            version = store.current()
            with self._writing:  # a first event may come this moment
                if not self.log.last:
                    self.log.start_behind(version.watermark)
            if self._live is None or version.name != self._live.version:
                self._replace_by(version)
            return version

    def save(self) -> Version:
        """Save the model with all changes so far, and drop the log that nobody needs any more."""
        store = self._store()
        with self._upkeep:
            with self._writing:
                live = self.live
                assert self.log is not None
                self.log.rotate()
            version = store.current()
            if version.name != live.version or live.sequence > version.watermark:
                version = store.publish(live.model.save, live.sequence, onto=live.version)
                self._note_saved(live, version)
            self.log.drop_through(store.prune(self._settings.keep_versions))
            return version

    def close(self) -> None:
        """Let another process have the log."""
        if self.log is not None:
            self.log.close()

    def _store(self) -> ModelStore:
        return ModelStore(self._settings.state / "models")

    def _note_saved(self, saved: Live, version: Version) -> None:
        with self._writing:
            now = self.live
            self._live = dataclasses.replace(
                now, version=version.name, unsaved=now.unsaved - saved.unsaved
            )

    def _replace_by(self, version: Version) -> None:
        self._check_no_gap(version)
        options = RunOptions(device=self._settings.device, progress=False)
        model = Recommender.load(version.folder, options=options)
        fresh = self._caught_up(Live(model, version.name, version.watermark, 0))
        with self._writing:  # only what came in during the last moments is left
            self._live = self._caught_up(fresh)
        _log.info("serving version %s with changes up to %d", version.name, self._live.sequence)

    def _check_no_gap(self, version: Version) -> None:
        """Raise if changes between the version and the log's first frame are nowhere."""
        assert self.log is not None
        if version.watermark + 1 < self.log.first:
            raise StoreError(
                f"version {version.name!r} holds the changes up to {version.watermark}, but the "
                f"log begins at {self.log.first}: those between would be lost."
            )
        if version.watermark > self.log.last:
            raise StoreError(
                f"version {version.name!r} holds the changes up to {version.watermark}, but the "
                f"log ends at {self.log.last}: it is not the log of this model."
            )

    def _caught_up(self, live: Live) -> Live:
        """Return the state with what the log holds beyond it."""
        assert self.log is not None
        sequence, unsaved = live.sequence, live.unsaved

        def changes() -> Iterator[Change]:
            nonlocal sequence, unsaved
            for frame in self.log.read(after=live.sequence):  # type: ignore[union-attr]
                if frame.sequence != sequence + 1:
                    raise LogError(f"frame {sequence + 1} is missing from the log.")
                sequence = frame.sequence
                unsaved += sum(map(rows_of, frame.changes))
                yield from frame.changes

        model, skipped = replay(live.model, changes())
        self.skipped += skipped
        if skipped:
            _log.warning("%d rows of the log do not fit version %s", skipped, live.version)
        return Live(model, live.version, sequence, unsaved)

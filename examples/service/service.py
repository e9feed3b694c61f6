"""The service without HTTP: queues in front of the model, and the work in the background."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import torch

from service.answers import Answer, Question
from service.batching import Batcher
from service.changes import Change, rows_of
from service.metrics import Metrics
from service.model_holder import ModelHolder
from service.model_store import Version
from service.settings import Settings

_log = logging.getLogger(__name__)
R = TypeVar("R")


class Service:
    """Everything between the routes and the model.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.holder = ModelHolder(settings)
        self.metrics = Metrics(self.holder)
        self.failure: str | None = None
        limits = {"max_batch": settings.max_batch, "max_waiting": settings.max_waiting}
        self._questions: Batcher[Question, tuple[str, Answer]] = Batcher(
            self._counted("questions", self.holder.answer), size=len, **limits
        )
        self._changes: Batcher[Change, int] = Batcher(
            self._counted("changes", self.holder.write), size=lambda change: 1, **limits
        )
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        """Begin to load the model; until it is there, the service is alive but not ready."""
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        work = [self._questions.run(), self._changes.run(), self._load()]
        if self.settings.save_seconds:
            work.append(self._save_now_and_then())
        self._tasks = [asyncio.create_task(job) for job in work]
        with suppress(AttributeError, ValueError, RuntimeError):  # not in the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)

    async def stop(self) -> None:
        """End the background work; what was acknowledged is in the log already."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._questions.close()
        self._changes.close()
        self.holder.close()

    async def ask(self, question: Question) -> tuple[str, Answer]:
        """Return the version that answered, and the answer."""
        _ = self.holder.live  # not ready: do not queue
        return await self._questions.submit(question)

    async def change(self, change: Change) -> int:
        """Return the sequence number of a change, once it is on disk."""
        _ = self.holder.live
        sequence = await self._changes.submit(change)
        counter = self.metrics.observed if change["kind"] == "events" else self.metrics.added
        counter.inc(rows_of(change))
        return sequence

    async def reload(self) -> Version:
        """Serve the version that is current now."""
        try:
            version = await asyncio.to_thread(self.holder.reload)
            await asyncio.to_thread(_settle_memory)
        except Exception:
            self.metrics.reloads.labels("error").inc()
            raise
        self.metrics.reloads.labels("ok").inc()
        self.failure = None
        return version

    async def save(self) -> Version:
        """Save the model as a new version."""
        try:
            version = await asyncio.to_thread(self.holder.save)
        except Exception:
            self.metrics.saves.labels("error").inc()
            raise
        self.metrics.saves.labels("ok").inc()
        return version

    async def _load(self) -> None:
        try:
            await self.reload()
        except Exception as error:
            # Stay up, so that /healthz can say what is wrong and a reload can mend it.
            _log.exception("no model is served")
            if not self.holder.ready:
                self.failure = str(error)

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.settings.save_seconds)
            if self.holder.ready and self.holder.live.unsaved:
                with suppress(Exception):  # counted; the log keeps everything until it works
                    await self.save()

    def _on_hangup(self) -> None:
        self._tasks.append(asyncio.create_task(self._load()))

    def _counted(
        self, queue: str, handle: Callable[[list[Any]], Sequence[R]]
    ) -> Callable[[list[Any]], Sequence[R]]:
        def counting(batch: list[Any]) -> Sequence[R]:
            self.metrics.batch.labels(queue).observe(len(batch))
            return handle(batch)

        return counting


def _settle_memory() -> None:
    """Keep what is loaded from garbage collection, which would stop a request for 200 ms.

    What an earlier version has left is collected first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()

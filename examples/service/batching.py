"""A queue with a limit, worked off in batches by one thread.

While a batch is worked on, the next one gathers: under load, many requests share one search of the
catalogue, or one fsync; a single request never waits for company.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Busy(Exception):
    """The queue is full."""


class Batcher(Generic[T, R]):
    """Hands waiting requests to `handle`, as many at once as fit.

    Parameters
    ----------
    handle : callable
        Takes a list of requests, in a thread of its own, and returns for each its result or its
        exception.
    size : callable
        How much of a batch a request takes.
    max_batch : int
        Most that is handled at once; a larger single request is handled alone.
    max_waiting : int
        Most that waits; beyond it `submit` raises `Busy`.
    """

    def __init__(
        self,
        handle: Callable[[list[T]], Sequence[R | Exception]],
        *,
        size: Callable[[T], int],
        max_batch: int,
        max_waiting: int,
    ) -> None:
        self._handle, self._size = handle, size
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._thread = ThreadPoolExecutor(1)
        self._arrived = asyncio.Event()
        self.waiting = 0

    async def submit(self, request: T) -> R:
        """Wait for a turn and return the result, or raise the exception that `handle` returned."""
        if self._queue and self.waiting + self._size(request) > self._max_waiting:
            raise Busy(f"{self.waiting} requests are waiting already; try again soon.")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((request, future))
        self.waiting += self._size(request)
        self._arrived.set()
        return await future

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            requests = [request for request, _ in batch]
            results: Sequence[R | Exception]
            try:
                loop = asyncio.get_running_loop()
                results = await loop.run_in_executor(self._thread, self._handle, requests)
            except Exception as error:
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # the client went away
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def close(self) -> None:
        """Wait for the batch that is being handled."""
        self._thread.shutdown()

    def _next_batch(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        room = self._max_batch
        while self._queue and (not batch or self._size(self._queue[0][0]) <= room):
            request, future = self._queue.popleft()
            room -= self._size(request)
            self.waiting -= self._size(request)
            batch.append((request, future))
        if not self._queue:
            self._arrived.clear()
        return batch

"""A few threads for kernels that release the interpreter's lock."""

from __future__ import annotations

import atexit
import functools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class _Call:
    """One call on its way to a thread: whoever claims it first runs it, or calls it off."""

    __slots__ = ("claim", "error", "function", "place", "ran", "result")

    def __init__(self, function: Callable[[int], Any], place: int) -> None:
        self.function, self.place = function, place
        self.claim, self.ran = threading.Lock(), threading.Lock()
        self.ran.acquire()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        if not self.claim.acquire(blocking=False):
            return
        try:
            self.result = self.function(self.place)
        except BaseException as error:  # raised again where the result is asked for
            self.error = error
        finally:
            self.ran.release()

    def call_off(self) -> bool:
        return self.claim.acquire(blocking=False)

    def outcome(self) -> Any:
        self.ran.acquire()
        if self.error is not None:
            raise self.error
        return self.result


def _serve(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.run()


def _stop(calls: SimpleQueue[_Call | None], threads: list[threading.Thread]) -> None:
    """End the threads before the interpreter does: one on its way back to it would abort."""
    for _ in threads:
        calls.put(None)
    for thread in threads:
        thread.join(timeout=1)


@functools.cache
def _queue(n_threads: int, process: int) -> SimpleQueue[_Call | None]:
    """Return the queue of `n_threads` waiting threads.

    `process` is part of the key because a forked child does not inherit threads. A pool of
    concurrent.futures would do the same, but starts a live request some 10 microseconds later.
    """
    calls: SimpleQueue[_Call | None] = SimpleQueue()
    threads = [
        threading.Thread(target=_serve, args=(calls,), name="palate-topk", daemon=True)
        for _ in range(n_threads)
    ]
    for thread in threads:
        thread.start()
    atexit.register(_stop, calls, threads)
    return calls


def run(function: Callable[[int], T], n_workers: int) -> list[T]:
    """Call ``function(0) ... function(n_workers - 1)`` at once, the first in this thread.

    Examples
    --------
    >>> run(lambda worker: worker * 10, 3)
    [0, 10, 20]
    """
    if n_workers == 1:
        return [function(0)]
    others = _started(function, n_workers)
    try:
        first = function(0)
    finally:
        for other in others:  # what no core was free for is done here
            other.run()
        found = [other.outcome() for other in others]
    return [first, *found]


def run_sharing(function: Callable[[int], T], n_workers: int) -> list[T]:
    """Do the same for workers that share one queue of work: one that comes late is not needed.

    When the first has returned, nothing is left to take, so a worker that no core was free for is
    called off instead of waited for.

    Examples
    --------
    >>> run_sharing(lambda worker: worker * 10, 3)[0]
    0
    """
    if n_workers == 1:
        return [function(0)]
    others = _started(function, n_workers)
    try:
        first = function(0)
    finally:
        found = [other.outcome() for other in others if not other.call_off()]
    return [first, *found]


def _started(function: Callable[[int], T], n_workers: int) -> list[_Call]:
    calls = [_Call(function, worker) for worker in range(1, n_workers)]
    queue = _queue(n_workers - 1, os.getpid())
    for call in calls:
        queue.put(call)
    return calls

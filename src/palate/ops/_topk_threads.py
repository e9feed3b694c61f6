"""A few threads for kernels that release the interpreter's lock."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


@functools.lru_cache(maxsize=4)
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    """Return a pool; `process` is its key because a forked child does not inherit threads."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="palate-topk")


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
    first = function(0)
    return [first, *(other.result() for other in others)]


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
    first = function(0)
    return [first, *(other.result() for other in others if not other.cancel())]


def _started(function: Callable[[int], T], n_workers: int) -> list[Future[T]]:
    pool = _pool(n_workers - 1, os.getpid())
    return [pool.submit(function, worker) for worker in range(1, n_workers)]

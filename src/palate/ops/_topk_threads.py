"""A few threads for kernels that release the interpreter's lock."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    pool = _pool(n_workers - 1, os.getpid())
    others = [pool.submit(function, worker) for worker in range(1, n_workers)]
    first = function(0)
    return [first, *(other.result() for other in others)]

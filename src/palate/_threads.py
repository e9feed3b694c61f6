"""How many threads a call uses, and what a forked process must not inherit."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])

# The thread that called fork and lives on in the child. OpenMP's other threads do not, and it
# would wait for them for ever.
_forked: int | None = None


class ForkedLock:
    """A lock that is free again in a forked process, where its holder does not live.

    Examples
    --------
    >>> lock = ForkedLock()
    >>> with lock.held:
    ...     pass
    """

    _all: ClassVar[weakref.WeakSet[ForkedLock]] = weakref.WeakSet()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all.add(self)

    @property
    def held(self) -> threading.Lock:
        """The lock of this process, to be entered by ``with``.

        It is left in C: leaving in Python, a keyboard interrupt could come before the release.
        """
        return self._lock

    @classmethod
    def renew_all(cls) -> None:
        """Make all locks new."""
        for lock in list(cls._all):
            lock._lock = threading.Lock()


def _note_fork() -> None:
    global _forked
    _forked = threading.get_ident()
    ForkedLock.renew_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def resolved_threads(n_jobs: int | None) -> int | None:
    """Return the number of threads that `n_jobs` stands for here, or None to leave them alone.

    Parameters
    ----------
    n_jobs : int or None
        A number; -1 for all cores that this process may use, -2 for all but one, and so on. In
        the first thread of a forked process it is always one.

    Examples
    --------
    >>> resolved_threads(3)
    3
    >>> resolved_threads(None) is None
    True
    """
    if _forked is not None and threading.get_ident() == _forked:
        return 1
    if n_jobs is None or n_jobs > 0:
        return n_jobs
    import joblib

    return max(1, int(joblib.cpu_count()) + 1 + n_jobs)


@contextmanager
def torch_threads(n_jobs: int | None) -> Iterator[None]:
    """Run a block with so many threads in torch and in palate's kernels, this thread's calls only.

    Examples
    --------
    >>> with torch_threads(1):
    ...     torch.get_num_threads()
    1
    """
    wanted = resolved_threads(n_jobs)
    if wanted is None or wanted == (before := torch.get_num_threads()):
        yield
        return
    restore = _set_threads(wanted, before)
    try:
        yield
    finally:
        restore()


def with_n_jobs(method: F) -> F:
    """Make an estimator's method run with the threads of its `options`."""

    @functools.wraps(method)
    def limited(self: Any, *args: Any, **kwargs: Any) -> Any:
        n_jobs = getattr(self.options, "n_jobs", None)
        if n_jobs is None and _forked is None:
            return method(self, *args, **kwargs)
        with torch_threads(n_jobs):
            return method(self, *args, **kwargs)

    return cast(F, limited)


def _set_threads(wanted: int, before: int) -> Callable[[], None]:
    """Set the number of threads, and return what sets it back."""
    local = _local_setters()
    if local is None:
        torch.set_num_threads(wanted)
        return lambda: torch.set_num_threads(before)
    set_openmp, set_mkl = local
    # MKL returns what it had, 0 where nothing was set.
    mkl_before = set_mkl(wanted)
    set_openmp(wanted)

    def restore() -> None:
        set_openmp(before)
        set_mkl(mkl_before)

    return restore


@functools.lru_cache(maxsize=1)
def _local_setters() -> tuple[Callable[[int], Any], Callable[[int], int]] | None:
    """Return functions that set OpenMP's and MKL's threads for the calling thread alone.

    ``torch.set_num_threads`` also sets what threads begin with that come to torch later: two calls
    at once could leave that behind for good. None where torch's libraries do not offer better.
    """
    folder = Path(torch.__file__).parent / "lib"
    found = next((p for p in folder.glob("libtorch_cpu.*") if p.suffix in (".so", ".dylib")), None)
    try:
        library = ctypes.CDLL(str(found)) if found else None
        set_openmp = None if library is None else library.omp_set_num_threads
    except (OSError, AttributeError):
        return None
    if set_openmp is None:
        return None
    # No other thread knows of this one, so trying it out here changes nothing.
    if not _reaches_torch(set_openmp):
        return None
    return set_openmp, getattr(library, "MKL_Set_Num_Threads_Local", lambda _: 0)


def _reaches_torch(set_openmp: Callable[[int], Any]) -> bool:
    seen: list[int] = []

    def probe() -> None:
        wanted = torch.get_num_threads() + 1
        set_openmp(wanted)
        seen.append(torch.get_num_threads() - wanted)

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    return seen == [0]

"""Memory that is free in this process, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache


def give_back_memory() -> bool:
    """Return pages that nothing uses to the system, where the C library can.

    Blocks of ever other sizes leave holes between those in use. The system counts the holes as
    the process's, and a next block that fits in none grows it further.

    Returns
    -------
    bool
        Whether any were; False also where the C library is not glibc.

    Examples
    --------
    >>> give_back_memory() in (True, False)
    True
    """
    trim = _trim()
    return trim is not None and bool(trim(0))


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], int] | None:
    try:
        found = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl and macOS lack it; Windows refuses None
        return None
    found.argtypes, found.restype = [ctypes.c_size_t], ctypes.c_int
    return found  # type: ignore[no-any-return]

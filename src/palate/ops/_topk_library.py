"""The compiled kernel: found, loaded and described for ctypes, or absent."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
from ctypes import POINTER, c_double, c_int, c_int64, c_void_p

from torch import Tensor

logger = logging.getLogger(__name__)

MODULE = "palate.ops._native_topk"


class CSegment(ctypes.Structure):
    """Mirror of ``segment`` in _native/common.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("vectors", "codes", "norms", "bias")),
        *((name, c_void_p) for name in ("codes8", "scales", "rho")),
        *((name, c_int64) for name in ("n", "dim", "start", "stride8", "dtype")),
    ]


class CJob(ctypes.Structure):
    """Mirror of ``job`` in _native/common.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("queries", "norms", "squares")),
        *((name, c_void_p) for name in ("codes16", "scales16", "errors16")),
        *((name, c_void_p) for name in ("excluded_ptr", "excluded", "allowed")),
        *((name, c_void_p) for name in ("shared", "next")),
        *((name, c_int64) for name in ("n_queries", "k", "capacity", "metric", "settle")),
        *((name, c_int64) for name in ("block", "n_workers")),
    ]


class CWorker(ctypes.Structure):
    """Mirror of ``worker`` in _native/common.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("entries", "counts", "floor", "cut", "error", "margin")),
        *(("scratch", c_void_p), ("index", c_int64), ("went_back", c_int64)),
    ]


class CRequest(ctypes.Structure):
    """Mirror of ``request`` in _native/live.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("queries", "excluded_ptr", "excluded", "allowed")),
        *((name, c_void_p) for name in ("scores", "codes")),
        *((name, c_int64) for name in ("n_queries", "k", "width", "capacity", "metric", "unit")),
        *((name, c_int64) for name in ("method", "limit16", "block", "n_workers")),
        ("most", c_double),
    ]


def address(tensor: Tensor | None) -> int | None:
    """Return where a tensor's numbers lie, or None."""
    return None if tensor is None else tensor.data_ptr()


@functools.cache
def load() -> ctypes.CDLL | None:
    """Return the kernel, or None where it was not compiled or the processor cannot run it."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
    except OSError as error:
        logger.info("The compiled top-k kernel could not be loaded: %s", error)
        return None
    if not library.palate_supported():
        return None
    _declare(library)
    return library


def _declare(library: ctypes.CDLL) -> None:
    """State the argument types of every function."""
    job, segment, worker = POINTER(CJob), POINTER(CSegment), POINTER(CWorker)
    library.palate_place.argtypes = [worker, *[c_int64] * 4, *[c_void_p] * 3]
    library.palate_place.restype = None
    library.palate_live.argtypes = [POINTER(CRequest), segment]
    library.palate_live.restype = c_int64
    library.palate_has_tiles.argtypes = []
    library.palate_has_tiles.restype = c_int
    library.palate_begin.argtypes = [job]
    library.palate_begin.restype = None
    library.palate_scan.argtypes = [job, segment, worker, c_int64]
    library.palate_scan.restype = c_int
    library.palate_finish.argtypes = [
        *(job, segment, worker, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64)
    ]
    library.palate_finish.restype = c_int
    library.palate_prepare_rows.argtypes = [
        *(c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p)
    ]
    library.palate_prepare_rows.restype = c_int64
    library.palate_quantize.argtypes = [
        *(c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_void_p)
    ]
    library.palate_quantize.restype = None
    library.palate_query_codes.argtypes = [
        *(c_void_p, c_int64, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_void_p)
    ]
    library.palate_query_codes.restype = None

"""Rows made ready for scoring: checked, normalised, measured, quantised."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from palate.exceptions import InvalidInputError
from palate.ops import _topk_threads
from palate.ops._topk_canonical import exact_sqrt, tree_sum
from palate.ops._topk_library import load

#: Rows that share one norm bound, so that one long row does not loosen the bound of all.
NORM_BLOCK = 1024
#: Rows that plain torch prepares at once, in numbers.
CHUNK = 1 << 20


class Codes8(NamedTuple):
    """An int8 copy of vectors: ``x = scale * (code + residual)``.

    Attributes
    ----------
    codes : int8 Tensor of shape (n, stride)
        In [-127, 127]; `stride` is the width padded with zeros to a multiple of 16.
    scales : float32 Tensor of shape (n,)
    rho : float64 Tensor of shape (ceil(n / NORM_BLOCK),)
        The largest length of a residual in every block of rows.
    """

    codes: Tensor
    scales: Tensor
    rho: Tensor


def unit_rows(x: Tensor) -> Tensor:
    """Scale the rows of x (n, dim) to length 1 in float32; zero rows stay zero.

    The norm is a float64 sum by halving, so a row's result does not depend on its neighbours.

    Examples
    --------
    >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    return prepared_rows("x", x, unit=True)[0]


def prepared_rows(
    name: str, x: Tensor, *, unit: bool, start: int = 0, codes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Check rows, measure them, and normalise them where `unit` is set.

    Parameters
    ----------
    name : str
        The parameter that an error names.
    x : float Tensor of shape (n, dim)
    unit : bool
        Whether rows are scaled to length 1. They come back in float32 then, and also otherwise
        unless they are stored in 16 bits.
    start : int, default=0
        Number of the first row, for the error.
    codes : int64 Tensor of shape (n,), default=None
        The numbers of all rows, where they are not consecutive.

    Returns
    -------
    rows : Tensor of shape (n, dim), contiguous
    norms : float64 Tensor of shape (n,), on the CPU
        The norms of what comes back: where `unit` is set, 1, or 0 for a zero row.
    """
    half = x.dtype in (torch.float16, torch.bfloat16)
    rows = (x if half and not unit else x.float()).contiguous()
    if load() is not None and rows.device.type == "cpu" and rows.dtype == torch.float32:
        ready, norms, bad = _prepared_natively(rows, unit)
    else:
        ready, norms, bad = _prepared_plainly(rows, unit)
    if bad is not None:
        value = rows[bad][~rows[bad].isfinite()][0].item()
        number = start + bad if codes is None else int(codes[bad])
        raise InvalidInputError(f"{name} must be finite numbers; got {value} in row {number}.")
    return ready, norms


def _prepared_plainly(rows: Tensor, unit: bool) -> tuple[Tensor, Tensor, int | None]:
    """Return the rows, their norms and the first row that is not finite, in plain torch."""
    parts, norms = [], []
    for chunk in rows.split(max(1, CHUNK // max(rows.shape[1], 1))):
        wide = chunk.double()
        norm = exact_sqrt(tree_sum(wide * wide))
        if unit:
            factor = norm.reciprocal().masked_fill_(norm == 0, 0.0).unsqueeze(-1)
            parts.append((wide * factor).float())
            norm = torch.where(norm.isfinite(), norm.sign(), norm)
        norms.append(norm.cpu())
    lengths = torch.cat(norms)
    bad = (~lengths.isfinite()).nonzero()
    first = int(bad[0, 0]) if len(bad) else None
    return torch.cat(parts) if unit else rows, lengths, first


def _prepared_natively(rows: Tensor, unit: bool) -> tuple[Tensor, Tensor, int | None]:
    """Do the same with the compiled kernel, in as many threads as torch has."""
    library = load()
    assert library is not None
    n, dim = rows.shape
    out = _new_rows(n, dim) if unit else rows
    norms = torch.empty(n, dtype=torch.float64)
    if n * dim < CHUNK:
        where = rows.data_ptr(), n, dim, int(unit), out.data_ptr(), norms.data_ptr()
        bad = _checked(library.palate_prepare_rows(*where))
        return out, norms, bad if bad >= 0 else None
    workers = torch.get_num_threads()
    cuts = [n * i // workers for i in range(workers + 1)]

    def work(i: int) -> int:
        low, size = cuts[i], cuts[i + 1] - cuts[i]
        rows_at, out_at, norms_at = (part[low:].data_ptr() for part in (rows, out, norms))
        where = rows_at, size, dim, int(unit), out_at, norms_at
        bad = _checked(library.palate_prepare_rows(*where))
        return low + bad if bad >= 0 else bad

    found = _topk_threads.run(work, workers)
    return out, norms, min((row for row in found if row >= 0), default=None)


def _new_rows(n: int, dim: int) -> Tensor:
    """Return an empty float32 matrix; a large one on large pages, which numpy asks for."""
    if n * dim < CHUNK:
        return torch.empty(n, dim)
    return torch.from_numpy(np.empty((n, dim), np.float32))


def _checked(found: int) -> int:
    if found == -2:
        raise MemoryError("The top-k kernel could not allocate its scratch memory.")
    return found


def peak_norms(norms: Tensor) -> Tensor:
    """Return the largest of every NORM_BLOCK norms, a little more for their own rounding."""
    missing = -len(norms) % NORM_BLOCK
    padded = torch.nn.functional.pad(norms, (0, missing))
    return padded.view(-1, NORM_BLOCK).amax(1) * (1 + 1e-6)


def item_bias(norms: Tensor) -> Tensor:
    """Return minus half the squared norms in float32."""
    return (norms.square() / -2).float()


def padded_width(dim: int) -> int:
    """Return the width of int8 rows: a multiple of 16."""
    return -(-dim // 16) * 16


def quantized(vectors: Tensor) -> Codes8 | None:
    """Return an int8 copy of float32 rows, or None where no kernel could read it."""
    library = load()
    if library is None or vectors.device.type != "cpu":
        return None
    n, dim = vectors.shape
    stride = padded_width(dim)
    codes = torch.empty(n, stride, dtype=torch.int8)
    scales = torch.empty(n)
    rho = torch.zeros(-(-n // NORM_BLOCK), dtype=torch.float64)
    library.palate_quantize(
        vectors.data_ptr(), n, dim, stride, codes.data_ptr(), scales.data_ptr(), rho.data_ptr()
    )
    return Codes8(codes, scales, rho)

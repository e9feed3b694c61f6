"""A catalogue made ready once: scored vectors in segments, with the norms that bound errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from palate.exceptions import InvalidInputError
from palate.ops._topk_canonical import unit_rows

#: Rows that share one norm bound, so that one long row does not loosen the bound of all.
NORM_BLOCK = 1024

STORAGE_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.float32,
}


@dataclass(frozen=True)
class Segment:
    """A run of items as one contiguous matrix.

    Attributes
    ----------
    vectors : Tensor of shape (n, dim)
        What is scored: of unit norm for cosine.
    start : int
        Code of the first row.
    codes : int64 Tensor of shape (n,) or None
        Rising codes of the rows, where they are not ``start, start + 1, ...``.
    norms : float64 Tensor of shape (ceil(n / NORM_BLOCK),)
        The largest norm in every block of rows.
    """

    vectors: Tensor
    start: int
    codes: Tensor | None
    norms: Tensor

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.vectors)


@dataclass(frozen=True)
class Catalogue:
    """Items made ready for :func:`palate.ops.topk.topk`; never changed in place.

    Attributes
    ----------
    metric : {"cosine", "dot", "euclidean"}
    segments : tuple of Segment
        In the order of their codes.
    n_items, dim : int
    storage : {"float32", "float16", "bfloat16", "int8"}
    """

    metric: str
    segments: tuple[Segment, ...]
    n_items: int
    dim: int
    storage: str = "float32"


def check_finite(name: str, x: Tensor, start: int = 0) -> None:
    """Raise if x (n, dim) has a value that is not finite, and name its row."""
    # A sum of finite values may overflow, so it only says where to look closer.
    if bool(x.sum(dtype=torch.float32).isfinite()):
        return
    bad = ~x.isfinite().all(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        value = x[row][~x[row].isfinite()][0].item()
        raise InvalidInputError(f"{name} must be finite numbers; got {value} in row {start + row}.")


def block_norms(vectors: Tensor) -> Tensor:
    """Return the largest row norm of every NORM_BLOCK rows, rounded up."""
    peaks = [
        float(torch.linalg.vector_norm(block, dim=1, dtype=torch.float32).max())
        for block in vectors.split(NORM_BLOCK)
        if len(block)
    ]
    # The float32 norm itself errs by less than a part in a thousand.
    return torch.tensor(peaks, dtype=torch.float64) * 1.001 + 1e-30


def make_segment(
    items: Tensor,
    metric: str,
    storage: torch.dtype,
    *,
    start: int = 0,
    codes: Tensor | None = None,
    copy: bool = False,
) -> Segment:
    """Check, normalise and place a run of items as one segment."""
    check_finite("items", items, start)
    vectors = unit_rows(items) if metric == "cosine" else items.float()
    vectors = vectors.to(storage).contiguous()
    if copy and vectors.data_ptr() == items.data_ptr():
        vectors = vectors.clone()
    return Segment(vectors, start, codes, block_norms(vectors))


def raw_segments(
    items: Tensor, metric: str, rows: int, include: Tensor | None
) -> Iterator[Segment]:
    """Yield plain vectors as segments of at most `rows` rows, made on the fly."""
    n = len(items) if include is None else len(include)
    for begin in range(0, n, rows):
        if include is None:
            yield make_segment(items[begin : begin + rows], metric, torch.float32, start=begin)
        else:
            codes = include[begin : begin + rows]
            chosen = items[codes.to(items.device)]
            yield make_segment(chosen, metric, torch.float32, codes=codes)


def kept_segments(catalogue: Catalogue, include: Tensor | None, rows: int) -> Iterator[Segment]:
    """Yield a catalogue's segments, or only their rows in `include` (sorted codes)."""
    if include is None:
        yield from catalogue.segments
        return
    for segment in catalogue.segments:
        low, high = torch.searchsorted(
            include, torch.tensor([segment.start, segment.start + len(segment)])
        ).tolist()
        for codes in include[low:high].split(rows):
            if len(codes):
                vectors = segment.vectors[(codes - segment.start).to(segment.vectors.device)]
                yield Segment(vectors, 0, codes, block_norms(vectors))


def new_catalogue(vectors: Tensor, metric: str, storage: str) -> Catalogue:
    """Check, normalise and place vectors (n_items, dim)."""
    empty = Catalogue(metric, (), 0, vectors.shape[1], storage)
    return extend_catalogue(empty, vectors)


def extend_catalogue(catalogue: Catalogue, vectors: Tensor) -> Catalogue:
    """Return a catalogue with more rows; tensors of the old one are shared, never changed.

    A short last segment is joined with the new rows, so that n extensions copy each row about
    log(n) times and leave few segments.
    """
    if not len(vectors):
        return catalogue
    kept = list(catalogue.segments)
    dtype = STORAGE_DTYPES[catalogue.storage]
    new = make_segment(vectors, catalogue.metric, dtype, start=catalogue.n_items, copy=True)
    while kept and len(kept[-1]) <= len(new):
        last = kept.pop()
        joined = torch.cat([last.vectors, new.vectors])
        new = Segment(joined, last.start, None, block_norms(joined))
    total = catalogue.n_items + len(vectors)
    return replace(catalogue, segments=(*kept, new), n_items=total)

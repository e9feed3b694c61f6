"""A catalogue made ready once: scored vectors in segments, with the norms that bound errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from palate.exceptions import InvalidInputError
from palate.ops._topk_filters import positions_between
from palate.ops._topk_prepare import Codes8, item_bias, peak_norms, prepared_rows, quantized

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
    norms : float64 Tensor of shape (ceil(n / NORM_BLOCK),), on the CPU
        The largest norm in every block of rows.
    bias : float32 Tensor of shape (n,) or None
        Minus half the squared norms, for the Euclidean metric.
    codes8 : Codes8 or None
        The int8 copy.
    """

    vectors: Tensor
    start: int
    codes: Tensor | None
    norms: Tensor
    bias: Tensor | None = None
    codes8: Codes8 | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.vectors.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is cached: addresses mean nothing to a copy."""
        return {field.name: self.__dict__[field.name] for field in fields(self)}

    @cached_property
    def peak(self) -> float:
        """The largest norm."""
        return float(self.norms.max())


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


def check_metric(catalogue: Catalogue, metric: str) -> None:
    """Raise if a search asks for another metric than a catalogue was made for."""
    if catalogue.metric != metric:
        raise InvalidInputError(
            f"metric must be the catalogue's, {catalogue.metric!r}; got {metric!r}."
        )


def segment_of(
    vectors: Tensor, metric: str, *, start: int = 0, codes: Tensor | None = None, int8: bool = False
) -> Segment:
    """Describe rows that are already checked, normalised and stored."""
    norms = prepared_rows("items", vectors, unit=False, start=start)[1]
    return Segment(
        vectors,
        start,
        codes,
        peak_norms(norms),
        item_bias(norms) if metric == "euclidean" else None,
        quantized(vectors) if int8 else None,
    )


def raw_segments(
    items: Tensor, metric: str, rows: int, include: Tensor | None
) -> Iterator[Segment]:
    """Yield plain vectors as segments of at most `rows` rows, made on the fly.

    Rows that need no normalising are read where they lie.
    """
    n = len(items) if include is None else len(include)
    if include is None and metric != "cosine" and items.dtype == torch.float32:
        rows = max(n, 1)
    for begin in range(0, n, rows):
        codes = None if include is None else include[begin : begin + rows]
        block = items[begin : begin + rows] if codes is None else items[codes.to(items.device)]
        vectors, norms = prepared_rows(
            "items", block, unit=metric == "cosine", start=begin, codes=codes
        )
        bias = item_bias(norms) if metric == "euclidean" else None
        yield Segment(vectors, begin, codes, peak_norms(norms), bias)


def kept_segments(catalogue: Catalogue, include: Tensor | None, rows: int) -> Iterator[Segment]:
    """Yield a catalogue's segments, or only their rows in `include` (sorted codes)."""
    if include is None:
        yield from catalogue.segments
        return
    for segment in catalogue.segments:
        for codes in positions_between(include, segment.start, len(segment)).split(rows):
            if len(codes):
                chosen = segment.vectors[(codes - segment.start).to(segment.vectors.device)]
                yield segment_of(chosen, catalogue.metric, codes=codes)


def new_catalogue(vectors: Tensor, metric: str, storage: str) -> Catalogue:
    """Check, normalise and place vectors (n_items, dim)."""
    return extend_catalogue(Catalogue(metric, (), 0, vectors.shape[1], storage), vectors)


def extend_catalogue(catalogue: Catalogue, vectors: Tensor) -> Catalogue:
    """Return a catalogue with more rows; tensors of the old one are shared, never changed.

    A last segment that is not longer is joined with the new rows, so that n extensions copy each
    row about log(n) times and leave few segments.
    """
    if not len(vectors):
        return catalogue
    metric, kept = catalogue.metric, list(catalogue.segments)
    ready = prepared_rows("vectors", vectors, unit=metric == "cosine")[0]
    placed = ready.to(STORAGE_DTYPES[catalogue.storage])
    if placed.data_ptr() == vectors.data_ptr():
        placed = placed.clone()
    start = catalogue.n_items
    while kept and len(kept[-1]) <= len(placed):
        last = kept.pop()
        placed, start = torch.cat([last.vectors, placed]), last.start
    new = segment_of(placed, metric, start=start, int8=catalogue.storage == "int8")
    total = catalogue.n_items + len(vectors)
    return replace(catalogue, segments=(*kept, new), n_items=total)


def rows_of(catalogue: Catalogue, codes: Tensor) -> Tensor:
    """Return the scored vectors (n, dim) of item codes (n,), in any order, in float32."""
    if len(catalogue.segments) == 1:
        return catalogue.segments[0].vectors[codes].float()
    out = torch.empty(len(codes), catalogue.dim)
    for segment in catalogue.segments:
        here = (codes >= segment.start) & (codes < segment.start + len(segment))
        out[here] = segment.vectors[codes[here] - segment.start].float()
    return out

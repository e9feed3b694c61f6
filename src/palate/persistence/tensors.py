"""Tensors in a safetensors file whose every tensor is aligned, so that it can be mapped."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palate.exceptions import PersistenceError

# Where a tensor begins decides how its products are vectorised, and so their last bits: this is
# where torch's own tensors begin.
ALIGNMENT = 64
#: Tensors of this name only fill the room up to the next aligned place.
PADDING = "_padding."
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, each at a multiple of 64 bytes.

    Parameters
    ----------
    path : Path
    tensors : mapping of str to Tensor
        On any device, of any dtype of safetensors.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header: dict[str, Any] = {}
    at = 0
    for number, (name, tensor) in enumerate(ready.items()):
        end = at + tensor.numel() * tensor.element_size()
        header[name] = _entry(_NAMES[tensor.dtype], list(tensor.shape), at, end)
        at = end + _missing(end)
        if at > end:
            header[f"{PADDING}{number}"] = _entry("U8", [at - end], end, at)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * _missing(8 + len(text))
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in ready.values():
            size = tensor.numel() * tensor.element_size()
            if size:
                file.write(tensor.view(-1).view(torch.uint8).numpy().data)
            file.write(bytes(_missing(size)))


def read_tensors(path: Path, *, mapped: bool = False) -> dict[str, Tensor]:
    """Read a safetensors file.

    Parameters
    ----------
    path : Path
    mapped : bool, default=False
        Leave the values in the file: its pages come into memory when they are first read, once for
        all processes. What is written to such a tensor stays in this process.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    PersistenceError
        If the file is not safetensors.
    """
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            size = 8 + int.from_bytes(data[:8], "little")
            header: dict[str, Any] = json.loads(data[8:size])
            views = {
                name: _view(data, size, entry)
                for name, entry in header.items()
                if name != "__metadata__" and not name.startswith(PADDING)
            }
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise PersistenceError(f"{path.name} cannot be read: {error}.") from error
    return {
        name: view if mapped and view.data_ptr() % ALIGNMENT == 0 else view.clone()
        for name, view in views.items()
    }


def _entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _missing(size: int) -> int:
    return -size % ALIGNMENT


def _view(data: mmap.mmap, base: int, entry: Mapping[str, Any]) -> Tensor:
    """Return the tensor that a header's entry describes, lying in `data`."""
    dtype, shape = _DTYPES[entry["dtype"]], [int(n) for n in entry["shape"]]
    start, end = entry["data_offsets"]
    count = math.prod(shape)
    if min([0, start, *shape]) < 0 or end - start != count * dtype.itemsize:
        raise ValueError(f"a tensor of shape {shape} does not fit its {end - start} bytes")
    if base + end > len(data):
        raise ValueError(f"a tensor ends at byte {base + end} of {len(data)}")
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=count, offset=base + start).view(shape)

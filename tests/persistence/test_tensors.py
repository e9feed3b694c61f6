"""Aligned safetensors files, read whole or mapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.exceptions import PersistenceError
from palate.persistence.tensors import ALIGNMENT, PADDING, read_tensors, write_tensors

TENSORS = {
    "f32": torch.arange(21, dtype=torch.float32).view(3, 7) / 3,
    "f64": torch.arange(5, dtype=torch.float64),
    "bf16": torch.arange(9).to(torch.bfloat16),
    "f16": torch.arange(2).half(),
    "i64": torch.arange(11) - 3,
    "i8": torch.arange(-3, 4, dtype=torch.int8),
    "u8": torch.arange(70, dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(4.5),
    "none": torch.empty(0, 6),
    "turned": torch.arange(6.0).view(2, 3).T,
}


def same(found: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


@pytest.mark.parametrize("mapped", [False, True])
def test_every_type_comes_back_aligned(mapped: bool, tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", TENSORS)
    found = read_tensors(tmp_path / "t", mapped=mapped)
    same(found)
    assert all(t.data_ptr() % ALIGNMENT == 0 for t in found.values())


def test_safetensors_reads_it(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", TENSORS)
    found = load_file(tmp_path / "t")
    same({name: found[name] for name in TENSORS})
    assert all(name in TENSORS or name.startswith(PADDING) for name in found)


@pytest.mark.parametrize("mapped", [False, True])
def test_what_safetensors_wrote_is_read(mapped: bool, tmp_path: Path) -> None:
    plain = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    save_file(plain, tmp_path / "t", metadata={"of": "another"})
    found = read_tensors(tmp_path / "t", mapped=mapped)
    same({name: found[name] for name in TENSORS})


def test_writing_to_a_mapped_tensor_stays_here(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", TENSORS)
    before = (tmp_path / "t").read_bytes()
    found = read_tensors(tmp_path / "t", mapped=True)
    for tensor in found.values():
        tensor.zero_()
    assert not found["f32"].any()
    assert (tmp_path / "t").read_bytes() == before
    same(read_tensors(tmp_path / "t", mapped=True))


def header(**entry: Any) -> bytes:
    good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"a": {**good, **entry}}).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x05.",
        b"\xff" * 40,
        (3).to_bytes(8, "little") + b"[1]",
        header() + bytes(7),
        header(shape=[3]) + bytes(8),
        header(shape=[-2]) + bytes(8),
        header(shape=[2**40, 2**40], data_offsets=[0, 2**82]) + bytes(8),
        header(data_offsets=[-8, 0]) + bytes(8),
        header(data_offsets=[4, 12]) + bytes(8),
        header(dtype="OBJECT") + bytes(8),
        header(shape=None) + bytes(8),
    ],
)
def test_another_file_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(PersistenceError, match=r"^t cannot be read: "):
        read_tensors(tmp_path / "t", mapped=True)

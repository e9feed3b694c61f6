"""A damaged, shortened or forged folder is refused, by the name of the file."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from palate import Recommender, RunOptions
from palate.exceptions import DamagedModelError, IntegrityError, PersistenceError
from palate.persistence import FILES
from palate.persistence.checksums import write_config

PLACES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@pytest.fixture(scope="module")
def saved(fitted_once: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model; every test puts back what it changes."""
    folder = tmp_path_factory.mktemp("damage") / "model"
    fitted_once.save(folder)
    return folder


@pytest.fixture
def damage(saved: Path, record_property: Any) -> Iterator[Any]:
    """Write other bytes into a file for one test; notes how often."""
    kept = {name: (saved / name).read_bytes() for name in FILES}
    n_damaged = 0

    def write(name: str, data: bytes) -> None:
        nonlocal n_damaged
        n_damaged += 1
        (saved / name).write_bytes(data)

    yield write
    record_property("damaged_files", n_damaged)
    for name, data in kept.items():
        (saved / name).write_bytes(data)


def refusal(folder: Path, **how: Any) -> str:
    with pytest.raises(DamagedModelError) as caught:
        Recommender.load(folder, options=RunOptions(device="cpu"), **how)
    assert isinstance(caught.value, PersistenceError) and isinstance(caught.value, IntegrityError)
    return str(caught.value)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_found(name: str, mmap: bool, saved: Path, damage: Any) -> None:
    data = (saved / name).read_bytes()
    for place in PLACES:
        at = min(int(place * len(data)), len(data) - 1)
        for bit in (0x01, 0x80):
            damage(name, data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            assert refusal(saved, mmap=mmap).startswith(f"{name} "), (at, bit)


def test_any_changed_byte_of_the_config_is_found(saved: Path, damage: Any) -> None:
    data = (saved / "config.json").read_bytes()
    for at in range(len(data)):
        damage("config.json", data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :])
        assert refusal(saved).startswith("config.json ")


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", [name for name in FILES if name != "config.json"])
def test_a_file_of_another_length_is_found(
    name: str, verify: bool, saved: Path, damage: Any
) -> None:
    data = (saved / name).read_bytes()
    for found in (data[:-1], data[: len(data) // 2], b"", data + b"\0"):
        damage(name, found)
        assert refusal(saved, verify=verify) == (
            f"{name} is damaged: it has {len(found)} bytes and was written with {len(data)}."
        )


def test_a_config_of_another_length_is_found(saved: Path, damage: Any) -> None:
    data = (saved / "config.json").read_bytes()
    for found in (data[:-1], data[: len(data) // 2], b"", data + b"\n"):
        damage("config.json", found)
        assert refusal(saved).startswith("config.json ")


def test_checksums_may_be_left_out(saved: Path, damage: Any, options: RunOptions) -> None:
    data = (saved / "vectors.safetensors").read_bytes()
    damage("vectors.safetensors", data[:-70] + bytes([data[-70] ^ 1]) + data[-69:])
    assert refusal(saved).startswith("vectors.safetensors is damaged: its SHA-256 is ")
    Recommender.load(saved, options=options, verify=False)


class Bomb:
    """What a pickle may do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code ran')",)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("safetensors")])
def test_a_pickle_is_no_file_of_a_model(name: str, saved: Path, damage: Any) -> None:
    for bomb in (pickle.dumps(Bomb()), _torch_file(saved.parent)):
        damage(name, bomb)
        write_config(saved, json.loads((saved / "config.json").read_text()))
        with pytest.raises(PersistenceError) as caught:
            Recommender.load(saved)
        assert str(caught.value).startswith(f"{name} cannot be read: ")


def _torch_file(folder: Path) -> bytes:
    torch.save({"vectors": Bomb()}, folder / "bomb")
    return (folder / "bomb").read_bytes()


@pytest.mark.parametrize("part", ["os.system", "builtins.eval", "Recommender", "PooledEncoder"])
def test_a_config_names_no_code(part: str, saved: Path, damage: Any) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["params"]["user_encoder"] = {"part": part, "params": {"command": "touch owned"}}
    write_config(saved, config)
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(saved)
    assert str(caught.value).startswith(
        f"config.json names the part {part!r}, which is not registered here; known are "
    )


@pytest.mark.parametrize("key", ["params", "users", "history", "n_fits", "library"])
def test_a_config_that_lacks_something(key: str, saved: Path, damage: Any) -> None:
    config = json.loads((saved / "config.json").read_text())
    del config[key]
    write_config(saved, config)
    with pytest.raises(PersistenceError) as caught:
        Recommender.load(saved)
    assert str(caught.value) == (
        f"config.json must describe the files beside it; got KeyError: {key!r}."
    )


_watching: list[list[str]] = []
_DANGEROUS = {"exec", "compile", "pickle.find_class", "os.system", "subprocess.Popen", "os.exec"}


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _watching and event in _DANGEROUS:
        _watching[-1].append(event)


def test_loading_compiles_and_unpickles_nothing(saved: Path, options: RunOptions) -> None:
    if not hasattr(_watch, "hooked"):
        sys.addaudithook(_watch)  # stays for good, asleep
        _watch.hooked = True  # type: ignore[attr-defined]
    Recommender.load(saved, options=options)  # imports what it needs
    events: list[str] = []
    _watching.append(events)
    try:
        Recommender.load(saved, options=options)
        assert events == []
        exec("pickle.loads(pickle.dumps(Bomb))", {"pickle": pickle, "Bomb": Bomb})
    finally:
        _watching.pop()
    assert set(events) == {"exec", "compile", "pickle.find_class"}  # the watch was awake

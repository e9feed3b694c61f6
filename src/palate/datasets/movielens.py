"""MovieLens 100K and 1M: fetched from GroupLens, or read from a folder that has them."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from palate._validation import check_choice
from palate.datasets.dataset import Dataset, check_as_frame, convert, item_text
from palate.datasets.download import fetch_archive
from palate.exceptions import InvalidInputError

BASE_URL = "https://files.grouplens.org/datasets/movielens"
# The archives' SHA-256; their MD5 as GroupLens states them are 0e33842e24a9c977be4e0107933c0723
# (100k) and c4d9eecfca2ab87c1945afe126590906 (1m).
SHA256 = {
    "100k": "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    "1m": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
}
FILES = {"100k": ("u.data", "u.item", "u.genre"), "1m": ("ratings.dat", "movies.dat")}
LICENCE = (
    "GroupLens terms (README in the folder): research use; no redistribution without permission; "
    "no commercial use without permission; cite the paper."
)
CITATION = (
    "Harper, F. M. and Konstan, J. A. (2015). The MovieLens Datasets: History and Context. ACM "
    "Transactions on Interactive Intelligent Systems 5(4), 19. https://doi.org/10.1145/2827872"
)
DESCRIPTION = """\
MovieLens {variant}: ratings of movies, 1 to 5 stars, entered by users in sessions, so that many
share a second and their order within it says little.

interactions: user_id, item_id, timestamp (seconds since 1970-01-01 UTC), rating; sorted by user,
then time, ties in the order of the file. items: item_id, title (with year), genres ("A|B"), text
(title and genres){more}.
"""


def fetch_movielens(
    variant: str = "100k",
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    as_frame: str = "pandas",
    base_url: str = BASE_URL,
    sha256: str | None = None,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Dataset:
    """Load MovieLens 100K or 1M; the first call downloads it.

    Parameters
    ----------
    variant : {"100k", "1m"}, default="100k"
        943 users, 1,682 movies and 100,000 ratings, or 6,040, 3,883 and 1,000,209.
    data_home : path-like, default=None
        Cache folder (see `get_data_home`); its subfolder ``ml-100k`` or ``ml-1m`` is read if it
        is there, also one that was unpacked by hand, and else downloaded.
    download_if_missing : bool, default=True
        If False, raise instead of downloading.
    as_frame : {"pandas", "polars", "pyarrow"}, default="pandas"
        Library of the tables.
    base_url : str
        Where ``ml-100k.zip`` and ``ml-1m.zip`` are; GroupLens by default.
    sha256 : str, default=None
        SHA-256 that the archive must have; None takes that of GroupLens' archive.
    n_retries, delay : int and float
        As in `fetch_archive`.

    Returns
    -------
    Dataset
        Ids are int64, as in the source.

    Raises
    ------
    IntegrityError
        If the archive does not have the checksum; nothing is kept.
    FileNotFoundError
        If the folder lacks a file, or is absent and `download_if_missing` is False.
    OSError
        If the network fails.
    InvalidInputError
        If a file does not have the form of the source.
    """
    check_choice("variant", variant, tuple(FILES))
    check_as_frame(as_frame)
    folder = fetch_archive(
        f"{base_url.rstrip('/')}/ml-{variant}.zip",
        sha256=SHA256[variant] if sha256 is None else sha256,
        data_home=data_home,
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        delay=delay,
    )
    check_files(folder, FILES[variant])
    if variant == "100k":
        interactions = read_ratings(folder / "u.data", "\t")
        items = _read_u_item(folder)
    else:
        interactions = read_ratings(folder / "ratings.dat", "::")
        items = read_movies(folder / "movies.dat", "latin-1", number_ids=True)
    return Dataset(
        name=f"ml-{variant}",
        interactions=convert(interactions, as_frame),
        items=convert(items, as_frame),
        description=DESCRIPTION.format(
            variant=variant.upper(), more=", release_date" if variant == "100k" else ""
        ),
        licence=LICENCE,
        citation=CITATION,
    )


def check_files(folder: Path, names: tuple[str, ...]) -> None:
    """Raise if a folder lacks one of the files that make up a data set."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{str(folder)!r} must hold {', '.join(names)}; it lacks {', '.join(missing)}. "
            "Remove the folder to download it again."
        )


def read_ratings(path: Path, separator: str, item_type: str = "int64") -> pa.Table:
    """Read user, item, rating, time a line; sort by user, then time, ties as in the file."""
    raw = path.read_bytes()
    if separator != "\t":
        # One character for the fast parser: a longer separator takes pandas' slow one.
        raw = raw.replace(separator.encode(), b"\t")
    types = {"user_id": "int64", "item_id": item_type, "rating": "int64", "timestamp": "int64"}
    try:
        table = pd.read_csv(
            io.BytesIO(raw), sep="\t", header=None, names=list(types), dtype=types, index_col=False
        )
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"{path.name} must hold user, item, rating and time, separated by {separator!r}; "
            f"{error}."
        ) from error
    if table.empty:
        raise InvalidInputError(f"{path.name} must hold at least one rating; it is empty.")
    table = table.sort_values(["user_id", "timestamp"], kind="stable")
    ordered = table[["user_id", "item_id", "timestamp", "rating"]]
    return pa.Table.from_pandas(ordered, preserve_index=False).replace_schema_metadata(None)


def read_movies(path: Path, encoding: str, *, number_ids: bool) -> pa.Table:
    """Read lines of id::title::genres into item_id, title, genres, text."""
    ids: list[int | str] = []
    titles, genres = [], []
    try:
        lines = path.read_text(encoding=encoding).split("\n")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path.name} must be text in {encoding}; {error}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        parts = line.rstrip("\r").split("::")
        if len(parts) < 3 or (number_ids and not parts[0].isdigit()):
            raise InvalidInputError(
                f"{path.name} must hold id::title::genres; line {number} is {line!r}."
            )
        ids.append(int(parts[0]) if number_ids else parts[0])
        titles.append("::".join(parts[1:-1]))
        genres.append(parts[-1])
    return _item_table(ids, titles, genres)


def _read_u_item(folder: Path) -> pa.Table:
    lines = (folder / "u.genre").read_text(encoding="latin-1").splitlines()
    names = [line.rpartition("|")[0] for line in lines if line.strip()]
    ids, titles, dates, genres = [], [], [], []
    lines = (folder / "u.item").read_text(encoding="latin-1").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        parts = line.rstrip("\r").split("|")
        flags = parts[5:]
        if len(flags) != len(names) or not parts[0].isdigit():
            raise InvalidInputError(
                f"u.item must hold an id, title, two dates, address and {len(names)} genre flags, "
                f"separated by '|'; line {number} is {line!r}."
            )
        ids.append(int(parts[0]))
        titles.append(parts[1])
        dates.append(parts[2])
        genres.append(
            "|".join(name for name, flag in zip(names, flags, strict=True) if flag == "1")
        )
    return _item_table(ids, titles, genres).append_column("release_date", pa.array(dates))


def _item_table(ids: Sequence[int | str], titles: list[str], genres: list[str]) -> pa.Table:
    text = [item_text(title, genre) for title, genre in zip(titles, genres, strict=True)]
    return pa.table({"item_id": ids, "title": titles, "genres": genres, "text": text})

"""Folders that hold no data set, or a damaged one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from palate.datasets import fetch_movielens, fetch_movietweetings, read_folder
from palate.exceptions import InvalidInputError, InvalidParameterError

EVENTS = pd.DataFrame({"user_id": ["u"], "item_id": ["a"]})

NO_PATH: dict[str, Any] = {"None": None, "number": 3, "empty": "", "bytes": b"x", "list": ["x"]}


@pytest.mark.parametrize("case", list(NO_PATH))
@pytest.mark.parametrize("entry", ["read_folder"])
def test_no_path(entry: str, case: str, refused: Any) -> None:
    value = NO_PATH[case]
    message = f"path must be a path; got {value!r}."
    refused(lambda: read_folder(value), InvalidParameterError, message)


@pytest.mark.parametrize("value", [None, "dask", ["pandas"], 3], ids=repr)
@pytest.mark.parametrize("entry", ["read_folder as_frame", "fetch_movielens as_frame"])
def test_no_library(entry: str, value: Any, tmp_path: Path, refused: Any) -> None:
    calls = {
        "read_folder as_frame": lambda: read_folder(tmp_path, as_frame=value),
        "fetch_movielens as_frame": lambda: fetch_movielens(
            data_home=tmp_path, as_frame=value, download_if_missing=False
        ),
    }
    message = f"as_frame must be one of 'pandas', 'polars', 'pyarrow'; got {value!r}."
    refused(calls[entry], InvalidParameterError, message)


# What is in the folder: names to bytes or tables.
FOLDERS: dict[str, tuple[dict[str, Any], type, str]] = {
    "nothing": ({}, FileNotFoundError, "path must be a folder that holds interactions.parquet; …"),
    "an empty file": (
        {"interactions.parquet": b""},
        InvalidInputError,
        "interactions.parquet must be a parquet file; …",
    ),
    "a text": (
        {"interactions.parquet": b"user_id,item_id\n1,2\n"},
        InvalidInputError,
        "interactions.parquet must be a parquet file; …",
    ),
    "a file cut short": (
        {"interactions.parquet": EVENTS, "cut": True},
        InvalidInputError,
        "interactions.parquet must be a parquet file; …",
    ),
    "no item column": (
        {"interactions.parquet": EVENTS[["user_id"]]},
        InvalidInputError,
        "interactions.parquet must have a column 'item_id'; its columns are 'user_id'.",
    ),
    "items without ids": (
        {"interactions.parquet": EVENTS, "items.parquet": pd.DataFrame({"title": ["a"]})},
        InvalidInputError,
        "items.parquet must have a column 'item_id'; its columns are 'title'.",
    ),
    "items that are damaged": (
        {"interactions.parquet": EVENTS, "items.parquet": b"PAR1 no more"},
        InvalidInputError,
        "items.parquet must be a parquet file; …",
    ),
}


@pytest.mark.parametrize("case", list(FOLDERS))
@pytest.mark.parametrize("entry", ["read_folder"])
def test_folders(entry: str, case: str, tmp_path: Path, refused: Any) -> None:
    files, error, message = FOLDERS[case]
    for name, content in files.items():
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, pd.DataFrame):
            content.to_parquet(path)
        else:
            whole = tmp_path / "interactions.parquet"
            whole.write_bytes(whole.read_bytes()[:-20])
    refused(lambda: read_folder(tmp_path), error, message)


def test_a_note_in_another_encoding(tmp_path: Path) -> None:
    EVENTS.to_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "README.md").write_bytes("café".encode("latin-1"))
    assert read_folder(tmp_path).description == "caf\ufffd"


# Files of MovieLens 1M, or of MovieTweetings, that are not what their source has.
RATINGS = b"1::1193::5::978300760\n"
MOVIES = b"1193::One (1975)::Drama\n"
SOURCES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "fetch_movielens": (
        lambda home: fetch_movielens("1m", data_home=home, download_if_missing=False),
        "ml-1m",
    ),
    "fetch_movietweetings": (
        lambda home: fetch_movietweetings(data_home=home, download_if_missing=False),
        "movietweetings-100k",
    ),
}
FORM = "ratings.dat must hold user, item, rating and time, separated by '::'; …"
DAMAGED: dict[str, tuple[bytes, bytes, str]] = {
    "ratings empty": (b"", MOVIES, "ratings.dat must hold at least one rating; it is empty."),
    "ratings with a word for a time": (b"1::1193::5::soon\n", MOVIES, FORM),
    "ratings with a missing time": (b"1::1193::5\n", MOVIES, FORM),
    "ratings beyond 64 bits": (b"1::1193::5::99999999999999999999999\n", MOVIES, FORM),
    "ratings with a missing user": (b"::1193::5::978300760\n", MOVIES, FORM),
    "movies without a title": (
        RATINGS,
        b"1193::One\n",
        "movies.dat must hold id::title::genres; line 1 is '1193::One'.",
    ),
}


@pytest.mark.parametrize("case", list(DAMAGED))
@pytest.mark.parametrize("entry", list(SOURCES))
def test_damaged_sources(entry: str, case: str, tmp_path: Path, refused: Any) -> None:
    load, name = SOURCES[entry]
    ratings, movies, message = DAMAGED[case]
    folder = tmp_path / name
    folder.mkdir()
    (folder / "ratings.dat").write_bytes(ratings)
    (folder / "movies.dat").write_bytes(movies)
    refused(lambda: load(tmp_path), InvalidInputError, message)


def test_movies_in_another_encoding(tmp_path: Path, refused: Any) -> None:
    folder = tmp_path / "movietweetings-100k"
    folder.mkdir()
    (folder / "ratings.dat").write_bytes(RATINGS)
    (folder / "movies.dat").write_bytes("1193::Café::Drama\n".encode("latin-1"))
    refused(
        lambda: SOURCES["fetch_movietweetings"][0](tmp_path),
        InvalidInputError,
        "movies.dat must be text in utf-8; …",
    )

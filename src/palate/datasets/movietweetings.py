"""MovieTweetings 100K: ratings of movies that people posted on Twitter."""

from __future__ import annotations

import os

from palate.datasets.dataset import Dataset, check_as_frame, convert
from palate.datasets.download import fetch_files
from palate.datasets.movielens import check_files, read_movies, read_ratings

# The commit fixes the bytes of the snapshot.
BASE_URL = (
    "https://raw.githubusercontent.com/sidooms/MovieTweetings/"
    "4d8280a3f1ea83e3e23f13d1710d19f43564274f/snapshots/100K"
)
SHA256 = {
    "ratings.dat": "c0dd868c2632d10002ebc928ddc5345f33adeaa59eca52c2941c26a2c5e36fd6",
    "movies.dat": "e63fb84bc734e3c574f135634a40d3cbafab22b8f94f5fc0b80f80d1d2076efc",
}
LICENCE = "MIT, copyright (c) 2013 Simon Dooms"
CITATION = (
    "Dooms, S., De Pessemier, T. and Martens, L. (2013). MovieTweetings: a Movie Rating Dataset "
    "Collected From Twitter. Workshop on Crowdsourcing and Human Computation for Recommender "
    "Systems at RecSys 2013."
)
DESCRIPTION = """\
MovieTweetings, first 100,000 ratings: 16,554 people who posted their IMDb rating, 0 to 10, of one
of 10,506 movies on Twitter between 2013-02-28 and 2013-09-01. Half of them have 2 ratings or fewer.

interactions: user_id, item_id (IMDb number as text, with its zeros), timestamp (seconds since
1970-01-01 UTC, when it was posted), rating; sorted by user, then time. items: item_id, title (with
year), genres ("A|B"), text (title and genres).
"""


def fetch_movietweetings(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    as_frame: str = "pandas",
    base_url: str = BASE_URL,
    sha256: dict[str, str] | None = None,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Dataset:
    """Load MovieTweetings 100K, a social-media data set; the first call downloads it.

    Parameters
    ----------
    data_home : path-like, default=None
        Cache folder (see `get_data_home`); its subfolder ``movietweetings-100k`` is read if it is
        there, and else downloaded.
    download_if_missing : bool, default=True
        If False, raise instead of downloading.
    as_frame : {"pandas", "polars", "pyarrow"}, default="pandas"
        Library of the tables.
    base_url : str
        Where ``ratings.dat`` and ``movies.dat`` are; the authors' repository by default.
    sha256 : dict of str to str, default=None
        SHA-256 that each of the two files must have; None takes those of the authors' files.
    n_retries, delay : int and float
        As in `fetch_archive`.

    Returns
    -------
    Dataset
        User ids are int64, item ids text.

    Raises
    ------
    IntegrityError
        If a file does not have the checksum; nothing is kept.
    FileNotFoundError
        If the folder lacks a file, or is absent and `download_if_missing` is False.
    OSError
        If the network fails.
    InvalidInputError
        If a file does not have the form of the source.
    """
    check_as_frame(as_frame)
    checksums = SHA256 if sha256 is None else sha256
    folder = fetch_files(
        {f"{base_url.rstrip('/')}/{name}": checksums[name] for name in SHA256},
        name="movietweetings-100k",
        data_home=data_home,
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        delay=delay,
    )
    check_files(folder, tuple(SHA256))
    return Dataset(
        name="movietweetings-100k",
        interactions=convert(read_ratings(folder / "ratings.dat", "::", "str"), as_frame),
        items=convert(read_movies(folder / "movies.dat", "utf-8", number_ids=False), as_frame),
        description=DESCRIPTION,
        licence=LICENCE,
        citation=CITATION,
    )

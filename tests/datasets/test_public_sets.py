"""MovieLens and MovieTweetings from tiny files in the true formats, over a real server."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from palate.datasets import fetch_movielens, fetch_movietweetings
from palate.exceptions import IntegrityError, InvalidInputError, InvalidParameterError

# User 2 before user 1, and two ratings of user 1 in one second: 9 before 7.
U_DATA = "2\t7\t3\t881250949\n1\t9\t5\t891717742\n1\t7\t1\t891717742\n1\t11\t4\t878887116\n"
U_GENRE = "unknown|0\nAction|1\nChildren's|2\n\n"
U_ITEM = (
    "7|Amélie (2001) |01-Jan-2001||http://us.imdb.com/M/title-exact?Am%E9lie|0|1|1\n"
    '9|"Quoted", The (1999)|02-Feb-1999||http://x|0|0|1\n'
    "11|unknown||||1|0|0\n"
)
RATINGS = "2::7::3::978300760\n1::9::5::978302109\n1::7::1::978302109\n1::11::4::978301968\n"
MOVIES = "7::Amélie (2001)::Comedy|Romance\n9::Two::Parts (1999)::Drama\n11::Bare (1950)::Horror\n"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_zip(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        for name, text in files.items():
            bundle.writestr(name, text.encode("latin-1"))
    return stream.getvalue()


@pytest.fixture
def movielens(server):
    """Archives of both variants on the server."""
    server.files["/ml-100k.zip"] = make_zip(
        {"ml-100k/u.data": U_DATA, "ml-100k/u.item": U_ITEM, "ml-100k/u.genre": U_GENRE}
    )
    server.files["/ml-1m.zip"] = make_zip(
        {"ml-1m/ratings.dat": RATINGS, "ml-1m/movies.dat": MOVIES}
    )
    return server


def fetch(server, home, variant="100k", **options):
    data = server.files[f"/ml-{variant}.zip"]
    options = {"sha256": sha256(data), "base_url": server.url, "n_retries": 1, **options}
    return fetch_movielens(variant, data_home=home, **options)


def test_movielens_100k_by_hand(movielens, tmp_path):
    data = fetch(movielens, tmp_path)
    assert data.interactions.to_dict("list") == {
        "user_id": [1, 1, 1, 2],
        "item_id": [11, 9, 7, 7],
        "timestamp": [878887116, 891717742, 891717742, 881250949],
        "rating": [4, 5, 1, 3],
    }
    assert data.items.to_dict("list") == {
        "item_id": [7, 9, 11],
        "title": ["Amélie (2001) ", '"Quoted", The (1999)', "unknown"],
        "genres": ["Action|Children's", "Children's", "unknown"],
        "text": [
            "Amélie (2001). Genres: Action, Children's",
            '"Quoted", The (1999). Genres: Children\'s',
            "unknown",
        ],
        "release_date": ["01-Jan-2001", "02-Feb-1999", ""],
    }
    assert (data.interactions.dtypes == "int64").all()
    assert repr(data) == "<Dataset ml-100k: 4 interactions, 3 items>"
    assert "Harper" in data.citation
    assert "no redistribution" in data.licence
    assert data.description.startswith("MovieLens 100K")
    assert "release_date" in data.description


def test_movielens_1m_by_hand(movielens, tmp_path):
    data = fetch(movielens, tmp_path, "1m")
    assert data.interactions.to_dict("list") == {
        "user_id": [1, 1, 1, 2],
        "item_id": [11, 9, 7, 7],
        "timestamp": [978301968, 978302109, 978302109, 978300760],
        "rating": [4, 5, 1, 3],
    }
    assert data.items.to_dict("list") == {
        "item_id": [7, 9, 11],
        "title": ["Amélie (2001)", "Two::Parts (1999)", "Bare (1950)"],
        "genres": ["Comedy|Romance", "Drama", "Horror"],
        "text": [
            "Amélie (2001). Genres: Comedy, Romance",
            "Two::Parts (1999). Genres: Drama",
            "Bare (1950). Genres: Horror",
        ],
    }


@pytest.mark.parametrize(
    ("as_frame", "kind"),
    [("pandas", pd.DataFrame), ("polars", pl.DataFrame), ("pyarrow", pa.Table)],
)
def test_every_kind_of_table(movielens, tmp_path, as_frame, kind):
    data = fetch(movielens, tmp_path, as_frame=as_frame)
    assert type(data.interactions) is kind
    assert type(data.items) is kind
    items = data.interactions["item_id"]
    assert (items.to_pylist() if as_frame == "pyarrow" else items.to_list()) == [11, 9, 7, 7]
    assert len(data.interactions) == 4
    assert len(data.items) == 3


def test_a_folder_that_is_there_is_read_without_network(movielens, tmp_path):
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text(RATINGS.replace("\n", "\r\n"), encoding="latin-1")
    (folder / "movies.dat").write_text(MOVIES.replace("\n", "\r\n"), encoding="latin-1")
    data = fetch_movielens("1m", data_home=tmp_path, base_url="http://127.0.0.1:9")
    pd.testing.assert_frame_equal(data.items, fetch(movielens, tmp_path / "b", "1m").items)
    assert movielens.requests == ["/ml-1m.zip"]


def test_the_official_checksum_is_the_default(movielens, tmp_path):
    for variant, start in [("100k", "50d2a982c66986937beb"), ("1m", "a6898adb50b9ca05aa23")]:
        with pytest.raises(IntegrityError, match=f"must have the SHA-256 {start}"):
            fetch(movielens, tmp_path, variant, sha256=None)
    assert list(tmp_path.iterdir()) == []


def test_a_second_call_makes_no_request(movielens, tmp_path):
    first = fetch(movielens, tmp_path)
    second = fetch(movielens, tmp_path, download_if_missing=False)
    pd.testing.assert_frame_equal(first.interactions, second.interactions)
    assert movielens.requests == ["/ml-100k.zip"]


def write_100k(folder, **changed):
    folder.mkdir()
    files = {"u.data": U_DATA, "u.item": U_ITEM, "u.genre": U_GENRE, **changed}
    for name, text in files.items():
        if text is not None:
            (folder / name).write_text(text, encoding="latin-1")


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        (
            {"u.item": None},
            FileNotFoundError,
            "'{folder}' must hold u.data, u.item, u.genre; it lacks u.item. Remove the folder to "
            "download it again.",
        ),
        (
            {"u.item": "7|Half a line|01-Jan-2001||http://x|0|1\n"},
            InvalidInputError,
            "u.item must hold an id, title, two dates, address and 3 genre flags, separated by "
            "'|'; line 1 is '7|Half a line|01-Jan-2001||http://x|0|1'.",
        ),
        ({"u.data": ""}, InvalidInputError, "u.data must hold at least one rating; it is empty."),
    ],
)
def test_broken_folders(tmp_path, changed, kind, message):
    folder = tmp_path / "ml-100k"
    write_100k(folder, **changed)
    with pytest.raises(kind) as error:
        fetch_movielens(data_home=tmp_path)
    assert str(error.value) == message.format(folder=folder)


@pytest.mark.parametrize("line", ["1\t2\t3\n", "1\t2\tx\t4\n", "1,2,3,4\n"])
def test_broken_ratings(tmp_path, line):
    write_100k(tmp_path / "ml-100k", **{"u.data": U_DATA + line})
    with pytest.raises(InvalidInputError, match=r"^u\.data must hold user, item, rating and time"):
        fetch_movielens(data_home=tmp_path)


def test_broken_movies(tmp_path):
    (tmp_path / "ml-1m").mkdir()
    (tmp_path / "ml-1m" / "ratings.dat").write_text(RATINGS)
    (tmp_path / "ml-1m" / "movies.dat").write_text("7::Good::Drama\nx::Bad::Drama\n")
    with pytest.raises(InvalidInputError) as error:
        fetch_movielens("1m", data_home=tmp_path)
    assert str(error.value) == (
        "movies.dat must hold id::title::genres; line 2 is 'x::Bad::Drama'."
    )


def test_parameter_errors(tmp_path):
    with pytest.raises(InvalidParameterError) as error:
        fetch_movielens("10m", data_home=tmp_path)
    assert str(error.value) == "variant must be one of '100k', '1m'; got '10m'."
    with pytest.raises(InvalidParameterError) as error:
        fetch_movielens(data_home=tmp_path, as_frame="dask")
    assert str(error.value) == (
        "as_frame must be one of 'pandas', 'polars', 'pyarrow'; got 'dask'."
    )


# MovieTweetings


@pytest.fixture
def movietweetings(server):
    """Both files on the server, as UTF-8."""
    server.files["/100K/ratings.dat"] = (
        b"2::0104257::8::1364690142\n2::1259521::8::1364118447\n1::0074958::10::1365029107\n"
    )
    server.files["/100K/movies.dat"] = (
        "0074958::Network (1976)::Drama\n"
        "0104257::À l'ombre (1992)::\n"
        "1259521::The Cabin: A::B (2012)::Horror|Thriller\n"
    ).encode()
    return server


def fetch_tweets(server, home, **options):
    checksums = {name.rpartition("/")[2]: sha256(data) for name, data in server.files.items()}
    options = {"sha256": checksums, "base_url": f"{server.url}/100K/", "n_retries": 1, **options}
    return fetch_movietweetings(data_home=home, **options)


def test_movietweetings_by_hand(movietweetings, tmp_path):
    data = fetch_tweets(movietweetings, tmp_path)
    assert data.interactions.to_dict("list") == {
        "user_id": [1, 2, 2],
        "item_id": ["0074958", "1259521", "0104257"],
        "timestamp": [1365029107, 1364118447, 1364690142],
        "rating": [10, 8, 8],
    }
    assert data.items.to_dict("list") == {
        "item_id": ["0074958", "0104257", "1259521"],
        "title": ["Network (1976)", "À l'ombre (1992)", "The Cabin: A::B (2012)"],
        "genres": ["Drama", "", "Horror|Thriller"],
        "text": [
            "Network (1976). Genres: Drama",
            "À l'ombre (1992)",
            "The Cabin: A::B (2012). Genres: Horror, Thriller",
        ],
    }
    again = fetch_tweets(movietweetings, tmp_path, download_if_missing=False)
    assert again.items.equals(data.items)
    assert sorted(movietweetings.requests) == ["/100K/movies.dat", "/100K/ratings.dat"]


def test_movietweetings_refuses_other_bytes(movietweetings, tmp_path):
    with pytest.raises(IntegrityError, match="must have the SHA-256 c0dd868c2632d10002eb"):
        fetch_tweets(movietweetings, tmp_path, sha256=None)
    assert list(tmp_path.iterdir()) == []

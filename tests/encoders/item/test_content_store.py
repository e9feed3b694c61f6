import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from palate.encoders.item.content_cache import content_keys
from palate.encoders.item.content_store import ContentCache
from palate.exceptions import PalateWarning


@pytest.fixture
def cache(tmp_path):
    return ContentCache(tmp_path / "cache")


def rows(n, dim=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "mine"))
    assert ContentCache().path == tmp_path / "mine" / "content" / "content.sqlite3"
    monkeypatch.delenv("PALATE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ContentCache().path == tmp_path / ".cache/palate/content/content.sqlite3"
    assert ContentCache("~/x").path == tmp_path / "x" / "content.sqlite3"


def test_store_and_read_back(cache):
    keys = content_keys([str(n) for n in range(2000)], "f")  # more than one query holds
    vectors = rows(2000)
    assert cache.get_many(keys) == {}
    assert not cache.path.parent.exists()  # a look-up leaves no trace
    cache.put_many(keys, vectors)
    found = cache.get_many([*keys[::-1], b"unknown"])
    assert len(found) == 2000
    np.testing.assert_array_equal(np.stack([found[key] for key in keys]), vectors)
    cache.put_many(keys[:1], vectors[1:2])
    np.testing.assert_array_equal(cache.get_many(keys[:1])[keys[0]], vectors[1])
    cache.put_many([], rows(0))
    cache.clear()
    assert cache.get_many(keys) == {}


def test_vectors_that_are_not_finite_are_not_kept(cache):
    vectors = rows(4)
    vectors[1, 2], vectors[3, 0] = np.nan, np.inf
    cache.put_many([b"0", b"1", b"2", b"3"], vectors)
    assert set(cache.get_many([b"0", b"1", b"2", b"3"])) == {b"0", b"2"}


def damage_header(path):
    path.write_bytes(b"this is no database" * 100)


def damage_pages(path):
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


def damage_length(path):
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [damage_header, damage_pages, damage_length])
def test_a_damaged_file_is_moved_aside(cache, damage):
    keys = content_keys([str(n) for n in range(300)], "f")
    cache.put_many(keys, rows(300))
    damage(cache.path)
    bytes_before = cache.path.read_bytes()
    with pytest.warns(PalateWarning, match="is damaged .*; it was moved to") as caught:
        assert cache.get_many(keys) == {}
    assert len(caught) == 1
    (aside,) = cache.path.parent.glob("content.sqlite3.damaged-*")
    assert aside.read_bytes() == bytes_before
    cache.put_many(keys, rows(300))
    assert len(cache.get_many(keys)) == 300


def test_damage_found_while_writing(cache):
    cache.path.parent.mkdir()
    damage_header(cache.path)
    with pytest.warns(PalateWarning, match="is damaged"):
        cache.put_many([b"0"], rows(1))
    cache.put_many([b"0"], rows(1))
    assert set(cache.get_many([b"0"])) == {b"0"}


def test_an_empty_file_is_an_empty_cache(cache):
    cache.path.parent.mkdir()
    cache.path.touch()
    assert cache.get_many([b"0"]) == {}
    cache.put_many([b"0"], rows(1))
    assert set(cache.get_many([b"0"])) == {b"0"}


def test_threads_share_a_cache(cache):
    keys = [content_keys([f"{n} {m}" for m in range(50)], "f") for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: cache.put_many(keys[n], rows(50, seed=n)), range(12)))
        found = list(pool.map(cache.get_many, keys))
    for n in range(12):
        np.testing.assert_array_equal(
            np.stack([found[n][key] for key in keys[n]]), rows(50, seed=n)
        )


def test_processes_share_a_cache(cache):
    code = (
        "import sys, numpy as np\n"
        "from palate.encoders.item.content_store import ContentCache\n"
        "cache, name = ContentCache(sys.argv[1]), sys.argv[2].encode()\n"
        "for n in range(30):\n"
        "    keys = [name + bytes([n, m]) for m in range(20)] + [b'common']\n"
        "    cache.put_many(keys, np.full((21, 4), n, dtype='f4'))\n"
        "    assert len(cache.get_many(keys)) == 21\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(cache.folder)]
    running = [subprocess.Popen([*command, name]) for name in ("a", "b")]
    assert [process.wait(timeout=100) for process in running] == [0, 0]
    keys = [name + bytes([n, m]) for name in (b"a", b"b") for n in range(30) for m in range(20)]
    assert len(cache.get_many(keys)) == 1200


def test_a_damaged_file_that_cannot_be_moved_is_left_alone(cache, monkeypatch):
    cache.path.parent.mkdir()
    damage_header(cache.path)

    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.rename", refuse)
    with pytest.warns(PalateWarning, match="is damaged .*; it could not be moved") as caught:
        assert cache.get_many([b"0"]) == {}
        cache.put_many([b"0"], rows(1))
        assert cache.get_many([b"0"]) == {}
    assert len(caught) == 1


def test_a_file_that_cannot_be_read_gives_one_warning(cache):
    cache.put_many([b"0"], rows(1))
    closed = ContentCache(cache.folder)
    closed._connect = lambda: (_ for _ in ()).throw(PermissionError("no"))
    with pytest.warns(PalateWarning, match="failed to read .no.") as caught:
        assert closed.get_many([b"0"]) == {}
        closed.put_many([b"0"], rows(1))
        assert closed.get_many([b"0"]) == {}
    assert len(caught) == 1


@pytest.mark.parametrize("value", [b"\x01\x02\x03", "text", 7, None], ids=repr)
def test_a_damaged_value_is_as_one_that_is_not_there(cache, value):
    cache.put_many([b"0", b"1"], rows(2))
    with sqlite3.connect(cache.path) as database:
        database.execute("CREATE TABLE other AS SELECT * FROM vectors")
        database.execute("DROP TABLE vectors")
        database.execute("ALTER TABLE other RENAME TO vectors")
        database.execute("UPDATE vectors SET value = ? WHERE key = ?", (value, b"0"))
    database.close()
    assert list(cache.get_many([b"0", b"1"])) == [b"1"]

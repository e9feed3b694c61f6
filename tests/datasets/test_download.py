"""Downloads from a real server: whole and checked, or nothing is kept."""

from __future__ import annotations

import hashlib
import io
import re
import signal
import zipfile

import pytest

from palate.datasets import download as module
from palate.datasets import fetch_archive, fetch_files, get_data_home
from palate.exceptions import IntegrityError, InvalidInputError, InvalidParameterError


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_zip(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in files.items():
            bundle.writestr(name, data)
    return stream.getvalue()


@pytest.fixture
def archive(server):
    """A zip with one top folder that holds an entry of the folder's own name."""
    server.files["/set.zip"] = make_zip({"set/set": b"same name", "set/deep/b.txt": b"b" * 7000})
    return server.files["/set.zip"]


def fetch(server, archive, home, **options):
    options = {"sha256": sha256(archive), "n_retries": 1, "delay": 0.0, **options}
    return fetch_archive(f"{server.url}/set.zip", data_home=home, **options)


def test_an_archive_is_unpacked_without_its_top_folder(server, archive, tmp_path):
    home = tmp_path / "not" / "there"
    folder = fetch(server, archive, home)
    assert folder == home / "set"
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == [
        "deep",
        "deep/b.txt",
        "set",
    ]
    assert (folder / "set").read_bytes() == b"same name"
    assert (folder / "deep" / "b.txt").read_bytes() == b"b" * 7000
    assert [p.name for p in home.iterdir()] == ["set"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_several_top_entries_stay_where_they_are(server, tmp_path):
    data = server.files["/flat.zip"] = make_zip({"a.txt": b"a", "d/b.txt": b"b"})
    folder = fetch_archive(
        f"{server.url}/flat.zip", sha256=sha256(data), name="other", data_home=tmp_path
    )
    assert folder == tmp_path / "other"
    assert (folder / "a.txt").read_bytes() + (folder / "d" / "b.txt").read_bytes() == b"ab"


def test_a_second_call_needs_no_network(server, archive, tmp_path):
    first = fetch(server, archive, tmp_path)
    server.close()
    assert fetch(server, archive, tmp_path) == first
    assert fetch(server, archive, tmp_path, download_if_missing=False) == first
    assert server.requests == ["/set.zip"]


def test_a_wrong_checksum_leaves_nothing_behind(server, archive, tmp_path):
    wrong = "0" * 64
    with pytest.raises(IntegrityError) as error:
        fetch(server, archive, tmp_path, sha256=wrong)
    assert str(error.value) == (
        f"{server.url}/set.zip must have the SHA-256 {wrong}; "
        f"the bytes that came have {sha256(archive)}."
    )
    assert list(tmp_path.iterdir()) == []
    assert server.requests == ["/set.zip"]  # the same bytes would come again
    assert fetch(server, archive, tmp_path, sha256=sha256(archive).upper()).is_dir()


def test_a_cut_download_is_tried_again_and_leaves_nothing_behind(server, archive, tmp_path):
    server.cut_after["/set.zip"] = 100
    with pytest.raises(ConnectionError) as error:
        fetch(server, archive, tmp_path, n_retries=3)
    assert str(error.value) == (
        f"{server.url}/set.zip could not be downloaded: 100 of {len(archive):,} bytes came."
    )
    assert len(server.requests) == 3
    assert list(tmp_path.iterdir()) == []
    del server.cut_after["/set.zip"]
    assert fetch(server, archive, tmp_path).is_dir()


def test_a_cut_download_of_unknown_length_fails_its_checksum(server, archive, tmp_path):
    server.chunked.add("/set.zip")
    server.cut_after["/set.zip"] = 100
    with pytest.raises(IntegrityError, match="the bytes that came have"):
        fetch(server, archive, tmp_path)
    assert list(tmp_path.iterdir()) == []
    del server.cut_after["/set.zip"]
    assert fetch(server, archive, tmp_path).is_dir()


def test_an_interrupt_in_the_middle_leaves_nothing_behind(server, archive, tmp_path):
    server.cut_after["/set.zip"] = 100
    server.interrupting.add("/set.zip")
    # A shell starts what runs in its background with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch(server, archive, tmp_path, n_retries=3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert server.requests == ["/set.zip"]
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, archive, tmp_path, caplog):
    server.failures["/set.zip"] = 2
    assert fetch(server, archive, tmp_path, n_retries=3).is_dir()
    assert len(server.requests) == 3
    assert len(caplog.records) == 2
    with pytest.raises(ConnectionError) as error:
        fetch_archive(f"{server.url}/none.zip", sha256="1" * 64, data_home=tmp_path, delay=0)
    assert str(error.value) == f"{server.url}/none.zip could not be downloaded: Not Found."
    assert server.requests.count("/none.zip") == 1


def test_no_server_is_an_oserror(server, archive, tmp_path):
    server.close()
    with pytest.raises(OSError, match=re.escape(f"{server.url}/set.zip could not be downloaded")):
        fetch(server, archive, tmp_path, n_retries=2)
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_zip(server, tmp_path):
    server.files["/set.zip"] = b"no zip at all"
    with pytest.raises(InvalidInputError) as error:
        fetch(server, b"no zip at all", tmp_path)
    assert str(error.value) == (
        f"url must name a zip archive; {server.url}/set.zip is none: File is not a zip file."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_member_cannot_leave_the_folder(server, tmp_path):
    data = server.files["/set.zip"] = make_zip({"../../evil.txt": b"x", "/abs.txt": b"y"})
    folder = fetch(server, data, tmp_path / "home")
    assert sorted(p.name for p in folder.iterdir()) == ["abs.txt", "evil.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_a_second_process_that_finished_first_wins(server, archive, tmp_path, monkeypatch):
    unpack = module._unpack

    def be_late(*arguments):
        unpack(*arguments)
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "theirs").touch()

    monkeypatch.setattr(module, "_unpack", be_late)
    folder = fetch(server, archive, tmp_path)
    assert [p.name for p in folder.iterdir()] == ["theirs"]
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_single_file_is_whole_or_absent(server, archive, tmp_path):
    path = tmp_path / "file"
    with pytest.raises(IntegrityError):
        module.download(f"{server.url}/set.zip", path, sha256="0" * 64)
    assert not path.exists()
    module.download(f"{server.url}/set.zip", path, sha256=sha256(archive))
    assert path.read_bytes() == archive


def test_files_come_together_or_not_at_all(server, tmp_path):
    server.files = {"/x/a.dat": b"a", "/x/b.dat": b"bb"}
    good = {f"{server.url}{path}": sha256(data) for path, data in server.files.items()}
    bad = {**good, f"{server.url}/x/b.dat": "f" * 64}
    options = {"name": "pair", "data_home": tmp_path, "n_retries": 1}
    with pytest.raises(IntegrityError):
        fetch_files(bad, **options)
    assert list(tmp_path.iterdir()) == []
    folder = fetch_files(good, **options)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"a.dat": b"a", "b.dat": b"bb"}


def test_parameter_errors(server, archive, tmp_path):
    def message(**options):
        with pytest.raises((InvalidParameterError, FileNotFoundError)) as error:
            fetch(server, archive, tmp_path, **options)
        return str(error.value)

    assert message(sha256="abc") == "sha256 must be 64 hexadecimal digits; got 'abc'."
    assert message(n_retries=0) == "n_retries must be an integer of at least 1; got 0."
    assert message(download_if_missing=False) == (
        f"'{tmp_path / 'set'}' must hold the unpacked files when download_if_missing is False; "
        "there is no such folder."
    )
    with pytest.raises(InvalidParameterError) as error:
        fetch_archive("file:///etc/set.zip", sha256="0" * 64, data_home=tmp_path)
    assert str(error.value) == (
        "url must start with http:// or https://; got 'file:///etc/set.zip'."
    )
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


def test_the_data_home_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    assert get_data_home() == tmp_path
    assert get_data_home(tmp_path / "given") == tmp_path / "given"
    monkeypatch.delenv("PALATE_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_data_home() == tmp_path / ".cache" / "palate" / "datasets"

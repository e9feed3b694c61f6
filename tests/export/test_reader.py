"""The reader: its ids, its errors, its files, and what it does not import."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import palate
from palate import Recommender
from palate.exceptions import (
    DamagedModelError,
    InvalidInputError,
    InvalidParameterError,
    PersistenceError,
    UnsupportedTargetError,
    UnsupportedTargetWarning,
)
from palate.export import OnnxRecommender
from palate.export._files import read_item_ids, write_item_ids
from palate.export._ids import ItemIndex

DAYS = pd.date_range("2024-01-01", periods=3)
IDS = {
    "text": np.array(["a", "ü", ""], dtype=object),
    "int64": np.array([3, -1, 2**62]),
    "uint64": np.array([3, 2**64 - 1], dtype=np.uint64),
    "float": np.array([0.1, -3.5, 1e300]),
    "bool": np.array([True, False]),
    "datetime": DAYS.to_numpy(),
    "seconds": DAYS.to_numpy().astype("M8[s]"),
    "duration": np.array([1, 5], dtype="m8[h]"),
    "python int": np.array([2**70, 1], dtype=object),
    "mixed": np.array([1, "1", 2.5, b"1", datetime.date(2024, 1, 2)], dtype=object),
    "uuid": np.array([uuid.UUID(int=5), uuid.UUID(int=6)], dtype=object),
}


@pytest.fixture
def reader(exported: Path) -> OnnxRecommender:
    return OnnxRecommender(exported)


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_ids_of_every_type_come_back(ids: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    write_item_ids(path, ids)
    found = read_item_ids(path)
    assert found.dtype == ids.dtype
    assert [(type(v), v) for v in found] == [(type(v), v) for v in ids]
    index = ItemIndex(found)
    assert index.codes(list(ids)).tolist() == list(range(len(ids)))
    assert index.codes(list(ids[::-1])).tolist() == list(range(len(ids)))[::-1]
    assert index.codes(["no such id", None]).tolist() == [-1, -1]
    assert index.codes([]).dtype == np.int64


def test_moments_are_found_in_any_unit() -> None:
    index = ItemIndex(DAYS.to_numpy())
    asked = [DAYS[1], datetime.datetime(2024, 1, 3), np.datetime64("2024-01-01", "D")]
    assert index.codes(asked).tolist() == [1, 2, 0]
    coarse = ItemIndex(DAYS.to_numpy().astype("M8[D]"))
    assert coarse.codes([np.datetime64("2024-01-02T00:00:01"), DAYS[1]]).tolist() == [-1, 1]


def test_an_id_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(PersistenceError) as caught:
        write_item_ids(tmp_path / "items.json", np.array([1, 3j], dtype=object))
    assert str(caught.value).endswith("to be saved; got 3j of type complex.")


BAD = [
    ({"histories": [["i1", "nope"]]}, UnsupportedTargetError),
    ({"histories": [["i1"], list("abcdefg")]}, UnsupportedTargetError),
    ({"histories": [["i1"], []]}, UnsupportedTargetError),
    ({"histories": [["i1"]], "items_to_recommend": ["i2", "nope"]}, UnsupportedTargetError),
    ({"histories": [["i1"], "i2"]}, InvalidInputError),
    ({"histories": "i1"}, InvalidInputError),
    ({"histories": [["i1"]], "k": 0}, InvalidParameterError),
    ({"histories": [["i1"]], "k": True}, InvalidParameterError),
    ({"histories": [["i1"]], "filter_viewed": "yes"}, InvalidParameterError),
    ({"histories": [["i1"]], "items_to_exclude": "i2"}, InvalidInputError),
]


@pytest.mark.parametrize(("arguments", "error"), BAD)
def test_errors_are_those_of_the_recommender(
    reader: OnnxRecommender,
    variant: Callable[..., Recommender],
    arguments: dict[str, Any],
    error: type[Exception],
) -> None:
    with pytest.raises(error) as ours:
        variant().recommend(**arguments)
    with pytest.raises(error) as found:
        reader.recommend(**arguments)
    assert type(found.value) is type(ours.value) is error
    hints = (
        ", or 'popular' to answer by what is popular",
        " Pass on_unsupported_targets='popular' to answer it by what is popular.",
    )
    # An export has no counts of what is popular.
    assert str(found.value) == str(ours.value).replace(hints[0], "").removesuffix(hints[1])


def test_an_id_that_cannot_be_looked_up(reader: OnnxRecommender) -> None:
    with pytest.raises(InvalidInputError, match="ids must be hashable scalars"):
        reader.recommend([[["i1"]]])


def test_unknown_items_are_skipped_with_the_same_words(
    reader: OnnxRecommender, variant: Callable[..., Recommender]
) -> None:
    histories = [["i1", "nope"], ["what"], ["i2", "i3"]]
    said = []
    for ask in (variant().recommend, reader.recommend):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = ask(histories=histories, k=2, on_unsupported_targets="warn")
        assert {w.category for w in caught} == {UnsupportedTargetWarning}
        assert {w.filename for w in caught} == {__file__}
        said.append([str(w.message) for w in caught])
        assert list(found["user_id"]) == [0, 0, 2, 2]
    assert said[0] == said[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet = reader.recommend(histories, k=2, on_unsupported_targets="ignore")
    np.testing.assert_array_equal(quiet["item_id"], found["item_id"])


def test_no_history_gets_no_row(reader: OnnxRecommender) -> None:
    found = reader.recommend([])
    assert {name: len(column) for name, column in found.items()} == {
        "user_id": 0,
        "item_id": 0,
        "score": 0,
        "rank": 0,
    }


def test_generators_and_arrays_are_histories(reader: OnnxRecommender) -> None:
    expected = reader.recommend([["i1", "i2"], ["i3"]], k=3)
    for histories in (
        (row for row in (["i1", "i2"], ["i3"])),
        [np.array(["i1", "i2"]), ("i3",)],
        [pd.Series(["i1", "i2"]), iter(["i3"])],
    ):
        found = reader.recommend(histories, k=3)
        np.testing.assert_array_equal(found["item_id"], expected["item_id"])


def test_reading_from_many_threads(reader: OnnxRecommender) -> None:
    histories = [[f"i{code}"] for code in range(1, 9)]
    expected = [reader.recommend([history], k=3)["item_id"].tolist() for history in histories]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda h: reader.recommend([h], k=3)["item_id"].tolist(), histories * 20)
    assert list(found) == expected * 20


@pytest.mark.parametrize("name", ["model.onnx", "items.json"])
def test_a_damaged_file_is_named(exported: Path, name: str) -> None:
    path = exported / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedModelError) as caught:
        OnnxRecommender(exported)
    assert str(caught.value) == (
        f"{name} of {str(exported)!r} must be as written; "
        "the checksum is another one. Copy the folder again."
    )


@pytest.mark.parametrize("name", ["model.onnx", "items.json"])
def test_an_absent_file_is_named(exported: Path, name: str) -> None:
    (exported / name).unlink()
    with pytest.raises(PersistenceError) as caught:
        OnnxRecommender(exported)
    assert str(caught.value) == f"{str(exported)!r} is not a complete export; it lacks {name}."


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"format": 1}'])
def test_a_folder_that_is_no_export(exported: Path, text: str | None) -> None:
    path = exported / "signature.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(PersistenceError) as caught:
        OnnxRecommender(exported)
    assert str(caught.value) == (
        f"{str(exported)!r} is no export of palate: signature.json cannot be read."
    )


def test_another_format_is_refused(exported: Path) -> None:
    path = exported / "signature.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 1', '"format": 99'))
    with pytest.raises(PersistenceError) as caught:
        OnnxRecommender(exported)
    assert str(caught.value) == (
        "signature.json must have format 1; got 99. Another version of palate wrote this export."
    )


def test_without_onnxruntime(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError) as caught:
        OnnxRecommender(exported)
    assert str(caught.value) == (
        "OnnxRecommender needs the package 'onnxruntime', which is not installed. "
        "Install it with: pip install 'palate[export]'"
    )


def test_threads_are_checked(exported: Path) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        OnnxRecommender(exported, n_threads=0)
    assert str(caught.value) == "n_threads must be an integer of at least 1; got 0."


def test_only_numpy_and_onnxruntime_are_imported(exported: Path) -> None:
    heavy = ["torch", "pandas", "sklearn", "scipy", "pyarrow", "narwhals", "transformers", "onnx"]
    code = (
        "import sys\n"
        f"for name in {heavy!r}: sys.modules[name] = None\n"  # importing one would raise
        "from palate.export import OnnxRecommender\n"
        f"found = OnnxRecommender({str(exported)!r}).recommend([['i1', 'i2']], k=2)\n"
        "print(len(found['item_id']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(palate.__file__).parents[1])},
    )
    assert (done.stdout.strip(), done.stderr) == ("2", "")


def test_names_of_the_package() -> None:
    from palate import export

    assert export.__all__ == ["OnnxRecommender", "to_onnx"]
    with pytest.raises(AttributeError) as caught:
        export.nothing  # noqa: B018
    assert str(caught.value) == "module 'palate.export' has no attribute 'nothing'"


def test_a_truth_value_is_no_number() -> None:
    index = ItemIndex(np.array([1, 0, 7]))
    assert index.codes([True, np.bool_(False), 7]).tolist() == [-1, -1, 2]

"""Paths and options of save and load, ids and content that no file can hold, and those it can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import BertEncoder, Recommender
from palate.exceptions import (
    InvalidInputError,
    InvalidParameterError,
    NotFittedError,
    PersistenceError,
)

NO_PATH: dict[str, Any] = {
    "None": None,
    "number": 3,
    "empty": "",
    "bytes": b"model",
    "list": ["model"],
    "bool": True,
}


@pytest.mark.parametrize("case", list(NO_PATH))
@pytest.mark.parametrize("entry", ["save", "load"])
def test_no_path(entry: str, case: str, learned: Recommender, refused: Any) -> None:
    value = NO_PATH[case]
    refused(
        lambda: learned.save(value) if entry == "save" else Recommender.load(value),
        InvalidParameterError,
        f"folder must be a path; got {value!r}.",
        learned,
    )


@pytest.mark.parametrize("value", ["cpu", {"device": "cpu"}, 3], ids=repr)
@pytest.mark.parametrize("entry", ["load options"])
def test_no_options(entry: str, value: Any, learned: Any, folder: Path, refused: Any) -> None:
    learned.save(folder)
    refused(
        lambda: Recommender.load(folder, options=value),
        InvalidParameterError,
        f"options must be a RunOptions or None; got {value!r}.",
        learned,
    )


def test_nothing_to_save(folder: Path) -> None:
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        Recommender().save(folder)
    assert not folder.exists()


def test_where_nothing_can_be(learned: Recommender, tmp_path: Path, refused: Any) -> None:
    (tmp_path / "file").write_text("mine")
    refused(lambda: learned.save(tmp_path / "file" / "model"), OSError, "[Errno …", learned)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def fitted(options: Any, name: Callable[[int], Any]) -> Recommender:
    model = Recommender(item_encoder="id", dim=4, epochs=0, random_state=0, options=options)
    return model.fit([[name(i) for i in row] for row in ([1, 2, 3], [2, 3], [3, 4])])


# Names of item i that come back from a file as they were, type for type.
KEPT: dict[str, Callable[[int], Any]] = {
    "emoji": lambda i: "🙂" * i,
    "right to left": lambda i: "שלום" + "\u202e" * i,
    "zeros": lambda i: "a" + "\0" * i,
    "empty text": lambda i: "x" * (i - 1),
    "lines": lambda i: "\r\n" * i,
    "text of 100 thousand characters": lambda i: str(i) * 100_000,
    "64 bits without sign": lambda i: np.uint64(2**64 - i),
    "beyond 64 bits": lambda i: 2**70 + i,
    "at the edge of 64 bits": lambda i: 2**63 - 3 + i,
    "infinite": lambda i: np.inf if i == 1 else i / 3,
    "number and its text": lambda i: [1, "1", 2, "2"][i - 1],
    "quotes": lambda i: '"' * i + "'\\",
    "like JSON": lambda i: f'["int", {i}]',
    "bytes": lambda i: bytes([0, 255, i]),
}


@pytest.mark.parametrize("case", list(KEPT))
@pytest.mark.parametrize("entry", ["save and load ids"])
def test_ids_come_back(entry: str, case: str, options: Any, folder: Path) -> None:
    model = fitted(options, KEPT[case])
    model.save(folder)
    loaded = Recommender.load(folder, options=options)
    assert loaded.item_ids_.tolist() == model.item_ids_.tolist()
    assert [type(i) for i in loaded.item_ids_] == [type(i) for i in model.item_ids_]
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))


TYPES = (
    "ids must be of type str, bool, int, float, bytes, uuid, datetime, timestamp, decimal, date "
    "to be saved; got "
)
LOST: dict[str, tuple[Callable[[int], Any], str]] = {
    "tuples": (lambda i: (i, "x"), TYPES + "(1, 'x') of type tuple."),
    "frozen sets": (lambda i: frozenset({i}), TYPES + "frozenset({1}) of type frozenset."),
    "periods": (
        lambda i: pd.Period(f"2024-0{i}"),
        TYPES + "Period('2024-01', 'M') of type Period.",
    ),
    "complex": (lambda i: np.complex128(i), "ids to be saved must hold values of one type that…"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(LOST))
@pytest.mark.parametrize("entry", ["save ids"])
def test_ids_that_cannot_be_written(
    entry: str, case: str, options: Any, folder: Path, refused: Any
) -> None:
    name, message = LOST[case]
    model = fitted(options, name)
    refused(lambda: model.save(folder), PersistenceError, message, model)
    assert list(folder.parent.iterdir()) == []


# A column of content beside the titles, which no file could hold.
UNWRITABLE: dict[str, tuple[Any, str]] = {
    "a text and a truth value": (pd.Series(["a", True], dtype=object), "bool, str"),
    "objects": (pd.Series([object(), object()], dtype=object), "object"),
    "complex": ([1j, 2j], "complex"),
    "intervals": (pd.cut([1, 2], 2), "Interval"),
}


@pytest.mark.parametrize("case", list(UNWRITABLE))
@pytest.mark.parametrize("entry", ["fit items"])
def test_content_that_cannot_be_written(
    entry: str, case: str, options: Any, tiny_bert: str, refused: Any
) -> None:
    values, kinds = UNWRITABLE[case]
    items = pd.DataFrame({"item_id": ["x", "y"], "title": ["a", "b"], "extra": values})
    encoder = BertEncoder(tiny_bert)
    model = Recommender(item_encoder=encoder, dim=4, epochs=0, random_state=0, options=options)
    model.fit([["x", "y"], ["y"]], items=items[["item_id", "title"]])
    refused(
        lambda: model.fit([["x", "y"], ["y"]], items=items),
        InvalidInputError,
        "column 'extra' of items must hold values of one type that a file can hold, so that the "
        f"model can be saved, or be left out; it holds {kinds}.",
        model,
    )


def test_numbers_among_texts_are_saved_as_texts(options: Any, tiny_bert: str, folder: Path) -> None:
    mixed = pd.Series([2.0, "a"], dtype=object)
    items = pd.DataFrame({"item_id": ["x", "y"], "title": ["a", "b"], "extra": mixed})
    encoder = BertEncoder(tiny_bert)
    model = Recommender(item_encoder=encoder, dim=4, epochs=0, random_state=0, options=options)
    model.fit([["x", "y"], ["y"]], items=items).save(folder)
    loaded = Recommender.load(folder, options=options)
    assert loaded._serving.table.frame["extra"].tolist() == ["2", "a"]


def test_columns_named_by_numbers_are_known_after_loading(
    options: Any, tiny_bert: str, folder: Path
) -> None:
    items = pd.DataFrame({"item_id": ["x", "y"], 0: ["red lamp", "blue book"]})
    encoder = BertEncoder(tiny_bert)
    model = Recommender(item_encoder=encoder, dim=4, epochs=0, random_state=0, options=options)
    model.fit([["x", "y"], ["y"]], items=items).save(folder)
    loaded = Recommender.load(folder, options=options)
    more = items.assign(item_id=["p", "q"])
    for other in (model, loaded):
        other.add_items(more)
    np.testing.assert_array_equal(loaded.item_vectors_, model.item_vectors_)

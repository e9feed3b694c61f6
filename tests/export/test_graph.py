"""The graph itself, as a runtime in another language would call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate import Recommender
from palate.export import OnnxRecommender, _graph, to_onnx

DIM = 4


@pytest.fixture
def session(exported: Path) -> Any:
    return OnnxRecommender(exported).session_


def identity_model(catalogue: np.ndarray, metric: str, max_length: int = 3) -> Any:
    """A model whose user vector is the vector of the last item."""
    import onnx
    import onnxruntime

    network = onnx.parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 18]>
        network (float[batch, time, 4] x, bool[batch, time] mask) => (float[batch, time, 4] states)
        { states = Identity (x) }
        """
    )
    tables = {"catalogue": catalogue}
    model = _graph.build(network, tables, pooling="last", metric=metric, max_length=max_length)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def feed(*histories: list[int], padding: int = 0, **more: Any) -> dict[str, np.ndarray]:
    width = max(map(len, histories))
    rows = [history + [padding] * (width - len(history)) for history in histories]
    lengths = np.array([len(history) for history in histories])
    return {"items": np.array(rows, np.int64).reshape(len(rows), width), "lengths": lengths, **more}


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("n_items", [1, 2, 15, 16, 17, 31, 33, 70, 259])
def test_equal_items_come_in_the_order_of_the_catalogue(n_items: int, metric: str) -> None:
    rng = np.random.default_rng(n_items)
    kinds = rng.normal(size=(3, DIM)).astype(np.float32)
    kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
    kind_of = np.arange(n_items) % 3
    session = identity_model(kinds[kind_of], metric)
    for batch in (1, 2, 5):
        histories = [[int(code)] for code in rng.integers(0, n_items, batch)]
        for k in (1, 4, n_items):
            scores, codes, _ = session.run(
                None, feed(*histories, k=np.array([k]), filter_viewed=np.array([False]))
            )
            for row, (code,) in enumerate(histories):
                like = {
                    "cosine": kinds @ kinds[kind_of[code]],
                    "dot": kinds @ kinds[kind_of[code]],
                    "euclidean": -np.linalg.norm(kinds - kinds[kind_of[code]], axis=1),
                }[metric][kind_of]
                order = np.lexsort((np.arange(n_items), -like.round(5)))[:k]
                np.testing.assert_array_equal(codes[row], order)
                np.testing.assert_allclose(scores[row], like[order], atol=1e-6)


def test_the_distance_of_an_item_to_itself_is_zero() -> None:
    # The rough score 2 q.v - |v|**2 alone would leave the root of a rounding error.
    rows = (1000 + np.random.default_rng(0).normal(size=(9, DIM))).astype(np.float32)
    session = identity_model(rows, "euclidean")
    scores, codes, _ = session.run(None, feed([5], filter_viewed=np.array([False])))
    assert (scores[0, 0], codes[0, 0]) == (0.0, 5)
    expected = np.linalg.norm(rows.astype(np.float64) - rows[5], axis=1)
    np.testing.assert_allclose(-scores[0], np.sort(expected), rtol=1e-6)


def test_inputs_with_defaults_may_be_left_out(session: Any) -> None:
    inputs = feed([1, 4], [3])
    short = session.run(None, inputs)
    full = session.run(
        None,
        {
            **inputs,
            "k": np.array([10]),
            "filter_viewed": np.array([True]),
            "exclude": np.zeros((1, 0), np.int64),
        },
    )
    for a, b in zip(short, full, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not {1, 4} & set(short[1][0])


@pytest.mark.parametrize("padding", [0, -1, 5])
def test_what_stands_at_padding_does_not_matter(session: Any, padding: int) -> None:
    alone = session.run(None, feed([5, 2]))
    beside = session.run(None, feed([5, 2], [1, 2, 3, 4, 5, 6, 7, 8], padding=padding))
    np.testing.assert_array_equal(alone[1][0], beside[1][0])
    np.testing.assert_allclose(alone[0][0], beside[0][0], atol=1e-6)


def test_events_before_the_last_are_filtered_and_not_read(session: Any) -> None:
    recent = [1, 2, 3, 4, 5, 6]
    long = session.run(None, feed([9, 8, *recent]))
    short = session.run(None, feed(recent, exclude=np.array([[9, 8]])))
    for a, b in zip(long, short, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_exclusions_of_all_and_of_each_history(session: Any) -> None:
    free = feed([1], [2], filter_viewed=np.array([False]), k=np.array([11]))
    shared = session.run(["codes"], {**free, "exclude": np.array([[3, 7, -1]])})[0]
    each = session.run(["codes"], {**free, "exclude": np.array([[3, -1], [7, 4]])})[0]
    everything = session.run(["codes"], free)[0]
    for row, (one, own) in enumerate([({3, 7}, {3}), ({3, 7}, {7, 4})]):
        for found, gone in ((shared, one), (each, own)):
            expected = [code for code in everything[row] if code not in gone]
            assert found[row].tolist() == expected + [-1] * len(gone)


def test_a_history_of_no_event_gets_no_item(session: Any) -> None:
    scores, codes, vectors = session.run(None, feed([1, 2], []))
    assert (codes[1] == -1).all() and np.isneginf(scores[1]).all()
    assert (codes[0] >= 0).any() and np.isfinite(vectors).all()


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_user_vectors_are_those_of_the_model(
    variant: Callable[..., Recommender], tmp_path: Path, pooling: str
) -> None:
    rec = variant("gru", pooling=pooling)
    session = OnnxRecommender(to_onnx(rec, tmp_path / "export")).session_
    histories = [[1, 2, 3], [4], [1, 2, 3, 4, 5, 6, 7]]
    found = session.run(["user_vectors"], feed(*histories))[0]
    ids = [[rec.item_ids_[code] for code in history] for history in histories]
    np.testing.assert_allclose(found, rec.transform(ids), atol=1e-5)


def test_the_signature_describes_the_graph(exported: Path, session: Any) -> None:
    signature = json.loads((exported / "signature.json").read_text(encoding="utf-8"))
    assert {i.name for i in session.get_inputs()} | {
        i.name for i in session.get_overridable_initializers()
    } == set(signature["inputs"])
    assert [o.name for o in session.get_outputs()] == list(signature["outputs"])
    kinds = {"tensor(int64)": "int64", "tensor(float)": "float32", "tensor(bool)": "bool"}
    for value in (*session.get_inputs(), *session.get_outputs()):
        said = {**signature["inputs"], **signature["outputs"]}[value.name]
        assert kinds[value.type] == said["dtype"]
        assert len(value.shape) == len(said["shape"])
    assert {k: signature[k] for k in ("n_items", "dim", "pooling", "metric", "max_length")} == {
        "n_items": 11,
        "dim": 8,
        "pooling": "last",
        "metric": "cosine",
        "max_length": 6,
    }
    assert signature["sha256"].keys() == {"model.onnx", "items.json"}


def test_the_catalogue_is_of_unit_norm(exported: Path) -> None:
    import onnx

    model = onnx.load(exported / "model.onnx")
    tables = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_allclose(np.linalg.norm(tables["catalogue"], axis=1), 1, atol=1e-6)
    assert tables["catalogue"].shape == (11, 8)
    assert [o.version for o in model.opset_import if o.domain == ""] == [_graph.OPSET]

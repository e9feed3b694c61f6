"""The exact ranker: scikit-learn's conventions, extension, sharing and threads."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors

from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.ops.topk import topk
from palate.ranking import CosineRanker
from palate.ranking.exact import STORAGES


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_hand_worked_answer():
    items = torch.tensor([[2.0, 0.0], [0.0, 5.0], [3.0, 4.0]])
    found = CosineRanker().fit(items).topk(torch.tensor([[1.0, 0.0]]), 3)
    assert found.indices.tolist() == [[0, 2, 1]]
    assert found.scores[0].tolist() == pytest.approx([1.0, 0.6, 0.0])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_kneighbors_agrees_with_scikit_learn(metric):
    x, q = draw(0, 300, 7).double(), draw(1, 9, 7).double()
    expected = NearestNeighbors(metric=metric).fit(x.numpy()).kneighbors(q.numpy(), 6)
    found = CosineRanker(metric=metric).fit(x).kneighbors(q, 6)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


@pytest.mark.parametrize("storage", STORAGES)
def test_many_small_extensions_equal_one_fit(storage):
    x, q = draw(2, 500, 6), draw(3, 4, 6)
    whole = CosineRanker(storage=storage).fit(x)
    grown = CosineRanker(storage=storage).fit(x[:0])
    for part in x.split(7):
        grown.extend(part)
    assert grown.n_items_ == whole.n_items_ == 500
    assert len(grown.catalogue_.segments) <= 10
    for exclude in (None, ([0, 3], [499, 250])):
        a, b = whole.topk(q, 20, exclude=exclude), grown.topk(q, 20, exclude=exclude)
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.scores, b.scores)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_extending_a_copy_leaves_the_original_alone(storage, metric):
    x, q = draw(4, 90, 5), draw(5, 3, 5)
    ranker = CosineRanker(metric=metric, storage=storage).fit(x)
    before = ranker.topk(q, 8)
    kept = [segment.vectors.clone() for segment in ranker.catalogue_.segments]
    other = copy.copy(ranker).extend(q * 100)
    assert other.n_items_ == 93
    assert other.topk(q, 1).indices[:, 0].tolist() == [90, 91, 92]
    assert ranker.n_items_ == 90
    assert torch.equal(ranker.topk(q, 8).scores, before.scores)
    for old, now in zip(kept, ranker.catalogue_.segments, strict=True):
        assert torch.equal(old, now.vectors)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_the_catalogue_is_a_copy(metric):
    x, q = draw(6, 40, 5), draw(7, 3, 5)
    ranker = CosineRanker(metric=metric).fit(x)
    before = ranker.topk(q, 4)
    x.zero_()
    assert torch.equal(ranker.topk(q, 4).scores, before.scores)


def test_readers_in_threads_while_a_copy_grows():
    x, q = draw(8, 4000, 16), draw(9, 5, 16)
    ranker = CosineRanker().fit(x)
    expected = ranker.topk(q, 10)
    wrong: list[int] = []

    def read() -> None:
        for _ in range(40):
            if not torch.equal(ranker.topk(q, 10).indices, expected.indices):
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    copied = copy.copy(ranker)
    for _ in range(20):
        copied.extend(q)
    for thread in threads:
        thread.join()
    assert not wrong
    assert copied.n_items_ == 4100


def test_numpy_input_and_the_pure_function_agree():
    x, q = draw(10, 60, 4), draw(11, 3, 4)
    found = CosineRanker().fit(x.numpy()).topk(q.numpy(), 5)
    plain = topk(q, x, 5)
    assert torch.equal(found.indices, plain.indices)
    assert torch.equal(found.scores, plain.scores)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_searched_ranker_can_be_pickled_and_copied(storage):
    x, q = draw(12, 60, 4), draw(13, 3, 4)
    ranker = CosineRanker(storage=storage).fit(x)
    before = ranker.topk(q, 5)
    for other in (pickle.loads(pickle.dumps(ranker)), copy.deepcopy(ranker)):
        assert torch.equal(other.topk(q, 5).scores, before.scores)


def test_init_only_stores_and_clone_works():
    ranker = CosineRanker(metric="dot", storage="int8", item_block=77, memory_budget=10**6)
    assert clone(ranker).get_params() == ranker.get_params()
    assert set(vars(ranker)) == {"metric", "storage", "item_block", "memory_budget"}
    with pytest.raises(NotFittedError):
        ranker.topk(torch.ones(1, 2), 1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"metric": "l1"}, "metric must be one of 'cosine', 'dot', 'euclidean'; got 'l1'."),
        (
            {"storage": "int4"},
            "storage must be one of 'float32', 'float16', 'bfloat16', 'int8'; got 'int4'.",
        ),
        ({"item_block": 0}, "item_block must be an integer of at least 1; got 0."),
        ({"memory_budget": -1}, "memory_budget must be an integer of at least 1; got -1."),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(InvalidParameterError) as error:
        CosineRanker(**parameters).fit(torch.ones(3, 2))
    assert str(error.value) == message


def test_wrong_vectors():
    ranker = CosineRanker().fit(torch.ones(3, 2))
    with pytest.raises(InvalidInputError) as error:
        ranker.extend(torch.ones(1, 5))
    assert str(error.value) == "vectors must have 2 columns; got 5."
    with pytest.raises(InvalidInputError) as error:
        ranker.topk(torch.ones(4), 1)
    assert str(error.value) == (
        "queries must be two-dimensional floats; got torch.float32 of shape (4,)."
    )
    with pytest.raises(InvalidInputError) as error:
        ranker.extend(torch.tensor([[1.0, 1.0], [float("nan"), 0.0]]))
    assert str(error.value) == "vectors must be finite numbers; got nan in row 1."
    with pytest.raises(InvalidInputError) as error:
        ranker.kneighbors(torch.ones(1, 2), 4)
    assert str(error.value) == "n_neighbors must be at most the 3 items; got 4."

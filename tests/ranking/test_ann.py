"""The approximate ranker against the exact one."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch

from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.ranking import ApproximateRanker, CosineRanker

METRICS = ["cosine", "dot", "euclidean"]


def clustered(seed: int, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(12, 9, generator=torch.Generator().manual_seed(0))
    choice = torch.randint(0, 12, (n,), generator=generator)
    return centres[choice] + 0.3 * torch.randn(n, 9, generator=generator)


@pytest.fixture(autouse=True)
def _faiss():
    pytest.importorskip("faiss", reason="the extra palate[ann] is not installed")


@pytest.mark.parametrize("metric", METRICS)
def test_reading_every_list_is_exact(metric):
    x, q = clustered(1, 800), clustered(2, 7)
    exact = CosineRanker(metric=metric).fit(x)
    ranker = ApproximateRanker(metric=metric, n_lists=6, n_probe=6).fit(x[:500]).extend(x[500:])
    filters = {"exclude": ([0, 0, 6], [*exact.topk(q, 2).indices[0].tolist(), 3])}
    for options in ({}, filters, {"include": torch.arange(0, 800, 3)}):
        a, b = exact.topk(q, 11, **options), ranker.topk(q, 11, **options)
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.scores, b.scores)
    assert ranker.recall(q, 11) == 1.0


def test_recall_counts_what_is_found():
    x, q = clustered(3, 3000), clustered(4, 50)
    few = ApproximateRanker(n_lists=50, n_probe=1).fit(x)
    more = ApproximateRanker(n_lists=50, n_probe=10).fit(x)
    exact, found = few.exact_.topk(q, 10).indices.tolist(), few.topk(q, 10).indices.tolist()
    by_hand = sum(len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)) / 500
    assert few.recall(q, 10) == by_hand
    assert by_hand < more.recall(q, 10)
    assert more.recall(q, 10) > 0.95


def test_the_same_seed_gives_the_same_lists():
    x, q = clustered(5, 900), clustered(6, 5)
    first, second = (ApproximateRanker(n_probe=2).fit(x).topk(q, 9) for _ in range(2))
    assert torch.equal(first.indices, second.indices)


def test_extending_a_copy_leaves_the_original_alone():
    x, q = clustered(7, 200), clustered(8, 4)
    ranker = ApproximateRanker(n_lists=3, n_probe=3).fit(x)
    before = ranker.topk(q, 5)
    other = copy.copy(ranker).extend(q)
    assert other.topk(q, 1).indices[:, 0].tolist() == [200, 201, 202, 203]
    assert ranker.n_items_ == 200
    assert torch.equal(ranker.topk(q, 5).indices, before.indices)


def test_growing_from_nothing_learns_lists_again():
    x = clustered(9, 400)
    ranker = ApproximateRanker(n_probe=20).fit(x[:0])
    assert ranker.topk(x[:3], 2).indices.tolist() == [[-1, -1]] * 3
    for part in x.split(50):
        ranker.extend(part)
    assert ranker.index_.nlist > 1
    assert ranker.topk(x, 1).indices[:, 0].tolist() == list(range(400))


def test_rows_that_run_out():
    x = clustered(10, 5)
    found = ApproximateRanker().fit(x).topk(x[:2], 8, exclude=([0], [0]))
    assert (found.indices[0] >= 0).sum() == 4
    assert found.indices[1, 5:].tolist() == [-1] * 3
    assert found.scores[1, 5:].tolist() == [-torch.inf] * 3
    distances, codes = ApproximateRanker().fit(x).kneighbors(x, 2)
    assert codes[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert distances[:, 0] == pytest.approx([0] * 5, abs=1e-6)


def test_without_faiss_the_error_has_the_pip_line(monkeypatch):
    original = importlib.import_module

    def hide(name: str, *args: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(importlib, "import_module", hide)
    with pytest.raises(ImportError) as error:
        ApproximateRanker().fit(clustered(11, 4))
    assert str(error.value) == (
        "ApproximateRanker needs the package 'faiss', which is not installed. "
        "Install it with: pip install 'palate[ann]'"
    )


@pytest.mark.parametrize(
    ("include", "error", "text"),
    [
        (torch.arange(30) >= 9, InvalidParameterError, "include must be one-dimensional integers"),
        ([1.9], InvalidParameterError, "include must be one-dimensional integers"),
        ([30, 5], InvalidInputError, "include must be in [0, 30); got 30."),
        ([-1, 5], InvalidInputError, "include must be in [0, 30); got -1."),
    ],
    ids=["mask", "fraction", "beyond", "negative"],
)
def test_only_codes_may_be_included(include: Any, error: type[Exception], text: str) -> None:
    vectors = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    for ranker in (ApproximateRanker(n_lists=1), CosineRanker()):
        with pytest.raises(error) as caught:
            ranker.fit(vectors).topk(vectors[:1], 2, include=include)
        assert str(caught.value).startswith(text)


def test_the_metric_of_the_catalogue_stays():
    ranker = ApproximateRanker(metric="euclidean").fit(torch.randn(20, 4))
    ranker.set_params(metric="cosine")
    for call in (
        lambda: ranker.topk(torch.randn(1, 4), 1),
        lambda: ranker.extend(torch.randn(1, 4)),
        lambda: ranker.kneighbors(torch.randn(1, 4), 1),
    ):
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == "metric must be the catalogue's, 'euclidean'; got 'cosine'."

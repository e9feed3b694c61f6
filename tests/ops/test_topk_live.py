"""The one call that answers a live request: the same bits as the general search."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from palate.exceptions import InvalidInputError
from palate.ops import topk as topk_module
from palate.ops._topk_catalogue import new_catalogue
from palate.ops._topk_library import load
from palate.ops._topk_live import live_segment
from palate.ops.topk import topk

pytestmark = pytest.mark.skipif(
    load() is None, reason="the top-k kernel is not compiled for this machine"
)


def vectors(n, dim, seed=0):
    """Return random rows, some of them equal, so that there are ties."""
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    rows[n // 2 :: 7] = rows[0].clone()
    return rows


def both(monkeypatch, queries, catalogue, k, **options):
    """Return the answer of the live call, and of the general search."""
    assert live_segment(queries, catalogue, k) is not None
    live = topk(queries, catalogue, k, metric=catalogue.metric, **options)
    with monkeypatch.context() as patch:
        patch.setattr(topk_module, "live_segment", lambda *_: None)
        general = topk(queries, catalogue, k, metric=catalogue.metric, **options)
    return live, general


def check_equal(live, general):
    np.testing.assert_array_equal(live.indices, general.indices)
    np.testing.assert_array_equal(
        live.scores.numpy().view(np.int32), general.scores.numpy().view(np.int32)
    )


@pytest.mark.parametrize("n_items", [1, 9, 1500, 40_000])
@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_the_general_search_gives_the_same_bits(monkeypatch, metric, storage, n_items):
    dim = 33
    catalogue = new_catalogue(vectors(n_items, dim), metric, storage)
    for n in range(1, 9 if storage == "int8" else 3):
        queries = vectors(n, dim, seed=n)
        for k in (1, 5, 60):
            check_equal(*both(monkeypatch, queries, catalogue, k))


def test_filters_hold(monkeypatch):
    catalogue = new_catalogue(vectors(5000, 12), "cosine", "float32")
    queries = vectors(2, 12, seed=3)
    seen = torch.arange(0, 5000, 3)
    pairs = torch.cat([torch.zeros(len(seen)), torch.ones(7)]).long(), torch.cat([seen, seen[:7]])
    live, general = both(
        monkeypatch, queries, catalogue, 40, exclude=pairs, include=torch.arange(100, 4900)
    )
    check_equal(live, general)
    assert not set(live.indices[0].tolist()) & set(seen.tolist())
    assert int(live.indices.min()) >= 100
    live, general = both(monkeypatch, queries, catalogue, 3, exclude=([0] * 5000, range(5000)))
    check_equal(live, general)
    assert live.indices[0].tolist() == [-1, -1, -1]


def test_a_strided_query_is_read_as_it_is(monkeypatch):
    catalogue = new_catalogue(vectors(800, 6), "dot", "float32")
    wide = vectors(2, 12, seed=1)
    live, general = both(monkeypatch, wide[:, ::2], catalogue, 4)
    check_equal(live, general)


def test_what_is_not_finite_or_too_long_is_left_to_the_general_search(monkeypatch):
    catalogue = new_catalogue(vectors(50, 3), "dot", "float32")
    queries = torch.ones(2, 3)
    queries[1, 2] = float("nan")
    with pytest.raises(InvalidInputError) as caught:
        topk(queries, catalogue, 2, metric="dot")
    assert str(caught.value) == "queries must be finite numbers; got nan in row 1."
    check_equal(*both(monkeypatch, torch.full((1, 3), 1e25), catalogue, 4))


@pytest.mark.parametrize("queries", [torch.ones(3, 4), torch.ones(1, 4).double(), torch.ones(0, 4)])
def test_batches_and_other_dtypes_take_the_general_search(queries):
    assert live_segment(queries, new_catalogue(vectors(9, 4), "dot", "float32"), 2) is None


def test_many_callers_at_once_get_their_own_answers():
    catalogue = new_catalogue(vectors(30_000, 40), "cosine", "float32")
    queries = vectors(64, 40, seed=5)
    alone = [topk(query[None], catalogue, 9).indices for query in queries]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            found = pool.map(lambda query: topk(query[None], catalogue, 9).indices, queries)
            assert all(map(torch.equal, found, alone))


def answer_in_child(sender, query, catalogue):
    sender.send(topk(query, catalogue, 7).indices.tolist())


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform"
)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_starts_its_own_threads():
    catalogue = new_catalogue(vectors(60_000, 24), "cosine", "float32")
    query = vectors(1, 24, seed=2)
    here = topk(query, catalogue, 7).indices.tolist()  # the threads of this process run now
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=answer_in_child, args=(sender, query, catalogue))
        child.start()
        assert receiver.poll(30)
        assert receiver.recv() == here
        child.join(30)
        assert child.exitcode == 0

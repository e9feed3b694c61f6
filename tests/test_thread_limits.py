"""`n_jobs`: threads of a call, of no other thread, and no longer than the call."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from palate import CosineRanker, Recommender, RunOptions, _threads
from palate._threads import ForkedLock, resolved_threads, torch_threads
from palate.exceptions import InvalidParameterError

N = torch.get_num_threads()


def in_new_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_the_meaning_of_n_jobs() -> None:
    n_cores = joblib.cpu_count()
    assert resolved_threads(None) is None
    assert [resolved_threads(n) for n in (1, 7)] == [1, 7]
    assert resolved_threads(-1) == n_cores
    assert resolved_threads(-2) == max(1, n_cores - 1)
    assert resolved_threads(-1000) == 1


@pytest.mark.parametrize("wrong", [0, 1.5, "2", True])
def test_n_jobs_is_checked(wrong: Any) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        RunOptions(n_jobs=wrong)
    assert str(caught.value) == f"n_jobs must be None or an integer other than 0; got {wrong!r}."


@pytest.fixture(params=["local", "global"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to set threads; the second is for a torch whose OpenMP is out of reach."""
    if request.param == "global":
        monkeypatch.setattr(_threads, "_local_setters", lambda: None)
    elif _threads._local_setters() is None:
        pytest.skip("this torch has no settings of one thread")
    return str(request.param)


def test_a_block_has_its_threads_and_gives_them_back(way: str) -> None:
    with torch_threads(N + 2):
        assert torch.get_num_threads() == N + 2
        with torch_threads(N + 1):
            assert torch.get_num_threads() == N + 1
        with torch_threads(None):
            assert torch.get_num_threads() == N + 2
    assert torch.get_num_threads() == N
    with pytest.raises(KeyError), torch_threads(N + 1):
        raise KeyError
    assert torch.get_num_threads() == N
    assert in_new_thread(torch.get_num_threads) == N


def test_a_thread_that_starts_meanwhile_is_not_changed() -> None:
    if _threads._local_setters() is None:
        pytest.skip("this torch has no settings of one thread")
    with torch_threads(N + 2):
        assert in_new_thread(torch.get_num_threads) == N


def test_calls_in_threads_do_not_meet() -> None:
    if _threads._local_setters() is None:
        pytest.skip("this torch has no settings of one thread")
    wrong: list[Any] = []
    start = threading.Barrier(6)

    def call(n: int) -> None:
        start.wait()
        for _ in range(200):
            before = torch.get_num_threads()
            with torch_threads(n):
                found = torch.get_num_threads()
            if (before, found, torch.get_num_threads()) != (N, n, N):
                wrong.append((n, before, found))

    threads = [threading.Thread(target=call, args=(n,)) for n in (1, 2, 3, 4, 5, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert in_new_thread(torch.get_num_threads) == N


class Asking(CosineRanker):
    """A ranker that notes how many threads its search has."""

    asked: list[int] = []

    def topk(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(torch.get_num_threads())
        return super().topk(*args, **kwargs)


def test_every_call_of_the_model_has_its_threads(
    make_recommender: Callable[..., Recommender], events: pd.DataFrame
) -> None:
    heard: list[int] = []
    options = RunOptions(
        device="cpu",
        progress=False,
        n_jobs=N + 1,
        on_epoch_end=lambda record: heard.append(torch.get_num_threads()),
    )
    model = make_recommender(ranker=Asking(), options=options)
    model.fit(events).partial_fit(events[:3])
    assert heard == [N + 1] * 2
    Asking.asked.clear()
    model.recommend(k=1)
    model.predict(events, k=1)
    model.recommend_to_items(["i1"], k=1)
    with pytest.warns(UserWarning, match="are older than"):
        model.score(events)
    assert Asking.asked == [N + 1] * 4
    assert torch.get_num_threads() == N
    model.set_params(options=RunOptions(device="cpu")).recommend(k=1)
    assert Asking.asked[4:] == [N]


def test_the_answer_does_not_depend_on_threads(
    make_recommender: Callable[..., Recommender], events: pd.DataFrame
) -> None:
    found = []
    for n_jobs in (1, 2, None):
        options = RunOptions(device="cpu", progress=False, n_jobs=n_jobs)
        found.append(make_recommender(options=options).fit(events).item_vectors_)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-6)


def test_a_lock_is_free_in_a_forked_process() -> None:
    lock = ForkedLock()
    entered = []
    with lock.held:
        ForkedLock.renew_all()  # what a fork does in the child
        with lock.held:
            entered.append(True)
    with lock.held:
        assert lock.held.locked()
    assert entered == [True]
    assert not lock.held.locked()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX are needed")
def test_an_interrupt_on_the_way_out_leaves_the_lock_free() -> None:
    """The signal comes during a product, after which nothing but leaving the block is left."""
    lock, square = ForkedLock(), np.ones((600, 600))

    def multiply(times: int) -> None:
        for _ in range(times):
            with lock.held:
                square @ square

    began = time.perf_counter()
    multiply(3)
    product = (time.perf_counter() - began) / 3
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(5):
            signal.setitimer(signal.ITIMER_REAL, product / 2)
            with pytest.raises(KeyboardInterrupt):
                multiply(1000)
            assert not lock.held.locked()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

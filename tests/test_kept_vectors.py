"""Vectors that are kept by user code: against a dictionary, and from many threads."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate import kept_vectors
from palate.kept_vectors import KeptVectors

WIDTH = 3
CODES = st.lists(st.integers(0, 30), max_size=6, unique=True)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "hand over"]), CODES), max_size=12)


def vectors_of(users, version):
    """A vector that tells whose it is, and of which version."""
    rows = [[user, version, user * 100 + version] for user in users]
    return torch.tensor(rows, dtype=torch.float32).view(-1, WIDTH)


@pytest.fixture(autouse=True, params=[4, 16_384])
def part(request, monkeypatch):
    """How many neighbouring users lie in one tensor."""
    monkeypatch.setattr(kept_vectors, "_PART", request.param)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_it_is_a_dictionary_by_user(steps):
    kept, expected = KeptVectors(), {}
    for version, (what, codes) in enumerate(steps):
        users = np.array(codes, np.int64)
        if what == "put":
            kept.put(users, vectors_of(codes, version))
            expected |= dict(zip(codes, vectors_of(codes, version), strict=True))
        else:
            before, kept = kept, kept.hand_over(users)
            expected = {user: row for user, row in expected.items() if user not in codes}
            assert len(before) == 0
            assert before.find(np.arange(9))[0] is None
        assert len(kept) == len(expected)
        asked = np.arange(40)[::-1].copy()
        found, known = kept.find(asked)
        assert known.tolist() == [user in expected for user in asked.tolist()]
        assert (found is None) == (not expected)
        for place in np.flatnonzero(known):
            assert torch.equal(found[place], expected[int(asked[place])])


def test_what_is_found_is_a_copy():
    kept = KeptVectors()
    kept.put(np.array([1]), vectors_of([1], 0))
    kept.find(np.array([1]))[0].zero_()
    assert torch.equal(kept.find(np.array([1]))[0], vectors_of([1], 0))


def test_users_asked_for_twice_and_nobody():
    kept = KeptVectors()
    kept.put(np.array([1, 1]), vectors_of([1, 1], 0))
    found, known = kept.find(np.array([1, 0, 1]))
    assert known.tolist() == [True, False, True]
    assert torch.equal(found[known], vectors_of([1, 1], 0))
    assert kept.find(np.empty(0, np.int64))[0] is None


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda k: pickle.loads(pickle.dumps(k))]
)
def test_copies_start_with_none(copied):
    kept = KeptVectors()
    kept.put(np.array([1]), vectors_of([1], 0))
    assert len(copied(kept)) == 0
    assert len(kept) == 1


def test_from_many_threads_nobody_sees_what_has_moved_or_half_of_it():
    n_users, n_versions = 7, 300
    states = [(KeptVectors(), np.zeros(n_users, int))]
    stop, wrong = threading.Event(), []

    def read(seed):
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            kept, versions = states[-1]
            users = rng.integers(0, n_users, 4)
            found, known = kept.find(users)
            expected = torch.cat([vectors_of([u], versions[u]) for u in users])
            if found is not None and not torch.equal(found[known], expected[known]):
                wrong.append((found, expected))
            missing = np.flatnonzero(~known)
            kept.put(users[missing], expected[missing])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for step in range(n_versions):
        kept, versions = states[-1]
        moved = np.array([step % n_users, (step * 3) % n_users])
        versions = versions.copy()
        versions[moved] += 1
        states.append((kept.hand_over(moved), versions))
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong

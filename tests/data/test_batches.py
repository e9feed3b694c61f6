import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.batches import cut_windows, iterate_batches
from palate.data.histories import Histories


def make_histories(lengths, weighted=False):
    """Histories whose item at flat place p is p, and whose weight is p + 0.5."""
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.arange(indptr[-1])
    weights = (items + 0.5).astype(np.float32) if weighted else None
    return Histories(indptr, items, None, weights, n_users=len(lengths))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    max_length=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_every_event_but_the_first_is_a_target_once(lengths, max_length, seed):
    histories = make_histories(lengths)
    users = np.arange(len(lengths))
    windows = cut_windows(histories, users, max_length, generator(seed))
    assert (windows.lengths >= 1).all()
    assert (windows.lengths <= max_length).all()
    targets = [
        target
        for start, length in zip(windows.starts, windows.lengths, strict=True)
        for target in range(start + 1, start + length + 1)
    ]
    # Item p is flat place p: targets are the places of no first event, in order, each once.
    first = set(histories.indptr[:-1].tolist())
    assert targets == [place for place in range(len(histories.items)) if place not in first]
    # A window lies inside one history, its last target included.
    owner = np.repeat(users, lengths)
    assert (owner[windows.starts] == owner[windows.starts + windows.lengths]).all()


def test_histories_that_fit_are_not_cut():
    windows = cut_windows(make_histories([4, 1, 6]), np.arange(3), 5, generator())
    assert windows.starts.tolist() == [0, 5]
    assert windows.lengths.tolist() == [3, 5]


def test_cuts_move_from_call_to_call():
    source, shared = make_histories([30]), generator()
    cuts = {tuple(cut_windows(source, np.arange(1), 8, shared).starts) for _ in range(40)}
    assert len(cuts) == 8


def test_only_the_users_asked_for():
    windows = cut_windows(make_histories([3, 4, 5]), np.array([2]), 9, generator())
    assert windows.starts.tolist() == [7]
    assert len(cut_windows(make_histories([1, 0]), np.arange(2), 9, generator())) == 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_hold_every_window_once(weighted, batch_size):
    lengths = np.random.default_rng(0).integers(0, 30, 40)
    histories = make_histories(lengths, weighted)
    windows = cut_windows(histories, np.arange(40), 7, generator())
    seen = []
    for batch in iterate_batches(windows, batch_size, generator(1)):
        n_rows, n_steps = batch.codes.shape
        assert 1 <= n_rows <= batch_size
        assert batch.mask.any(0).all()  # as wide as its longest row
        for row in range(n_rows):
            size = int(batch.mask[row].sum())
            assert batch.mask[row].tolist() == [step < size for step in range(n_steps)]
            codes, targets = batch.codes[row], batch.targets[row]
            assert targets[:size].tolist() == [code + 1 for code in codes[:size].tolist()]
            right = [target + 0.5 if weighted else 1.0 for target in targets[:size].tolist()]
            assert batch.weights[row, :size].tolist() == right
            for padded in (codes, targets, batch.weights[row]):
                assert not padded[size:].any()
            seen.append((int(codes[0]), size))
    right = zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True)
    assert sorted(seen) == sorted(right)


def test_the_order_is_random_and_from_the_generator_alone():
    histories = make_histories([3] * 50)
    windows = cut_windows(histories, np.arange(50), 7, generator())

    def order(seed):
        return [b.codes[:, 0].tolist() for b in iterate_batches(windows, 4, generator(seed))]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_batches_waste_little_padding():
    lengths = np.random.default_rng(0).integers(2, 52, 2000)
    windows = cut_windows(make_histories(lengths), np.arange(2000), 50, generator())
    masks = [batch.mask for batch in iterate_batches(windows, 32, generator())]
    real = sum(int(mask.sum()) for mask in masks)
    assert real / sum(mask.numel() for mask in masks) > 0.9  # unsorted: about 0.52


def test_a_batch_moves_whole():
    windows = cut_windows(make_histories([3, 4]), np.arange(2), 7, generator())
    batch = next(iterate_batches(windows, 2, generator())).to(torch.device("meta"))
    assert batch.gaps is None
    assert batch.distances is None
    assert {part.device.type for part in vars(batch).values() if part is not None} == {"meta"}

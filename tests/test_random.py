import numpy as np
import pytest
import torch

from palate._random import ModuleSeed, draw_seed, torch_generator


def test_an_integer_always_gives_the_same_seed():
    assert draw_seed(3) == draw_seed(3)
    assert len({draw_seed(seed) for seed in range(50)}) == 50
    assert 0 <= draw_seed(3) < 2**31


def test_a_random_state_moves_on_and_none_follows_the_global_one():
    state = np.random.RandomState(0)
    assert draw_seed(state) != draw_seed(state)
    kept = np.random.get_state()
    try:
        np.random.seed(5)
        first = draw_seed(None)
        np.random.seed(5)
        assert draw_seed(None) == first
    finally:
        np.random.set_state(kept)
    with pytest.raises(ValueError):
        draw_seed("seed")


def test_streams_are_reproducible_and_different():
    def draw(*key):
        return torch.rand(4, generator=torch_generator(*key)).tolist()

    assert draw(7, 1) == draw(7, 1)
    keys = [(7, 0), (7, 1), (7, 2), (8, 1), (7, 1, 1), (7, 0, 1), (2**31 - 2, 3)]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)


def test_no_seed_touches_the_global_state():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    draw_seed(3)
    torch.rand(2, generator=torch_generator(3, 1))
    with ModuleSeed(3):
        torch.rand(2)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state[1])


def test_the_context_seeds_and_restores_after_an_error_too():
    def inside():
        with ModuleSeed(4):
            return torch.rand(3).tolist()

    assert inside() == inside()
    state = torch.get_rng_state()
    with pytest.raises(IndexError), ModuleSeed(4):
        torch.rand(2)[5]
    assert torch.equal(torch.get_rng_state(), state)

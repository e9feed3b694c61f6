import numpy as np
import pytest
import torch

from palate.ops.affine import fit_affine


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_finds_the_map_that_there_is(dtype):
    generator = torch.Generator().manual_seed(0)
    x = (2 * torch.randn(50, 4, generator=generator) + 5).to(dtype)
    weight = torch.randn(3, 4, generator=generator).to(dtype)
    bias = torch.randn(3, generator=generator).to(dtype)
    found = fit_affine(x, x @ weight.T + bias)
    assert found[0].dtype == found[1].dtype == dtype
    torch.testing.assert_close(x @ found[0].T + found[1], x @ weight.T + bias, rtol=0, atol=5e-3)


def test_it_is_the_nearest_of_all():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 4, generator=generator)
    y = torch.randn(30, 2, generator=generator)
    weight, bias = fit_affine(x, y)
    wide = np.c_[x.double().numpy(), np.ones(30)]
    expected, *_ = np.linalg.lstsq(wide, y.double().numpy(), rcond=None)
    np.testing.assert_allclose(weight.T, expected[:-1], atol=1e-3)
    np.testing.assert_allclose(bias, expected[-1], atol=1e-3)


def test_what_tells_nothing_counts_nothing():
    x = torch.zeros(5, 3)
    x[:, 1] = torch.arange(5.0)
    weight, bias = fit_affine(x, torch.ones(5, 2))
    assert weight.tolist() == [[0.0] * 3] * 2
    assert bias.tolist() == [1.0, 1.0]
    weight, bias = fit_affine(torch.ones(1, 3), torch.full((1, 2), 4.0))
    assert (weight.tolist(), bias.tolist()) == ([[0.0] * 3] * 2, [4.0, 4.0])

"""The affine map that comes nearest to given outputs."""

from __future__ import annotations

import torch
from torch import Tensor

_RIDGE = 1e-4  # of the sum of squares of a column, in the mean
_LEAST = 1e-12  # where there is nothing but zeros


def fit_affine(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight and bias by which ``x @ weight.T + bias`` is nearest to `y`.

    Least squares with a ridge (Hoerl and Kennard, "Ridge Regression", Technometrics, 1970) of a
    ten-thousandth of what the squares of a centred column sum to, in the mean of columns, in
    float64: columns of zeros get weights of zero.

    Parameters
    ----------
    x : float Tensor of shape (n_rows, n_in)
        At least one row.
    y : float Tensor of shape (n_rows, n_out)

    Returns
    -------
    weight : Tensor of shape (n_out, n_in)
        In the dtype of `y`, as a `torch.nn.Linear` has it.
    bias : Tensor of shape (n_out,)

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> weight, bias = fit_affine(x, 3 * x + 1)
    >>> weight.round(decimals=2), bias.round(decimals=2)
    (tensor([[3.]]), tensor([1.]))
    """
    inputs, outputs = x.double(), y.double()
    middle, target = inputs.mean(0), outputs.mean(0)
    inputs = inputs - middle
    products = inputs.T @ inputs
    products.diagonal().add_((_RIDGE * products.diagonal().mean()).clamp_min(_LEAST))
    weight = torch.linalg.solve(products, inputs.T @ (outputs - target)).T
    return weight.to(y.dtype), (target - weight @ middle).to(y.dtype)

"""The one canonical score of a (query, item) pair, whatever screened the candidates.

Float32 products differ in the last bits with the blocking, so every back end only *screens* with
them, keeps what lies within a proven rounding bound of the k-th score, and scores the few that are
left here: float64 terms, summed by halving, rounded once to float32. Halving is an order that any
device can follow with plain additions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: Largest magnitude of a screened product; beyond it float32 could overflow.
SCREEN_LIMIT = 1e36
FLOAT32_MAX = torch.finfo(torch.float32).max
_EPS = 2.0**-24
_UNDERFLOW = 2.0**-120


def tree_sum(terms: Tensor) -> Tensor:
    """Sum the last axis by halving: ``t[i] + t[i + h]`` for h = P/2, ..., 1.

    Parameters
    ----------
    terms : Tensor of shape (..., n)
        Padded with zeros to the next power of two, P.

    Returns
    -------
    Tensor of shape (...)

    Examples
    --------
    >>> tree_sum(torch.tensor([1.0, 2.0, 3.0]))
    tensor(6.)
    """
    n = terms.shape[-1]
    if n == 0:
        return terms.new_zeros(terms.shape[:-1])
    while n > 1:
        half = 1 << ((n - 1).bit_length() - 1)
        head = terms[..., :half].clone()
        head[..., : n - half] += terms[..., half:n]
        terms, n = head, half
    return terms[..., 0] + 0.0


def exact_sqrt(x: Tensor) -> Tensor:
    """Return correctly rounded square roots of a float64 tensor.

    On a CPU torch may call a vector library whose last bit is not exact; numpy's instruction is.

    Examples
    --------
    >>> exact_sqrt(torch.tensor([9.0], dtype=torch.float64))
    tensor([3.], dtype=torch.float64)
    """
    return torch.from_numpy(np.sqrt(x.numpy())) if x.is_cpu else x.sqrt()


def canonical_scores(queries: Tensor, items: Tensor, metric: str) -> Tensor:
    """Score rows of `queries` against the same rows of `items`.

    Parameters
    ----------
    queries, items : float Tensors of shape (n, dim)
        Paired row by row; for ``"cosine"`` already of unit norm.
    metric : {"cosine", "dot", "euclidean"}

    Returns
    -------
    float32 Tensor of shape (n,)
        Dot products, or minus the distances; what float32 cannot hold becomes its largest or
        smallest number. Never -0.0.

    Examples
    --------
    >>> canonical_scores(torch.tensor([[1.0, 0.0]]), torch.tensor([[4.0, 4.0]]), "euclidean")
    tensor([-5.])
    """
    q, x = queries.double(), items.double()
    if metric == "euclidean":
        gap = q - x
        scores = -exact_sqrt(tree_sum(gap * gap))
    else:
        scores = tree_sum(q * x)
    return scores.clamp_(-FLOAT32_MAX, FLOAT32_MAX).float() + 0.0


def screen_error(query_norm: Tensor, item_norm: float, dim: int, metric: str) -> Tensor:
    """Bound what a float32 product may differ from the canonical score.

    A dot product of n terms, in any order, with or without fused steps, errs by at most
    ``gamma_n |q| |x|`` with ``gamma_n = n u / (1 - n u)``, u = 2**-24 (Higham, Accuracy and
    Stability of Numerical Algorithms, section 3.1). Rounding the canonical score and storing the
    screened one each add ``u``. For ``"euclidean"`` the screened number is ``q·x - |x|**2 / 2``.

    Parameters
    ----------
    query_norm : Tensor of shape (n,)
    item_norm : float
        The largest norm among the items.
    dim : int
        Number of terms.
    metric : {"cosine", "dot", "euclidean"}

    Returns
    -------
    float64 Tensor of shape (n,)

    Examples
    --------
    >>> bool(screen_error(torch.ones(1), 1.0, 64, "dot") < 1e-5)
    True
    """
    terms = dim + 8
    exact = (query_norm == 0) & (metric != "euclidean")  # products with zero are
    gamma = terms * _EPS / (1 - terms * _EPS)
    q = query_norm.double()
    size = q * item_norm
    if metric == "euclidean":
        # The last term covers distances that round to the same float32.
        size = size + item_norm**2 + (q + item_norm) ** 2 / 4
    return (1.01 * gamma * size + _UNDERFLOW * terms).masked_fill(exact, 0.0)

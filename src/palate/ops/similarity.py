"""Unit vectors, and the three similarities as dot products."""

from __future__ import annotations

import torch
from torch import Tensor

METRICS = ("cosine", "dot", "euclidean")


def unit_norm(x: Tensor, dim: int = -1) -> Tensor:
    """Scale vectors to length 1; zero vectors stay zero, and pass on no gradient.

    A vector too short to be squared (below 1e-19 in float32) counts as zero.

    Parameters
    ----------
    x : float Tensor
        Vectors along `dim`.
    dim : int, default=-1
        The axis of the vectors.

    Returns
    -------
    Tensor of the shape and dtype of `x`

    Examples
    --------
    >>> unit_norm(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """
    return x / as_divisors(torch.linalg.vector_norm(x, dim=dim, keepdim=True))


def as_divisors(lengths: Tensor) -> Tensor:
    """Return lengths as what makes unit vectors: infinity where one is too short to be squared.

    Not something tiny: that gradient would overflow in the next product.

    Examples
    --------
    >>> as_divisors(torch.tensor([0.5, 0.0]))
    tensor([0.5000,    inf])
    """
    return lengths.where(lengths > torch.finfo(lengths.dtype).tiny ** 0.5, torch.inf)


def cosine(u: Tensor, v: Tensor) -> Tensor:
    """Cosine of the angle between vectors: ``u·v / (|u| |v|)``.

    Parameters
    ----------
    u, v : float Tensors of shape (..., dim)
        Broadcast against each other.

    Returns
    -------
    Tensor of shape (...)
        Values in [-1, 1], no unit; 0 where a vector is zero.

    Examples
    --------
    The user vector (1.2, 0.9, -0.8) and the item vector (0.8, 1.1, -0.7) have the dot product
    0.96 + 0.99 + 0.56 = 2.51 and the lengths 1.7 and 1.5297:

    >>> u, i = torch.tensor([1.2, 0.9, -0.8]), torch.tensor([0.8, 1.1, -0.7])
    >>> round(float(cosine(u, i)), 4)
    0.9652
    """
    return (unit_norm(u) * unit_norm(v)).sum(-1)


def euclidean(u: Tensor, v: Tensor) -> Tensor:
    """Euclidean distance between vectors: ``|u - v|``.

    Parameters
    ----------
    u, v : float Tensors of shape (..., dim)
        Broadcast against each other.

    Returns
    -------
    Tensor of shape (...)
        Distances of at least 0, in the unit of the vectors.

    Examples
    --------
    >>> u, i = torch.tensor([1.2, 0.9, -0.8]), torch.tensor([0.8, 1.1, -0.7])
    >>> round(float(euclidean(u, i)), 4)
    0.4583
    """
    return torch.linalg.vector_norm(u - v, dim=-1)


def as_dot_product(queries: Tensor, items: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """Rewrite vectors so that a plain dot product ranks as `metric` does.

    Cosine normalises both sides. Euclidean uses
    ``-|q - v|**2 = 2 q·v - |v|**2 - |q|**2``: the last term is the same for every item of a query
    and is left out, the middle one becomes an extra coordinate.

    Parameters
    ----------
    queries : float Tensor of shape (n_queries, dim)
    items : float Tensor of shape (n_items, dim)
    metric : {"cosine", "dot", "euclidean"}

    Returns
    -------
    queries, items : float Tensors of equal width
        For ``"cosine"`` and ``"dot"`` of width `dim`, for ``"euclidean"`` of ``dim + 1``.

    Examples
    --------
    >>> q, v = as_dot_product(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]]), "euclidean")
    >>> float((q * v).sum()) - 1.0  # less |q|**2: minus the squared distance
    -20.0
    """
    if metric == "cosine":
        return unit_norm(queries), unit_norm(items)
    if metric == "dot":
        return queries, items
    ones = queries.new_ones(len(queries), 1)
    squares = (items * items).sum(-1, keepdim=True)
    return torch.cat([2 * queries, -ones], 1), torch.cat([items, squares], 1)

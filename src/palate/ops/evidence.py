"""Three views of a history in one vector: the encoder's, and two plain averages.

An encoder learns what tends to follow what, and where events are few it learns them by heart. Plain
averages of what was taken cannot: they say that what comes is like what was. Let a history have the
encoder's vector e, the fading average m of its items' learned vectors, and c of their content (say,
of the whitened vectors of their texts). An item with the learned vector v and the content t is then
scored by

    cos(e, v) + a cos(m, v) + b cos(c, t)

over a common factor: the cosine of the user vector ``[e/|e| + a m/|m|, sqrt(b) c/|c|]`` and the
item's row ``[v, sqrt(b) |v| t/|t|]``. So one exact search by cosine ranks by all three.
"""

from __future__ import annotations

import torch
from torch import Tensor

from palate.ops.similarity import unit_norm


def widened(vectors: Tensor, content: Tensor | None, content_weight: float) -> Tensor:
    """Return items' rows ``[v, sqrt(b) |v| t/|t|]``.

    Parameters
    ----------
    vectors : float Tensor of shape (n, dim)
    content : float Tensor of shape (n, n_features)
    content_weight : float
        The factor b, above 0.

    Returns
    -------
    Tensor of shape (n, dim + n_features)

    Examples
    --------
    >>> widened(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, -7.0]]), 0.25)
    tensor([[ 3.0000,  4.0000,  0.0000, -2.5000]])
    """
    assert content is not None
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.cat([vectors, content_weight**0.5 * lengths * unit_norm(content)], dim=-1)


def mixed(
    states: Tensor, means: Tensor, contents: Tensor, mean_weight: float, content_weight: float
) -> Tensor:
    """Return user vectors ``[e/|e| + a m/|m|, sqrt(b) c/|c|]``.

    Parameters
    ----------
    states, means : float Tensors of shape (n, dim)
        What the encoder says, and the averages of the items' vectors, of any length.
    contents : float Tensor of shape (n, n_features)
        Averages of the items' content; no columns where content does not count.
    mean_weight, content_weight : float
        The factors a and b, at least 0.

    Returns
    -------
    Tensor of shape (n, dim + n_features)

    Examples
    --------
    >>> e, m, c = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([[5.0]])
    >>> mixed(e, m, c, 0.5, 0.25)
    tensor([[1.0000, 0.5000, 0.5000]])
    """
    tastes = unit_norm(states) + mean_weight * unit_norm(means)
    return torch.cat([tastes, content_weight**0.5 * unit_norm(contents)], dim=-1)

"""What a found item gains by its rank: the discount of DCG."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def first_gains(n: int) -> np.ndarray:
    """Return the gains of the ranks 1 to `n`: ``1 / log2(1 + rank)``, float64 (n,).

    Notes
    -----
    Järvelin and Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", 2002.

    Examples
    --------
    >>> first_gains(3)
    array([1.        , 0.63092975, 0.5       ])
    """
    return np.asarray(1 / np.log2(np.arange(2, n + 2)))


def gains_behind(ahead: Tensor, k: int | None = None) -> Tensor:
    """Return the gain of an item with so many items ahead of it: float64, shaped as `ahead`.

    Parameters
    ----------
    ahead : int64 Tensor of any shape
    k : int, default=None
        The length of the list: beyond it nothing is gained. None has no end.

    Examples
    --------
    >>> ahead = torch.tensor([0, 2, 6])
    >>> gains_behind(ahead)
    tensor([1.0000, 0.5000, 0.3333], dtype=torch.float64)
    >>> gains_behind(ahead, k=3)
    tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    gains = 1 / torch.log2(ahead.double() + 2)
    return gains if k is None else torch.where(ahead < k, gains, 0.0)

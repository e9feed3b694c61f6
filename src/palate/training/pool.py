"""Which items a next event is told from in training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from palate.data.histories import Histories


def seen_items(histories: Histories, n_items: int) -> Tensor:
    """Return whether each item occurs in histories: bool (n_items,).

    Examples
    --------
    >>> seen_items(Histories(np.array([0, 3]), np.array([2, 0, 2]), n_users=1), 4)
    tensor([ True, False,  True, False])
    """
    seen = torch.zeros(n_items, dtype=torch.bool)
    seen[torch.from_numpy(histories.items)] = True
    return seen


def candidate_pool(
    seen: Tensor, own: np.ndarray | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Return the sorted codes of the items that may be candidates.

    Parameters
    ----------
    seen : bool Tensor of shape (n_items,)
        Whether an item has an event in training.
    own : int64 ndarray of shape (n_events,), default=None
        The items of another domain, in which nothing known is met. They are told from each other
        and from as many of the rest, at random: enough to keep the domains apart, and a step does
        not cost what all of them would.
    generator : torch.Generator, default=None
        Draws the rest.

    Returns
    -------
    int64 Tensor of shape (n_pool,)

    Examples
    --------
    >>> seen = torch.tensor([True, False, True, True, True, True])
    >>> candidate_pool(seen)
    tensor([0, 2, 3, 4, 5])
    >>> candidate_pool(seen, np.array([5, 4, 5]), torch.Generator().manual_seed(0))
    tensor([0, 3, 4, 5])
    """
    if own is None:
        return seen.nonzero().flatten()
    mine = torch.from_numpy(np.unique(own))
    rest = seen.clone()
    rest[mine] = False
    others = rest.nonzero().flatten()
    picks = torch.randperm(len(others), generator=generator)[: len(mine)]
    return torch.cat([mine, others[picks]]).sort().values

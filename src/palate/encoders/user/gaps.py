"""What the time before an event adds to its vector, ahead of any network over histories."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palate.data.time_gaps import AT_ONCE, UNKNOWN


class GapVectors(nn.Module):
    """A learned vector for each code of :func:`palate.data.time_gaps.gap_codes`.

    All are zero at first: training starts at the very model without gaps, draws nothing for it,
    and each vector gets a gradient of its own all the same. That of an unknown gap stays zero.

    Parameters
    ----------
    edges : float64 ndarray of shape (n_edges,)
        Gaps that part the pieces.
    dim : int
        Width of item vectors.

    Examples
    --------
    >>> vectors = GapVectors(np.array([60.0, 3600.0]), dim=3)
    >>> vectors(torch.tensor([[0, 1, 4]])).shape, vectors.weight.shape
    (torch.Size([1, 3, 3]), torch.Size([5, 3]))
    """

    def __init__(self, edges: np.ndarray, dim: int) -> None:
        super().__init__()
        # Not a buffer: some devices have no float64, and a shorter number would move an edge.
        self.edges = edges
        self.weight = nn.Parameter(torch.zeros(len(edges) + AT_ONCE + 2, dim))

    def forward(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes (...): (..., dim)."""
        return F.embedding(codes, self.weight, padding_idx=UNKNOWN)

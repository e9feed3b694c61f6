"""What the time between two events adds to the attention of one to the other."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palate.data.time_gaps import AT_ONCE


class TimeBias(nn.Module):
    """A learned number for each layer, head and code of how far apart two events are.

    The codes are those of :func:`palate.data.time_distances.distance_codes`. All numbers are zero
    at first: training starts at the very model without them, and draws nothing for them. That of an
    unknown distance stays zero.

    Parameters
    ----------
    edges : float64 ndarray of shape (n_edges,)
        Distances that part the pieces.
    n_layers, n_heads : int
        Of the attention.

    Notes
    -----
    Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
    Generative Recommendations", ICML 2024, equation 2, but from event to event: the time of the
    next one, which their code reads, is not known when somebody asks. The idea is also that of Li
    et al., "Time Interval Aware Self-Attention for Sequential Recommendation", WSDM 2020.

    Examples
    --------
    >>> bias = TimeBias(np.array([60.0, 3600.0]), n_layers=2, n_heads=3)
    >>> bias(torch.tensor([[[1, 2], [2, 1]]])).shape, bias.weight.shape
    (torch.Size([2, 1, 3, 2, 2]), torch.Size([2, 3, 4]))
    """

    def __init__(self, edges: np.ndarray, n_layers: int, n_heads: int) -> None:
        super().__init__()
        # Not a buffer: some devices have no float64, and a shorter number would move an edge.
        self.edges = edges
        self.weight = nn.Parameter(torch.zeros(n_layers, n_heads, len(edges) + AT_ONCE + 1))

    def forward(self, codes: Tensor) -> Tensor:
        """Return the bias of each layer for codes (n_rows, n_steps, n_steps).

        Returns
        -------
        Tensor of shape (n_layers, n_rows, n_heads, n_steps, n_steps)
        """
        n_layers, n_heads, _ = self.weight.shape
        known = F.pad(self.weight, (AT_ONCE, 0)).flatten(0, 1)  # ahead of them, the unknown
        # Of all ways to look up, the one whose gradient is cheap.
        found = known.index_select(1, codes.flatten())
        return found.view(n_layers, n_heads, *codes.shape).transpose(1, 2)

"""Lists of codes, one a row, and how to pick the lists of some rows at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Bags(nn.Module):
    """A list of int codes for each row, moved with the module that holds it, and never saved.

    Parameters
    ----------
    rows : sequence of sequences of int

    Examples
    --------
    >>> bags = Bags([[5, 6], [], [7]])
    >>> places, offsets, owners = bags.pick(torch.tensor([2, 1, 0]))
    >>> bags.values[places].tolist(), offsets.tolist(), owners.tolist()
    ([7, 5, 6], [0, 1, 1], [0, 2, 2])
    """

    values: Tensor
    starts: Tensor

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.register_buffer("values", torch.empty(0, dtype=torch.int64), persistent=False)
        self.register_buffer("starts", torch.zeros(1, dtype=torch.int64), persistent=False)
        self.append(rows)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def append(self, rows: Sequence[Sequence[int]]) -> None:
        """Put more rows behind these."""
        if not len(rows):
            return
        flat = np.fromiter((code for row in rows for code in row), dtype=np.int64)
        lengths = np.fromiter(map(len, rows), dtype=np.int64)
        ends = torch.from_numpy(np.cumsum(lengths)).to(self.starts) + self.starts[-1]
        self.values = torch.cat([self.values, torch.from_numpy(flat).to(self.values)])
        self.starts = torch.cat([self.starts, ends])

    def pick(self, codes: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return where the values of rows lie, one row after another.

        Parameters
        ----------
        codes : int64 Tensor of shape (n,) or None
            Rows; None for all of them.

        Returns
        -------
        places : int64 Tensor of shape (n_values,)
            Into `values`.
        offsets : int64 Tensor of shape (n,)
            Where the values of each row begin among `places`.
        owners : int64 Tensor of shape (n_values,)
            Position in `codes` of the row of each value.
        """
        if codes is None:
            codes = torch.arange(len(self), device=self.starts.device)
        begins = self.starts[codes]
        lengths = self.starts[codes + 1] - begins
        offsets = lengths.cumsum(0) - lengths
        owners = torch.arange(len(codes), device=codes.device).repeat_interleave(lengths)
        places = torch.arange(len(owners), device=codes.device) + (begins - offsets)[owners]
        return places, offsets, owners

"""A sequence of states to one vector, for the whole sequence and for each of its prefixes.

Training asks for the user vector after every event, serving only for the one after the last. Both
are the same formula: pooling a sequence is the entry of `prefixes` at its last event. Sequences
are right-padded, so the states before any real position are real.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from palate.ops.similarity import as_divisors


def last_prefixes(states: Tensor) -> Tensor:
    """Pool each prefix by its last state: the states themselves.

    Parameters
    ----------
    states : float Tensor of shape (n_rows, n_steps, dim)

    Returns
    -------
    Tensor of shape (n_rows, n_steps, dim)

    Examples
    --------
    >>> last_prefixes(torch.tensor([[[1.0], [3.0]]])).flatten()
    tensor([1., 3.])
    """
    return states


def mean_prefixes(states: Tensor) -> Tensor:
    """Pool each prefix by the mean of its states.

    Parameters
    ----------
    states : float Tensor of shape (n_rows, n_steps, dim)

    Returns
    -------
    Tensor of shape (n_rows, n_steps, dim)

    Examples
    --------
    >>> mean_prefixes(torch.tensor([[[1.0], [3.0]]])).flatten()
    tensor([1., 2.])
    """
    steps = torch.arange(1, states.shape[1] + 1, device=states.device, dtype=states.dtype)
    return states.cumsum(1) / steps[:, None]


def attention_prefixes(states: Tensor, scores: Tensor) -> Tensor:
    """Pool each prefix by a softmax over the scores of its own steps.

    Parameters
    ----------
    states : float Tensor of shape (n_rows, n_steps, dim)
    scores : float Tensor of shape (n_rows, n_steps)
        Logits of the weights, one a step.

    Returns
    -------
    Tensor of shape (n_rows, n_steps, dim)

    Examples
    --------
    >>> states = torch.tensor([[[1.0], [3.0]]])
    >>> attention_prefixes(states, torch.tensor([[0.0, 0.0]])).flatten()
    tensor([1., 2.])
    """
    # (n_steps, n_steps) weights, not cumulative sums of exponentials: those lose all precision
    # once a later score is far above the earlier ones.
    n_steps = states.shape[1]
    future = torch.ones(n_steps, n_steps, dtype=torch.bool, device=states.device).triu(1)
    logits = scores[:, None, :].expand(-1, n_steps, -1).masked_fill(future, -torch.inf)
    return logits.softmax(-1) @ states


def fading_prefixes(states: Tensor, kept: Tensor | float) -> Tensor:
    """Pool each prefix by the sum of its states, of which each step keeps a share.

    Parameters
    ----------
    states : float Tensor of shape (n_rows, n_steps, dim)
    kept : float or Tensor of shape ()
        The share g in (0, 1]: entry i is ``sum over j <= i of g**(i - j) * states_j``.

    Returns
    -------
    Tensor of shape (n_rows, n_steps, dim)

    Examples
    --------
    >>> fading_prefixes(torch.tensor([[[8.0], [2.0], [1.0]]]), 0.5).flatten()
    tensor([8., 6., 4.])
    """
    steps = torch.arange(states.shape[1], device=states.device)
    gaps = steps[:, None] - steps
    weights = torch.as_tensor(kept, dtype=states.dtype, device=states.device) ** gaps.clamp(min=0)
    return torch.einsum("ts,nsd->ntd", weights * (gaps >= 0), states)


def fading_last(states: Tensor, lengths: Tensor, kept: Tensor | float) -> Tensor:
    """Take the entry of `fading_prefixes` at each row's last real step.

    Parameters
    ----------
    states : float Tensor of shape (n_rows, n_steps, dim)
    lengths : int64 Tensor of shape (n_rows,)
        Real steps of each row, at least 1.
    kept : float or Tensor of shape ()

    Returns
    -------
    Tensor of shape (n_rows, dim)

    Examples
    --------
    >>> states = torch.tensor([[[8.0], [2.0], [1.0]], [[8.0], [2.0], [torch.inf]]])
    >>> fading_last(states, torch.tensor([3, 2]), 0.5).flatten()
    tensor([4., 6.])
    """
    steps = torch.arange(states.shape[1], device=states.device)
    gaps = lengths[:, None] - 1 - steps
    weights = torch.as_tensor(kept, dtype=states.dtype, device=states.device) ** gaps.clamp(min=0)
    real = gaps >= 0
    # One product a row; what stands at padding, NaN perhaps, must not enter it.
    return ((weights * real)[:, None] @ torch.where(real[..., None], states, 0.0)).squeeze(1)


def fading_bags(
    table: Tensor, codes: Tensor, lengths: np.ndarray, kept: float, scales: Tensor | None = None
) -> Tensor:
    """Sum rows of a table as `fading_last` sums states, without padding and without a copy.

    Parameters
    ----------
    table : float Tensor of shape (n, dim)
    codes : int64 Tensor of shape (n_events,)
        Rows of the table: histories one after another, the oldest event first.
    lengths : int64 ndarray of shape (n_rows,)
        Events of each history; the sum of none is 0.
    kept : float
    scales : float Tensor of shape (n_events,), default=None
        What each event's row is multiplied by.

    Returns
    -------
    Tensor of shape (n_rows, dim)

    Examples
    --------
    >>> table = torch.tensor([[8.0], [2.0], [1.0]])
    >>> fading_bags(table, torch.tensor([0, 1, 2, 0]), np.array([3, 0, 1]), 0.5).flatten()
    tensor([4., 0., 8.])
    """
    stops = np.cumsum(lengths)
    age = np.repeat(stops, lengths) - 1 - np.arange(stops[-1] if len(stops) else 0)
    weights = torch.from_numpy(kept**age).to(table)
    if scales is not None:
        weights = weights * scales
    starts = torch.from_numpy(stops - lengths).to(table.device)
    return F.embedding_bag(codes, table, starts, mode="sum", per_sample_weights=weights)


def inverse_lengths(table: Tensor, codes: Tensor, dim: int) -> Tensor:
    """Return what makes the first `dim` numbers of some rows of a table a unit vector: (n_codes,).

    As in :func:`palate.ops.similarity.unit_norm`, vectors too short to be squared count as zero.

    Examples
    --------
    >>> inverse_lengths(torch.tensor([[0.0, 4.0, 9.0], [0.0, 0.0, 9.0]]), torch.tensor([1, 0]), 2)
    tensor([0.0000, 0.2500])
    """
    part = table[:, :dim]
    if len(codes) < len(part):
        part, codes = part[codes], torch.arange(len(codes), device=codes.device)
    return as_divisors(torch.linalg.vector_norm(part, dim=1)).reciprocal()[codes]


def at_last(prefixes: Tensor, lengths: Tensor) -> Tensor:
    """Take the entry of each row's last real step.

    Parameters
    ----------
    prefixes : float Tensor of shape (n_rows, n_steps, dim)
    lengths : int64 Tensor of shape (n_rows,)
        Real steps of each row, at least 1.

    Returns
    -------
    Tensor of shape (n_rows, dim)

    Examples
    --------
    >>> at_last(torch.tensor([[[1.0], [3.0]], [[5.0], [0.0]]]), torch.tensor([2, 1])).flatten()
    tensor([3., 5.])
    """
    rows = torch.arange(prefixes.shape[0], device=prefixes.device)
    return prefixes[rows, lengths - 1]

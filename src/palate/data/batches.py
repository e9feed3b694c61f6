"""Histories to training windows and to length-bucketed, right-padded batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from palate.data.histories import Histories
from palate.data.moments import Moments

# Windows are sorted by length inside groups of this many batches: little padding, yet random.
_BUCKET_BATCHES = 16
#: Share of windows whose lead is left out, each time that windows are cut.
WITHOUT_LEAD = 0.1
#: Share of windows whose times are unknown, each time that windows are cut.
WITHOUT_TIMES = 0.1


@dataclass(frozen=True)
class Batch:
    """Right-padded windows.

    Attributes
    ----------
    codes : int64 Tensor of shape (n_rows, n_steps)
        Item codes, 0 at padding; codes beyond the catalogue stand for attribute texts.
    mask : bool Tensor of shape (n_rows, n_steps)
        True at real events.
    targets : int64 Tensor of shape (n_rows, n_steps)
        The next item of each step.
    weights : float32 Tensor of shape (n_rows, n_steps)
        Weight of each target, 0 at padding.
    scored : bool Tensor of shape (n_rows, n_steps), default=mask
        True at steps that have a target: an attribute text has one only before a first event.
    gaps : int64 Tensor of shape (n_rows, n_steps), default=None
        Codes of the gaps before the inputs, 0 where unknown and at padding.
    distances : int64 Tensor of shape (n_rows, n_steps, n_steps), default=None
        Codes of the distances in time between the inputs, 0 where unknown and at padding.
    """

    codes: Tensor
    mask: Tensor
    targets: Tensor
    weights: Tensor
    scored: Tensor = None  # type: ignore[assignment]
    gaps: Tensor | None = None
    distances: Tensor | None = None

    def __post_init__(self) -> None:
        if self.scored is None:
            object.__setattr__(self, "scored", self.mask)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        parts = {name: part for name, part in vars(self).items() if part is not None}
        return Batch(**{name: part.to(device) for name, part in parts.items()})


@dataclass(frozen=True)
class Windows:
    """Spans of a flat item array, each of ``length`` inputs followed by one last target.

    ``leads`` are codes that stand before the inputs (-1 for none), where there are any; ``opens``
    tells which windows begin with the first event of a history. ``moments`` are what is read of
    when the events happened, if anything is, and ``timed`` tells of which windows.
    """

    items: np.ndarray
    weights: np.ndarray | None
    starts: np.ndarray
    lengths: np.ndarray
    leads: np.ndarray | None = None
    opens: np.ndarray | None = None
    moments: Moments | None = None
    timed: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sizes(self) -> np.ndarray:
        """Steps of each window."""
        return self.lengths if self.leads is None else self.lengths + (self.leads >= 0)


def cut_windows(
    histories: Histories,
    users: np.ndarray,
    max_length: int,
    generator: torch.Generator,
    leads: np.ndarray | None = None,
    moments: Moments | None = None,
) -> Windows:
    """Cut histories into windows so that each event but a user's first is a target once.

    A history longer than `max_length` is cut at places that shift at random from call to call, so
    over the epochs every event is seen with contexts of every length.

    Parameters
    ----------
    histories : Histories
        Compact ones.
    users : int64 ndarray
        The rows to take; those with fewer than two events give no window.
    max_length : int
        Most inputs of a window.
    generator : torch.Generator
        Draws the shifts.
    leads : int64 ndarray of shape (n_users,), default=None
        Codes that stand before every window of a history, -1 for none. After one, a first event is
        a target too.
    moments : Moments, default=None
        What is read of when the events happened; some windows go without.

    Returns
    -------
    Windows
    """
    begin, end = histories.indptr[users], histories.indptr[users + 1]
    keep = end - begin >= (2 if leads is None else np.where(leads >= 0, 1, 2))
    begin, n_targets = begin[keep], (end - begin)[keep] - 1
    shift = torch.randint(0, max_length, (len(begin),), generator=generator).numpy()
    # The first piece may be short: it ends `shift` targets before a multiple of max_length.
    first = np.where(n_targets <= max_length, n_targets, np.minimum(max_length - shift, n_targets))
    n_pieces = 1 + -(-(n_targets - first) // max_length)
    piece = np.arange(n_pieces.sum()) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    first, n_targets, begin = (np.repeat(a, n_pieces) for a in (first, n_targets, begin))
    offset = np.where(piece == 0, 0, first + (piece - 1) * max_length)
    length = np.where(piece == 0, first, np.minimum(max_length, n_targets - offset))
    whole = Windows(histories.items, histories.weights, begin + offset, length)
    if moments is not None:
        timed = torch.rand(len(length), generator=generator).numpy() >= WITHOUT_TIMES
        whole = replace(whole, moments=moments, timed=timed)
    if leads is None:
        return whole
    led = np.repeat(leads[keep], n_pieces)
    # Some go without, so that people of whom nothing is known are no surprise.
    left_out = torch.rand(len(led), generator=generator).numpy() < WITHOUT_LEAD
    led = np.where(left_out & (length > 0), -1, led)
    return replace(whole, leads=led, opens=offset == 0)


def iterate_batches(
    windows: Windows, batch_size: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield every window once, in random batches of similar length.

    Parameters
    ----------
    windows : Windows
    batch_size : int
        Windows a batch.
    generator : torch.Generator
        Draws the order.

    Yields
    ------
    Batch
    """
    order = torch.randperm(len(windows), generator=generator).numpy()
    group = batch_size * _BUCKET_BATCHES
    chunks, sizes = [], windows.sizes
    for start in range(0, len(order), group):
        part = order[start : start + group]
        part = part[np.argsort(sizes[part], kind="stable")]
        chunks += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    for index in torch.randperm(len(chunks), generator=generator).tolist():
        yield make_batch(windows, chunks[index])


def make_batch(windows: Windows, rows: np.ndarray) -> Batch:
    """Pad the chosen windows to the longest of them."""
    sizes = windows.sizes[rows]
    steps = np.arange(sizes.max())
    mask = steps < sizes[:, None]
    led = sizes - windows.lengths[rows]
    # Before the first input is what leads: its target is that input.
    at = np.where(mask, (windows.starts[rows] - led)[:, None] + steps, 0)
    following = at + mask
    weights = mask.astype(np.float32)
    if windows.weights is not None:
        weights *= windows.weights[following]
    codes, scored = np.where(mask, windows.items[at], 0), mask
    if windows.leads is not None and windows.opens is not None:
        codes[led > 0, 0] = windows.leads[rows][led > 0]
        scored = mask.copy()
        scored[:, 0] &= (led == 0) | windows.opens[rows]
    return Batch(
        torch.from_numpy(codes),
        torch.from_numpy(mask),
        torch.from_numpy(np.where(mask, windows.items[following], 0)),
        torch.from_numpy(weights),
        torch.from_numpy(scored),
        *_when(windows, rows, at, mask),
    )


def _when(
    windows: Windows, rows: np.ndarray, at: np.ndarray, mask: np.ndarray
) -> tuple[Tensor | None, Tensor | None]:
    """Return the codes of the gaps and distances of the inputs that stand at some places."""
    if windows.moments is None or windows.timed is None:
        return None, None
    known = mask & windows.timed[rows][:, None]
    known[:, 0] &= windows.sizes[rows] == windows.lengths[rows]  # what leads is no event
    return windows.moments.at(at, known)

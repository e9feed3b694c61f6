"""What a re-ranker learns from: next events of histories among the first stage's candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palate.data.histories import Histories
from palate.data.padding import pad_recent
from palate.ops.similarity import unit_norm
from palate.ops.topk import topk
from palate.training.network import TasteNetwork

# Histories ranked at once.
_ROWS = 1024


@dataclass(frozen=True)
class Prefixes:
    """Beginnings of histories in CSR form, and the event that came next.

    Attributes
    ----------
    indptr, items : int64 ndarrays
    targets : int64 ndarray of shape (n_rows,)
    weights : float32 ndarray of shape (n_rows,)
        Of the targets.
    people : int64 ndarray of shape (n_rows,), default=None
        Codes of attribute texts that stand before the events, -1 for none.
    times : ndarray, default=None
        When `items` were taken.
    """

    indptr: np.ndarray
    items: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    people: np.ndarray | None = None
    times: np.ndarray | None = None


@dataclass(frozen=True)
class Examples:
    """Candidates of prefixes, the target last.

    Attributes
    ----------
    users : float32 Tensor of shape (n_rows, dim)
    codes : int64 Tensor of shape (n_rows, n_candidates + 1)
        The first stage's best items, then the target.
    scores : float32 Tensor of the same shape
        The first stage's similarities.
    valid : bool Tensor of the same shape
        False where there is no candidate, or it is the target, which stands last.
    recent : int64 Tensor of shape (n_rows, n_events)
        The most recent events, the last one first.
    known : bool Tensor of shape (n_rows, n_events)
    weights : float32 Tensor of shape (n_rows,)
    """

    users: Tensor
    codes: Tensor
    scores: Tensor
    valid: Tensor
    recent: Tensor
    known: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, rows: Tensor | slice) -> Examples:
        return Examples(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def last_prefixes(
    histories: Histories,
    n_rows: int,
    generator: torch.Generator,
    people: np.ndarray | None = None,
    *,
    timed: bool = False,
) -> Prefixes:
    """Take the last events of every user as targets, as many of each as make `n_rows`.

    Parameters
    ----------
    histories : Histories
        Compact ones.
    n_rows : int
        Most rows; if more would be taken, they are drawn.
    generator : torch.Generator
    people : int64 ndarray of shape (n_users,), default=None
        Codes of the users' attribute texts, -1 for none.
    timed : bool, default=False
        Whether the network reads when events happened.

    Returns
    -------
    Prefixes
        None of them empty.

    Examples
    --------
    >>> histories = Histories(np.array([0, 3, 4]), np.array([7, 8, 9, 5]), n_users=2)
    >>> last_prefixes(histories, 2, torch.Generator()).targets.tolist()
    [8, 9]
    """
    n_targets = np.maximum(np.diff(histories.indptr) - 1, 0)
    n_able = int((n_targets > 0).sum())
    each = -(-n_rows // max(1, n_able))
    taken = np.minimum(n_targets, each)
    first = np.repeat(histories.indptr[1:] - taken, taken)
    at = first + np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    owners = np.repeat(np.arange(len(taken)), taken)
    if len(at) > n_rows:
        picks = torch.randperm(len(at), generator=generator)[:n_rows].sort().values.numpy()
        at, owners = at[picks], owners[picks]
    starts = histories.indptr[owners]
    spans = [slice(start, end) for start, end in zip(starts, at, strict=True)]
    weights = np.ones(len(at), np.float32) if histories.weights is None else histories.weights[at]
    indptr = np.concatenate([[0], np.cumsum(at - starts)])
    told = None if people is None else people[owners]
    items, times = (
        None if flat is None else np.concatenate([flat[:0], *(flat[span] for span in spans)])
        for flat in (histories.items, histories.times if timed else None)
    )
    return Prefixes(indptr, items, histories.items[at], weights, told, times)  # type: ignore[arg-type]


def recent_events(indptr: np.ndarray, items: np.ndarray, n_events: int) -> tuple[Tensor, Tensor]:
    """Return the most recent events of each history, the last one first, and which are there.

    Parameters
    ----------
    indptr : int64 ndarray of shape (n_rows + 1,)
    items : int64 ndarray of shape (n_items,)
    n_events : int

    Returns
    -------
    codes : int64 Tensor of shape (n_rows, n_steps)
    known : bool Tensor of shape (n_rows, n_steps)

    Examples
    --------
    >>> codes, known = recent_events(np.array([0, 3, 4]), np.array([5, 6, 7, 8]), 2)
    >>> codes.tolist(), known.tolist()
    ([[7, 6], [8, 0]], [[True, True], [True, False]])
    """
    codes, known = pad_recent(indptr, items, n_events)
    steps = torch.arange(codes.shape[1])
    at = (known.sum(1, keepdim=True) - 1 - steps).clamp_min(0)
    return codes.gather(1, at) * known, known


@torch.no_grad()
def make_examples(
    network: TasteNetwork,
    vectors: Tensor,
    prefixes: Prefixes,
    n_candidates: int,
    n_events: int,
    *,
    dropout: bool,
) -> Examples:
    """Rank the catalogue for each prefix by the first stage.

    Viewed items are left out, except where the target itself is a repeat.

    Parameters
    ----------
    network : TasteNetwork
    vectors : float Tensor of shape (n_items, dim)
        The catalogue.
    prefixes : Prefixes
    n_candidates, n_events : int
    dropout : bool
        Whether the user encoder drops as in training. The first stage knows the events that it
        was trained on too well; so it knows them less well.
    """
    network.users.train(dropout)
    parts = []
    for start in range(0, len(prefixes.targets), _ROWS):
        span = prefixes.indptr[start : start + _ROWS + 1]
        items, indptr = prefixes.items[span[0] : span[-1]], span - span[0]
        targets = prefixes.targets[start : start + _ROWS]
        told = None if prefixes.people is None else prefixes.people[start : start + _ROWS]
        times = None if prefixes.times is None else prefixes.times[span[0] : span[-1]]
        users = network.encode_histories(vectors, indptr, items, told, times)
        rows = np.repeat(np.arange(len(targets)), np.diff(indptr))
        viewed = items != targets[rows]
        exclude = (torch.from_numpy(rows[viewed]), torch.from_numpy(items[viewed]))
        found = topk(users, vectors, n_candidates, metric=network.metric, exclude=exclude)
        wanted = torch.from_numpy(targets).to(users.device)
        recent, known = (t.to(users.device) for t in recent_events(indptr, items, n_events))
        own = similarity(users, vectors[wanted], network.metric)
        missing = (found.indices < 0) | (found.indices == wanted[:, None])
        parts.append(
            Examples(
                users,
                torch.cat([found.indices.clamp_min(0), wanted[:, None]], 1),
                torch.cat([found.scores.float().masked_fill(missing, 0), own[:, None]], 1),
                torch.cat([~missing, torch.ones_like(missing[:, :1])], 1),
                _wide(recent, n_events),
                _wide(known, n_events),
                torch.from_numpy(prefixes.weights[start : start + _ROWS]).to(users.device),
            )
        )
    network.users.eval()
    names = Examples.__dataclass_fields__
    return Examples(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def similarity(users: Tensor, items: Tensor, metric: str) -> Tensor:
    """Return the similarity (n,) of each user to the item of the same row.

    Examples
    --------
    >>> similarity(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0]]), "euclidean")
    tensor([-5.])
    """
    if metric == "euclidean":
        return -torch.linalg.vector_norm(users - items, dim=-1)
    if metric == "cosine":
        users, items = unit_norm(users), unit_norm(items)
    return (users * items).sum(-1)


def _wide(values: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[1]))

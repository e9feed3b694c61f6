"""Held-out last events of some users, and the full-ranking NDCG@10 on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from palate._options import RunOptions
from palate.data.histories import Histories
from palate.data.moments import times_of
from palate.ops.discount import first_gains, gains_behind
from palate.ops.similarity import as_dot_product
from palate.ops.topk import topk
from palate.training.network import TasteNetwork

K = 10
#: Users held out at most, unless all are: more would measure no better, and cost a large set much.
MOST_HELD_OUT = 10_000
#: Users held out at least, if there are twice as many: by fewer, chance would choose the epoch.
FEWEST_HELD_OUT = 100
#: Held-out users from which on the first ten places of each say enough.
MANY_HELD_OUT = 500
_BLOCK_SCORES = 2**20  # of users taken together, where all items are scored


@dataclass(frozen=True)
class Holdout:
    """Histories without their last event, and that event.

    Attributes
    ----------
    indptr, items : int64 ndarrays
        The shortened histories in CSR form.
    targets : int64 ndarray of shape (n_users,)
    people : int64 ndarray of shape (n_users,), default=None
        Codes of their attribute texts, -1 for none.
    times : ndarray, default=None
        When `items` were taken.
    """

    indptr: np.ndarray
    items: np.ndarray
    targets: np.ndarray
    people: np.ndarray | None = None
    times: np.ndarray | None = None


def hold_out(
    histories: Histories,
    fraction: float,
    generator: torch.Generator,
    people: np.ndarray | None = None,
    *,
    timed: bool = False,
) -> tuple[Histories, Holdout | None]:
    """Take the last event of a random share of the users who have at least three.

    Parameters
    ----------
    histories : Histories
        Compact ones.
    fraction : float
        Share of users in [0, 1]; of a positive share at least `FEWEST_HELD_OUT` users are taken,
        or half of them where that is less, and of a share below 1 at most `MOST_HELD_OUT`.
    generator : torch.Generator
    people : int64 ndarray of shape (n_users,), default=None
        Codes of attribute texts, -1 for none.
    timed : bool, default=False
        Whether the network reads when events happened.

    Returns
    -------
    histories : Histories
        What is left to learn from.
    holdout : Holdout or None
        None where nobody is held out.
    """
    able = np.flatnonzero(np.diff(histories.indptr) >= 3)
    if fraction == 0 or not len(able):
        return histories, None
    fewest = max(1, min(FEWEST_HELD_OUT, len(able) // 2))
    n_taken = max(fewest, round(fraction * len(able)))
    if fraction < 1:
        n_taken = min(n_taken, MOST_HELD_OUT)
    picks = torch.randperm(len(able), generator=generator)[:n_taken].numpy()
    users = np.sort(able[picks])
    at = histories.indptr[users + 1] - 1
    kept = np.ones(len(histories.items), bool)
    kept[at] = False
    lengths = np.diff(histories.indptr)
    lengths[users] -= 1
    left = Histories(
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        items=histories.items[kept],
        times=None if histories.times is None else histories.times[kept],
        weights=None if histories.weights is None else histories.weights[kept],
        n_users=histories.n_users,
    )
    told = None if people is None else people[users]
    times = times_of(left, users, timed=timed)
    return left, Holdout(*left.gather(users), histories.items[at], told, times)


class Validation(NamedTuple):
    """What held-out events say of a network.

    Attributes
    ----------
    ndcg : float
        NDCG@10, of one event a user.
    gains : float64 Tensor of shape (n_users,)
        What the epoch is chosen by: of many users those that `ndcg` is the mean of, of few
        :func:`whole_gains`.
    """

    ndcg: float
    gains: Tensor


def judge(network: TasteNetwork, holdout: Holdout, options: RunOptions) -> Validation:
    """Judge a network that learns on by held-out events."""
    vectors = network.catalogue()
    gains = validation_gains(network, vectors, holdout, options)
    few = len(gains) < MANY_HELD_OUT
    chosen_by = whole_gains(network, vectors, holdout) if few else gains
    return Validation(float(gains.mean()), chosen_by)


def sure_lead(lead: Tensor) -> Tensor:
    """Return the mean of leads (n_users, ...) over users, less its standard error: (...).

    Of one user there is no error.

    Examples
    --------
    >>> sure_lead(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    tensor([1., 2.])
    """
    if len(lead) < 2:
        return lead.mean(0)
    return lead.mean(0) - lead.std(0) / len(lead) ** 0.5


def hide_viewed(scores: Tensor, holdout: Holdout, places: Iterable[int]) -> None:
    """Set what each held-out user has viewed to -inf in their row of scores, but for the target."""
    for row, place in enumerate(places):
        viewed = holdout.items[holdout.indptr[place] : holdout.indptr[place + 1]]
        viewed = viewed[viewed != holdout.targets[place]]
        scores[row, torch.from_numpy(viewed).to(scores.device)] = -torch.inf


def users_at_once(n_items: int) -> int:
    """Return how many users to score all items for at once."""
    return max(1, _BLOCK_SCORES // n_items)


def n_ahead(scores: Tensor, targets: Tensor) -> Tensor:
    """Return how many items (n_rows,) are scored above each row's target.

    Examples
    --------
    >>> n_ahead(torch.tensor([[0.3, 0.1, 0.2], [0.3, 0.1, 0.2]]), torch.tensor([1, 0]))
    tensor([2, 0])
    """
    return (scores > scores.gather(1, targets[:, None])).sum(1)


@torch.inference_mode()
def whole_gains(network: TasteNetwork, vectors: Tensor, holdout: Holdout) -> Tensor:
    """Return ``1 / log2(1 + rank)`` of each held-out event: float64 (n_users,), on the CPU.

    That is :func:`validation_gains` without the cut after ten, beyond which most events of a few
    users lie: all of them have a say.
    """
    histories = holdout.indptr, holdout.items, holdout.people, holdout.times
    users = network.encode_histories(vectors, *histories)
    queries, rows = as_dot_product(users, vectors, network.metric)
    targets = torch.from_numpy(holdout.targets).to(rows.device)
    gains = []
    for places in torch.arange(len(targets)).split(users_at_once(len(rows))):
        scores = queries[places] @ rows.T
        hide_viewed(scores, holdout, places.tolist())
        gains.append(gains_behind(n_ahead(scores, targets[places]).cpu()))
    return torch.cat(gains)


def validation_ndcg(network: TasteNetwork, holdout: Holdout, options: RunOptions) -> float:
    """Return the mean of :func:`validation_gains`: NDCG@10, of one event a user."""
    return float(validation_gains(network, network.catalogue(), holdout, options).mean())


@torch.inference_mode()
def validation_gains(
    network: TasteNetwork, vectors: Tensor, holdout: Holdout, options: RunOptions
) -> Tensor:
    """Rank the whole catalogue for each held-out event: ``1 / log2(1 + rank)``, 0 beyond ten.

    Viewed items are filtered, except where the held-out event itself is a repeat.

    Parameters
    ----------
    network : TasteNetwork
    vectors : Tensor of shape (n_items, width)
        Its catalogue.
    holdout : Holdout
    options : RunOptions

    Returns
    -------
    float64 Tensor of shape (n_users,), on the CPU
    """
    gains = []
    size = options.inference_batch_size
    for start in range(0, len(holdout.targets), size):
        span = holdout.indptr[start : start + size + 1]
        items = holdout.items[span[0] : span[-1]]
        targets = holdout.targets[start : start + size]
        told = None if holdout.people is None else holdout.people[start : start + size]
        times = None if holdout.times is None else holdout.times[span[0] : span[-1]]
        users = network.encode_histories(vectors, span - span[0], items, told, times)
        rows = np.repeat(np.arange(len(targets)), np.diff(span))
        viewed = items != targets[rows]
        exclude = (torch.from_numpy(rows[viewed]), torch.from_numpy(items[viewed]))
        found = topk(users, vectors, K, metric=network.metric, exclude=exclude).indices
        hit = found.cpu() == torch.from_numpy(targets)[:, None]
        gains.append((hit * torch.from_numpy(first_gains(K))).sum(1))
    return torch.cat(gains)

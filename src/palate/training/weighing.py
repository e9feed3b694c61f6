"""What the plain averages of a history should count, by the events that were held out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from palate.ops.discount import gains_behind
from palate.ops.evidence import widened
from palate.ops.similarity import unit_norm
from palate.training.network import TasteNetwork
from palate.training.validation import Holdout, K, hide_viewed, n_ahead, sure_lead, users_at_once
from palate.training.views import views_of

#: What the averages count unless held-out users say otherwise.
USUAL_MEAN, USUAL_CONTENT = 0.3, 0.0
#: Held-out users from which on nothing is usual: so many can tell.
MANY_USERS = 500
#: Held-out users that it takes to choose; with fewer, chance would.
FEWEST_USERS = 50
MEAN_WEIGHTS = (0.0, 0.15, 0.3, 0.6, 1.0, 1.5)
CONTENT_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0)
# Users are left out beyond this many scores.
_MOST_SCORES = 4 * 10**8
_ENOUGH_USERS = 500


def weigh(
    network: TasteNetwork,
    holdout: Holdout | None,
    mean_weight: float | None,
    content_weight: float | None,
    *,
    anew: bool = True,
) -> None:
    """Set what the plain averages count in a network.

    Parameters
    ----------
    network : TasteNetwork
    holdout : Holdout or None
    mean_weight, content_weight : float or None
        None is chosen by the held-out users; where they are too few, and by another metric than
        the cosine, it is what is usual. Items without content leave theirs out.
    anew : bool, default=True
        Whether `USUAL_MEAN` and `USUAL_CONTENT` are usual, or from `MANY_USERS` on 0 and 0; else
        what the network has now is.
    """
    cosine, reads = network.metric == "cosine", network.reads_content
    n_users = 0 if holdout is None else len(news(holdout))
    now = network.mean_weight, network.content_weight
    if anew:
        now = (USUAL_MEAN, USUAL_CONTENT) if cosine and n_users < MANY_USERS else (0.0, 0.0)
    usual = (
        now[0] if mean_weight is None else mean_weight,
        (now[1] if content_weight is None else content_weight) if reads else 0.0,
    )
    network.mean_weight, network.content_weight = usual
    if not cosine or holdout is None or n_users < FEWEST_USERS:
        return
    means = [usual[0]] if mean_weight is not None else sorted({usual[0], *MEAN_WEIGHTS})
    contents = [usual[1]]
    if reads and content_weight is None:
        contents = sorted({usual[1], *CONTENT_WEIGHTS})
    if len(means) + len(contents) > 2:
        network.mean_weight, network.content_weight = choose_weights(
            network, holdout, means, contents, usual
        )


@torch.inference_mode()
def choose_weights(
    network: TasteNetwork,
    holdout: Holdout,
    mean_weights: Sequence[float] = MEAN_WEIGHTS,
    content_weights: Sequence[float] = CONTENT_WEIGHTS,
    usual: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Return the pair of weights whose lead in NDCG@10 on held-out events is the surest.

    Parameters
    ----------
    network : TasteNetwork
        Its own weights of the averages play no part.
    holdout : Holdout
    mean_weights, content_weights : sequences of float
        What may be chosen.
    usual : pair of float, default=the first of each
        What it stays with, unless another pair is ahead by more than a standard error over users;
        then it is the pair whose lead less its standard error is largest.

    Returns
    -------
    mean_weight, content_weight : float
        See :mod:`palate.ops.evidence`.
    """
    network.eval()
    pairs = list(itertools.product(mean_weights, content_weights))
    vectors = network.items(None)
    rows = vectors
    if any(content_weights):
        rows = widened(vectors, network.items.content(None), 1.0)
    catalogue = unit_norm(vectors), unit_norm(rows[:, vectors.shape[1] :])
    some = _some(holdout, len(vectors))
    gains = []
    histories = some.indptr, some.items, some.people, some.times
    views = [unit_norm(view) for view in views_of(network, rows, *histories)]
    places = np.arange(len(some.targets))
    size = users_at_once(len(vectors))
    for start in range(0, len(places), size):
        part = slice(start, start + size)
        gains.append(_gains([v[part] for v in views], catalogue, some, places[part], pairs))
    table = torch.cat(gains).double()
    kept = 0 if usual is None else pairs.index(usual)
    if len(table) < 2:  # of one user nothing is sure
        return pairs[kept]
    sure = sure_lead(table - table[:, [kept]])
    sure[kept] = 0.0
    return pairs[int(sure.argmax()) if float(sure.max()) > 0 else kept]


def news(holdout: Holdout) -> np.ndarray:
    """Return the places of held-out events that are no repeats.

    Averages bring back what was taken, which answers leave out by default.
    """
    owners = np.repeat(np.arange(len(holdout.targets)), np.diff(holdout.indptr))
    repeats = owners[holdout.items == holdout.targets[owners]]
    return np.setdiff1d(np.arange(len(holdout.targets)), repeats)


def _some(holdout: Holdout, n_items: int) -> Holdout:
    """Return the events that are new to their users, of as many users as are affordable."""
    users = news(holdout)
    most = max(_ENOUGH_USERS, _MOST_SCORES // max(1, n_items))
    if len(users) > most:
        users = users[np.linspace(0, len(users) - 1, most).astype(np.int64)]
    spans = [slice(holdout.indptr[u], holdout.indptr[u + 1]) for u in users]
    indptr = np.concatenate([[0], np.cumsum([span.stop - span.start for span in spans])])
    items, times = (
        None if flat is None else np.concatenate([flat[span] for span in spans])
        for flat in (holdout.items, holdout.times)
    )
    people = None if holdout.people is None else holdout.people[users]
    return Holdout(indptr, items, holdout.targets[users], people, times)  # type: ignore[arg-type]


def _gains(
    views: Sequence[Tensor],
    catalogue: tuple[Tensor, Tensor],
    holdout: Holdout,
    places: np.ndarray,
    pairs: Sequence[tuple[float, float]],
) -> Tensor:
    """Return ``1 / log2(1 + rank)`` of each target by each pair, 0 beyond K: (n_rows, n_pairs)."""
    states, means, contents = views
    learned, content = catalogue
    by_state, by_mean = states @ learned.T, means @ learned.T
    by_content = contents @ content.T
    targets = torch.from_numpy(holdout.targets[places]).to(states.device)
    hide_viewed(by_state, holdout, places)
    columns = []
    for mean_weight, content_weight in pairs:
        scores = by_state + mean_weight * by_mean
        if content_weight:
            scores += content_weight * by_content
        columns.append(gains_behind(n_ahead(scores, targets), K))
    return torch.stack(columns, 1)

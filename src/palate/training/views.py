"""What a network sees in histories: the encoder's states, and the plain averages beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.data.histories import ranges
from palate.data.padding import cut_rows, pad_before, steps_at_once
from palate.ops.pooling import fading_bags, inverse_lengths
from palate.ops.similarity import unit_norm

#: What an event counts in the plain averages of a history, beside the event after it.
KEPT = 0.8
# Histories encoded at once, sorted by length: little padding and bounded activations. On a CPU, so
# few steps a thread that what one layer leaves is near when the next one reads it.
_ENCODE_ROWS, _STEPS_A_THREAD = 256, 4_096


def views_of(
    network: Any,
    vectors: Tensor,
    indptr: np.ndarray,
    items: np.ndarray,
    people: np.ndarray | None = None,
    times: np.ndarray | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three views of each history: the encoder's, and the plain averages.

    Parameters
    ----------
    network : TasteNetwork
    vectors, indptr, items, people, times
        As in :meth:`palate.training.network.TasteNetwork.encode_histories`.

    Returns
    -------
    states : Tensor of shape (n_rows, dim)
        What the encoder says; it alone is told of `times`.
    means : Tensor of shape (n_rows, dim)
        Fading averages of the unit vectors.
    contents : Tensor of shape (n_rows, width - dim)
        The same of the content.
    """
    sums = averages_of(network, vectors, indptr, items, people)
    states = states_of(network, vectors, indptr, items, people, times)
    return states, sums[:, : network.dim], sums[:, network.dim :]


def states_of(
    network: Any,
    vectors: Tensor,
    indptr: np.ndarray,
    items: np.ndarray,
    people: np.ndarray | None = None,
    times: np.ndarray | None = None,
) -> Tensor:
    """Return what the encoder says of each history: (n_rows, dim)."""
    out = vectors.new_empty(len(indptr) - 1, network.dim)
    for rows, x, mask, gaps, distances in padded(network, vectors, indptr, items, people, times):
        states = network.users(network.timed(x, gaps), mask, *network.beside(distances))
        out[torch.from_numpy(rows).to(out.device)] = states
    return out


def padded(
    network: Any,
    vectors: Tensor,
    indptr: np.ndarray,
    items: np.ndarray,
    people: np.ndarray | None = None,
    times: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor | None, Tensor | None]]:
    """Yield some histories at a time, of similar length.

    Their numbers, vectors, mask, and the codes of gaps and of distances, where those are read.
    """
    own = vectors[:, : network.dim]
    lengths = np.minimum(np.diff(indptr), network.room)
    led = np.zeros(len(lengths), np.int64) if people is None else (people >= 0).astype(np.int64)
    sizes = lengths + led
    order = np.argsort(-sizes, kind="stable")
    moments, events = network.moments(times, indptr), np.arange(len(items))
    n_steps = steps_at_once(vectors.device, _STEPS_A_THREAD)
    for part in cut_rows(sizes[order], _ENCODE_ROWS, n_steps):
        rows = order[part]
        places = indptr[rows + 1], lengths[rows], led[rows]
        codes, mask = pad_before(items, *places)
        when: tuple[Tensor | None, Tensor | None] = (None, None)
        if moments is not None:
            known = mask.numpy() & (np.arange(mask.shape[1]) >= led[rows][:, None])
            when = moments.at(pad_before(events, *places)[0].numpy(), known)
        inputs, mask = own[codes.to(vectors.device)], mask.to(vectors.device)
        gaps, distances = (None if t is None else t.to(vectors.device) for t in when)
        if people is not None and led[rows].any():
            first = torch.from_numpy(led[rows] > 0).to(vectors.device)
            texts = torch.from_numpy(people[rows][led[rows] > 0]).to(vectors.device)
            inputs[first, 0] = network.person_vectors(texts).to(inputs)
        yield rows, inputs, mask, gaps, distances


def averages_of(
    network: Any,
    vectors: Tensor,
    indptr: np.ndarray,
    items: np.ndarray,
    people: np.ndarray | None = None,
) -> Tensor:
    """Return the fading averages of unit vectors and, beside them, of content: (n_rows, width).

    The two parts of a row are of proportional length, so one factor makes both of one length.
    """
    lengths = np.minimum(np.diff(indptr), network.room)
    flat = items[ranges(indptr[1:] - lengths, lengths)]
    codes = torch.from_numpy(flat).to(vectors.device)
    scales = inverse_lengths(vectors, codes, network.dim)
    sums = fading_bags(vectors, codes, lengths, KEPT, scales)
    if people is not None and (people >= 0).any():
        led = torch.from_numpy(people >= 0).to(vectors.device)
        told = torch.from_numpy(people[people >= 0]).to(vectors.device)
        before = KEPT ** torch.from_numpy(lengths[people >= 0]).to(sums)[:, None]
        # What a person is has no content of items.
        sums[led, : network.dim] += before * unit_norm(network.person_vectors(told)).to(sums)
    return sums

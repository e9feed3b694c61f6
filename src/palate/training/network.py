"""Everything that has weights, in one module: items, users, the temperature."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from palate.data.moments import Moments, moments_of
from palate.data.time_gaps import UNKNOWN
from palate.encoders.user.gaps import GapVectors
from palate.encoders.user.pooled import PooledEncoder
from palate.encoders.user.time_bias import TimeBias
from palate.exceptions import InvalidParameterError, MissingContentError
from palate.ops.evidence import mixed, widened
from palate.ops.similarity import as_dot_product
from palate.protocols import ItemModule, UserEncoder
from palate.training.views import states_of, views_of

# Cosines lie in [-1, 1]: the softmax needs them stretched, and the stretch is learned.
_START_SCALE = {"cosine": 1 / 0.07, "dot": 1.0, "euclidean": 1.0}
_MAX_SCALE = 100.0
# Attribute texts that differ less than this are one.
_SAME = 1e-6


class TasteNetwork(nn.Module):
    """Item vectors, user vectors and the learned temperature between them.

    Parameters
    ----------
    items : ItemModule
    user_encoder : UserEncoder
        Spec of the network over histories.
    dim : int
        Width of item and user vectors.
    metric : {"cosine", "dot", "euclidean"}
        The similarity that ranks, in training as in serving.
    seen : bool Tensor of shape (n_items,)
        Whether an item occurs in training events.

    Attributes
    ----------
    mean_weight, content_weight : float
        What the plain averages of a history count beside the encoder, in answers: see
        :mod:`palate.ops.evidence`. 0, as they are at first, leaves them out.
    gaps : GapVectors or None
        What the time before an event adds to its vector, with `time_gaps`.
    time_bias : TimeBias or None
        What the time between two events adds to the attention, with `time_bias`.
    """

    seen: Tensor
    people: Tensor | None
    people_mean: Tensor | None
    people_spread: Tensor | None

    def __init__(
        self, items: ItemModule, user_encoder: UserEncoder, dim: int, metric: str, seen: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("seen", seen)
        self.items = items
        self.users = PooledEncoder(user_encoder, dim)
        self.metric = metric
        self.dim = dim
        self.mean_weight = self.content_weight = 0.0
        self.mask_vector = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.empty(()))
        self.restart_scale()
        # What the item encoder read in attribute texts; None without `user_features`.
        for name in ("people", "people_mean", "people_spread"):
            self.register_buffer(name, None)
        self.people_texts: tuple[str, ...] = ()
        self.gaps: GapVectors | None = None
        self.time_bias: TimeBias | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not hasattr(self, "time_bias"):  # a pickle made before there was one
            self.time_bias = None

    def restart_scale(self) -> None:
        """Set the learned temperature to where it starts."""
        nn.init.constant_(self.log_scale, math.log(_START_SCALE[self.metric]))

    @property
    def gap_edges(self) -> np.ndarray | None:
        """What parts the gaps between events; None for a network that does not read them."""
        return None if self.gaps is None else self.gaps.edges

    @property
    def bias_edges(self) -> np.ndarray | None:
        """What parts the distances between events; None for a network that does not read them."""
        return None if self.time_bias is None else self.time_bias.edges

    @property
    def reads_times(self) -> bool:
        """Whether it is told when events happened."""
        return self.gaps is not None or self.time_bias is not None

    def read_times(self, gap_edges: np.ndarray | None, bias_edges: np.ndarray | None) -> None:
        """Read from now on gaps and distances that such edges part; None for what is not read.

        Raises
        ------
        InvalidParameterError
            If the user encoder's network takes no bias, and distances are to be read.
        """
        if gap_edges is not None:
            self.gaps = GapVectors(gap_edges, self.dim)
        if bias_edges is not None:
            shape = self.users.bias_shape
            if shape is None:
                raise InvalidParameterError(
                    "time_bias needs a user encoder whose network takes a bias (with bias_shape), "
                    f"such as user_encoder='transformer'; got {type(self.users.spec).__name__}."
                )
            self.time_bias = TimeBias(bias_edges, *shape)

    def moments(self, times: np.ndarray | None, indptr: np.ndarray) -> Moments | None:
        """Return what the times of histories one after another tell this network."""
        return moments_of(times, indptr, self.gap_edges, self.bias_edges)

    def timed(self, x: Tensor, gaps: Tensor | None) -> Tensor:
        """Add to the vectors of events (..., dim) those of the gaps before them (...)."""
        return x if self.gaps is None or gaps is None else x + self.gaps(gaps)

    def beside(self, distances: Tensor | None, hidden: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return what the user encoder takes beside vectors and mask: a bias by time, or nothing.

        The time of what is `hidden` (n_rows, n_steps) is hidden too.
        """
        if self.time_bias is None or distances is None:
            return ()
        if hidden is not None:
            distances = distances.masked_fill(hidden[:, :, None] | hidden[:, None], UNKNOWN)
        return (self.time_bias(distances),)

    @property
    def room(self) -> int:
        """The most recent events that are read: attributes take the place of one."""
        return self.users.max_length - (self.people is not None)

    def read_people(self, texts: Sequence[str], context: Any) -> None:
        """Read more attribute texts: what training does not change is computed here, once.

        What the first of them have in common is taken away from all: see `_measure`.

        Raises
        ------
        InvalidParameterError
            If the item encoder reads no text, or the user encoder has no room beside attributes.
        """
        if self.people is None and self.users.max_length < 2:
            raise InvalidParameterError(
                "max_length must be at least 2 with user_features, which take one place; got "
                f"{self.users.max_length}."
            )
        try:
            read = self.items.read_texts(list(texts), context).to(self.mask_vector.device)
        except (NotImplementedError, MissingContentError) as error:
            raise InvalidParameterError(
                "user_features needs an item encoder that reads text (with read_texts and "
                "place_texts), such as item_encoder='bert+id'; got "
                f"{type(self.items).__name__}."
            ) from error
        if self.people is None:
            self._measure(read)
        read = self._apart(read)
        self.people = read if self.people is None else torch.cat([self.people, read])
        self.people_texts = (*self.people_texts, *texts)

    def _measure(self, read: Tensor) -> None:
        """Find what attribute texts have in common, and how far they differ.

        They all say "age" and "occupation": what tells people apart would drown in that. Without
        it, they are as long as the content of items.
        """
        self.people_mean = read.mean(0)
        spread = (read - self.people_mean).square().sum(1).mean().sqrt()
        self.people_spread = torch.where(spread > _SAME, spread, torch.ones_like(spread))

    def _apart(self, read: Tensor) -> Tensor:
        assert self.people_mean is not None
        assert self.people_spread is not None
        return (read - self.people_mean) / self.people_spread

    def with_people(self, texts: Sequence[str], context: Any) -> TasteNetwork:
        """Return a network that knows more attribute texts and shares everything else."""
        other = copy.copy(self)
        vars(other)["_buffers"] = dict(self._buffers)
        with torch.inference_mode(False), torch.no_grad():
            other.read_people(texts, context)
        return other

    def person_vectors(self, codes: Tensor) -> Tensor:
        """Return the vectors (n, dim) of attribute texts, by the item encoder's projection."""
        assert self.people is not None
        return self.items.place_texts(self.people[codes])

    def refresh_people(self, context: Any) -> None:
        """Read all attribute texts again where what reads them is trained."""
        if self.people is not None and self.items.is_live:
            read = self.items.read_texts(list(self.people_texts), context).to(self.people.device)
            self._measure(read)
            self.people = self._apart(read)

    def logits_as_product(
        self, users: Tensor, items: Tensor, temperature: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the factors whose product is the similarity over the temperature.

        None stands for the learned temperature.
        """
        queries, rows = as_dot_product(users, items, self.metric)
        if temperature is not None:
            return queries / temperature, rows
        return queries * self.log_scale.exp().clamp(max=_MAX_SCALE), rows

    @torch.inference_mode()
    def catalogue(self) -> Tensor:
        """Return what ranks all items: (n_items, width)."""
        self.eval()
        return self.item_rows(None)

    @property
    def reads_content(self) -> bool:
        """Whether the items have content that can count."""
        return self.items.content(torch.arange(0)) is not None

    @property
    def width(self) -> int:
        """Columns of the rows that rank."""
        content = self.items.content(torch.arange(0)) if self.content_weight else None
        return self.dim + (0 if content is None else content.shape[1])

    def item_rows(self, codes: Tensor | None) -> Tensor:
        """Return what ranks items of some codes, of all for None: (n, width)."""
        vectors: Tensor = self.items(codes)
        if not self.content_weight:
            return vectors
        return widened(vectors, self.items.content(codes), self.content_weight)

    def text_rows(self, texts: Sequence[str], context: Any) -> Tensor:
        """Return the same for free texts: (n_texts, width)."""
        vectors, content = self.items.hear_texts(texts, context)
        if not self.content_weight:
            return vectors
        if content is None:
            raise NotImplementedError("hear_texts must tell the content, which counts in answers.")
        return widened(vectors, content, self.content_weight)

    @torch.inference_mode()
    def encode_histories(
        self,
        vectors: Tensor,
        indptr: np.ndarray,
        items: np.ndarray,
        people: np.ndarray | None = None,
        times: np.ndarray | None = None,
    ) -> Tensor:
        """Return the user vector of each history: (n_rows, width).

        Parameters
        ----------
        vectors : float Tensor of shape (n_vectors, width)
            The rows that `items` points to: the catalogue's, and maybe more.
        indptr : int64 ndarray of shape (n_rows + 1,)
        items : int64 ndarray of shape (n_events,)
            Histories one after another, none of them empty.
        people : int64 ndarray of shape (n_rows,), default=None
            Attribute texts that stand before the recent events, -1 for none; a history with one
            may be empty.
        times : ndarray of shape (n_events,), default=None
            When the events happened, read by a network that `reads_times`; None is unknown.
        """
        histories = vectors, indptr, items, people, times
        if not (self.mean_weight or self.content_weight):
            return states_of(self, *histories)
        return mixed(*views_of(self, *histories), self.mean_weight, self.content_weight)

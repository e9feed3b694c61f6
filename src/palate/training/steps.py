"""The loss of one batch: next-item ranking, and the two losses of pretraining."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.data.batches import Batch
from palate.ops.losses import contrastive_loss, softmax_loss
from palate.protocols import Objective
from palate.training.network import TasteNetwork

_MASKED_SHARE = 0.2
_VIEW_MASKED_SHARE = 0.3
_CONTRAST_WEIGHT = 0.1


class Step(nn.Module):
    """What the steps share: the vectors of the items that a batch needs, each computed once.

    Parameters
    ----------
    network : TasteNetwork
    objective : Objective
        Chooses the candidates.
    pool : int64 Tensor of shape (n_pool,)
        Sorted codes of the items that may be candidates: those that occur in training.
    counts : Tensor of shape (n_items,)
        Training events of each item.
    generator : torch.Generator
        Draws candidates and masks.
    """

    content_only = False

    def __init__(
        self,
        network: TasteNetwork,
        objective: Objective,
        pool: Tensor,
        counts: Tensor,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.pool, self.counts = pool, counts
        self.generator = generator

    def look_up(
        self, codes: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return the input vectors, the candidates, the place of each target, and the bias.

        Parameters
        ----------
        codes : int64 Tensor of shape (n_rows, n_steps)
            Of items, and beyond them of attribute texts.
        targets : int64 Tensor of shape (n_positions,)
        """
        candidates, bias = self.objective.candidates(
            targets, self.pool, self.counts, self.generator
        )
        told, codes = codes, self.events_of(codes)
        if len(candidates) == len(self.counts):
            needed, vectors = None, self.network.items(None, content_only=self.content_only)
        else:
            needed = torch.unique(torch.cat([codes.flatten(), candidates]))
            vectors = self.network.items(needed, content_only=self.content_only)
        if needed is None:
            return self._introduce(vectors[codes], told), vectors, targets, bias
        rows = vectors[torch.searchsorted(needed, candidates)]
        places = torch.searchsorted(candidates, targets)
        inputs = vectors[torch.searchsorted(needed, codes)]
        return self._introduce(inputs, told), rows, places, bias

    def events_of(self, codes: Tensor) -> Tensor:
        """Return item codes, 0 where an attribute text stands."""
        if self.network.people is None:
            return codes
        return torch.where(codes < len(self.counts), codes, 0)

    def _introduce(self, inputs: Tensor, codes: Tensor) -> Tensor:
        """Put the vectors of attribute texts to their places among the inputs."""
        if self.network.people is None:
            return inputs
        told = codes >= len(self.counts)
        vectors = self.network.person_vectors(codes[told] - len(self.counts))
        return inputs.index_put((told,), vectors.to(inputs))

    def rank_loss(
        self,
        users: Tensor,
        items: Tensor,
        places: Tensor,
        weights: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Return the loss of user vectors against candidates: the objective's, or the softmax."""
        temperature = getattr(self.objective, "temperature", None)
        queries, rows = self.network.logits_as_product(users, items, temperature)
        own = getattr(self.objective, "loss", None)
        if own is None:
            return softmax_loss(queries, rows, places, weights=weights, bias=bias)
        return own(queries, rows, places, weights, bias, len(self.pool))  # type: ignore[no-any-return]


class RankingStep(Step):
    """Next-item ranking at every real step of every window."""

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""
        targets = batch.targets[batch.scored]
        inputs, items, places, bias = self.look_up(batch.codes, targets)
        inputs = self.network.timed(inputs, batch.gaps)
        beside = self.network.beside(batch.distances)
        users = self.network.users.prefixes(inputs, batch.mask, *beside)[batch.scored]
        return self.rank_loss(users, items, places, batch.weights[batch.scored], bias)


class PretrainStep(Step):
    """Masked-item modelling, and contrast of two masked views of each history.

    Items are their content alone where they have content, so that what is learned holds for
    items of another catalogue.

    Notes
    -----
    Masked items: Sun et al., "BERT4Rec", CIKM 2019, section 3.6. Contrast of masked views of a
    sequence: Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022,
    equation 3.
    """

    @property
    def content_only(self) -> bool:  # type: ignore[override]
        """Whether ids are left out."""
        return self.network.items.has_content

    def forward(self, batch: Batch) -> Tensor:
        """Return the sum of both losses."""
        mask = batch.mask
        events = mask & (batch.codes < len(self.counts))
        last = _last(mask) & events
        hidden = self._draw(events, _MASKED_SHARE)
        hidden |= ~hidden.any(1, keepdim=True) & last
        targets = batch.codes[hidden]
        inputs, items, places, bias = self.look_up(batch.codes, targets)
        inputs = self.network.timed(inputs, batch.gaps)
        states = self.network.users.states(*self._without(inputs, batch, hidden))
        # Attributes alone have no event that could be hidden.
        loss = self.rank_loss(states[hidden], items, places, None, bias) if len(targets) else 0.0
        views = [
            self.network.users(*self._without(inputs, batch, self._view(events, last)))
            for _ in "ab"
        ]
        return loss + _CONTRAST_WEIGHT * contrastive_loss(*views)

    def _draw(self, mask: Tensor, share: float) -> Tensor:
        drawn = torch.rand(mask.shape, generator=self.generator).to(mask.device)
        return (drawn < share) & mask

    def _view(self, events: Tensor, last: Tensor | None = None) -> Tensor:
        hidden = self._draw(events, _VIEW_MASKED_SHARE)
        last = _last(events) if last is None else last
        # A history hidden whole would look like any other: its last event stays.
        return hidden & ~((hidden == events).all(1, keepdim=True) & last)

    def _without(self, inputs: Tensor, batch: Batch, hidden: Tensor) -> tuple[Tensor, ...]:
        """Return what the user encoder takes where some events, and when they were, are hidden."""
        beside = self.network.beside(batch.distances, hidden)
        return self._hide(inputs, hidden), batch.mask, *beside

    def _hide(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        return torch.where(hidden[..., None], self.network.mask_vector, inputs)


def _last(mask: Tensor) -> Tensor:
    """Mark the last real step of each row."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    return steps == mask.sum(1, keepdim=True) - 1

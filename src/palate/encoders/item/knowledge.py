"""Items as what a knowledge graph knows about them: the learned vectors of their neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from palate._validation import check_real
from palate.data.items import ItemTable
from palate.data.knowledge import FACTS, SEPARATOR
from palate.encoders.item.bags import Bags
from palate.encoders.item.ids import INITIAL_STD, SPARSE_ROWS
from palate.exceptions import MissingContentError
from palate.protocols import ItemModule

# A relation may weigh so much more than another: e to the 5.
_MAX_LOGIT = 5.0


class KnowledgeEncoder(BaseEstimator):
    """The weighted mean of learned entity vectors over the facts about an item.

    Every entity of the graph that an item is related to has a learned vector, and every relation a
    learned weight. An item never seen in training gets its vector from the entities that it
    shares with items that were; entities that no such item has stay silent.

    It needs items with a graph: ``fit(X, items=Items(table, knowledge=graph))``.

    Parameters
    ----------
    fact_dropout : float, default=0.3
        Share of facts that are left out in a training step, in [0, 1), so that no single rare one
        stands for an item.

    Notes
    -----
    For facts (r, e) of an item, ``sum(w(r) v(e)) / sum(w(r))`` with ``w(r) = exp(min(a(r), 5))``:
    attention over neighbours by relation, as in Wang et al., "KGAT: Knowledge Graph Attention
    Network for Recommendation", 2019, where the weight also depends on the entity.

    Examples
    --------
    >>> import pandas as pd
    >>> drama, ann = f"genre{SEPARATOR}drama", f"by{SEPARATOR}Ann"
    >>> facts = pd.DataFrame({FACTS: [[drama, ann], [drama], []]})
    >>> module = KnowledgeEncoder().build(ItemTable(facts), dim=2, context=None).eval()
    >>> module(None).shape, module(torch.tensor([2])).tolist()
    (torch.Size([3, 2]), [[0.0, 0.0]])
    """

    def __init__(self, fact_dropout: float = 0.3) -> None:
        self.fact_dropout = fact_dropout

    def build(
        self,
        items: ItemTable,
        dim: int,
        context: Any,
        state: Mapping[str, Tensor] | None = None,
    ) -> ItemModule:
        """Return a fresh module that knows the facts of every row of `items`.

        Raises
        ------
        InvalidParameterError
            If `fact_dropout` is out of range.
        MissingContentError
            If `items` came without a knowledge graph, or it says nothing about any of them.
        """
        dropout = check_real("fact_dropout", self.fact_dropout, low=0, high=1, high_open=True)
        return KnowledgeItems(items, dim, dropout)


class KnowledgeItems(ItemModule):
    """Entity vectors, relation weights, and the facts of each item."""

    has_content = True
    active: Tensor

    def __init__(self, items: ItemTable, dim: int, fact_dropout: float) -> None:
        super().__init__()
        self.fact_dropout = fact_dropout
        self._entity_codes: dict[str, int] = {}
        self._relation_codes: dict[str, int] = {}
        self.entities, self.relations = Bags([]), Bags([])
        self._read(items)
        if not self._entity_codes:
            raise MissingContentError(
                "the knowledge graph must have a fact about at least one item; got none: compare "
                "the ids of its links with those of items."
            )
        self.weight = nn.Parameter(torch.empty(len(self._entity_codes), dim))
        nn.init.normal_(self.weight, std=INITIAL_STD)
        self.relation_logits = nn.Parameter(torch.zeros(len(self._relation_codes)))
        self.register_buffer("active", torch.ones(len(self.weight), dtype=torch.bool))

    def _read(self, items: ItemTable) -> None:
        """Code the facts of the rows that are not yet known."""
        entities, relations = [], []
        for row in facts_of(items)[len(self.entities) :]:
            parts = [fact.split(SEPARATOR, 1) for fact in row]
            relations.append([_code(self._relation_codes, part[0]) for part in parts])
            entities.append([_code(self._entity_codes, part[-1]) for part in parts])
        self.entities.append(entities)
        self.relations.append(relations)

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        """Return the vectors of `codes` (of all items for None), zero where no fact is known."""
        places, offsets, owners = self.entities.pick(codes)
        entities = self.entities.values[places]
        logits = self.relation_logits[self.relations.values[places]]
        weights = logits.clamp(max=_MAX_LOGIT).exp() * self.active[entities]
        if self.training and self.fact_dropout:
            weights = weights * (torch.rand_like(weights) >= self.fact_dropout)
        totals = weights.new_zeros(len(offsets)).index_add(0, owners, weights)
        sparse = self.training and len(self.weight) > max(SPARSE_ROWS, len(entities))
        return F.embedding_bag(
            entities,
            self.weight,
            offsets,
            mode="sum",
            sparse=sparse,
            per_sample_weights=weights / totals.clamp_min(1e-12)[owners],
        )

    def extend(self, items: ItemTable, seen: Tensor, context: Any) -> None:
        """Grow to all rows of `items`; entities that training will now reach start small."""
        self._read(items)
        n_old, dim = self.weight.shape
        new = self.weight.new_empty(len(self._entity_codes) - n_old, dim)
        nn.init.normal_(new, std=INITIAL_STD)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), new]))
        more = self.relation_logits.new_zeros(len(self._relation_codes) - len(self.relation_logits))
        self.relation_logits = nn.Parameter(torch.cat([self.relation_logits.detach(), more]))
        self.active = reached(self.entities, seen, len(self.weight))

    def encode_texts(self, texts: Sequence[str], context: Any) -> Tensor:
        """Refuse: a graph says nothing about a text."""
        raise MissingContentError(
            "texts need an item encoder that reads text, such as item_encoder='bert+id'; "
            "got a knowledge encoder alone."
        )


def reached(bags: Bags, seen: Tensor, n_codes: int) -> Tensor:
    """Tell which codes (n_codes,) occur in the bag of a row that `seen` (n_rows,) marks."""
    places, _, owners = bags.pick(None)
    active = torch.zeros(n_codes, dtype=torch.bool, device=bags.values.device)
    active[bags.values[places][seen.to(active.device)[owners]]] = True
    return active


def facts_of(items: ItemTable) -> list[Sequence[str]]:
    """Return the facts of each row of an item table.

    Raises
    ------
    MissingContentError
        If the items came without a knowledge graph.
    """
    if FACTS not in items.frame.columns:
        raise MissingContentError(
            "items must come with a knowledge graph for a knowledge encoder, as in "
            "Items(table, knowledge=graph)."
        )
    return list(items.frame[FACTS])


def _code(codes: dict[str, int], name: str) -> int:
    return codes.setdefault(name, len(codes))

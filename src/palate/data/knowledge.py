"""A knowledge graph beside an item table: facts about items, as they are and in words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from palate._validation import check_int
from palate.data.checks import is_unicode, shown
from palate.data.frames import id_column, open_frame
from palate.data.vocabulary import Vocabulary
from palate.exceptions import InvalidInputError

#: Columns of an item table that hold an item's facts, and what is told of them in words.
FACTS, TOLD = "knowledge:facts", "knowledge:text"
#: Between relation and entity of a fact.
SEPARATOR = "\t"
# More than so many actors of one film say little more, and push other relations out of the text.
_VALUES = 3


class _Graph(NamedTuple):
    """A graph in codes.

    Attributes
    ----------
    edges : DataFrame of a row for each different triple
        ``head, relation, tail, order``, and by what those of a head are told first: ``rare``, minus
        the triples that have the same tail, and ``place``, from 0.
    entities, relations : Vocabulary
    """

    edges: pd.DataFrame
    entities: Vocabulary
    relations: Vocabulary


class KnowledgeGraph:
    """Facts about items: triples, and which entity an item is.

    It goes with the items, ``Items(table, knowledge=graph)``, in `fit`, `partial_fit` and
    `add_items`. What it says about an item becomes part of the item's text, and
    :class:`palate.KnowledgeEncoder` learns a vector from it. A taxonomy is the case with one
    relation: pass its triples and as many hops as it has levels.

    Parameters
    ----------
    triples : pandas, polars or pyarrow table
        Columns ``head, relation, tail``: entities of any id type, and the relation between them.
        A relation is followed from head to tail; for the other way too, add triples turned round.
    links : pandas, polars or pyarrow table, default=None
        Columns ``item_id, entity``; an item may have none or several entities. By default items
        are entities themselves, under their ids.
    names : mapping of entity to str, default=None
        What entities are called in the text; those without a name are not told. By default an
        entity's id is its name. Pass ``{}`` where ids mean nothing: then no fact is told.
    relations : mapping of relation to str, default=None
        Words for relations; only these are told, in this order, such as ``{"directed_by":
        "directed by", "genre": "genre"}``. By default all are, in the order of the triples, by the
        last part of their name (``film.film.directed_by`` is "directed by").
    n_hops : int, default=1
        How many triples away a fact may be, such as all levels of a taxonomy above an item.
    max_facts : int, default=64
        Facts of an item that are kept: the nearest first, of these the ones that most triples end
        at, of these the first given.
    max_told : int, default=12
        Facts of an item that are told, at most 3 of one relation.

    Examples
    --------
    >>> graph = KnowledgeGraph(
    ...     pd.DataFrame(
    ...         [["m1", "film.directed_by", "p1"], ["m1", "film.genre", "g1"]],
    ...         columns=["head", "relation", "tail"],
    ...     ),
    ...     pd.DataFrame({"item_id": [7], "entity": ["m1"]}),
    ...     names={"p1": "Steven Spielberg", "g1": "adventure"},
    ... )
    >>> graph.told(graph.facts_of(np.array([7, 8])), 2)
    ['directed by Steven Spielberg; genre adventure', '']
    """

    def __init__(
        self,
        triples: Any,
        links: Any = None,
        *,
        names: Mapping[Any, str] | None = None,
        relations: Mapping[Any, str] | None = None,
        n_hops: int = 1,
        max_facts: int = 64,
        max_told: int = 12,
    ) -> None:
        self.triples = triples
        self.links = links
        self.names = names
        self.relations = relations
        self.n_hops = n_hops
        self.max_facts = max_facts
        self.max_told = max_told

    def columns_for(self, ids: np.ndarray) -> dict[str, list[Any]]:
        """Return the columns that an item table gets.

        Parameters
        ----------
        ids : ndarray of shape (n_items,)
            Distinct item ids.

        Returns
        -------
        dict
            `FACTS`: for each item the list of its facts, each ``relation<tab>entity``; `TOLD`: for
            each item a text.

        Raises
        ------
        InvalidInputError, InvalidParameterError
            If a table lacks a column or has missing values, or a parameter is out of range.
        """
        facts = self.facts_of(ids)
        lists: list[list[str]] = [[] for _ in range(len(ids))]
        relations = [str(value) for value in self._graph.relations.array]
        entities = [str(value) for value in self._graph.entities.array]
        for row, relation, tail in _rows(facts):
            lists[row].append(f"{relations[relation]}{SEPARATOR}{entities[tail]}")
        return {FACTS: lists, TOLD: self.told(facts, len(ids))}

    def facts_of(self, ids: np.ndarray) -> pd.DataFrame:
        """Return the facts about items that are kept: ``row`` of `ids`, ``relation``, ``tail``.

        Relations and tails are codes; the rows of an item are in order of preference.
        """
        n_hops = check_int("n_hops", self.n_hops, minimum=1)
        max_facts = check_int("max_facts", self.max_facts, minimum=1)
        # A row keeps `max_facts`, of which earlier steps may have found as many already; where an
        # entity has more, the row is full, and what lies beyond it does not count.
        edges = self._graph.edges
        edges = edges[edges["place"] < 2 * max_facts]
        reached = self._linked(ids)
        found = []
        for hop in range(n_hops):
            step = reached.merge(edges, on="head")
            found.append(step.assign(hop=hop))
            reached = step[["row", "tail"]].drop_duplicates().rename(columns={"tail": "head"})
        facts = pd.concat(found, ignore_index=True)
        facts = facts.sort_values(["row", "hop", "rare", "order"], kind="stable")
        facts = facts.drop_duplicates(["row", "relation", "tail"])
        facts = facts[facts.groupby("row").cumcount() < max_facts]
        return facts[["row", "relation", "tail"]].reset_index(drop=True)

    def told(self, facts: pd.DataFrame, n_items: int) -> list[str]:
        """Return facts in words, one text an item: relations by semicolons, values by commas."""
        max_told = check_int("max_told", self.max_told)
        words, names = self._words(), self._names()
        places = np.full(len(self._graph.relations), -1)
        places[list(words)] = np.arange(len(words))
        known = np.array([name is not None for name in names], dtype=bool)
        facts = facts[
            (places[facts["relation"].to_numpy()] >= 0) & known[facts["tail"].to_numpy()]
        ].assign(place=lambda frame: places[frame["relation"].to_numpy()])
        facts = facts[facts.groupby(["row", "relation"]).cumcount() < _VALUES]
        facts = facts.sort_values(["row", "place"], kind="stable")
        facts = facts[facts.groupby("row").cumcount() < max_told]
        parts: list[dict[int, list[str]]] = [{} for _ in range(n_items)]
        for row, relation, tail in _rows(facts):
            parts[row].setdefault(relation, []).append(names[tail] or "")
        return [
            "; ".join(f"{words[relation]} {', '.join(values)}" for relation, values in part.items())
            for part in parts
        ]

    @cached_property
    def _graph(self) -> _Graph:
        frame = open_frame(self.triples, "triples")
        heads, relations, tails = (
            id_column(frame, name, "triples") for name in ("head", "relation", "tail")
        )
        if not len(heads):
            raise InvalidInputError("triples must hold at least one triple; got none.")
        entities = Vocabulary().extend(heads).extend(tails)
        kinds = Vocabulary().extend(relations)
        bad = [kind for kind in kinds.array if SEPARATOR in str(kind)]
        if bad:
            raise InvalidInputError(
                f"relation of triples must be without tabs; got {shown(bad[0])}."
            )
        columns = (entities.codes(heads), kinds.codes(relations), entities.codes(tails))
        edges = pd.DataFrame(dict(zip(("head", "relation", "tail"), columns, strict=True)))
        rare = -np.bincount(columns[2], minlength=len(entities))[columns[2]]
        edges = edges.assign(order=np.arange(len(edges)), rare=rare)
        edges = edges.sort_values(["head", "rare", "order"], kind="stable")
        edges = edges.drop_duplicates(["head", "relation", "tail"])
        edges = edges.assign(place=edges.groupby("head").cumcount())
        return _Graph(edges, entities, kinds)

    def _linked(self, ids: np.ndarray) -> pd.DataFrame:
        """Return which entities the items are: ``row, head``."""
        if self.links is None:
            rows, heads = np.arange(len(ids)), self._graph.entities.codes(ids)
        else:
            frame = open_frame(self.links, "links")
            linked = id_column(frame, "item_id", "links")
            rows = Vocabulary(ids).codes(linked)
            heads = self._graph.entities.codes(id_column(frame, "entity", "links"))
        good = (rows >= 0) & (heads >= 0)
        return pd.DataFrame({"row": rows[good], "head": heads[good]}).drop_duplicates()

    def _words(self) -> dict[int, str]:
        """Return the words for relations that are told, by code, in the order of telling."""
        kinds = self._graph.relations
        if self.relations is None:
            return {code: _last_part(str(kind)) for code, kind in enumerate(kinds.array)}
        _check_texts("relations", self.relations)
        codes = kinds.codes(list(self.relations))
        if (codes < 0).any():
            unknown = list(self.relations)[int(np.flatnonzero(codes < 0)[0])]
            raise InvalidInputError(
                f"relations must name relations of the triples; got {shown(unknown)}, and they "
                f"are {', '.join(shown(kind) for kind in kinds.array[:20])}."
            )
        return dict(zip(codes.tolist(), self.relations.values(), strict=True))

    def _names(self) -> list[str | None]:
        """Return what each entity is called, by code."""
        entities = self._graph.entities.array.tolist()
        if self.names is None:
            return [str(entity) for entity in entities]
        _check_texts("names", self.names)
        return [self.names.get(entity) for entity in entities]


def _check_texts(name: str, given: Any) -> None:
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"{name} must map ids to texts; got {type(given).__name__}.")
    for key, text in given.items():
        if not isinstance(text, str) or not is_unicode(text):
            raise InvalidInputError(
                f"{name} must map ids to texts without lone surrogates; {shown(key)} is mapped to "
                f"{shown(text)}."
            )


def _rows(facts: pd.DataFrame) -> zip[tuple[int, int, int]]:
    return zip(*(facts[name].tolist() for name in ("row", "relation", "tail")), strict=True)


def _last_part(relation: str) -> str:
    """Return the words of a dotted name: "film.film.directed_by" ends in "directed by"."""
    return relation.rsplit(".", 1)[-1].rsplit("/", 1)[-1].replace("_", " ").strip()

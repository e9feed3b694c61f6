"""What answers queries: vocabularies, histories, network and catalogue, frozen at one moment."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate._options import RunOptions
from palate._random import ModuleSeed
from palate._validation import check_choice
from palate.answering import Asking, Catalogue
from palate.data.coded import CodedEvents
from palate.data.histories import Histories
from palate.data.items import ItemTable
from palate.data.people import People, changed_places
from palate.data.popularity import Popularity, choose_half_life
from palate.data.vocabulary import Vocabulary
from palate.exceptions import MissingContentError
from palate.kept_vectors import KeptVectors
from palate.learning import Learned
from palate.queries import Queries
from palate.reranking.fitted import FittedReranker, reranked
from palate.training.network import TasteNetwork
from palate.training.optimizer import OptimizerState

# More excluded items than this are cheaper to leave out of the catalogue than to name per user.
_FEW_EXCLUDED = 256
_NOBODY = np.empty(0, np.int64)
_BYTES, _MIB = 4, 2**20


@dataclass(frozen=True)
class Learning:
    """What learning goes on from; a part of the state, so that nobody sees half of a change.

    Attributes
    ----------
    records : list of dict
        One for each epoch so far.
    optimizer_state : dict
        Moments by parameter name.
    n_fits : int
        How often the model has learned: the seed of the next time depends on it.
    lengths : int32 ndarray
        Events of each user when it last learned.
    half_life : float, None or "auto"
        By which popularity fades, as the events that it learned from chose; "auto" for a model
        saved before that was kept.
    """

    records: list[dict[str, Any]]
    optimizer_state: OptimizerState
    n_fits: int
    lengths: np.ndarray
    half_life: float | str | None = "auto"

    def then(
        self, learned: Learned, histories: Histories, users: np.ndarray | None = None
    ) -> Learning:
        """Return what to go on from after learning once more, from `users` of `histories` or all.

        What others have done since is still to be learned.
        """
        lengths = now = histories.all_lengths()
        if users is not None:
            lengths = np.pad(self.lengths, (0, len(now) - len(self.lengths)))
            lengths[users] = now[users]
        return Learning(
            self.records + learned.records,
            learned.optimizer_state,
            self.n_fits + 1,
            lengths,
            choose_half_life(histories.events(), len(learned.network.seen)),
        )


NOTHING_LEARNED = Learning([], {}, 0, np.empty(0, np.int32))


@dataclass(frozen=True)
class Serving:
    """A fitted model at one moment; an update makes a new one, so a reader never sees half.

    Attributes
    ----------
    users, items : Vocabulary
    table : ItemTable
        Content, one row an item.
    histories : Histories
    network : TasteNetwork
        In evaluation mode.
    vectors : float32 Tensor of shape (n_items, width)
        The catalogue.
    ranker : Ranker
        Fitted on `vectors`.
    learning : Learning
    people : People or None
        What `user_features` tells of each user.
    reranker : FittedReranker or None
        The second stage.
    given_ranker : str, Ranker or None
        The parameter that `ranker` was made from: set_params may change it later. None where a
        pickle does not tell.
    """

    users: Vocabulary
    items: Vocabulary
    table: ItemTable
    histories: Histories
    network: TasteNetwork
    vectors: Tensor
    ranker: Any
    learning: Learning
    people: People | None = None
    reranker: FittedReranker | None = None
    given_ranker: Any = None

    @cached_property
    def popularity(self) -> Popularity:
        """What people in general do now: counted when first asked for, then kept current."""
        return Popularity.of(self.histories, len(self.items), self.learning.half_life)

    @cached_property
    def kept(self) -> KeptVectors:
        """The vectors of users who were asked for since their histories moved."""
        return KeptVectors()

    @property
    def reads_times(self) -> bool:
        """Whether user vectors depend on when events happened."""
        return self.network.reads_times

    def with_events(self, events: CodedEvents, users: Vocabulary) -> Serving:
        """Return the model after more events; no weight changes."""
        after = replace(self, users=users, histories=self.histories.append(events, len(users)))
        if "popularity" in vars(self):
            vars(after)["popularity"] = self.popularity.add(events)
        vars(after)["kept"] = self.kept.hand_over(np.unique(events.users))
        return after

    def with_people(self, people: People | None, options: RunOptions) -> Serving:
        """Return the model with what is now known about people; no weight changes."""
        if people is None or people is self.people:
            return self
        new = people.texts.array[len(self.network.people_texts) :].tolist()
        network = self.network.with_people(new, options) if new else self.network
        after = replace(self, people=people, network=network)
        if "popularity" in vars(self):
            vars(after)["popularity"] = self.popularity
        before = np.empty(0, np.int64) if self.people is None else self.people.codes
        vars(after)["kept"] = self.kept.hand_over(changed_places(before, people.codes))
        return after

    def with_items(self, ids: np.ndarray, content: ItemTable, options: RunOptions) -> Serving:
        """Return the model with new items at the end of the catalogue; no weight changes."""
        items, table = self.items.extend(ids), self.table.concatenate(content)
        network = copy.deepcopy(self.network)
        n_new = len(items) - len(self.items)
        # The first weights of new ids, in case they are trained one day, come from a seed.
        with ModuleSeed(len(items)), torch.no_grad():
            # Ids of items that were never trained on stay silent: content speaks for them.
            seen = torch.cat([self.network.seen.cpu(), torch.zeros(n_new, dtype=torch.bool)])
            network.items.extend(table, seen, options)
            network.seen = seen.to(network.seen.device)
            codes = torch.arange(len(self.items), len(items), device=self.vectors.device)
            new = network.item_rows(codes).detach()
        ranker = copy.copy(self.ranker)
        ranker.extend(new)
        after = replace(
            self,
            items=items,
            table=table,
            network=network.eval(),
            vectors=torch.cat([self.vectors, new]),
            ranker=ranker,
        )
        if "popularity" in vars(self):
            vars(after)["popularity"] = self.popularity.extend(len(items))
        vars(after)["kept"] = self.kept.hand_over(_NOBODY)
        return after

    @torch.inference_mode()
    def user_vectors(self, queries: Queries, options: RunOptions) -> Tensor:
        """Return the user vector of each query: (n_queries, width); of known users, those kept."""
        users = queries.users
        if not self.keeps(options):
            vars(self).pop("kept", None)  # their memory may be wanted back
            return self._encoded(queries, options)
        if users is None:
            return self._encoded(queries, options)
        found, known = self.kept.find(users)
        if found is not None and known.all():
            return found
        missing = np.flatnonzero(~known)
        fresh = self._encoded(queries if found is None else queries.some(missing), options)
        self.kept.put(users[missing], fresh)
        if found is None:
            return fresh
        found[torch.from_numpy(missing).to(found.device)] = fresh
        return found

    def keeps(self, options: RunOptions) -> bool:
        """Whether the vectors of all users fit into the memory that they may take."""
        needed = len(self.users) * self.vectors.shape[1] * _BYTES
        return needed <= int(options.user_vectors_mb) * _MIB

    def _encoded(self, queries: Queries, options: RunOptions) -> Tensor:
        vectors = self.vectors
        if queries.texts:
            try:
                spoken = self.network.text_rows(queries.texts, options)
            except NotImplementedError as error:  # a part of somebody's own
                raise MissingContentError(
                    "texts need an item encoder that reads them, such as item_encoder='bert+id'; "
                    f"got {type(self.network.items).__name__}."
                ) from error
            vectors = torch.cat([vectors, spoken.to(vectors)])
        asked = queries.indptr, queries.items, queries.people, queries.times
        return self.network.encode_histories(vectors, *asked)

    def unlearned(self) -> np.ndarray:
        """Return the codes of the users who have events that the model has not learned from."""
        now, before = self.histories.all_lengths(), self.learning.lengths
        return np.flatnonzero(now > np.pad(before, (0, len(now) - len(before))))

    def new_items(self) -> np.ndarray:
        """Return the codes of the items without an event in training: content placed them."""
        return np.flatnonzero(~self.network.seen.cpu().numpy())

    def similar_items(
        self, targets: np.ndarray, k: int, *, filter_itself: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (n, k) and codes (n, k) of the items nearest to each target item."""
        queries = self.vectors[torch.from_numpy(targets).to(self.vectors.device)]
        rows = torch.arange(len(targets))
        own = (rows, torch.from_numpy(targets)) if filter_itself else None
        found = self.ranker.topk(queries, min(k, len(self.items)), exclude=own)
        return found.scores.float().cpu().numpy(), found.indices.cpu().numpy()


def top_items(
    serving: Catalogue,
    queries: Queries,
    k: int,
    options: RunOptions,
    *,
    filter_viewed: bool = True,
    include: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
    boosted: np.ndarray | None = None,
    boost: float = 0.0,
    popularity_weight: float = 0.0,
    trend_weight: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (n, k) and codes (n, k) of each query's best items, padded with -1.

    A query without events gets the most popular items, scored by their shares of all events.

    Parameters
    ----------
    serving : Catalogue
    queries : Queries
    k : int
    options : RunOptions
    filter_viewed : bool, default=True
        Leave out the items of the query's own history.
    include, exclude : int64 ndarrays, default=None
        Codes that alone may, or may not, be returned.
    boosted : int64 ndarray, default=None
        Codes whose similarities are raised by `boost`, which is at least 0.
    boost : float, default=0.0
    popularity_weight, trend_weight : float, default=0.0
        Similarity that the logarithm of popularity is worth: an n-th of the first for a query of n
        events, and the second for every query.
    """
    check_choice("filter_viewed", filter_viewed, (True, False))
    n_items = len(serving.items)
    if exclude is not None and len(exclude) > _FEW_EXCLUDED:
        include = np.setdiff1d(np.arange(n_items) if include is None else include, exclude)
        exclude = None
    k = min(k, n_items)
    told = queries.told
    weights = popularity_weight, trend_weight
    asking = Asking(serving, options, filter_viewed, include, exclude, boosted, boost, *weights)
    best, second = asking.best, getattr(serving, "reranker", None)
    if second is not None and not second.changes_nothing:
        best = partial(reranked, serving, asking.best, options)
    scores, codes = best(queries if told.all() else queries.only_told(), k)
    if told.all():
        return scores, codes
    shares, popular = serving.popularity.top(k, include, exclude)
    all_scores = np.full((len(queries), k), -np.inf, np.float32)
    all_codes = np.full((len(queries), k), -1, np.int64)
    all_scores[told], all_codes[told] = scores, codes
    all_scores[~told, : len(popular)], all_codes[~told, : len(popular)] = shares, popular
    return all_scores, all_codes

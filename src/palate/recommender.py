"""The estimator: it checks, wires the parts together, and computes nothing itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from palate import _estimator as estimator
from palate import persistence
from palate._inputs import code_list, is_histories
from palate._options import RunOptions
from palate._parts import NamedPartsMixin
from palate._random import draw_seed
from palate._results import library_named, padded_ids, read_only, result_table
from palate._threads import ForkedLock, with_n_jobs
from palate._validation import check_choice, check_int, check_path, check_real
from palate.data.frames import native_namespace, shown
from palate.data.histories import Histories
from palate.data.items import read_items
from palate.data.rehearsal import meeting
from palate.defaults import AUTO
from palate.exceptions import InvalidInputError, InvalidParameterError, MissingContentError
from palate.learning import learn, learn_on
from palate.plan import plan_of
from palate.queries import (
    MUST_KNOW,
    asked,
    history_queries,
    report_unsupported,
    text_queries,
)
from palate.serving import NOTHING_LEARNED, Serving, top_items


class Recommender(NamedPartsMixin, TransformerMixin, BaseEstimator):
    """Learns taste from behaviour sequences and item content, and ranks a catalogue by cosine.

    Parameters
    ----------
    user_encoder : {"transformer", "gru"} or spec, default="transformer"
        Reads a history into one user vector.
    item_encoder : {"bert+id", "bert", "id"} or spec, default="bert+id"
        Turns items into vectors.
    item_features : list of str, default=None
        Columns of the item table that are learned from too: categories, lists of labels, numbers
        and times, as :class:`palate.FeatureEncoder` reads them.
    user_features : list of str, default=None
        Columns of the users table that are told to the item encoder as one short text, such as
        ``"age: 25; occupation: student"``, whose vector stands before a user's first event. It
        takes one place of the `max_length` that the user encoder reads, however long the history.
        In a tenth of the training windows it is left out, for people without attributes.
    time_gaps : bool, default=False
        Whether the user encoder is told how long after the event before it each event came: a
        learned vector for a range of gaps is added to the event's. The ranges hold equally many
        of the gaps that `fit` sees, so the unit of the timestamps does not matter. In a tenth of
        the training windows all gaps are unknown, as they are in ``recommend(histories=...)``.
    time_bias : bool, default=False
        Whether the attention of the user encoder is told how long before an event each earlier one
        came: a number for each layer, head and range of times is added to its scores. For the
        Transformer, with any block, and networks of your own that take a bias
        (:class:`palate.protocols.UserEncoder`). Ranges and unknown times are as with `time_gaps`,
        beside which it may stand; memory and time grow by the square of the events that are read.
        On the data that it was measured on (docs/recipe.md) it is level or behind.
    ranker : {"exact", "approximate"} or spec, default="exact"
        Finds the nearest items.
    reranker : {"gate", "attention", "film"} or spec, default=None
        A second stage that puts the nearest items in order by what they are, in the light of what
        the user did lately; :class:`palate.Reranker` has its settings. None has one stage.
    objective : {"auto", "softmax", "sampled_softmax", "gbce"} or spec, default="auto"
        What the ranking stage minimises; ``"auto"`` takes the full softmax up to 20,000 items.
    metric : {"cosine", "euclidean", "dot"}, default="cosine"
        The similarity, in training and in ranking.
    dim : int or "auto", default="auto"
        Width of user and item vectors. What is ``"auto"``, here and in the user encoder, follows
        the size and density of the data of `fit` by :func:`palate.defaults.settings_for`.
    pretrain_epochs : int, default=0
        Epochs of masked-item modelling and sequence contrast before the ranking stage.
    epochs : int or "auto", default="auto"
        Most epochs of the ranking stage.
    batch_size : int or "auto", default="auto"
        Histories (windows of them) a training step.
    learning_rate, weight_decay : float, default=1e-3, 0.01
        Of AdamW. The rate is the peak: in `fit` it rises over the first steps and falls linearly
        to a twentieth at the last of `epochs`; in a `partial_fit` of one epoch it stays.
    averaging : float, default=None
        Epochs that an exponential average of the weights looks back, above 0: the average is what
        is validated and served. None serves the weights of the last step of the best epoch.
    validation_fraction : float, default=0.1
        Share of users whose last event is held out from training to measure NDCG@10 after each
        epoch; the best weights are kept. At least 100 users, or half of those who have three
        events, and below 1 at most 10,000. 0 trains on everything for all epochs.
    patience : int, default=None
        Epochs without a better NDCG@10 before training stops. None runs all epochs: the rate falls
        until the last, which are often the best.
    mean_weight, content_weight : float or "auto", default="auto"
        What two plain averages count beside the user encoder's vector, in answers: those of the
        vectors of what was taken, and of its content (texts as BERT reads them). ``"auto"`` is 0.3
        and 0, or, from 500 held-out users on, 0 and 0, unless at least 50 held-out users say
        otherwise: then it is the pair whose lead in NDCG@10, less its standard error, is largest.
        `partial_fit` starts from the pair that there is. 0 leaves an average out. A
        `content_weight` makes vectors wider than `dim` by the content's width. Only for the
        cosine: see :mod:`palate.ops.evidence`.
    rehearsal : float or "auto", default="auto"
        Share of the users that X does not name whose histories `partial_fit` repeats, so that what
        was learned before is not forgotten. "auto" takes one of them, at random, for each user of X
        who met an item that the model knows: nobody where all is new, as in another domain.
    random_state : int, RandomState or None, default=None
        Seed of everything random; the global seeds are not touched.
    options : RunOptions, default=None
        Device, progress bars, content cache, batch size of serving.

    Attributes
    ----------
    item_ids_ : ndarray of shape (n_items,)
        The catalogue, in the order that breaks ties.
    item_vectors_ : float32 ndarray of shape (n_items, width)
        Its vectors: `dim` columns, and those of the content where it counts.
    user_ids_ : ndarray of shape (n_users,)
        The users with a history or attributes.
    history_ : list of dict
        For each epoch: ``stage, epoch, loss, ndcg@10, seconds``.
    settings_ : Settings
        What ``"auto"`` stands for.
    mean_weight_, content_weight_ : float
        What the plain averages count.
    time_gap_edges_ : float64 ndarray or None
        What parts the gaps, in the unit of the timestamps of `fit`, of datetimes in nanoseconds;
        an edge belongs to the range below it. None without `time_gaps`.
    time_bias_edges_ : float64 ndarray or None
        What parts the times between events in the same way, of pairs that stand 1, 2, 4, … places
        apart. None without `time_bias`.
    ranker_, user_encoder_, item_encoder_ : fitted parts
    n_features_in_ : int
        Columns of X in `fit`, unless it was a list of histories.
    feature_names_in_ : ndarray of str
        Their names, where X was a table.

    Notes
    -----
    A user's vector u and an item's vector i are compared by ``u·i / (|u| |i|)``. For
    u = (1.2, 0.9, -0.8) and i = (0.8, 1.1, -0.7) that is 2.51 / (1.7 · 1.5297) = 0.9652: see
    :func:`palate.ops.similarity.cosine`.

    Examples
    --------
    >>> from palate import Recommender, RunOptions
    >>> histories = [["bread", "butter", "jam"], ["bread", "butter", "jam"], ["nail", "hammer"]] * 4
    >>> rec = Recommender(
    ...     item_encoder="id", epochs=30, validation_fraction=0, random_state=0,
    ...     options=RunOptions(device="cpu", progress=False),
    ... ).fit(histories)
    >>> rec.recommend(histories=[["bread", "butter"]], k=1)["item_id"].tolist()
    ['jam']
    """

    def __init__(
        self,
        user_encoder: Any = "transformer",
        item_encoder: Any = "bert+id",
        *,
        item_features: list[str] | None = None,
        user_features: list[str] | None = None,
        time_gaps: bool = False,
        time_bias: bool = False,
        ranker: Any = "exact",
        reranker: Any = None,
        objective: Any = "auto",
        metric: str = "cosine",
        dim: int | str = AUTO,
        pretrain_epochs: int = 0,
        epochs: int | str = AUTO,
        batch_size: int | str = AUTO,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        averaging: float | None = None,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        mean_weight: float | str = AUTO,
        content_weight: float | str = AUTO,
        rehearsal: float | str = AUTO,
        random_state: Any = None,
        options: RunOptions | None = None,
    ) -> None:
        self.user_encoder = user_encoder
        self.item_encoder = item_encoder
        self.item_features = item_features
        self.user_features = user_features
        self.time_gaps = time_gaps
        self.time_bias = time_bias
        self.ranker = ranker
        self.reranker = reranker
        self.objective = objective
        self.metric = metric
        self.dim = dim
        self.pretrain_epochs = pretrain_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.averaging = averaging
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.mean_weight = mean_weight
        self.content_weight = content_weight
        self.rehearsal = rehearsal
        self.random_state = random_state
        self.options = options

    # A pipeline passes `sample_weight=None` to every score; any other value is refused.
    __metadata_request__score: ClassVar = {"sample_weight": None}

    # ---- learning

    @with_n_jobs
    def fit(self, X: Any, y: Any = None, *, items: Any = None, users: Any = None) -> Recommender:
        """Learn from scratch: the pretraining stage, then the ranking stage.

        Parameters
        ----------
        X : table, array-like of shape (n_events, 2 or more), or list of histories
            A pandas, polars or pyarrow table with ``user_id, item_id`` and optionally
            ``timestamp, weight``; an array with user, item and optionally time by position; or
            lists of item ids, whose users are then 0, 1, …. Equal timestamps keep the order given.
        y : None
            Ignored.
        items : table or Items, default=None
            ``item_id`` and content columns; needed by item encoders that read content, with which
            items without events join the catalogue too. Inside cross-validation wrap it in
            :class:`palate.Items`.
        users : table or Users, default=None
            ``user_id`` and the columns that `user_features` names: needed with it, and refused
            without. Values may be missing; who has none, or no row, has no attributes, and who has
            no event can be recommended to by attributes alone. Inside cross-validation wrap it in
            :class:`palate.Users`.

        Returns
        -------
        Recommender
            Itself.

        Raises
        ------
        InvalidInputError, InvalidParameterError, MissingContentError
            The estimator is then as it was.

        Warns
        -----
        TrainingInterruptedWarning
            If the keyboard interrupts: the best weights so far are kept.
        """
        plan = plan_of(self)
        n_columns = estimator.check_columns(self, X, reset=True)
        coded = estimator.code_afresh(X, items, users, plan)
        histories = Histories.from_events(coded.events, len(coded.users))
        options, settings = self._options(), estimator.settings_of(histories)
        plan = plan_of(self, settings=settings)
        seed = draw_seed(self.random_state)
        learned = learn(plan, histories, coded.table, seed, options, coded.people)
        serving = estimator.serve(self, plan, learned, coded, histories, NOTHING_LEARNED)
        if not learned.interrupted:  # who waits no longer for training waits for nothing else
            estimator.keep_user_vectors(serving, options)
        estimator.note_columns(self, X, n_columns)
        self._library = native_namespace(X)
        self._lock = ForkedLock()
        self._serving, self.settings_ = serving, settings
        self._architecture = estimator.architecture(self)
        return self

    @with_n_jobs
    def partial_fit(
        self,
        X: Any = None,
        y: Any = None,
        *,
        items: Any = None,
        users: Any = None,
        epochs: int | None = None,
    ) -> Recommender:
        """Learn on: new users, items and events; weights and optimiser go on from where they are.

        Only the ranking stage runs, on the whole histories of the users that X names and of some
        of the others (`rehearsal`). Validation users are drawn among those; the weights of the
        latest epoch are kept unless earlier ones, or those from before, are ahead by a standard
        error over these users, of whom fewer than 500 are judged by all ranks. A single epoch
        keeps the learning rate where it is; of more, it rises and falls as in `fit`. Where X meets
        and `rehearsal` repeats nothing that is known, and people go on between 40 new items or
        more, it is taken for another domain: "auto" dropout and batches are those of a fit on X
        alone, next items are told from those of X and as many others, the user encoder starts
        halfway to a fresh one, and texts that a frozen BERT reads are whitened by those of the
        new items, where these are 100 or more and there are no `user_features`.

        Parameters
        ----------
        X : as in `fit`, or None
            Events to add. A user or item may be new. None learns from what `observe` took in since
            the model last learned: those events are there already, and passed again would count
            twice.
        y : None
            Ignored.
        items : table or Items, default=None
            Content of the new items; rows of known items are ignored. Where the item encoder
            reads content, rows without events join the catalogue: in a replay of the past, pass
            only what was on sale by then.
        users : table or Users, default=None
            Attributes of new users, and new attributes of known ones: a user's latest row counts.
        epochs : int, default=None
            Most epochs, by default the parameter `epochs`. For "auto" as many as read a tenth of
            what `fit` read, five at least and at most those of `fit`; where nothing known is met,
            those of a fit on X alone.

        Returns
        -------
        Recommender
            Itself. Before any `fit`, this is `fit`.
        """
        if not hasattr(self, "_serving"):
            if epochs is None:
                return self.fit(X, y, items=items, users=users)
            planned, self.epochs = self.epochs, epochs
            try:
                return self.fit(X, y, items=items, users=users)
            finally:
                self.epochs = planned
        plan = plan_of(self, epochs, self.settings_)
        if X is not None:
            estimator.check_columns(self, X, reset=False)
        with self._lock.held:
            before, options = self._serving, self._options()
            estimator.check_same_metric(self.metric, before)
            coded, learn_from = estimator.code_more(self, X, items, users)
            histories = before.histories.append(coded.events, len(coded.users)).compact()
            known = before.network.seen.cpu().numpy()
            met = meeting(histories, learn_from, known, plan.rehearsal)
            settings = estimator.settings_on(self.settings_, histories, learn_from, met)
            plan = plan_of(self, epochs, settings)
            learned = learn_on(
                plan,
                before.network,
                before.learning.optimizer_state,
                histories,
                learn_from,
                met,
                coded.table,
                draw_seed(self.random_state) + before.learning.n_fits,
                options,
                coded.people,
                None if before.reranker is None else before.reranker.learned_by(plan.reranker),
            )
            self._serving = estimator.serve(
                self, plan, learned, coded, histories, before.learning, learn_from
            )
        return self

    def observe(
        self, X: Any, *, users: Any = None, on_unsupported_targets: str = "raise"
    ) -> Recommender:
        """Take in new events at once: histories move, weights do not.

        Parameters
        ----------
        X : as in `fit`
            Events of known items, by known or new users.
        users : table or Users, default=None
            Attributes, as in `partial_fit`.
        on_unsupported_targets : {"raise", "warn", "ignore"}, default="raise"
            What to do about events of unknown items.

        Returns
        -------
        Recommender
            Itself. Reads in other threads see the state before or after, never half of it.
        """
        check_is_fitted(self)
        with self._lock.held:
            self._serving = estimator.observed(self, X, users, on_unsupported_targets)
        return self

    @with_n_jobs
    def add_items(self, items: Any) -> Recommender:
        """Put new items into the catalogue by their content, without training.

        Parameters
        ----------
        items : table or Items
            ``item_id`` and the content columns that `fit` had.

        Returns
        -------
        Recommender
            Itself.

        Raises
        ------
        MissingContentError
            If the item encoder reads no content.
        InvalidInputError
            If an item is in the catalogue already.
        """
        check_is_fitted(self)
        with self._lock.held:
            serving = self._serving
            if not serving.network.items.has_content:
                raise MissingContentError(
                    "add_items needs an item encoder with content, such as "
                    f"item_encoder='bert+id'; got {self.item_encoder!r}."
                )
            ids, content = read_items(items)
            known = serving.items.codes(ids) >= 0
            if known.any():
                row = int(np.flatnonzero(known)[0])
                raise InvalidInputError(
                    "items must be new to the catalogue; "
                    f"row {row} names {shown(ids[row])}, which is in it."
                )
            self._serving = serving.with_items(ids, content, self._options())
        return self

    # ---- asking

    @with_n_jobs
    def recommend(
        self,
        users: Sequence[Any] | None = None,
        *,
        histories: Sequence[Sequence[Any]] | None = None,
        texts: Sequence[Sequence[str]] | None = None,
        k: int = 10,
        filter_viewed: bool = True,
        items_to_recommend: Sequence[Any] | None = None,
        items_to_exclude: Sequence[Any] | None = None,
        new_item_boost: float = 0.0,
        popularity_weight: float = 0.0,
        trend_weight: float = 0.0,
        on_unsupported_targets: str = "raise",
    ) -> Any:
        """Return the best `k` items for known users, for histories, or for histories in words.

        Parameters
        ----------
        users : sequence of user ids, default=None
            Known users; all of them if no query is named.
        histories : sequence of sequences of item ids, default=None
            People who need not be known; an event may also be a :class:`palate.Text`. They come
            without attributes: where those count, let `observe` take in the person.
        texts : sequence of sequences of str, default=None
            Histories told in words, such as ``[["I bought a book"]]``.
        k : int, default=10
            Most items for each query.
        filter_viewed : bool, default=True
            Leave out the items of the query's own history.
        items_to_recommend, items_to_exclude : sequences of item ids, default=None
            The only items allowed; items not allowed, of which unknown ones change nothing.
        new_item_boost : float, default=0.0
            Added to the similarity of items without an event in training, so that more of them are
            shown than the content alone would place; at least 0.
        popularity_weight : float, default=0.0
            For people who have said little: the score is the similarity plus ``weight / n_events``
            times the logarithm of what is popular now; at least 0, around 0.05 for cosines.
        trend_weight : float, default=0.0
            For catalogues where fashion moves faster than taste: as `popularity_weight`, but counts
            the same for everybody, however much they have said; around 0.15 for cosines.
        on_unsupported_targets : {"raise", "warn", "ignore", "popular"}, default="raise"
            What to do about unknown users and items: raise, or skip them. With ``"popular"``,
            unknown items are skipped, and unknown users and empty histories get what is popular
            now: their scores are shares of all events, which fade as fast as predicts best.

        Returns
        -------
        table
            ``user_id, item_id, score, rank`` (from 1), of the library that X was a table of
            (pandas otherwise). `histories` and `texts` are numbered 0, 1, … as ``user_id``. A
            query has fewer rows where fewer valid items exist. Ties go to the item that comes
            first in the catalogue.

        Raises
        ------
        UnsupportedTargetError
            For unknown users or items, if asked to.
        InvalidInputError, InvalidParameterError
            If more than one kind of query is given, or a parameter is out of range.
        """
        check_is_fitted(self)
        k = check_int("k", k, minimum=1)
        boost = check_real("new_item_boost", new_item_boost, low=0, high_open=True)
        popular = check_real("popularity_weight", popularity_weight, low=0, high_open=True)
        trend = check_real("trend_weight", trend_weight, low=0, high_open=True)
        on_unsupported = asked(on_unsupported_targets)
        serving = self._serving
        queries = self._queries(serving, users, histories, texts, on_unsupported)
        include, unknown = code_list("items_to_recommend", items_to_recommend, serving.items)
        report_unsupported("items_to_recommend", unknown, on_unsupported)
        exclude, _ = code_list("items_to_exclude", items_to_exclude, serving.items)
        scores, codes = top_items(
            serving,
            queries,
            k,
            self._options(),
            filter_viewed=filter_viewed,
            include=include,
            exclude=exclude,
            boosted=serving.new_items() if boost else None,
            boost=boost,
            popularity_weight=popular,
            trend_weight=trend,
        )
        return result_table(
            {"user_id": queries.labels}, scores, codes, serving.items, self._library
        )

    @with_n_jobs
    def recommend_to_items(
        self,
        item_ids: Sequence[Any],
        *,
        k: int = 10,
        filter_itself: bool = True,
        on_unsupported_targets: str = "raise",
    ) -> Any:
        """Return the `k` nearest items of each item.

        Parameters
        ----------
        item_ids : sequence of item ids
        k : int, default=10
        filter_itself : bool, default=True
            Leave out the item itself.
        on_unsupported_targets : {"raise", "warn", "ignore"}, default="raise"

        Returns
        -------
        table
            ``target_item_id, item_id, score, rank``.
        """
        check_is_fitted(self)
        k = check_int("k", k, minimum=1)
        check_choice("filter_itself", filter_itself, (True, False))
        serving = self._serving
        ids, targets, unknown = estimator.known_items(item_ids, serving.items)
        report_unsupported("items", unknown, on_unsupported_targets)
        scores, codes = serving.similar_items(targets, k, filter_itself=filter_itself)
        return result_table({"target_item_id": ids}, scores, codes, serving.items, self._library)

    @with_n_jobs
    def predict(self, X: Any, *, k: int = 10, filter_viewed: bool = True) -> np.ndarray:
        """Return the best items for the user of each row of X.

        Parameters
        ----------
        X : as in `fit`
            Only the users are read; a list of histories is answered history by history.
        k : int, default=10
        filter_viewed : bool, default=True

        Returns
        -------
        ndarray of shape (n_rows, k)
            Item ids, best first. A row that runs out ends in NaN (number ids), NaT (times) or None.
        """
        check_is_fitted(self)
        k = check_int("k", k, minimum=1)
        serving = self._serving
        queries, rows = self._row_queries(serving, X)
        _, codes = top_items(serving, queries, k, self._options(), filter_viewed=filter_viewed)
        return padded_ids(codes, serving.items, k)[rows]

    @with_n_jobs
    def transform(self, X: Any) -> np.ndarray:
        """Return the user vector for the user of each row of X.

        Parameters
        ----------
        X : as in `predict`

        Returns
        -------
        float32 ndarray of shape (n_rows, width)
            As wide as `item_vectors_`.
        """
        check_is_fitted(self)
        serving = self._serving
        queries, rows = self._row_queries(serving, X)
        vectors = serving.user_vectors(queries, self._options()).cpu().numpy()
        return np.asarray(vectors[rows])

    def fit_transform(
        self, X: Any, y: Any = None, *, items: Any = None, users: Any = None
    ) -> np.ndarray:
        """Fit, and return the user vector of each row of X."""
        return self.fit(X, y, items=items, users=users).transform(X)

    @with_n_jobs
    def score(
        self,
        X: Any,
        y: Any = None,
        *,
        metric: str = "ndcg",
        k: int = 10,
        filter_viewed: bool = True,
    ) -> float:
        """Return a ranking metric on held-out events, over the full catalogue.

        Parameters
        ----------
        X : table or array of events
            What each user did later: the items to find.
        y : None
            Ignored.
        metric : {"ndcg", "hr", "recall", "precision", "mrr", "map"}, default="ndcg"
        k : int, default=10
        filter_viewed : bool, default=True
            Leave out the items of the user's history. Where people come back to the same items,
            pass False: a filtered repeat counts as a miss.

        Returns
        -------
        float
            The mean over the users of X, in [0, 1]; users and items that the model does not know
            count as misses.

        Warns
        -----
        UnsupportedTargetWarning
            If X names unknown users.
        DataLeakWarning
            If events of X are older than what the model knows of the same user.
        """
        check_is_fitted(self)
        estimator.check_columns(self, X, reset=False)
        return estimator.score(self._serving, X, metric, k, filter_viewed, self._options())

    # ---- keeping

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted model to a folder, atomically.

        A crash at any moment leaves the folder as it was or with the whole new model. Other
        threads may ask and change the model meanwhile: what is written is one state.

        Parameters
        ----------
        folder : path
            Made, or replaced if it holds a saved model.
        """
        check_is_fitted(self)
        persistence.save(self, check_path("folder", folder))

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        options: RunOptions | None = None,
        mmap: bool = False,
        verify: bool = True,
    ) -> Recommender:
        """Read a fitted model from a folder; no code from the folder runs.

        Parameters
        ----------
        folder : path
        options : RunOptions, default=None
            How to run it here; not part of what is saved.
        mmap : bool, default=False
            Leave catalogue, weights and histories in the files, of which the system keeps one
            copy in memory for all processes. The files are never written to.
        verify : bool, default=True
            Compare the checksum of every file; the sizes are compared in any case.

        Returns
        -------
        Recommender
            It recommends at once and can be trained on.

        Raises
        ------
        DamagedModelError
            If a file does not have the bytes that were written; the message names it.
        PersistenceError
            If the folder is not a model of a version that can be read, or is incomplete.
        """
        path = check_path("folder", folder)
        if options is not None and not isinstance(options, RunOptions):
            raise InvalidParameterError(f"options must be a RunOptions or None; got {options!r}.")
        return persistence.load(cls, path, options, mmap=mmap, verify=verify)

    # ---- what was learned

    @property
    def item_ids_(self) -> np.ndarray:
        """The catalogue's ids; not to be written to."""
        return read_only(self._fitted().items.array)

    @property
    def user_ids_(self) -> np.ndarray:
        """The known users' ids; not to be written to."""
        return read_only(self._fitted().users.array)

    @property
    def item_vectors_(self) -> np.ndarray:
        """The catalogue's vectors; not to be written to."""
        return read_only(self._fitted().vectors.cpu().numpy())

    @property
    def mean_weight_(self) -> float:
        """What the average of a history's vectors counts."""
        return self._fitted().network.mean_weight

    @property
    def content_weight_(self) -> float:
        """What the average of its content counts."""
        return self._fitted().network.content_weight

    @property
    def time_gap_edges_(self) -> np.ndarray | None:
        """What parts the gaps between events."""
        return self._fitted().network.gap_edges

    @property
    def time_bias_edges_(self) -> np.ndarray | None:
        """What parts the times between events that the attention is told."""
        return self._fitted().network.bias_edges

    @property
    def history_(self) -> list[dict[str, Any]]:
        """One record for each epoch."""
        return self._fitted().learning.records

    @property
    def ranker_(self) -> Any:
        """The ranker that holds the catalogue."""
        return self._fitted().ranker

    @property
    def user_encoder_(self) -> Any:
        """The network over histories."""
        return self._fitted().network.users

    @property
    def item_encoder_(self) -> Any:
        """The network over items."""
        return self._fitted().network.items

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns of `transform`."""
        check_is_fitted(self)
        width = self._serving.vectors.shape[1]
        return np.array([f"recommender{i}" for i in range(width)], dtype=object)

    # ---- inside

    def _fitted(self) -> Serving:
        if "_serving" not in vars(self):
            raise AttributeError("This Recommender is not fitted yet: call fit first.")
        return self._serving

    def _options(self) -> RunOptions:
        return RunOptions() if self.options is None else self.options

    def _queries(
        self, serving: Serving, users: Any, histories: Any, texts: Any, on_unsupported: str
    ) -> Any:
        given = {"users": users, "histories": histories, "texts": texts}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise InvalidInputError(
                f"one kind of query must be given at a time; got {' and '.join(named)}."
            )
        if histories is not None:
            return history_queries(histories, serving.items, on_unsupported)
        if texts is not None:
            return text_queries(texts, len(serving.items), on_unsupported)
        return estimator.known_queries(serving, users, on_unsupported)

    def _row_queries(self, serving: Serving, X: Any) -> tuple[Any, np.ndarray]:
        if is_histories(X):
            queries = history_queries(X, serving.items, MUST_KNOW)
            return queries, np.arange(len(queries))
        users, rows = estimator.users_of_rows(self, X)
        return estimator.known_queries(serving, users, MUST_KNOW), rows

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_serving")

    def __getstate__(self) -> dict[str, Any]:
        # A copy: what scikit-learn returns may be the estimator's own dictionary.
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_lock", None)
        if isinstance(state.get("_library"), ModuleType):
            state["_library"] = state["_library"].__name__
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = {"time_bias": False, **state}  # pickles may be older than a parameter
        if isinstance(state.get("_library"), str):
            state["_library"] = library_named(state["_library"])
            state["_lock"] = ForkedLock()
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        return estimator.tags(super().__sklearn_tags__())

"""Between the estimator and its parts: checked parameters, row-aligned users, scores."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import TransformerTags
from sklearn.utils.validation import validate_data

from palate._inputs import (
    Coded,
    check_form,
    check_timed,
    code_interactions,
    code_observed,
    is_histories,
    plain_array,
    read_interactions,
)
from palate._options import RunOptions
from palate._validation import check_choice, check_int, warn_caller
from palate.data.coded import CodedEvents, kind_of_times, sortable_times
from palate.data.frames import Events, check_ids, id_column, is_frame, open_frame
from palate.data.histories import Histories
from palate.data.items import ItemTable
from palate.data.lists import id_list
from palate.data.people import add_people
from palate.data.rehearsal import Meeting
from palate.data.vocabulary import Vocabulary
from palate.defaults import AUTO, Settings, epochs_on, settings_for
from palate.encoders.item.ids import IdEncoder
from palate.exceptions import (
    DataLeakWarning,
    InvalidInputError,
    InvalidParameterError,
    PalateWarning,
)
from palate.learning import Learned
from palate.metrics import rank_metrics
from palate.metrics.ranking import ACCURACY_METRICS
from palate.plan import Plan
from palate.queries import Queries, report_unsupported, user_queries
from palate.reranking.fitted import FittedReranker
from palate.serving import Catalogue, Learning, Serving, top_items


def width_of(rec: Any) -> int:
    """Return the width of a fitted recommender's vectors."""
    width = rec._architecture["dim"] if hasattr(rec, "_architecture") else rec.dim
    return rec.settings_.dim if width == AUTO else int(width)


def settings_of(histories: Histories) -> Settings:
    """Choose what "auto" stands for by the data that is learned from."""
    n_items = len(np.unique(histories.items))
    # Somebody known by attributes alone makes nothing sparser.
    n_users = int(np.count_nonzero(np.diff(histories.indptr)))
    return settings_for(len(histories.items), n_users, n_items)


def settings_on(
    settings: Settings, histories: Histories, users: np.ndarray, met: Meeting
) -> Settings:
    """Choose what "auto" stands for when learning goes on, from the histories of `users`.

    Where nothing known is met, pace and dropout are those of a fit on these histories alone.
    """
    n_events = int(histories.lengths(users).sum())
    if met.is_domain:
        n_items = len(np.unique(histories.gather(users)[1]))
        own = settings_for(n_events, len(users), n_items)
        return replace(settings, epochs=own.epochs, batch_size=own.batch_size, dropout=own.dropout)
    n_learned = round(n_events * (1 + met.n_more / len(users)))
    return replace(settings, epochs=epochs_on(settings, len(histories.items), n_learned))


def architecture(rec: Any) -> dict[str, Any]:
    """Return copies of the parameters that weights depend on: set_params may change them later."""
    parts = ("user_encoder", "item_encoder", "item_features", "user_features")
    names = (*parts, "time_gaps", "time_bias", "metric", "dim")
    return {name: clone(getattr(rec, name), safe=False) for name in names}


def check_same_metric(metric: str, before: Serving) -> None:
    """Raise if learning would go on by another metric."""
    if metric != before.network.metric:
        raise InvalidParameterError(
            f"metric must be {before.network.metric!r} as in fit, for the weights were learned by "
            f"it; got {metric!r}."
        )


def reads_content(item_encoder: Any) -> bool:
    """Tell whether an item encoder spec needs an item table."""
    parts = getattr(item_encoder, "encoders", None)
    if parts is not None:
        return any(reads_content(part) for part in parts)
    return not isinstance(item_encoder, IdEncoder) and getattr(item_encoder, "reads_content", True)


def check_columns(rec: Any, X: Any, *, reset: bool) -> int | None:
    """Check the columns of an array as scikit-learn does; tables are read by name."""
    if is_histories(X):
        return None
    check_form(X)
    if is_frame(X):
        return len(open_frame(X).columns)
    probe = rec if not reset else type(rec)()
    checked = validate_data(
        probe, plain_array(X), reset=reset, dtype=None, ensure_min_features=2 if reset else 1
    )
    return int(checked.shape[1])


def note_columns(rec: Any, X: Any, n_columns: int | None) -> None:
    """Remember what scikit-learn asks of a fitted estimator: the number and names of columns."""
    for name in ("n_features_in_", "feature_names_in_"):
        vars(rec).pop(name, None)
    if n_columns is None:
        return
    rec.n_features_in_ = n_columns
    if is_frame(X):
        names = open_frame(X).columns
        if all(isinstance(name, str) for name in names):
            rec.feature_names_in_ = np.array(names, dtype=object)


def code_afresh(X: Any, items: Any, users: Any, planned: Plan) -> Coded:
    """Code the input of `fit`."""
    coded = code_interactions(
        X,
        items,
        users=Vocabulary(),
        known=Vocabulary(),
        table=ItemTable.without_content(0),
        needs_content=reads_content(planned.item_encoder),
    )
    for name in ("time_gaps", "time_bias"):
        if getattr(planned, name):
            check_timed(coded.events, name)
    people, known = add_people(None, users, planned.user_features, coded.users)
    return replace(coded, users=known, people=people)


def code_more(rec: Any, X: Any, items: Any, users: Any) -> tuple[Coded, np.ndarray]:
    """Code the input of `partial_fit`, and say whom to learn from."""
    before: Serving = rec._serving
    behind = before.unlearned() if X is None else None
    if behind is not None and not len(behind):
        raise InvalidInputError(
            "X must hold events unless `observe` took some in since the model last learned; "
            "got None."
        )
    coded = code_interactions(
        X,
        items,
        users=before.users,
        known=before.items,
        table=before.table,
        # Own encoders may read a table and yet have nothing to say of items without events.
        needs_content=before.network.items.has_content or before.table.frame.shape[1] > 0,
    )
    people, known = add_people(before.people, users, features_of(rec), coded.users)
    coded = replace(coded, users=known, people=people)
    return coded, np.unique(coded.events.users) if behind is None else behind


def features_of(rec: Any) -> list[str] | None:
    """Return the user features that a fitted recommender learned from."""
    return rec._architecture.get("user_features")  # type: ignore[no-any-return]


def observed(rec: Any, X: Any, users: Any, on_unsupported: str) -> Serving:
    """Return the model after more events and more known about people; no weight changes."""
    serving: Serving = rec._serving
    events, known, unknown = code_observed(X, serving.users, serving.items)
    report_unsupported("items in X", unknown.tolist(), on_unsupported)
    people = serving.people
    if users is not None:
        people, known = add_people(people, users, features_of(rec), known)
    return serving.with_events(events, known).with_people(people, rec._options())


def serve(
    rec: Any,
    planned: Plan,
    learned: Learned,
    coded: Coded,
    histories: Histories,
    before: Learning,
    learned_from: np.ndarray | None = None,
) -> Serving:
    """Make what answers queries from what was learned, now and `before`, from some users or all."""
    network, spec = learned.network, planned.reranker
    vectors = network.catalogue()
    ranker = planned.ranker.fit(vectors)
    second = None
    if spec is not None and learned.correction is not None:
        second = FittedReranker(copy.deepcopy(rec.reranker), spec, learned.correction)
    return Serving(
        *(coded.users, coded.items, coded.table, histories, network, vectors, ranker),
        before.then(learned, histories, learned_from),
        coded.people,
        second,
        copy.deepcopy(rec.ranker),
    )


def keep_user_vectors(serving: Serving, options: RunOptions) -> None:
    """Compute the vectors of all users, for the questions to come, where they may be kept.

    Whatever goes wrong is a warning: nothing that was learned is lost for them.
    """
    if not serving.keeps(options):
        return
    try:
        queries, size = known_queries(serving, None, "ignore"), int(options.inference_batch_size)
        for start in range(0, len(queries), size):
            serving.user_vectors(queries[start : start + size], options)
    except (KeyboardInterrupt, Exception) as error:
        warn_caller(
            "The vectors of all users were not computed after training; those missing are computed "
            f"when they are asked for: {error!r}.",
            PalateWarning,
        )


def known_items(item_ids: Any, items: Vocabulary) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Split a list of item ids into known ids, their codes, and the unknown ones."""
    ids = id_list("item_ids", item_ids, "item")
    codes = items.codes(ids)
    known = codes[codes >= 0]
    return items.ids(known), known, ids[codes < 0].tolist()


def users_of_rows(rec: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct users of X and, for each row, the place of its user among them."""
    check_form(X)
    if is_frame(X):
        users = id_column(open_frame(X), "user_id")
    else:
        array = validate_data(rec, plain_array(X), reset=False, dtype=None)
        users = check_ids(array[:, 0], "user_id")
    distinct = Vocabulary().extend(users)
    return distinct.array, distinct.codes(users)


def known_queries(serving: Catalogue, users: Any, on_unsupported: str) -> Queries:
    """Return the queries of known users: histories, and attributes and times where they count."""
    people, timed = getattr(serving, "people", None), getattr(serving, "reads_times", False)
    known = serving.users, serving.histories, len(serving.items)
    return user_queries(users, *known, on_unsupported, people, timed=timed)


def score(
    serving: Catalogue, X: Any, metric: str, k: int, filter_viewed: bool, options: RunOptions
) -> float:
    """Return the mean of a ranking metric over the users of X."""
    check_choice("metric", metric, ACCURACY_METRICS)
    k = check_int("k", k, minimum=1)
    events = read_interactions(X)
    if not len(events):
        raise InvalidInputError("X must hold at least one event; got none.")
    users = Vocabulary().extend(events.user_id)
    known = serving.users.codes(users.array) >= 0
    unknown = users.array[~known].tolist()
    report_unsupported("users in X", unknown, "warn", "They count as misses.")
    queries = known_queries(serving, users.array[known], "ignore")
    warn_of_leaks(serving, events)
    _, codes = top_items(serving, queries, k, options, filter_viewed=filter_viewed)
    ranked = np.full((len(users), max(1, codes.shape[1])), -1, np.int64)
    ranked[users.codes(queries.labels), : codes.shape[1]] = codes
    # Items that the model does not know take codes behind its own: nobody can find them.
    relevant = serving.items.extend(events.item_id).codes(events.item_id)
    truth = Histories.from_events(CodedEvents(users.codes(events.user_id), relevant), len(users))
    values = rank_metrics(ranked, truth.indptr, truth.items, k=k, metrics=[metric])
    return values[f"{metric}@{k}"]


def warn_of_leaks(serving: Catalogue, events: Events) -> None:
    """Warn where a user's history holds what came after an event to be found."""
    times = sortable_times(events.timestamp)
    codes = serving.users.codes(events.user_id)
    known = np.flatnonzero(codes >= 0)
    known = known[serving.histories.lengths(codes[known]) > 0]
    users, rows = np.unique(codes[known], return_inverse=True)
    last = None if times is None or not len(users) else serving.histories.last_times(users)
    if times is None or last is None or kind_of_times(last) != kind_of_times(times):
        return
    n_late = int((times[known] < last[rows]).sum())
    if n_late:
        warn_caller(
            f"{n_late} of {len(events)} events to be found are older than what the model knows of "
            "the same user: it has seen their future. Split by LeaveLastOut or TimeSplit of "
            "palate.model_selection instead.",
            DataLeakWarning,
        )


def tags(base: Any) -> Any:
    """Describe the estimator to scikit-learn: rows are events, ids may be of any type."""
    base.input_tags.string = True
    base.input_tags.categorical = True
    base.input_tags.two_d_array = True
    base.target_tags.required = False
    base.transformer_tags = TransformerTags(preserves_dtype=[])
    return base

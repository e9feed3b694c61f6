"""Serve an export with numpy and onnxruntime alone: no torch, no pandas."""

from __future__ import annotations

import os
from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from palate._optional import require
from palate._validation import check_choice, check_int, check_path, warn_caller
from palate.exceptions import InvalidInputError, UnsupportedTargetError, UnsupportedTargetWarning
from palate.export._files import ITEMS, MODEL, read_item_ids, read_signature
from palate.export._ids import ItemIndex
from palate.export._lists import given, history_rows, is_list, shown

ON_UNSUPPORTED = ("raise", "warn", "ignore")
# Bytes of scores (histories x catalogue) that one run may hold.
_SCORE_BYTES = 128 * 2**20
_MAX_BATCH = 256


class OnnxRecommender:
    """Recommends from histories, with the ids of the model that :func:`to_onnx` wrote.

    Parameters
    ----------
    folder : path
        What :func:`palate.export.to_onnx` wrote.
    n_threads : int, default=None
        Threads of onnxruntime inside one operation; by default one a core.
    providers : sequence of str, default=("CPUExecutionProvider",)
        Where onnxruntime runs, in the order of preference.
    verify : bool, default=True
        Check the files against the checksums of ``signature.json``.

    Attributes
    ----------
    item_ids_ : ndarray of shape (n_items,)
        The catalogue, in the order that breaks ties.
    signature_ : dict
        What ``signature.json`` says.
    session_ : onnxruntime.InferenceSession

    Raises
    ------
    PersistenceError
        If the folder is no complete export of a format that can be read.
    DamagedModelError
        If a file is not as it was written; the message names it.
    ImportError
        If onnxruntime is not installed.

    Notes
    -----
    Reading from many threads is safe. Users are not part of an export: bring the history along.
    Known users, free text, `observe` and training need the saved model itself.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        n_threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        verify: bool = True,
    ) -> None:
        runtime = require("onnxruntime", extra="export", purpose="OnnxRecommender")
        if n_threads is not None:
            check_int("n_threads", n_threads, minimum=1)
        source = check_path("folder", folder)
        self.signature_ = read_signature(source, verify=verify)
        self.item_ids_ = read_item_ids(source / ITEMS)
        self._index = ItemIndex(self.item_ids_)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = n_threads or 0
        options.log_severity_level = 3  # inputs with defaults are meant to be there
        self.session_ = runtime.InferenceSession(
            str(source / MODEL), options, providers=list(providers)
        )

    def recommend(
        self,
        histories: Sequence[Sequence[Any]],
        *,
        k: int = 10,
        filter_viewed: bool = True,
        items_to_recommend: Sequence[Any] | None = None,
        items_to_exclude: Sequence[Any] | None = None,
        on_unsupported_targets: str = "raise",
    ) -> dict[str, np.ndarray]:
        """Return the best `k` items for each history, as ``Recommender.recommend`` does.

        Parameters
        ----------
        histories : sequence of sequences of item ids
            Oldest event first.
        k : int, default=10
            Most items for each history.
        filter_viewed : bool, default=True
            Leave out the items of the history.
        items_to_recommend, items_to_exclude : sequences of item ids, default=None
            The only items allowed; items not allowed.
        on_unsupported_targets : {"raise", "warn", "ignore"}, default="raise"
            What to do about unknown items: skip them or raise.

        Returns
        -------
        dict of str to ndarray
            Columns of one length: ``user_id`` (0, 1, … for the histories), ``item_id``, ``score``,
            ``rank`` (from 1). ``pandas.DataFrame(...)`` of it is the table of
            ``Recommender.recommend(histories=...)``.

        Raises
        ------
        UnsupportedTargetError
            For unknown items or a history without any, if asked to.
        InvalidInputError, InvalidParameterError
            If an argument is out of range.
        """
        check_int("k", k, minimum=1)
        check_choice("filter_viewed", filter_viewed, (True, False))
        check_choice("on_unsupported_targets", on_unsupported_targets, ON_UNSUPPORTED)
        coded, labels = self._code(histories, on_unsupported_targets)
        include, unknown = self._code_list("items_to_recommend", items_to_recommend)
        _report("items_to_recommend", unknown, on_unsupported_targets)
        excluded, _ = self._code_list("items_to_exclude", items_to_exclude)
        if include is not None:
            others = np.setdiff1d(np.arange(len(self.item_ids_)), include)
            excluded = others if excluded is None else np.union1d(others, excluded)
        scores, codes = self.top(coded, k, filter_viewed=filter_viewed, exclude=excluded)
        found = codes >= 0
        ranks = np.broadcast_to(np.arange(1, codes.shape[1] + 1), codes.shape)
        return {
            "user_id": np.repeat(labels, found.sum(1)),
            "item_id": self.item_ids_[codes[found]],
            "score": scores[found],
            "rank": ranks[found],
        }

    def top(
        self,
        histories: Sequence[np.ndarray],
        k: int = 10,
        *,
        filter_viewed: bool = True,
        exclude: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and codes of the best items: what the graph itself computes.

        Parameters
        ----------
        histories : sequence of int64 ndarrays
            Item codes, oldest first; none of them empty.
        k : int, default=10
        filter_viewed : bool, default=True
        exclude : int64 ndarray, default=None
            Codes that may not be returned to anyone.

        Returns
        -------
        scores : float32 ndarray of shape (n_histories, min(k, n_items))
            Ended by -inf where no item is left.
        codes : int64 ndarray of the same shape
            Ended by -1.
        """
        width = min(k, len(self.item_ids_))
        scores = np.full((len(histories), width), -np.inf, np.float32)
        codes = np.full((len(histories), width), -1, np.int64)
        # Of similar length together: little padding. Each row's answer is its own.
        order = np.argsort([len(history) for history in histories], kind="stable")
        size = max(1, min(_MAX_BATCH, _SCORE_BYTES // (4 * len(self.item_ids_))))
        feed: dict[str, np.ndarray] = {
            "k": np.array([max(width, 1)], np.int64),
            "filter_viewed": np.array([bool(filter_viewed)]),
        }
        if exclude is not None:
            feed["exclude"] = np.asarray(exclude, np.int64)[None]
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            items, lengths = _pad([histories[row] for row in rows])
            answer = self.session_.run(
                ["scores", "codes"], {**feed, "items": items, "lengths": lengths}
            )
            scores[rows], codes[rows] = answer
        return scores, codes

    def _code(self, histories: Any, on_unsupported: str) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the codes of the histories that can be answered, and their numbers."""
        rows = history_rows(histories)
        codes = [self._index.codes(row) for row in rows]
        unknown = [
            value
            for row, found in zip(rows, codes, strict=True)
            for value, code in zip(row, found, strict=True)
            if code < 0
        ]
        _report("items in histories", unknown, on_unsupported)
        known = [found[found >= 0] for found in codes]
        empty = [row for row, found in enumerate(known) if not len(found)]
        if empty and on_unsupported == "raise":
            raise UnsupportedTargetError(
                f"history {empty[0]} is empty: it says nothing about taste."
            )
        if empty and on_unsupported == "warn":
            warn_caller(
                f"{len(empty)} histories without a known item were skipped, the first is "
                f"{empty[0]}.",
                UnsupportedTargetWarning,
            )
        kept = np.array([row for row, found in enumerate(known) if len(found)], np.int64)
        return [known[row] for row in kept], kept

    def _code_list(self, name: str, ids: Any) -> tuple[np.ndarray | None, list[Any]]:
        if ids is None:
            return None, []
        if not (is_list(ids) or isinstance(ids, Set)):  # their order means nothing
            raise InvalidInputError(f"{name} must be a list of item ids; got {given(ids)}.")
        values = list(ids)
        codes = self._index.codes(values)
        unknown = [value for value, code in zip(values, codes, strict=True) if code < 0]
        return np.unique(codes[codes >= 0]), unknown


def _pad(histories: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(history) for history in histories], np.int64)
    items = np.zeros((len(histories), max(1, lengths.max(initial=0))), np.int64)
    for row, history in enumerate(histories):
        items[row, : len(history)] = history
    return items, lengths


def _report(what: str, unknown: list[Any], on_unsupported: str) -> None:
    """Raise, warn or say nothing about unknown ids, in the words of the recommender."""
    if not unknown or on_unsupported == "ignore":
        return
    first = ", ".join(shown(value) for value in unknown[:5])
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    message = f"{what} unknown to the model: {first}{more}."
    if on_unsupported == "raise":
        raise UnsupportedTargetError(
            f"{message} Pass on_unsupported_targets='warn' or 'ignore' to skip them."
        )
    warn_caller(f"{message} They were skipped.", UnsupportedTargetWarning)

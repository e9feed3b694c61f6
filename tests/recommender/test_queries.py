"""From questions to coded histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import Text
from palate.data.coded import CodedEvents
from palate.data.histories import Histories
from palate.data.vocabulary import Vocabulary
from palate.queries import Queries, history_queries, text_queries, user_queries

WORDS = Vocabulary(np.array(["a", "b", "c", "d", "e"], dtype=object))


def plain(queries: Queries) -> list[tuple[Any, list[Any]]]:
    """Read queries back as labels with their events: item ids, and texts in angle brackets."""
    out = []
    for row, label in enumerate(queries.labels.tolist()):
        codes = queries.items[queries.indptr[row] : queries.indptr[row + 1]]
        events = [
            str(WORDS.array[code]) if code < len(WORDS) else f"<{queries.texts[code - len(WORDS)]}>"
            for code in codes
        ]
        out.append((label, events))
    return out


event = st.one_of(st.sampled_from("abcde"), st.sampled_from(["x", "y"]).map(Text))
rows = st.lists(st.lists(event, min_size=1, max_size=4), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 8), st.integers(0, 8))
def test_a_span_of_queries_is_those_histories(
    histories: list[list[Any]], start: int, stop: int
) -> None:
    queries = history_queries(histories, WORDS, "raise")
    told = [[f"<{e.text}>" if isinstance(e, Text) else e for e in row] for row in histories]
    expected = list(enumerate(told))
    assert plain(queries) == expected
    part = queries[start:stop]
    assert plain(part) == expected[start:stop]
    # Only the texts of these rows are carried along.
    n_texts = sum(isinstance(e, Text) for row in histories[start:stop] for e in row)
    assert len(part.texts) == n_texts


@given(st.lists(st.lists(st.sampled_from([*"abc", "zz", 7]), max_size=4), max_size=6))
@settings(max_examples=60, deadline=None)
def test_unknown_events_and_empty_histories_fall_out(histories: list[list[Any]]) -> None:
    queries = history_queries(histories, WORDS, "ignore")
    kept = [[e for e in row if e in ("a", "b", "c")] for row in histories]
    assert plain(queries) == [(i, row) for i, row in enumerate(kept) if row]


def test_texts_are_numbered_behind_the_catalogue() -> None:
    queries = text_queries([["x", "y"], ["x"]], n_items=5)
    assert queries.items.tolist() == [5, 6, 7]
    assert queries.texts == ("x", "y", "x")
    assert queries[1:].items.tolist() == [5]
    assert queries[1:].texts == ("x",)


@pytest.mark.parametrize("users", [None, ["u", "v", "w"]])
def test_a_user_without_events_has_no_query(users: Any) -> None:
    events = CodedEvents(np.array([0, 2, 0]), np.array([1, 3, 4]))
    histories = Histories.from_events(events, n_users=3)
    vocabulary = Vocabulary(np.array(["u", "v", "w"], dtype=object))
    queries = user_queries(users, vocabulary, histories, 5, "raise")
    assert queries.labels.tolist() == ["u", "w"]
    assert queries.indptr.tolist() == [0, 2, 3]
    assert queries.items.tolist() == [1, 4, 3]

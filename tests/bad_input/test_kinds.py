"""Every kind of bad input is tried at every public entry that it can reach."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reliability.md"
OTHER = HERE.parent / "export" / "test_bad_input.py"

EVENTS = {
    *("Recommender.fit", "Recommender.partial_fit", "Recommender.observe", "Recommender.score"),
    *("MostPopular.fit", "MostPopular.score", "LeaveLastOut.split", "TimeSplit.split"),
    *("leave_last_out_split", "time_split", "evaluate"),
}
ROWS = {"Recommender.predict", "Recommender.transform"}
LISTS = {"Recommender.recommend", "Recommender.recommend_to_items"}
TEXTS = {"BertItemEncoder.fit", "BertItemEncoder.transform"}
HISTORIES = {"HistoryEncoder.fit", "HistoryEncoder.transform"}
RANKERS = {
    f"{ranker}.{method}"
    for ranker in ("CosineRanker", "ApproximateRanker")
    for method in ("fit", "extend", "topk", "kneighbors", "kneighbors_graph")
}
K = {
    *LISTS,
    *("Recommender.predict", "Recommender.score", "MostPopular.recommend", "MostPopular.score"),
    *("evaluate", "rank_metrics", "OnnxRecommender.recommend"),
    *(name for name in RANKERS if not name.endswith(("fit", "extend"))),
}
ITEMS = {"Recommender.fit", "Recommender.partial_fit", "Recommender.add_items"}

# Where a kind must have been tried.
REACHES: dict[str, set[str]] = {
    "missing column": {*EVENTS, *ROWS, *TEXTS, "Recommender.add_items", "read_folder"},
    "wrong dtype": {
        *(EVENTS | ROWS | LISTS | TEXTS | HISTORIES | RANKERS | ITEMS),
        *("ops.topk.topk", "rank_metrics", "find_hits", "Recommender.save", "Recommender.load"),
    },
    "NaN, infinite or negative weight": EVENTS,
    "unparsable times and mixed time zones": {*EVENTS, "fetch_movielens", "fetch_movietweetings"},
    "an item twice": {*ITEMS, "evaluate", "HistoryEncoder.fit"},
    "unknown ids": {
        *LISTS,
        *ROWS,
        *HISTORIES,
        *("Recommender.fit", "Recommender.observe", "Recommender.score", "MostPopular.recommend"),
        "OnnxRecommender.recommend",
    },
    "empty table": {*EVENTS, *ROWS, *LISTS, *TEXTS, *HISTORIES, *ITEMS, "read_folder"},
    "one event a user": {
        *("Recommender.fit", "Recommender.partial_fit", "Recommender.score", "MostPopular.fit"),
        *("LeaveLastOut.split", "TimeSplit.split", "leave_last_out_split", "time_split"),
        "HistoryEncoder.fit",
    },
    "huge k": K,
    "k of 0 or less": {*K, "make_ranking_scorer"},
    "item without text": {*ITEMS, *TEXTS, "Recommender.recommend"},
    "text of 100 thousand characters": {
        *LISTS,
        *TEXTS,
        *("Recommender.fit", "Recommender.observe", "Recommender.add_items", "Recommender.save"),
    },
    "emoji and right-to-left text": {
        *LISTS,
        *TEXTS,
        *HISTORIES,
        *("Recommender.fit", "Recommender.add_items", "Recommender.save"),
    },
    "ids of another type": {
        *LISTS,
        *ROWS,
        *HISTORIES,
        *("Recommender.fit", "Recommender.partial_fit", "Recommender.observe"),
        *("Recommender.score", "evaluate", "MostPopular.score"),
        "OnnxRecommender.recommend",
    },
    "frames whose index repeats or has levels": {
        *EVENTS,
        *ROWS,
        *TEXTS,
        *HISTORIES,
        *("Recommender.add_items", "CosineRanker.fit", "ApproximateRanker.fit"),
    },
    "read-only arrays": {*EVENTS, *ROWS, *LISTS, *TEXTS, *HISTORIES, *RANKERS, "ops.topk.topk"},
    "generators": {*EVENTS, *ROWS, *LISTS, *TEXTS, *HISTORIES, *RANKERS, "Recommender.add_items"},
    "NumPy strings": {
        *((EVENTS | ROWS) - {"TimeSplit.split", "time_split"}),
        *(LISTS | TEXTS | HISTORIES | RANKERS),
        "Recommender.add_items",
    },
    "object columns": {*EVENTS, *ROWS, *LISTS, *TEXTS, *HISTORIES, *RANKERS},
    "ids of 2**63 and more": {*EVENTS, *ROWS, *LISTS, *HISTORIES, "Recommender.save"},
}


def load_kinds() -> Any:
    spec = importlib.util.spec_from_file_location("kinds", HERE / "kinds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files() -> set[str]:
    """The files whose cases are counted."""
    return {path.name for path in HERE.glob("test_*.py")} | {OTHER.name}


@pytest.fixture
def counts(request: pytest.FixtureRequest) -> dict[str, dict[str, int]]:
    """The cases of this run, if it is one of them all."""
    items = [i for i in request.session.items if i.path.parent == HERE or i.path == OTHER]
    found = {item.path.name for item in items}
    if not files() <= found or request.config.getoption("keyword"):
        pytest.skip("counts the cases of all files of this folder and one of export")
    names = [item.name for item in items if item.path != Path(__file__)]
    tally: dict[str, dict[str, int]] = load_kinds().tally(names)
    return tally


@pytest.mark.parametrize("kind", list(REACHES))
def test_every_entry_has_a_case_of(kind: str, counts: dict[str, dict[str, int]]) -> None:
    assert REACHES[kind] - set(counts[kind]) == set()


def test_the_page_lists_the_kinds_in_their_order() -> None:
    assert list(REACHES) == list(load_kinds().KINDS)
    page = PAGE.read_text(encoding="utf-8")
    table = page.split("| bad or odd input |", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
    assert rows[: len(REACHES)] == list(REACHES)
    assert rows[len(REACHES)] == "others"

"""The kinds of bad input, which of the cases are of each kind, and the public entry of a case.

A case is named ``test_name[entry-case]``. One case may be of several kinds, or of none of them:
those are counted as others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

NOTHING = "(?!)"
# Tests of odd input that is good input.
GOOD = (
    r"^test_(ids$|ids_come|forms|lists_of|odd_|histories$|arrays_of_text|vectors_of_every|codes_of"
    r"|numpys|names_of|sets_of|splits_of)"
)


class Kind(NamedTuple):
    """What is found in the names of its cases, or in those of its tests."""

    case: str
    test: str = NOTHING
    refused: bool = False  # such input is never good


_COLUMNS = "user|item|items|id|rank|columns|content|times|text column"
_WRONG = "list|dict|set|array|complex|bytes|decimal|period|texts?|dates|durations|lists|floats"

KINDS: dict[str, Kind] = {
    "missing column": Kind(
        rf"^(no|numbered) ({_COLUMNS})\b|in the index$|^items without ids", refused=True
    ),
    "wrong dtype": Kind(
        rf"^(item|user|an id|an item|time|weight|rank|score|ranked|indptr) (an? )?({_WRONG})\b"
        rf"(?! with)|^(infinite|integers|bools|objects|numbers|{_WRONG})( for titles)?$"
        r"|(integer|sparse) tensor|^time (of day|of two|number)|^times of two|as times",
        refused=True,
    ),
    "NaN, infinite or negative weight": Kind(r"^weight (NaN|infinite|negative|None|beyond)"),
    "unparsable times and mixed time zones": Kind(
        r"^time (unparsable|empty|by|with|digits|texts)|mixed zones|two zones|as times"
        r"|with a word for a time|strings with times"
    ),
    "an item twice": Kind(r"^an item twice|^items? twice"),
    "unknown ids": Kind(
        r"unknown (item|user|id|emoji|text)|without a row|of the catalogue", r"unknown_i"
    ),
    "empty table": Kind(
        r"^(array |table )?(no|without) (rows|histories)|^empty (histor|table|frame|list)"
        r"|^ratings empty|^nothing$",
        r"empty|nothing_to_observe|of_nothing|test_no_rows|no_new_items",
    ),
    "one event a user": Kind(r"one event", r"one_event"),
    "huge k": Kind(r"^huge|^k beyond", r"huge_k|k_wide"),
    "k of 0 or less": Kind(NOTHING),
    "item without text": Kind(r"^no title at all|^missing text|^empty texts$|^no content"),
    "text of 100 thousand characters": Kind(r"100 thousand|item a long list", "hundred_thousand"),
    "emoji and right-to-left text": Kind(r"emoji|right to left"),
    "ids of another type": Kind(
        r"another type|number and its text|(texts|strings) for numbers|numbers for texts",
        r"another_type",
    ),
    "frames whose index repeats or has levels": Kind(r"index (that|of)|two levels"),
    "read-only arrays": Kind(r"read-only"),
    "generators": Kind(r"^generators?$|^map$", r"generators"),
    "NumPy strings": Kind(r"NumPy's (variable )?strings"),
    "object columns": Kind(r"objects"),
    "ids of 2**63 and more": Kind(r"^(?!huge|rank|time|numbers|ratings).*(2\*\*63|64 bits)"),
}
# Where a name means the kind in some tests only.
_EMPTY = "None|NaN|NaN of NumPy|NaT|NA|empty|spaces"
_ALSO: dict[str, str] = {
    "missing column": r"^test_recommendations\[[^-]*-no users",
    "k of 0 or less": r"(refused|counts)\[[^-]*-(0|below 0|far below 0)\]?$",
    "item without text": rf"^test_odd_(texts|words)\[[^-]*-({_EMPTY})\]",
    "ids of another type": r"^test_unknown_i\w+\[[^-]*-(numbers|bytes|bool)\b",
}

# What a test calls an entry where that is no name of the public interface.
_PARAMETERS = {
    "users": "Recommender.recommend",
    "histories": "Recommender.recommend",
    "texts": "Recommender.recommend",
    "items_to_recommend": "Recommender.recommend",
    "items_to_exclude": "Recommender.recommend",
    "item_ids": "Recommender.recommend_to_items",
    "topk": "ops.topk.topk",
    "HistoryEncoder": "HistoryEncoder.fit",
    "LeaveLastOut": "LeaveLastOut.split",
    "TimeSplit": "TimeSplit.split",
    "OnnxRecommender": "OnnxRecommender",
}
_METHODS = {
    *("fit", "fit_transform", "partial_fit", "observe", "add_items", "recommend", "predict"),
    *("recommend_to_items", "transform", "score", "save", "load"),
}
_FUNCTIONS = {
    *("evaluate", "rank_metrics", "find_hits", "make_ranking_scorer", "leave_last_out_split"),
    *("time_split", "read_folder", "fetch_movielens", "fetch_movietweetings", "RunOptions"),
    "to_onnx",
}


def split(name: str) -> tuple[str, str, str]:
    """Return the test, the entry and the case of a name; "" where there is none."""
    test, _, inside = name.removesuffix("]").partition("[")
    entry, _, case = inside.partition("-")
    return test, entry, case


def entry_of(name: str) -> str:
    """Return the public entry of a case, or "" where its test is of no single one."""
    first = split(name)[1].split(" ")[0]
    if first in _METHODS:
        return f"Recommender.{first}"
    if re.match(r"[A-Z]\w+\.\w", first) or first in _FUNCTIONS:
        return first
    return _PARAMETERS.get(first, "")


def kinds_of(name: str) -> list[str]:
    """Return the kinds of a case."""
    test, _, case = split(name)
    found = []
    for kind, (of_case, of_test, refused) in KINDS.items():
        if refused and re.search(GOOD, test):
            continue
        also = re.search(_ALSO.get(kind, NOTHING), name)
        if also or re.search(of_test, test) or re.search(of_case, case):
            found.append(kind)
    return found


def tally(names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Count cases by kind and entry; ``"other"`` holds those of no kind."""
    counts: dict[str, dict[str, int]] = {kind: {} for kind in [*KINDS, "other"]}
    for name in names:
        entry = entry_of(name)
        for kind in kinds_of(name) or ["other"]:
            counts[kind][entry] = counts[kind].get(entry, 0) + 1
    return counts

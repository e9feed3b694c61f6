"""Odd forms of good events, at every entry that reads events.

The oracle is the plain table of the same events: an entry must answer it alike, to the last bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from palate import Recommender
from palate.baselines import MostPopular
from palate.metrics import evaluate
from palate.model_selection import LeaveLastOut, TimeSplit, leave_last_out_split, time_split

SHIFT = 2**63
BEFORE = pd.DataFrame(
    {"user_id": [0, 0, 1, 1, 2], "item_id": [3, 4, 4, 5, 3], "timestamp": [1, 2, 3, 4, 5]}
)
EVENTS = pd.DataFrame(
    {
        "user_id": [0, 1, 0, 2, 1, 0],
        "item_id": [5, 3, 4, 4, 5, 3],
        "timestamp": [15, 11, 14, 12, 13, 16],
    }
)
RANKED = pd.DataFrame({"user_id": [0, 0, 1], "item_id": [3, 5, 5], "rank": [1, 2, 1]})


def number(table: pd.DataFrame) -> pd.DataFrame:
    return table


def text(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{n: "i" + table[n].astype(str) for n in ("user_id", "item_id")})


def huge(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        **{n: table[n].to_numpy(np.uint64) + np.uint64(SHIFT) for n in ("user_id", "item_id")}
    )


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array


class Form(NamedTuple):
    """How ids are written, whether there are times, and what is made of the table."""

    ids: Callable[[pd.DataFrame], pd.DataFrame]
    timed: bool
    make: Callable[[pd.DataFrame], Any]


FORMS: dict[str, Form] = {
    "an index that repeats": Form(number, True, lambda t: t.set_index(pd.Index([7] * len(t)))),
    "an index of two levels": Form(
        number, True, lambda t: t.set_index(pd.MultiIndex.from_arrays([[1] * len(t)] * 2))
    ),
    "columns of objects": Form(number, True, lambda t: t.astype(object)),
    "columns of text as objects": Form(text, True, lambda t: t.astype(object)),
    "array of objects": Form(number, True, lambda t: t.to_numpy().astype(object)),
    "read-only array": Form(number, True, lambda t: read_only(t.to_numpy())),
    "NumPy's strings": Form(text, False, lambda t: t.to_numpy().astype(str)),
    "ids of 2**63 and more": Form(huge, True, lambda t: t),
    "ids of 2**63 as objects": Form(huge, True, lambda t: t.astype(object)),
}


class Models(NamedTuple):
    """What was fitted before on other events of the same ids."""

    learner: Recommender
    popular: MostPopular


def plain(value: Any) -> Any:
    """Take the writing off an id."""
    if isinstance(value, str) and value.startswith("i"):
        return int(value[1:])
    return None if value is None else int(value) % SHIFT


def rows(part: Any) -> list[list[Any]]:
    return [[plain(v) for v in row] for row in np.asarray(part.astype(object))]


def answers(model: Recommender) -> list[list[Any]]:
    found = model.recommend(k=3, filter_viewed=False)
    ids = found[["user_id", "item_id"]].to_numpy(object)
    return [*rows(ids), found["score"].tolist(), found["rank"].tolist()]


def ranked_as(X: Any) -> pd.DataFrame:
    """Return the recommendations with ids written as in X."""
    first = np.asarray(X.astype(object))[0, 0]
    return text(RANKED) if isinstance(first, str) else huge(RANKED) if first >= SHIFT else RANKED


ENTRIES: dict[str, Callable[[Models, Any], Any]] = {
    "partial_fit": lambda m, X: answers(copy.deepcopy(m.learner).partial_fit(X, epochs=1)),
    "observe": lambda m, X: answers(copy.deepcopy(m.learner).observe(X)),
    "predict": lambda m, X: rows(m.learner.predict(X, k=2, filter_viewed=False)),
    "transform": lambda m, X: m.learner.transform(X).tolist(),
    "score": lambda m, X: m.learner.score(X, filter_viewed=False),
    "MostPopular.fit": lambda _, X: MostPopular().fit(X).counts_.tolist(),
    "MostPopular.predict": lambda m, X: rows(m.popular.predict(X, k=2, filter_viewed=False)),
    "MostPopular.score": lambda m, X: m.popular.score(X, filter_viewed=False),
    "LeaveLastOut.split": lambda _, X: folds(LeaveLastOut(), X),
    "TimeSplit.split": lambda _, X: folds(TimeSplit(2, filter_cold_users=False), X),
    "leave_last_out_split": lambda _, X: [rows(part) for part in leave_last_out_split(X)],
    "time_split": lambda _, X: [rows(p) for p in time_split(X, 2, filter_cold_users=False)],
    "evaluate": lambda _, X: evaluate(ranked_as(X), X),
}


def folds(splitter: Any, X: Any) -> list[list[list[int]]]:
    return [[part.tolist() for part in parts] for parts in splitter.split(X)]


def columns(table: pd.DataFrame, timed: bool) -> pd.DataFrame:
    return table if timed else table.drop(columns="timestamp")


@pytest.fixture(scope="module")
def models(options: Any) -> Callable[[Callable[..., Any], bool], Models]:
    """Models for each way to write ids, each made once."""
    made: dict[Any, Models] = {}

    def get(ids: Callable[[pd.DataFrame], pd.DataFrame], timed: bool) -> Models:
        if (ids, timed) not in made:
            table = ids(columns(BEFORE, timed))
            learner = Recommender(
                item_encoder="id", dim=4, epochs=1, random_state=0, options=options
            )
            made[ids, timed] = Models(learner.fit(table), MostPopular().fit(table))
        return made[ids, timed]

    return get


NEEDS_TIMES = {"TimeSplit.split", "time_split"}
CELLS = [
    (entry, case)
    for entry in ENTRIES
    for case, form in FORMS.items()
    if form.timed or entry not in NEEDS_TIMES
]


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize(("entry", "case"), CELLS)
def test_forms(entry: str, case: str, models: Any) -> None:
    ask, form = ENTRIES[entry], FORMS[case]
    given = form.make(form.ids(columns(EVENTS, form.timed)))
    kept = copy.deepcopy(given)
    expected = ask(models(number, form.timed), columns(EVENTS, form.timed))
    assert ask(models(form.ids, form.timed), given) == expected
    assert expected  # something was compared
    if isinstance(given, np.ndarray):
        np.testing.assert_array_equal(given, kept)  # as it was
    else:
        pd.testing.assert_frame_equal(given, kept)


@pytest.mark.parametrize("case", ["NumPy's strings with times"])
@pytest.mark.parametrize("entry", ["TimeSplit.split", "time_split", "partial_fit", "observe"])
def test_times_are_not_read_from_strings_of_digits(
    entry: str, case: str, models: Any, refused: Any
) -> None:
    given = text(EVENTS).to_numpy().astype(str)
    found = models(text, True)
    message = "column 'timestamp' of X must hold numbers or datetimes; "
    refused(lambda: ENTRIES[entry](found, given), ValueError, message + "…", found.learner)

import warnings

import numpy as np
import pandas as pd
import pytest

from palate.baselines import MostPopular
from palate.exceptions import DataLeakWarning, InvalidInputError, UnreadInputWarning
from palate.model_selection import LeaveLastOut

EVENTS = pd.DataFrame(
    {
        "user_id": ["a"] * 4 + ["b"] * 3 + ["c"],
        "item_id": ["x", "y", "z", "v", "y", "x", "w", "x"],
        "timestamp": [1, 2, 3, 4, 5, 6, 7, 8],
    }
)


def test_a_random_fold_shows_the_future_and_says_so():
    model = MostPopular().fit(EVENTS.iloc[[1, 3, 4, 5, 7]])
    with pytest.warns(DataLeakWarning) as caught:
        model.score(EVENTS.iloc[[0, 2, 6]])
    assert [str(warning.message) for warning in caught] == [
        "2 of 3 events to be found are older than what the model knows of the same user: it has "
        "seen their future. Split by LeaveLastOut or TimeSplit of palate.model_selection instead."
    ]


@pytest.mark.parametrize("dates", [False, True])
def test_the_last_event_of_each_user_leaks_nothing(dates):
    events = EVENTS.assign(timestamp=pd.to_datetime(EVENTS["timestamp"])) if dates else EVENTS
    train, test = next(LeaveLastOut().split(events))
    model = MostPopular().fit(events.iloc[train])
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataLeakWarning)
        model.score(events.iloc[test])


def test_without_times_nothing_is_said():
    timeless = EVENTS.drop(columns="timestamp")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataLeakWarning)
        MostPopular().fit(timeless).score(EVENTS)
        MostPopular().fit(EVENTS).score(timeless)


def test_dates_after_numbers_are_refused(make_recommender):
    model = make_recommender(item_encoder="id", epochs=1).fit(EVENTS)
    dated = EVENTS.assign(timestamp=pd.to_datetime(EVENTS["timestamp"]))
    with pytest.raises(InvalidInputError) as raised:
        model.observe(dated)
    assert str(raised.value) == (
        "column 'timestamp' of X must be of the kind that the events learned before had, int64; "
        "its type is datetime64[ns]."
    )
    model.observe(EVENTS.assign(timestamp=np.linspace(9, 10, len(EVENTS))))


def test_dates_of_another_name_are_named(make_recommender, events):
    days = pd.date_range("2024-01-01", periods=len(events))
    dated = events.drop(columns="timestamp").assign(created_at=days)
    with pytest.warns(UnreadInputWarning) as caught:
        make_recommender().fit(dated)
    assert [str(warning.message) for warning in caught] == [
        "X has no column 'timestamp', so the order of its rows is the order of time; the dates of "
        "column 'created_at' are not read. Rename it to 'timestamp' if they should count."
    ]
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_recommender().fit(dated.rename(columns={"created_at": "timestamp"}))


def test_rows_that_look_like_events_are_named(make_recommender):
    rows = [("ann", "tea", 1), ("ann", "milk", 2), ("bob", "tea", 3), ("bob", "cake", 4)]
    with pytest.warns(UnreadInputWarning) as caught:
        make_recommender().fit(rows)
    assert [str(warning.message) for warning in caught] == [
        "X is a list of tuples, and each is read as the history of one user. Pass rows of user, "
        "item and time as a table, or as np.array(rows, dtype=object)."
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_recommender().fit(np.array(rows, dtype=object))
        make_recommender().fit([("tea", "milk"), ("tea", "cake")])
        make_recommender().fit([("tea", 1, 2), ("cake", 1, "tea", 2)])

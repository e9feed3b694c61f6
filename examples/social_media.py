"""A social network: a stream that drifts, people with two posts, new things every day.

    python examples/social_media.py [DATASET_FOLDER]

Reads MovieTweetings (ratings of movies posted on Twitter): from the folder, which holds
interactions.parquet and items.parquet, or, without one, fetched once with a checksum. The model
learns from everything before the last four weeks. These are then replayed day by day: every list
is made before its day, and only then is the day shown.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pandas as pd
from baselines import popular_items, print_scores, recommend_popular

from palate import Recommender, RunOptions
from palate.datasets import Dataset, fetch_movietweetings, read_folder

K = 10
DAY = 24 * 3600
STREAM_DAYS = 28
TRENDING_DAYS = 7

ALL_TIME = "most popular before the stream"
TRENDING = "most popular of the last 7 days"
FROZEN = "palate, histories frozen"
OBSERVING = "palate, observing"
LEARNING = "palate, learning on every night"
WITH_TREND = "the same, with trend_weight=0.15"
TREND_WEIGHT = 0.15


def main() -> None:
    """Run every step and print what it shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="else the set is fetched")
    folder = parser.parse_args().folder
    started = time.perf_counter()
    logging.basicConfig(format="  %(message)s", level=logging.WARNING, stream=sys.stdout)
    logging.getLogger("palate.training").setLevel(logging.INFO)
    data = fetch_movietweetings() if folder is None else read_folder(folder)
    before, stream, items = split(data)
    warm = items["item_id"].isin(before["item_id"])
    print(
        f"{len(before):,} posts to learn from, {len(stream):,} in the {STREAM_DAYS} days after; "
        f"{stream.loc[~stream['user_id'].isin(before['user_id']), 'user_id'].nunique():,} people "
        f"and {(~warm).sum():,} movies first appear in those.\n"
        f"{(before['user_id'].value_counts() <= 2).mean():.0%} of the people learned from have two "
        "posts or fewer."
    )
    model = fit(before, items[warm])
    logging.getLogger("palate.training").setLevel(logging.WARNING)
    lists, truth = replay(model, before, stream, items)
    report(lists, truth)
    print(f"\nAll of it took {time.perf_counter() - started:.0f} s.")


def split(data: Dataset) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the posts before the last four weeks, those after, and the items' texts."""
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    events = events.sort_values("timestamp", kind="stable")
    start = events["timestamp"].max() - STREAM_DAYS * DAY
    late = events["timestamp"] >= start
    day = (events.loc[late, "timestamp"] - start) // DAY
    items = data.items.loc[data.items["item_id"].isin(events["item_id"]), ["item_id", "text"]]
    return events[~late], events[late].assign(day=day), items


def fit(before: pd.DataFrame, items: pd.DataFrame) -> Recommender:
    """Learn from the past, by the defaults."""
    options = RunOptions(device="cpu", progress=False)
    return Recommender(random_state=0, options=options).fit(before, items=items)


def replay(
    model: Recommender, before: pd.DataFrame, stream: pd.DataFrame, items: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Go through the stream day by day: recommend, then look, then take in.

    Returns
    -------
    lists : dict of str to table
        Recommendations of each rival; a query is a user on a day.
    truth : table
        What those users then posted: ``user_id`` (the query), ``item_id``, ``joined`` (whether
        the user first appeared in the stream), ``untrained`` (whether the item did).
    """
    frozen, popular, past = model.recommend(k=K), popular_items(before), before
    # A night's people are too few to judge an epoch by: every epoch counts.
    observing, learning = copy.deepcopy(model), model.set_params(validation_fraction=0)
    tables: dict[str, list[pd.DataFrame]] = {}
    truths = []
    for day, today in stream.groupby("day"):
        # Judged are the people who are known by now: their lists were made before the day.
        known = today[today["user_id"].isin(past["user_id"])]
        users = list(known["user_id"].unique())
        made = popular_lists(users, past, popular, today["timestamp"].min())
        made[FROZEN] = frozen[frozen["user_id"].isin(users)]
        made[OBSERVING] = observing.recommend(users, k=K)
        made[LEARNING] = learning.recommend(users, k=K)
        made[WITH_TREND] = learning.recommend(users, k=K, trend_weight=TREND_WEIGHT)
        for name, table in made.items():
            tables.setdefault(name, []).append(name_queries(table, day))
        truths.append(name_queries(known, day).assign(known_user=known["user_id"]))
        # The day is over: new movies enter by their text, histories move, and one model learns.
        today = today.drop(columns="day")
        past = pd.concat([past, today])
        take_in(observing, today, items)
        learning.partial_fit(today, items=items[items["item_id"].isin(today["item_id"])])
    truth = pd.concat(truths)
    truth["joined"] = ~truth["known_user"].isin(before["user_id"])
    truth["untrained"] = ~truth["item_id"].isin(before["item_id"])
    return {name: pd.concat(parts) for name, parts in tables.items()}, truth


def popular_lists(
    users: list[Any], past: pd.DataFrame, popular: list[Any], now: int
) -> dict[str, pd.DataFrame]:
    """Return the popular list before the stream, and that of the days before `now`."""
    viewed = past[past["user_id"].isin(users)].groupby("user_id")["item_id"].agg(list)
    recent = past[past["timestamp"] >= now - TRENDING_DAYS * DAY]
    return {
        ALL_TIME: recommend_popular(popular, viewed, K),
        TRENDING: recommend_popular(popular_items(recent), viewed, K),
    }


def name_queries(table: pd.DataFrame, day: int) -> pd.DataFrame:
    """Call each query by its user and day."""
    return table.assign(user_id=table["user_id"].astype(str) + f" day {day}")


def take_in(server: Recommender, today: pd.DataFrame, items: pd.DataFrame) -> None:
    """Add the movies that were new today, and observe what happened; no weight changes."""
    new = set(today["item_id"]) - set(server.item_ids_)
    if new:
        server.add_items(items[items["item_id"].isin(new)])
    server.observe(today[["user_id", "item_id", "timestamp"]])


def report(lists: dict[str, pd.DataFrame], truth: pd.DataFrame) -> None:
    """Print who foresaw the days: for everybody, for those who had just joined, for new movies."""
    print_scores("Every day of the stream, for people who had posted before", lists, truth)
    joined = truth[truth["joined"]]
    print_scores("Of these, people who joined during the stream", lists, joined)
    untrained = truth[truth["untrained"]]
    print_scores("Of these, movies that first appeared in the stream", lists, untrained)


if __name__ == "__main__":
    main()

"""What the domain examples share: simple rivals that any model must beat, and a table printer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from palate.metrics import evaluate


def popular_items(events: pd.DataFrame) -> list[Any]:
    """Return all items of an event table, those with the most events first."""
    return list(events["item_id"].value_counts(sort=True).index)


def recommend_popular(
    ranked: Sequence[Any], viewed: Mapping[Any, Iterable[Any]], k: int = 10
) -> pd.DataFrame:
    """Return the same ranking for every query, less what that query has viewed.

    Parameters
    ----------
    ranked : sequence of item ids
        Best first.
    viewed : mapping of query to item ids
        What to leave out; map to an empty list to leave out nothing.
    k : int, default=10
        Most items a query.
    """
    rows = []
    for query, seen in viewed.items():
        seen = set(seen)
        kept = [item for item in ranked[: k + len(seen)] if item not in seen][:k]
        rows += [(query, item, rank) for rank, item in enumerate(kept, start=1)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rank"])


def buy_again(events: pd.DataFrame, users: Sequence[Any], k: int = 10) -> pd.DataFrame:
    """Return each user's own most frequent items, filled up with the most popular ones."""
    popular = popular_items(events)[: 2 * k]
    own = events[events["user_id"].isin(users)]
    counts = own.groupby(["user_id", "item_id"], sort=False).size().reset_index(name="n")
    counts = counts.sort_values("n", ascending=False, kind="stable")
    favourites = counts.groupby("user_id")["item_id"].agg(lambda items: list(items)[:k])
    rows = []
    for user in users:
        first = favourites.get(user, [])
        chosen = [*first, *(item for item in popular if item not in set(first))][:k]
        rows += [(user, item, rank) for rank, item in enumerate(chosen, start=1)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rank"])


def fuse(tables: Sequence[pd.DataFrame], k: int = 10, damping: int = 60) -> pd.DataFrame:
    """Join several rankings of the same queries by the sum of ``1 / (damping + rank)``.

    Reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009.
    """
    votes = pd.concat(
        [t[["user_id", "item_id"]].assign(vote=1 / (damping + t["rank"])) for t in tables]
    )
    total = votes.groupby(["user_id", "item_id"], sort=False)["vote"].sum().reset_index()
    total = total.sort_values("vote", ascending=False, kind="stable")
    total["rank"] = total.groupby("user_id").cumcount() + 1
    return total[total["rank"] <= k]


def histories_of(events: pd.DataFrame) -> dict[Any, list[Any]]:
    """Return the items of each user, in the order of the rows."""
    return {user: list(items) for user, items in events.groupby("user_id", sort=False)["item_id"]}


def print_scores(title: str, lists: Mapping[str, pd.DataFrame], truth: pd.DataFrame) -> None:
    """Print NDCG@10 and HR@10 of several recommendation tables on the same truth."""
    n_queries = truth["user_id"].nunique()
    print(f"\n{title} ({n_queries:,} lists judged)")
    print(f"  {'':46}{'NDCG@10':>9}{'HR@10':>9}")
    for name, table in lists.items():
        found = evaluate(table, truth, k=10, metrics=("ndcg", "hr"))
        print(f"  {name:46}{found['ndcg@10']:9.4f}{found['hr@10']:9.4f}")

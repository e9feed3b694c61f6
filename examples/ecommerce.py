"""A shop: buying again, discovering, products without a sale, and what goes with what.

    python examples/ecommerce.py

Reads the year of orders that ships with palate. The model learns from all orders before the last
30 days; everything printed is judged on those 30 days.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pandas as pd
from baselines import (
    buy_again,
    fuse,
    histories_of,
    popular_items,
    print_scores,
    recommend_popular,
)

from palate import Recommender, RunOptions, TransformerEncoder
from palate.datasets import load_online_retail
from palate.metrics import evaluate
from palate.model_selection import time_split

K = 10
DEEP = 100  # of lists that are joined


def main() -> None:
    """Run every step and print what it shows."""
    started = time.perf_counter()
    logging.basicConfig(format="  %(message)s", level=logging.WARNING, stream=sys.stdout)
    logging.getLogger("palate.training").setLevel(logging.INFO)
    retail = load_online_retail()
    events = retail.interactions[["user_id", "item_id", "timestamp"]]
    items = retail.items[["item_id", "text"]]
    train, test = time_split(events, "30D")
    warm = items["item_id"].isin(train["item_id"])
    print(
        f"{len(train):,} order lines to learn from, {len(test):,} of the 30 days after, "
        f"{warm.sum():,} products with a sale, {(~warm).sum()} without one yet."
    )
    model = fit(train, items[warm])
    compare(model, train, test)
    model.add_items(items[~warm])
    place_new_products(model, list(items.loc[~warm, "item_id"]), test)
    show_neighbours(model, items)
    print(f"\nAll of it took {time.perf_counter() - started:.0f} s.")


def fit(train: pd.DataFrame, items: pd.DataFrame) -> Recommender:
    """Learn from the orders: one Transformer block over ids and descriptions.

    The lines of an order share their time, so the last line says little by itself: the user vector
    is the mean over the history.
    """
    return Recommender(
        user_encoder=TransformerEncoder(
            n_layers=1, n_heads=1, max_length=50, dropout=0.2, pooling="mean", shortcut=False
        ),
        item_encoder="bert+id",
        dim=64,
        epochs=4,
        batch_size=128,
        patience=5,
        mean_weight=0,
        content_weight=0,
        random_state=0,
        options=RunOptions(device="cpu", progress=False),
    ).fit(train, items=items)


def first_purchases(train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Return the test events whose customer never bought the product before."""
    pairs = pd.MultiIndex.from_frame(train[["user_id", "item_id"]]).unique()
    known = pd.MultiIndex.from_frame(test[["user_id", "item_id"]]).isin(pairs)
    return test[~known]


def compare(model: Recommender, train: pd.DataFrame, test: pd.DataFrame) -> None:
    """Judge two questions apart: what will they buy, and what will they buy that is new to them."""
    users = list(test["user_id"].unique())
    popular, viewed = popular_items(train), histories_of(train)
    learned = model.recommend(users, k=DEEP, filter_viewed=False)
    print_scores(
        "What will they buy? Repeats allowed",
        {
            "most popular": recommend_popular(popular, dict.fromkeys(users, ())),
            "their own most frequent products": buy_again(train, users),
            "palate, filter_viewed=False": learned,
            "both, joined by rank": fuse([buy_again(train, users, DEEP), learned], K),
        },
        test,
    )
    discovered = first_purchases(train, test)
    users = list(discovered["user_id"].unique())
    print_scores(
        "What will they buy for the first time? Repeats filtered",
        {
            "most popular": recommend_popular(popular, {user: viewed[user] for user in users}),
            "palate, filter_viewed=True": model.recommend(users, k=K),
        },
        discovered,
    )


def chance_hr(n_items: int, n_relevant: int, k: int) -> float:
    """Return the hit rate of a random list of `k` out of `n_items`."""
    return 1 - math.comb(n_items - n_relevant, k) / math.comb(n_items, k)


def place_new_products(model: Recommender, new: list[str], test: pd.DataFrame) -> None:
    """Rank the products that never sold, for those who then bought one of them."""
    truth = test[test["item_id"].isin(new)]
    buyers = list(truth["user_id"].unique())
    table = model.recommend(buyers, k=K, items_to_recommend=new)
    found = evaluate(table, truth, k=K, metrics=("hr",))["hr@10"]
    bought = truth.groupby("user_id")["item_id"].nunique()
    chance = sum(chance_hr(len(new), n, K) for n in bought) / len(bought)
    print(
        f"\n{len(new)} products without a sale, placed by their description alone. For the "
        f"{len(buyers)} customers who\nthen bought some of them, the ten best of the {len(new)} "
        f"hold one in {found:.0%} of cases; chance is {chance:.0%}."
    )


def show_neighbours(model: Recommender, items: pd.DataFrame) -> None:
    """Print what goes with three products."""
    words = dict(zip(items["item_id"], items["text"], strict=True))
    print("\nNearest products:")
    chosen = ["22423", "85099B", *model.item_ids_[-1:]]
    table = model.recommend_to_items([c for c in chosen if c in words], k=4)
    for target, rows in table.groupby("target_item_id", sort=False):
        near = "; ".join(f"{words[r.item_id]} ({r.score:.2f})" for r in rows.itertuples())
        print(f"  {words[target]}\n    {near}")


if __name__ == "__main__":
    main()

"""palate in one run: learn a shop's customers, recommend in words, place a cold item, save, load.

Everything it reads is inside the installation: a year of orders of a British gift shop and the
weights of all-MiniLM-L6-v2. It takes a few minutes on two cores.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd

from palate import Recommender, RunOptions, TransformerEncoder
from palate.baselines import MostPopular
from palate.datasets import load_online_retail
from palate.model_selection import leave_last_out_split

K = 10
COLD_ITEM = "20724"  # withheld from training, so that it is new when it arrives


def main() -> None:
    """Run every step and print what it shows."""
    started = time.perf_counter()
    logging.basicConfig(format="  %(message)s", level=logging.WARNING, stream=sys.stdout)
    logging.getLogger("palate.training").setLevel(logging.INFO)

    retail = load_online_retail()
    events = retail.interactions[["user_id", "item_id", "timestamp"]]
    items = retail.items[["item_id", "text"]]
    words = dict(zip(items["item_id"], items["text"], strict=True))
    buyers = set(events.loc[events["item_id"] == COLD_ITEM, "user_id"])
    warm_events = events[events["item_id"] != COLD_ITEM]
    warm_items = items[items["item_id"] != COLD_ITEM]
    train, test = leave_last_out_split(warm_events, min_history=2)
    print(
        f"{retail.name}: {train['user_id'].nunique():,} customers, {len(warm_items):,} products, "
        f"{len(train):,} events to learn from, {len(test):,} last events held out."
    )

    print("\nLearning (a Transformer over the history, BERT text plus id for the products):")
    model = Recommender(
        user_encoder=TransformerEncoder(n_layers=1),
        item_encoder="bert+id",
        epochs=6,
        random_state=0,
        options=RunOptions(device="cpu", progress=False),
    ).fit(train, items=warm_items)

    compare(model, MostPopular().fit(train), test)
    show_customers(model, train, words)
    typed = ["a red and white polka dot teapot", "vintage cake stand for afternoon tea"]
    print(f"\nSomebody types: {' / '.join(typed)}")
    show(model.recommend(texts=[typed], k=5), words)
    place_cold_item(model, items, words, buyers)
    save_and_load(model)
    print(f"\nAll of it took {time.perf_counter() - started:.0f} s.")


def compare(model: Recommender, popular: MostPopular, test: pd.DataFrame) -> None:
    """Print both models' metrics on the held-out events."""
    print("\nHeld-out last events, full ranking:")
    print(f"  {'':28}{'NDCG@10':>9}{'HR@10':>9}")
    for viewed, name in ((True, "viewed filtered"), (False, "repeats allowed")):
        scores = {}
        for who, one in (("most popular", popular), ("palate", model)):
            ndcg = one.score(test, k=K, filter_viewed=viewed)
            hr = one.score(test, metric="hr", k=K, filter_viewed=viewed)
            scores[who] = ndcg
            print(f"  {who + ', ' + name:28}{ndcg:9.4f}{hr:9.4f}")
        print(f"  {'':28}{scores['palate'] / scores['most popular']:8.2f}x")


def show_customers(model: Recommender, train: pd.DataFrame, words: dict[str, str]) -> None:
    """Print five customers' last purchases and what the model suggests."""
    counts = train["user_id"].value_counts()
    some = counts[(counts >= 5) & (counts <= 40)].index.sort_values()
    chosen = list(some[:: max(1, len(some) // 5)][:5])
    table = model.recommend(chosen, k=3)
    for user in chosen:
        bought = train.loc[train["user_id"] == user, "item_id"].tolist()[-4:]
        print(f"\nCustomer {user} bought {'; '.join(words[item] for item in bought)}")
        show(table[table["user_id"] == user], words)


def place_cold_item(
    model: Recommender, items: pd.DataFrame, words: dict[str, str], buyers: set[str]
) -> None:
    """Add a product that no event ever named, and see where its text puts it."""
    print(f"\nA new product arrives, known by its text alone: {words[COLD_ITEM]!r}. Nearest to it:")
    model.add_items(items[items["item_id"] == COLD_ITEM])
    show(model.recommend_to_items([COLD_ITEM], k=5), words)
    everyone = model.recommend(k=len(model.item_ids_), items_to_recommend=[COLD_ITEM])
    bought = everyone["user_id"].isin(buyers).to_numpy()
    score = everyone["score"].to_numpy()
    ranks = score.argsort().argsort()
    auc = (ranks[bought].mean() - (bought.sum() - 1) / 2) / max(1, (~bought).sum())
    print(
        f"  Of all customers, its {bought.sum()} true buyers (never shown to the model) are ranked "
        f"above the others in {auc:.0%} of pairs; chance is 50%."
    )


def save_and_load(model: Recommender) -> None:
    """Save the model, load it, and compare all recommendations."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(os.path.join(folder, "model"))
        again = Recommender.load(os.path.join(folder, "model"), options=model.options)
    before, after = model.recommend(k=K), again.recommend(k=K)
    same = before["item_id"].equals(after["item_id"])
    same &= bool(np.array_equal(before["score"], after["score"]))
    print(f"\nSaved, loaded: {len(before):,} recommendations, equal: {same}")


def show(table: pd.DataFrame, words: dict[str, str]) -> None:
    """Print recommendations in words."""
    for row in table.itertuples():
        print(f"  {row.rank}. {words[row.item_id]} ({row.score:.2f})")


if __name__ == "__main__":
    main()

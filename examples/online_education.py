"""An online school: few events a learner, courses with transcripts, terms that go by.

    python examples/online_education.py DATASET_FOLDER

The folder holds interactions.parquet (user_id, item_id, timestamp) and items.parquet (item_id,
title, text), such as the English half of MARS, the Mandarine Academy's page views. Weights learn
from the first 80 % of the events; the learners judged are those who came back after that.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
from baselines import histories_of, popular_items, print_scores, recommend_popular

from palate import Recommender, RunOptions
from palate.datasets import read_folder
from palate.metrics import evaluate

K = 10
TRAINED_SHARE = 0.8
TERMS = 4
WORDS = {
    "a learner who is new to spreadsheets": ["I want to sum columns and draw my first chart"],
    "a manager": ["run a meeting with a remote team", "share a screen and record the call"],
    "somebody tidying up": ["find an old e-mail", "clean up my mailbox with rules and folders"],
}


@dataclass(frozen=True)
class Cases:
    """Learners at one moment: what each has viewed, and what came next."""

    histories: list[list[str]]
    truth: pd.DataFrame

    def __getitem__(self, kept: list[int]) -> Cases:
        rows = self.truth.set_index("user_id").loc[kept].reset_index()
        rows["user_id"] = range(len(kept))
        return Cases([self.histories[i] for i in kept], rows)


def main() -> None:
    """Run every step and print what it shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    started = time.perf_counter()
    logging.basicConfig(format="  %(message)s", level=logging.WARNING, stream=sys.stdout)
    data = read_folder(folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    events = events.sort_values("timestamp", kind="stable")
    cut = events["timestamp"].iloc[int(TRAINED_SHARE * len(events))]
    train, later = events[events["timestamp"] < cut], events[events["timestamp"] >= cut]
    items = data.items[["item_id", "title", "text"]]
    warm = items["item_id"].isin(train["item_id"])
    cases = next_views(events, cut)
    print(
        f"{len(train):,} views by {train['user_id'].nunique():,} learners to learn from; "
        f"{len(cases.histories):,} learners judged on their last view after that. "
        f"{warm.sum()} courses with a view, {(~warm).sum()} without.\n"
        f"{events.duplicated(['user_id', 'item_id']).mean():.0%} of all views are repeats; "
        f"the median learner has {events['user_id'].value_counts().median():.0f} views."
    )
    models = {name: fit(name, train, items, warm) for name in ("id", "bert", "bert+id")}
    compare(models, train, cases)
    from_words(models, train, items, cases)
    go_on(models["bert+id"], later, cases)
    show_words(models["bert+id"], items)
    print(f"\nAll of it took {time.perf_counter() - started:.0f} s.")


def next_views(events: pd.DataFrame, cut: int) -> Cases:
    """Return the learners whose last view is after `cut`: that view, and all before it."""
    lists, last = histories_of(events), events.groupby("user_id")["timestamp"].last()
    chosen = {user: views for user, views in lists.items() if last[user] >= cut and len(views) > 1}
    truth = pd.DataFrame(
        {
            "user_id": range(len(chosen)),
            "item_id": [views[-1] for views in chosen.values()],
            "timestamp": [last[user] for user in chosen],
        }
    )
    return Cases([views[:-1] for views in chosen.values()], truth)


def fit(
    item_encoder: str, train: pd.DataFrame, items: pd.DataFrame, warm: pd.Series
) -> Recommender:
    """Learn from the views; courses without one enter by their text afterwards."""
    model = Recommender(
        item_encoder=item_encoder,
        random_state=0,
        options=RunOptions(device="cpu", progress=False),
    )
    if item_encoder == "id":
        return model.fit(train)
    return model.fit(train, items=items[warm]).add_items(items[~warm])


def ask(model: Recommender, cases: Cases, *, filter_viewed: bool = True) -> pd.DataFrame:
    """Recommend for the histories of cases; a model of ids skips courses it never saw."""
    return model.recommend(
        histories=cases.histories,
        k=K,
        filter_viewed=filter_viewed,
        on_unsupported_targets="ignore",
    )


def compare(models: dict[str, Recommender], train: pd.DataFrame, cases: Cases) -> None:
    """Judge revisits and discoveries apart, and those who have only one or two views."""
    popular = popular_items(train)
    new = [i for i, item in enumerate(cases.truth["item_id"]) if item not in cases.histories[i]]
    few = [i for i in new if len(set(cases.histories[i])) <= 2]
    for title, part, viewed in (
        ("The next view, repeats allowed", cases, False),
        ("The next new course, viewed ones filtered", cases[new], True),
        ("Of these, learners with one or two courses so far", cases[few], True),
    ):
        seen = {i: history if viewed else () for i, history in enumerate(part.histories)}
        lists = {"most popular": recommend_popular(popular, seen)}
        for name, model in models.items():
            lists[f"palate, {name}"] = ask(model, part, filter_viewed=viewed)
        print_scores(title, lists, part.truth)


def from_words(
    models: dict[str, Recommender], train: pd.DataFrame, items: pd.DataFrame, cases: Cases
) -> None:
    """Judge learners described in words alone: the titles of what they viewed."""
    titles = dict(zip(items["item_id"], items["title"], strict=True))
    told = [[titles[item] for item in history[-20:]] for history in cases.histories]
    viewed = dict.fromkeys(range(len(told)), ())
    lists = {"most popular": recommend_popular(popular_items(train), viewed)}
    for name in ("bert", "bert+id"):
        lists[f"palate, {name}, told the titles"] = models[name].recommend(texts=told, k=K)
    print_scores("The next view of learners told in words, repeats allowed", lists, cases.truth)


def go_on(model: Recommender, later: pd.DataFrame, cases: Cases) -> None:
    """Go through the later views in terms: judge each, then learn on from it."""
    edges = later["timestamp"].quantile([i / TERMS for i in range(TERMS + 1)]).to_numpy()
    frozen, model = model, copy.deepcopy(model)
    print("\nTerm after term, the next view, repeats allowed (NDCG@10)")
    print(f"  {'term':>6}{'learners':>10}{'as trained':>12}{'learning on':>13}")
    rows = []
    for term in range(TERMS):
        start, stop = edges[term], edges[term + 1] + (term == TERMS - 1)
        inside = cases.truth["timestamp"].between(start, stop, inclusive="left")
        part = cases[list(cases.truth.index[inside])]
        scores = [
            evaluate(ask(one, part, filter_viewed=False), part.truth, metrics=("ndcg",))["ndcg@10"]
            for one in (frozen, model)
        ]
        rows.append((len(part.histories), *scores))
        print(f"  {term + 1:6}{rows[-1][0]:10}{scores[0]:12.4f}{scores[1]:13.4f}")
        model.partial_fit(later[later["timestamp"].between(start, stop, inclusive="left")])
    counts, before, after = np.array(rows).T
    print(
        f"  {'all':>6}{int(counts.sum()):10}{np.average(before, weights=counts):12.4f}"
        f"{np.average(after, weights=counts):13.4f}"
    )


def show_words(model: Recommender, items: pd.DataFrame) -> None:
    """Print what is recommended to people who only say what they need."""
    titles = dict(zip(items["item_id"], items["title"], strict=True))
    table = model.recommend(texts=list(WORDS.values()), k=3)
    for row, (who, said) in enumerate(WORDS.items()):
        print(f"\n{who} says: {' / '.join(said)}")
        for found in table[table["user_id"] == row].itertuples():
            print(f"  {found.rank}. {titles[found.item_id]} ({found.score:.2f})")


if __name__ == "__main__":
    main()

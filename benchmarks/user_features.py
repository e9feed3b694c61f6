"""What attributes of people add, by how much else is known of them.

    python benchmarks/user_features.py DATASET_FOLDER [--columns age gender occupation]

The folder holds interactions.parquet (user_id, item_id, timestamp), items.parquet (item_id, text)
and users.parquet (user_id and the columns). A share of the people, drawn at random, is new:
training sees none of their events. Then their attributes are told, their first event, and so on;
after each of the numbers of events asked for, their next ten events are to be found among all
items, viewed ones filtered (NDCG@10, the mean over seeds, each with people of its own).

Arms: "none" has no attributes (who has no event gets what is popular); "given" has those of
users.parquet; "shuffled" those of somebody else, which say nothing; "told" has in place of them
the value of `--of` (a column of items, values separated by "|") that is most over-represented among
all events of a person, the ones to be found included: no result, but what an attribute that really
tells would do.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from palate import Recommender, RunOptions
from palate.datasets import read_folder
from palate.metrics import evaluate

ARMS = ("none", "given", "shuffled", "told")
AHEAD = 10


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--columns", nargs="+", default=["age", "gender", "occupation"])
    parser.add_argument("--of", default="genres")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--known", nargs="+", type=int, default=[0, 1, 5])
    parser.add_argument("--new", type=float, default=0.2, help="share of people who are new")
    parser.add_argument("--model", default="bert+id")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def favourites(events: pd.DataFrame, items: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return for each person the value that is most over-represented among their events."""
    values = items.set_index("item_id")[column].str.split("|").explode().dropna()
    pairs = events[["user_id", "item_id"]].merge(values.rename("value"), on="item_id")
    counts = pairs.groupby(["user_id", "value"]).size().unstack(fill_value=0)
    shares = counts.div(counts.sum(1), axis=0)
    usual = counts.sum() / counts.to_numpy().sum()
    # A rare value that somebody met once by chance is not their taste.
    over = (shares - usual) / np.sqrt(usual)
    return pd.DataFrame({"user_id": counts.index, "likes": over.idxmax(axis=1).to_numpy()})


def attributes(
    arm: str, people: pd.DataFrame, told: pd.DataFrame, columns: list[str], seed: int
) -> tuple[pd.DataFrame | None, list[str] | None]:
    """Return the users table of an arm, and the columns of it to read."""
    if arm == "none":
        return None, None
    if arm == "told":
        return told, ["likes"]
    table = people[["user_id", *columns]]
    if arm == "shuffled":
        others = np.random.default_rng(seed).permutation(len(table))
        table = table.assign(user_id=table["user_id"].to_numpy()[others])
    return table, columns


def walk(
    args: argparse.Namespace,
    events: pd.DataFrame,
    items: pd.DataFrame,
    table: pd.DataFrame | None,
    columns: list[str] | None,
    new: np.ndarray,
    seed: int,
) -> list[tuple[int, float]]:
    """Fit without the new people, tell of them step by step: NDCG@10 by the events known."""
    late = events["user_id"].isin(new)
    early, late = events[~late].drop(columns="place"), events[late]
    model = Recommender(
        item_encoder=args.model,
        user_features=columns,
        random_state=seed,
        options=RunOptions(device="cpu", progress=False),
    )
    if args.epochs is not None:
        model.set_params(epochs=args.epochs)
    started = time.perf_counter()
    old_table = None if table is None else table[~table["user_id"].isin(new)]
    new_table = None if table is None else table[table["user_id"].isin(new)]
    model.fit(early, items=items[["item_id", "text"]], users=old_table)
    print(f"seed {seed}, {columns}: fitted in {time.perf_counter() - started:.0f} s", flush=True)
    found, taken = [], 0
    for known in sorted(args.known):
        more = late[late["place"].between(taken, known - 1)].drop(columns="place")
        model.observe(more, users=new_table)
        taken = known
        truth = late[late["place"].between(known, known + AHEAD - 1)]
        lists = model.recommend(new, k=10, on_unsupported_targets="popular")
        found.append((known, evaluate(lists, truth, k=10, metrics=["ndcg"])["ndcg@10"]))
    return found


def main() -> None:
    """Print the table."""
    args = parse()
    torch.set_num_threads(args.threads)
    data = read_folder(args.folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    events = events.assign(place=events.groupby("user_id").cumcount())
    people = pd.read_parquet(args.folder / "users.parquet")
    told = favourites(events, data.items, args.of) if "told" in args.arms else pd.DataFrame()
    rows = []
    for seed in args.seeds:
        ids = np.sort(events["user_id"].unique())
        new = np.random.default_rng(seed).permutation(ids)[: round(args.new * len(ids))]
        for arm in args.arms:
            table, columns = attributes(arm, people, told, args.columns, seed)
            for known, value in walk(args, events, data.items, table, columns, new, seed):
                rows.append((arm, known, seed, value))
    name = f"{args.folder.resolve().name}: {len(new)} new people, seeds {args.seeds}"
    print(f"{name}; NDCG@10 of the next {AHEAD} events")
    found = pd.DataFrame(rows, columns=["arm", "known", "seed", "ndcg"])
    means = found.pivot_table(index="known", columns="arm", values="ndcg")[args.arms]
    print(f"{'events known':>12}" + "".join(f"{arm:>12}" for arm in args.arms))
    for known, values in means.iterrows():
        print(f"{known:12d}" + "".join(f"{value:12.4f}" for value in values))


if __name__ == "__main__":
    main()

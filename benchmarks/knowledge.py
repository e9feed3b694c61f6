"""What a knowledge graph adds for items that training never saw, or hardly.

    python benchmarks/knowledge.py DATASET_FOLDER [--arms text told neighbours both control]

The folder holds interactions.parquet (user_id, item_id, timestamp), items.parquet (item_id, title,
text) and kg/*.kg, kg/*.link (tab-separated triples, and item to entity). The links of ml-100k
number films as ml-1m does: `--numbering` names the folder whose items.parquet they go by, and
films are then matched by title and year.

A tenth of the items, drawn at random, is held out: neither their events nor their content take
part in training. Then they join by `add_items`, and their events by `observe`. Each user's last
five events are the test (more than one make a steadier figure): *cold* is the mean NDCG@10 of the
events whose item is held out, *sparse* of those whose item has 1 to 20 events in training, *warm*
of the others; all items are ranked, viewed ones are filtered.

The entities of this graph are codes without names. In words ("told"), an entity is called by two
films that share it: "directed by the one of Jaws and Duel". "control" is "neighbours" with every
film linked to the facts of another one: what more parameters do by themselves.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from palate import (
    BertEncoder,
    Fusion,
    IdEncoder,
    Items,
    KnowledgeEncoder,
    KnowledgeGraph,
    Recommender,
    RunOptions,
)
from palate.datasets import read_folder

ARMS = ("text", "told", "neighbours", "both", "control")
SLICES = ("cold", "sparse", "warm")
RELATIONS = {
    "film.film.directed_by": "directed by",
    "film.film.written_by": "written by",
    "film.film.actor": "starring",
    "film.film.subjects": "about the subject",
    "film.film.sequel": "followed by",
    "film.film.prequel": "following",
}
PARAMS: dict[str, Any] = {
    "user_encoder__n_layers": 1,
    "user_encoder__max_length": 100,
    "user_encoder__dropout": 0.2,
    "batch_size": 32,
    "epochs": 10,
    "validation_fraction": 0,
}
SPARSE_EVENTS = 20
N_TESTS = 5
OPTIONS = RunOptions(device="cpu", progress=False)


@dataclass
class Split:
    """Events to learn from, events to be found, and the items that are held out."""

    train: pd.DataFrame
    test: pd.DataFrame
    items: pd.DataFrame
    cold: np.ndarray

    def slices(self) -> dict[str, pd.Series]:
        """Tell which test events are of which kind of item."""
        is_cold = self.test["item_id"].isin(self.cold)
        n_events = self.test["item_id"].map(self.train["item_id"].value_counts()).fillna(0)
        is_sparse = ~is_cold & (n_events <= SPARSE_EVENTS) & (n_events > 0)
        return dict(zip(SLICES, (is_cold, is_sparse, ~is_cold & ~is_sparse), strict=True))


def split(events: pd.DataFrame, items: pd.DataFrame, share: float, seed: int) -> Split:
    """Hold out a share of the items, and the last events of each user."""
    from_last = events.groupby("user_id").cumcount(ascending=False)
    ids = items["item_id"].to_numpy()
    cold = np.random.default_rng(seed).choice(ids, round(share * len(ids)), replace=False)
    return Split(events[from_last >= N_TESTS], events[from_last < N_TESTS], items, cold)


def read_graphs(
    folder: Path, items: pd.DataFrame, numbering: Path | None
) -> dict[str, KnowledgeGraph | None]:
    """Return the graph that each arm gives to its items."""
    triples = pd.read_csv(next(folder.glob("*.kg")), sep="\t", dtype=str)
    links = pd.read_csv(next(folder.glob("*.link")), sep="\t", dtype=str)
    triples.columns, links.columns = ["head", "relation", "tail"], ["item_id", "entity"]
    if numbering is not None:
        theirs = pd.read_parquet(numbering / "items.parquet")[["item_id", "title"]]
        theirs = theirs.rename(columns={"item_id": "number"}).assign(key=title_key(theirs))
        both = items[["item_id"]].assign(key=title_key(items)).merge(theirs, on="key")
        both = both.assign(number=both["number"].astype(str))
        links = links.rename(columns={"item_id": "number"}).merge(both, on="number")
        links = links[["item_id", "entity"]]
    links["item_id"] = links["item_id"].astype(items["item_id"].dtype)
    shuffled = np.random.default_rng(0).permutation(links["entity"].to_numpy())
    silent = KnowledgeGraph(triples, links, names={})
    told = KnowledgeGraph(
        triples, links, names=names_by_films(triples, links, items), relations=RELATIONS
    )
    control = KnowledgeGraph(triples, links.assign(entity=shuffled), names={})
    return dict(zip(ARMS, (None, told, silent, told, control), strict=True))


def title_key(items: pd.DataFrame) -> pd.Series:
    """Return titles with years as they are compared."""
    return items["title"].str.lower().str.strip()


def names_by_films(
    triples: pd.DataFrame, links: pd.DataFrame, items: pd.DataFrame
) -> dict[str, str]:
    """Call films by their titles, and whatever two of them share by those two."""
    titles = items[["item_id"]].assign(
        title=items["title"].str.replace(r" \(\d{4}\)$", "", regex=True)
    )
    films = links.merge(titles, on="item_id")
    shared = triples.merge(films, left_on="head", right_on="entity")
    shared = shared.drop_duplicates(["tail", "title"])
    shared = shared[shared.groupby("tail")["title"].transform("size") > 1]
    first = shared.groupby("tail")["title"].agg(lambda names: " and ".join(names.head(2)))
    names = {entity: f"the one of {pair}" for entity, pair in first.items()}
    return {**names, **dict(zip(films["entity"], films["title"], strict=True))}


def fit(arm: str, held: Split, graphs: dict[str, Any], seed: int, args: Any) -> Any:
    """Return a model that knows every event before the last ones, as far as it can."""
    parts: list[Any] = [BertEncoder()]
    parts += [KnowledgeEncoder()] if arm in ("neighbours", "both", "control") else []
    parts += [] if args.no_ids else [IdEncoder()]
    model = Recommender(item_encoder=Fusion(parts), random_state=seed, options=OPTIONS)
    model.set_params(**{**PARAMS, **args.params})
    graph = graphs[arm]
    rows = held.items[["item_id", "text"]]
    is_cold = rows["item_id"].isin(held.cold)
    cold_events = held.train["item_id"].isin(held.cold)
    model.fit(held.train[~cold_events], items=Items(rows[~is_cold], graph))
    model.add_items(Items(rows[is_cold], graph))
    return model.observe(held.train[cold_events], on_unsupported_targets="ignore")


def gains(model: Any, test: pd.DataFrame) -> np.ndarray:
    """Return NDCG@10 of each test event: one relevant item, so 1 over the log of its place."""
    users = test["user_id"].unique()
    found = model.recommend(users=list(users), k=10, on_unsupported_targets="ignore")
    merged = test.merge(found, on=["user_id", "item_id"], how="left")
    return (1 / np.log2(merged["rank"] + 1)).fillna(0).to_numpy()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--numbering", type=Path, help="data set that the links are numbered by")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--share", type=float, default=0.1, help="share of items held out")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="a split, fit each")
    parser.add_argument("--no-ids", action="store_true", help="items by content alone")
    parser.add_argument("--params", type=json.loads, default={}, help="JSON of Recommender params")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    args = parse()
    torch.set_num_threads(args.threads)
    data = read_folder(args.folder)
    events = data.interactions[["user_id", "item_id", "timestamp"]]
    items = data.items[data.items["item_id"].isin(events["item_id"])]
    graphs = read_graphs(args.folder / "kg", items, args.numbering)
    splits = {seed: split(events, items, args.share, seed) for seed in args.seeds}
    sizes = {kind: sum(s.slices()[kind].sum() for s in splits.values()) for kind in SLICES}
    print(
        f"{args.folder.resolve().name}: {args.share:.0%} of the items held out, splits "
        f"{args.seeds}, {'content alone' if args.no_ids else 'content and ids'}; test events: "
        f"{', '.join(f'{n} {kind}' for kind, n in sizes.items())}; NDCG@10, full ranking"
    )
    print(f"{'arm':12}" + "".join(f"{kind:>9}" for kind in SLICES) + f"{'fit s':>8}  cold by split")
    for arm in args.arms:
        found: dict[str, list[np.ndarray]] = {kind: [] for kind in SLICES}
        started = time.perf_counter()
        for seed, held in splits.items():
            values = gains(fit(arm, held, graphs, seed, args), held.test)
            for kind, rows in held.slices().items():
                found[kind].append(values[rows.to_numpy()])
        seconds = (time.perf_counter() - started) / len(splits)
        means = "".join(f"{np.concatenate(found[kind]).mean():9.4f}" for kind in SLICES)
        each = " ".join(f"{values.mean():.4f}" for values in found["cold"])
        print(f"{arm:12}{means}{seconds:8.0f}  {each}", flush=True)


if __name__ == "__main__":
    main()

"""The split that every model of a comparison gets, as arrays of codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from palate._random import draw_seed, torch_generator
from palate.data.histories import Histories
from palate.datasets import read_folder
from palate.learning import _HOLDOUT
from palate.model_selection import leave_last_out_split
from palate.training.validation import hold_out

VALIDATION_FRACTION = 0.1  # what palate holds out by default
COLD_SHARE = 0.1


@dataclass(frozen=True)
class Split:
    """Training events, test events and items, users and items as codes from 0.

    Attributes
    ----------
    train, test : DataFrame
        Columns ``user_id, item_id, timestamp``; by user, in time order.
    items : DataFrame
        ``item_id`` and, where the set has it, ``text``, of all items that have an event.
    cold : int64 ndarray
        Items without a training event that join after training; empty in a warm split.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    items: pd.DataFrame
    cold: np.ndarray

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    @property
    def asked(self) -> np.ndarray:
        """Users to recommend for: those with a test event."""
        return np.unique(self.test["user_id"].to_numpy())

    def held_out(self, seed: int) -> np.ndarray:
        """Return the users whose last training event palate's `fit` holds out for this seed.

        `fit` numbers users in the order in which they come, and `train` is sorted by user.
        """
        users, lengths = np.unique(self.train["user_id"].to_numpy(), return_counts=True)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        whole = Histories(indptr, self.train["item_id"].to_numpy(), n_users=len(users))
        generator = torch_generator(draw_seed(seed), _HOLDOUT)
        left, _ = hold_out(whole, VALIDATION_FRACTION, generator)
        return users[np.diff(left.indptr) < lengths]

    def write(self, folder: Path, seed: int) -> None:
        """Put the split where the process of a model finds it."""
        np.savez(
            folder / "split.npz",
            users=self.train["user_id"],
            items=self.train["item_id"],
            times=self.train["timestamp"],
            asked=self.asked,
            held=self.held_out(seed),
            cold=self.cold,
            n_items=self.n_items,
        )
        self.items.to_parquet(folder / "items.parquet")


def read_coded(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return events (by user, in time order; ties as in the file) and items, both coded."""
    data = read_folder(folder)
    events = data.interactions
    users = pd.factorize(events["user_id"], sort=True)[0]
    items, item_ids = pd.factorize(events["item_id"], sort=True)
    times = events["timestamp"] if "timestamp" in events else np.arange(len(events))
    coded = pd.DataFrame({"user_id": users, "item_id": items, "timestamp": np.asarray(times)})
    table = pd.DataFrame({"item_id": np.arange(len(item_ids))})
    if data.items is not None and "text" in data.items:
        texts = data.items.drop_duplicates("item_id").set_index("item_id")["text"]
        table["text"] = texts.reindex(item_ids).fillna("").to_numpy(dtype=object)
    coded = coded.sort_values(["user_id", "timestamp"], kind="stable", ignore_index=True)
    return coded, table


def warm_split(folder: Path) -> Split:
    """Leave each user's last event out; users keep two events at least."""
    events, items = read_coded(folder)
    train, test = leave_last_out_split(events, min_history=2)
    return Split(train, test, items, np.empty(0, np.int64))


def cold_split(folder: Path, seed: int) -> Split:
    """Take every event of a tenth of the items out of training.

    The test is each user's last event of such an item that has at least two events of other items
    before it; those alone are the user's training events. Users without one train on all that
    they have of other items.
    """
    events, items = read_coded(folder)
    n_cold = max(1, round(COLD_SHARE * len(items)))
    cold = np.sort(np.random.default_rng(seed).choice(len(items), n_cold, replace=False))
    is_cold = events["item_id"].isin(cold)
    n_warm_before = (~is_cold).astype(np.int64).groupby(events["user_id"]).cumsum()
    usable = events[is_cold & (n_warm_before >= 2)]
    test = usable.groupby("user_id").tail(1)
    target = pd.Series(test.index, index=test["user_id"])
    end = events["user_id"].map(target).fillna(len(events))
    train = events[~is_cold & (events.index < end)]
    return Split(train, test, items, cold)

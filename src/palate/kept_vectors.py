"""The vectors of known users, kept from one question to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate._threads import ForkedLock
from palate.data.flat import by_part

# Neighbouring users whose vectors lie in one tensor, which is made when the first of them comes.
_PART = 16_384


class KeptVectors:
    """The vectors of users who were asked for, each until that user's history moves.

    They belong to one state of a model. A change hands them to the state that follows, less those
    of the users it moved; a reader who still has the state before finds none there.

    Examples
    --------
    >>> kept = KeptVectors()
    >>> kept.put(np.array([4, 2]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> vectors, known = kept.hand_over(moved=np.array([4])).find(np.array([2, 4]))
    >>> known.tolist(), vectors[known].tolist()
    ([True, False], [[0.0, 1.0]])
    """

    def __init__(self) -> None:
        self._lock = ForkedLock()
        self._parts: dict[int, Tensor] = {}
        self._known = np.zeros(0, bool)

    def __len__(self) -> int:
        """Return how many vectors are kept."""
        return int(self._known.sum())

    def find(self, users: np.ndarray) -> tuple[Tensor | None, np.ndarray]:
        """Return a copy of the vectors of users, and whether each is kept: bool (n_users,).

        Rows of users who have none mean nothing; None stands for all rows where nobody has one.
        """
        with self._lock.held:
            known = users < len(self._known)
            known[known] = self._known[users[known]]
            found: Tensor | None = None
            kept = np.flatnonzero(known)
            for part, among in by_part(users[kept], _PART):
                places, rows = kept[among], self._parts[part]
                if found is None:
                    found = rows.new_empty(len(users), rows.shape[1])
                found[_on(places, rows)] = rows[_on(users[places] % _PART, rows)]
            return found, known

    def put(self, users: np.ndarray, vectors: Tensor) -> None:
        """Keep the vectors (n_users, width) of some users."""
        with self._lock.held:
            missing = int(users.max(initial=-1)) + 1 - len(self._known)
            if missing > 0:
                room = np.zeros(-(-missing // _PART) * _PART, bool)
                self._known = np.concatenate([self._known, room])
            for part, places in by_part(users, _PART):
                if part not in self._parts:
                    self._parts[part] = vectors.new_empty(_PART, vectors.shape[1])
                rows = self._parts[part]
                rows[_on(users[places] % _PART, rows)] = vectors[_on(places, vectors)]
            self._known[users] = True

    def hand_over(self, moved: np.ndarray) -> KeptVectors:
        """Return what is kept but for users who `moved`; nothing is kept here from now on."""
        after = KeptVectors()
        with self._lock.held:
            after._parts, after._known = self._parts, self._known
            self._parts, self._known = {}, np.zeros(0, bool)
        after._known[moved[moved < len(after._known)]] = False
        return after

    def __reduce__(self) -> tuple[Any, ...]:
        return KeptVectors, ()  # copies and pickles start with none


def _on(places: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(places).to(like.device)

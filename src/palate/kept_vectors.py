"""The vectors of known users, kept from one question to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate._threads import ForkedLock

# Users for whom there is room beside those known when more room is made, as a share of those.
_MORE = 0.25


class KeptVectors:
    """The vectors of users who were asked for, each until that user's history moves.

    They belong to one state of a model. A change hands them to the state that follows, less those
    of the users it moved; a reader who still has the state before finds none there.

    Examples
    --------
    >>> kept = KeptVectors()
    >>> kept.put(np.array([4, 2]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), n_users=5)
    >>> vectors, known = kept.hand_over(moved=np.array([4])).find(np.array([2, 4]))
    >>> known.tolist(), vectors[known].tolist()
    ([True, False], [[0.0, 1.0]])
    """

    def __init__(self) -> None:
        self._lock = ForkedLock()
        self._rows = torch.empty(0, 0)
        self._known = np.zeros(0, bool)

    def __len__(self) -> int:
        """Return how many vectors are kept."""
        return int(self._known.sum())

    def find(self, users: np.ndarray) -> tuple[Tensor | None, np.ndarray]:
        """Return a copy of the vectors of users, and whether each is kept: bool (n_users,).

        Rows of users who have none mean nothing; None stands for all rows where nobody has one.
        """
        with self._lock:
            known = users < len(self._known)
            known[known] = self._known[users[known]]
            if not known.any():
                return None, known
            places = torch.from_numpy(np.where(known, users, 0)).to(self._rows.device)
            return self._rows[places], known

    def put(self, users: np.ndarray, vectors: Tensor, n_users: int) -> None:
        """Keep the vectors (n, width) of some of the `n_users` users that there are."""
        with self._lock:
            if len(self._known) < n_users:
                self._make_room(n_users, vectors)
            self._rows[torch.from_numpy(users).to(self._rows.device)] = vectors
            self._known[users] = True

    def hand_over(self, moved: np.ndarray) -> KeptVectors:
        """Return what is kept but for users who `moved`; nothing is kept here from now on."""
        after = KeptVectors()
        with self._lock:
            after._rows, after._known = self._rows, self._known
            self._rows, self._known = torch.empty(0, 0), np.zeros(0, bool)
        after._known[moved[moved < len(after._known)]] = False
        return after

    def _make_room(self, n_users: int, vectors: Tensor) -> None:
        before = len(self._known)
        room = n_users + (int(_MORE * n_users) if before else 0)
        rows, known = vectors.new_empty(room, vectors.shape[1]), np.zeros(room, bool)
        if before:
            rows[:before], known[:before] = self._rows, self._known
        self._rows, self._known = rows, known

    def __reduce__(self) -> tuple[Any, ...]:
        return KeptVectors, ()  # copies and pickles start with none

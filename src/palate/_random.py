"""Seeds to local generators: the global seeds of numpy and torch are never touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state


def draw_seed(random_state: Any) -> int:
    """Draw one integer seed from what scikit-learn accepts as `random_state`.

    Parameters
    ----------
    random_state : None, int or numpy.random.RandomState
        None draws from numpy's global state, an int always gives the same seed.

    Returns
    -------
    int
        A seed in [0, 2**31 - 1).

    Examples
    --------
    >>> draw_seed(0) == draw_seed(0)
    True
    """
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def torch_generator(seed: int, *stream: int) -> torch.Generator:
    """Return a CPU generator for one named stream of a seed: streams are independent.

    Zeros at the end of a name add nothing: streams ``1`` and ``1, 0`` are the same.

    Examples
    --------
    >>> a, b = torch_generator(7, 0), torch_generator(7, 1)
    >>> a.initial_seed() == b.initial_seed()
    False
    """
    state = np.random.SeedSequence([seed, *stream]).generate_state(2, dtype=np.uint32)
    generator = torch.Generator()
    generator.manual_seed(int(state[0]) << 31 ^ int(state[1]))
    return generator


class ModuleSeed:
    """Context in which torch's default generator is seeded, and restored on leaving.

    Layers draw their first weights and their dropout from torch's default generator; this keeps
    that deterministic for a given seed without leaving a trace in the caller's random state.

    Examples
    --------
    >>> with ModuleSeed(3):
    ...     a = torch.rand(2)
    >>> with ModuleSeed(3):
    ...     b = torch.rand(2)
    >>> bool((a == b).all())
    True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self._fork = torch.random.fork_rng()
        self._fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *exc: Any) -> None:
        self._fork.__exit__(*exc)

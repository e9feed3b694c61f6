"""Choices of one run that are not hyperparameters: where, how loudly, who listens."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch

from palate._device import choose_device
from palate._validation import check_int
from palate.exceptions import InvalidParameterError


@dataclass(frozen=True)
class RunOptions:
    """How to run, apart from what to learn.

    Parameters
    ----------
    device : str, default="auto"
        ``"auto"`` takes CUDA, else MPS, else the CPU.
    progress : bool or None, default=None
        Progress bars: on, off, or (None) on where the error stream is a terminal.
    cache : bool or path, default=True
        Content vectors on disk: in the default folder (``$PALATE_CACHE``, else
        ``~/.cache/palate``), not at all (False), or in the folder given.
    inference_batch_size : int, default=1024
        Users encoded and ranked at once when serving: bounds the memory, not the result.
    on_epoch_end : callable, default=None
        Called with each new record of ``history_`` (a mapping), after every training epoch.
    n_jobs : int, default=None
        Threads that a call of the model may use on the CPU: a number, -1 for all cores that the
        process may use, -2 for all but one; None leaves torch's own setting alone. It holds for
        the thread that calls, while it calls.
    user_vectors_mb : int, default=512
        Most memory of the device, in MiB, for the vectors of known users, which are kept until a
        user's history moves: `fit` computes those of all users, and questions those that are not
        there. Where the vectors of all users need more, or for 0, each question encodes whom it
        asks for.

    Examples
    --------
    >>> RunOptions(device="cpu").torch_device
    device(type='cpu')
    """

    device: str = "auto"
    progress: bool | None = None
    cache: bool | str | os.PathLike[str] = True
    inference_batch_size: int = 1024
    on_epoch_end: Callable[[Mapping[str, Any]], None] | None = None
    n_jobs: int | None = None
    user_vectors_mb: int = 512

    def __post_init__(self) -> None:
        check_int("inference_batch_size", self.inference_batch_size, minimum=1)
        check_int("user_vectors_mb", self.user_vectors_mb, minimum=0)
        check_n_jobs(self.n_jobs)

    @property
    def torch_device(self) -> torch.device:
        """The device, chosen now."""
        return choose_device(self.device)

    @property
    def hide_progress(self) -> bool | None:
        """What tqdm calls ``disable``."""
        return None if self.progress is None else not self.progress


def check_n_jobs(n_jobs: Any) -> None:
    """Raise unless `n_jobs` is None or an integer other than 0.

    Examples
    --------
    >>> check_n_jobs(0)
    Traceback (most recent call last):
    palate.exceptions.InvalidParameterError: n_jobs must be None or an integer other than 0; got 0.
    """
    whole = isinstance(n_jobs, Integral) and not isinstance(n_jobs, bool)
    if n_jobs is not None and not (whole and n_jobs):
        raise InvalidParameterError(
            f"n_jobs must be None or an integer other than 0; got {n_jobs!r}."
        )

"""How the learning rate rises and falls over a stage."""

from __future__ import annotations

WARMUP_STEPS = 100
_WARMUP_SHARE = 0.1
FLOOR = 0.05


def rate_factor(epoch: int, place: int, n_batches: int, n_epochs: int) -> float:
    """Return the share of the peak learning rate at one step.

    It rises linearly over the first 100 steps (over a tenth of the stage, if that is shorter) and
    falls linearly to a twentieth at the end of the last planned epoch.

    Parameters
    ----------
    epoch, place : int
        The epoch, and the batch in it, both from 0.
    n_batches, n_epochs : int
        Batches an epoch, and planned epochs.

    Returns
    -------
    float
        In (0, 1].

    Examples
    --------
    >>> [round(rate_factor(epoch, 0, 1000, 10), 2) for epoch in (0, 1, 5, 9)]
    [0.01, 0.91, 0.53, 0.15]
    """
    total = n_batches * n_epochs
    step = epoch * n_batches + place
    warmup = min(WARMUP_STEPS, max(1, int(_WARMUP_SHARE * total)))
    return min(1.0, (step + 1) / warmup) * (1 - (1 - FLOOR) * step / total)

"""An average of the weights along the way, in place of where the last step happened to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

#: Times an epoch that the weights are taken into the average: enough to be smooth, and so few
#: that a large catalogue does not pay for its whole table at every step.
SNAPSHOTS = 32


class WeightAverage:
    """An exponential moving average of the trainable weights of a network.

    Of the n snapshots an epoch (32, or one a step where there are fewer steps), number t (from 0,
    the weights at the start) enters with the share ``max(1 / (t + 1), 1 / (n * epochs))``: the
    plain mean of all snapshots at first, then an average that forgets by 1/e in `epochs` epochs.
    Buffers are not averaged.

    Parameters
    ----------
    network : nn.Module
        Its parameters keep their shapes as long as the average lives.
    epochs : float
        How far the average looks back, above 0.

    Notes
    -----
    Averages of the iterates of stochastic descent: Polyak and Juditsky, "Acceleration of
    Stochastic Approximation by Averaging", 1992; the exponential form in deep networks: Kingma and
    Ba, "Adam", ICLR 2015, section 7.2. It holds one more copy of the weights.

    Examples
    --------
    >>> layer = nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage(layer, epochs=1.0)
    >>> before = layer.weight.item()
    >>> _ = nn.init.constant_(layer.weight, before + 2)
    >>> average.take()
    >>> with average.swapped():
    ...     round(layer.weight.item() - before, 4)
    1.0
    >>> round(layer.weight.item() - before, 4)
    2.0
    """

    def __init__(self, network: nn.Module, epochs: float) -> None:
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.means = [p.detach().clone() for p in self.parameters]
        self.epochs = epochs
        self.n_taken = 0

    def after_step(self, n_done: int, n_steps: int) -> None:
        """Take a snapshot if one is due after `n_done` of the `n_steps` steps of an epoch."""
        n = min(SNAPSHOTS, n_steps)
        if n_done * n // n_steps > (n_done - 1) * n // n_steps:
            self.take(n)

    @torch.no_grad()
    def take(self, n_an_epoch: int = SNAPSHOTS) -> None:
        """Move the average towards the present weights, one of `n_an_epoch` times an epoch."""
        self.n_taken += 1
        share = max(1 / (self.n_taken + 1), min(1.0, 1 / (n_an_epoch * self.epochs)))
        for mean, parameter in zip(self.means, self.parameters, strict=True):
            mean.lerp_(parameter, share)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Give the network the average for the length of a ``with`` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def settle(self) -> None:
        """Give the network the average for good."""
        for mean, parameter in zip(self.means, self.parameters, strict=True):
            parameter.copy_(mean)

    @torch.no_grad()
    def _swap(self) -> None:
        for mean, parameter in zip(self.means, self.parameters, strict=True):
            kept: Tensor = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(kept)

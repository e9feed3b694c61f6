"""What the ranking stage scores each position against: the catalogue or a sample of it."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from palate._validation import check_int, check_real
from palate.ops.losses import gbce_beta, gbce_loss, softmax_loss

#: Above this many items the cost of the full softmax outgrows what it gains.
FULL_SOFTMAX_ITEMS = 20_000


class SoftmaxObjective(BaseEstimator):
    """Cross-entropy over the full catalogue.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of the truth that is spread evenly over the catalogue, in [0, 1).
    temperature : float, default=None
        Divides the similarities, above 0. None learns it, from 0.07 for the cosine and from 1 for
        the other metrics.

    Examples
    --------
    >>> pool = torch.arange(4)
    >>> codes, bias = SoftmaxObjective().candidates(pool[:2], pool, pool, torch.Generator())
    >>> codes.tolist(), bias
    ([0, 1, 2, 3], None)
    """

    def __init__(self, label_smoothing: float = 0.0, temperature: float | None = None) -> None:
        self.label_smoothing = label_smoothing
        self.temperature = temperature

    def check_parameters(self) -> None:
        """Raise if a parameter is out of range."""
        check_real("label_smoothing", self.label_smoothing, low=0, high=1, high_open=True)
        _check_temperature(self.temperature)

    def candidates(
        self, targets: Tensor, pool: Tensor, counts: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Return every item of the pool, and no bias."""
        return pool, None

    def loss(
        self,
        queries: Tensor,
        items: Tensor,
        places: Tensor,
        weights: Tensor | None,
        bias: Tensor | None,
        n_items: int,
    ) -> Tensor:
        """Return the smoothed cross-entropy of positions against candidates."""
        smoothing = self.label_smoothing
        return softmax_loss(
            queries, items, places, weights=weights, bias=bias, label_smoothing=smoothing
        )


class SampledSoftmaxObjective(BaseEstimator):
    """Cross-entropy over the targets of the batch and a uniform sample, with logQ correction.

    Parameters
    ----------
    n_negatives : int, default=512
        Items drawn from the catalogue for each batch, shared by its positions.
    temperature : float, default=None
        Divides the similarities, above 0. None learns it.

    Notes
    -----
    Beside a position's own target, which is certain to be there and is not corrected, an item is
    a candidate with the probability ``1 - (1 - p)**(n - 1) * (1 - 1/N)**m`` of being one of the
    other n - 1 targets (p its share of events) or of the m draws from N items; minus the logarithm
    of that probability is added to its logit (Yi et al., "Sampling-Bias-Corrected Neural Modeling
    for Large Corpus Item Recommendations", RecSys 2019, section 4.1).

    Examples
    --------
    >>> pool, counts = torch.arange(100), torch.ones(100)
    >>> objective = SampledSoftmaxObjective(n_negatives=8)
    >>> codes, bias = objective.candidates(torch.tensor([3]), pool, counts, torch.Generator())
    >>> 3 in codes, len(codes) <= 9, bias.shape == codes.shape
    (True, True, True)
    """

    def __init__(self, n_negatives: int = 512, temperature: float | None = None) -> None:
        self.n_negatives = n_negatives
        self.temperature = temperature

    def check_parameters(self) -> None:
        """Raise if a parameter is out of range."""
        check_int("n_negatives", self.n_negatives, minimum=1)
        _check_temperature(self.temperature)

    def candidates(
        self, targets: Tensor, pool: Tensor, counts: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Return the sorted codes to score, and the logQ bias of each."""
        drawn = check_int("n_negatives", self.n_negatives, minimum=1)
        picks = torch.randint(0, len(pool), (drawn,), generator=generator).to(pool.device)
        codes = torch.unique(torch.cat([targets, pool[picks]]))
        share = counts[codes].double() / counts.sum().clamp_min(1)
        missed = (len(targets) - 1) * torch.log1p(-share.clamp(max=1 - 1e-12))
        missed = missed + drawn * torch.log1p(torch.tensor(-1.0 / max(2, len(pool))))
        return codes, -torch.log(-torch.expm1(missed)).to(torch.float32)


class GBCEObjective(BaseEstimator):
    """Binary cross-entropy of the target against a uniform sample, made to rank as a softmax would.

    Parameters
    ----------
    n_negatives : int, default=256
        Items drawn from the catalogue for each batch, shared by its positions; at most as many as
        there are items beside the target.
    t : float, default=0.75
        How far the probability of the target is corrected for the sampling, in [0, 1]: 0 is plain
        binary cross-entropy.
    temperature : float, default=None
        Divides the similarities, above 0. None learns it.

    Notes
    -----
    Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained
    with Negative Sampling", RecSys 2023. There each position draws negatives of its own; shared
    ones cost a matrix product, and a negative that is a position's target is left out for it.

    Examples
    --------
    >>> pool, objective = torch.arange(100), GBCEObjective(n_negatives=8)
    >>> codes, drawn = objective.candidates(torch.tensor([3]), pool, pool, torch.Generator())
    >>> 3 in codes, int(drawn.sum())
    (True, 8)
    """

    def __init__(
        self, n_negatives: int = 256, t: float = 0.75, temperature: float | None = None
    ) -> None:
        self.n_negatives = n_negatives
        self.t = t
        self.temperature = temperature

    def check_parameters(self) -> None:
        """Raise if a parameter is out of range."""
        check_int("n_negatives", self.n_negatives, minimum=1)
        check_real("t", self.t, low=0, high=1)
        _check_temperature(self.temperature)

    def candidates(
        self, targets: Tensor, pool: Tensor, counts: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the sorted codes of targets and negatives, and how often each was drawn."""
        drawn = min(check_int("n_negatives", self.n_negatives, minimum=1), max(1, len(pool) - 1))
        picks = torch.randint(0, len(pool), (drawn,), generator=generator).to(pool.device)
        codes = torch.unique(torch.cat([targets, pool[picks]]))
        times = torch.bincount(torch.searchsorted(codes, pool[picks]), minlength=len(codes))
        return codes, times.to(torch.float32)

    def loss(
        self,
        queries: Tensor,
        items: Tensor,
        places: Tensor,
        weights: Tensor | None,
        bias: Tensor | None,
        n_items: int,
    ) -> Tensor:
        """Return the loss of positions against candidates; `bias` is how often each was drawn."""
        assert bias is not None
        beta = gbce_beta(self.n_negatives, n_items, self.t)
        return gbce_loss(queries, items, places, bias, beta=beta, weights=weights)


def _check_temperature(temperature: Any) -> None:
    if temperature is not None:
        check_real("temperature", temperature, low=0, low_open=True, high_open=True)


def objective_for(network: Any, n_items: int) -> Any:
    """Return the objective of a network that tells next items from `n_items` candidates."""
    if network.items.is_live:
        return SampledSoftmaxObjective(n_negatives=64)
    return SoftmaxObjective() if n_items <= FULL_SOFTMAX_ITEMS else SampledSoftmaxObjective()

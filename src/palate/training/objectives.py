"""What the ranking stage scores each position against: the catalogue or a sample of it."""

from __future__ import annotations

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from palate._validation import check_int


class SoftmaxObjective(BaseEstimator):
    """Cross-entropy over the full catalogue.

    Examples
    --------
    >>> pool = torch.arange(4)
    >>> codes, bias = SoftmaxObjective().candidates(pool[:2], pool, pool, torch.Generator())
    >>> codes.tolist(), bias
    ([0, 1, 2, 3], None)
    """

    def candidates(
        self, targets: Tensor, pool: Tensor, counts: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Return every item of the pool, and no bias."""
        return pool, None


class SampledSoftmaxObjective(BaseEstimator):
    """Cross-entropy over the targets of the batch and a uniform sample, with logQ correction.

    Parameters
    ----------
    n_negatives : int, default=512
        Items drawn from the catalogue for each batch, shared by its positions.

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

    def __init__(self, n_negatives: int = 512) -> None:
        self.n_negatives = n_negatives

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

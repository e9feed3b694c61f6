"""Losses: softmax over a catalogue without its logits in memory, gBCE, contrast in a batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from palate.ops.similarity import unit_norm

# Logits held at once. On a CPU they should stay in the shared cache, and yet be rows enough for a
# pass over the items to pay; on a GPU they should fill it.
_BLOCK_BYTES = {"cpu": 8 * 2**20, "other": 256 * 2**20}


class _SoftmaxLoss(torch.autograd.Function):
    """Mean cross-entropy whose gradients are computed with the loss, block by block.

    The gradient of ``-log softmax`` with respect to the logits is ``softmax - one_hot(target)``.
    Both factors of its products with the queries and the items are at hand while the block of
    logits is still in cache, so nothing of size positions x items is ever kept or computed twice.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        targets: Tensor,
        weights: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        needs = queries.requires_grad or items.requires_grad
        queries, items = queries.detach(), items.detach()
        grad_queries = torch.empty_like(queries) if needs else None
        grad_items = torch.zeros_like(items) if needs else None
        loss = queries.new_zeros(())
        for rows in _blocks(len(queries), len(items), queries.device.type):
            block, target = queries[rows], targets[rows]
            logits = block @ items.T if bias is None else torch.addmm(bias, block, items.T)
            index = torch.arange(len(block), device=block.device)
            if bias is not None:
                logits[index, target] -= bias[target]
            at_target = logits[index, target]
            top = logits.amax(1)
            logits.sub_(top[:, None]).exp_()
            total = logits.sum(1)
            loss += ((total.log() + top - at_target) * weights[rows]).sum()
            if grad_queries is not None and grad_items is not None:
                logits.mul_((weights[rows] / total)[:, None])
                logits[index, target] -= weights[rows]
                torch.mm(logits, items, out=grad_queries[rows])
                grad_items.addmm_(logits.T, block)
        ctx.save_for_backward(grad_queries, grad_items)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad_queries, grad_items = ctx.saved_tensors
        return grad_queries * grad, grad_items * grad, None, None, None


def _shares(weights: Tensor) -> Tensor:
    """Return the weights over their sum, which may be more than a float holds; 0 for none."""
    tiny = torch.finfo(weights.dtype).tiny
    weights = weights / weights.max().clamp_min(tiny)
    return weights / weights.sum().clamp_min(tiny)


def _blocks(n_rows: int, n_items: int, device: str) -> list[slice]:
    budget = _BLOCK_BYTES.get(device, _BLOCK_BYTES["other"])
    size = max(16, budget // (4 * max(1, n_items)))
    return [slice(start, start + size) for start in range(0, n_rows, size)]


def softmax_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    bias: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Weighted mean cross-entropy of the softmax over ``queries @ items.T``.

    Parameters
    ----------
    queries : float Tensor of shape (n_positions, dim)
        Already scaled by the inverse temperature.
    items : float Tensor of shape (n_items, dim)
        The candidates.
    targets : int64 Tensor of shape (n_positions,)
        The row of `items` that is right for each query.
    weights : float Tensor of shape (n_positions,), default=None
        Weight of each position, all 1 by default.
    bias : float Tensor of shape (n_items,), default=None
        Added to the logits and not learned (the logQ correction of sampled candidates). A
        position's own target is left out: it is certain to be a candidate, so it stands for itself
        alone, and ``exp(queries @ items.T + bias)`` of the others estimates the full sum.
    label_smoothing : float, default=0.0
        Share of the truth that is spread evenly over all items instead of being the target's.

    Returns
    -------
    Tensor of shape ()
        In nats. Peak memory is a block of logits, not ``n_positions * n_items``.

    Notes
    -----
    Full-catalogue cross-entropy over next items: Klenitskiy and Vasilev, "Turning Dross Into Gold
    Loss: is BERT4Rec really better than SASRec?", RecSys 2023, section 3. Label smoothing: Szegedy
    et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7.

    Examples
    --------
    >>> q, v = torch.zeros(2, 3, requires_grad=True), torch.randn(5, 3)
    >>> round(float(softmax_loss(q, v, torch.tensor([0, 4]))), 4)  # log(5): all are equally likely
    1.6094
    """
    if weights is None:
        weights = queries.new_ones(len(queries))
    weights = _shares(weights)
    loss: Tensor = _SoftmaxLoss.apply(queries, items, targets, weights, bias)
    if label_smoothing:
        # Against a truth q the loss is log sum exp - q.logits: only the second term changes, and
        # the mean logit is the logit of the mean item.
        change = (queries * (items[targets] - items.mean(0))).sum(1)
        if bias is not None:
            change = change - (bias.sum() - bias[targets]) / len(items)
        loss = loss + label_smoothing * (weights * change).sum()
    return loss


def gbce_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    multiplicities: Tensor,
    *,
    beta: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Weighted mean of the generalised binary cross-entropy with shared negatives.

    For a position with the target t and the negatives j, with the logits s,
    ``-(beta log sigmoid(s_t) + sum_j log(1 - sigmoid(s_j))) / (1 + n)``, where n is the number of
    its negatives. Negatives that are the target itself are left out.

    Parameters
    ----------
    queries : float Tensor of shape (n_positions, dim)
        Already scaled by the inverse temperature.
    items : float Tensor of shape (n_items, dim)
        The candidates.
    targets : int64 Tensor of shape (n_positions,)
        The row of `items` that is right for each query.
    multiplicities : float Tensor of shape (n_items,)
        How often each candidate was drawn as a negative; 0 for what is a target alone.
    beta : float
        Power of the probability of the target, at most 1: see :func:`gbce_beta`.
    weights : float Tensor of shape (n_positions,), default=None
        Weight of each position, all 1 by default.

    Returns
    -------
    Tensor of shape ()
        In nats. Peak memory is positions x negatives.

    Notes
    -----
    Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained
    with Negative Sampling", RecSys 2023, equation 12.

    Examples
    --------
    >>> q, v = torch.zeros(1, 2), torch.ones(3, 2)
    >>> drawn = torch.tensor([0.0, 1.0, 2.0])
    >>> round(float(gbce_loss(q, v, torch.tensor([0]), drawn, beta=1.0)), 4)  # log(2)
    0.6931
    """
    if weights is None:
        weights = queries.new_ones(len(queries))
    weights = _shares(weights)
    negatives = multiplicities.nonzero().flatten()
    own = targets[:, None] == negatives
    counts = torch.where(own, 0.0, multiplicities[negatives].to(queries.dtype))
    losses = beta * F.softplus(-(queries * items[targets]).sum(1))
    losses = losses + (counts * F.softplus(queries @ items[negatives].T)).sum(1)
    return (weights * losses / (1 + counts.sum(1))).sum()


def gbce_beta(n_negatives: int, n_items: int, t: float) -> float:
    """Return the power of the target's probability that undoes negative sampling.

    With the sampling rate ``a = n_negatives / (n_items - 1)`` it is ``a (t (1 - 1/a) + 1/a)``: 1
    (plain binary cross-entropy) for t = 0, and ``a`` (calibrated probabilities) for t = 1.

    Parameters
    ----------
    n_negatives, n_items : int
        Draws for a position, and items that there are to draw from.
    t : float
        In [0, 1].

    Returns
    -------
    float

    Notes
    -----
    Petrov and Macdonald, "gSASRec", RecSys 2023, equation 16.

    Examples
    --------
    >>> gbce_beta(256, 1025, 0.0), gbce_beta(256, 1025, 1.0), gbce_beta(256, 1025, 0.75)
    (1.0, 0.25, 0.4375)
    """
    rate = min(1.0, n_negatives / max(1, n_items - 1))
    return rate * (t * (1 - 1 / rate) + 1 / rate)


def contrastive_loss(a: Tensor, b: Tensor, temperature: float | Tensor = 0.07) -> Tensor:
    """Symmetric InfoNCE: row i of `a` should find row i of `b` among all rows, and the reverse.

    Parameters
    ----------
    a, b : float Tensors of shape (n, dim)
        Two views of the same n things; compared by cosine.
    temperature : float, default=0.07
        Divides the cosines.

    Returns
    -------
    Tensor of shape ()
        In nats; 0 for a single row.

    Notes
    -----
    van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
    equation 4; the symmetric form over two views follows Chen et al., SimCLR, 2020.

    Examples
    --------
    >>> x = torch.eye(3)
    >>> float(contrastive_loss(x, x)) < 1e-5
    True
    """
    logits = unit_norm(a) @ unit_norm(b).T / temperature
    right = torch.arange(len(a), device=a.device)
    forward = F.cross_entropy(logits, right)
    return (forward + F.cross_entropy(logits.T, right)) / 2

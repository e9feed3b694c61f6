"""Losses: softmax over a catalogue without its logits in memory, and contrast within a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palate.ops.similarity import unit_norm

# Logits held at once: on a CPU they should stay in the shared cache, on a GPU they should fill it.
_BLOCK_BYTES = {"cpu": 2 * 2**20, "other": 256 * 2**20}


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

    Returns
    -------
    Tensor of shape ()
        In nats. Peak memory is a block of logits, not ``n_positions * n_items``.

    Notes
    -----
    Full-catalogue cross-entropy over next items: Klenitskiy and Vasilev, "Turning Dross Into Gold
    Loss: is BERT4Rec really better than SASRec?", RecSys 2023, section 3.

    Examples
    --------
    >>> q, v = torch.zeros(2, 3, requires_grad=True), torch.randn(5, 3)
    >>> round(float(softmax_loss(q, v, torch.tensor([0, 4]))), 4)  # log(5): all are equally likely
    1.6094
    """
    if weights is None:
        weights = queries.new_ones(len(queries))
    weights = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return _SoftmaxLoss.apply(queries, items, targets, weights, bias)  # type: ignore[no-any-return]


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
    forward = torch.nn.functional.cross_entropy(logits, right)
    return (forward + torch.nn.functional.cross_entropy(logits.T, right)) / 2

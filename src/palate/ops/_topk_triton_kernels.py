"""Triton kernels of the search: a product whose scores never leave the chip, and a second look.

Importing this module needs triton; with ``TRITON_INTERPRET=1`` it runs on a CPU, slowly.
"""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def"
import triton
import triton.language as tl

#: Items whose largest score is kept as one number.
BLOCK_ITEMS = 128


@triton.jit
def block_peaks(
    queries,  # float32 (n_queries, dim)
    items,  # float32, float16 or bfloat16 (n_items, dim)
    bias,  # float32 (n_items,)
    allowed,  # uint8 (n_items,)
    peaks,  # float32 (n_queries, n_blocks), written
    n_queries,
    n_items,
    dim,
    n_blocks,
    HAS_BIAS: tl.constexpr,
    HAS_ALLOWED: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write the largest screened score of each query in each block of items."""
    row = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    block = tl.program_id(1)
    item = block.to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    scores = tl.zeros((BLOCK_Q, BLOCK_I), dtype=tl.float32)
    for start in range(0, dim, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        left = tl.load(
            queries + row.to(tl.int64)[:, None] * dim + column[None, :],
            mask=(row < n_queries)[:, None] & (column < dim)[None, :],
            other=0.0,
        )
        right = tl.load(
            items + item[None, :] * dim + column[:, None],
            mask=(item < n_items)[None, :] & (column < dim)[:, None],
            other=0.0,
        ).to(tl.float32)
        scores += tl.dot(left, right, input_precision="ieee")
    valid = item < n_items
    if HAS_BIAS:
        scores += tl.load(bias + item, mask=valid, other=0.0)[None, :]
    if HAS_ALLOWED:
        valid = valid & (tl.load(allowed + item, mask=valid, other=0) != 0)
    scores = tl.where(valid[None, :], scores, float("-inf"))
    out = peaks + row.to(tl.int64) * n_blocks + block
    tl.store(out, tl.max(scores, axis=1), mask=row < n_queries)


@triton.jit
def pair_scores(
    queries,
    items,
    bias,
    allowed,
    rows,  # int64 (n_pairs,)
    blocks,  # int64 (n_pairs,)
    scores,  # float32 (n_pairs, BLOCK_I), written
    n_items,
    dim,
    HAS_BIAS: tl.constexpr,
    HAS_ALLOWED: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write the screened scores of chosen (query, block of items) pairs."""
    pair = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + pair)
    item = tl.load(blocks + pair) * BLOCK_I + tl.arange(0, BLOCK_I)
    valid = item < n_items
    total = tl.zeros((BLOCK_I,), dtype=tl.float32)
    for start in range(0, dim, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        inside = column < dim
        left = tl.load(queries + row * dim + column, mask=inside, other=0.0)
        right = tl.load(
            items + item[:, None] * dim + column[None, :],
            mask=valid[:, None] & inside[None, :],
            other=0.0,
        ).to(tl.float32)
        total += tl.sum(right * left[None, :], axis=1)
    if HAS_BIAS:
        total += tl.load(bias + item, mask=valid, other=0.0)
    if HAS_ALLOWED:
        valid = valid & (tl.load(allowed + item, mask=valid, other=0) != 0)
    tl.store(scores + pair * BLOCK_I + tl.arange(0, BLOCK_I), tl.where(valid, total, float("-inf")))

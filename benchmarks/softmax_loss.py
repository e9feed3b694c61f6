"""The softmax over the catalogue: forward and backward, whole and block by block.

    GOMP_SPINCOUNT=0 python benchmarks/softmax_loss.py [--rounds 10] [--threads 1]

One batch of positions against catalogues of several sizes, the loss and both gradients:
`F.cross_entropy` over the whole matrix of logits, and `palate.ops.losses.softmax_loss` with blocks
of several sizes, in turns, so that a busy machine slows all alike. Printed are the fewest
milliseconds and, beside each, their median share of the time of the blocks of 2 MiB.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from palate.ops import losses

SIZES = ((957, 64, 200), (3_416, 128, 1_600), (4_385, 128, 1_000), (12_101, 128, 1_100))
MEBIBYTES = (1, 2, 4, 8, 16, 32)


def whole(queries: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Return the loss by way of all logits at once."""
    return F.cross_entropy(queries @ items.T, targets)


def in_blocks(mebibytes: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return palate's loss with blocks of a size."""

    def loss(queries: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        losses._BLOCK_BYTES["cpu"] = mebibytes * 2**20
        return losses.softmax_loss(queries, items, targets)

    return loss


def main() -> None:
    """Print one line a catalogue."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ways = {"whole": whole, **{f"{size} MiB": in_blocks(size) for size in MEBIBYTES}}
    print(f"{'items':>7}{'dim':>5}{'rows':>6}" + "".join(f"{name:>14}" for name in ways))
    for n_items, dim, n_rows in (*SIZES, (18_000, 128, 1_000)):
        queries = torch.randn(n_rows, dim, requires_grad=True)
        items = torch.randn(n_items, dim, requires_grad=True)
        targets = torch.randint(0, n_items, (n_rows,))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds + 1):
            for name, loss in ways.items():
                started = time.perf_counter()
                loss(queries, items, targets).backward()
                seconds[name].append(time.perf_counter() - started)
        base = np.array(seconds["2 MiB"][1:])
        cells = [
            f"{1000 * min(found[1:]):8.1f} {np.median(np.array(found[1:]) / base):5.2f}"
            for found in seconds.values()
        ]
        print(f"{n_items:7,}{dim:5}{n_rows:6,}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()

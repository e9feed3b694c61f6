"""A network that goes on in another domain, of which it has met nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from palate.data.items import ItemTable
from palate.training.network import TasteNetwork

#: How much of the user encoder's weights stays; the rest is a fresh encoder's.
KEPT = 0.5


def move(
    network: TasteNetwork,
    table: ItemTable,
    seen: Tensor,
    options: Any,
) -> list[str]:
    """Ready a network for items of which it has learned nothing.

    What things are carries over, in the new catalogue's own terms. What tends to follow what does
    less: the user encoder is drawn halfway to a fresh one. The temperature and the weights of the
    averages belong to a catalogue, and start again.

    Parameters
    ----------
    network : TasteNetwork
        Changed in place.
    table : ItemTable
        Of all items: those that the network knows, then the new ones.
    seen : bool Tensor of shape (n_items,)
        Whether an item has an event.
    options : RunOptions

    Returns
    -------
    list of str
        Parameters whose past is void.

    Notes
    -----
    Ash and Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020, section 4: shrink and
    perturb.
    """
    void: list[str] = []
    if network.people is None:
        fresh = torch.ones_like(seen)
        fresh[: len(network.seen)] = seen[: len(network.seen)] & ~network.seen.cpu()
        void = network.items.settle(table, seen, fresh.nonzero().flatten(), options)
    else:  # attributes were read by the whitening that there was
        network.items.extend(table, seen, options)
    network.restart_scale()
    network.mean_weight = network.content_weight = 0.0
    draw_near(network.users, network.users.fresh(), KEPT)
    return [f"items.{name}" for name in void]


@torch.no_grad()
def draw_near(module: nn.Module, other: nn.Module, kept: float) -> None:
    """Move the parameters of a module towards those of another, of which the share `kept` stays.

    Examples
    --------
    >>> module, other = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(module.weight, 4.0), nn.init.constant_(other.weight, 2.0)
    >>> draw_near(module, other, 0.25)
    >>> module.weight.item()
    2.5
    """
    for mine, theirs in zip(module.parameters(), other.parameters(), strict=True):
        mine.lerp_(theirs.to(mine), 1 - kept)

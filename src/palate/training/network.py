"""Everything that has weights, in one module: items, users, the temperature."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from palate.encoders.user.pooled import PooledEncoder
from palate.ops.similarity import as_dot_product
from palate.protocols import ItemModule, UserEncoder

# Cosines lie in [-1, 1]: the softmax needs them stretched, and the stretch is learned.
_START_SCALE = {"cosine": 1 / 0.07, "dot": 1.0, "euclidean": 1.0}
_MAX_SCALE = 100.0


class TasteNetwork(nn.Module):
    """Item vectors, user vectors and the learned temperature between them.

    Parameters
    ----------
    items : ItemModule
    user_encoder : UserEncoder
        Spec of the network over histories.
    dim : int
        Width of item and user vectors.
    metric : {"cosine", "dot", "euclidean"}
        The similarity that ranks, in training as in serving.
    """

    def __init__(
        self, items: ItemModule, user_encoder: UserEncoder, dim: int, metric: str
    ) -> None:
        super().__init__()
        self.items = items
        self.users = PooledEncoder(user_encoder, dim)
        self.metric = metric
        self.mask_vector = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_START_SCALE[metric])))

    def logits_as_product(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors whose product is the similarity over the temperature."""
        queries, rows = as_dot_product(users, items, self.metric)
        return queries * self.log_scale.exp().clamp(max=_MAX_SCALE), rows

    @torch.inference_mode()
    def catalogue(self) -> Tensor:
        """Return the vectors of all items: (n_items, dim)."""
        self.eval()
        return self.items(None)  # type: ignore[no-any-return]

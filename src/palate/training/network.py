"""Everything that has weights, in one module: items, users, the temperature."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from palate.data.batches import pad_recent
from palate.encoders.user.pooled import PooledEncoder
from palate.ops.similarity import as_dot_product
from palate.protocols import ItemModule, UserEncoder

# Cosines lie in [-1, 1]: the softmax needs them stretched, and the stretch is learned.
_START_SCALE = {"cosine": 1 / 0.07, "dot": 1.0, "euclidean": 1.0}
_MAX_SCALE = 100.0
# Histories encoded at once, sorted by length: little padding and bounded activations.
_ENCODE_ROWS = 256


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
    seen : bool Tensor of shape (n_items,)
        Whether an item occurs in training events.
    """

    seen: Tensor

    def __init__(
        self, items: ItemModule, user_encoder: UserEncoder, dim: int, metric: str, seen: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("seen", seen)
        self.items = items
        self.users = PooledEncoder(user_encoder, dim)
        self.metric = metric
        self.mask_vector = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_START_SCALE[metric])))

    def logits_as_product(
        self, users: Tensor, items: Tensor, temperature: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the factors whose product is the similarity over the temperature.

        None stands for the learned temperature.
        """
        queries, rows = as_dot_product(users, items, self.metric)
        if temperature is not None:
            return queries / temperature, rows
        return queries * self.log_scale.exp().clamp(max=_MAX_SCALE), rows

    @torch.inference_mode()
    def catalogue(self) -> Tensor:
        """Return the vectors of all items: (n_items, dim)."""
        self.eval()
        return self.items(None)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def encode_histories(self, vectors: Tensor, indptr: np.ndarray, items: np.ndarray) -> Tensor:
        """Return the user vector of each history: (n_rows, dim).

        Parameters
        ----------
        vectors : float Tensor of shape (n_vectors, dim)
            The rows that `items` points to: the catalogue's, and maybe more.
        indptr : int64 ndarray of shape (n_rows + 1,)
        items : int64 ndarray of shape (n_events,)
            Histories one after another, none of them empty.
        """
        lengths = np.minimum(np.diff(indptr), self.users.max_length)
        order = np.argsort(lengths, kind="stable")
        out = vectors.new_empty(len(lengths), vectors.shape[1])
        for start in range(0, len(order), _ENCODE_ROWS):
            rows = order[start : start + _ENCODE_ROWS]
            spans = [items[indptr[row + 1] - lengths[row] : indptr[row + 1]] for row in rows]
            ends = np.concatenate([[0], np.cumsum(lengths[rows])])
            codes, mask = pad_recent(ends, np.concatenate(spans), self.users.max_length)
            codes, mask = codes.to(vectors.device), mask.to(vectors.device)
            out[torch.from_numpy(rows).to(out.device)] = self.users(vectors[codes], mask)
        return out

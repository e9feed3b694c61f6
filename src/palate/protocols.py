"""What the pluggable parts must be able to do, in two or three verbs each.

A part is a *spec*: a small scikit-learn estimator that stores parameters and whose ``build`` makes
a fresh torch module. The estimator clones the spec in ``fit``, so fitting twice starts twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from palate.data.items import ItemTable


@runtime_checkable
class UserEncoder(Protocol):
    """A spec of the network that reads a history.

    The module that ``build`` returns maps right-padded item vectors (n_rows, n_steps, dim) and a
    boolean mask (n_rows, n_steps), True at real events, to states of the same shape. It must be
    causal: the state of a step may depend on this step and earlier ones only, because the model is
    trained on every step at once. A module may also define ``bidirectional(x, mask)``, which the
    pretraining stage prefers, and ``last_state(x, mask)``: the state of each row's last real step
    alone (n_rows, dim), where that is cheaper, for answering with ``pooling="last"``. A module with
    an attribute ``bias_shape``, its layers and heads of attention, can be told when events happened
    (`time_bias` of the recommender): all of these then take, after the mask, a float tensor
    (n_layers, n_rows, n_heads, n_steps, n_steps) to be added to what step i gives step j, or
    nothing.

    Attributes
    ----------
    max_length : int
        The most recent events that are read.
    pooling : {"last", "mean", "attention"}
        How the states of a history become one vector.
    """

    max_length: int
    pooling: str

    def build(self, dim: int) -> nn.Module:
        """Return a fresh module for vectors of width `dim`."""
        ...


@runtime_checkable
class ItemEncoder(Protocol):
    """A spec of the network that turns items into vectors.

    A spec that needs no item table says so with ``reads_content = False``.
    """

    def build(
        self,
        items: ItemTable,
        dim: int,
        context: Any,
        state: Mapping[str, Tensor] | None = None,
    ) -> ItemModule:
        """Return a fresh module that knows every row of `items`.

        `context` is the `RunOptions`. `state` holds the saved tensors of such a module: given,
        nothing is computed from content, and the caller loads the tensors next.
        """
        ...


class ItemModule(nn.Module):
    """Base of item modules: a table of item vectors that can grow.

    Attributes
    ----------
    has_content : bool
        Whether items that were never trained on get a meaningful vector.
    takes_text : bool
        Whether :meth:`encode_texts` works.
    text_width : int
        Width of what :meth:`read_texts` returns.
    is_live : bool
        Whether vectors are too costly to compute for the whole catalogue at every training step,
        so that training must sample its candidates.
    """

    has_content: bool = False
    takes_text: bool = False
    text_width: int = 0
    is_live: bool = False

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        """Return the vectors (n, dim) of item codes (n,), of all items for None.

        With `content_only`, whatever belongs to ids is left out.
        """
        raise NotImplementedError

    def extend(self, items: ItemTable, seen: Tensor, context: Any) -> None:
        """Grow to all rows of `items`; the known rows keep their codes.

        `seen` (n_items,) tells which items occur in training events.
        """
        raise NotImplementedError

    def settle(self, items: ItemTable, seen: Tensor, codes: Tensor, context: Any) -> list[str]:
        """Grow as by :meth:`extend`, where the items of `codes` (n,) are another domain.

        All new ones are among them, and nothing was learned from any. Returns the names of
        parameters whose past, the optimiser's moments, is void.
        """
        self.extend(items, seen, context)
        return []

    def encode_texts(self, texts: Sequence[str], context: Any) -> Tensor:
        """Return vectors (n, dim) of free texts in the same space."""
        raise NotImplementedError

    def content(self, codes: Tensor | None = None) -> Tensor | None:
        """Return what is read of item codes (n,), before training made anything of it.

        Rows (n, any width) whose directions are near for alike items; None where nothing is read.
        """
        return None

    def hear_texts(self, texts: Sequence[str], context: Any) -> tuple[Tensor, Tensor | None]:
        """Return the vectors (n, dim) of free texts and their content, as of :meth:`content`."""
        return self.encode_texts(texts, context), None

    def read_texts(self, texts: Sequence[str], context: Any) -> Tensor:
        """Return what training does not change of free texts: (n, text_width), without gradient.

        Together with :meth:`place_texts` it is :meth:`encode_texts` in two steps, the first of them
        taken once. The attributes of users need it; nothing else does.
        """
        raise NotImplementedError

    def place_texts(self, read: Tensor) -> Tensor:
        """Return the vectors (n, dim) of texts that :meth:`read_texts` has read."""
        raise NotImplementedError

    def refresh(self, context: Any) -> None:
        """Bring what is stored for the catalogue up to date after a training epoch."""


@runtime_checkable
class Ranker(Protocol):
    """A spec, and after ``fit`` the holder, of a catalogue of item vectors."""

    def fit(self, vectors: Tensor) -> Any:
        """Take the catalogue (n_items, dim)."""
        ...

    def extend(self, vectors: Tensor) -> Any:
        """Append rows to the catalogue."""
        ...

    def topk(self, queries: Tensor, k: int, *, exclude: Any = None, include: Any = None) -> Any:
        """Return the scores (n, k) and codes (n, k) of the best items of each query."""
        ...


@runtime_checkable
class Objective(Protocol):
    """A spec of what the ranking stage minimises: the softmax over the candidates it chooses.

    It may also have ``temperature``, a number in place of the learned temperature, and
    ``loss(queries, items, places, weights, bias, n_items)``, the scalar to minimise instead:
    `queries` (n, dim) over the temperature, `items` (n_candidates, dim), `places` (n,) of the
    targets among them, `weights` (n,) or None, `bias` as returned by :meth:`candidates`, and the
    number of items that candidates are drawn from.
    """

    def candidates(
        self, targets: Tensor, pool: Tensor, counts: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Return the item codes to score against, sorted, and a bias for each, or None."""
        ...

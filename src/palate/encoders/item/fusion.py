"""Several item encoders as one: their vectors add up, and ids may be missing or gated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from palate._validation import check_choice, check_real, check_verbs
from palate.data.items import ItemTable
from palate.exceptions import InvalidParameterError, MissingContentError
from palate.ops.similarity import unit_norm
from palate.protocols import ItemEncoder, ItemModule

MODES = ("sum", "gate")


class Fusion(BaseEstimator):
    """The sum of the vectors of several item encoders.

    In training, what comes from encoders without content (ids) is dropped at random, a fresh draw
    for each item and step, so that the content part alone learns to stand for an item.

    Parameters
    ----------
    encoders : sequence of item encoder specs
        At least one; such as ``[BertEncoder(), IdEncoder()]``.
    id_dropout : float, default=0.1
        Share of items whose id part is dropped in a training step, in [0, 1). It is not applied
        where no encoder has content.
    mode : {"sum", "gate"}, default="sum"
        ``"gate"`` multiplies what comes from ids by ``2 * sigmoid(W [content; ids] + b)``, entry
        by entry, before it is added: how far an item's id counts is learned from both vectors. It
        starts at 1, the plain sum, and does nothing where only one kind of encoder is there.

    Examples
    --------
    >>> from palate.encoders.item.ids import IdEncoder
    >>> spec = Fusion([IdEncoder(), IdEncoder()])
    >>> spec.build(ItemTable.without_content(3), dim=2, context=None)(torch.tensor([1])).shape
    torch.Size([1, 2])
    """

    def __init__(
        self, encoders: Sequence[ItemEncoder], id_dropout: float = 0.1, mode: str = "sum"
    ) -> None:
        self.encoders = encoders
        self.id_dropout = id_dropout
        self.mode = mode

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, with those of encoder i under ``encoders__i__name``."""
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            # What is no sequence is refused by `build`, not here.
            for place, spec in enumerate(self.encoders if _is_list(self.encoders) else ()):
                params[f"encoders__{place}"] = spec
                nested = spec.get_params() if hasattr(spec, "get_params") else {}
                params |= {f"encoders__{place}__{name}": v for name, v in nested.items()}
        return params

    def set_params(self, **params: Any) -> Fusion:
        """Set parameters; ``encoders__i`` replaces encoder i, ``encoders__i__name`` sets one."""
        own = {k: v for k, v in params.items() if not k.startswith("encoders__")}
        super().set_params(**own)
        # An encoder before what belongs to it, in whatever order they are given.
        for name, value in sorted(params.items(), key=lambda given: given[0].count("__")):
            if name in own:
                continue
            _, place, *rest = name.split("__", 2)
            if not place.isdigit() or int(place) >= len(self.encoders):
                raise InvalidParameterError(
                    f"encoders__i needs an i below {len(self.encoders)}; got {name!r}."
                )
            if rest:
                self.encoders[int(place)].set_params(**{rest[0]: value})  # type: ignore[attr-defined]
            else:
                replaced = list(self.encoders)
                replaced[int(place)] = value
                self.encoders = replaced
        return self

    def build(
        self,
        items: ItemTable,
        dim: int,
        context: Any,
        state: Mapping[str, Tensor] | None = None,
    ) -> ItemModule:
        """Return a fresh module that joins those of the encoders.

        Raises
        ------
        InvalidParameterError
            If there is no encoder, `id_dropout` is out of range or `mode` is no mode.
        """
        check_real("id_dropout", self.id_dropout, low=0, high=1, high_open=True)
        check_choice("mode", self.mode, MODES)
        if not _is_list(self.encoders):
            raise InvalidParameterError(
                f"encoders must be a list of item encoders; got {self.encoders!r}."
            )
        if not len(self.encoders):
            raise InvalidParameterError("encoders must hold at least one item encoder; got none.")
        for place, spec in enumerate(self.encoders):
            check_verbs(f"encoders[{place}]", spec, ("build",), "an item encoder")
        parts = [
            spec.build(items, dim, context, _part_state(state, place))
            for place, spec in enumerate(self.encoders)
        ]
        return FusedItems(parts, self.id_dropout, dim if self.mode == "gate" else None)


class FusedItems(ItemModule):
    """Modules whose vectors are added; with the width `gated`, those of ids behind a gate."""

    def __init__(
        self, parts: Sequence[ItemModule], id_dropout: float, gated: int | None = None
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.id_dropout = id_dropout
        self.has_content = any(part.has_content for part in parts)
        self.takes_text = any(part.takes_text for part in parts)
        self.is_live = any(part.is_live for part in parts)
        self.gate: nn.Linear | None = None
        if gated is not None and self.has_content and not all(p.has_content for p in parts):
            self.gate = nn.Linear(2 * gated, gated)
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        """Return the summed vectors of `codes` (of all items for None)."""
        total: Tensor | None = None
        ids: Tensor | None = None
        for part in self.parts:
            is_id = self.has_content and not part.has_content
            if content_only and is_id:
                continue
            vectors = part(codes, content_only=content_only)
            if is_id and self.training and self.id_dropout:
                kept = torch.rand(len(vectors), 1, device=vectors.device) >= self.id_dropout
                vectors = vectors * kept
            if is_id and self.gate is not None:
                ids = vectors if ids is None else ids + vectors
                continue
            total = vectors if total is None else total + vectors
        assert total is not None
        if self.gate is not None and ids is not None:
            total = total + 2 * torch.sigmoid(self.gate(torch.cat([total, ids], 1))) * ids
        return total

    def extend(self, items: ItemTable, seen: Tensor, context: Any) -> None:
        """Grow every part to all rows of `items`."""
        for part in self.parts:
            part.extend(items, seen, context)  # type: ignore[operator]

    def settle(self, items: ItemTable, seen: Tensor, codes: Tensor, context: Any) -> list[str]:
        """Grow every part, and tell it that the items of `codes` are another domain."""
        void = []
        for place, part in enumerate(self.parts):
            names = part.settle(items, seen, codes, context)  # type: ignore[operator]
            void += [f"parts.{place}.{name}" for name in names]
        return void

    def encode_texts(self, texts: Sequence[str], context: Any) -> Tensor:
        """Return the sum of what the parts that take text make of `texts`."""
        return self.hear_texts(texts, context)[0]

    def content(self, codes: Tensor | None = None) -> Tensor | None:
        """Return what the parts that take text read, side by side."""
        reading = [part for part in self.parts if part.takes_text]
        return _side_by_side([part.content(codes) for part in reading])  # type: ignore[operator]

    def hear_texts(self, texts: Sequence[str], context: Any) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the parts' vectors of `texts`, and their content side by side."""
        heard = [part.hear_texts(texts, context) for part in self._readers()]
        vectors, content = zip(*heard, strict=True)
        return torch.stack(vectors).sum(0), _side_by_side(content)

    @property
    def text_width(self) -> int:  # type: ignore[override]
        """Width of what all the parts that take text read."""
        return sum(part.text_width for part in self._readers())

    def read_texts(self, texts: Sequence[str], context: Any) -> Tensor:
        """Return what the parts that take text read in `texts`, side by side."""
        return torch.cat([part.read_texts(texts, context) for part in self._readers()], 1)

    def place_texts(self, read: Tensor) -> Tensor:
        """Return the sum of what the parts that take text make of what they have read."""
        parts = self._readers()
        shares = read.split([part.text_width for part in parts], 1)
        vectors = [part.place_texts(share) for part, share in zip(parts, shares, strict=True)]
        return torch.stack(vectors).sum(0)

    def _readers(self) -> list[ItemModule]:
        """Return the parts that take text, or say that there is none."""
        readers = [part for part in self.parts if part.takes_text]
        if not readers:
            raise MissingContentError(
                "texts need an item encoder with content, such as item_encoder='bert+id'; "
                "got encoders of ids alone."
            )
        return readers  # type: ignore[return-value]

    def refresh(self, context: Any) -> None:
        """Refresh every part."""
        for part in self.parts:
            part.refresh(context)  # type: ignore[operator]


def _side_by_side(contents: Sequence[Tensor | None]) -> Tensor | None:
    """Join unit rows, so that each part counts the same."""
    rows = [unit_norm(content) for content in contents if content is not None]
    return torch.cat(rows, 1) if rows else None


def _is_list(encoders: Any) -> bool:
    return isinstance(encoders, Sequence) and not isinstance(encoders, (str, bytes))


def _part_state(state: Mapping[str, Tensor] | None, place: int) -> dict[str, Tensor] | None:
    if state is None:
        return None
    prefix = f"parts.{place}."
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}

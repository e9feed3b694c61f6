"""Items as the pooled, whitened and projected vectors of a BERT that read their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate._options import RunOptions
from palate.data.items import ItemTable
from palate.encoders.item.content_cache import ContentCache
from palate.encoders.item.finetuning import set_trainable
from palate.encoders.item.model_source import ModelSource, resolve_model
from palate.encoders.item.reading import (
    default_power,
    forget_frozen,
    learn_whitening,
    open_cache,
    read_frozen,
    read_live,
)
from palate.encoders.item.text_model import TextModel, load_text_model
from palate.exceptions import IntegrityError
from palate.ops.affine import fit_affine
from palate.ops.whitening import rewhiten, whiten
from palate.protocols import ItemModule

# The spread of a content vector's entries at the start: near that of an id vector, so that neither
# drowns the other.
_INITIAL_STD = 0.05
# So many texts tell how the texts of a domain differ.
_LEAST_OF_DOMAIN = 100


class BertItems(ItemModule):
    """Whitened content of the catalogue, and the projection that training learns.

    Parameters
    ----------
    spec : BertEncoder
    items : ItemTable
    dim : int
        Width of the item vectors.
    context : RunOptions
    state : mapping of str to Tensor or None
        Saved tensors of a module: given, no text is read.
    """

    has_content = True
    takes_text = True
    features: Tensor
    mean: Tensor
    matrix: Tensor
    fingerprint: Tensor | None

    def __init__(
        self,
        spec: Any,
        items: ItemTable,
        dim: int,
        context: RunOptions,
        state: Mapping[str, Tensor] | None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.is_live = spec.finetune != "frozen"
        self._source: ModelSource | None = None
        self._live: TextModel | None = None
        self.texts: list[str] = items.texts(spec.text_columns) if self.is_live else []
        if state is None:
            raw = self._read(items.texts(spec.text_columns), context, open_cache(context))
            forget_frozen()
            mean, matrix = learn_whitening(spec, raw.numpy())
            features = whiten(raw, mean, matrix)
        else:
            # Copies: where a file's bytes lie in memory decides the last bits of products.
            features, mean, matrix = (state[n].clone() for n in ("features", "mean", "matrix"))
        if not self.is_live:
            self._note_source(state)
        self.register_buffer("features", features)
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)
        self.projection = nn.Linear(matrix.shape[1], dim)
        nn.init.normal_(self.projection.weight, std=_INITIAL_STD)
        nn.init.zeros_(self.projection.bias)
        if self.is_live:
            self._live = load_text_model(self.source)
            self.bert = self._live.model
            set_trainable(self.bert, spec.finetune, rank=spec.lora_rank)

    def _note_source(self, state: Mapping[str, Tensor] | None) -> None:
        """Keep which weights read the catalogue; they are not saved, and may be others one day."""
        noted = None if state is None else state.get("fingerprint")  # None of models saved before
        if state is None:
            noted = torch.tensor([*bytes.fromhex(self.source.fingerprint)], dtype=torch.uint8)
        self.register_buffer("fingerprint", noted, persistent=noted is not None)

    def _check_source(self) -> None:
        """Raise if a frozen BERT is not the one that read the catalogue, if any has."""
        noted = getattr(self, "fingerprint", None)
        if noted is None:
            return
        before, now = bytes(noted.tolist()).hex(), self.source.fingerprint
        if before != now:
            raise IntegrityError(
                f"The files of the text model {self.spec.model!r} must have the SHA-256 {before}, "
                f"as when it read the catalogue; those in {self.source.folder} have {now}."
            )

    @property
    def source(self) -> ModelSource:
        """The pretrained model's place, looked up when first needed."""
        if self._source is None:
            self._source = resolve_model(self.spec.model)
        return self._source

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        """Return the vectors of `codes` (of all items for None)."""
        if self.is_live and self.training:
            # All of them, where a small catalogue is asked for whole: what is stored cannot learn.
            rows = range(len(self.texts)) if codes is None else codes.tolist()
            features = self._live_features(rows)
        else:
            features = self.features if codes is None else self.features[codes]
        return self.projection(features)  # type: ignore[no-any-return]

    def _live_features(self, rows: Sequence[int]) -> Tensor:
        assert self._live is not None
        texts = [self.texts[row] for row in rows]
        tokens = self._live.tokenize(texts, self.spec.max_tokens)
        tokens = {name: value.to(self.mean.device) for name, value in tokens.items()}
        return whiten(self._live.pool(tokens, self.spec.pooling), self.mean, self.matrix)

    def _read(
        self, texts: Sequence[str], context: RunOptions, cache: ContentCache | None
    ) -> Tensor:
        if self._live is not None:
            return torch.from_numpy(read_live(self.spec, self._live, texts, context))
        self._check_source()
        return torch.from_numpy(read_frozen(self.spec, self.source, texts, context, cache))

    def _features(
        self, texts: Sequence[str], context: RunOptions, cache: ContentCache | None
    ) -> Tensor:
        raw = self._read(texts, context, cache).to(self.mean.device)
        return whiten(raw, self.mean, self.matrix)

    def extend(self, items: ItemTable, seen: Tensor, context: RunOptions) -> None:
        """Read the rows of `items` beyond those already known."""
        if new := items.texts(self.spec.text_columns, start=len(self.features)):
            self.features = torch.cat(
                [self.features, self._features(new, context, open_cache(context))]
            )
            if self.is_live:
                self.texts = [*self.texts, *new]

    def settle(
        self, items: ItemTable, seen: Tensor, codes: Tensor, context: RunOptions
    ) -> list[str]:
        """Whiten by the texts of `codes`, another domain, as far as until now.

        The projection is carried over: at first it says of them what it would have said. A BERT
        that training changes reads everything anew, by one whitening; a few texts have none.
        """
        few = len(codes) < _LEAST_OF_DOMAIN or self.text_width < self.spec.whitening_groups
        if self.is_live or few:
            return super().settle(items, seen, codes, context)
        texts = items.texts(self.spec.text_columns)
        raw = self._read([texts[code] for code in codes.tolist()], context, open_cache(context))
        old = self.mean, self.matrix
        power = default_power(len(self.features))
        new = [
            x.to(old[0]) for x in learn_whitening(self.spec, raw.numpy(), power, self.text_width)
        ]
        # As wide as before, whatever goes by the width: directions that there are not are zeros.
        new[1] = F.pad(new[1], (0, self.text_width - new[1].shape[1]))
        raw = raw.to(old[0])
        rows = whiten(raw, *new)
        with torch.no_grad():
            carried = fit_affine(rows, self.projection(whiten(raw, *old)))
            self.projection.weight.copy_(carried[0])
            self.projection.bias.copy_(carried[1])
        known = rewhiten(self.features, old, (new[0], new[1]))
        self.features = rows.new_zeros(len(texts), self.text_width)
        self.features[: len(known)] = known
        self.features[codes] = rows
        self.mean, self.matrix = new
        return ["projection.weight", "projection.bias"]

    def encode_texts(self, texts: Sequence[str], context: RunOptions) -> Tensor:
        """Return the vectors of free texts, of which nothing is kept on disk."""
        return self.hear_texts(texts, context)[0]

    def content(self, codes: Tensor | None = None) -> Tensor:
        """Return the whitened vectors of item codes, of all items for None."""
        return self.features if codes is None else self.features[codes]

    def hear_texts(self, texts: Sequence[str], context: RunOptions) -> tuple[Tensor, Tensor]:
        """Return the vectors of free texts, and their whitened content; none is kept on disk."""
        features = self._features(texts, context, None)
        return self.place_texts(features), features

    @property
    def text_width(self) -> int:  # type: ignore[override]
        """Directions that the whitening keeps."""
        return self.matrix.shape[1]

    def read_texts(self, texts: Sequence[str], context: RunOptions) -> Tensor:
        """Return the whitened content (n, text_width) of texts, by way of the cache on disk."""
        return self._features(texts, context, open_cache(context))

    def place_texts(self, read: Tensor) -> Tensor:
        """Return the vectors (n, dim) of texts, by the projection of the items."""
        return self.projection(read)  # type: ignore[no-any-return]

    def refresh(self, context: RunOptions) -> None:
        """Read the whole catalogue again where BERT itself is trained."""
        if self.is_live:
            self.features = self._features(self.texts, context, None)

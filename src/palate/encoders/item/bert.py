"""Items as the pooled, whitened and projected vectors of a BERT that read their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from palate._options import RunOptions
from palate._validation import check_choice, check_int
from palate.data.items import ItemTable
from palate.encoders.item.content_cache import ContentCache, cached_encode
from palate.encoders.item.finetuning import set_trainable
from palate.encoders.item.model_source import ModelSource, resolve_model
from palate.encoders.item.text_model import POOLINGS, TextModel, load_text_model
from palate.ops.whitening import fit_whitening, whiten
from palate.protocols import ItemModule

FINETUNE = ("frozen", "last", "full")


class BertEncoder(BaseEstimator):
    """A pretrained BERT over each item's text.

    The vector of an item is ``projection(whiten(pool(bert(text))))``. A frozen BERT runs once for
    each unique text, ever: its vectors are kept on disk, and training only learns the projection.

    Parameters
    ----------
    model : str, default="minilm"
        ``"minilm"`` (all-MiniLM-L6-v2), any Hugging Face name, or a local folder.
    pooling : {"mean", "cls"}, default="mean"
        How token vectors become one.
    max_tokens : int, default=256
        Longer texts are cut.
    n_components : int, default=256
        Principal directions kept by the whitening.
    finetune : {"frozen", "last", "full"}, default="frozen"
        What is trained besides the projection: nothing, BERT's last layer, or all of it.
    text_columns : list of str, default=None
        Columns of the item table that make the text; by default ``text`` where there is one,
        else every text column.

    Notes
    -----
    Whitening of BERT vectors: Su et al., "Whitening Sentence Representations for Better Semantics
    and Faster Retrieval", 2021.

    Examples
    --------
    >>> BertEncoder(pooling="cls").get_params()["max_tokens"]
    256
    """

    def __init__(
        self,
        model: str = "minilm",
        *,
        pooling: str = "mean",
        max_tokens: int = 256,
        n_components: int = 256,
        finetune: str = "frozen",
        text_columns: list[str] | None = None,
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.n_components = n_components
        self.finetune = finetune
        self.text_columns = text_columns

    def build(
        self,
        items: ItemTable,
        dim: int,
        context: RunOptions,
        state: Mapping[str, Tensor] | None = None,
    ) -> ItemModule:
        """Return a fresh module that has read every row of `items`.

        Parameters
        ----------
        items : ItemTable
        dim : int
            Width of the item vectors.
        context : RunOptions
        state : mapping of str to Tensor, default=None
            Saved tensors of a module: given, no text is read.

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range.
        MissingContentError
            If `items` has no text column.
        """
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("finetune", self.finetune, FINETUNE)
        check_int("max_tokens", self.max_tokens, minimum=3)
        check_int("n_components", self.n_components, minimum=1)
        return BertItems(self, items, dim, context, state)


class BertItems(ItemModule):
    """Whitened content of the catalogue, and the projection that training learns."""

    has_content = True
    takes_text = True
    features: Tensor
    mean: Tensor
    matrix: Tensor

    def __init__(
        self,
        spec: BertEncoder,
        items: ItemTable,
        dim: int,
        context: RunOptions,
        state: Mapping[str, Tensor] | None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.is_live = spec.finetune != "frozen"
        self._source: ModelSource | None = None
        self._reader: TextModel | None = None
        self.texts: list[str] = items.texts(spec.text_columns) if self.is_live else []
        if state is None:
            raw = self._read(items.texts(spec.text_columns), context)
            mean, matrix = fit_whitening(raw, spec.n_components)
            features = whiten(raw, mean, matrix)
        else:
            features, mean, matrix = state["features"], state["mean"], state["matrix"]
        self.register_buffer("features", features)
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)
        self.projection = nn.Linear(matrix.shape[1], dim)
        if self.is_live:
            self._reader = load_text_model(self.source)
            self.bert = self._reader.model
            set_trainable(self.bert, spec.finetune)

    @property
    def source(self) -> ModelSource:
        """The pretrained model's place, looked up when first needed."""
        if self._source is None:
            self._source = resolve_model(self.spec.model)
        return self._source

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        """Return the vectors of `codes` (of all items for None)."""
        if self.is_live and self.training and codes is not None:
            features = self._live_features(codes)
        else:
            features = self.features if codes is None else self.features[codes]
        return self.projection(features)  # type: ignore[no-any-return]

    def _live_features(self, codes: Tensor) -> Tensor:
        assert self._reader is not None
        texts = [self.texts[code] for code in codes.tolist()]
        tokens = self._reader.tokenize(texts, self.spec.max_tokens)
        pooled = self._reader.pool(
            {name: value.to(codes.device) for name, value in tokens.items()}, self.spec.pooling
        )
        return whiten(pooled, self.mean, self.matrix)

    def _read(self, texts: Sequence[str], context: RunOptions) -> Tensor:
        how = {"pooling": self.spec.pooling, "max_tokens": self.spec.max_tokens}
        shown = {"device": context.torch_device, "progress": context.hide_progress is False}
        if self._reader is not None:
            vectors = self._reader.encode(texts, **how, **shown)  # type: ignore[arg-type]
        else:
            cache = open_cache(context)
            vectors = cached_encode(texts, self.source, cache=cache, **how, **shown)  # type: ignore[arg-type]
        return torch.from_numpy(vectors)

    def _features(self, texts: Sequence[str], context: RunOptions) -> Tensor:
        raw = self._read(texts, context).to(self.mean.device)
        return whiten(raw, self.mean, self.matrix)

    def extend(self, items: ItemTable, seen: Tensor, context: RunOptions) -> None:
        """Read the rows of `items` beyond those already known."""
        texts = items.texts(self.spec.text_columns)
        if new := texts[len(self.features) :]:
            self.features = torch.cat([self.features, self._features(new, context)])
        if self.is_live:
            self.texts = texts

    def encode_texts(self, texts: Sequence[str], context: RunOptions) -> Tensor:
        """Return the vectors of free texts."""
        return self.projection(self._features(texts, context))  # type: ignore[no-any-return]

    def refresh(self, context: RunOptions) -> None:
        """Read the whole catalogue again where BERT itself is trained."""
        if self.is_live:
            self.features = self._features(self.texts, context)


def open_cache(context: RunOptions) -> ContentCache | None:
    """Return the content cache that the options ask for."""
    if context.cache is False:
        return None
    return ContentCache(None if context.cache is True else context.cache)

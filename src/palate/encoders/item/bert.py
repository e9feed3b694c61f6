"""Items as the pooled, whitened and projected vectors of a BERT that read their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from palate._options import RunOptions
from palate._validation import check_choice, check_int
from palate.data.items import ItemTable
from palate.defaults import AUTO, check_real_or_auto
from palate.encoders.item.content_cache import ContentCache
from palate.encoders.item.finetuning import FINETUNE_MODES, set_trainable
from palate.encoders.item.model_source import ModelSource, resolve_model
from palate.encoders.item.reading import (
    forget_frozen,
    learn_whitening,
    open_cache,
    read_frozen,
    read_live,
)
from palate.encoders.item.text_model import POOLINGS, TextModel, load_text_model
from palate.encoders.item.text_transformer import TextTransformerMixin
from palate.exceptions import InvalidParameterError
from palate.ops.whitening import recentred, whiten
from palate.protocols import ItemModule

# The spread of a content vector's entries at the start: near that of an id vector, so that neither
# drowns the other.
_INITIAL_STD = 0.05
# So many texts tell what the texts of a domain have in common.
_LEAST_OF_DOMAIN = 100


class BertEncoder(TextTransformerMixin, BaseEstimator):
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
    n_components : int, default=None
        Principal directions kept. By default 256, and where they are whitened at most an eighth of
        the items, at least 16: whitening blows up the directions that few items tell apart from
        noise.
    whitening : float or "auto", default="auto"
        In [0, 1]: 1 gives all directions kept the same variance; less leaves those of large
        variance longer, 0 leaves all as they are. The mean squared length is 1 in any case.
        ``"auto"`` is 1 from 2,000 items on, and 0 below.
    whitening_groups : int, default=1
        The columns of BERT's vectors are cut into so many groups of equal width, each whitened by
        itself, relaxed by `whitening` like a whole one: what the groups have in common stays, so
        more groups whiten less. Each keeps an equal share of `n_components` (at least one), and
        one number scales them all. Must divide the width of the vectors.
    finetune : {"frozen", "last", "lora", "full"}, default="frozen"
        What is trained besides the projection: nothing, BERT's last layer, low-rank updates of the
        queries and values of all its layers, which start at nothing, or all of it.
    lora_rank : int, default=8
        Rank of the updates of ``finetune="lora"``; their formula is that of
        :class:`palate.encoders.item.low_rank.LowRankLinear`.
    text_columns : list of str, default=None
        Columns of the item table that make the text; by default ``text`` where there is one,
        else every text column.
    options : RunOptions, default=None
        Device, content cache and progress bar of an encoder that is used alone. A
        :class:`palate.Recommender` goes by its own.

    Attributes
    ----------
    mean_ : float32 ndarray of shape (hidden,)
        What whitening subtracts. This and the next exist after `fit` alone, not in a Recommender,
        which leaves its parts as they are.
    whitening_ : float32 ndarray of shape (hidden, n_components)
        What it multiplies by; at most as many columns as the vectors of the texts have directions.
    text_columns_ : list of str or None
        Columns read, where X was a table.
    n_features_in_, feature_names_in_
        Number and names of its columns, where X was a table.

    Notes
    -----
    Alone it is a transformer of texts, ``whiten(pool(bert(text)))``: in a pipeline, or for the
    text column of a ``ColumnTransformer``. ``palate.BertItemEncoder`` is another name of it.

    Whitening of BERT vectors: Su et al., "Whitening Sentence Representations for Better Semantics
    and Faster Retrieval", 2021; by groups: Zhang et al., "Are ID Embeddings Necessary? Whitening
    Pre-trained Text Embeddings for Effective Sequential Recommendation", ICDE 2024.

    Examples
    --------
    >>> BertEncoder(pooling="cls").get_params()["max_tokens"]
    256
    >>> import tempfile
    >>> from palate.testing.tiny_bert import make_tiny_bert
    >>> encoder = BertEncoder(
    ...     str(make_tiny_bert(tempfile.mkdtemp())), n_components=2,
    ...     options=RunOptions(device="cpu", cache=False),
    ... )
    >>> encoder.fit_transform(["a red lamp", "a blue lamp", "a chair"]).shape
    (3, 2)
    """

    def __init__(
        self,
        model: str = "minilm",
        *,
        pooling: str = "mean",
        max_tokens: int = 256,
        n_components: int | None = None,
        whitening: float | str = AUTO,
        whitening_groups: int = 1,
        finetune: str = "frozen",
        lora_rank: int = 8,
        text_columns: list[str] | None = None,
        options: RunOptions | None = None,
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.n_components = n_components
        self.whitening = whitening
        self.whitening_groups = whitening_groups
        self.finetune = finetune
        self.lora_rank = lora_rank
        self.text_columns = text_columns
        self.options = options

    def check_parameters(self) -> None:
        """Raise if a parameter is out of range."""
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("finetune", self.finetune, FINETUNE_MODES)
        check_int("lora_rank", self.lora_rank, minimum=1)
        check_int("max_tokens", self.max_tokens, minimum=3)
        check_real_or_auto("whitening", self.whitening, high=1)
        groups = check_int("whitening_groups", self.whitening_groups, minimum=1)
        if self.n_components is None:
            return
        if check_int("n_components", self.n_components, minimum=1) < groups:
            raise InvalidParameterError(
                f"n_components must be at least whitening_groups={groups}, so that each group "
                f"keeps a direction; got {self.n_components}."
            )

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
            If a parameter is out of range, or does not suit the model's vectors.
        MissingContentError
            If `items` has no text column.
        """
        self.check_parameters()
        return BertItems(self, items, dim, context, state)


#: The name that says what it encodes; the same class.
BertItemEncoder = BertEncoder


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
        return torch.from_numpy(read_frozen(self.spec, self.source, texts, context, cache))

    def _features(
        self, texts: Sequence[str], context: RunOptions, cache: ContentCache | None
    ) -> Tensor:
        raw = self._read(texts, context, cache).to(self.mean.device)
        return whiten(raw, self.mean, self.matrix)

    def extend(self, items: ItemTable, seen: Tensor, context: RunOptions) -> None:
        """Read the rows of `items` beyond those already known."""
        texts = items.texts(self.spec.text_columns)
        if new := texts[len(self.features) :]:
            self.features = torch.cat(
                [self.features, self._features(new, context, open_cache(context))]
            )
        if self.is_live:
            self.texts = texts

    def settle(self, codes: Tensor) -> None:
        """Take the mean of the texts of `codes`, another domain, as that of all texts to come.

        What all texts of a domain say says nothing: see :func:`palate.ops.whitening.recentred`.
        A BERT that training changes reads everything anew, by one mean; a few texts have none.
        """
        if self.is_live or len(codes) < _LEAST_OF_DOMAIN:
            return
        rows, self.mean, self.matrix = recentred(self.features[codes], self.mean, self.matrix)
        self.features = self.features.index_copy(0, codes, rows)

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

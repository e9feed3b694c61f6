"""The spec of a BERT that reads items' texts, and a transformer of texts by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sklearn.base import BaseEstimator
from torch import Tensor

from palate._options import RunOptions
from palate._validation import check_choice, check_int
from palate.data.items import ItemTable
from palate.data.lists import is_list
from palate.defaults import AUTO, check_real_or_auto
from palate.encoders.item.bert_items import BertItems
from palate.encoders.item.finetuning import FINETUNE_MODES
from palate.encoders.item.text_model import POOLINGS
from palate.encoders.item.text_transformer import TextTransformerMixin
from palate.exceptions import InvalidParameterError
from palate.protocols import ItemModule


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
        if not isinstance(self.model, (str, os.PathLike)):
            raise InvalidParameterError(f"model must be a name or a path; got {self.model!r}.")
        columns = self.text_columns
        names = columns is None or (is_list(columns) and all(isinstance(c, str) for c in columns))
        if not names:
            raise InvalidParameterError(
                f"text_columns must be a list of names of columns, or None; got {columns!r}."
            )
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

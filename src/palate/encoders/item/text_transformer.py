"""A text encoder alone, as scikit-learn's transformers are used: texts in, vectors out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import TransformerTags
from sklearn.utils.validation import check_is_fitted

from palate._options import RunOptions
from palate.data.frames import is_frame, open_frame
from palate.encoders.item.model_source import resolve_model
from palate.encoders.item.reading import learn_whitening, open_cache, read_frozen, texts_of
from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.ops.whitening import whiten


class TextTransformerMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """``fit``, ``transform`` and ``fit_transform`` of a spec that reads texts."""

    n_components: int | None
    whitening: float | str
    whitening_groups: int
    text_columns: list[str] | None
    finetune: str
    model: str
    options: RunOptions | None
    mean_: np.ndarray
    whitening_: np.ndarray

    def check_parameters(self) -> None:
        """Raise if a parameter is out of range."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any = None) -> Any:
        """Learn the whitening from texts; BERT itself stays as it is.

        Parameters
        ----------
        X : sequence of str, 2-D array of str, or pandas, polars or pyarrow table
            One text a row; of a table, the columns that `text_columns` names. A missing value is
            the empty text.
        y : None
            Ignored.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        InvalidInputError, InvalidParameterError, MissingContentError
            The encoder is then as it was.
        """
        self._learn(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, and return the vectors of the same texts, each read once: see `fit`."""
        return self._whitened(self._learn(X))

    def transform(self, X: Any) -> np.ndarray:
        """Return the whitened vectors of texts.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        float32 ndarray of shape (n_rows, n_components)
            Of mean 0 and mean squared length 1 over the texts of `fit`.
        """
        check_is_fitted(self)
        texts, _ = texts_of(X, self.text_columns_)
        return self._whitened(self._raw(texts))

    def _learn(self, X: Any) -> np.ndarray:
        self.check_parameters()
        if self.finetune != "frozen":
            raise InvalidParameterError(
                "finetune must be 'frozen' for an encoder that is used alone, for only a "
                f"Recommender trains BERT; got {self.finetune!r}."
            )
        texts, columns = texts_of(X, self.text_columns)
        if not texts:
            raise InvalidInputError("X must hold at least one text; got none.")
        raw = self._raw(texts)
        mean, matrix = learn_whitening(self, raw)
        self.mean_, self.whitening_ = mean.numpy(), matrix.numpy()
        self.text_columns_ = columns
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        if is_frame(X):
            names = open_frame(X).columns
            self.n_features_in_ = len(names)
            self.feature_names_in_ = np.array(names, dtype=object)
        return raw

    def _raw(self, texts: list[str]) -> np.ndarray:
        context = RunOptions() if self.options is None else self.options
        return read_frozen(self, resolve_model(self.model), texts, context, open_cache(context))

    def _whitened(self, raw: np.ndarray) -> np.ndarray:
        mean, matrix = torch.from_numpy(self.mean_), torch.from_numpy(self.whitening_)
        return np.asarray(whiten(torch.from_numpy(raw), mean, matrix).numpy())

    @property
    def _n_features_out(self) -> int:
        return int(self.whitening_.shape[1])

    def __sklearn_tags__(self) -> Any:
        tags: Any = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags = TransformerTags(preserves_dtype=[])
        return tags

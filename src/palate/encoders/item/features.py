"""Items as their other columns: categories, several labels, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from palate.data.items import ItemTable
from palate.encoders.item.feature_columns import LabelColumn, NumberColumn, is_number_column
from palate.encoders.item.fusion import Fusion
from palate.exceptions import InvalidInputError, InvalidParameterError, MissingContentError
from palate.protocols import ItemEncoder, ItemModule


class FeatureEncoder(BaseEstimator):
    """The sum of learned vectors of an item's categories, labels and numbers.

    ``Recommender(item_features=[...])`` adds one to whatever encodes the items.

    Parameters
    ----------
    columns : list of str
        Columns of the item table. The type of a column decides how it is read:

        - numbers, times and durations are standardised by the items of `fit`, cut at five
          standard deviations, and multiplied by a learned vector; a missing one counts as the
          mean, and has a learned vector of its own;
        - lists are several labels: the mean of their learned vectors;
        - anything else (texts, booleans, pandas categories) is one label.

        Labels that are missing, or that no item of training has, share one learned vector.

    Examples
    --------
    >>> table = ItemTable(pd.DataFrame({"brand": ["a", "b", None], "price": [1.0, 2.0, 4.0]}))
    >>> FeatureEncoder(["brand", "price"]).build(table, dim=2, context=None)(None).shape
    torch.Size([3, 2])
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns

    def build(
        self,
        items: ItemTable,
        dim: int,
        context: Any,
        state: Mapping[str, Tensor] | None = None,
    ) -> ItemModule:
        """Return a fresh module that has read every row of `items`.

        Raises
        ------
        InvalidParameterError
            If `columns` is no list of distinct names.
        InvalidInputError
            If `items` lacks a column, or a number is infinite.
        """
        return FeatureItems(check_columns("columns", self.columns), items, dim, state)


class FeatureItems(ItemModule):
    """One module a column, whose vectors are added."""

    has_content = True

    def __init__(
        self, names: Sequence[str], items: ItemTable, dim: int, state: Mapping[str, Tensor] | None
    ) -> None:
        super().__init__()
        self.names = list(names)
        columns: list[LabelColumn | NumberColumn] = []
        for place, name in enumerate(self.names):
            values, scale = column_of(items, name), None
            is_number = is_number_column(values)
            if state is not None:  # what a file made of a column's type does not matter
                is_number = f"columns.{place}.mean" in state
                scale = (
                    (state[f"columns.{place}.mean"], state[f"columns.{place}.spread"])
                    if is_number
                    else None
                )
            columns.append(
                NumberColumn(name, values, dim, scale)
                if is_number
                else LabelColumn(name, values, dim)
            )
        self.columns = torch.nn.ModuleList(columns)

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        """Return the vectors of `codes` (of all items for None)."""
        return torch.stack([column(codes) for column in self.columns]).sum(0)

    def extend(self, items: ItemTable, seen: Tensor, context: Any) -> None:
        """Grow to all rows of `items`; labels that training will now reach start small."""
        for name, column in zip(self.names, self.columns, strict=True):
            column.extend(column_of(items, name), seen)  # type: ignore[operator]

    def encode_texts(self, texts: Sequence[str], context: Any) -> Tensor:
        """Refuse: a text has none of the columns."""
        raise MissingContentError(
            "texts need an item encoder that reads text, such as item_encoder='bert+id'; "
            "got a feature encoder alone."
        )


def with_features(item_encoder: ItemEncoder, columns: Any) -> ItemEncoder:
    """Return an item encoder that reads `columns` too; for None, the one that was given.

    Examples
    --------
    >>> from palate.encoders.item.ids import IdEncoder
    >>> with_features(IdEncoder(), ["brand"])
    Fusion(encoders=[IdEncoder(), FeatureEncoder(columns=['brand'])])
    """
    if columns is None:
        return item_encoder
    features = FeatureEncoder(check_columns("item_features", columns))
    if isinstance(item_encoder, Fusion):
        params = item_encoder.get_params(deep=False)
        return Fusion(**{**params, "encoders": [*item_encoder.encoders, features]})
    return Fusion([item_encoder, features])


def check_columns(name: str, columns: Any) -> list[str]:
    """Return a list of column names as it is, or raise."""
    good = (
        isinstance(columns, (list, tuple))
        and len(columns) > 0
        and all(isinstance(column, str) for column in columns)
        and len(set(columns)) == len(columns)
    )
    if not good:
        raise InvalidParameterError(
            f"{name} must be a list of distinct column names; got {columns!r}."
        )
    return list(columns)


def column_of(items: ItemTable, name: str) -> pd.Series:
    """Return a column of an item table, or raise where it has none of that name."""
    if name not in items.frame.columns:
        raise InvalidInputError(
            f"items must have the column {name!r} that item_features names; its columns are "
            f"{', '.join(map(repr, items.frame.columns)) or 'none'}."
        )
    return items.frame[name]

"""One column of an item table as learned vectors: labels, or numbers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palate.data.alike import LISTS, as_float
from palate.data.checks import shown
from palate.encoders.item.bags import Bags
from palate.encoders.item.ids import INITIAL_STD, SPARSE_ROWS
from palate.encoders.item.knowledge import reached
from palate.exceptions import InvalidInputError

# Share of labels that are taken for unknown in a training step: somebody must teach that vector.
_UNKNOWN_SHARE = 0.05
# A price of a million must not outweigh everything else about an item.
_MOST_DEVIATIONS = 5.0
_INITIAL_NUMBER_STD = 0.05
_ROUNDING = 1e-12


def is_number_column(values: pd.Series) -> bool:
    """Tell whether a column holds numbers, times or durations, rather than labels.

    Examples
    --------
    >>> [is_number_column(pd.Series(v)) for v in ([1, 2], [True, False], ["a", None])]
    [True, False, False]
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        return False
    kind = getattr(values.dtype, "kind", "O")
    if kind != "O":
        return kind in "iufmM"
    known = values[values.notna()]
    # Prices of a database come as decimals, and days as dates.
    return len(known) > 0 and any(
        all(isinstance(value, kind) for value in known) for kind in (Decimal, date, timedelta)
    )


class LabelColumn(nn.Module):
    """A vector for each label, and one for those that are missing or were never trained on."""

    active: Tensor

    def __init__(self, name: str, values: pd.Series, dim: int) -> None:
        super().__init__()
        self.name = name
        self._codes: dict[str, int] = {"": 0}
        self.labels = Bags([])
        self._read(values)
        self.weight = nn.Parameter(torch.empty(len(self._codes), dim))
        nn.init.normal_(self.weight, std=INITIAL_STD)
        self.register_buffer("active", torch.ones(len(self.weight), dtype=torch.bool))

    def _read(self, values: pd.Series) -> None:
        rows = []
        for value in values.iloc[len(self.labels) :]:
            keys = label_keys(value)
            rows.append([self._codes.setdefault(key, len(self._codes)) for key in keys] or [0])
        self.labels.append(rows)

    def forward(self, codes: Tensor | None = None) -> Tensor:
        """Return the mean of the labels' vectors: (n, dim)."""
        places, offsets, _ = self.labels.pick(codes)
        labels = self.labels.values[places]
        known = self.active[labels]
        if self.training:
            known = known & (torch.rand(len(labels), device=labels.device) >= _UNKNOWN_SHARE)
        labels = labels * known
        sparse = self.training and len(self.weight) > max(SPARSE_ROWS, len(labels))
        return F.embedding_bag(labels, self.weight, offsets, mode="mean", sparse=sparse)

    def extend(self, values: pd.Series, seen: Tensor) -> None:
        """Grow to all rows of `values`."""
        self._read(values)
        n_old, dim = self.weight.shape
        new = self.weight.new_empty(len(self._codes) - n_old, dim)
        nn.init.normal_(new, std=INITIAL_STD)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), new]))
        self.active = reached(self.labels, seen, len(self.weight))
        self.active[0] = True


class NumberColumn(nn.Module):
    """A vector times the standardised number, and a vector for where there is none."""

    mean: Tensor
    spread: Tensor
    values: Tensor

    def __init__(
        self, name: str, values: pd.Series, dim: int, scale: tuple[Tensor, Tensor] | None
    ) -> None:
        super().__init__()
        self.name = name
        numbers = numbers_of(values, name)
        if scale is None:
            known = numbers[~np.isnan(numbers)]
            mean, spread = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
            # What never varies has nothing to tell; its rounding must not be taken for a spread.
            if spread <= _ROUNDING * max(1.0, abs(mean)):
                spread = np.inf
            # A double in two floats, for devices without doubles.
            high = float(np.float32(mean))
            scale = (torch.tensor([high, float(mean - high)]), torch.tensor(float(spread)))
        self.register_buffer("mean", scale[0].clone())
        self.register_buffer("spread", scale[1].clone())
        self.register_buffer("values", self._standard(numbers), persistent=False)
        self.weight = nn.Parameter(torch.empty(2, dim))
        nn.init.normal_(self.weight, std=_INITIAL_NUMBER_STD)
        with torch.no_grad():  # where none is missing, nobody teaches what a missing one means
            self.weight[1] *= float(np.isnan(numbers).any())

    def _standard(self, numbers: np.ndarray) -> Tensor:
        """Return the numbers in standard deviations, and where they are missing: (n, 2)."""
        given = torch.tensor(numbers)
        scaled = (given - self.mean.cpu().double().sum()) / self.spread.cpu().double()
        scaled = scaled.nan_to_num(0.0).clamp(-_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        return torch.stack([scaled, given.isnan().double()], dim=1).float()

    def forward(self, codes: Tensor | None = None) -> Tensor:
        """Return the vectors (n, dim)."""
        return (self.values if codes is None else self.values[codes]) @ self.weight

    def extend(self, values: pd.Series, seen: Tensor) -> None:
        """Grow to all rows of `values`; the scale stays that of the first."""
        new = self._standard(numbers_of(values.iloc[len(self.values) :], self.name))
        self.values = torch.cat([self.values, new.to(self.values)])


def label_keys(value: Any) -> list[str]:
    """Return a text for each label that a cell holds, none for a missing one.

    Numbers that are equal are one label, whatever type a file gave them.

    Examples
    --------
    >>> label_keys(["a", None, 3, 3.0]), label_keys("a"), label_keys(None)
    (['n:3', 't:a'], ['t:a'], [])
    """
    parts: Iterable[Any] = value if isinstance(value, LISTS) else [value]
    keys = [_key(part) for part in parts if isinstance(part, LISTS) or not pd.isna(part)]
    # A set has no order of its own, and a file gives back a list of it in any: codes must not
    # depend on that, and a mean does not.
    return sorted(set(keys))


def _key(value: Any) -> str:
    if isinstance(value, (str, np.str_)):
        return f"t:{value}"
    if isinstance(value, (bool, np.bool_)):
        return f"b:{bool(value)}"
    if isinstance(value, (date, np.datetime64)):
        return f"d:{_nanoseconds(pd.Timestamp(value))}"
    if isinstance(value, (timedelta, np.timedelta64)):
        return f"s:{pd.Timedelta(value).value}"
    if isinstance(value, Integral):  # keeps all its digits, which a float may not
        return f"n:{int(value)}"
    if isinstance(value, Real):
        number = float(value)
        return f"n:{int(number) if number.is_integer() else number}"
    return f"o:{value}"


def _nanoseconds(time: pd.Timestamp) -> int:
    return int((time.tz_convert(None) if time.tzinfo else time).value)


def numbers_of(values: pd.Series, name: str) -> np.ndarray:
    """Return a column as float64 (n,), NaN where a value is missing; times in seconds.

    Raises
    ------
    InvalidInputError
        If a value is no number, or an infinite one.
    """
    values = _with_times(values)
    kind = getattr(values.dtype, "kind", "O")
    if kind == "M":
        since = pd.to_datetime(values, utc=True) - pd.Timestamp(0, tz="UTC")
        return since.dt.total_seconds().to_numpy(dtype=np.float64, na_value=np.nan)
    if kind == "m":
        return values.dt.total_seconds().to_numpy(dtype=np.float64, na_value=np.nan)
    try:
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    except OverflowError:  # whole numbers that no float reaches
        numbers = np.array([as_float(value) for value in values])
    texts = np.array([isinstance(value, str) for value in values], bool) & (kind == "O")
    bad = np.isinf(numbers) | (np.isnan(numbers) & ~values.isna().to_numpy()) | texts
    if bad.any():
        value = values.iloc[int(np.flatnonzero(bad)[0])]
        raise InvalidInputError(
            f"column {name!r} of items must hold finite numbers or missing values; "
            f"it holds {shown(value)}."
        )
    return numbers


def _with_times(values: pd.Series) -> pd.Series:
    """Return a column of objects that are all times, or all durations, as a column of these."""
    if isinstance(values.dtype, pd.ArrowDtype):
        values = values.astype(object)
    known = values.dropna()
    if values.dtype != object or not len(known):
        return values
    if all(isinstance(value, date) for value in known):
        return pd.to_datetime(values, utc=True)
    if all(isinstance(value, timedelta) for value in known):
        return pd.to_timedelta(values)
    return values

"""Which (query, item) pairs a search may return: sparse exclusions and shared allow-lists."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from palate.exceptions import InvalidInputError, InvalidParameterError


class ItemLists(NamedTuple):
    """One list of item codes a query, in compressed rows.

    Attributes
    ----------
    indptr : int64 Tensor or array of shape (n_queries + 1,)
        The codes of query `i` are ``indices[indptr[i]:indptr[i + 1]]``.
    indices : int64 Tensor or array of shape (n_pairs,)
    """

    indptr: Any
    indices: Any


def as_codes(name: str, values: Any) -> Tensor:
    """Return `values` as a 1-D int64 CPU tensor, or say what is wrong."""
    codes = values if isinstance(values, Tensor) else _as_tensor(name, values)
    if codes.numel() == 0:
        codes = codes.to(torch.int64)
    if (
        codes.is_floating_point()
        or codes.is_complex()
        or codes.dtype == torch.bool
        or codes.ndim != 1
    ):
        raise InvalidParameterError(
            f"{name} must be one-dimensional integers; got {codes.dtype} of shape "
            f"{tuple(codes.shape)}."
        )
    return codes.detach().to("cpu", torch.int64)


def _as_tensor(name: str, values: Any) -> Tensor:
    """Return a list or array as a tensor: torch takes no negative strides and no foreign bytes."""
    if isinstance(values, np.ndarray):
        got = f"{values.dtype} of shape {values.shape}"
        if values.dtype.kind in "iufcb":
            values = np.require(values, values.dtype.newbyteorder("="), requirements=["C", "W"])
            if min(values.strides, default=0) < 0:  # to numpy, one value backwards is contiguous
                values = values.copy()
    else:
        got = type(values).__name__
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidParameterError(
            f"{name} must be one-dimensional integers; got {got}."
        ) from error


def check_range(name: str, codes: Tensor, size: int) -> None:
    """Raise unless every code lies in [0, size)."""
    if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= size):
        bad = codes[(codes < 0) | (codes >= size)][0]
        raise InvalidInputError(f"{name} must be in [0, {size}); got {int(bad)}.")


def exclusion_lists(exclude: Any, n_queries: int, n_items: int) -> ItemLists | None:
    """Bring any accepted form of `exclude` to sorted, distinct codes a query.

    Parameters
    ----------
    exclude : None, (rows, cols), ItemLists, scipy sparse matrix or torch sparse CSR tensor
    n_queries, n_items : int

    Returns
    -------
    ItemLists of int64 CPU tensors, or None where nothing is excluded

    Examples
    --------
    >>> exclusion_lists(([1, 0, 1], [4, 2, 3]), 2, 5).indices
    tensor([2, 3, 4])
    """
    if exclude is None:
        return None
    rows, cols = _pairs(exclude, n_queries, n_items)
    check_range("exclude's rows", rows, n_queries)
    check_range("exclude's items", cols, n_items)
    if not rows.numel():
        return None
    keys = np.sort(rows.numpy() * n_items + cols.numpy())  # by row, then by item
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    starts = np.searchsorted(keys, np.arange(n_queries + 1) * n_items)
    return ItemLists(torch.from_numpy(starts), torch.from_numpy(keys % n_items))


def _pairs(exclude: Any, n_queries: int, n_items: int) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the pairs, whatever form they came in."""
    if isinstance(exclude, Tensor) and exclude.layout == torch.sparse_csr:
        _check_shape(tuple(exclude.shape), n_queries, n_items)
        exclude = ItemLists(exclude.crow_indices(), exclude.col_indices())
    if hasattr(exclude, "tocsr") and not isinstance(exclude, Tensor):
        _check_shape(exclude.shape, n_queries, n_items)
        matrix = exclude.tocsr()
        exclude = ItemLists(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64))
    if isinstance(exclude, ItemLists):
        return _rows_of_lists(exclude, n_queries)
    if not isinstance(exclude, (tuple, list)) or len(exclude) != 2:
        raise InvalidParameterError(
            "exclude must be None, a pair (rows, items), ItemLists or a CSR matrix; got "
            f"{type(exclude).__name__}."
        )
    rows, cols = as_codes("exclude's rows", exclude[0]), as_codes("exclude's items", exclude[1])
    if len(rows) != len(cols):
        raise InvalidInputError(
            f"exclude must pair one row with one item; got {len(rows)} rows and {len(cols)} items."
        )
    return rows, cols


def _check_shape(shape: tuple[int, ...], n_queries: int, n_items: int) -> None:
    if tuple(shape) != (n_queries, n_items):
        raise InvalidInputError(
            f"exclude must have the shape (n_queries, n_items) = ({n_queries}, {n_items}); got "
            f"{tuple(shape)}."
        )


def _rows_of_lists(lists: ItemLists, n_queries: int) -> tuple[Tensor, Tensor]:
    indptr = as_codes("exclude's indptr", lists.indptr)
    cols = as_codes("exclude's indices", lists.indices)
    counts = indptr.diff()
    good = len(indptr) == n_queries + 1 and int(indptr[0]) == 0 and int(indptr[-1]) == len(cols)
    if not good or bool((counts < 0).any()):
        shown = indptr.tolist() if len(indptr) <= 8 else f"{len(indptr)} numbers"
        raise InvalidInputError(
            f"exclude's indptr must rise from 0 to {len(cols)} in {n_queries} steps; got {shown}."
        )
    return torch.repeat_interleave(torch.arange(n_queries), counts), cols


class Allowed(NamedTuple):
    """The items that any query may get: a short list to gather, or a long one as flags.

    Attributes
    ----------
    codes : int64 Tensor of rising codes, or None
    flags : uint8 Tensor of shape (n_items,), or None
    """

    codes: Tensor | None
    flags: Tensor | None


def included_codes(include: Any, n_items: int) -> Tensor | None:
    """Return the rising codes of `include`, checked; None for None."""
    if include is None:
        return None
    codes = as_codes("include", include)
    check_range("include", codes, n_items)
    return torch.unique(codes)


def allowed_items(include: Any, n_items: int) -> Allowed:
    """Bring `include` to the form that is faster to search: flags from a quarter of the items on.

    Examples
    --------
    >>> allowed_items([3, 1, 3], 20).codes
    tensor([1, 3])
    >>> allowed_items([3, 1, 3], 5).flags
    tensor([0, 1, 0, 1, 0], dtype=torch.uint8)
    """
    codes = included_codes(include, n_items)
    if codes is None:
        return Allowed(None, None)
    if 4 * len(codes) < n_items:
        return Allowed(codes, None)
    return Allowed(None, torch.zeros(n_items, dtype=torch.uint8).index_fill_(0, codes, 1))


def positions_between(codes: Tensor, start: int, size: int) -> Tensor:
    """Return the sorted `codes` that lie in [start, start + size).

    Examples
    --------
    >>> positions_between(torch.tensor([1, 4, 9]), 3, 4)
    tensor([4])
    """
    low, high = torch.searchsorted(codes, torch.tensor([start, start + size])).tolist()
    return codes[low:high]


def rows_of_lists(lists: ItemLists | None, begin: int, end: int) -> ItemLists | None:
    """Return the lists of queries `begin` to `end`.

    Examples
    --------
    >>> rows_of_lists(ItemLists(torch.tensor([0, 1, 3]), torch.tensor([4, 2, 5])), 1, 2)
    ItemLists(indptr=tensor([0, 2]), indices=tensor([2, 5]))
    """
    if lists is None:
        return None
    indptr = lists.indptr[begin : end + 1]
    return ItemLists(indptr - indptr[0], lists.indices[int(indptr[0]) : int(indptr[-1])])

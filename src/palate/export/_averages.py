"""The plain averages of a history beside what the encoder says, as text in ONNX's notation.

The formula is that of :mod:`palate.ops.evidence`, and of :mod:`palate.training.views` for the sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from palate.training.views import KEPT

#: Prefix of all names that come from the traced user encoder.
PREFIX = "user_encoder_"

_AVERAGES = f"""
    own_sizes = ReduceL2 <keepdims = 1> ({PREFIX}x, axis_2)
    divided_rows = Div (rows, own_sizes)
    measurable_rows = Greater (own_sizes, shortest)
    scaled_rows = Where (measurable_rows, divided_rows, no_score)
    last_places = Sub (kept_column, ones)
    ages = Sub (last_places, steps)
    ages_real = Cast <to = 1> (ages)
    faded = Pow (kept_share, ages_real)
    fade = Where ({PREFIX}mask, faded, no_score)
    fade_row = Unsqueeze (fade, axis_1)
    sums_row = MatMul (fade_row, scaled_rows)
    sums = Squeeze (sums_row, axis_1)
    means = Slice (sums, zeros, own_width, axis_1)
"""
_MIXED = """
    mean_part = Mul (unit_means, mean_weight)
    tastes = Add (unit_states, mean_part)
"""
_CONTENT = """
    contents = Slice (sums, own_width, whole_width, axis_1)
"""
_MIXED_CONTENT = """
    content_part = Mul (unit_contents, content_factor)
    user_vectors = Concat <axis = 1> (tastes, content_part)
"""


def numbers_of(network: Any, width: int) -> dict[str, np.ndarray]:
    """Return what the text names, for rows of `width` columns; nothing where no average counts."""
    if not (network.mean_weight or network.content_weight):
        return {}
    numbers: dict[str, np.ndarray] = {
        "mean_weight": np.array(network.mean_weight, np.float32),
        "kept_share": np.array(KEPT, np.float32),
        "own_width": np.array([network.dim], np.int64),
    }
    if network.content_weight:
        numbers["content_factor"] = np.array(network.content_weight**0.5, np.float32)
        numbers["whole_width"] = np.array([width], np.int64)
    return numbers


def with_averages(before: str, behind: str, *, content: bool) -> tuple[str, str]:
    """Return what stands before and behind the traced encoder, with averages mixed in.

    Parameters
    ----------
    before : str
        Ends with the rows of the history as what the encoder reads.
    behind : str
        Ends with ``user_vectors``.
    content : bool
        Whether the rows have columns of content, which the encoder does not read.
    """
    before = before.replace(f"{PREFIX}x", "rows")
    before += f"\n{PREFIX}x = Slice (rows, zeros, own_width, axis_2)\n"
    behind = behind.replace("user_vectors", "states") + _AVERAGES
    behind += unit_rows("states", "unit_states") + unit_rows("means", "unit_means") + _MIXED
    if not content:
        return before, behind + "user_vectors = Identity (tastes)"
    return before, behind + _CONTENT + unit_rows("contents", "unit_contents") + _MIXED_CONTENT


def unit_rows(name: str, into: str) -> str:
    """Return what scales the rows of the matrix `name` to length 1: zeros stay zero."""
    return f"""
    length_{name} = ReduceL2 <keepdims = 1> ({name}, axis_1)
    divided_{name} = Div ({name}, length_{name})
    measurable_{name} = Greater (length_{name}, shortest)
    {into} = Where (measurable_{name}, divided_{name}, no_score)
"""

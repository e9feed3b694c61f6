"""A fitted model for other runtimes: one ONNX file with the id map beside it.

:func:`to_onnx` writes the folder, :class:`OnnxRecommender` reads it with numpy and onnxruntime
alone: importing it imports neither torch nor pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palate.export.reader import OnnxRecommender
    from palate.export.writer import to_onnx

_HOMES = {"OnnxRecommender": "palate.export.reader", "to_onnx": "palate.export.writer"}

__all__ = ["OnnxRecommender", "to_onnx"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value

"""A user encoder's network, traced by torch's ONNX exporter."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from palate._optional import require
from palate.exceptions import PersistenceError
from palate.export._graph import OPSET

# Traced with a history of this many rows and steps: no axis may be 1, which torch takes for fixed.
_ROWS, _STEPS = 3, 5


def trace(network: nn.Module, dim: int, max_length: int) -> Any:
    """Return a network over histories as ONNX, with a free batch and time axis.

    Parameters
    ----------
    network : torch.nn.Module
        Maps ``x`` (n_rows, n_steps, dim) and ``mask`` (n_rows, n_steps) to states.
    dim, max_length : int

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    PersistenceError
        If torch cannot trace it.
    """
    require("onnx", extra="export", purpose="to_onnx")
    require("onnxscript", extra="export", purpose="to_onnx")
    steps = min(_STEPS, max_length)
    x = torch.zeros(_ROWS, steps, dim)
    mask = torch.ones(_ROWS, steps, dtype=torch.bool)
    axes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if max_length > 1:
        axes[1] = torch.export.Dim("time", max=max_length)
    on_cpu = copy.deepcopy(network).cpu().eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                on_cpu,
                (x, mask),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(axes, axes),
                input_names=["x", "mask"],
                output_names=["states"],
                verbose=False,
            )
    except Exception as error:
        raise PersistenceError(
            f"the user encoder {type(network).__name__} cannot be written as ONNX: torch's "
            "exporter refused it."
        ) from error
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says about itself; its errors still come out."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

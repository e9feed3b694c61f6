"""What was written, run and compared with the model that it was written from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from palate._options import RunOptions
from palate.exceptions import PersistenceError
from palate.export.reader import OnnxRecommender
from palate.queries import Queries
from palate.serving import Serving, top_items

#: Largest difference of a score that counts as equal, relative to scores above 1.
TOLERANCE = 1e-4
# Histories of so many rows, at least; every length up to a little beyond the encoder's own.
_ROWS, _BEYOND = 4, 3


def check_against(serving: Serving, folder: Path, k: int = 10) -> None:
    """Compare the answers of an export with those of the model, on random histories.

    Raises
    ------
    PersistenceError
        If a score differs by more than the tolerance, or the export does not run.
    """
    reader = OnnxRecommender(folder, verify=False)
    rng = np.random.default_rng(0)
    n_items, most = len(serving.items), serving.network.users.max_length + _BEYOND
    lengths = np.unique(np.linspace(1, most, max(_ROWS, min(most, 2 * _ROWS))).astype(int))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    codes = rng.integers(0, n_items, indptr[-1])
    queries = Queries(np.arange(len(lengths)), indptr, codes, (), n_items)
    expected, _ = top_items(serving, queries, k, RunOptions(device="cpu"))
    histories = np.split(codes, indptr[1:-1])
    # Whole and one by one: an axis that the tracing froze shows here.
    together = _run(reader, histories, k)
    alone = [_run(reader, [history], k)[0] for history in histories]
    for name, found in (("in a batch", together), ("alone", np.array(alone))):
        with np.errstate(invalid="ignore"):  # -inf less -inf, which is equal all the same
            gap = np.abs(expected - found) / np.maximum(1, np.abs(expected))
        differs = (expected != found) & ~(gap <= TOLERANCE)
        if differs.any():
            raise PersistenceError(
                f"the written model must give the scores of rec within {TOLERANCE}; histories "
                f"{name} differ by {np.nan_to_num(gap[differs], nan=np.inf).max():.3g}."
            )


def _run(reader: OnnxRecommender, histories: list[np.ndarray], k: int) -> np.ndarray:
    try:
        return reader.top(histories, k)[0]
    except Exception as error:
        raise PersistenceError(
            f"the written model does not run on {len(histories)} histories of "
            f"{min(map(len, histories))} to {max(map(len, histories))} events. A user encoder "
            "must take its sizes from x.shape: len(x) becomes a fixed number in the trace."
        ) from error

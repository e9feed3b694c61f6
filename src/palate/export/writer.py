"""A fitted recommender as a folder that any ONNX runtime can serve."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from palate._optional import require
from palate._validation import check_int, check_path
from palate.exceptions import InvalidParameterError, PersistenceError
from palate.export import _graph
from palate.export._averages import numbers_of
from palate.export._check import check_against
from palate.export._encoder import trace
from palate.export._files import DATA, ITEMS, MODEL, NAMES, SIGNATURE, checksums, write_item_ids
from palate.export._signature import signature
from palate.persistence.folder import replaced
from palate.ranking import ApproximateRanker, CosineRanker
from palate.serving import Serving


def to_onnx(
    rec: Any,
    folder: str | os.PathLike[str],
    *,
    inline_bytes: int = 64 * 2**20,
) -> Path:
    """Write a fitted recommender as ONNX, with the map of item ids beside it.

    The user encoder and the exact ranker become one graph: item codes of a history in, scores and
    codes of the best items out. The catalogue is that of this moment; users and their histories
    are not written. The written folder is run under onnxruntime and compared with `rec` before it
    takes its place, in one rename.

    Parameters
    ----------
    rec : Recommender
        Fitted. A ranker that is approximate becomes exact; one of your own cannot be written.
    folder : path
        Made, or replaced if it holds an export.
    inline_bytes : int, default=64 MiB
        If the vectors are larger than this, they go into ``model.onnx.data``, which runtimes map
        into memory; ``model.onnx`` alone may hold at most 2 GiB.

    Returns
    -------
    pathlib.Path
        The folder: ``model.onnx``, ``items.json`` (the ids in code order), ``signature.json``
        (inputs, outputs, checksums) and maybe ``model.onnx.data``.

    Raises
    ------
    NotFittedError
        If `rec` is not fitted.
    InvalidParameterError
        If `rec` is no recommender with a network, its ranker is one of your own, it has a
        re-ranker, or it reads attributes of users or the times of events, which the graph has no
        input for.
    PersistenceError
        If the folder holds other files, torch cannot trace the user encoder, or what was written
        does not give the answers of `rec`.
    ImportError
        If ``palate[export]`` is not installed.

    Notes
    -----
    Candidates are found by float32 products and then scored as
    :func:`palate.ops.topk.topk` scores: a float64 sum rounded once to float32, ties to the item
    that comes first. User vectors agree with torch's to float32 rounding (1e-4 is promised).

    Examples
    --------
    >>> from palate import Recommender, RunOptions
    >>> from palate.export import OnnxRecommender, to_onnx
    >>> histories = [["bread", "butter", "jam"], ["bread", "butter", "jam"], ["nail", "hammer"]] * 4
    >>> rec = Recommender(
    ...     user_encoder="gru", item_encoder="id", epochs=30, validation_fraction=0,
    ...     random_state=0, options=RunOptions(device="cpu", progress=False),
    ... ).fit(histories)
    >>> import tempfile
    >>> folder = to_onnx(rec, tempfile.mkdtemp())
    >>> OnnxRecommender(folder).recommend([["bread", "butter"]], k=1)["item_id"]
    array(['jam'], dtype=object)
    """
    check_int("inline_bytes", inline_bytes)
    serving = _serving_of(rec)
    target = check_path("folder", folder)
    _check_replaceable(target)
    users = serving.network.users
    tables = _tables(serving)
    dim = tables["catalogue"].shape[1]
    numbers = numbers_of(serving.network, dim)
    network = trace(users.encoder, serving.network.dim, users.max_length)
    setting = {
        "pooling": users.pooling,
        "metric": serving.ranker.metric,
        "max_length": users.max_length,
    }
    model = _graph.build(network, tables | numbers, **setting)
    with replaced(target) as fresh:
        external = sum(table.nbytes for table in tables.values()) > inline_bytes
        _write_model(model, fresh / MODEL, external=external)
        write_item_ids(fresh / ITEMS, serving.items.array)
        written = signature(setting, len(serving.items), dim, checksums(fresh))
        (fresh / SIGNATURE).write_text(json.dumps(written, indent=2), encoding="utf-8")
        check_against(serving, fresh)
    return target


def _serving_of(rec: Any) -> Serving:
    """Return the state to write, with an exact ranker, or say what cannot be written."""
    from palate.recommender import Recommender

    if not isinstance(rec, Recommender):
        raise InvalidParameterError(f"rec must be a Recommender; got {rec!r}.")
    check_is_fitted(rec)
    serving: Serving = rec._serving
    if not isinstance(serving.ranker, (CosineRanker, ApproximateRanker)):
        raise InvalidParameterError(
            "ranker must be a CosineRanker or an ApproximateRanker to be written as ONNX; "
            f"got {serving.ranker!r}."
        )
    if serving.people is not None:
        raise InvalidParameterError(
            "rec must be fitted with user_features=None to be written as ONNX; got "
            f"{rec.user_features!r}."
        )
    network = serving.network
    for name, edges in (("time_gaps", network.gap_edges), ("time_bias", network.bias_edges)):
        if edges is not None:
            raise InvalidParameterError(
                f"rec must be fitted with {name}=False to be written as ONNX; got {name}=True."
            )
    if serving.reranker is not None and not serving.reranker.changes_nothing:
        raise InvalidParameterError(
            "reranker must be None in fit for a model to be written as ONNX, which holds the first "
            f"stage alone; got {serving.reranker.given!r}."
        )
    return replace(serving, ranker=getattr(serving.ranker, "exact_", serving.ranker))


def _check_replaceable(target: Path) -> None:
    """Raise if something else than an export would be lost."""
    holds = None
    if target.is_file():
        holds = "is a file"
    elif target.exists():
        names = {path.name for path in target.iterdir()}
        if names and not (names <= NAMES and SIGNATURE in names):
            holds = "holds other files"
    if holds:
        raise PersistenceError(f"folder must be new, empty or an export; {str(target)!r} {holds}.")


def _tables(serving: Serving) -> dict[str, np.ndarray]:
    """Return the ranked rows, and what the encoder reads where that is something else."""
    catalogue = serving.ranker.catalogue_
    ranked = torch.cat([segment.vectors.float().cpu() for segment in catalogue.segments]).numpy()
    vectors = serving.vectors.float().cpu().numpy()
    tables = {"catalogue": ranked}
    if catalogue.metric == "cosine" and catalogue.storage in ("float32", "int8"):
        tables["norms"] = np.sqrt((vectors.astype(np.float64) ** 2).sum(1)).astype(np.float32)
    elif catalogue.metric == "cosine" or not np.array_equal(ranked, vectors):
        tables["vectors"] = vectors
    attention = serving.network.users.attention
    if attention is not None:
        tables["attention"] = attention.weight.detach().cpu().numpy().T.copy()
    return tables


def _write_model(model: Any, path: Path, *, external: bool) -> None:
    onnx = require("onnx", extra="export", purpose="to_onnx")
    if external:
        onnx.save_model(model, path, save_as_external_data=True, location=DATA)
    else:
        onnx.save_model(model, path)
    onnx.checker.check_model(path)

"""Content vectors, computed once: cached on disk by a hash of text, model and pooling."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from palate._validation import check_choice, check_int
from palate.encoders.item.content_store import ContentCache
from palate.encoders.item.model_source import ModelSource, resolve_model
from palate.encoders.item.text_model import POOLINGS, TextModel, load_text_model
from palate.encoders.item.tokens import check_texts

_LOGGER = logging.getLogger(__name__)
_VERSION = b"palate-content-1"  # part of every key: raise it when the vectors' meaning changes
_GROUP = 4096  # texts between two writes or reads of the cache


def content_keys(
    texts: Sequence[str], fingerprint: str, pooling: str = "mean", max_tokens: int = 256
) -> list[bytes]:
    """Return the cache key of each text: BLAKE2b over model, pooling, length and text.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    fingerprint : str
        The model's, from `ModelSource`.
    pooling : {"mean", "cls"}, default="mean"
        How token vectors become one.
    max_tokens : int, default=256
        Tokens kept of each text.

    Returns
    -------
    list of bytes
        20 bytes for each text.

    Examples
    --------
    >>> a, b, c = content_keys(["lamp", "lamps", "lamp"], "f00d")
    >>> len(a), a == b, a == c
    (20, False, True)
    """
    start = hashlib.blake2b(_VERSION, digest_size=20)
    start.update(f"\n{fingerprint}\n{pooling}\n{max_tokens}\n".encode())
    keys = []
    for text in texts:
        digest = start.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        keys.append(digest.digest())
    return keys


def cached_encode(
    texts: Sequence[str],
    source: ModelSource | str = "minilm",
    *,
    pooling: str = "mean",
    max_tokens: int = 256,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    cache: ContentCache | None = None,
    progress: bool = False,
    load: Callable[[], TextModel] | None = None,
) -> np.ndarray:
    """Encode texts, taking from the cache what it has; the model loads only for the rest.

    Parameters
    ----------
    texts : sequence of str
        Any number of texts, repeats and empty strings allowed.
    source : ModelSource or str, default="minilm"
        The text model, or its name for `resolve_model`.
    pooling, max_tokens, batch_size, device, progress
        See `TextModel.encode`.
    cache : ContentCache, default=None
        The store; None encodes every text.
    load : callable, default=None
        Returns the loaded model; called at most once, and only when a text is missing.
        None loads the source. A caller that keeps a model hands it over here; it must
        have the source's own weights, never fine-tuned ones, since what it computes is
        stored under the fingerprint of the source.

    Returns
    -------
    float32 ndarray of shape (n_texts, hidden)
        One vector for each text, in the order given.

    Raises
    ------
    InvalidInputError
        If `texts` is one string, or holds something that is not a string.
    InvalidParameterError
        If `pooling`, `max_tokens` or `batch_size` is not accepted, or there is no such model.

    Notes
    -----
    A vector from the cache is, bit for bit, the one that was computed first. Computed
    again among other texts it would differ in the last bits (about 1e-7).
    """
    check_texts(texts)
    check_choice("pooling", pooling, POOLINGS)
    check_int("max_tokens", max_tokens, minimum=3)
    check_int("batch_size", batch_size, minimum=1)
    source = source if isinstance(source, ModelSource) else resolve_model(source)
    unique = list(dict.fromkeys(texts))
    keys = content_keys(unique, source.fingerprint, pooling, max_tokens)
    vectors = np.empty((len(unique), source.hidden_size), dtype=np.float32)
    missing = _read(cache, keys, vectors)
    _LOGGER.info("%d of %d texts are cached", len(unique) - len(missing), len(unique))
    if len(missing):
        model = load() if load is not None else load_text_model(source)
        batches = model.encode_batches(
            [unique[row] for row in missing],
            pooling=pooling,
            max_tokens=max_tokens,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )

        def store(done: list[int]) -> None:
            if cache is not None:
                cache.put_many([keys[row] for row in done], vectors[done])

        _fill(vectors, missing, batches, store)
    if len(unique) == len(texts):
        return vectors
    row_of = {text: row for row, text in enumerate(unique)}
    return vectors[[row_of[text] for text in texts]]


def _read(cache: ContentCache | None, keys: Sequence[bytes], vectors: np.ndarray) -> np.ndarray:
    """Write the cached rows into `vectors` (n, hidden); return the numbers of the others."""
    known: list[int] = []
    for start in range(0, len(keys), _GROUP):
        found = cache.get_many(keys[start : start + _GROUP]) if cache is not None else {}
        rows = [
            start + offset
            for offset, key in enumerate(keys[start : start + _GROUP])
            if key in found and len(found[key]) == vectors.shape[1]
        ]
        if rows:
            vectors[rows] = np.stack([found[keys[row]] for row in rows])
            known += rows
    return np.setdiff1d(np.arange(len(keys)), known)


def _fill(
    vectors: np.ndarray,
    missing: np.ndarray,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    store: Callable[[list[int]], None],
) -> None:
    """Write batches into the `missing` rows of `vectors`; store some thousands at a time."""
    done: list[int] = []
    try:
        for rows, block in batches:
            vectors[missing[rows]] = block
            done += missing[rows].tolist()
            if len(done) >= _GROUP:
                store(done)
                done = []
    finally:  # after Ctrl-C too: what was computed is worth keeping
        store(done)

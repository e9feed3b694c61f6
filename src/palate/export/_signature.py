"""What an export says of itself: a text for people and programs."""

from __future__ import annotations

from typing import Any

from palate.export._files import FORMAT, ITEMS, MODEL


def signature(
    setting: dict[str, Any], n_items: int, dim: int, sha256: dict[str, str]
) -> dict[str, Any]:
    """Return the content of ``signature.json``."""
    import palate

    return {
        "about": (
            "A recommender of palate as ONNX. Turn a history of item ids, oldest first, into "
            f"codes (places in the list of {ITEMS}), pad them on the right, and run {MODEL}: "
            "it returns the codes of the best items. Inputs with a default may be left out."
        ),
        "format": FORMAT,
        "palate": palate.__version__,
        "n_items": n_items,
        "dim": dim,
        **setting,
        "inputs": {
            "items": _entry("int64", ["batch", "time"], "Item codes, oldest first; padding any."),
            "lengths": _entry(
                "int64",
                ["batch"],
                "Events of each history, at most time. Only the last max_length are read by the "
                "encoder, all of them are filtered. A history of 0 events gets no item.",
            ),
            "k": _entry("int64", [1], "Most items of a history, at least 1.", default=[10]),
            "filter_viewed": _entry(
                "bool", [1], "Leave out the items of the history.", default=[True]
            ),
            "exclude": _entry(
                "int64",
                ["batch or 1", "n_excluded"],
                "Further codes to leave out, of each history or of all; -1 is padding.",
                default=[[]],
            ),
        },
        "outputs": {
            "scores": _entry(
                "float32",
                ["batch", "min(k, n_items)"],
                f"{_SCORES[setting['metric']]}, falling; -inf where no item is left.",
            ),
            "codes": _entry(
                "int64",
                ["batch", "min(k, n_items)"],
                "Codes of the items, -1 where none is left; of equal scores the lower code first.",
            ),
            "user_vectors": _entry("float32", ["batch", dim], "Vectors of the histories."),
        },
        "files": {
            ITEMS: (
                "ids in code order; how: plain (of dtype; times as integers), str, or tagged "
                "(each a JSON text of type and value)"
            ),
        },
        "sha256": sha256,
    }


_SCORES = {
    "cosine": "Cosine of user and item vector",
    "dot": "Dot product of user and item vector",
    "euclidean": "Minus the distance of user and item vector",
}


def _entry(dtype: str, shape: list[Any], meaning: str, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "meaning": meaning, **more}

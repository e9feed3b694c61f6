"""The ONNX graph around a user encoder: the history before it, pooling and ranking behind it.

Only the user encoder's network is traced. The rest is written here, as text in ONNX's own
notation, so that what a runtime computes can be read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from palate._optional import require
from palate.export._averages import PREFIX, unit_rows, with_averages

#: The smallest ONNX operator set in which everything below exists.
OPSET = 18
#: Items found by float32 products beyond k, which are then scored exactly.
MARGIN = 16

# Inputs with defaults: a runtime may leave them out.
DEFAULTS = {
    "k": np.array([10], np.int64),
    "filter_viewed": np.array([True]),
    "exclude": np.zeros((1, 0), np.int64),
}

_HISTORY = f"""
    history_time = Shape <start = 1, end = 2> (items)
    window = Min (history_time, max_length)
    n_steps = Squeeze (window)
    steps = Range (zero, n_steps, one)
    kept = Min (lengths, max_length)
    dropped = Sub (lengths, kept)
    first = Unsqueeze (dropped, axis_1)
    places = Add (first, steps)
    last_place = Sub (history_time, ones)
    reachable = Min (places, last_place)
    kept_column = Unsqueeze (kept, axis_1)
    {PREFIX}mask = Less (steps, kept_column)
    recent = GatherElements <axis = 1> (items, reachable)
    recent_codes = Where ({PREFIX}mask, recent, zero)
"""

_LOOK_UP = {
    # Cosine ranks unit vectors, and the encoder reads vectors of their own length.
    "norms": f"""
    directions = Gather <axis = 0> (catalogue, recent_codes)
    sizes = Gather <axis = 0> (norms, recent_codes)
    sizes_column = Unsqueeze (sizes, axis_2)
    {PREFIX}x = Mul (directions, sizes_column)
""",
    "vectors": f"{PREFIX}x = Gather <axis = 0> (vectors, recent_codes)",
    "catalogue": f"{PREFIX}x = Gather <axis = 0> (catalogue, recent_codes)",
}

_POOL = {
    "last": f"""
    one_less = Sub (kept_column, ones)
    last_step = Max (one_less, zeros)
    user_vectors = GatherND <batch_dims = 1> ({PREFIX}states, last_step)
""",
    "mean": f"""
    mask_column = Unsqueeze ({PREFIX}mask, axis_2)
    real_states = Where (mask_column, {PREFIX}states, no_score)
    total = ReduceSum <keepdims = 0> (real_states, axis_1)
    counts = Max (kept_column, ones)
    divisors = Cast <to = 1> (counts)
    user_vectors = Div (total, divisors)
""",
    "attention": f"""
    mask_column = Unsqueeze ({PREFIX}mask, axis_2)
    real_states = Where (mask_column, {PREFIX}states, no_score)
    logits_column = MatMul (real_states, attention)
    logits = Squeeze (logits_column, axis_2)
    real_logits = Where ({PREFIX}mask, logits, lowest)
    shares = Softmax <axis = 1> (real_logits)
    shares_row = Unsqueeze (shares, axis_1)
    pooled = MatMul (shares_row, real_states)
    user_vectors = Squeeze (pooled, axis_1)
""",
}

_ROUGH = {
    "cosine": f"""
    {unit_rows("user_vectors", "queries")}
    rough = Gemm <transB = 1> (queries, catalogue)
""",
    "dot": """
    queries = Identity (user_vectors)
    rough = Gemm <transB = 1> (queries, catalogue)
""",
    # -|q - v|**2 without its part that is the same for all items of a query.
    "euclidean": """
    queries = Identity (user_vectors)
    rough = Gemm <alpha = 2.0, transB = 1> (queries, catalogue, minus_squares)
""",
}

_FILTER = """
    time_scalar = Squeeze (history_time)
    all_steps = Range (zero, time_scalar, one)
    lengths_column = Unsqueeze (lengths, axis_1)
    is_event = Less (all_steps, lengths_column)
    is_viewed = And (is_event, filter_viewed)
    event_codes = Where (is_event, items, zero)
    viewed_scores = Where (is_viewed, minus_infinity, no_score)
    n_rows = Shape <start = 0, end = 1> (items)
    n_excluded = Shape <start = 1, end = 2> (exclude)
    exclude_shape = Concat <axis = 0> (n_rows, n_excluded)
    exclude_rows = Expand (exclude, exclude_shape)
    is_excluded = GreaterOrEqual (exclude_rows, zero)
    exclude_codes = Where (is_excluded, exclude_rows, zero)
    exclude_scores = Where (is_excluded, minus_infinity, no_score)
    filter_codes = Concat <axis = 1> (event_codes, exclude_codes)
    filter_scores = Concat <axis = 1> (viewed_scores, exclude_scores)
    filtered = ScatterElements <axis = 1, reduction = "add"> (rough, filter_codes, filter_scores)
    has_events = Greater (lengths_column, zero)
    allowed = Where (has_events, filtered, minus_infinity)
"""

_CANDIDATES = """
    n_items = Shape <start = 0, end = 1> (catalogue)
    n_best = Min (k, n_items)
    wanted = Add (k, margin)
    n_candidates = Min (wanted, n_items)
    unused_scores, unsorted = TopK <axis = 1> (allowed, n_candidates)
    candidates, unused_places = TopK <axis = 1, largest = 0> (unsorted, n_candidates)
    rough_scores = GatherElements <axis = 1> (allowed, candidates)
    is_filtered = IsInf <detect_positive = 0> (rough_scores)
    candidate_rows = Gather <axis = 0> (catalogue, candidates)
    rows64 = Cast <to = 11> (candidate_rows)
    queries64 = Cast <to = 11> (queries)
    query_rows = Unsqueeze (queries64, axis_1)
"""

_EXACT = {
    "dot": """
    products = Mul (rows64, query_rows)
    exact = ReduceSum <keepdims = 0> (products, axis_2)
""",
    "euclidean": """
    differences = Sub (rows64, query_rows)
    distances = ReduceL2 <keepdims = 0> (differences, axis_2)
    exact = Neg (distances)
""",
}
_EXACT["cosine"] = _EXACT["dot"]

# Candidates stand in the catalogue's order, and among equal scores TopK takes the first place.
_BEST = """
    rounded = Cast <to = 1> (exact)
    final = Where (is_filtered, minus_infinity, rounded)
    scores, places_found = TopK <axis = 1> (final, n_best)
    found = GatherElements <axis = 1> (candidates, places_found)
    is_empty = IsInf <detect_positive = 0> (scores)
    codes = Where (is_empty, no_code, found)
"""


def constants(max_length: int) -> dict[str, np.ndarray]:
    """Return the small tensors that the graph's text names."""
    return {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "zeros": np.array([0], np.int64),
        "ones": np.array([1], np.int64),
        "axis_1": np.array([1], np.int64),
        "axis_2": np.array([2], np.int64),
        "max_length": np.array([max_length], np.int64),
        "margin": np.array([MARGIN], np.int64),
        "no_code": np.array(-1, np.int64),
        "no_score": np.array(0, np.float32),
        "minus_infinity": np.array(-np.inf, np.float32),
        "lowest": np.array(np.finfo(np.float32).min, np.float32),
        "shortest": np.array(np.finfo(np.float32).tiny ** 0.5, np.float32),
    }


def build(
    network: Any, tables: dict[str, np.ndarray], *, pooling: str, metric: str, max_length: int
) -> Any:
    """Return the whole model: histories of item codes in, the best items out.

    Parameters
    ----------
    network : onnx.ModelProto
        The traced user encoder: ``x, mask`` to ``states``.
    tables : dict of str to float32 ndarray
        ``catalogue`` (n_items, dim), the rows that are ranked; ``norms`` (n_items,) or ``vectors``
        (n_items, dim) where the encoder reads other rows than these; ``attention`` (dim, 1) for
        attention pooling; and what :func:`palate.export._averages.numbers_of` returns.
    pooling : {"last", "mean", "attention"}
    metric : {"cosine", "dot", "euclidean"}
    max_length : int

    Returns
    -------
    onnx.ModelProto
    """
    onnx = require("onnx", extra="export", purpose="to_onnx")
    look_up = next((name for name in ("norms", "vectors") if name in tables), "catalogue")
    core = onnx.compose.add_prefix_graph(network.graph, PREFIX)
    before, behind = _HISTORY + _LOOK_UP[look_up], _POOL[pooling]
    if "mean_weight" in tables:
        before, behind = with_averages(before, behind, content="content_factor" in tables)
    behind += _ROUGH[metric] + _FILTER + _CANDIDATES + _EXACT[metric] + _BEST
    nodes = [*_nodes(before), *core.node, *_nodes(behind)]
    values = {**constants(max_length), **DEFAULTS, **tables}
    if metric == "euclidean":
        rows = tables["catalogue"].astype(np.float64)
        values["minus_squares"] = -(rows * rows).sum(1)[None].astype(np.float32)
    used = {name for node in nodes for name in node.input}
    weights = [onnx.numpy_helper.from_array(values[name], name) for name in values if name in used]
    dim = tables["catalogue"].shape[1]
    graph = onnx.helper.make_graph(
        nodes, "palate", _inputs(), _outputs(dim), initializer=[*core.initializer, *weights]
    )
    return onnx.helper.make_model(
        graph,
        functions=list(network.functions),
        opset_imports=list(network.opset_import),
        ir_version=network.ir_version,
        producer_name="palate",
    )


def _nodes(text: str) -> list[Any]:
    """Parse statements of ONNX's notation."""
    parser = require("onnx.parser", extra="export", purpose="to_onnx")
    return list(parser.parse_graph(f"part () => () {{ {text} }}").node)


def _inputs() -> list[Any]:
    onnx = require("onnx", extra="export", purpose="to_onnx")
    integer, boolean = onnx.TensorProto.INT64, onnx.TensorProto.BOOL
    shapes: dict[str, tuple[int, list[Any]]] = {
        "items": (integer, ["batch", "time"]),
        "lengths": (integer, ["batch"]),
        "k": (integer, [1]),
        "filter_viewed": (boolean, [1]),
        "exclude": (integer, ["batch_or_1", "n_excluded"]),
    }
    return [onnx.helper.make_tensor_value_info(name, *shape) for name, shape in shapes.items()]


def _outputs(dim: int) -> list[Any]:
    onnx = require("onnx", extra="export", purpose="to_onnx")
    number, integer = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    shapes: dict[str, tuple[int, list[Any]]] = {
        "scores": (number, ["batch", "n_found"]),
        "codes": (integer, ["batch", "n_found"]),
        "user_vectors": (number, ["batch", dim]),
    }
    return [onnx.helper.make_tensor_value_info(name, *shape) for name, shape in shapes.items()]

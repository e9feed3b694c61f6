"""The direction of imports: a file knows only of what lies below it, or beside it."""

import ast
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import palate

ROOT = Path(palate.__file__).parent
RANKS = {
    name: rank
    for rank, names in enumerate(
        [
            "exceptions protocols _optional",
            "ops _validation _random _memory _device _options _threads",
            "data metrics model_selection datasets defaults",
            "encoders ranking",
            "training queries reranking kept_vectors",
            "_parts _inputs _results plan serving answering blending learning _estimator",
            "persistence baselines",
            "recommender",
            "history_encoder",
            "testing export __init__",
        ]
    )
    for name in names.split()
}
HEAVY = [
    *("transformers", "accelerate", "sentence_transformers", "matplotlib", "faiss", "polars"),
    *("onnx", "onnxruntime", "onnxscript"),
]


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def is_typing_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def import_nodes(tree):
    """Walk every import of a file, those inside functions too, but not those for types alone."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        below = node.orelse if is_typing_only(node) else ast.iter_child_nodes(node)
        todo += list(below)


def imports(tree):
    """Return the modules of palate that a syntax tree imports."""
    found = set()
    for node in import_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.level == 0 and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in FILES else node.module)
    return {name for name in found if name == "palate" or name.startswith("palate.")}


TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
GRAPH = {name: imports(tree) for name, tree in TREES.items()}


def part(name):
    """Return the file or folder right under the package that a module belongs to."""
    return "__init__" if name == "palate" else name.split(".")[1]


def upward(name, imported):
    return RANKS[part(imported)] > RANKS[part(name)]


def test_every_part_has_a_rank():
    assert {part(name) for name in FILES} == set(RANKS)


def test_imports_point_downwards():
    assert [
        f"{name} (rank {RANKS[part(name)]}) imports {other} (rank {RANKS[part(other)]})"
        for name, others in GRAPH.items()
        for other in sorted(others)
        if upward(name, other)
    ] == []


def test_no_import_is_circular():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(f"circular import: {' -> '.join(error.args[1])}")


def test_imports_are_absolute_and_name_files_that_exist():
    for name, tree in TREES.items():
        for node in import_nodes(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} line {node.lineno}: a relative import"
        assert GRAPH[name] <= set(FILES), name


def test_the_walk_sees_what_it_should():
    source = """
from __future__ import annotations
from typing import TYPE_CHECKING
from palate.ops import losses, nothing
if TYPE_CHECKING:
    from palate.recommender import Recommender
else:
    import palate.data.frames
def f():
    import palate
    from palate.serving import Serving
"""
    assert imports(ast.parse(source)) == {
        *("palate", "palate.ops", "palate.ops.losses", "palate.data.frames", "palate.serving")
    }
    assert upward("palate.data.items", "palate.recommender")
    assert not upward("palate.data.items", "palate.data.frames")


def test_importing_palate_is_light():
    # The Triton kernels alone need their compiler to be imported: nothing imports them before use.
    names = [name for name in FILES if name != "palate.ops._topk_triton_kernels"]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT.parent)},
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")

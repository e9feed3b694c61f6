"""Execute the notebooks of this folder top to bottom and store their outputs.

    pip install 'palate[notebook]'
    python examples/run_notebooks.py [NOTEBOOK ...]

A cell that fails stops the run, and the file stays as it was.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

HERE = Path(__file__).parent
# What differs from run to run and tells a reader nothing.
VOLATILE = ("execution", "collapsed", "scrolled")


def run_notebook(path: Path, timeout: int = 900) -> float:
    """Execute one notebook in place and return the seconds it took.

    Parameters
    ----------
    path : Path
    timeout : int, default=900
        Seconds that a cell may take.
    """
    import nbformat
    from nbclient import NotebookClient

    started = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=timeout, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    for cell in notebook.cells:
        for name in VOLATILE:
            cell.metadata.pop(name, None)
    notebook.metadata.pop("language_info", None)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    return time.perf_counter() - started


def main() -> None:
    """Run the notebooks that are named, or all of this folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for path in parser.parse_args().notebooks or sorted(HERE.glob("*.ipynb")):
        print(f"{path.name}: {run_notebook(path):.0f} s", flush=True)


if __name__ == "__main__":
    main()

"""Optional dependencies: imported when used, with the pip line in the error."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, *, extra: str, purpose: str = "") -> ModuleType:
    """Import an optional dependency, or say how to install it.

    Parameters
    ----------
    module : str
        The module's import name, dots allowed.
    extra : str
        The extra of palate that installs it.
    purpose : str, default=""
        What it is needed for, named in the error.

    Returns
    -------
    ModuleType
        The imported module.

    Raises
    ------
    ImportError
        If the module is not installed.

    Examples
    --------
    >>> require("json", extra="none").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.split(".")[0]
        what = f"{purpose} needs" if purpose else "This needs"
        raise ImportError(
            f"{what} the package {top!r}, which is not installed. "
            f"Install it with: pip install 'palate[{extra}]'"
        ) from error

"""What can be set from outside, by environment variables that start with PALATE_."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Limits and places of one service; ``PALATE_MAX_K=50`` sets `max_k`.

    Attributes
    ----------
    state : Path
        Folder that holds ``models/`` and ``events/``. Only one process may serve from it.
    device : str
        Where the model runs: ``"cpu"``, ``"cuda"`` or ``"auto"``.
    threads : int
        Threads of torch; 0 leaves torch's own choice.
    max_body_bytes : int
        A larger request body is refused with 413.
    max_k, max_users, max_events, max_items : int
        Most items a list, queries a call of /recommend, events a call of /observe and items a
        call of /items; more is refused with 422.
    max_waiting : int
        Queries, and changes, that may wait for their turn; more is refused with 503.
    max_batch : int
        Waiting queries, and changes, that are worked off together.
    save_seconds : float
        A model with unsaved events is saved this often; 0 saves only on POST /save.
    keep_versions : int
        Saved versions that stay, with the part of the log that each of them needs.
    """

    state: Path = Path("state")
    device: str = "cpu"
    threads: int = 0
    max_body_bytes: int = 1_000_000
    max_k: int = 100
    max_users: int = 100
    max_events: int = 1_000
    max_items: int = 100
    max_waiting: int = 512
    max_batch: int = 32
    save_seconds: float = 600.0
    keep_versions: int = 2

    def __post_init__(self) -> None:
        for name in ("threads", "save_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0; got {getattr(self, name)}.")
        positive = [f.name for f in dataclasses.fields(self) if f.name.startswith("max_")]
        for name in (*positive, "keep_versions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}.")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings that `env` names; the others keep their defaults.

        Examples
        --------
        >>> Settings.from_env({"PALATE_MAX_K": "50"}).max_k
        50
        """
        given: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            name = f"PALATE_{field.name.upper()}"
            if name not in env:
                continue
            kind: Any = Path if field.name == "state" else type(field.default)
            try:
                given[field.name] = kind(env[name])
            except ValueError as error:
                must = f"{name} must be of type {kind.__name__}"
                raise ValueError(f"{must}; got {env[name]!r}.") from error
        return cls(**given)

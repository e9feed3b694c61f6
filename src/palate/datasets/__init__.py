"""Real data: one set ships with palate, others are fetched with a checksum or read from a folder.

Every loader returns a `Dataset`: ``interactions`` (``user_id``, ``item_id``, ``timestamp`` in
seconds since 1970-01-01, and what else the source has), ``items`` (``item_id``, ``title``,
``text``, ...), ``description``, ``licence`` and ``citation``.
"""

from __future__ import annotations

from palate.datasets.dataset import Dataset
from palate.datasets.download import fetch_archive, fetch_files, get_data_home
from palate.datasets.folder import read_folder
from palate.datasets.movielens import fetch_movielens
from palate.datasets.movietweetings import fetch_movietweetings
from palate.datasets.online_retail import load_online_retail

__all__ = [
    "Dataset",
    "fetch_archive",
    "fetch_files",
    "fetch_movielens",
    "fetch_movietweetings",
    "get_data_home",
    "load_online_retail",
    "read_folder",
]

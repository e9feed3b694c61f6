"""Put a saved model into the state folder of a service: ``publish.py MODEL STATE``.

Run it as ``python -m service.publish`` from the folder above, then let the service reload.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from service.model_store import ModelStore, StoreError, Version


def publish(model: Path, state: Path, watermark: int | None = None) -> Version:
    """Copy a saved model in as the version to serve.

    Parameters
    ----------
    model : Path
        What ``Recommender.save`` wrote.
    state : Path
        The service's folder.
    watermark : int, default=None
        The last change of the service's log whose events the model was trained with: the
        ``sequence`` that /observe answered. Not needed for the first model of a service.
    """
    store = ModelStore(state / "models")
    if watermark is None:
        if store.versions():
            raise StoreError(
                "watermark must be given: the service has a log, and the model holds a part of it."
            )
        watermark = 0

    def copy(folder: Path) -> None:
        shutil.copytree(model, folder)

    return store.publish(copy, watermark)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--watermark", type=int, help="the last change that the model holds")
    options = parser.parse_args()
    version = publish(options.model, options.state, options.watermark)
    print(f"version {version.name} is current")


if __name__ == "__main__":
    main()

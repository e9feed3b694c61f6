"""Write the parquet files that ship with palate, from a folder with the filtered tables.

Run ``python -m palate.datasets._build_online_retail FOLDER``, where FOLDER holds
``interactions.parquet`` and ``items.parquet`` of Online Retail II after the rules that
`palate.datasets.online_retail.DESCRIPTION` states.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

logger = logging.getLogger(__name__)

TARGET = Path(__file__).parent / "files" / "online_retail"
SCHEMAS = {
    "interactions.parquet": pa.schema(
        [
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("timestamp", pa.int64()),
            ("invoice", pa.string()),
            ("quantity", pa.int32()),
            ("price", pa.float64()),
        ]
    ),
    "items.parquet": pa.schema(
        [("item_id", pa.string()), ("title", pa.string()), ("text", pa.string())]
    ),
}


def build(folder: Path, target: Path = TARGET) -> None:
    """Rewrite the tables of `folder` into `target`: plain types, dictionary codes, zstd.

    Parameters
    ----------
    folder : Path
        Holds ``interactions.parquet`` and ``items.parquet``; rows keep their order.
    target : Path, default=the package's own folder
        Where the files go.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name, schema in SCHEMAS.items():
        table = pq.read_table(folder / name, columns=schema.names).cast(schema)
        # Without the schema's pandas notes the bytes depend on the data alone.
        table = table.replace_schema_metadata(None)
        pq.write_table(
            table, target / name, compression="zstd", compression_level=19, use_dictionary=True
        )
        logger.info("%s: %d rows, %d bytes", name, len(table), (target / name).stat().st_size)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder)

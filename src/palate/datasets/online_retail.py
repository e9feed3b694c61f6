"""UCI Online Retail II, first year: the data set that ships with palate."""

from __future__ import annotations

from importlib import resources

import pyarrow as pa
import pyarrow.parquet as pq

from palate.datasets.dataset import Dataset, check_as_frame, convert

LICENCE = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
CITATION = (
    "Chen, D. (2019). Online Retail II [Dataset]. UCI Machine Learning Repository. "
    "https://doi.org/10.24432/C5CG6D"
)
DESCRIPTION = """\
Purchases from a British online shop for gifts, many of them by wholesalers, from 2009-12-01 to
2010-12-09: 406,323 order lines of 4,285 customers over 4,006 products.

Made from the sheet "Year 2009-2010" of Online Retail II (525,461 rows). Dropped: rows without a
customer, cancellations (invoices that start with C), quantities of 0 or less, and stock codes that
do not start with five digits (postage, fees, adjustments). The columns Description and Country are
left out of the order lines; each product keeps one description.

interactions: user_id (customer), item_id (stock code), timestamp (seconds since 1970-01-01, in the
shop's clock time, to the minute), invoice, quantity (units), price (pounds a unit). Rows are
grouped by customer and in time order. All lines of an invoice share their time, and a third of the
rows repeat an earlier purchase of the same product by the same customer.

items: item_id, title (the description as printed, in capitals), text (the same in small letters).
"""


def load_online_retail(*, as_frame: str = "pandas") -> Dataset:
    """Load a year of orders of a British gift shop; nothing is downloaded.

    Parameters
    ----------
    as_frame : {"pandas", "polars", "pyarrow"}, default="pandas"
        Library of the tables.

    Returns
    -------
    Dataset
        406,323 interactions of 4,285 users, 4,006 items; ``description`` says which rows of the
        source were dropped. Data by Daqing Chen, CC BY 4.0: keep ``citation`` with copies.

    Raises
    ------
    InvalidParameterError
        If `as_frame` is unknown.

    Examples
    --------
    >>> retail = load_online_retail()
    >>> retail
    <Dataset online-retail-2010: 406,323 interactions, 4,006 items>
    >>> list(retail.interactions.columns)
    ['user_id', 'item_id', 'timestamp', 'invoice', 'quantity', 'price']
    """
    check_as_frame(as_frame)
    return Dataset(
        name="online-retail-2010",
        interactions=convert(_read("interactions.parquet"), as_frame),
        items=convert(_read("items.parquet"), as_frame),
        description=DESCRIPTION,
        licence=LICENCE,
        citation=CITATION,
    )


def _read(name: str) -> pa.Table:
    source = resources.files("palate.datasets") / "files" / "online_retail" / name
    return pq.read_table(pa.BufferReader(source.read_bytes()))

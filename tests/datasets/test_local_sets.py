"""The data set that ships with palate, and folders of parquet files."""

from __future__ import annotations

from importlib import resources

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.datasets import load_online_retail, read_folder
from palate.datasets._build_online_retail import build
from palate.exceptions import InvalidInputError, InvalidParameterError

# The shipped data


@pytest.fixture(scope="module")
def retail():
    """The shipped tables, read once."""
    return load_online_retail()


def test_the_counts_that_the_description_states(retail):
    events, items = retail.interactions, retail.items
    assert len(events) == 406_323
    assert "406,323" in retail.description
    assert events["user_id"].nunique() == 4_285
    assert "4,285" in retail.description
    assert events["item_id"].nunique() == len(items) == 4_006
    assert "4,006" in retail.description
    assert set(events["item_id"]) == set(items["item_id"])
    assert items["item_id"].is_unique
    times = pd.to_datetime(events["timestamp"], unit="s")
    assert times.min() == pd.Timestamp("2009-12-01 07:45")
    assert times.max() == pd.Timestamp("2010-12-09 20:01")
    repeats = events.duplicated(["user_id", "item_id"]).mean()
    assert repeats == pytest.approx(0.326, abs=5e-4)


def test_the_rules_by_which_rows_were_dropped(retail):
    events = retail.interactions
    assert (events["quantity"] > 0).all()
    assert (events["price"] >= 0).all()
    assert events["invoice"].str.fullmatch(r"\d{6}").all()
    assert events["item_id"].str.match(r"\d{5}").all()
    assert not events.isna().any().any()
    assert not retail.items.isna().any().any()
    assert (events["timestamp"] % 60 == 0).all()


def test_rows_are_grouped_by_customer_and_in_time_order(retail):
    events = retail.interactions
    starts = events["user_id"].ne(events["user_id"].shift())
    assert starts.sum() == 4_285
    assert (events["timestamp"].diff()[~starts] >= 0).all()


def test_texts_are_words(retail):
    texts = retail.items.set_index("item_id")["text"]
    assert texts["85123A"] == "white hanging heart t-light holder"
    assert (texts.str.len() > 0).all()
    assert (texts == texts.str.lower()).all()


def test_attribution_and_size(retail):
    assert "Chen, D. (2019)" in retail.citation
    assert "10.24432/C5CG6D" in retail.citation
    assert retail.licence.startswith("CC BY 4.0")
    folder = resources.files("palate.datasets") / "files" / "online_retail"
    sizes = {path.name: len(path.read_bytes()) for path in folder.iterdir()}
    assert set(sizes) == {"interactions.parquet", "items.parquet", "LICENCE.md"}
    assert sum(sizes.values()) < 4_000_000


def test_every_kind_of_table_has_the_same_cells(retail):
    for as_frame, kind in [("polars", pl.DataFrame), ("pyarrow", pa.Table)]:
        other = load_online_retail(as_frame=as_frame)
        assert type(other.interactions) is kind
        assert type(other.items) is kind
        back = pa.table(other.interactions) if as_frame == "polars" else other.interactions
        pd.testing.assert_frame_equal(back.to_pandas(), retail.interactions, check_dtype=False)
    with pytest.raises(InvalidParameterError) as error:
        load_online_retail(as_frame="dask")
    assert str(error.value) == (
        "as_frame must be one of 'pandas', 'polars', 'pyarrow'; got 'dask'."
    )


def test_the_build_gives_the_shipped_bytes_again(tmp_path, retail):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    # An extra column and wide types, as a source folder has them.
    wide = retail.interactions.astype({"quantity": "int64"}).assign(country="UK")
    wide.to_parquet(source / "interactions.parquet")
    retail.items.to_parquet(source / "items.parquet")
    build(source, target)
    shipped = resources.files("palate.datasets") / "files" / "online_retail"
    for name in ["interactions.parquet", "items.parquet"]:
        with (shipped / name).open("rb") as stream:
            assert pq.read_table(target / name).equals(pq.read_table(stream))
        assert pq.read_schema(target / name).metadata is None


# Folders


def write(folder, **tables):
    folder.mkdir()
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


EVENTS = {"user_id": ["b", "a", "b"], "item_id": [3, 5, 3], "timestamp": [9, 8, 7]}


def test_read_folder_keeps_rows_and_columns(tmp_path):
    items = {"item_id": [5, 3], "title": ["five", "three"], "year": [1999, 2001]}
    folder = write(tmp_path / "my=set", interactions=EVENTS, items=items)
    (folder / "SOURCE.md").write_text("Où?", encoding="utf-8")
    data = read_folder(str(folder))
    assert data.interactions.to_dict("list") == EVENTS
    assert data.items.to_dict("list") == items
    assert (data.name, data.description, data.licence) == ("my=set", "Où?", "")
    assert read_folder(folder, as_frame="polars").items.to_dict(as_series=False) == items
    assert read_folder(folder, as_frame="pyarrow").items.to_pydict() == items


def test_read_folder_without_items(tmp_path):
    data = read_folder(write(tmp_path / "set", interactions=EVENTS))
    assert data.items is None
    assert data.description == ""
    assert repr(data) == "<Dataset set: 3 interactions, no item table>"


def test_read_folder_errors(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_folder(tmp_path)
    assert str(error.value) == (
        f"path must be a folder that holds interactions.parquet; got '{tmp_path}'."
    )
    folder = write(tmp_path / "set", interactions=EVENTS, items={"id": [5], "title": ["five"]})
    with pytest.raises(InvalidInputError) as error:
        read_folder(folder)
    assert str(error.value) == (
        "items.parquet must have a column 'item_id'; its columns are 'id', 'title'."
    )

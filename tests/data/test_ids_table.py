import datetime
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from palate.data.ids_table import read_ids, write_ids
from palate.data.tagged_ids import tag, untag
from palate.data.vocabulary import as_id_array
from palate.exceptions import PersistenceError

STAMP = datetime.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)

ARRAYS = {
    "int8": np.array([3, -1], np.int8),
    "uint64": np.array([2**63 + 1, 0], np.uint64),
    "float32": np.array([0.1, 2.5], np.float32),
    "bool": np.array([True, False]),
    "days": np.array(["2020-01-02", "1999-01-01"], "M8[D]"),
    "nanoseconds": np.array(["2020-01-02T03:04:05.123456789"], "M8[ns]"),
    "str": as_id_array(["b", "", "ü", "a,b\n"]),
    "mixed": as_id_array([1, "1", 1.5, True, b"\x00\xff"]),
    "uuid": as_id_array([uuid.UUID(int=5), uuid.UUID(int=2**100)]),
    "datetime": as_id_array([STAMP, STAMP.replace(tzinfo=None)]),
    "date": as_id_array([datetime.date(2020, 1, 2)]),
    "big": as_id_array([2**80, -(2**70)]),
    "none": np.empty(0, dtype=object),
    "no int": np.empty(0, dtype=np.int32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_ids_come_back_in_their_types(tmp_path, name):
    ids = ARRAYS[name]
    path = tmp_path / "ids.parquet"
    written = write_ids(path, ids)
    back, content = read_ids(path, written)
    assert back.dtype == ids.dtype
    np.testing.assert_array_equal(back, ids)
    assert [type(v) for v in back] == [type(v) for v in ids]
    assert content.shape == (len(ids), 0)


def test_content_is_kept_beside(tmp_path):
    content = pd.DataFrame({"id": ["x", None], "tags": [["a"], ["b", "c"]], "price": [1, 2]})
    path = tmp_path / "items.parquet"
    ids, back = read_ids(path, write_ids(path, np.array([7, 8]), content))
    assert ids.tolist() == [7, 8]
    assert list(back.columns) == ["id", "tags", "price"]
    assert back["id"][0] == "x"
    assert pd.isna(back["id"][1])
    assert [list(tags) for tags in back["tags"]] == [["a"], ["b", "c"]]
    assert back["price"].tolist() == [1, 2]


def test_content_of_no_columns(tmp_path):
    path = tmp_path / "items.parquet"
    ids, back = read_ids(path, write_ids(path, as_id_array(["a"]), pd.DataFrame(index=[0])))
    assert ids.tolist() == ["a"]
    assert back.shape == (1, 0)


def test_numpy_scalars_are_their_plain_values(tmp_path):
    path = tmp_path / "ids.parquet"
    ids = as_id_array([np.int64(4), "a", np.str_("b")])
    back, _ = read_ids(path, write_ids(path, ids))
    assert [(type(v), v) for v in back] == [(int, 4), (str, "a"), (str, "b")]


def test_other_types_cannot_be_written(tmp_path):
    with pytest.raises(PersistenceError) as error:
        write_ids(tmp_path / "ids.parquet", as_id_array(["a", 1j]))
    assert str(error.value) == (
        "ids must be of type str, bool, int, float, bytes, uuid, datetime, timestamp, decimal, "
        "date to be saved; "
        "got 1j of type complex."
    )


def test_times_with_a_zone_and_decimals_come_back(tmp_path):
    path = tmp_path / "ids.parquet"
    times = pd.DatetimeIndex(
        ["2024-01-01 12:00:00.000000001", "2024-07-01 00:00:00.000000000"]
    ).tz_localize("Europe/Berlin")
    ids = as_id_array([*times, times[1].tz_localize(None), Decimal("1.50")])
    back, _ = read_ids(path, write_ids(path, ids))
    assert [repr(value) for value in back] == [repr(value) for value in ids]


def test_a_zone_without_a_name_that_is_known_keeps_its_offset():
    zone = datetime.timezone(datetime.timedelta(hours=1), "my zone")
    time = pd.Timestamp("2024-01-01", tz=zone)
    assert untag(tag(time)) == time
    assert untag(tag(time)).utcoffset() == datetime.timedelta(hours=1)

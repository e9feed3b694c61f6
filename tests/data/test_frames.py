import datetime
import time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from palate.data.checks import check_ids, check_times
from palate.data.coded import sortable_times
from palate.data.frames import is_frame, make_frame, native_namespace, open_frame, read_events
from palate.exceptions import InvalidInputError

LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}


@pytest.fixture(params=LIBRARIES)
def make(request):
    return LIBRARIES[request.param]


def table(make, **columns):
    return make({"user_id": ["a", "b", "a"], "item_id": [7, 8, 9], **columns})


def message(call, *args):
    with pytest.raises(InvalidInputError) as error:
        call(*args)
    return str(error.value)


def test_columns_are_read_in_the_given_order(make):
    events = read_events(table(make, timestamp=[3, 1, 2], weight=[1.0, 0.0, 2.5], other=[0, 0, 0]))
    assert len(events) == 3
    assert events.user_id.tolist() == ["a", "b", "a"]
    assert [type(v) for v in events.user_id] == [str, str, str]
    assert events.item_id.dtype == np.int64
    assert events.item_id.tolist() == [7, 8, 9]
    assert events.timestamp.tolist() == [3, 1, 2]
    assert events.weight.dtype == np.float32
    assert events.weight.tolist() == [1.0, 0.0, 2.5]


def test_time_and_weight_may_be_absent(make):
    events = read_events(table(make))
    assert events.timestamp is None
    assert events.weight is None


def test_datetime_is_another_name_of_the_time_column(make):
    assert read_events(table(make, datetime=[3, 1, 2])).timestamp.tolist() == [3, 1, 2]
    both = table(make, datetime=[3, 1, 2], timestamp=[4, 5, 6])
    assert read_events(both).timestamp.tolist() == [4, 5, 6]


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.int32, np.float32])
def test_id_dtypes_come_in_and_go_out(make, dtype):
    ids = np.array([7, 8, 9], dtype)
    events = read_events(make({"user_id": ids, "item_id": ids}))
    assert events.user_id.dtype == dtype
    frame = make({"user_id": ids})
    back = make_frame({"item_id": events.item_id}, native_namespace(frame))
    assert type(back) is type(frame)
    assert read_events(make({"user_id": ids, "item_id": back["item_id"]})).item_id.dtype == dtype


def test_a_table_of_every_library_goes_out(make):
    library = native_namespace(table(make))
    day = np.array(["2020-01-02", "2020-01-03"], "M8[D]")
    strings = np.array(["x", "y"], object)
    columns = {"a": np.array([1, 2], np.int32), "b": strings, "c": day, "d": np.float32([1, 2])}
    frame = make_frame(columns, library)
    assert type(frame) is type(table(make))
    read = open_frame(frame)
    assert read.columns == ["a", "b", "c", "d"]
    assert read["a"].to_numpy().dtype == np.int32
    assert read["b"].to_list() == ["x", "y"]
    np.testing.assert_array_equal(read["c"].to_numpy().astype("M8[D]"), day)
    assert read["d"].to_numpy().dtype == np.float32


def test_an_empty_table_keeps_its_types(make):
    columns = {"user_id": np.empty(0, object), "rank": np.empty(0, np.int64)}
    read = open_frame(make_frame(columns, native_namespace(table(make))))
    assert read.shape == (0, 2)
    assert str(read.schema["user_id"]) in ("String", "Object")
    assert str(read.schema["rank"]) == "Int64"


def test_ids_in_categories_and_lazy_tables_and_dates():
    frame = pl.DataFrame({"user_id": ["a"], "item_id": pl.Series(["x"], dtype=pl.Categorical)})
    assert read_events(frame.lazy()).item_id.tolist() == ["x"]
    assert is_frame(frame.lazy())
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": pd.Categorical(["y", "x"])})
    assert read_events(frame).item_id.tolist() == ["y", "x"]
    words = pa.array(["p", "q"]).dictionary_encode()
    assert read_events(pa.table({"user_id": [1, 2], "item_id": words})).item_id.tolist() == [*"pq"]
    days = [datetime.date(2020, 5, 6)]
    events = read_events(pl.DataFrame({"user_id": days, "item_id": [1]}))
    out = make_frame({"user_id": events.user_id}, pl)
    assert out["user_id"].to_list() == days
    assert out.schema["user_id"] == pl.Date


@pytest.mark.parametrize("zone", ["UTC", "US/Eastern"])
@pytest.mark.parametrize("unit", ["s", "ns"])
def test_times_with_a_zone_are_instants(zone, unit):
    stamps = pd.Series(pd.to_datetime(["2020-01-01 12:00", "2019-07-01 11:00"])).dt.as_unit(unit)
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4]})
    frame["timestamp"] = stamps.dt.tz_localize(zone)
    right = [int(stamp.timestamp()) * 10**9 for stamp in frame["timestamp"]]
    for given in (frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        assert sortable_times(read_events(given).timestamp).tolist() == right
    objects = frame.assign(timestamp=frame["timestamp"].astype(object))
    assert sortable_times(read_events(objects).timestamp).tolist() == right
    texts = frame.assign(timestamp=[stamp.isoformat() for stamp in frame["timestamp"]])
    for given in (texts, pl.from_pandas(texts), pa.Table.from_pandas(texts)):
        assert sortable_times(read_events(given).timestamp).tolist() == right


def test_numbers_in_an_object_column_keep_their_fractions():
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4]})
    frame["timestamp"] = np.array([0.25, 0.125], dtype=object)
    assert read_events(frame).timestamp.tolist() == [0.25, 0.125]


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "int64[pyarrow]"])
def test_nullable_columns_of_pandas(dtype):
    values = pd.array([5, 3], dtype=dtype)
    events = read_events(pd.DataFrame({"user_id": values, "item_id": values, "timestamp": values}))
    assert events.user_id.tolist() == [5, 3]
    assert events.timestamp.tolist() == [5, 3]


def test_arrays_are_read_by_position():
    events = read_events(np.array([[1, 10, 7], [2, 20, 6]]))
    assert events.user_id.tolist() == [1, 2]
    assert events.item_id.tolist() == [10, 20]
    assert events.timestamp.tolist() == [7, 6]
    mixed = np.array([["u", 1, 2.5], ["v", "x", 1]], dtype=object)
    events = read_events(mixed)
    assert events.user_id.tolist() == ["u", "v"]
    assert events.item_id.tolist() == [1, "x"]
    assert events.timestamp.tolist() == [2.5, 1.0]
    words = read_events(np.array([["u", "i"]]))
    assert [type(v) for v in (*words.user_id, *words.item_id)] == [str, str]
    assert words.timestamp is None


def test_what_is_no_table_of_events():
    assert message(read_events, np.zeros((4, 1))) == (
        "X must be a table with the columns 'user_id' and 'item_id', or an array of shape "
        "(n_events, 2 or more); got ndarray of shape (4, 1)."
    )
    assert message(open_frame, {"a": [1]}, "items") == (
        "items must be a pandas, polars or pyarrow table; got dict."
    )
    assert native_namespace([["a"]]) is pd
    assert not is_frame([["a"]])


def test_an_absent_column_is_named_with_those_there_are(make):
    assert message(read_events, make({"user_id": [1], "item": [2]}), "X_test") == (
        "X_test must have a column 'item_id'; its columns are 'user_id', 'item'."
    )


def test_missing_values_are_named_by_row(make):
    assert message(read_events, make({"user_id": ["a", None], "item_id": [2, 3]})).startswith(
        "column 'user_id' of X must have no missing values; row 1 is "
    )
    assert message(read_events, table(make, timestamp=[1.5, None, 2.5])) == (
        "column 'timestamp' of X must have no missing values; row 1 is nan."
    )
    days = [datetime.datetime(2020, 1, 1), None, None]
    assert message(read_events, table(make, timestamp=days)) == (
        "column 'timestamp' of X must have no missing values; row 1 is NaT."
    )


def test_missing_number_ids_are_shown_plainly():
    for frame in (pl.DataFrame, pa.table):
        assert message(read_events, frame({"user_id": [1, None], "item_id": [2, 3]})) == (
            "column 'user_id' of X must have no missing values; row 1 is nan."
        )


@pytest.mark.filterwarnings("ignore:Could not infer format")
def test_times_of_another_kind_are_refused(make):
    assert message(read_events, table(make, timestamp=["soon", "later", "x"])) == (
        "column 'timestamp' of X must hold numbers or datetimes; row 0 is 'soon'."
    )


def test_times_of_an_array_of_words_are_refused():
    assert message(read_events, np.array([["u", "i", "now"]])) == (
        "column 'timestamp' of X must hold numbers or datetimes; its type is <U3."
    )


def test_dates_that_nanoseconds_cannot_hold_are_refused_and_not_wrapped():
    frame = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2]}).with_columns(
        timestamp=pl.Series([datetime.datetime(2020, 1, 1), datetime.datetime(9999, 12, 31)])
    )
    assert message(read_events, frame) == (
        "column 'timestamp' of X must hold datetimes between 1678 and 2261; "
        "row 1 is 9999-12-31T00:00:00.000000."
    )


@pytest.mark.parametrize(
    ("weights", "row"), [([1.0, -0.5, 2.0], "row 1 is -0.5"), ([1.0, 2.0, np.inf], "row 2 is inf")]
)
def test_weights_must_be_finite_and_not_negative(make, weights, row):
    assert message(read_events, table(make, weight=weights)) == (
        f"column 'weight' of X must hold finite numbers of at least 0; {row}."
    )


def test_weights_must_be_numbers(make):
    assert message(read_events, table(make, weight=["much", "little", "none"])) == (
        "column 'weight' of X must hold numbers; its type is object."
    )


def test_a_long_text_among_times_is_refused_at_once():
    # Read by a pattern that begins anywhere, each T would be tried against all that follows.
    times = np.array(["T" * 50_000], dtype=object)
    started = time.process_time()
    with pytest.raises(InvalidInputError, match="must hold numbers or datetimes; row 0 is 'TTT"):
        check_times(times, "X")
    assert time.process_time() - started < 5


def test_durations_that_nanoseconds_do_not_reach_are_refused():
    times = np.array([1, 2, 10**10], "m8[s]")
    with pytest.raises(InvalidInputError) as error:
        check_times(times, "X")
    assert str(error.value) == (
        "column 'timestamp' of X must hold durations below 2**63 nanoseconds; row 2 is "
        "10000000000 seconds."
    )


@pytest.mark.parametrize("kind", [np.float16, np.longdouble])
def test_ids_of_floats_that_no_index_holds_are_doubles(kind):
    ids = check_ids(np.array([1.5, 2.0], kind), "user_id")
    assert ids.dtype == np.float64
    assert ids.tolist() == [1.5, 2.0]

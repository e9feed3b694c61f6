"""New values of an item column are of the type of the old ones, or refused."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from palate.data.alike import as_before, is_writable, of_one_type
from palate.exceptions import InvalidInputError

DAY = datetime.date(2024, 1, 1)
HOURS = pd.Series(pd.to_timedelta([1], "h"))
DAYS = pd.Series(pd.date_range("2024-01-01", periods=2))
MUST = "column 'c' of items must hold values like those of the items learned before, such as "


def objects(*values):
    return pd.Series(list(values), dtype=object)


@pytest.mark.parametrize(
    ("old", "new", "right"),
    [
        (DAYS, objects("2024-05-01", None), [pd.Timestamp("2024-05-01"), pd.NaT]),
        (DAYS, objects(datetime.date(2024, 5, 1)), [pd.Timestamp("2024-05-01")]),
        (DAYS, DAYS.dt.tz_localize("Europe/Berlin")[:1], [pd.Timestamp("2023-12-31 23:00")]),
        (
            DAYS.dt.tz_localize("Europe/Berlin"),
            objects("2024-05-01T00:00Z"),
            [pd.Timestamp("2024-05-01 02:00", tz="Europe/Berlin")],
        ),
        (pd.Series(pd.to_timedelta([1], "s")), objects(None), [pd.NaT]),
        (pd.Series([1, 2]), objects(Decimal("1.5"), None), [1.5, np.nan]),
        (pd.Series([1.0]), pd.Series([3]), [3]),
        (objects("a", None), objects(None, "b"), [None, "b"]),
        (objects(["a"], []), objects(["b"], None), [["b"], None]),
        # Nothing says what a column without a value, or of several types, may hold.
        (objects(None), objects(5), [5]),
        (objects("a", None), objects(5, 0.5, 7.0, "b"), ["5", "0.5", "7", "b"]),
        (objects(["a"], []), objects("b", {"d", "c"}, 3, []), [["b"], ["c", "d"], ["3"], []]),
        (objects(Decimal("1.5")), objects(2.25, None, 3), [Decimal("2.25"), None, Decimal(3)]),
        (
            objects(datetime.date(2024, 1, 1)),
            objects("2024-05-01", pd.Timestamp("2024-06-01")),
            [datetime.date(2024, 5, 1), datetime.date(2024, 6, 1)],
        ),
        (objects(True, None), objects(False), [False]),
        (
            DAYS,
            objects("2024-05-01", "2024-05-01T10:00"),
            [pd.Timestamp("2024-05-01"), pd.Timestamp("2024-05-01 10:00")],
        ),
    ],
)
def test_what_fits_is_of_the_old_type(old, new, right):
    found = as_before(old, new, "c")
    pd.testing.assert_series_equal(
        found.reset_index(drop=True),
        pd.Series(right, dtype=object if old.dtype == object else None),
        check_dtype=False,
        check_names=False,
    )
    if old.dtype != object and new.dtype == object:
        assert found.dtype.kind == (old.dtype.kind if old.dtype.kind in "Mm" else "f")


@pytest.mark.parametrize(
    ("old", "new", "rest"),
    [
        (DAYS, objects("2024-05-01", "soon"), f"{DAYS[0]!r}; row 1 holds 'soon'."),
        (DAYS, pd.Series([5]), f"{DAYS[0]!r}; row 0 holds 5."),
        (pd.Series([1, 2]), objects(None, "unknown"), "1; row 1 holds 'unknown'."),
        (DAYS, objects("01/02/2024"), f"{DAYS[0]!r}; row 0 holds '01/02/2024'."),
        (DAYS, objects("today"), f"{DAYS[0]!r}; row 0 holds 'today'."),
        (
            pd.Series(pd.to_timedelta([1], "s")),
            objects("5"),
            "Timedelta('0 days 00:00:01'); row 0 holds '5'.",
        ),
        (objects("a"), objects("b", ["c"]), "'a'; row 1 holds ['c']."),
        (objects([1]), objects([2], ["x"]), "[1]; row 1 holds ['x']."),
        (objects(True), objects("yes"), "True; row 0 holds 'yes'."),
        (
            objects(datetime.date(2024, 1, 1)),
            objects("soon"),
            "datetime.date(2024, 1, 1); row 0 holds 'soon'.",
        ),
        (pd.Series([0.5]), objects(10**400), "0.5; row 0 holds 1000000000"),
    ],
)
def test_what_no_file_could_hold_beside_the_old_is_refused(old, new, rest):
    with pytest.raises(InvalidInputError) as caught:
        as_before(old, new, "c")
    assert str(caught.value).startswith(MUST + rest)


def test_an_empty_column_may_be_filled_with_anything():
    found = as_before(pd.Series([np.nan, np.nan]), objects("hand made", None), "c")
    assert found.tolist() == ["hand made", None]


def test_a_column_of_one_type_is_left_alone():
    for cells in (["a", None, "b"], [["a"], ["b", "c"], None], [np.zeros(3), np.ones(3), None]):
        column = objects(*cells)
        assert of_one_type(column) is column


def test_a_column_of_several_types_becomes_one():
    nothing = [None, np.nan, pd.NA]
    made = of_one_type(objects({"b", "a"}, "c", [], ("d", 2.0), np.array(["e"]), *nothing))
    assert made.tolist() == [["a", "b"], ["c"], [], ["d", "2"], ["e"], None, None, None]
    assert of_one_type(objects([1, 2.5], (3,), 4)).tolist() == [[1, 2.5], [3], [4]]
    assert of_one_type(objects("a", 7.0, np.nan, True)).tolist()[:2] == ["a", "7"]


def test_decimals_and_whole_numbers_are_decimals():
    mixed = of_one_type(objects(Decimal("1.5"), 1, None))
    assert mixed.tolist() == [Decimal("1.5"), Decimal(1), None]
    assert {type(value) for value in mixed[:2]} == {Decimal}


def test_texts_beside_bytes_cannot_be_written():
    assert not is_writable(objects(b"a", "a"))
    assert not is_writable(objects([b"a"], ["a"]))
    assert is_writable(objects(b"a", None))


def test_lists_of_times_are_lists_whatever_a_file_makes_of_them():
    day = pd.Timestamp("2024-01-01")
    read = of_one_type(objects(np.array([day.to_datetime64()]), None))
    assert read.tolist() == [[day], None]
    assert as_before(read, objects([day]), "c").tolist() == [[day]]


def test_lists_of_arrow_are_objects():
    column = pd.Series([["a"], ["b"]], dtype=pd.ArrowDtype(pa.list_(pa.string())))
    assert of_one_type(column).dtype == object


def test_arrays_are_taken_as_they_are():
    array = np.ones(3)
    assert as_before(objects(np.zeros(3)), objects(array), "c")[0] is array


def test_empty_lists_say_nothing_of_what_others_hold():
    old = objects(*[[]] * 1_200, ["x"])
    assert as_before(old, objects([5], "y"), "c").tolist() == [["5"], ["y"]]
    assert as_before(old[:9], objects("y"), "c").tolist() == [["y"]]


def test_a_column_of_kinds_without_a_rule_takes_its_own():
    old = objects(DAY, pd.Timestamp("2024-01-02 05:00"))
    assert as_before(old, old, "c") is old


def test_the_first_row_that_does_not_fit_is_named():
    old, new = objects(*[{"a": 1}] * 9), objects(*[{"a": 2}] * 700, "z", *[{"a": 3}] * 200)
    with pytest.raises(InvalidInputError, match=r"row 700 holds 'z'\.$"):
        as_before(old, new, "c")

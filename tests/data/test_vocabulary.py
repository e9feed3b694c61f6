import datetime
import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.vocabulary import Vocabulary, as_id_array
from palate.exceptions import InvalidInputError

DAY = np.timedelta64(1, "D")


def many(kind, n):
    """Return `n` distinct ids of one kind, in no sorted order."""
    order = np.random.default_rng(0).permutation(n)
    if kind == "int32":
        return order.astype(np.int32)
    if kind == "uint64":
        return order.astype(np.uint64) + np.uint64(2**63)
    if kind == "float":
        return order + 0.5
    if kind == "datetime":
        return np.datetime64("2020-01-01", "ns") + order * DAY
    make = {
        "str": str,
        "mixed": lambda i: i if i % 2 else f"id{i}",
        "uuid": lambda i: uuid.UUID(int=int(i)),
        "date": lambda i: datetime.date(2020, 1, 1) + datetime.timedelta(days=int(i)),
        "bytes": lambda i: str(i).encode(),
        "big": lambda i: 2**70 + int(i),
    }[kind]
    out = np.empty(n, dtype=object)
    out[:] = [make(i) for i in order.tolist()]
    return out


KINDS = ["int32", "uint64", "float", "datetime", "str", "mixed", "uuid", "date", "bytes", "big"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_id_goes_to_a_code_and_back(kind):
    ids = many(kind, 23)
    vocabulary = Vocabulary(ids[:20])
    np.testing.assert_array_equal(vocabulary.codes(ids), [*range(20), -1, -1, -1])
    np.testing.assert_array_equal(vocabulary.codes(list(ids[4:7])), [4, 5, 6])
    back = vocabulary.ids([[3, 0], [19, 3]])
    assert back.dtype == ids.dtype
    assert back.tolist() == [[ids[3], ids[0]], [ids[19], ids[3]]] or kind == "datetime"
    np.testing.assert_array_equal(back, ids[[[3, 0], [19, 3]]])


@pytest.mark.parametrize("kind", KINDS)
def test_growing_one_by_one_equals_growing_at_once(kind):
    # 40 base ids keep up to 5 in the tail; the sixth and those after merge into a new base.
    ids = many(kind, 60)
    at_once, one_by_one = Vocabulary(ids), Vocabulary(ids[:40])
    for end in range(40, 60):
        grown = one_by_one.extend(ids[end : end + 1])
        assert len(one_by_one) == end  # the old one does not change
        one_by_one = grown
        np.testing.assert_array_equal(one_by_one.codes(ids[: end + 1]), np.arange(end + 1))
        assert one_by_one.array.dtype == ids.dtype
        np.testing.assert_array_equal(one_by_one.array, ids[: end + 1])
    for value, right in zip(one_by_one.array.tolist(), at_once.array.tolist(), strict=True):
        assert type(value) is type(right)


def test_known_and_repeated_ids_get_no_second_code():
    vocabulary = Vocabulary().extend(as_id_array(["b", "a", "b"]))
    assert vocabulary.array.tolist() == ["b", "a"]
    assert vocabulary.extend(as_id_array(["a", "b"])) is vocabulary
    assert vocabulary.extend(as_id_array(["c", "a", "c", "d"])).array.tolist() == list("bacd")
    assert "a" in vocabulary
    assert "z" not in vocabulary
    assert Vocabulary().codes(["a"]).tolist() == [-1]
    assert vocabulary.codes([]).dtype == np.int64


def test_bools_stay_bools():
    vocabulary = Vocabulary().extend(np.array([True, False, True]))
    assert vocabulary.array.dtype == bool
    assert vocabulary.codes([False, True]).tolist() == [1, 0]


def test_integers_of_other_widths_are_the_same_id():
    vocabulary = Vocabulary(np.array([7, 5], np.int16))
    for kind in (np.int64, np.uint8, np.int32):
        assert vocabulary.codes(np.array([5, 6], kind)).tolist() == [1, -1]
    assert vocabulary.codes([5, 7]).tolist() == [1, 0]


def test_hashes_of_64_bits_survive_ids_given_as_plain_integers():
    big = 2**63 + 12345  # float64 would round it
    vocabulary = Vocabulary(np.array([big], np.uint64)).extend(as_id_array([3]))
    assert vocabulary.array.tolist() == [big, 3]
    assert vocabulary.codes([big, big + 1, 3]).tolist() == [0, -1, 1]
    assert as_id_array([2**64 - 1, -1]).tolist() == [2**64 - 1, -1]


def test_new_types_beside_old_ones():
    vocabulary = Vocabulary(np.arange(3)).extend(as_id_array(["0"]))
    assert vocabulary.array.tolist() == [0, 1, 2, "0"]
    assert vocabulary.codes([0, "0", "1"]).tolist() == [0, 3, -1]


def test_datetimes_are_found_in_every_form():
    stamp = pd.Timestamp("2021-03-04 05:06:07")
    vocabulary = Vocabulary(np.array([stamp.to_datetime64()]))
    for form in (stamp, stamp.to_pydatetime(), stamp.to_datetime64()):
        assert vocabulary.codes([form]).tolist() == [0]


def test_arrays_of_ids_keep_their_types():
    assert as_id_array(np.array(["a", "b"])).tolist() == ["a", "b"]
    assert {type(v) for v in as_id_array(np.array(["a", "b"]))} == {str}
    assert as_id_array(pd.Series([3, 4], dtype="int8")).dtype == np.int8
    assert as_id_array(pd.Index(["x"])).dtype == object
    assert [type(v) for v in as_id_array([1, 2.5, "c", None])] == [int, float, str, type(None)]


@pytest.mark.parametrize("bad", [["a"], {"a": 1}])
def test_ids_that_are_no_scalars_are_refused(bad):
    vocabulary = Vocabulary(as_id_array(["a"]))
    with pytest.raises(InvalidInputError) as error:
        vocabulary.codes([bad])
    kind = type(bad).__name__
    assert str(error.value).startswith("ids must be hashable scalars; unhashable type: ")
    assert kind in str(error.value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.one_of(st.integers(-5, 5), st.text("ab", max_size=2), st.binary(max_size=1)),
            max_size=8,
        ),
        max_size=6,
    )
)
def test_codes_are_those_of_a_dict(pieces):
    vocabulary, naive = Vocabulary(), {}
    for piece in pieces:
        vocabulary = vocabulary.extend(as_id_array(piece))
        for value in piece:
            naive.setdefault(value, len(naive))
        assert vocabulary.array.tolist() == list(naive)
        asked = [*piece, "missing", 99]
        assert vocabulary.codes(asked).tolist() == [naive.get(v, -1) for v in asked]


def test_times_keep_their_type_beside_others():
    days = np.array(["2024-01-01", "2024-01-02"], "M8[ns]")
    mixed = Vocabulary(days).extend(as_id_array(["x"]))
    assert mixed.array.tolist() == [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02"), "x"]
    assert mixed.codes(days).tolist() == [0, 1]
    assert mixed.codes([pd.Timestamp("2024-01-02"), "x"]).tolist() == [1, 2]


@pytest.mark.parametrize("unit", ["D", "s", "ns"])
def test_dates_are_known_alone_and_among_others(unit):
    vocabulary = Vocabulary(np.array(["2024-01-01", "2024-01-02"], f"M8[{unit}]"))
    day = datetime.date(2024, 1, 2)
    moment = datetime.datetime(2024, 1, 2)
    for known in (day, moment, pd.Timestamp(day), np.datetime64(day)):
        assert vocabulary.codes([known]).tolist() == [1]
        assert vocabulary.codes([known, "x"]).tolist() == [1, -1]
    aware = pd.Timestamp(day, tz="UTC")
    # A text that looks like a date, a number and another zone's time are none of them.
    assert vocabulary.codes(["2024-01-02"]).tolist() == [-1]
    assert vocabulary.codes([aware, 5, "2024-01-02", day]).tolist() == [-1, -1, -1, 1]
    spans = Vocabulary(np.array([1, 2], f"m8[{unit if unit != 'D' else 's'}]"))
    assert spans.codes([pd.Timedelta(1, "h"), "x"]).tolist() == [-1, -1]
    assert spans.codes([spans.array[1], "x"]).tolist() == [1, -1]


def test_a_fraction_is_no_whole_number_that_rounds_to_it():
    big = 1_750_000_000_000_000_000
    whole = Vocabulary(np.array([big, big + 1, 7]))
    for asked in ([float(big)], [float(big), "x"]):
        assert whole.codes(asked)[0] == -1
    assert whole.codes([7.0]).tolist() == whole.codes([7.0, "x"])[:1].tolist() == [2]
    fractions = Vocabulary(np.array([float(big), 0.5, 7.0]))
    for asked in ([big + 1], [big + 1, "x"]):
        assert fractions.codes(asked)[0] == -1
    assert fractions.codes([7]).tolist() == [2]


def test_a_truth_value_is_no_number_whatever_is_beside_it():
    numbers = Vocabulary(np.array([1, 2]))
    assert numbers.codes([True]).tolist() == [-1]
    assert numbers.codes([True, 2]).tolist() == [-1, 1]


def test_ids_of_several_widths_stay_numbers():
    vocabulary = Vocabulary(np.arange(40))
    for new in (np.array([1000], np.int32), np.array([1001], np.int64), np.array([7], np.uint8)):
        vocabulary = vocabulary.extend(new)
    assert vocabulary.array.dtype == np.int64
    assert vocabulary.array.tolist() == [*range(40), 1000, 1001]
    mixed = vocabulary.extend(np.array(["x"], dtype=object)).array
    assert {type(value) for value in mixed} == {int, str}


def test_days_stay_days():
    days = np.datetime64("2024-01-01") + np.arange(40)
    grown = Vocabulary(days).extend(np.array(["2030-01-01"], "M8[D]"))
    assert grown.array.dtype == np.dtype("M8[D]")
    assert grown.codes([datetime.date(2030, 1, 1), datetime.date(3000, 1, 1)]).tolist() == [40, -1]
    far = Vocabulary(np.array(["3000-01-01", "2024-01-01"], "M8[D]"))
    assert far.codes([datetime.date(3000, 1, 1), datetime.date(1500, 1, 1)]).tolist() == [0, -1]


def test_a_truth_value_is_no_number_wherever_the_number_stands():
    vocabulary = Vocabulary(np.arange(5, 105)).extend(np.array([1]))
    assert vocabulary.codes(np.array([True, 1], dtype=object)).tolist() == [-1, 100]


@pytest.mark.parametrize("late", [2.0**60, True, np.float64(2**53)])
def test_what_was_added_is_found_however_odd_beside_whole_numbers(late):
    ids = np.array([late], dtype=object)
    grown = Vocabulary(np.arange(40)).extend(ids)
    assert grown.codes(ids).tolist() == [40]
    assert grown.extend(ids) is grown
    assert grown.codes(np.array([1, 0, "x"], dtype=object)).tolist() == [1, 0, -1]

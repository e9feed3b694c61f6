import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from palate._random import ModuleSeed
from palate.data.items import ItemTable
from palate.encoders.item.feature_columns import is_number_column, label_keys, numbers_of
from palate.encoders.item.features import FeatureEncoder, with_features
from palate.encoders.item.fusion import Fusion
from palate.encoders.item.ids import IdEncoder
from palate.exceptions import InvalidInputError, InvalidParameterError, MissingContentError
from palate.testing import check_item_encoder

DIM = 3
FRAME = pd.DataFrame(
    {
        "brand": ["a", None, "b", "a", "c", "b", "d"],
        "tags": pd.Series([["x", "y"], [], ["y"], None, ["z", "x"], ["y"], ["w"]], dtype=object),
        "price": [1.0, np.nan, 3.0, 5.0, 7.0, 900.0, 4.0],
        "sold": [True, False, None, True, True, False, True],
        "from": pd.to_datetime(["2020-01-01", None, *["2021-01-01", "2022-06-01"] * 2, None]),
    }
)
TABLE = ItemTable(FRAME)
SEEN = torch.tensor([True] * 5 + [False] * 2)


def build(columns, frame=FRAME, state=None):
    with ModuleSeed(0):
        return FeatureEncoder(columns).build(ItemTable(frame), DIM, None, state).eval()


def message(error_type, call, *args):
    with pytest.raises(error_type) as error:
        call(*args)
    return str(error.value)


@pytest.mark.parametrize("columns", [[name] for name in FRAME] + [list(FRAME)])
def test_the_contract(columns):
    check_item_encoder(FeatureEncoder(columns), FRAME)


@torch.no_grad()
def test_a_label_is_a_row_and_labels_are_their_mean():
    module = build(["brand", "tags"])
    brand, tags = (column.weight for column in module.columns)
    assert len(brand) == 5 and len(tags) == 5  # unknown, then by first appearance
    right = torch.stack(
        [
            brand[1] + (tags[1] + tags[2]) / 2,
            brand[0] + tags[0],
            brand[2] + tags[2],
            brand[1] + tags[0],
            brand[3] + (tags[3] + tags[1]) / 2,
            brand[2] + tags[2],
            brand[4] + tags[4],
        ]
    )
    torch.testing.assert_close(module(None), right)
    torch.testing.assert_close(module(torch.tensor([6, 0, 6])), right[[6, 0, 6]])


@torch.no_grad()
def test_numbers_are_standardised_by_the_items_of_fit_and_cut():
    module = build(["price"], FRAME[:5])
    known = np.array([1.0, 3.0, 5.0, 7.0])
    column = module.columns[0]
    module.extend(TABLE, SEEN, None)
    scaled = (FRAME["price"].to_numpy() - known.mean()) / known.std()
    right = np.stack([np.nan_to_num(np.clip(scaled, -5, 5)), np.isnan(scaled)], 1)
    np.testing.assert_allclose(module(None), right @ column.weight.double().numpy(), atol=1e-6)
    assert right[1].tolist() == [0, 1] and right[5].tolist() == [5, 0]


@torch.no_grad()
def test_labels_are_unknown_until_an_item_of_training_has_them():
    module = build(["brand"], FRAME[:5])
    before = module.columns[0].weight.clone()
    module.extend(TABLE, SEEN, None)
    weight = module.columns[0].weight
    assert len(weight) == 5 and torch.equal(weight[:4], before)
    torch.testing.assert_close(module(torch.tensor([5, 6])), weight[[2, 0]])
    module.extend(TABLE, torch.ones(7, dtype=torch.bool), None)
    torch.testing.assert_close(module(torch.tensor([6])), weight[4:])


def test_training_teaches_the_vector_of_unknown_labels():
    module = build(["brand"], pd.DataFrame({"brand": ["a", "b"] * 200})).train()
    with ModuleSeed(3):
        module(None).sum().backward()
    gradient = module.columns[0].weight.grad
    assert 5 < gradient[0, 0] < 45  # a twentieth of 400
    assert gradient[:, 0].sum() == 400


@torch.no_grad()
def test_seconds_far_from_zero_keep_their_differences():
    numbers = 1.7e9 + np.array([0.0, 1.0, 2.0, 5.0])
    module = build(["at"], pd.DataFrame({"at": numbers}))
    right = (numbers - numbers.mean()) / numbers.std()
    np.testing.assert_allclose(module.columns[0].values[:, 0], right, atol=1e-5)
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}


def test_a_constant_or_empty_column_of_numbers_is_no_danger():
    for values in ([3.0] * 4, [np.nan] * 4):
        assert build(["n"], pd.DataFrame({"n": values}))(None).isfinite().all()


@torch.no_grad()
def test_a_saved_module_does_not_care_what_a_file_made_of_a_type():
    frame = pd.DataFrame({"code": pd.Series([3, 7, None, 3], dtype=object), "n": [1, 2, 3, 4]})
    module = build(["code", "n"], frame)
    assert [hasattr(column, "mean") for column in module.columns] == [False, True]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    read = pd.DataFrame(
        {"code": [3.0, 7.0, np.nan, 3.0], "n": pd.Series([1, 2, 3, 4], dtype=object)}
    )
    restored = build(["code", "n"], read, state)
    restored.load_state_dict(state)
    assert torch.equal(restored(None), module(None))


def test_what_kind_a_column_is():
    numbers = [[1, 2], [1.5, None], pd.array([1, None], "Int64"), pd.to_datetime(["2020-01-01"])]
    labels = [["a"], [True, False], [None, None], [["a"], ["b"]], pd.Categorical([1, 2])]
    assert all(is_number_column(pd.Series(values)) for values in numbers)
    assert not any(is_number_column(pd.Series(values)) for values in labels)


def test_labels_of_any_type():
    assert label_keys({"b", "a", None}) == ["t:a", "t:b"]
    assert label_keys(np.array(["a", "a"])) == ["t:a"]
    assert label_keys([True, np.int64(1), 1.0, "1"]) == ["b:True", "n:1", "t:1"]
    assert [label_keys(value) for value in (None, np.nan, pd.NA, pd.NaT, [], [None])] == [[]] * 6


def test_times_are_seconds():
    times = pd.Series(pd.to_datetime(["1970-01-02", None]))
    zoned = times.dt.tz_localize("Europe/Berlin")
    assert numbers_of(times, "t").tolist()[0] == 86_400
    assert numbers_of(zoned, "t").tolist()[0] == 82_800
    assert np.isnan(numbers_of(times, "t")[1]) and np.isnan(numbers_of(zoned, "t")[1])
    assert numbers_of(pd.Series(pd.to_timedelta([90, None], "s")), "t").tolist()[0] == 90


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_times_and_durations_among_objects_are_seconds_too(zone):
    """A table whose newest rows have none is a column of objects from then on."""
    days = pd.Series(pd.date_range("1970-01-02", periods=2, tz=zone).astype(object).tolist())
    mixed = pd.concat([days, pd.Series([None, pd.NaT])], ignore_index=True).astype(object)
    first = 86_400 if zone is None else 82_800
    np.testing.assert_array_equal(numbers_of(mixed, "t"), [first, first + 86_400, np.nan, np.nan])
    spans = pd.Series([pd.Timedelta(90, "s"), None], dtype=object)
    np.testing.assert_array_equal(numbers_of(spans, "t"), [90, np.nan])
    with pytest.raises(InvalidInputError, match="must hold finite numbers or missing values"):
        numbers_of(pd.Series([pd.Timestamp(0), 3], dtype=object), "t")


def test_what_is_refused():
    names = ", ".join(repr(name) for name in FRAME)
    assert message(InvalidInputError, build, ["size"]) == (
        f"items must have the column 'size' that item_features names; its columns are {names}."
    )
    for bad in ([], "brand", ["brand", "brand"], [1]):
        assert message(InvalidParameterError, build, bad) == (
            f"columns must be a list of distinct column names; got {bad!r}."
        )
        assert message(InvalidParameterError, with_features, IdEncoder(), bad) == (
            f"item_features must be a list of distinct column names; got {bad!r}."
        )
    assert message(InvalidInputError, build, ["n"], pd.DataFrame({"n": [1, np.inf]})) == (
        "column 'n' of items must hold finite numbers or missing values; it holds inf."
    )
    module = build(["price"], FRAME[:5])
    worse = ItemTable(pd.DataFrame({"price": pd.Series([*FRAME["price"][:5], "4"], dtype=object)}))
    assert message(InvalidInputError, module.extend, worse, SEEN, None) == (
        "column 'price' of items must hold finite numbers or missing values; it holds '4'."
    )
    assert message(MissingContentError, module.encode_texts, ["a"], None) == (
        "texts need an item encoder that reads text, such as item_encoder='bert+id'; got a "
        "feature encoder alone."
    )


def test_features_join_any_encoder():
    assert with_features(IdEncoder(), None).get_params() == {}
    joined = with_features(Fusion([IdEncoder()], id_dropout=0.5), ["brand"])
    kinds = [type(part) for part in joined.encoders]
    assert kinds == [IdEncoder, FeatureEncoder] and joined.id_dropout == 0.5
    assert joined.encoders[1].columns == ["brand"]


def test_labels_do_not_depend_on_the_order_in_a_cell():
    one = pd.DataFrame({"tags": [["red", "blue", "cup"], ["tea"]]})
    other = pd.DataFrame({"tags": [["cup", "red", "blue"], ["tea"]]})
    codes = torch.tensor([0, 1])
    assert torch.equal(build(["tags"], one)(codes), build(["tags"], other)(codes))


def test_whole_numbers_beyond_a_float_stay_apart():
    assert label_keys([2**53, 2**53 + 1]) == ["n:9007199254740992", "n:9007199254740993"]
    assert label_keys([2.5, 4.0]) == ["n:2.5", "n:4"]


def test_decimals_are_numbers():
    prices = pd.Series([Decimal("1.50"), None, Decimal("3")], dtype=object)
    assert is_number_column(prices)
    np.testing.assert_array_equal(numbers_of(prices, "price"), [1.5, np.nan, 3.0])
    assert not is_number_column(pd.Series([None, None], dtype=object))


@torch.no_grad()
def test_the_rounding_of_a_constant_is_no_spread():
    module = build(["price"], pd.DataFrame({"price": [0.1, 0.1, 0.1]}))
    assert float(module.columns[0].values.abs().max()) < 1e-9


def test_columns_of_objects_grow_by_nothing():
    """As they do at the end of every fit; and numbers that no float reaches are named."""
    empty = pd.Series([], dtype=object)
    assert numbers_of(empty, "n").shape == (0,)
    assert numbers_of(pd.Series([Decimal("1.5"), None], dtype=object), "n").tolist()[0] == 1.5
    with pytest.raises(InvalidInputError, match="must hold finite numbers or missing values"):
        numbers_of(pd.Series([1, 10**400], dtype=object), "n")


def test_days_are_numbers_from_any_library():
    days = [datetime.date(1970, 1, 2), datetime.date(1970, 1, 4)]
    arrow = pd.Series(days).astype(pd.ArrowDtype(pa.timestamp("ns")))
    for values in (pd.Series(days, dtype=object), pd.Series(np.array(days, "M8[s]")), arrow):
        assert is_number_column(values)
        assert numbers_of(values, "day").tolist() == [86_400, 3 * 86_400]


DAY = pd.Timestamp("2024-01-01")


@torch.no_grad()
def test_numbers_that_never_varied_move_no_new_item():
    frame = pd.DataFrame({"n": [3.0] * 4})
    module = build(["n"], frame)
    module.extend(
        ItemTable(pd.DataFrame({"n": [*frame["n"], 9.0, np.nan]})),
        torch.ones(6, dtype=torch.bool),
        None,
    )
    vectors = module(None)
    assert (vectors == vectors[0]).all()
    # Where some are missing, what that means is learned.
    assert (build(["n"], pd.DataFrame({"n": [1.0, 2.0, np.nan]}))(None)[2] != 0).any()


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (pd.Timestamp("2024-01-01"), np.datetime64("2024-01-01"), np.datetime64("2024-01-02")),
        (
            pd.Timestamp("2024-01-01"),
            datetime.date(2024, 1, 1),
            pd.Timestamp("2024-01-01", tz="Asia/Tokyo"),
        ),
        (datetime.timedelta(hours=1), np.timedelta64(3600, "s"), np.timedelta64(1, "s")),
    ],
)
def test_times_among_labels_are_one_whatever_their_type(one, same, other):
    assert label_keys([one]) == label_keys([same])
    assert label_keys([one]) != label_keys([other])

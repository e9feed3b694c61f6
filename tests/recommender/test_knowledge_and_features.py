"""Knowledge graphs and other columns of items, through the estimator."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from palate import (
    BertEncoder,
    Fusion,
    IdEncoder,
    Items,
    KnowledgeEncoder,
    KnowledgeGraph,
    Recommender,
)
from palate.exceptions import InvalidInputError, MissingContentError

N = 12
#: Two tastes: items of an even number belong to ann, the others to bob.
HISTORIES = [[f"i{(start + 2 * step) % N}" for step in range(4)] for start in range(N)] * 2
ITEM_IDS = [f"i{i}" for i in range(N)]


def events():
    rows = [(user, item) for user, row in enumerate(HISTORIES) for item in row]
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


def items(ids=ITEM_IDS):
    codes = np.array([int(item[1:]) for item in ids])
    tags = [["odd", "small"][: 1 + (code < 6)] if code % 2 else ["even"] for code in codes]
    return pd.DataFrame(
        {
            "item_id": ids,
            "maker": np.where(codes % 2, "bob", "ann"),
            "tags": tags,
            "price": np.where(codes % 5, 10.0 + codes % 2, np.nan),
            "title": [f"red lamp {code}" for code in codes],
        }
    )


def graph(ids=ITEM_IDS):
    table = items(ids)
    triples = pd.DataFrame({"head": ids, "relation": "made_by", "tail": table["maker"]})
    return KnowledgeGraph(triples)


def known(table, ids=ITEM_IDS):
    return Items(table, knowledge=graph(ids))


@pytest.fixture
def make(options):
    def make(**params):
        chosen = {
            "user_encoder": "gru",
            "item_encoder": "id",
            "dim": 6,
            "epochs": 25,
            "learning_rate": 0.01,
            "validation_fraction": 0,
            "random_state": 0,
            "options": options,
        }
        return Recommender(**{**chosen, **params})

    return make


NEW = ["i20", "i21", "i22", "i23"]


def places_of_new_items(model):
    """Return the mean rank of the even new items, and of the odd ones, for a taste of even."""
    found = model.recommend(histories=[["i0", "i2", "i4"]], k=99, filter_viewed=False)
    rank = found.set_index("item_id")["rank"]
    return rank[["i20", "i22"]].mean(), rank[["i21", "i23"]].mean()


def test_features_place_new_items(make):
    model = make(item_features=["maker", "tags", "price"]).fit(events(), items=items())
    kinds = [type(part).__name__ for part in model._serving.network.items.parts]
    assert kinds == ["IdItems", "FeatureItems"]
    model.add_items(items(NEW))
    even, odd = places_of_new_items(model)
    assert even < odd - 3


def test_a_graph_places_new_items(make):
    model = make(item_encoder=Fusion([KnowledgeEncoder(), IdEncoder()]))
    model.fit(events(), items=known(items()))
    model.add_items(known(items(NEW), NEW))
    even, odd = places_of_new_items(model)
    assert even < odd - 3


def test_what_a_graph_tells_is_read(make, tiny_bert):
    model = make(item_encoder=BertEncoder(tiny_bert), epochs=1)
    model.fit(events(), items=known(items()))
    assert model._serving.table.texts()[:2] == [
        "ann. even. red lamp 0. made by ann",
        "bob. odd, small. red lamp 1. made by bob",
    ]


@pytest.mark.parametrize("kind", ["features", "graph"])
def test_learning_on_and_saving(make, tmp_path, kind):
    if kind == "features":
        model, wrap = make(item_features=["maker", "tags", "price"], epochs=2), lambda t, ids: t
    else:
        model, wrap = make(item_encoder=KnowledgeEncoder(), epochs=2), known
    model.fit(events(), items=wrap(items(), ITEM_IDS))
    new = items(NEW).assign(maker=["ann", "bob", "eve", None])
    model.add_items(wrap(new, NEW))
    more = pd.DataFrame({"user_id": [0, 0, 1, 99], "item_id": ["i20", "i22", "i31", "i23"]})
    last = items(["i31", "i33"])
    model.partial_fit(more, items=wrap(last, ["i31", "i33"]), epochs=1)
    assert len(model.item_ids_) == N + 6
    assert np.isfinite(model.item_vectors_).all()
    model.save(tmp_path / "model")
    again = Recommender.load(tmp_path / "model", options=model.options)
    np.testing.assert_array_equal(again.item_vectors_, model.item_vectors_)
    table = again.recommend(k=3)
    pd.testing.assert_frame_equal(table, model.recommend(k=3))
    # What was loaded computes the same vectors, and learns on to the same ones.
    with torch.no_grad():
        vectors = again._serving.network.items(None).numpy()
    np.testing.assert_allclose(vectors, model.item_vectors_, atol=1e-6)
    for one in (model, again):
        one.add_items(wrap(items(["i41"]), ["i41"]))
        one.partial_fit(more, epochs=1)
    np.testing.assert_allclose(again.item_vectors_, model.item_vectors_, atol=1e-5)


def test_parameters_travel(make):
    model = make(item_features=["maker"], epochs=1)
    assert clone(model).get_params()["item_features"] == ["maker"]
    model.fit(events(), items=items())
    # What set_params says counts from the next fit on, not for what was learned.
    model.set_params(item_features=["tags"])
    model.add_items(items(NEW))
    assert len(model.item_ids_) == N + 4
    assert make().get_params()["item_features"] is None


def test_what_is_refused(make):
    def message(error_type, call, *args, **kwargs):
        with pytest.raises(error_type) as error:
            call(*args, **kwargs)
        return str(error.value)

    features = make(item_features=["size"], epochs=1)
    assert message(InvalidInputError, features.fit, events(), items=items()) == (
        "items must have the column 'size' that item_features names; its columns are 'maker', "
        "'tags', 'price', 'title'."
    )
    assert not hasattr(features, "settings_")
    features.set_params(item_features=["price"]).fit(events(), items=items())
    before = features.item_vectors_.copy()
    assert message(InvalidInputError, features.add_items, items(NEW).drop(columns="price")) == (
        "items must have a column 'price', as the items learned before had; its columns are "
        "'maker', 'tags', 'title'."
    )
    assert message(InvalidInputError, features.add_items, items(NEW).assign(price="dear")) == (
        "column 'price' of items must hold values like those of the items learned before, such as "
        "11.0; row 0 holds 'dear'."
    )
    np.testing.assert_array_equal(features.item_vectors_, before)
    knowing = make(item_encoder=KnowledgeEncoder(), epochs=1)
    assert message(MissingContentError, knowing.fit, events(), items=items()) == (
        "items must come with a knowledge graph for a knowledge encoder, as in "
        "Items(table, knowledge=graph)."
    )
    knowing.fit(events(), items=known(items()))
    assert message(InvalidInputError, knowing.add_items, items(NEW)) == (
        "items must come with a knowledge graph, as in Items(table, knowledge=graph), for the "
        "items learned before did."
    )


def test_what_could_not_be_saved_is_not_added(make_recommender, events, items, folder):
    """One new item must not make a column that no file can hold."""
    table = items.assign(released=pd.date_range("2020-01-01", periods=len(items)))
    model = make_recommender(item_features=["released"]).fit(events, items=table)
    row = table.iloc[[0]].assign(item_id="new")
    before = model.item_ids_
    with pytest.raises(InvalidInputError, match="column 'released' of items must hold values like"):
        model.add_items(row.assign(released="soon"))
    np.testing.assert_array_equal(model.item_ids_, before)
    model.add_items(row.assign(released="2024-05-01"))
    model.add_items(row.assign(item_id="newer", released=None))
    model.partial_fit(events[:1], epochs=1)
    model.save(folder)
    assert model._serving.table.frame["released"].dtype.kind == "M"


def test_prices_that_are_decimals(make_recommender, events, items):
    table = items.assign(price=[Decimal(n) / 2 for n in range(len(items))])
    model = make_recommender(item_features=["price"]).fit(events, items=table)
    model.add_items(table.iloc[[0]].assign(item_id="new", price=None))
    assert "new" in model.partial_fit(events[:1], epochs=1).item_ids_

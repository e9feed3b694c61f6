import copy

import numpy as np
import pandas as pd
import pytest
import torch

from palate._random import ModuleSeed
from palate.data.items import ItemTable
from palate.data.knowledge import FACTS
from palate.encoders.item.bags import Bags
from palate.encoders.item.fusion import Fusion
from palate.encoders.item.ids import IdEncoder
from palate.encoders.item.knowledge import KnowledgeEncoder
from palate.exceptions import InvalidParameterError, MissingContentError
from palate.testing import check_item_encoder

ROWS = [
    ["by\tann", "genre\tdrama"],
    ["genre\tdrama"],
    [],
    ["by\tbob", "by\tann", "genre\tcrime"],
    ["by\teve"],
    ["genre\tcrime", "with\tann"],
]
DIM, N = 3, len(ROWS)


def table(n_rows=N):
    return ItemTable(pd.DataFrame({FACTS: pd.Series(ROWS[:n_rows], dtype=object)}))


def build(n_rows=N, **params):
    with ModuleSeed(0):
        return KnowledgeEncoder(**params).build(table(n_rows), DIM, None).eval()


def test_the_contract():
    check_item_encoder(KnowledgeEncoder(), table().frame)
    check_item_encoder(Fusion([KnowledgeEncoder(), IdEncoder()]), table().frame)


def test_rows_of_bags_in_any_order():
    bags = Bags([[4, 2], [], [7]])
    bags.append([])
    bags.append([[1, 1, 3], []])
    assert len(bags) == 5
    places, offsets, owners = bags.pick(torch.tensor([3, 1, 0, 3, 4]))
    assert bags.values[places].tolist() == [1, 1, 3, 4, 2, 1, 1, 3]
    assert offsets.tolist() == [0, 3, 3, 5, 8]
    assert owners.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]
    assert bags.values[bags.pick(None)[0]].tolist() == [4, 2, 7, 1, 1, 3]
    assert bags.state_dict() == {}


@torch.no_grad()
def test_the_mean_of_entities_weighted_by_relation():
    module = build()
    logits = {"by": 1.5, "genre": -0.5, "with": 9.0}
    module.relation_logits.copy_(torch.tensor([logits[r] for r in ("by", "genre", "with")]))
    names = ["ann", "drama", "bob", "crime", "eve"]
    vectors = dict(zip(names, module.weight.double().numpy(), strict=True))
    right = np.zeros((len(ROWS), DIM))
    for row, facts in enumerate(ROWS):
        parts = [fact.split("\t") for fact in facts]
        weights = np.exp([min(logits[relation], 5.0) for relation, _ in parts])
        for weight, (_, entity) in zip(weights, parts, strict=True):
            right[row] += weight / weights.sum() * vectors[entity]
    np.testing.assert_allclose(module(None).numpy(), right, atol=1e-7)
    codes = torch.tensor([3, 2, 3])
    np.testing.assert_allclose(module(codes).numpy(), right[codes], atol=1e-7)


@torch.no_grad()
def test_entities_of_no_item_in_training_are_silent_until_there_is_one():
    module = build(4)
    seen = torch.tensor([True, True, True, False, False, False])
    known = module.weight.clone()
    module.extend(table(), seen, None)
    assert torch.equal(module.weight[:4], known)
    assert module.active.tolist() == [True, True, False, False, False]
    vectors = module(None)
    # Of item 3 only ann counts, item 4 knows nobody, and item 5 has ann by a new relation.
    torch.testing.assert_close(vectors[3], module.weight[0])
    torch.testing.assert_close(vectors[5], module.weight[0])
    assert torch.equal(vectors[4], torch.zeros(DIM))
    module.extend(table(), torch.ones(6, dtype=torch.bool), None)
    assert module.active.all()
    torch.testing.assert_close(module(None)[4], module.weight[4])


@torch.no_grad()
def test_training_leaves_facts_out():
    module = build(fact_dropout=0.5).train()
    with ModuleSeed(1):
        draws = torch.stack([module(torch.tensor([1, 1])) for _ in range(300)])
    shares = (draws == 0).all(-1).float().mean()
    assert 0.42 < shares < 0.58
    whole = build(fact_dropout=0).train()
    assert torch.equal(whole(None), whole.eval()(None))


def test_growing_a_copy_leaves_the_first_as_it_was():
    module = build(4)
    grown = copy.deepcopy(module)
    grown.extend(table(), torch.ones(6, dtype=torch.bool), None)
    assert len(module.weight) == 4 and len(module.entities) == 4 and len(module(None)) == 4
    module.extend(table(), torch.ones(6, dtype=torch.bool), None)
    assert len(module(None)) == 6


def test_what_is_refused():
    with pytest.raises(InvalidParameterError) as error:
        build(fact_dropout=1)
    assert str(error.value) == "fact_dropout must be a number in [0, 1); got 1."
    with pytest.raises(MissingContentError) as error:
        KnowledgeEncoder().build(ItemTable(pd.DataFrame({"text": ["a"]})), DIM, None)
    assert str(error.value) == (
        "items must come with a knowledge graph for a knowledge encoder, as in "
        "Items(table, knowledge=graph)."
    )
    with pytest.raises(MissingContentError) as error:
        KnowledgeEncoder().build(ItemTable(table().frame[2:3]), DIM, None)
    assert str(error.value) == (
        "the knowledge graph must have a fact about at least one item; got none: compare the ids "
        "of its links with those of items."
    )
    with pytest.raises(MissingContentError) as error:
        build().encode_texts(["a"], None)
    assert str(error.value) == (
        "texts need an item encoder that reads text, such as item_encoder='bert+id'; got a "
        "knowledge encoder alone."
    )

import pytest
import torch

from palate.encoders.item.ids import IdEncoder
from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.transformer import TransformerEncoder
from palate.protocols import ItemEncoder, ItemModule, Objective, Ranker, UserEncoder
from palate.ranking.exact import CosineRanker
from palate.training.objectives import SampledSoftmaxObjective, SoftmaxObjective


def test_our_parts_follow_their_protocols():
    for spec in (GRUEncoder(), TransformerEncoder()):
        assert isinstance(spec, UserEncoder)
    assert isinstance(IdEncoder(), ItemEncoder)
    assert isinstance(CosineRanker(), Ranker)
    for spec in (SoftmaxObjective(), SampledSoftmaxObjective()):
        assert isinstance(spec, Objective)


def test_others_do_not():
    assert not isinstance(IdEncoder(), UserEncoder)
    assert not isinstance(GRUEncoder(), Ranker)
    assert not isinstance("softmax", Objective)


def test_a_bare_item_module_says_what_it_lacks():
    module = ItemModule()
    assert not module.has_content
    assert not module.takes_text
    assert not module.is_live
    module.refresh(None)  # nothing is stored, so nothing is stale
    for call in (
        lambda: module(torch.tensor([0])),
        lambda: module.extend(None, torch.ones(1, dtype=torch.bool), None),
        lambda: module.encode_texts(["a"], None),
    ):
        with pytest.raises(NotImplementedError):
            call()

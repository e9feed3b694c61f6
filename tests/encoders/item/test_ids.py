import pytest
import torch

from palate._random import ModuleSeed
from palate.data.items import ItemTable
from palate.encoders.item.ids import IdEncoder
from palate.exceptions import MissingContentError

N, D = 5, 3


@pytest.fixture
def module():
    with ModuleSeed(0):
        return IdEncoder().build(ItemTable.without_content(N), D, None)


def extend(module, n_items, seen):
    with ModuleSeed(1):
        module.extend(
            ItemTable.without_content(n_items), torch.tensor(seen, dtype=torch.bool), None
        )


def test_a_row_for_each_code(module):
    everything = module(None)
    assert everything.shape == (N, D)
    torch.testing.assert_close(module(torch.tensor([4, 0, 4])), everything[[4, 0, 4]])
    assert torch.equal(module(None, content_only=True), everything)
    assert everything.abs().min() > 0
    assert not module.has_content
    assert not module.takes_text
    assert not module.is_live


def test_items_never_trained_on_are_zero(module):
    extend(module, N, [1, 0, 1, 1, 0])
    everything = module(None)
    assert everything[[1, 4]].abs().sum() == 0
    assert (everything[[0, 2, 3]].abs().sum(1) > 0).all()
    assert torch.equal(module(torch.tensor([1, 2])), everything[[1, 2]])
    everything.sum().backward()
    assert module.weight.grad.sum(1).tolist() == [D, 0, D, D, 0]


def test_growing_keeps_the_known_rows(module):
    before = module(None).detach().clone()
    extend(module, N + 4, [1] * N + [1, 0, 1, 0])
    after = module(None)
    assert after.shape == (N + 4, D)
    assert torch.equal(after[:N], before)
    assert (after[[5, 7]].abs().sum(1) > 0).all()
    assert after[[5, 7]].abs().max() < 0.2  # as small as those of a fresh module
    assert after[[6, 8]].abs().sum() == 0
    assert isinstance(module.weight, torch.nn.Parameter)
    assert module.weight.requires_grad


def test_a_row_that_was_unseen_is_there_when_training_reaches_it(module):
    extend(module, N + 1, [1] * N + [0])
    assert module(torch.tensor([N])).abs().sum() == 0
    extend(module, N + 1, [1] * (N + 1))
    assert module(torch.tensor([N])).abs().sum() > 0


def test_ids_do_not_read(module):
    with pytest.raises(MissingContentError) as error:
        module.encode_texts(["a lamp"], None)
    assert str(error.value) == (
        "texts need an item encoder with content, such as item_encoder='bert+id'; "
        "got an encoder of ids alone."
    )
    module.refresh(None)

import pytest
from torch import nn

from palate.encoders.item.finetuning import FINETUNE_MODES, set_trainable
from palate.exceptions import InvalidParameterError


class Block(nn.Module):
    def __init__(self, n_experts=0):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.experts = nn.ModuleList([nn.Linear(3, 2) for _ in range(n_experts)])


def model(kind):
    """Small networks with the layer stacks of well-known families."""
    net = nn.Module()
    net.embeddings = nn.Embedding(7, 3)
    stack = nn.ModuleList([Block(), Block(), Block(n_experts=2)])
    if kind == "bert":
        net.encoder = nn.Module()
        net.encoder.layer = stack
        net.adapters = nn.ModuleList([nn.Linear(3, 3)])  # a later list that is not the stack
    elif kind == "distilbert":
        net.transformer = nn.Module()
        net.transformer.layer = stack
    else:
        net.heads = nn.ModuleList([nn.Linear(3, 3)])
        net.blocks = stack  # the experts of its last block are a later, but inner, list
    net.norm = nn.LayerNorm(3)
    return net, stack


@pytest.mark.parametrize("kind", ["bert", "distilbert", "other"])
def test_modes(kind):
    net, stack = model(kind)
    for mode, expected in [
        ("last", list(stack[2].parameters())),
        ("frozen", []),
        ("full", list(net.parameters())),
        ("last", list(stack[2].parameters())),
    ]:
        chosen = set_trainable(net, mode)
        assert {id(p) for p in chosen} == {id(p) for p in expected}
        assert {id(p) for p in net.parameters() if p.requires_grad} == {id(p) for p in expected}


def test_refused():
    net, _ = model("bert")
    with pytest.raises(InvalidParameterError) as caught:
        set_trainable(net, "half")
    assert (
        str(caught.value) == "finetune must be one of 'frozen', 'last', 'lora', 'full'; got 'half'."
    )
    with pytest.raises(InvalidParameterError) as caught:
        set_trainable(nn.Linear(2, 3), "last")
    assert str(caught.value) == (
        "finetune must be 'frozen' or 'full' for a model without a list of layers; "
        "got 'last' for Linear."
    )
    assert FINETUNE_MODES == ("frozen", "last", "lora", "full")

import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid

from palate._random import ModuleSeed
from palate.data.items import ItemTable
from palate.encoders.item.bert import BertEncoder
from palate.encoders.item.fusion import Fusion
from palate.encoders.item.ids import IdEncoder
from palate.exceptions import InvalidParameterError, MissingContentError
from palate.protocols import ItemModule

N, D = 7, 3


class Content(BaseEstimator):
    """Content that is the code itself, in every coordinate; a text's is its length."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def build(self, items, dim, context, state=None):
        return ContentItems(len(items), dim, self.scale, context, state)


class ContentItems(ItemModule):
    has_content = True
    takes_text = True

    def __init__(self, n_items, dim, scale, context, state):
        super().__init__()
        self.dim, self.scale, self.context, self.state = dim, scale, context, state
        self.n_items, self.calls = n_items, []

    def forward(self, codes=None, *, content_only=False):
        codes = torch.arange(self.n_items) if codes is None else codes
        return self.scale * codes[:, None].float().expand(-1, self.dim)

    def extend(self, items, seen, context):
        self.n_items = len(items)

    def encode_texts(self, texts, context):
        self.calls.append(context)
        return torch.tensor([[float(len(text))] * self.dim for text in texts]) * self.scale

    def refresh(self, context):
        self.calls.append(context)


def build(spec, n_items=N, state=None):
    with ModuleSeed(0):
        return spec.build(ItemTable.without_content(n_items), D, "context", state)


def test_vectors_add_up():
    module = build(Fusion([Content(), Content(0.5), IdEncoder()])).eval()
    ids = module.parts[2](None)
    right = ids + 1.5 * torch.arange(N)[:, None]
    assert module(None).shape == (N, D)
    torch.testing.assert_close(module(None), right)
    codes = torch.tensor([6, 0, 6])
    torch.testing.assert_close(module(codes), right[codes])
    torch.testing.assert_close(module(codes, content_only=True), 1.5 * codes[:, None].expand(3, D))
    assert module.has_content
    assert module.takes_text
    assert not module.is_live


def test_a_gate_starts_as_the_sum_and_weighs_ids_by_both_vectors():
    plain = build(Fusion([Content(), IdEncoder(), IdEncoder()])).eval()
    module = build(Fusion([Content(), IdEncoder(), IdEncoder()], mode="gate")).eval()
    module.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(module(None), plain(None))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        module.gate.weight.copy_(torch.randn(D, 2 * D, generator=generator))
        module.gate.bias.copy_(torch.randn(D, generator=generator))
    content = torch.arange(N)[:, None].expand(N, D).double()
    ids = (module.parts[1](None) + module.parts[2](None)).double()
    right = torch.empty(N, D, dtype=torch.float64)
    for item in range(N):
        for entry in range(D):
            row, bias = module.gate.weight[entry].double(), module.gate.bias[entry].double()
            logit = row[:D] @ content[item] + row[D:] @ ids[item] + bias
            right[item, entry] = content[item, entry] + 2 * ids[item, entry] / (1 + (-logit).exp())
    codes = torch.tensor([6, 0, 6])
    torch.testing.assert_close(module(None).double(), right, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(module(codes).double(), right[codes], rtol=1e-5, atol=1e-6)
    # Without an id, or where it was dropped, an item is its content.
    torch.testing.assert_close(module(None, content_only=True), content.float())
    seen = torch.arange(N) % 2 == 0
    module.extend(ItemTable.without_content(N), seen, None)
    torch.testing.assert_close(module(None)[~seen], content.float()[~seen])


def test_a_gate_needs_both_kinds():
    table = ItemTable.without_content(N)
    for encoders in ([IdEncoder(), IdEncoder()], [Content(), Content()]):
        assert Fusion(encoders, mode="gate").build(table, D, None).gate is None
    with pytest.raises(InvalidParameterError) as error:
        Fusion([Content()], mode="mean").build(table, D, None)
    assert str(error.value) == "mode must be one of 'sum', 'gate'; got 'mean'."


def test_ids_are_dropped_at_random_in_training_alone():
    module = build(Fusion([Content(), IdEncoder()], id_dropout=0.3), 2000)
    content, whole = module(None, content_only=True), module.eval()(None).detach()
    module.train()
    with ModuleSeed(1):
        first, second = module(None), module(None)
    dropped = (first == content).all(1)
    kept = (first == whole).all(1)
    assert (dropped ^ kept).all()  # an id is there or not: never a part of it, never scaled
    assert 0.25 < dropped.double().mean() < 0.35
    assert not torch.equal(first, second)
    assert torch.equal(module.eval()(None), whole)


def test_without_content_nothing_is_dropped():
    module = build(Fusion([IdEncoder(), IdEncoder()], id_dropout=0.9)).train()
    right = module.parts[0](None) + module.parts[1](None)
    assert torch.equal(module(None), right)
    assert torch.equal(module(None, content_only=True), right)
    with pytest.raises(MissingContentError) as error:
        module.encode_texts(["x"], None)
    assert str(error.value) == (
        "texts need an item encoder with content, such as item_encoder='bert+id'; "
        "got encoders of ids alone."
    )


def test_texts_growth_and_refreshing_reach_the_parts():
    module = build(Fusion([Content(), IdEncoder(), Content(2.0)])).eval()
    vectors = module.encode_texts(["ab", "abcd"], "now")
    assert vectors.tolist() == [[6.0] * D, [12.0] * D]
    module.refresh("later")
    assert module.parts[0].calls == module.parts[2].calls == ["now", "later"]
    seen = torch.ones(N + 2, dtype=torch.bool)
    seen[-1] = False
    module.extend(ItemTable.without_content(N + 2), seen, None)
    assert module(None).shape == (N + 2, D)
    assert module(torch.tensor([N + 1])).tolist() == [[3.0 * (N + 1)] * D]


def test_each_part_gets_its_own_saved_tensors():
    state = {"parts.0.a": torch.ones(1), "parts.1.weight": torch.ones(2), "parts.10.a": None}
    assert build(Fusion([Content(), IdEncoder()]), state=state).parts[0].state.keys() == {"a"}
    assert build(Fusion([Content(), IdEncoder()])).parts[0].state is None
    assert build(Fusion([Content()])).parts[0].context == "context"


def test_parameters_reach_into_the_list():
    spec = Fusion([Content(), IdEncoder()])
    assert spec.get_params()["encoders__0__scale"] == 1.0
    own = {"encoders": spec.encoders, "id_dropout": 0.1, "mode": "sum"}
    assert spec.get_params(deep=False) == own
    for params in ParameterGrid({"encoders__0__scale": [2.0, 3.0], "id_dropout": [0.5]}):
        copy = clone(spec).set_params(**params)
        assert copy.encoders[0].scale == params["encoders__0__scale"]
        assert copy.id_dropout == 0.5
    assert spec.encoders[0].scale == 1.0  # a clone shares nothing
    copy = clone(spec).set_params(encoders__1=Content(4.0), encoders__1__scale=5.0)
    assert copy.encoders[1].scale == 5.0
    assert isinstance(spec.encoders[1], IdEncoder)


@pytest.mark.parametrize("name", ["encoders__2", "encoders__x__scale", "encoders__"])
def test_there_is_no_such_encoder(name):
    with pytest.raises(InvalidParameterError) as error:
        Fusion([Content(), IdEncoder()]).set_params(**{name: 1})
    assert str(error.value) == f"encoders__i needs an i below 2; got {name!r}."


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (Fusion([]), "encoders must hold at least one item encoder; got none."),
        (Fusion(3), "encoders must be a list of item encoders; got 3."),
        (Fusion("id"), "encoders must be a list of item encoders; got 'id'."),
        (
            Fusion([IdEncoder()], id_dropout=1.0),
            "id_dropout must be a number in [0, 1); got 1.0.",
        ),
        (Fusion([IdEncoder(), "id"]), "encoders[1] must be an item encoder; got 'id'."),
        (Fusion([3]), "encoders[0] must be an item encoder; got 3 (it lacks build)."),
    ],
)
def test_what_is_no_list_of_encoders(spec, text):
    with pytest.raises(InvalidParameterError) as error:
        build(spec)
    assert str(error.value) == text


@pytest.mark.parametrize("order", [1, -1])
def test_an_encoder_is_replaced_before_its_parameters_are_set(order):
    old, new = BertEncoder("a"), BertEncoder("b")
    given = [("encoders__0__pooling", "cls"), ("encoders__0", new)][::order]
    fusion = Fusion([old, IdEncoder()]).set_params(**dict(given))
    assert fusion.encoders[0] is new
    assert (new.pooling, old.pooling) == ("cls", "mean")

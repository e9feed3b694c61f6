import copy
import importlib

import pytest
import torch
from torch import nn

from palate.encoders.item.finetuning import set_trainable
from palate.encoders.item.low_rank import ATTENTION_NAMES, LowRankLinear, add_low_rank
from palate.exceptions import InvalidParameterError

N_LAYERS = 3
SIZES = {
    "vocab_size": 29,
    "hidden_size": 12,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "max_position_embeddings": 17,
}
DISTILBERT = {"vocab_size": 29, "dim": 12, "n_layers": N_LAYERS, "n_heads": 2, "hidden_dim": 10}
# Layers of ALBERT are one and the same.
FAMILIES = {
    "Bert": (SIZES, N_LAYERS),
    "Roberta": (SIZES, N_LAYERS),
    "MPNet": (SIZES, N_LAYERS),
    "Electra": ({**SIZES, "embedding_size": 12}, N_LAYERS),
    "DebertaV2": (SIZES, N_LAYERS),
    "Albert": ({**SIZES, "embedding_size": 6}, 1),
    "DistilBert": (DISTILBERT, N_LAYERS),
}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make(family):
    transformers = importlib.import_module("transformers")
    sizes, _ = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**sizes)
        return getattr(transformers, f"{family}Model")(config).eval()


def run(model):
    ids = torch.tensor([[5, 9, 3, 4, 2], [7, 8, 2, 1, 1]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    return model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]


@pytest.mark.parametrize("bias", [True, False])
def test_the_formula_by_hand(bias):
    layer = nn.Linear(5, 7, bias=bias).double()
    low = LowRankLinear(layer, rank=2, alpha=3.0)
    assert low.weight is layer.weight
    low.lora_a.data, low.lora_b.data = draw(2, 5, seed=1), draw(7, 2, seed=2)
    x = draw(3, 4, 5, seed=3)
    with torch.no_grad():
        found = low(x)
        for i in range(3):
            for j in range(4):
                update = torch.zeros(7, dtype=torch.float64)
                for rank in range(2):
                    shared = sum(float(low.lora_a[rank, c] * x[i, j, c]) for c in range(5))
                    update += 3.0 / 2 * low.lora_b[:, rank] * shared
                right = low.weight @ x[i, j] + update
                right = right + low.bias if bias else right
                torch.testing.assert_close(found[i, j], right, rtol=0, atol=1e-12)


def test_the_start_is_gaussian_and_zero():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        low = LowRankLinear(nn.Linear(400, 3), rank=60)
    assert not low.lora_b.any()
    assert low.lora_a.shape == (60, 400)
    assert float(low.lora_a.detach().mean() * 20) == pytest.approx(0, abs=0.03)
    assert float(low.lora_a.detach().std() * 20) == pytest.approx(1, abs=0.03)
    assert low.scale == pytest.approx(8 / 60)
    assert LowRankLinear(nn.Linear(4, 3).half(), rank=2).lora_a.dtype == torch.float16


@pytest.mark.parametrize("family", FAMILIES)
def test_well_known_families_start_unchanged_and_train_a_and_b_alone(family):
    model, layers = make(family), FAMILIES[family][1]
    n_before = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        before = run(model)
    trained = set_trainable(model, "lora", rank=2)
    assert len(trained) == 4 * layers  # A and B of queries and of values
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in names} == {"lora_a", "lora_b"}
    assert sum(p.numel() for p in model.parameters()) - n_before == 4 * layers * 2 * 12
    with torch.no_grad():
        assert torch.equal(run(model), before)
    (run(model) * draw(*before.shape, dtype=torch.float32)).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in names), name
        if name.endswith("lora_b"):
            assert parameter.grad.any(), name
    for parameter in trained:
        parameter.data.copy_(0.3 * draw(*parameter.shape, dtype=torch.float32))
    model.zero_grad()
    out = run(model)
    assert (out - before).abs().max() > 1e-3
    (out * draw(*before.shape, dtype=torch.float32)).sum().backward()
    assert all(p.grad.any() for p in trained)


def test_a_state_dict_keeps_the_names_of_the_pretrained_weights():
    model = make("Bert")
    names = set(model.state_dict())
    add_low_rank(model, 2)
    added = set(model.state_dict()) - names
    assert names <= set(model.state_dict())
    assert len(added) == 4 * N_LAYERS
    assert "encoder.layer.2.attention.self.value.lora_b" in added


def test_what_has_an_update_keeps_it():
    model = make("DistilBert")
    first = add_low_rank(model, 2)
    set_trainable(model, "frozen")
    again = set_trainable(model, "lora", rank=5)
    assert {id(p) for p in again} == {id(p) for p in first}
    assert {p.shape for p in again} == {(2, 12), (12, 2)}
    other = copy.deepcopy(model)
    assert not {id(p) for p in other.parameters()} & {id(p) for p in model.parameters()}


def test_what_has_no_projections_is_refused():
    fused = nn.ModuleDict({"Wqkv": nn.Linear(4, 12), "query": nn.Linear(4, 4)})
    with pytest.raises(InvalidParameterError) as error:
        set_trainable(fused, "lora")
    assert str(error.value) == (
        "finetune must be 'frozen', 'last' or 'full' for a model without Linear layers for queries "
        "and values (searched for query and value, q_lin and v_lin, q and v, q_proj and v_proj, "
        "query_proj and value_proj); got 'lora' for ModuleDict."
    )
    assert type(fused["query"]) is nn.Linear
    assert len(ATTENTION_NAMES) == 5


@pytest.mark.parametrize("rank", [0, 1.5, True, None])
def test_ranks_out_of_range(rank):
    with pytest.raises(InvalidParameterError) as error:
        add_low_rank(make("Bert"), rank)
    assert str(error.value) == f"lora_rank must be an integer of at least 1; got {rank!r}."

"""What holds for every user encoder's network, and what is particular to each."""

import math

import pytest
import torch
from sklearn.base import clone
from torch import nn

from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.transformer import BLOCKS, TransformerEncoder
from palate.exceptions import InvalidParameterError
from palate.protocols import UserEncoder

B, T, D = 3, 7, 12

SPECS = {
    "gru": GRUEncoder(),
    "deep gru": GRUEncoder(n_layers=2, hidden_size=5, dropout=0.5),
    "transformer": TransformerEncoder(),
    "wide transformer": TransformerEncoder(n_layers=1, n_heads=3, hidden_size=5, dropout=0.5),
    "swiglu": TransformerEncoder(block="swiglu"),
    "ligr": TransformerEncoder(n_heads=2, block="ligr"),
    "hstu": TransformerEncoder(n_heads=3, dropout=0.5, block="hstu"),
    "shortcut": TransformerEncoder(n_layers=1, shortcut=True),
    "shortcut past a gru": GRUEncoder(dropout=0.5, shortcut=True),
}


@pytest.fixture(params=SPECS)
def spec(request):
    return clone(SPECS[request.param])


def build(spec, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return spec.build(D).eval()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths):
    return torch.arange(T) < torch.tensor(lengths)[:, None]


def test_states_have_the_shape_of_the_input(spec):
    assert isinstance(spec, UserEncoder)
    with torch.no_grad():
        assert build(spec)(draw(B, T, D), mask_of([7, 4, 1])).shape == (B, T, D)


def test_the_future_never_changes_the_past(spec):
    network, x, mask = build(spec), draw(B, T, D), mask_of([7, 7, 7])
    with torch.no_grad():
        before = network(x, mask)
        for step in range(1, T):
            changed = x.clone()
            changed[:, step:] = 50 * draw(B, T - step, D, seed=step)
            after = network(changed, mask)
            torch.testing.assert_close(after[:, :step], before[:, :step], rtol=0, atol=1e-5)
            assert (after[:, step] - before[:, step]).abs().max() > 1e-2


def test_every_step_of_the_past_counts(spec):
    network = build(spec)
    x = draw(1, T, D).requires_grad_()
    network(x, mask_of([7]))[0, -1].square().sum().backward()
    assert (x.grad[0].abs().sum(1) > 0).all()


def test_padding_never_changes_real_states(spec):
    network, x, lengths = build(spec), draw(B, T, D), [7, 4, 1]
    mask = mask_of(lengths)
    with torch.no_grad():
        states = network(x, mask)
        noisy = network(torch.where(mask[..., None], x, 1e3), mask)
        for row, length in enumerate(lengths):
            torch.testing.assert_close(noisy[row, :length], states[row, :length], rtol=0, atol=1e-5)
            alone = network(x[row : row + 1, :length], mask[row : row + 1, :length])
            torch.testing.assert_close(alone[0], states[row, :length], rtol=0, atol=1e-5)


def test_dropout_acts_in_training_alone(spec):
    network, x, mask = build(spec), draw(B, T, D), mask_of([7, 4, 1])
    with torch.no_grad(), torch.random.fork_rng():
        assert torch.equal(network(x, mask), network(x, mask))
        network.train()
        assert not torch.equal(network(x, mask), network(x, mask))


def test_every_parameter_learns_and_building_twice_starts_twice(spec):
    first, second = build(spec, 0), build(spec, 1)
    states = first(draw(B, T, D), mask_of([7, 7, 7]))
    (states * draw(B, T, D, seed=5)).sum().backward()
    for name, parameter in first.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert one is not two


@pytest.mark.parametrize("spec", [GRUEncoder(), TransformerEncoder(n_heads=2)], ids=repr)
def test_a_shortcut_adds_the_fading_average_of_the_inputs(spec):
    plain = build(spec)
    network = build(clone(spec).set_params(shortcut=True))
    network.encoder.load_state_dict(plain.state_dict())
    nn.init.constant_(network.weight, -0.7)
    nn.init.constant_(network.kept_logit, 0.4)
    x, lengths = draw(B, T, D), [7, 4, 1]
    kept, mask = 1 / (1 + math.exp(-0.4)), mask_of(lengths)
    with torch.no_grad():
        states, found = plain(x, mask), network(x, mask)
        for row, length in enumerate(lengths):
            total = torch.zeros(D, dtype=torch.float64)
            for step in range(length):
                unit = x[row, step].double() / x[row, step].double().norm()
                total = kept * total + unit
                right = states[row, step] - 0.7 * D**0.5 * total / total.norm()
                torch.testing.assert_close(found[row, step].double(), right, rtol=0, atol=1e-5)
            last = network.last_state(x, mask)[row]
            torch.testing.assert_close(last, found[row, length - 1], rtol=0, atol=1e-5)
        both = network.bidirectional(x, mask)
        torch.testing.assert_close(both, getattr(plain, "bidirectional", plain)(x, mask))


def test_a_shortcut_learns_and_drops_inputs_in_training():
    network = build(TransformerEncoder(dropout=0.9, shortcut=True)).train()
    x, mask = draw(B, T, D), mask_of([7, 4, 1])
    assert (network._averages(x) - network._averages(x)).abs().max() > 0.1
    network(x, mask).square().sum().backward()
    assert network.weight.grad.abs() > 0
    assert network.kept_logit.grad.abs() > 0
    assert torch.equal(network.eval()._averages(x), network._averages(x))


@pytest.mark.parametrize("kind", [GRUEncoder, TransformerEncoder])
def test_a_shortcut_is_there_or_not(kind):
    with pytest.raises(InvalidParameterError) as caught:
        kind(shortcut="yes").build(D)
    assert str(caught.value) == "shortcut must be one of True, False; got 'yes'."


@pytest.mark.parametrize("n_heads", [1, 3])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("block", BLOCKS)
def test_the_last_state_alone_is_that_of_all_states(block, n_layers, n_heads):
    network = build(TransformerEncoder(n_layers=n_layers, n_heads=n_heads, block=block)).double()
    jitter(network)
    x, lengths = draw(B, T, D).double(), [7, 4, 1]
    mask = mask_of(lengths)
    with torch.no_grad():
        right = network(x, mask)[torch.arange(B), torch.tensor(lengths) - 1]
        noisy = torch.where(mask[..., None], x, 1e3)
        torch.testing.assert_close(network.last_state(noisy, mask), right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("block", BLOCKS)
def test_both_directions_see_every_real_step_and_no_padding(block):
    spec = TransformerEncoder(n_heads=2, block=block)
    network, x, mask = build(spec), draw(B, T, D), mask_of([7, 4, 1])
    with torch.no_grad():
        states = network.bidirectional(x, mask)
        noisy = network.bidirectional(torch.where(mask[..., None], x, 1e3), mask)
        torch.testing.assert_close(noisy[mask], states[mask], rtol=0, atol=1e-5)
        later = x.clone()
        later[1, 3] *= -2
        assert (network.bidirectional(later, mask)[1, 0] - states[1, 0]).abs().max() > 1e-4


def jitter(module):
    """Give every parameter a size that shows in the result."""
    generator = torch.Generator().manual_seed(9)
    for parameter in module.parameters():
        parameter.data.copy_(0.4 * torch.randn(parameter.shape, generator=generator))


def test_swiglu_gates_the_hidden_layer():
    block = build(TransformerEncoder(n_layers=1, n_heads=3, block="swiglu")).blocks[0]
    jitter(block)
    assert block.expand.weight.shape == block.gate.weight.shape == (8 * D // 3, D)
    x = draw(B, T, D)
    with torch.no_grad():
        mixed = x + block._attend(block.norm_attention(x), None)
        h = block.norm_hidden(mixed).double()
        gate = h @ block.gate.weight.double().T + block.gate.bias.double()
        value = h @ block.expand.weight.double().T + block.expand.bias.double()
        inner = gate / (1 + torch.exp(-gate)) * value
        right = mixed + inner @ block.contract.weight.double().T + block.contract.bias.double()
        torch.testing.assert_close(block(x, None).double(), right, rtol=0, atol=1e-4)


def test_ligr_matches_a_loop_in_float64():
    heads, width = 3, D // 3
    spec = TransformerEncoder(n_layers=1, n_heads=heads, hidden_size=10, block="ligr")
    block = build(spec).blocks[0].double()
    jitter(block)
    plain = build(clone(spec).set_params(block="swiglu")).blocks[0]
    n_gates = sum(p.numel() for p in block.parameters()) - sum(
        p.numel() for p in plain.parameters()
    )
    assert n_gates == 2 * D * D
    x, lengths = draw(B, T, D).double(), [7, 4, 1]

    def sigmoid(z):
        return 1 / (1 + torch.exp(-z))

    def norm(z, layer):
        z = (z - z.mean()) / (z.var(unbiased=False) + 1e-5).sqrt()
        return z * layer.weight + layer.bias

    for causal in (True, False):
        mask = mask_of(lengths)
        with torch.no_grad():
            states = block(x, None if causal else mask[:, None, None, :])
        for row, length in enumerate(lengths):
            parts = [block.project_in(norm(x[row, i], block.norm_attention)) for i in range(T)]
            q, k, v = torch.stack(parts).view(T, 3, heads, width).unbind(1)
            for i in range(length):
                sees = range(i + 1) if causal else range(length)
                mixed = torch.zeros(heads, width, dtype=torch.float64)
                for head in range(heads):
                    sizes = [torch.exp(q[i, head] @ k[j, head] / width**0.5) for j in sees]
                    for j, size in zip(sees, sizes, strict=True):
                        mixed[head] += size / sum(sizes) * v[j, head]
                gate = sigmoid(block.gate_attention.weight @ x[row, i])
                state = x[row, i] + block.project_out(mixed.flatten()) * gate
                h = norm(state, block.norm_hidden)
                inner = block.gate(h) * sigmoid(block.gate(h)) * block.expand(h)
                gate = sigmoid(block.gate_hidden.weight @ state)
                right = state + block.contract(inner) * gate
                torch.testing.assert_close(states[row, i], right, rtol=0, atol=1e-9)


def test_hstu_matches_a_loop_in_float64():
    heads, width = 3, D // 3
    block = build(TransformerEncoder(n_layers=1, n_heads=heads, max_length=9, block="hstu"))
    block = block.blocks[0].double()
    jitter(block)
    x, lengths = draw(B, T, D).double(), [7, 4, 1]

    def silu(z):
        return z / (1 + torch.exp(-z))

    def norm(z, layer):
        z = (z - z.mean()) / (z.var(unbiased=False) + 1e-6).sqrt()
        return z * layer.weight + layer.bias

    for causal in (True, False):
        mask = mask_of(lengths)
        with torch.no_grad():
            states = block(x, None if causal else mask[:, None, None, :])
        for row, length in enumerate(lengths):
            parts = [silu(block.project_in(norm(x[row, i], block.norm_in))) for i in range(T)]
            u, v, q, k = torch.stack(parts).view(T, 4, heads, width).unbind(1)
            for i in range(length):
                sees = range(i + 1) if causal else range(length)
                mixed = torch.zeros(heads, width, dtype=torch.float64)
                for head in range(heads):
                    for j in sees:
                        score = q[i, head] @ k[j, head] + block.bias[head, abs(i - j)]
                        mixed[head] += silu(score) * v[j, head] / len(sees)
                gated = norm(mixed.flatten(), block.norm_mixed) * u[i].flatten()
                right = x[row, i] + block.project_out(gated)
                torch.testing.assert_close(states[row, i], right, rtol=0, atol=1e-9)


def test_blocks_are_checked():
    for spec, text in (
        (
            TransformerEncoder(block="postnorm"),
            "block must be one of 'prenorm', 'swiglu', 'ligr', 'hstu'; got 'postnorm'.",
        ),
        (
            TransformerEncoder(block="hstu", hidden_size=9),
            "hidden_size must be None for block='hstu', which has no hidden layer; got 9.",
        ),
    ):
        with pytest.raises(InvalidParameterError) as error:
            spec.build(D)
        assert str(error.value) == text


def test_attention_matches_torchs_own_layer():
    network = build(TransformerEncoder(n_layers=1, n_heads=3, hidden_size=20))
    block = network.blocks[0]
    layer = nn.TransformerEncoderLayer(
        D, 3, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    pairs = [
        (layer.self_attn.in_proj_weight, block.project_in.weight),
        (layer.self_attn.in_proj_bias, block.project_in.bias),
        (layer.self_attn.out_proj.weight, block.project_out.weight),
        (layer.self_attn.out_proj.bias, block.project_out.bias),
        (layer.linear1.weight, block.expand.weight),
        (layer.linear1.bias, block.expand.bias),
        (layer.linear2.weight, block.contract.weight),
        (layer.linear2.bias, block.contract.bias),
    ]
    x, causal = draw(B, T, D), torch.ones(T, T, dtype=torch.bool).triu(1)
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.copy_(ours.normal_(std=0.3, generator=torch.Generator().manual_seed(1)))
        torch.testing.assert_close(block(x, None), layer(x, src_mask=causal), rtol=0, atol=2e-5)


def test_the_recurrence_matches_a_loop():
    network, x = build(GRUEncoder(hidden_size=5)), draw(1, T, D)
    gru, state, states = network.gru, torch.zeros(5), []
    with torch.no_grad():
        for step in range(T):
            a = gru.weight_ih_l0 @ (x[0, step] * D**0.5) + gru.bias_ih_l0
            b = gru.weight_hh_l0 @ state + gru.bias_hh_l0
            reset, update = torch.sigmoid(a[:5] + b[:5]), torch.sigmoid(a[5:10] + b[5:10])
            new = torch.tanh(a[10:] + reset * b[10:])
            state = (1 - update) * new + update * state
            states.append(network.norm(network.project_out(state)))
        out = network(x, mask_of([7]))[0]
    torch.testing.assert_close(out, torch.stack(states), rtol=0, atol=1e-5)


COMMON = [
    ({"n_layers": 0}, "n_layers must be an integer of at least 1; got 0."),
    ({"max_length": 2.5}, "max_length must be an integer of at least 1; got 2.5."),
    ({"hidden_size": 0}, "hidden_size must be an integer of at least 1; got 0."),
    ({"dropout": 1}, "dropout must be a number in [0, 1); got 1."),
    ({"pooling": "max"}, "pooling must be one of 'last', 'mean', 'attention'; got 'max'."),
]


@pytest.mark.parametrize("kind", [GRUEncoder, TransformerEncoder])
@pytest.mark.parametrize(("params", "text"), COMMON)
def test_parameters_are_checked_when_built(kind, params, text):
    with pytest.raises(InvalidParameterError) as error:
        kind(**params).build(D)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("heads", "text"),
    [
        (5, "n_heads must divide dim=12; got 5."),
        (0, "n_heads must be an integer of at least 1; got 0."),
    ],
)
def test_heads_must_divide_the_width(heads, text):
    with pytest.raises(InvalidParameterError) as error:
        TransformerEncoder(n_heads=heads).build(D)
    assert str(error.value) == text


def test_max_length_bounds_the_positions():
    network = build(TransformerEncoder(max_length=T))
    assert network.positions.shape == (T, D)

"""The correction against its formula, written out in float64 loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from palate import Reranker
from palate.exceptions import InvalidParameterError
from palate.reranking.spec import MODES

B, N, T, DIM, WIDTH, HIDDEN = 3, 5, 4, 6, 7, 2


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    users, items = rng.normal(size=(B, DIM)), rng.normal(size=(B, N, DIM))
    content, events = unit(rng.normal(size=(B, N, WIDTH))), unit(rng.normal(size=(B, T, WIDTH)))
    visible = rng.random((B, N, T)) < 0.7
    visible[1, 2] = False
    return users, items, content, events, visible


def as_tensors(arrays, dtype=torch.float32):
    return [
        torch.from_numpy(a) if a.dtype == bool else torch.from_numpy(a).to(dtype) for a in arrays
    ]


def made(mode, seed=0):
    """Return a correction whose every weight is something."""
    spec = Reranker(mode, n_events=T + 1, hidden_size=HIDDEN)
    module = spec.build(DIM, WIDTH, 9.0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        module.strength.fill_(0.5)
    return module.eval()


def gelu(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def oracle(module, mode, users, items, content, events, visible):
    weights = {n: v.double().numpy() for n, v in module.state_dict().items()}
    out = np.zeros((B, N))
    for b in range(B):
        u = unit(users[b])
        for i in range(N):
            c, factor, sharpness = content[b, i], weights["weight"], 0.0
            if mode == "film":
                c = c * (1 + 0.3 * weights["film.weight"] @ u)
            if mode == "attention":
                sharpness = weights["sharpness"]
            if mode == "gate":
                both = np.concatenate([u, unit(items[b, i])])
                hidden = weights["gate.0.weight"] @ both + weights["gate.0.bias"]
                out_row = weights["gate.2.weight"][0]
                factor = factor + 0.3 * sum(
                    w * gelu(h) for w, h in zip(out_row, hidden, strict=True)
                )
            seen = [t for t in range(T) if visible[b, i, t]]
            if not seen:
                continue
            k = {t: c @ events[b, t] for t in seen}
            e = {t: math.exp(sharpness * k[t] + weights["recency"][t]) for t in seen}
            mean = sum(e[t] * k[t] for t in seen) / sum(e.values())
            out[b, i] = weights["strength"] * factor * mean
    return out


@pytest.mark.parametrize("mode", MODES)
def test_the_formula(mode):
    arrays, module = inputs(), made(mode)
    expected = oracle(module, mode, *arrays)
    with torch.no_grad():
        found = module(*as_tensors(arrays)).numpy()
        exact = module.double()(*as_tensors(arrays, torch.float64)).numpy()
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert found[1, 2] == 0
    assert np.abs(expected).max() > 0.05


@pytest.mark.parametrize("mode", MODES)
def test_it_starts_at_zero_and_can_move(mode):
    module = Reranker(mode, n_events=T, hidden_size=HIDDEN).build(DIM, WIDTH, 9.0)
    change = module(*as_tensors(inputs()))
    assert torch.equal(change, torch.zeros(B, N))
    change.sum().backward()
    assert float(module.weight.grad) != 0
    assert float(module.log_scale.detach()) == pytest.approx(math.log(9))


@pytest.mark.parametrize("mode", MODES)
def test_a_row_does_not_depend_on_its_neighbours(mode):
    arrays, module = as_tensors(inputs()), made(mode)
    with torch.no_grad():
        together = module(*arrays)
        for row in range(B):
            alone = module(*(a[row : row + 1] for a in arrays))
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mode": "mlp"}, "mode must be one of 'gate', 'film', 'attention'; got 'mlp'."),
        ({"n_candidates": 0}, "n_candidates must be an integer of at least 1; got 0."),
        ({"n_events": 1.5}, "n_events must be an integer of at least 1; got 1.5."),
        ({"hidden_size": True}, "hidden_size must be an integer of at least 1; got True."),
        ({"epochs": -1}, "epochs must be an integer of at least 0; got -1."),
        ({"n_examples": 0}, "n_examples must be an integer of at least 1; got 0."),
        ({"batch_size": "8"}, "batch_size must be an integer of at least 1; got '8'."),
        ({"learning_rate": 0}, "learning_rate must be a number in (0, inf); got 0."),
    ],
)
def test_what_is_refused(params, message):
    with pytest.raises(InvalidParameterError) as caught:
        Reranker(**params).check_parameters()
    assert str(caught.value) == message

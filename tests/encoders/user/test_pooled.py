import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from torch import nn

from palate.encoders.user.gru import GRUEncoder
from palate.encoders.user.pooled import PooledEncoder
from palate.encoders.user.transformer import TransformerEncoder
from palate.exceptions import InvalidParameterError
from palate.protocols import UserEncoder

B, T, D = 3, 7, 8


class Doubling(BaseEstimator):
    """Someone else's encoder: the protocol is all it follows."""

    max_length = 4
    pooling = "mean"

    def build(self, dim):
        return _Doubling()


class _Doubling(nn.Module):
    def forward(self, x, mask):
        return 2 * x


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(spec):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PooledEncoder(spec, D).eval()


def mask_of(lengths):
    return torch.arange(T) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("kind", [GRUEncoder, TransformerEncoder])
@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_one_vector_a_history_is_its_last_prefix(kind, pooling):
    network, x, lengths = build(kind(pooling=pooling)), draw(B, T, D), [2, 7, 5]
    with torch.no_grad():
        prefixes = network.prefixes(x, mask_of(lengths))
        users = network(x, mask_of(lengths))
        assert prefixes.shape == (B, T, D)
        assert users.shape == (B, D)
        for row, length in enumerate(lengths):
            for end in range(1, length + 1):
                cut = x[row : row + 1, :end]
                alone = network(cut, torch.ones(1, end, dtype=torch.bool))[0]
                torch.testing.assert_close(prefixes[row, end - 1], alone, rtol=0, atol=2e-5)
            torch.testing.assert_close(users[row], prefixes[row, length - 1], rtol=0, atol=2e-6)


def test_an_answer_takes_the_last_state_alone_where_there_is_a_way(monkeypatch):
    network, x, mask = build(TransformerEncoder()), draw(B, T, D), mask_of([2, 7, 5])
    monkeypatch.setattr(network.encoder, "forward", None)
    with torch.no_grad():
        assert network(x, mask).shape == (B, D)
    with pytest.raises(TypeError):
        network.train()(x, mask)


def test_pooling_is_what_its_name_says():
    x, mask = draw(B, T, D), mask_of([7, 7, 7])
    with torch.no_grad():
        states = build(GRUEncoder()).encoder(x, mask)
        torch.testing.assert_close(build(GRUEncoder())(x, mask), states[:, -1])
        torch.testing.assert_close(build(GRUEncoder(pooling="mean"))(x, mask), states.mean(1))
        network = build(GRUEncoder(pooling="attention"))
        states = network.encoder(x, mask)
        weights = (states @ network.attention.weight[0]).softmax(1)
        right = (weights[..., None] * states).sum(1)
        torch.testing.assert_close(network(x, mask), right, rtol=0, atol=1e-5)


def test_someone_elses_encoder_fits():
    assert isinstance(Doubling(), UserEncoder)
    network = build(Doubling())
    x, mask = draw(B, T, D), mask_of([2, 7, 5])
    assert network.max_length == 4
    torch.testing.assert_close(network(x, mask)[2], 2 * x[2, :5].mean(0))
    torch.testing.assert_close(network.states(x, mask), 2 * x)


def test_states_look_both_ways_where_they_can():
    x, mask = draw(B, T, D), mask_of([7, 7, 7])
    changed = x.clone()
    changed[:, -1] *= -2
    with torch.no_grad():
        both, causal = build(TransformerEncoder()), build(GRUEncoder())
        assert not torch.equal(both.states(x, mask)[:, 0], both.states(changed, mask)[:, 0])
        assert torch.equal(causal.states(x, mask)[:, 0], causal.states(changed, mask)[:, 0])


def test_an_empty_history_is_named():
    with pytest.raises(ValueError) as error:
        build(GRUEncoder())(draw(B, T, D), mask_of([3, 0, 2]))
    assert str(error.value) == "history 1 is empty: it has no user vector."


def test_an_unknown_pooling_is_refused():
    spec = Doubling()
    spec.pooling = "max"
    with pytest.raises(InvalidParameterError) as error:
        PooledEncoder(spec, D)
    assert str(error.value) == "pooling must be one of 'last', 'mean', 'attention'; got 'max'."


@pytest.mark.parametrize("n_layers", [1, 2])
def test_another_share_is_dropped_for_a_while_wherever_it_is(n_layers):
    pooled = PooledEncoder(GRUEncoder(n_layers=n_layers, dropout=0.2), D)
    gru = next(m for m in pooled.modules() if isinstance(m, torch.nn.GRU))
    drops = [m for m in pooled.modules() if isinstance(m, torch.nn.Dropout)]
    usual = gru.dropout
    with pooled.dropping(0.5):
        assert {drop.p for drop in drops} == {0.5}
        assert gru.dropout == (0.5 if n_layers > 1 else usual)
    assert {drop.p for drop in drops} == {0.2}
    assert gru.dropout == usual


def test_numbers_of_numpy_are_numbers():
    spec = GRUEncoder(n_layers=np.int64(2), hidden_size=np.int64(9), max_length=np.int64(8))
    assert PooledEncoder(spec, D).max_length == 8

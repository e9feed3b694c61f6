import math

import numpy as np
import pytest
import torch

from palate.encoders.user.transformer import TransformerEncoder
from palate.ops.similarity import cosine, euclidean
from palate.training import views

N, D = 11, 6


def test_the_catalogue_is_read_as_when_serving(make_network):
    network = make_network(seen=torch.arange(N) != 4).train()
    vectors = network.catalogue()
    assert vectors.shape == (N, D)
    assert vectors[4].abs().sum() == 0
    assert not network.training
    assert torch.equal(vectors, network.items(None))


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize("rows_at_once", [1, 3, 256])
def test_many_histories_are_encoded_as_each_alone(make_network, monkeypatch, pooling, rows_at_once):
    monkeypatch.setattr(views, "_ENCODE_ROWS", rows_at_once)
    network = make_network(user=TransformerEncoder(max_length=5, pooling=pooling))
    vectors = network.catalogue()
    histories = [[3, 1], [0, 1, 2, 3, 4, 5, 6, 7], [10], [9, 9, 9], [8, 7, 6, 5, 4]]
    indptr = np.cumsum([0, *map(len, histories)])
    users = network.encode_histories(vectors, indptr, np.concatenate(histories))
    assert users.shape == (5, D)
    for row, history in enumerate(histories):
        recent = torch.tensor(history[-5:])
        alone = network.users(vectors[recent][None], torch.ones(1, len(recent), dtype=torch.bool))
        torch.testing.assert_close(users[row], alone[0], rtol=0, atol=1e-5)


def test_nobody_is_encoded(make_network):
    network = make_network()
    users = network.encode_histories(
        network.catalogue(), np.zeros(1, np.int64), np.empty(0, np.int64)
    )
    assert users.shape == (0, D)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_logits_are_the_metric_over_the_temperature(make_network, metric):
    network = make_network(metric=metric)
    draw = torch.Generator().manual_seed(0)
    users, items = torch.randn(3, D, generator=draw), torch.randn(N, D, generator=draw)
    right = {
        "cosine": cosine(users[:, None], items) / 0.07,
        "dot": users @ items.T,
        "euclidean": -(euclidean(users[:, None], items) ** 2),
    }[metric]
    with torch.no_grad():
        q, v = network.logits_as_product(users, items)
        # The same softmax: equal up to one number for each user.
        torch.testing.assert_close(
            (q @ v.T).log_softmax(1), right.log_softmax(1), rtol=0, atol=1e-4
        )
        network.log_scale.fill_(math.log(1000.0))  # the learned stretch has an upper end
        q, v = network.logits_as_product(users, items)
        start = 1 / 0.07 if metric == "cosine" else 1.0
        right = right / start * 100
        torch.testing.assert_close(
            (q @ v.T).log_softmax(1), right.log_softmax(1), rtol=0, atol=1e-2
        )

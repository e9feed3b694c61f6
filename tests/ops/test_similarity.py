import numpy as np
import pytest
import torch

from palate.ops.similarity import METRICS, as_dot_product, cosine, euclidean, unit_norm

B, N, D = 3, 11, 5


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_lengths_become_one():
    x = draw(B, D) * torch.tensor([[1e-6], [1.0], [1e6]])
    right = x.double().numpy() / np.sqrt((x.double().numpy() ** 2).sum(1, keepdims=True))
    np.testing.assert_allclose(unit_norm(x), right, rtol=3e-7)
    np.testing.assert_allclose(unit_norm(x.T, dim=0).T, right, rtol=3e-7)


def test_zero_vectors_stay_zero_and_have_a_harmless_gradient():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    unit = unit_norm(x)
    assert unit[0].tolist() == [0.0, 0.0]
    unit.sum().backward()
    assert x.grad[0].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(x.grad[1], [4 / 125, -3 / 125], rtol=1e-5)


def test_no_vector_becomes_longer_than_one():
    # Squares of entries this small leave float32: the vector counts as zero.
    lengths = torch.linalg.vector_norm(unit_norm(torch.logspace(-40, 15, 56)[:, None]), dim=1)
    assert set(lengths.tolist()) == {0.0, 1.0}


def test_cosine_and_distance_match_loops():
    u, v = draw(B, 1, D), draw(N, D, seed=1)
    for row in range(B):
        for item in range(N):
            a, b = u[row, 0].double().numpy(), v[item].double().numpy()
            right = sum(a * b) / np.sqrt(sum(a * a)) / np.sqrt(sum(b * b))
            np.testing.assert_allclose(cosine(u, v)[row, item], right, rtol=1e-5, atol=1e-6)
            right = np.sqrt(sum((a - b) ** 2))
            np.testing.assert_allclose(euclidean(u, v)[row, item], right, rtol=1e-5)


def test_the_cosine_of_the_worked_example():
    u = torch.tensor([1.2, 0.9, -0.8], dtype=torch.float64)
    i = torch.tensor([0.8, 1.1, -0.7], dtype=torch.float64)
    assert float(cosine(u, i)) == pytest.approx(2.51 / np.sqrt(2.89 * 2.34), abs=1e-12)
    assert float(euclidean(u, i)) == pytest.approx(np.sqrt(0.21), abs=1e-12)
    assert float(cosine(u, torch.zeros(3, dtype=torch.float64))) == 0.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dot_products_rank_as_the_metric(metric, dtype):
    queries, items = draw(B, D, dtype=dtype), draw(N, D, seed=1, dtype=dtype) * 2
    true = {
        "cosine": cosine(queries[:, None], items),
        "dot": (queries[:, None] * items).sum(-1),
        "euclidean": -euclidean(queries[:, None], items),
    }[metric]
    q, v = as_dot_product(queries, items, metric)
    assert q.shape[1] == v.shape[1] == D + (metric == "euclidean")
    product = q @ v.T
    assert product.argsort(1).tolist() == true.argsort(1).tolist()
    if metric == "euclidean":  # minus the squared distance, but for the query's own square
        true = -(true**2) + (queries**2).sum(1, keepdim=True)
    np.testing.assert_allclose(product, true, rtol=1e-4, atol=1e-5)

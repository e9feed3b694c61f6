import torch
from sklearn.base import clone

from palate.training.objectives import SampledSoftmaxObjective, SoftmaxObjective


def test_the_full_softmax_takes_the_whole_pool():
    pool = torch.tensor([1, 4, 5])
    codes, bias = SoftmaxObjective().candidates(pool[:1], pool, pool, torch.Generator())
    assert codes is pool
    assert bias is None


def test_specs_are_cloned_and_set():
    spec = clone(SampledSoftmaxObjective(7)).set_params(n_negatives=9)
    assert spec.get_params() == {"n_negatives": 9}


def test_the_bias_is_minus_the_logarithm_of_the_chance_to_be_there():
    counts = torch.tensor([50.0, 30.0, 15.0, 5.0, 0.0])
    pool, objective = torch.arange(5), SampledSoftmaxObjective(n_negatives=2)
    generator = torch.Generator().manual_seed(0)
    n_draws, there = 3000, torch.zeros(5)
    biases = torch.full((5,), torch.nan)
    for _ in range(n_draws):
        # Three targets, the first of which is the position's own and is not counted.
        others = torch.multinomial(counts, 2, True, generator=generator)
        targets = torch.cat([torch.tensor([4]), others])
        codes, bias = objective.candidates(targets, pool, counts, generator)
        there[codes] += 1
        biases[codes] = bias
    chance = there / n_draws
    torch.testing.assert_close(torch.exp(-biases)[:4], chance[:4], rtol=0, atol=0.03)


def test_one_item_alone():
    one = torch.zeros(1, dtype=torch.int64)
    codes, bias = SampledSoftmaxObjective(3).candidates(one, one, one + 1, torch.Generator())
    assert codes.tolist() == [0]
    assert torch.isfinite(bias).all()

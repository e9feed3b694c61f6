import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone

from palate.exceptions import InvalidParameterError
from palate.training.objectives import GBCEObjective, SampledSoftmaxObjective, SoftmaxObjective


def test_the_full_softmax_takes_the_whole_pool():
    pool = torch.tensor([1, 4, 5])
    codes, bias = SoftmaxObjective().candidates(pool[:1], pool, pool, torch.Generator())
    assert codes is pool
    assert bias is None


def test_specs_are_cloned_and_set():
    spec = clone(SampledSoftmaxObjective(7)).set_params(n_negatives=9)
    assert spec.get_params() == {"n_negatives": 9, "temperature": None}


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


def test_the_smoothed_loss_is_torchs():
    draw = torch.Generator().manual_seed(0)
    queries, items = torch.randn(7, 3, generator=draw), torch.randn(5, 3, generator=draw)
    places = torch.randint(0, 5, (7,), generator=draw)
    loss = SoftmaxObjective(label_smoothing=0.2).loss(queries, items, places, None, None, 5)
    right = F.cross_entropy(queries @ items.T, places, label_smoothing=0.2)
    torch.testing.assert_close(loss, right)


def test_candidates_of_gbce_say_how_often_they_were_drawn():
    pool, targets = torch.tensor([1, 4, 5, 9, 12, 13]), torch.tensor([9, 4, 9])
    for asked, n in ((4, 4), (5, 5), (20, 5)):  # at most as many as there are others
        picks = pool[torch.randint(0, 6, (n,), generator=torch.Generator().manual_seed(3))].tolist()
        codes, drawn = GBCEObjective(n_negatives=asked).candidates(
            targets, pool, torch.arange(15), torch.Generator().manual_seed(3)
        )
        assert codes.tolist() == sorted({9, 4, *picks})
        assert drawn.tolist() == [picks.count(code) for code in codes.tolist()]
    codes, drawn = GBCEObjective(1).candidates(
        targets, pool, torch.arange(15), torch.Generator().manual_seed(3)
    )
    assert {9, 4} <= set(codes.tolist())
    assert sorted(drawn.tolist()) in ([0, 1], [0, 0, 1])


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (SoftmaxObjective(1.0), "label_smoothing must be a number in [0, 1); got 1.0."),
        (SoftmaxObjective(temperature=0), "temperature must be a number in (0, inf); got 0."),
        (
            SampledSoftmaxObjective(temperature=float("nan")),
            "temperature must be a number in (0, inf); got nan.",
        ),
        (GBCEObjective(0), "n_negatives must be an integer of at least 1; got 0."),
        (GBCEObjective(t=1.5), "t must be a number in [0, 1]; got 1.5."),
        (GBCEObjective(temperature="low"), "temperature must be a number in (0, inf); got 'low'."),
    ],
)
def test_parameters_are_checked(spec, text):
    with pytest.raises(InvalidParameterError) as error:
        spec.check_parameters()
    assert str(error.value) == text

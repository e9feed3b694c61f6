import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.ops.whitening import fit_whitening, rewhiten, whiten


def mixed(n_rows, n_features, rank, seed=0, offset=0.0):
    """Rows of a known rank with clearly separate variances, float64."""
    rng = np.random.default_rng(seed)
    scales = np.linspace(3.0, 1.0, rank)
    basis = np.linalg.qr(rng.normal(size=(n_features, rank)))[0]
    return torch.from_numpy(rng.normal(size=(n_rows, rank)) * scales @ basis.T + offset)


def oracle(x, n_components):
    """Whitened rows by a full SVD of the centred rows: another route than the covariance."""
    centred = x.numpy().astype(np.float64) - x.numpy().astype(np.float64).mean(0)
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    rank = int((singular > 1e-4 * singular[0]).sum())
    kept = min(rank, n_components)
    signs = np.sign(right[np.arange(kept), np.abs(right[:kept]).argmax(1)])
    return left[:, :kept] * np.sqrt(len(centred)) * signs


@pytest.mark.parametrize("n_components", [1, 4, 7, 256])
def test_equals_an_svd(n_components):
    x = mixed(23, 7, rank=7, offset=5.0)
    mean, matrix = fit_whitening(x, n_components)
    assert mean.shape == (7,) and matrix.shape == (7, min(n_components, 7))
    expected = oracle(x, n_components)
    np.testing.assert_allclose(whiten(x, mean, matrix).numpy(), expected, atol=1e-9)


def test_zero_mean_unit_variance_uncorrelated():
    x = mixed(301, 13, rank=13, offset=-2.0)
    white = whiten(x, *fit_whitening(x, 5)).numpy()
    np.testing.assert_allclose(white.mean(0), np.zeros(5), atol=1e-10)
    np.testing.assert_allclose(white.T @ white / 301, np.eye(5), atol=1e-10)


@pytest.mark.parametrize(
    ("n_rows", "n_features", "rank", "kept"), [(50, 9, 4, 4), (6, 17, 17, 5), (2, 3, 3, 1)]
)
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rank_deficient_rows_lose_the_empty_directions(
    n_rows, n_features, rank, kept, offset, dtype
):
    # The rows are rounded to float32: empty directions then hold its noise, not zero.
    x = mixed(n_rows, n_features, rank, offset=offset).float().to(dtype)
    mean, matrix = fit_whitening(x)
    assert matrix.shape == (n_features, kept)
    white = whiten(x.double(), mean.double(), matrix.double()).numpy()
    np.testing.assert_allclose(white.T @ white / n_rows, np.eye(kept), atol=1e-2)


@pytest.mark.parametrize("n_rows", [1, 3, 7])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_rows_without_variance_give_one_column_of_zeros(n_rows, value):
    x = torch.full((n_rows, 5), value)
    mean, matrix = fit_whitening(x)
    torch.testing.assert_close(mean, x[0])
    assert torch.equal(matrix, torch.zeros(5, 1))
    assert torch.equal(whiten(torch.randn(4, 5), mean, matrix), torch.zeros(4, 1))


@given(
    n_rows=st.integers(1, 12),
    n_features=st.integers(1, 9),
    n_components=st.integers(1, 10),
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_gives_finite_whitened_rows(n_rows, n_features, n_components, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64)
    mean, matrix = fit_whitening(x, n_components)
    rank = max(1, min(n_rows - 1, n_features))
    assert matrix.shape == (n_features, min(n_components, rank))
    white = whiten(x, mean, matrix)
    second = white.T @ white / n_rows
    target = torch.eye(len(second)) if n_rows > 1 else torch.zeros(1, 1)
    torch.testing.assert_close(second, target.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
def test_relaxed_whitening_leaves_a_share_of_the_spread(power):
    x = mixed(61, 7, rank=6, offset=3.0)
    mean, matrix = fit_whitening(x, 4, power=power)
    centred = x.numpy() - x.numpy().mean(0)
    singular = np.linalg.svd(centred, compute_uv=False)[:4]
    deviations = singular / np.sqrt(61)
    expected = oracle(x, 4) * deviations ** (1 - power)
    np.testing.assert_allclose(whiten(x, mean, matrix).numpy(), expected, atol=1e-8)
    unit = whiten(x, *fit_whitening(x, 4, power=power, unit_length=True)).numpy()
    assert (unit**2).sum(1).mean() == pytest.approx(1.0)
    np.testing.assert_allclose(unit * np.sqrt((expected**2).sum(1).mean()), expected, atol=1e-8)


def test_full_whitening_is_what_it_was_to_the_bit():
    x = mixed(40, 6, rank=6).float()
    mean, matrix = fit_whitening(x, 4)
    again, unit = fit_whitening(x, 4, power=1, unit_length=True)
    assert torch.equal(mean, again)
    assert torch.equal(unit, matrix / 4**0.5)
    assert torch.equal(
        fit_whitening(torch.ones(3, 2), power=0.5, unit_length=True)[1], torch.zeros(2, 1)
    )


@pytest.mark.parametrize("power", [-0.1, 1.1, float("nan"), "full"])
def test_powers_out_of_range(power):
    with pytest.raises(InvalidParameterError) as error:
        fit_whitening(torch.ones(3, 2), power=power)
    assert str(error.value) == f"power must be a number in [0, 1]; got {power!r}."


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("groups", "kept"), [(1, 12), (2, 12), (3, 7), (4, 256)])
def test_each_group_is_whitened_by_itself(groups, kept, dtype):
    x = mixed(97, 12, rank=12, offset=4.0).to(dtype)
    mean, matrix = fit_whitening(x, kept, groups=groups)
    white = whiten(x.double(), mean.double(), matrix.double()).numpy()
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    width, at = 12 // groups, 0
    for group in range(groups):
        part = x[:, group * width : (group + 1) * width]
        share = min(width, kept // groups + (group < kept % groups))
        found = white[:, at : at + share]
        np.testing.assert_allclose(found, oracle(part, share), atol=tolerance)
        np.testing.assert_allclose(found.T @ found / 97, np.eye(share), atol=tolerance)
        outside = np.delete(matrix.numpy(), np.s_[group * width : (group + 1) * width], 0)
        assert not outside[:, at : at + share].any()
        at += share
    assert white.shape[1] == at
    if groups > 1:  # what groups have in common stays
        assert np.abs(white.T @ white / 97 - np.eye(at)).max() > 0.05


@pytest.mark.parametrize("power", [0.0, 0.4, 1.0])
def test_groups_relaxed_and_of_unit_length(power):
    x = mixed(61, 10, rank=10, offset=3.0)
    parts = [whiten(p, *fit_whitening(p, 3, power=power)) for p in x.split(5, 1)]
    right = torch.cat(parts, 1)
    mean, matrix = fit_whitening(x, 6, power=power, groups=2)
    torch.testing.assert_close(whiten(x, mean, matrix), right, atol=1e-9, rtol=0)
    unit = whiten(x, *fit_whitening(x, 6, power=power, groups=2, unit_length=True))
    assert float(unit.square().sum(1).mean()) == pytest.approx(1.0)
    scale = right.square().sum(1).mean().sqrt()  # one for all groups
    torch.testing.assert_close(unit * scale, right, atol=1e-9, rtol=0)


def test_one_group_is_the_whole_to_the_bit():
    x = mixed(40, 6, rank=6).float()
    for one, two in zip(fit_whitening(x, 4), fit_whitening(x, 4, groups=1), strict=True):
        assert torch.equal(one, two)


def test_groups_of_smaller_rank():
    x = mixed(40, 6, rank=6)
    x[:, 2:4] = 7.0  # this group tells nothing apart
    x[:, 5] = 2 * x[:, 4]
    mean, matrix = fit_whitening(x, groups=3)
    assert matrix.shape == (6, 3)
    assert not matrix[2:4].any()
    assert torch.isfinite(whiten(x, mean, matrix)).all()
    unit = whiten(x, *fit_whitening(x, groups=3, unit_length=True))
    assert float(unit.square().sum(1).mean()) == pytest.approx(1.0)
    equal = fit_whitening(torch.ones(3, 4), groups=2, unit_length=True)[1]
    assert torch.equal(equal, torch.zeros(4, 1))


@pytest.mark.parametrize(
    ("groups", "n_components", "message"),
    [
        (0, 4, "groups must be an integer of at least 1; got 0."),
        (1.5, 4, "groups must be an integer of at least 1; got 1.5."),
        (True, 4, "groups must be an integer of at least 1; got True."),
        (4, 4, "groups must divide the 6 columns of x; got 4."),
        (
            3,
            2,
            "n_components must be at least groups=3, so that each group keeps a direction; got 2.",
        ),
    ],
)
def test_refused_groups(groups, n_components, message):
    with pytest.raises(InvalidParameterError) as caught:
        fit_whitening(torch.randn(5, 6), n_components, groups=groups)
    assert str(caught.value) == message


def test_signs_and_repeats_are_deterministic():
    x = mixed(40, 6, rank=6)
    mean, matrix = fit_whitening(x)
    again = fit_whitening(x)
    assert torch.equal(mean, again[0]) and torch.equal(matrix, again[1])
    # The largest entry of each direction is positive, also where the rows are mirrored.
    for one in (matrix, fit_whitening(-x)[1]):
        assert (one.gather(0, one.abs().argmax(0, keepdim=True)) > 0).all()
    torch.testing.assert_close(fit_whitening(-x)[1], matrix)


def test_dtypes():
    x = mixed(40, 6, rank=6)
    exact = whiten(x, *fit_whitening(x))
    for dtype, tolerance in [(torch.float32, 1e-5), (torch.float16, 2e-2)]:
        mean, matrix = fit_whitening(x.to(dtype))
        assert mean.dtype == matrix.dtype == torch.float32
        white = whiten(x.to(dtype), mean, matrix)
        assert white.dtype == torch.float32
        torch.testing.assert_close(white.double(), exact, atol=tolerance, rtol=tolerance)


def test_blocks_do_not_matter(monkeypatch):
    x = mixed(29, 6, rank=6)
    mean, matrix = fit_whitening(x)
    monkeypatch.setattr("palate.ops.whitening._BLOCK", 4)
    blocked = fit_whitening(x)
    torch.testing.assert_close(blocked[0], mean)
    torch.testing.assert_close(blocked[1], matrix)


def test_new_rows_and_leading_axes():
    x = mixed(40, 6, rank=6)
    mean, matrix = fit_whitening(x, 3)
    batch = x[:20].reshape(4, 5, 6)
    torch.testing.assert_close(
        whiten(batch, mean, matrix).reshape(20, 3), whiten(x[:20], mean, matrix)
    )
    torch.testing.assert_close(whiten(x[7], mean, matrix), (x[7] - mean) @ matrix)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.zeros(3),
            "x must be a floating 2-D tensor with at least one row and one column; "
            "got shape (3,) and dtype torch.float32.",
        ),
        (
            torch.zeros(0, 4),
            "x must be a floating 2-D tensor with at least one row and one column; "
            "got shape (0, 4) and dtype torch.float32.",
        ),
        (
            torch.zeros(2, 4, dtype=torch.int64),
            "x must be a floating 2-D tensor with at least one row and one column; "
            "got shape (2, 4) and dtype torch.int64.",
        ),
        (
            torch.tensor([[0.0, 1.0], [2.0, torch.nan], [torch.inf, 0.0]]),
            "x must be finite; row 1 has NaN or infinity.",
        ),
    ],
)
def test_refused_rows(x, message):
    with pytest.raises(InvalidInputError) as caught:
        fit_whitening(x)
    assert str(caught.value) == message


@pytest.mark.parametrize("n_components", [0, -1, 2.5, True, None])
def test_refused_n_components(n_components):
    with pytest.raises(InvalidParameterError) as caught:
        fit_whitening(torch.eye(3), n_components)
    assert str(caught.value) == (
        f"n_components must be an integer of at least 1; got {n_components!r}."
    )


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_another_whitening_of_whitened_rows(power):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(40, 7, generator=generator)
    y = 3 * torch.randn(23, 7, generator=generator) + 2
    new = fit_whitening(y, 5, power=power, unit_length=True)
    # What all directions were kept of comes to the same, whatever it was before.
    whole = fit_whitening(x, 7, power=power)
    rows = rewhiten(whiten(x, *whole), whole, new)
    np.testing.assert_allclose(rows, whiten(x, *new), atol=1e-4)
    # Else the directions that were lost are those of the mean: a projection by hand.
    part = fit_whitening(x, 3, power=power)
    basis = np.linalg.qr(part[1].double().numpy())[0]
    middle = x.double().numpy().mean(0)
    nearest = middle + (x.double().numpy() - middle) @ basis @ basis.T
    expected = (nearest - new[0].double().numpy()) @ new[1].double().numpy()
    np.testing.assert_allclose(rewhiten(whiten(x, *part), part, new), expected, atol=1e-4)


def test_integers_of_numpy_are_integers():
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    assert fit_whitening(x, np.int64(3))[1].shape == (4, 3)

"""PCA whitening of content vectors: directions of unit variance, safe at any rank."""

from __future__ import annotations

import torch
from torch import Tensor

from palate._validation import check_int, check_real
from palate.exceptions import InvalidInputError, InvalidParameterError

_BLOCK = 8192  # rows converted to float64 at once: peak memory does not grow with N


def fit_whitening(
    x: Tensor,
    n_components: int = 256,
    *,
    rtol: float = 1e-8,
    power: float = 1.0,
    unit_length: bool = False,
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """Learn the affine map that gives the rows of `x` zero mean and unit variance.

    With the mean ``m`` and the covariance ``C = E[(x - m)(x - m)^T] = V diag(s) V^T``
    (population form, divided by N), the matrix is ``V_F diag(s_F)^(-1/2)``: the
    ``F`` principal directions of largest variance, each divided by its standard
    deviation (PCA whitening; Kessy, Lewin and Strimmer, "Optimal whitening and
    decorrelation", The American Statistician, 2018).

    Parameters
    ----------
    x : float Tensor of shape (n_rows, n_features)
        The vectors, at least one row, all finite.
    n_components : int, default=256
        The most directions kept, at least 1.
    rtol : float, default=1e-8
        Directions whose variance is at most `rtol` times the largest variance are
        dropped, and so are those below the rounding error of float32 input.
    power : float, default=1.0
        In [0, 1]: directions are divided by the standard deviation to this power. 1 whitens in
        full; less leaves directions of large variance longer, and 0 leaves all as they are.
    unit_length : bool, default=False
        Whether all directions are scaled by one number so that the whitened rows of `x` have a
        mean squared length of 1 (over the directions kept).
    groups : int, default=1
        The columns of `x` are cut into so many runs of equal width, and each is whitened by
        itself: its own covariance, directions and `power`. Every group keeps an equal share of
        `n_components` (the first ones one more where it does not divide; fewer where its rank is
        smaller). What columns of different groups have in common stays.

    Returns
    -------
    mean : Tensor of shape (n_features,)
        The mean row, in the dtype of `x` (float32 for half precision) and on its device.
    matrix : Tensor of shape (n_features, F)
        ``F = min(n_components, rank)`` columns, by falling variance, group after group: with
        `groups`, a column is zero outside its group's rows, and a group without variance has no
        column. In each column the entry of largest magnitude is positive. When no direction
        has any variance (one row, or all rows equal) it is a single column of zeros: such
        content tells no item from another, and `whiten` then returns zeros for every input.

    Raises
    ------
    InvalidInputError
        If `x` is not a floating 2-D tensor with a row and a column, or is not finite.
    InvalidParameterError
        If `n_components` is not an integer of at least `groups`, `power` is not in [0, 1], or
        `groups` does not divide the columns of `x`.

    Notes
    -----
    Means and covariances are summed in float64, 8,192 rows at a time: time
    ``O(N H^2 + H^3)``, extra memory ``O(H^2 + 8192 H)``.

    Groups: Zhang et al., "Are ID Embeddings Necessary? Whitening Pre-trained Text Embeddings for
    Effective Sequential Recommendation", ICDE 2024: more groups whiten less.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0], [4.0, 2.0]])
    >>> mean, matrix = fit_whitening(x)
    >>> whiten(x, mean, matrix)
    tensor([[-1., -1.],
            [ 1., -1.],
            [-1.,  1.],
            [ 1.,  1.]])
    >>> y = x @ torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    >>> white = whiten(y, *fit_whitening(y, groups=2))  # unit variance, and still correlated
    >>> white.T @ white / 4
    tensor([[1.0000, 0.8944],
            [0.8944, 1.0000]])
    """
    _check(x, n_components, groups)
    check_real("power", power, low=0, high=1)
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    mean, covariance = _moments(x)
    width = len(mean) // groups
    columns, square = [], 0.0
    for group in range(groups):
        rows = slice(group * width, (group + 1) * width)
        share = n_components // groups + (group < n_components % groups)
        part, length = _principal(covariance[rows, rows], mean[rows], share, rtol, power)
        columns.append(mean.new_zeros(len(mean), part.shape[1]))
        columns[-1][rows] = part
        square += length
    matrix = torch.cat(columns, 1)
    if not matrix.shape[1]:
        matrix, square = mean.new_zeros(len(mean), 1), 1.0
    # Contiguous, as it is after saving and loading: the layout decides the last bits of products.
    matrix = matrix.to(x.device, dtype).contiguous()
    return mean.to(x.device, dtype), matrix / square**0.5 if unit_length else matrix


def _principal(
    covariance: Tensor, mean: Tensor, n_components: int, rtol: float, power: float
) -> tuple[Tensor, float]:
    """Return the scaled directions (H, F) of one group, and its rows' mean squared length."""
    variances, directions = torch.linalg.eigh(covariance)
    variances, directions = variances.flip(0), directions.flip(1)
    # Rounding of float32 input leaves a variance of about (eps * |x|)^2 in empty directions.
    scale = (covariance.diagonal() + mean.square()).max()
    floor = torch.maximum(rtol * variances[0], torch.finfo(torch.float32).eps ** 2 * scale)
    rank = int((variances > floor).sum())
    kept = variances[: min(rank, n_components)]
    # The root, not a power: it rounds alike everywhere.
    scales = kept.sqrt() if power == 1 else kept ** (power / 2)
    square = float((kept / scales.square()).sum()) if power < 1 else float(len(kept))
    return _fix_signs(directions[:, : len(kept)]) / scales, square


def whiten(x: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """Apply a whitening map: ``(x - mean) @ matrix``.

    Parameters
    ----------
    x : float Tensor of shape (..., n_features)
        The vectors, on the device of `mean` and `matrix`.
    mean : Tensor of shape (n_features,)
        The mean that `fit_whitening` returned.
    matrix : Tensor of shape (n_features, F)
        The matrix that `fit_whitening` returned.

    Returns
    -------
    Tensor of shape (..., F)
        The whitened vectors, in the dtype of `mean`.

    Examples
    --------
    >>> whiten(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 1.0]), torch.eye(2) / 2)
    tensor([1., 2.])
    """
    return (x.to(mean.dtype) - mean) @ matrix


def rewhiten(rows: Tensor, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> Tensor:
    """Take whitened vectors to another whitening, without the vectors that they were made of.

    Parameters
    ----------
    rows : float Tensor of shape (n_rows, n_kept)
        ``whiten(x, *old)`` of some vectors x.
    old, new : pairs of Tensors of shapes (n_features,) and (n_features, n_kept)
        Means and matrices.

    Returns
    -------
    Tensor of shape (n_rows, n_kept of `new`)
        ``whiten(x, *new)``, of the x nearest to the old mean: directions that `old` did not keep
        are taken to be those of the mean.

    Examples
    --------
    >>> x = torch.tensor([[3.0, 1.0], [5.0, 1.0]])
    >>> old = torch.tensor([0.0, 1.0]), torch.tensor([[0.5], [0.0]])
    >>> new = torch.tensor([4.0, 0.0]), torch.eye(2)
    >>> rewhiten(whiten(x, *old), old, new)
    tensor([[-1.,  1.],
            [ 1.,  1.]])
    """
    back = torch.linalg.pinv(old[1].double()).to(old[1])
    return whiten(old[0] + rows @ back, *new)


def _check(x: Tensor, n_components: int, groups: int) -> None:
    if x.ndim != 2 or min(x.shape) < 1 or not x.is_floating_point():
        raise InvalidInputError(
            "x must be a floating 2-D tensor with at least one row and one column; "
            f"got shape {tuple(x.shape)} and dtype {x.dtype}."
        )
    check_int("n_components", n_components, minimum=1)
    check_int("groups", groups, minimum=1)
    if x.shape[1] % groups:
        raise InvalidParameterError(
            f"groups must divide the {x.shape[1]} columns of x; got {groups}."
        )
    if n_components < groups:
        raise InvalidParameterError(
            f"n_components must be at least groups={groups}, so that each group keeps a direction; "
            f"got {n_components}."
        )


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (H,) and population covariance (H, H) in float64, block by block."""
    device = torch.device("cpu") if x.device.type == "mps" else x.device  # MPS has no float64
    mean = torch.zeros(x.shape[1], dtype=torch.float64, device=device)
    for block in x.split(_BLOCK):
        mean += block.to(device).double().sum(0)
    mean /= len(x)
    if not mean.isfinite().all():
        bad = int((~x.isfinite().all(1)).nonzero()[0])
        raise InvalidInputError(f"x must be finite; row {bad} has NaN or infinity.")
    covariance = mean.new_zeros(len(mean), len(mean))
    for block in x.split(_BLOCK):
        centred = block.to(device).double() - mean
        covariance += centred.T @ centred
    return mean, covariance / len(x)


def _fix_signs(directions: Tensor) -> Tensor:
    """Make the entry of largest magnitude of each column (H, F) positive."""
    pivot = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return directions * torch.where(pivot < 0, -1.0, 1.0)

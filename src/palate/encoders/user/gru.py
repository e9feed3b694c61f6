"""The GRU user encoder."""

from __future__ import annotations

import copy

from sklearn.base import BaseEstimator
from torch import Tensor, nn

from palate._validation import check_choice, check_int, check_real
from palate.defaults import AUTO, STANDALONE, fill_spec
from palate.encoders.user.pooled import POOLINGS
from palate.encoders.user.shortcut import with_shortcut


class GRUEncoder(BaseEstimator):
    """Gated recurrent units over a history (GRU4Rec's shape).

    Parameters
    ----------
    n_layers : int, default=1
        Stacked recurrent layers.
    hidden_size : int, default=None
        Width of the recurrent state, `dim` by default.
    dropout : float or "auto", default="auto"
        Share of inputs and of activations between layers dropped in training, in [0, 1).
    max_length : int or "auto", default="auto"
        The most recent events that are read.
    pooling : {"last", "mean", "attention"}, default="last"
        How the states of a history become one vector.
    shortcut : bool, default=False
        Whether the fading average of the history's vectors is added to the states, by weights that
        are learned (:class:`palate.encoders.user.shortcut.Shortcut`).

    Notes
    -----
    ``"auto"`` is chosen by :func:`palate.defaults.settings_for` from the data of `fit`; where the
    network is built alone it stands for a dropout of 0.2 and 50 events.

    Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016.

    Examples
    --------
    >>> import torch
    >>> network = GRUEncoder(hidden_size=6).build(dim=8)
    >>> x, mask = torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool)
    >>> network(x, mask).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        n_layers: int = 1,
        hidden_size: int | None = None,
        dropout: float | str = AUTO,
        max_length: int | str = AUTO,
        pooling: str = "last",
        shortcut: bool = False,
    ) -> None:
        self.n_layers = n_layers
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.max_length = max_length
        self.pooling = pooling
        self.shortcut = shortcut

    def build(self, dim: int) -> nn.Module:
        """Return a fresh network for vectors of width `dim`.

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range.
        """
        n_layers = check_int("n_layers", self.n_layers, minimum=1)
        spec = fill_spec(copy.copy(self), STANDALONE, dim)
        check_int("max_length", spec.max_length, minimum=1)
        check_real("dropout", spec.dropout, low=0, high=1, high_open=True)
        check_choice("pooling", self.pooling, POOLINGS)
        hidden = dim if self.hidden_size is None else self.hidden_size
        hidden = check_int("hidden_size", hidden, minimum=1)
        network = _GRU(dim, n_layers, hidden, spec.dropout)
        return with_shortcut(network, spec.shortcut, spec.dropout)


class _GRU(nn.Module):
    def __init__(self, dim: int, n_layers: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        between = dropout if n_layers > 1 else 0.0
        self.gru = nn.GRU(dim, hidden, n_layers, batch_first=True, dropout=between)
        self.project_out = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # Padding is on the right, after every real step, so it cannot reach a real state.
        states, _ = self.gru(self.dropout(x * x.shape[-1] ** 0.5))
        return self.norm(self.project_out(states))  # type: ignore[no-any-return]

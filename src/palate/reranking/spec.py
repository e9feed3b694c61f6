"""What a re-ranker is to be: its parameters, checked when `fit` starts."""

from __future__ import annotations

from sklearn.base import BaseEstimator

from palate._validation import check_choice, check_int, check_real
from palate.reranking.module import ContentCorrection

MODES = ("gate", "film", "attention")


class Reranker(BaseEstimator):
    r"""Re-orders the best items of the first stage by their content, in the light of the user.

    A candidate's final vector is its item vector, and beside it its content, weighted by what the
    user's recent events say; the score is the first stage's similarity plus a correction, which
    starts at zero. After the ranking stage, whose network stays as it is, the correction learns to
    find the next events of histories among the first stage's candidates. It is kept, at the best
    of three strengths and epochs, only if it raises NDCG@10 on the users held out by
    `validation_fraction` by more than a standard error; otherwise the first stage answers alone.

    Parameters
    ----------
    mode : {"gate", "attention", "film"}, default="gate"
        How content and user meet. ``"attention"``: the candidate attends to the recent events
        whose content is like its own. ``"gate"``: how much the content of recent events counts is
        learned from the user vector and the item vector. ``"film"``: the user vector scales
        each direction of the content.
    n_candidates : int, default=100
        Items of the first stage that are put in order anew; what comes after them stays behind.
    n_events : int, default=20
        Most recent events whose content is read.
    hidden_size : int, default=16
        Width of the gate's hidden layer.
    epochs : int, default=3
        Passes over the examples.
    n_examples : int, default=8192
        Events that are learned from at most: the last ones of each user.
    batch_size : int, default=64
        Examples a step.
    learning_rate : float, default=0.01
        Of AdamW.

    Notes
    -----
    With the content :math:`c_i` of a candidate, of length 1, the content :math:`c_t` of the user's
    recent events other than the item itself, a learned number :math:`r_t` for the last event, the
    one before it and so on, and user and item vectors :math:`u, v_i` of length 1:

    .. math::

        k_{it} = (c_i \odot \gamma) \cdot c_t, \quad
        a_{it} = \mathrm{softmax}_t(\tau k_{it} + r_t), \quad
        \delta_i = g_i \sum_t a_{it} k_{it}

    where :math:`\gamma = 1` but in ``"film"``, which has :math:`\gamma = 1 + 0.3\,F u`;
    :math:`\tau = 0` but in ``"attention"``; and :math:`g_i = w` but in ``"gate"``, which has
    :math:`g_i = w + 0.3\,B\,\mathrm{gelu}(A [u; v_i] + b)`. At the start w, F and B are zero.
    FiLM's shift would add the same to all items of a user, so there is none. Where items have no
    content, their vectors stand for it. Feature-wise modulation: Perez et al., "FiLM", AAAI 2018.
    Candidates that attend to recent behaviour: Zhou et al., "Deep Interest Network", KDD 2018.

    Examples
    --------
    >>> from palate import Recommender
    >>> rec = Recommender(reranker="gate").set_params(reranker__n_candidates=50)
    >>> rec.reranker
    Reranker(n_candidates=50)
    """

    def __init__(
        self,
        mode: str = "gate",
        *,
        n_candidates: int = 100,
        n_events: int = 20,
        hidden_size: int = 16,
        epochs: int = 3,
        n_examples: int = 8192,
        batch_size: int = 64,
        learning_rate: float = 0.01,
    ) -> None:
        self.mode = mode
        self.n_candidates = n_candidates
        self.n_events = n_events
        self.hidden_size = hidden_size
        self.epochs = epochs
        self.n_examples = n_examples
        self.batch_size = batch_size
        self.learning_rate = learning_rate

    def check_parameters(self) -> None:
        """Raise if a parameter is out of range."""
        check_choice("mode", self.mode, MODES)
        for name in ("n_candidates", "n_events", "hidden_size", "n_examples", "batch_size"):
            check_int(name, getattr(self, name), minimum=1)
        check_int("epochs", self.epochs)
        check_real("learning_rate", self.learning_rate, low=0, low_open=True, high_open=True)

    def build(self, dim: int, width: int, scale: float = 1.0) -> ContentCorrection:
        """Return a fresh correction, which is zero.

        Parameters
        ----------
        dim : int
            Width of user and item vectors.
        width : int
            Width of content vectors.
        scale : float, default=1.0
            Where the factor that turns scores into logits, in training, starts.
        """
        self.check_parameters()
        return ContentCorrection(self.mode, dim, width, self.n_events, self.hidden_size, scale)

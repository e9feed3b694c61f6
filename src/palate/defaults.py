"""The rule that turns "auto" into numbers: width, depth, length and pace follow the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from palate._validation import check_int, check_real
from palate.exceptions import InvalidParameterError

AUTO = "auto"

#: Mean events a user from which a set counts as dense.
DENSE_EVENTS = 50
#: Items below which a set that is not dense counts as small.
SMALL_ITEMS = 2_000
# A tiny set gets more epochs, so that it takes some steps; a huge one fewer, for it has many.
_FEWEST_STEPS, _MOST_EPOCHS = 200, 60
_MOST_EVENTS, _FEWEST_EPOCHS = 30_000_000, 5
# Learning on may read this share of what `fit` reads, in this many epochs at least.
_SHARE_ON, _FEWEST_ON = 0.1, 5


@dataclass(frozen=True)
class Settings:
    """What "auto" stands for.

    Attributes
    ----------
    dim : int
        Width of user and item vectors.
    batch_size, epochs : int
        Histories a step, and most epochs.
    n_layers, n_heads, max_length : int
        Depth of the Transformer, its heads, and the most recent events that are read.
    dropout : float
        Of the user encoder.
    shortcut : bool
        Whether the fading average of the history is added to its states.
    """

    dim: int = 64
    batch_size: int = 128
    epochs: int = 30
    n_layers: int = 2
    n_heads: int = 1
    max_length: int = 50
    dropout: float = 0.2
    shortcut: bool = False


#: What a part used alone takes, and what models saved before there was a rule were made with.
STANDALONE = Settings()
_SMALL = Settings(batch_size=32, epochs=15, n_layers=1, dropout=0.3, shortcut=True)
_SPARSE = Settings(dim=128, epochs=18, n_layers=1, dropout=0.5, shortcut=True)
_DENSE = Settings(dim=128, batch_size=16, epochs=20, n_heads=2, max_length=200, shortcut=True)


def settings_for(n_events: int, n_users: int, n_items: int) -> Settings:
    """Choose the settings for a data set.

    Dense sets (50 events a user or more) get two layers that read 200 events; others one layer
    that reads 50: narrow and with small batches below 2,000 items, from there on wide and with much
    dropout. All Transformers have a shortcut past the layers. At least 200 steps are planned (in at
    most 60 epochs), and, from five epochs on, at most 30 million events.

    Parameters
    ----------
    n_events, n_users, n_items : int
        Of the training data; items with an event.

    Returns
    -------
    Settings

    Examples
    --------
    >>> sparse = settings_for(n_events=198_502, n_users=22_363, n_items=12_101)
    >>> sparse.dim, sparse.dropout, sparse.epochs
    (128, 0.5, 18)
    >>> settings_for(n_events=999_611, n_users=6_040, n_items=3_416).max_length
    200
    >>> settings_for(n_events=10_000_000, n_users=1_000_000, n_items=1_000_000).epochs
    5
    """
    n_users = max(1, n_users)
    if n_events / n_users >= DENSE_EVENTS:
        chosen = _DENSE
    else:
        chosen = _SMALL if n_items < SMALL_ITEMS else _SPARSE
    epochs = epochs_for(chosen, n_events, n_users)
    epochs = min(epochs, max(_FEWEST_EPOCHS, _MOST_EVENTS // max(1, n_events)))
    return replace(chosen, epochs=epochs)


def epochs_for(settings: Settings, n_events: int, n_users: int) -> int:
    """Return the epochs of `settings`, or as many more as make 200 steps: at most 60.

    Examples
    --------
    >>> [epochs_for(STANDALONE, n_events=5 * n, n_users=n) for n in (9, 600, 5_000)]
    [60, 40, 30]
    """
    n_users = max(1, n_users)
    n_windows = n_users * max(1, -(-n_events // (n_users * settings.max_length)))
    steps = -(-n_windows // settings.batch_size)
    return max(settings.epochs, min(_MOST_EPOCHS, -(-_FEWEST_STEPS // steps)))


def epochs_on(settings: Settings, n_events: int, n_learned: int) -> int:
    """Return the epochs in which learning on reads a tenth of what `fit` reads.

    At least five, for a rate that rises and falls needs some, and at most those of `fit`.

    Parameters
    ----------
    settings : Settings
        Those of `fit`.
    n_events, n_learned : int
        Events in all, and of the users who are learned from.

    Examples
    --------
    >>> [epochs_on(STANDALONE, 100_000, n) for n in (20, 50_000, 100_000)]
    [30, 6, 5]
    """
    wanted = round(_SHARE_ON * settings.epochs * n_events / max(1, n_learned))
    return min(settings.epochs, max(_FEWEST_ON, wanted))


def check_int_or_auto(name: str, value: Any, *, minimum: int = 0) -> int | None:
    """Return `value` as an int of at least `minimum`, or None for "auto".

    Examples
    --------
    >>> check_int_or_auto("dim", 0, minimum=1)
    Traceback (most recent call last):
    palate.exceptions.InvalidParameterError: dim must be an integer of at least 1 or 'auto'; got 0.
    """
    if isinstance(value, str) and value == AUTO:
        return None
    try:
        return check_int(name, value, minimum=minimum)
    except InvalidParameterError as error:
        text = str(error).replace(f"of at least {minimum};", f"of at least {minimum} or 'auto';")
        raise InvalidParameterError(text) from None


def check_real_or_auto(name: str, value: Any, **bounds: Any) -> float | None:
    """Return `value` as a float of at least 0, or None for "auto".

    Examples
    --------
    >>> check_real_or_auto("rehearsal", 2, high=1)
    Traceback (most recent call last):
    palate.exceptions.InvalidParameterError: rehearsal must be a number in [0, 1] or 'auto'; got 2.
    """
    if isinstance(value, str) and value == AUTO:
        return None
    try:
        return check_real(name, value, low=0, **bounds)
    except InvalidParameterError as error:
        raise InvalidParameterError(str(error).replace(";", " or 'auto';", 1)) from None


def fill_spec(spec: Any, settings: Settings, dim: int) -> Any:
    """Put numbers in place of every "auto" of a part's spec, in place.

    Examples
    --------
    >>> from palate.encoders.user.gru import GRUEncoder
    >>> fill_spec(GRUEncoder(dropout=0.1), STANDALONE, dim=8)
    GRUEncoder(dropout=0.1, max_length=50)
    """
    values = {**asdict(settings), "dim": dim}
    if dim % settings.n_heads:
        values["n_heads"] = 1
    for name, value in values.items():
        current = getattr(spec, name, None)
        if isinstance(current, str) and current == AUTO:
            setattr(spec, name, value)
    return spec

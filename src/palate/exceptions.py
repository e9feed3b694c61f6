"""Errors and warnings of palate: each is also the built-in type that callers already catch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.exceptions import NotFittedError


class PalateError(Exception):
    """Base class of every error that palate raises on purpose."""


class InvalidInputError(PalateError, ValueError):
    """A table, history or array does not have the form that a call accepts."""


class InvalidParameterError(PalateError, ValueError):
    """A parameter has a value that is not accepted."""


class UnsupportedTargetError(PalateError, ValueError):
    """A query names a user or an item that the model does not know."""


class MissingContentError(PalateError, ValueError):
    """An item has no content, and the item encoder needs it."""


class IntegrityError(PalateError, ValueError):
    """A file does not have the bytes that its checksum promises."""


class PersistenceError(PalateError, ValueError):
    """A saved model cannot be read: a wrong format version, or missing or unexpected parts."""


class DamagedModelError(PersistenceError, IntegrityError):
    """A file of a saved model does not have the bytes that were written; the message names it."""


class PalateWarning(UserWarning):
    """Base class of palate's warnings."""


class UnsupportedTargetWarning(PalateWarning):
    """Unknown users or items were skipped."""


class DataLeakWarning(PalateWarning):
    """An evaluation lets the model see the future of its test events."""


class UnreadInputWarning(PalateWarning):
    """Something in the input that looks as if it should count is read in another way, or not."""


class TrainingInterruptedWarning(PalateWarning):
    """Training was stopped by the keyboard; the best weights so far were kept."""


__all__ = [
    "DamagedModelError",
    "DataLeakWarning",
    "IntegrityError",
    "InvalidInputError",
    "InvalidParameterError",
    "MissingContentError",
    "NotFittedError",
    "PalateError",
    "PalateWarning",
    "PersistenceError",
    "TrainingInterruptedWarning",
    "UnreadInputWarning",
    "UnsupportedTargetError",
    "UnsupportedTargetWarning",
]


def __getattr__(name: str) -> Any:
    # scikit-learn's own class, imported when asked for: a reader of exports needs numpy alone.
    if name == "NotFittedError":
        from sklearn.exceptions import NotFittedError

        return NotFittedError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

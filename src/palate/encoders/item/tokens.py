"""Texts to padded token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from palate._threads import ForkedLock
from palate._validation import check_int
from palate.exceptions import InvalidInputError

# A fast tokenizer refuses two threads at once. One lock for all: models stay copyable.
_TOKENIZING = ForkedLock()
# Of each text a tokenizer keeps more than ids until it has read all that it was given.
_AT_ONCE = 64


class TextTokenizer:
    """A Hugging Face tokenizer that any text and any thread may use.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The tokenizer.
    max_length : int
        The longest token sequence that the model allows.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length

    def ids(self, texts: Sequence[str], max_tokens: int = 256) -> list[list[int]]:
        """Return the token ids of each text with special tokens, cut and not padded.

        Parameters
        ----------
        texts : sequence of str
            Any number of texts; empty strings are allowed.
        max_tokens : int, default=256
            Tokens kept, special ones included, at least 3; the model's own limit is
            kept where it is less.

        Returns
        -------
        list of list of int
            At least one token for each text.
        """
        check_int("max_tokens", max_tokens, minimum=3)
        if not len(texts):
            return []
        rows: list[list[int]] = []
        for start in range(0, len(texts), _AT_ONCE):
            part = [_valid_unicode(text) for text in texts[start : start + _AT_ONCE]]
            with _TOKENIZING.held:
                rows += self.tokenizer(
                    part,
                    truncation=True,
                    max_length=min(max_tokens, self.max_length),
                    padding=False,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                )["input_ids"]
        # A tokenizer without special tokens turns "" into nothing: a padding token stands in.
        return [row or [self.pad_id] for row in rows]

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Return one batch of token ids, padded on the right.

        Parameters
        ----------
        ids : sequence of sequences of int
            At least one row, as `ids` makes them.

        Returns
        -------
        dict of int64 Tensors of shape (n_rows, longest row)
            ``input_ids`` and ``attention_mask`` (1 at real tokens).
        """
        width = max(map(len, ids))
        tokens = torch.full((len(ids), width), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(tokens)
        for row, sequence in enumerate(ids):
            tokens[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        return {"input_ids": tokens, "attention_mask": mask}

    @property
    def pad_id(self) -> int:
        """The padding token, or 0 for a tokenizer without one (padding is masked anyway)."""
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None else int(pad)


def check_texts(texts: Sequence[str]) -> None:
    """Refuse one string in place of a sequence, and entries that are not strings.

    Parameters
    ----------
    texts : sequence of str
        What is to be encoded.

    Raises
    ------
    InvalidInputError
        If something else is given.

    Examples
    --------
    >>> check_texts(["a book", None])
    Traceback (most recent call last):
    palate.exceptions.InvalidInputError: texts must hold strings only; got NoneType at position 1.
    """
    if isinstance(texts, str):
        raise InvalidInputError(f"texts must be a sequence of strings; got the string {texts!r}.")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInputError(
                f"texts must hold strings only; got {type(text).__name__} at position {row}."
            )


def _valid_unicode(text: str) -> str:
    """Replace lone surrogates, which cut-off emoji leave behind and no tokenizer accepts."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text

"""A pretrained BERT as a function from texts to vectors: load, tokenize, encode, pool."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from palate._memory import give_back_memory
from palate._validation import check_choice, check_int
from palate.data.padding import cut_rows, steps_at_once
from palate.encoders.item.model_source import ModelSource, resolve_model
from palate.encoders.item.tokens import TextTokenizer, check_texts

POOLINGS = ("mean", "cls")

_LOADING = threading.Lock()  # transformers' verbosity is global while a model loads
_COUNTING = threading.Lock()
_WINDOW = 16_384  # texts tokenized at once: memory does not grow with the number of texts
# Tokens that run at once on each thread of a CPU: more take memory and no less time.
_TOKENS_A_THREAD = 512
_TIDY = 4  # batches, each of another length, after which their memory is given back


class TextModel:
    """A loaded text model with its tokenizer.

    Parameters
    ----------
    model : torch.nn.Module
        A Hugging Face encoder: called with ``input_ids`` and ``attention_mask``, it
        returns an object with ``last_hidden_state`` of shape (B, T, hidden).
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    source : ModelSource
        Where both came from.

    Attributes
    ----------
    n_encoded_ : int
        Texts that went through any model in this process, encoding and fine-tuning
        together: a count on the class, by which one sees that a cache was used.
    """

    n_encoded_: ClassVar[int] = 0

    def __init__(self, model: nn.Module, tokenizer: Any, source: ModelSource) -> None:
        self.model = model
        self.tokens = TextTokenizer(tokenizer, _longest(model, tokenizer))
        self.source = source

    @property
    def hidden_size(self) -> int:
        """Width of the vectors."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def tokenize(self, texts: Sequence[str], max_tokens: int = 256) -> dict[str, Tensor]:
        """Turn texts into one padded batch.

        Parameters
        ----------
        texts : sequence of str
            At least one text; empty strings are allowed.
        max_tokens : int, default=256
            Longer texts are cut to this many tokens (special tokens included), or to
            the length that the model allows where that is less.

        Returns
        -------
        dict of int64 Tensors of shape (n_texts, n_tokens)
            ``input_ids`` and ``attention_mask``, padded on the right.
        """
        check_texts(texts)
        return self.tokens.pad(self.tokens.ids(texts, max_tokens))

    def pool(self, token_batch: Mapping[str, Tensor], pooling: str = "mean") -> Tensor:
        """Vectors (B, hidden) of a batch from `tokenize`, with gradients: `forward_pooled`."""
        return forward_pooled(
            self.model, token_batch["input_ids"], token_batch["attention_mask"], pooling
        )

    def encode(
        self,
        texts: Sequence[str],
        *,
        pooling: str = "mean",
        max_tokens: int = 256,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
        progress: bool = False,
    ) -> np.ndarray:
        """Encode texts without gradients, in evaluation mode.

        Each unique text runs once, in batches of texts of similar length. The model
        is moved to `device` and stays there; its training mode is restored.

        Parameters
        ----------
        texts : sequence of str
            Any number of texts; empty strings are allowed.
        pooling : {"mean", "cls"}, default="mean"
            See `forward_pooled`.
        max_tokens : int, default=256
            Tokens kept of each text, at least 3.
        batch_size : int, default=64
            Texts that run at once at most; long ones are fewer on a CPU, where a batch holds up
            to 512 tokens a thread.
        device : str or torch.device, default="cpu"
            Where the model runs.
        progress : bool, default=False
            Show a progress bar on stderr.

        Returns
        -------
        float32 ndarray of shape (n_texts, hidden)
            One vector for each text, in the order given.

        Raises
        ------
        InvalidInputError
            If `texts` is one string, or holds something that is not a string.
        InvalidParameterError
            If `pooling`, `max_tokens` or `batch_size` is not accepted.
        """
        check_texts(texts)
        unique = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        vectors = np.empty((len(unique), self.hidden_size), dtype=np.float32)
        for rows, block in self.encode_batches(
            list(unique),
            pooling=pooling,
            max_tokens=max_tokens,
            batch_size=batch_size,
            device=device,
            progress=progress,
        ):
            vectors[rows] = block
        return vectors[[unique[text] for text in texts]] if len(unique) < len(texts) else vectors

    def encode_batches(
        self,
        texts: Sequence[str],
        *,
        pooling: str = "mean",
        max_tokens: int = 256,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
        progress: bool = False,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Encode texts and yield each batch when it is done: the steps of `encode`.

        Parameters
        ----------
        texts : sequence of str
            The texts, all of which run (repeats too).
        pooling, max_tokens, batch_size, device, progress
            See `encode`.

        Yields
        ------
        rows : int64 ndarray of shape (b,)
            Positions in `texts`, each exactly once over all batches.
        vectors : float32 ndarray of shape (b, hidden)
            Their vectors.
        """
        check_choice("pooling", pooling, POOLINGS)
        check_int("batch_size", batch_size, minimum=1)
        self.model.to(device)
        with tqdm(total=len(texts), desc="encode", unit="text", disable=not progress) as bar:
            for start in range(0, len(texts), _WINDOW):
                ids = self.tokens.ids(texts[start : start + _WINDOW], max_tokens)
                # Longest first: what does not fit in memory fails in the first batch.
                lengths = np.array([len(row) for row in ids])
                order = np.argsort(-lengths, kind="stable")
                n_steps = steps_at_once(device, _TOKENS_A_THREAD)
                parts = cut_rows(lengths[order], batch_size, n_steps)
                for n_done, part in enumerate(parts, 1):
                    rows = order[part]
                    batch = self.tokens.pad([ids[row] for row in rows])
                    yield start + rows, self._run(batch, pooling, device)
                    bar.update(len(rows))
                    if n_done % _TIDY == 0:
                        give_back_memory()

    def _run(
        self, batch: Mapping[str, Tensor], pooling: str, device: str | torch.device
    ) -> np.ndarray:
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with _evaluating(self.model), torch.inference_mode():
            return self.pool(batch, pooling).float().cpu().numpy()


def load_text_model(source: ModelSource | str) -> TextModel:
    """Load a BERT and its tokenizer; transformers is imported here, not before.

    Only safetensors weights are read and no code of the model's folder is run. The
    model is in evaluation mode, in float32, on the CPU, without its pooling head.

    Parameters
    ----------
    source : ModelSource or str
        What `resolve_model` returned, or a name for it.

    Returns
    -------
    TextModel
        A fresh model: nothing is shared with one loaded before.
    """
    source = source if isinstance(source, ModelSource) else resolve_model(source)
    from transformers import AutoModel, AutoTokenizer

    options = {"trust_remote_code": False, "local_files_only": True}
    with _quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(source.folder, **options)
        options["use_safetensors"] = True
        try:
            model = AutoModel.from_pretrained(source.folder, add_pooling_layer=False, **options)
        except TypeError:  # a class without a pooling head does not know the option
            model = AutoModel.from_pretrained(source.folder, **options)
    return TextModel(model.float().eval(), tokenizer, source)


def forward_pooled(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, pooling: str = "mean"
) -> Tensor:
    """Run a text model and pool its token vectors, with gradients where they are asked for.

    Parameters
    ----------
    model : torch.nn.Module
        A Hugging Face encoder.
    input_ids, attention_mask : int64 Tensors of shape (B, T)
        Token ids, and 1 for a real token, 0 for padding.
    pooling : {"mean", "cls"}, default="mean"
        The mean over the real tokens, or the vector of the first token.

    Returns
    -------
    float Tensor of shape (B, hidden)
        One vector for each row.
    """
    check_choice("pooling", pooling, POOLINGS)
    hidden = model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    with _COUNTING:
        TextModel.n_encoded_ += len(input_ids)
    if pooling == "cls":
        return hidden[:, 0]
    mask = attention_mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * mask).sum(1) / mask.sum(1).clamp_min(1.0)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence transformers' bars and load reports, and put its settings back."""
    from transformers.utils import logging

    with _LOADING:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


def _longest(model: nn.Module, tokenizer: Any) -> int:
    """Return the longest token sequence that the tokenizer and the model's positions allow."""
    config: Any = model.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return int(tokenizer.model_max_length)
    # RoBERTa and its kin start counting positions after the padding token.
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return int(min(tokenizer.model_max_length, positions - (0 if padding is None else padding + 1)))

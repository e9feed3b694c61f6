"""A tiny random BERT on disk, for tests that must not download anything."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Sequence
from pathlib import Path

import torch

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_tiny_bert(
    folder: str | os.PathLike[str],
    *,
    hidden_size: int = 32,
    n_layers: int = 2,
    max_length: int = 64,
    words: Sequence[str] = (),
    random_state: int = 0,
) -> Path:
    """Write a small BERT with random weights, and its tokenizer, into a folder.

    Any Hugging Face loader reads the folder. Every ASCII text has tokens: words of
    the vocabulary are one token, others are spelled out in letters.

    Parameters
    ----------
    folder : str or path
        Made where it does not exist; files of the same names are overwritten.
    hidden_size : int, default=32
        Width of the vectors, a multiple of 4 (there are four attention heads).
    n_layers : int, default=2
        Transformer layers.
    max_length : int, default=64
        Positions: longer texts are cut.
    words : sequence of str, default=()
        Lower-case words that are to be one token.
    random_state : int, default=0
        Seed of the weights; equal arguments write equal weights.

    Returns
    -------
    pathlib.Path
        The folder: ``config.json``, ``model.safetensors``, ``vocab.txt``,
        ``tokenizer.json`` and ``tokenizer_config.json``.

    Examples
    --------
    >>> import tempfile
    >>> from palate.encoders.item.text_model import load_text_model
    >>> folder = make_tiny_bert(tempfile.mkdtemp())
    >>> load_text_model(str(folder)).encode(["a book", "a lamp", ""]).shape
    (3, 32)
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary(words)
    (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    _write_tokenizer(path, vocabulary, max_length)
    _write_model(path, len(vocabulary), hidden_size, n_layers, max_length, random_state)
    return path


def _vocabulary(words: Sequence[str]) -> list[str]:
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *(f"##{letter}" for letter in letters), *string.punctuation, *words]
    return list(dict.fromkeys([*_SPECIAL, *pieces]))


def _write_tokenizer(path: Path, vocabulary: Sequence[str], max_length: int) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    codes = {word: code for code, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(codes, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", codes["[SEP]"]), ("[CLS]", codes["[CLS]"])
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": max_length,
        **{f"{token[1:-1].lower()}_token": token for token in _SPECIAL},
    }
    text = json.dumps(settings, indent=2)
    (path / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _write_model(
    path: Path, n_words: int, hidden_size: int, n_layers: int, max_length: int, random_state: int
) -> None:
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=n_words,
        hidden_size=hidden_size,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=max_length,
        architectures=["BertModel"],
    )
    with torch.random.fork_rng(devices=[]):  # the constructor draws from the global generator
        model = BertModel(config, add_pooling_layer=False)
    generator = torch.Generator().manual_seed(random_state)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" not in name:
                # Wide enough that different texts get clearly different vectors.
                parameter.normal_(0.0, 0.2, generator=generator)
    config.save_pretrained(path)
    tensors = {name: p.detach().contiguous() for name, p in model.named_parameters()}
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})

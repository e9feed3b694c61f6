"""Texts to vectors: palate beside sentence-transformers, one BERT, in one process.

    pip install sentence-transformers
    python benchmarks/encoding.py DATASET_FOLDER [--texts 2000] [--rounds 5] [--threads 1]

The folder holds items.parquet with a column text. Both get the same texts in the same order, the
same weights, the same limit of tokens and batches of the same size, in float32; rounds alternate.
sentence-transformers sorts by length and pads each batch as palate does. Printed: the best and the
median seconds of each, the ratio of the bests, and the lowest cosine between the two vectors of a
text. `--repeated` keeps texts that occur more than once: palate encodes each text once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers import models as parts

from palate.encoders.item.model_source import resolve_model
from palate.encoders.item.text_model import load_text_model


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--texts", type=int, default=2_000, help="drawn at random")
    parser.add_argument("--repeated", action="store_true")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def texts_of(args: argparse.Namespace) -> list[str]:
    """Draw the texts."""
    texts = pd.read_parquet(args.folder / "items.parquet", columns=["text"])["text"]
    texts = texts.fillna("").astype(str)
    if not args.repeated:
        texts = texts.drop_duplicates()
    return texts.sample(min(args.texts, len(texts)), random_state=0).tolist()  # type: ignore[no-any-return]


def ways(args: argparse.Namespace) -> dict[str, Callable[[list[str]], np.ndarray]]:
    """Return what encodes texts, by name."""
    source = resolve_model(args.model)
    ours = load_text_model(source)
    words = parts.Transformer(str(source.folder), max_seq_length=args.max_tokens)
    pooling = parts.Pooling(ours.hidden_size, "mean")
    theirs = SentenceTransformer(modules=[words, pooling], device=args.device)
    return {
        "palate": lambda texts: ours.encode(
            texts, max_tokens=args.max_tokens, batch_size=args.batch_size, device=args.device
        ),
        "sentence-transformers": lambda texts: theirs.encode(
            texts, batch_size=args.batch_size, show_progress_bar=False
        ),
    }


def main() -> None:
    """Print the table."""
    args = parse()
    torch.set_num_threads(args.threads)
    texts, encoders = texts_of(args), ways(args)
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    found: dict[str, np.ndarray] = {}
    for encode in encoders.values():  # load, allocate
        encode(texts[: args.batch_size])
    for _ in range(args.rounds):
        for name, encode in encoders.items():
            started = time.perf_counter()
            found[name] = encode(texts)
            seconds[name].append(time.perf_counter() - started)
    print(
        f"{args.folder.resolve().name}: {len(texts)} texts, {args.threads} thread(s), "
        f"batches of {args.batch_size}, {args.rounds} rounds"
    )
    for name, times in seconds.items():
        print(f"{name:24} best {min(times):7.2f} s   median {statistics.median(times):7.2f} s")
    ratio = min(seconds["palate"]) / min(seconds["sentence-transformers"])
    print(f"palate / sentence-transformers: {ratio:.2f}")
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in found.values())
    print(f"lowest cosine of the two vectors of a text: {(a * b).sum(1).min():.6f}")


if __name__ == "__main__":
    main()

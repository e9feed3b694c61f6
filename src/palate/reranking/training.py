"""The second stage of learning: a correction of similarities, while the network stays as it is."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from palate._options import RunOptions
from palate._random import ModuleSeed, torch_generator
from palate._validation import warn_caller
from palate.data.histories import Histories
from palate.exceptions import TrainingInterruptedWarning
from palate.ops.discount import gains_behind
from palate.reranking.content import content_of
from palate.reranking.examples import Examples, Prefixes, last_prefixes, make_examples
from palate.reranking.module import ContentCorrection
from palate.reranking.spec import Reranker
from palate.training.network import TasteNetwork
from palate.training.validation import Holdout, K

logger = logging.getLogger(__name__)

STAGE = "rerank"
_WEIGHT_DECAY = 0.01
# How strongly a correction is applied: validation chooses.
_STRENGTHS = (0.5, 1.0, 2.0)
_EVAL_ROWS = 256


@dataclass(frozen=True)
class Tables:
    """What candidates are looked up in: item rows and content (n_items, …)."""

    vectors: Tensor
    content: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, network: TasteNetwork) -> Tables:
        """Return the tables of a network's catalogue; content of length 1."""
        # A copy: what is made for inference cannot be learned through.
        vectors = network.catalogue().clone()
        return cls(vectors, content_of(network.items))

    def correct(self, module: ContentCorrection, examples: Examples) -> Tensor:
        """Return the corrections of examples: (n_rows, n_candidates + 1)."""
        codes, recent = examples.codes, examples.recent
        visible = examples.known[:, None] & (codes[:, :, None] != recent[:, None])
        return module(  # type: ignore[no-any-return]
            examples.users,
            self.vectors[codes],
            self.content[codes],
            self.content[recent],
            visible,
        )


def learn_reranker(
    spec: Reranker,
    network: TasteNetwork,
    histories: Histories,
    holdout: Holdout | None,
    seed: int,
    n_epochs: int,
    options: RunOptions,
    before: ContentCorrection | None = None,
    people: np.ndarray | None = None,
) -> tuple[ContentCorrection, list[dict[str, Any]]]:
    """Learn a correction on the last events of histories, and choose it by the held-out ones.

    Parameters
    ----------
    spec : Reranker
    network : TasteNetwork
        In evaluation mode; left as it is.
    histories : Histories
        What the network was trained on; compact ones.
    holdout : Holdout or None
        None takes what the last epoch leaves.
    seed : int
    n_epochs : int
    options : RunOptions
    before : ContentCorrection, default=None
        What to go on from: it stays if no epoch is better. Without it the start is no correction.
    people : int64 ndarray of shape (n_users,), default=None
        Codes of the users' attribute texts, -1 for none.

    Returns
    -------
    module : ContentCorrection
    records : list of dict
        One for each epoch, as those of the first stage.
    """
    with ModuleSeed(seed):
        tables = Tables.of(network)
        scale = float(network.log_scale.detach().exp())
        dim, width = network.dim, tables.content.shape[1]
        module = copy.deepcopy(before) or spec.build(dim, width, scale)
        module = module.to(tables.vectors.device).requires_grad_(True)
        draw, timed = torch_generator(seed), network.reads_times
        prefixes = last_prefixes(histories, spec.n_examples, draw, people, timed=timed)
        if not len(prefixes.targets) or not n_epochs:
            return _settled(module, strength=None if before else 0.0), []
        sizes = (spec.n_candidates, spec.n_events)
        examples = make_examples(network, tables.vectors, prefixes, *sizes, dropout=True)
        held = None if holdout is None else make_held(spec, network, tables, holdout)
        trainer = _Trainer(spec, module, tables, examples, held, options)
        return trainer.run(n_epochs, torch_generator(seed, 1), keep_start=before is not None)


def make_held(spec: Reranker, network: TasteNetwork, tables: Tables, holdout: Holdout) -> Examples:
    """Return the examples of held-out events, by which a correction is chosen."""
    weights = np.ones(len(holdout.targets), np.float32)
    rows = holdout.indptr, holdout.items, holdout.targets, weights, holdout.people, holdout.times
    last = Prefixes(*rows)
    sizes = (spec.n_candidates, spec.n_events)
    return make_examples(network, tables.vectors, last, *sizes, dropout=False)


class _Trainer:
    """The state of a running re-ranking stage."""

    def __init__(
        self,
        spec: Reranker,
        module: ContentCorrection,
        tables: Tables,
        examples: Examples,
        held: Examples | None,
        options: RunOptions,
    ) -> None:
        self.spec, self.module, self.tables = spec, module, tables
        self.examples, self.held, self.options = examples, held, options
        self.best_module, self.best = module, -1.0
        self.start = torch.zeros(0)
        self.records: list[dict[str, Any]] = []

    def run(
        self, n_epochs: int, generator: torch.Generator, *, keep_start: bool
    ) -> tuple[ContentCorrection, list[dict[str, Any]]]:
        """Train `n_epochs`; return the best correction and the records."""
        optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=self.spec.learning_rate, weight_decay=_WEIGHT_DECAY
        )
        if self.held is not None:
            self._validate(keep_start=keep_start)
        try:
            for epoch in range(n_epochs):
                self._run_epoch(epoch, optimizer, generator)
        except KeyboardInterrupt:
            message = (
                f"Training was interrupted in epoch {len(self.records)} of stage {STAGE!r}; the "
                "best correction so far is kept."
            )
            logger.warning(message)
            warn_caller(message, TrainingInterruptedWarning)
        chosen = self.module if self.held is None else self.best_module
        return _settled(chosen), self.records

    def _run_epoch(
        self, epoch: int, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        started, total = time.perf_counter(), 0.0
        order = torch.randperm(len(self.examples), generator=generator)
        batches = order.to(self.examples.users.device).split(self.spec.batch_size)
        bar = tqdm(
            batches,
            desc=f"{STAGE} {epoch + 1}",
            disable=self.options.hide_progress,
            leave=False,
        )
        for rows in bar:
            batch = self.examples[rows]
            optimizer.zero_grad()
            loss = candidate_loss(
                batch, self.tables.correct(self.module, batch), self.module.log_scale
            )
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach())
        metric = None if self.held is None else self._validate()
        record = {
            "stage": STAGE,
            "epoch": epoch,
            "loss": total / len(batches),
            "ndcg@10": metric,
            "seconds": time.perf_counter() - started,
        }
        self.records.append(record)
        shown = {**record, "ndcg@10": "-" if metric is None else f"{metric:.4f}"}
        logger.info("%s epoch %d: loss %.4f, ndcg@10 %s, %.1f s", *shown.values())
        if self.options.on_epoch_end is not None:
            self.options.on_epoch_end(record)

    @torch.inference_mode()
    def _validate(self, *, keep_start: bool | None = None) -> float:
        """Return the NDCG@10 at the best strength; keep the correction if it is the best so far.

        At the start, the only strength is that of before, or 0 where there is nothing before.
        """
        assert self.held is not None
        held, step = self.held, _EVAL_ROWS
        parts = [held[start : start + step] for start in range(0, len(held), step)]
        change = torch.cat([self.tables.correct(self.module, part) for part in parts])
        strengths = _STRENGTHS if keep_start is None else (1.0,) if keep_start else (0.0,)
        gains = [held_gains(held, strength * change) for strength in strengths]
        value, place = max((float(gain.mean()), -place) for place, gain in enumerate(gains))
        if keep_start is not None:
            self.start = gains[0]
        elif value <= self.best or not is_better(gains[-place], self.start):
            return value
        self.best, self.best_module = value, copy.deepcopy(self.module)
        self.best_module.strength *= strengths[-place]
        return value


def candidate_loss(examples: Examples, change: Tensor, log_scale: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy of the targets among their candidates.

    Parameters
    ----------
    examples : Examples
    change : float Tensor of shape (n_rows, n_candidates + 1)
        Corrections of the scores.
    log_scale : float Tensor of shape ()
        Logarithm of the factor from scores to logits.
    """
    logits = (examples.scores + change) * log_scale.exp()
    logits = logits.masked_fill(~examples.valid, -torch.inf)
    target = torch.full((len(logits),), logits.shape[1] - 1, device=logits.device)
    losses = F.cross_entropy(logits, target, reduction="none")
    return (losses * examples.weights).sum() / examples.weights.sum().clamp_min(1e-12)


def is_better(gains: Tensor, before: Tensor) -> bool:
    """Tell whether the mean has risen by more than the standard error of the difference.

    Parameters
    ----------
    gains, before : float Tensors of shape (n_users,)

    Examples
    --------
    >>> before = torch.tensor([0.0, 0.5, 1.0])
    >>> is_better(before + 0.1, before), is_better(before + torch.tensor([0.0, 0.0, 0.1]), before)
    (True, False)
    """
    rise = gains - before
    error = rise.std() / len(rise) ** 0.5 if len(rise) > 1 else torch.zeros(())
    return bool(rise.mean() > error)


def held_gains(examples: Examples, change: Tensor) -> Tensor:
    """Return the NDCG@10 of each target; one that is no candidate counts as a miss.

    Ties go to the item that comes first in the catalogue.
    """
    scores = examples.scores + change
    own, target = scores[:, -1:], examples.codes[:, -1:]
    found = (examples.codes[:, :-1] == target).any(1)
    ahead = (scores > own) | ((scores == own) & (examples.codes < target))
    return found * gains_behind((ahead & examples.valid).sum(1), K)


def _settled(module: ContentCorrection, strength: float | None = None) -> ContentCorrection:
    if strength is not None:
        module.strength.fill_(strength)
    return module.eval().requires_grad_(False)

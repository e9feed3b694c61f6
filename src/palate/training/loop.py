"""One stage of training: epochs over batches, early stopping, the best weights kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from palate._options import RunOptions
from palate._validation import warn_caller
from palate.data.batches import Batch
from palate.exceptions import TrainingInterruptedWarning
from palate.training.averaging import WeightAverage
from palate.training.optimizer import (
    OptimizerState,
    clip_gradients,
    has_sparse_gradients,
    make_optimizer,
    read_state,
)
from palate.training.schedule import rate_factor
from palate.training.steps import Step
from palate.training.validation import sure_lead

logger = logging.getLogger(__name__)

_CLIP_NORM = 1.0


@dataclass
class Stage:
    """What one stage does.

    Attributes
    ----------
    name : str
        What ``history_`` calls it.
    step : Step
        The loss of a batch.
    batches : callable
        Returns the batches of one epoch, and how many there are.
    n_epochs : int
    learning_rate, weight_decay : float
        Of AdamW; the rate is the peak of :func:`palate.training.schedule.rate_factor`.
    options : RunOptions
    validate : callable, default=None
        Returns the validation metric, larger is better, or a pair: what is recorded, and what the
        epoch is chosen by, a number for each held-out user. None trains to the end.
    refresh : callable, default=None
        Called after each epoch, before it is validated, when the items have been refreshed.
    patience : int or None, default=None
        Epochs without a better metric after which the stage ends; None runs all of them.
    keep_start : bool, default=False
        Whether the weights at the start count as a result, as where learning goes on. The latest
        weights stay then, unless the best before are ahead of them by a standard error over users:
        where few are held out, the luckiest epoch is not the best.
    averaging : float or None, default=None
        Epochs that an average of the weights looks back; with it, the average is what is
        validated and kept, and training itself goes on from the last step.
    optimizer_state : dict, default={}
        Moments to go on from; holds those of the end afterwards.
    interrupted : bool, default=False
        Whether the keyboard ended the stage; set by :func:`run_stage`.
    """

    name: str
    step: Step
    batches: Callable[[], tuple[Iterable[Batch], int]]
    n_epochs: int
    learning_rate: float
    weight_decay: float
    options: RunOptions
    validate: Callable[[], float | tuple[float, Tensor]] | None = None
    refresh: Callable[[], None] | None = None
    patience: int | None = None
    keep_start: bool = False
    averaging: float | None = None
    optimizer_state: OptimizerState = field(default_factory=dict)
    interrupted: bool = False


def run_stage(stage: Stage) -> list[dict[str, Any]]:
    """Train the network of a stage in place.

    Returns
    -------
    list of dict
        For each epoch: ``stage, epoch, loss, ndcg@10`` (None without validation), ``seconds``.

    Warns
    -----
    TrainingInterruptedWarning
        If the keyboard interrupts: the best weights so far stay.
    """
    if not stage.n_epochs:
        return []
    trainer = _Trainer(stage)
    try:
        for epoch in range(stage.n_epochs):
            if trainer.run_epoch(epoch):
                break
    except KeyboardInterrupt:
        stage.interrupted = True
        done = len(trainer.records)
        kept = "the best weights so far" if trainer.best_weights else "the weights reached so far"
        if not trainer.best_weights:
            trainer.settle()
            _refresh(stage)
        message = (
            f"Training was interrupted in epoch {done} of stage {stage.name!r}; {kept} are kept."
        )
        logger.warning(message)
        warn_caller(message, TrainingInterruptedWarning)
    finally:
        trainer.finish()
    return trainer.records


def _refresh(stage: Stage) -> None:
    """Bring what is stored up to date with the weights."""
    stage.step.network.items.refresh(stage.options)
    if stage.refresh is not None:
        stage.refresh()


def ahead(one: Tensor, other: Tensor) -> bool:
    """Tell whether the mean of `one` (n,) leads by a standard error of the lead, or more.

    Equal ones do not lead, though there is no error in that.

    Examples
    --------
    >>> ahead(torch.tensor([1.0, 0.0, 0.1]), torch.tensor([0.0, 1.0, 0.0]))
    False
    >>> ahead(torch.tensor([1.0, 0.5, 1.0]), torch.tensor([0.0, 0.0, 0.5]))
    True
    """
    lead = one - other
    return float(lead.mean()) > 0 and float(sure_lead(lead)) >= 0


class _Trainer:
    """The state of a running stage."""

    def __init__(self, stage: Stage) -> None:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        self.stage = stage
        self.network = stage.step.network
        device = stage.options.torch_device
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.device = self.accelerator.device
        stage.step.to(self.device)
        self.optimizer = make_optimizer(
            self.network, stage.learning_rate, stage.weight_decay, stage.optimizer_state
        )
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.step, self.prepared = self.accelerator.prepare(stage.step, self.optimizer)
        self.records: list[dict[str, Any]] = []
        self.best = -float("inf")
        self.best_gains = torch.empty(0)
        self.best_weights: dict[str, Tensor] = {}
        self.stale = 0
        self.average = (
            None if stage.averaging is None else WeightAverage(self.network, stage.averaging)
        )
        if stage.keep_start:
            self._validate()

    def run_epoch(self, epoch: int) -> bool:
        """Train one epoch and validate it; tell whether to stop."""
        start = time.perf_counter()
        loss = self._run_batches(epoch)
        with nullcontext() if self.average is None else self.average.swapped():
            _refresh(self.stage)
            metric = self._validate()
        record = {
            "stage": self.stage.name,
            "epoch": epoch,
            "loss": loss,
            "ndcg@10": metric,
            "seconds": time.perf_counter() - start,
        }
        self.records.append(record)
        shown = {**record, "ndcg@10": "-" if metric is None else f"{metric:.4f}"}
        logger.info("%s epoch %d: loss %.4f, ndcg@10 %s, %.1f s", *shown.values())
        if self.stage.options.on_epoch_end is not None:
            self.stage.options.on_epoch_end(record)
        return self.stage.patience is not None and self.stale >= self.stage.patience

    def _run_batches(self, epoch: int) -> float:
        self.step.train()
        batches, n_batches = self.stage.batches()
        share, world = self.accelerator.process_index, self.accelerator.num_processes
        total, count = torch.zeros((), device=self.device), 0
        bar = tqdm(
            batches,
            total=n_batches,
            desc=f"{self.stage.name} {epoch + 1}/{self.stage.n_epochs}",
            disable=self.stage.options.hide_progress,
            leave=False,
        )
        for place, batch in enumerate(bar):
            # Every process draws the same order and takes its own share; the rest is left over.
            if place % world != share or place >= n_batches - n_batches % world:
                continue
            # A model that learns on for one epoch a night keeps its pace.
            kept = self.stage.keep_start and self.stage.n_epochs == 1
            factor = 1.0 if kept else rate_factor(epoch, place, n_batches, self.stage.n_epochs)
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = peak * factor
            total += self.run_batch(batch.to(self.device))
            count += 1
            if self.average is not None:
                self.average.after_step(count, n_batches // world)
        return float(total) / max(1, count)

    def run_batch(self, batch: Batch) -> Tensor:
        """Take one optimiser step."""
        self.prepared.zero_grad()
        loss: Tensor = self.step(batch)
        self.accelerator.backward(loss)
        if has_sparse_gradients(self.network):
            clip_gradients(self.network.parameters(), _CLIP_NORM)
        else:
            self.accelerator.clip_grad_norm_(self.step.parameters(), _CLIP_NORM)
        self.prepared.step()
        return loss.detach()

    def _validate(self) -> float | None:
        if self.stage.validate is None:
            return None
        found = self.stage.validate()
        metric, score = found if isinstance(found, tuple) else (found, found)
        gains = torch.as_tensor(score, dtype=torch.float64).flatten()
        if float(gains.mean()) > self.best:
            self.best, self.best_gains, self.stale = float(gains.mean()), gains, 0
        else:
            self.stale += 1
        if not self.stale or (self.stage.keep_start and not ahead(self.best_gains, gains)):
            self.best_weights = {
                name: value.detach().clone() for name, value in self.network.state_dict().items()
            }
        return metric

    def settle(self) -> None:
        """Let the average of the weights, where there is one, take their place."""
        if self.average is not None:
            self.average.settle()

    def finish(self) -> None:
        """Put the best weights back and leave the network ready to serve."""
        state = read_state(self.network, self.optimizer)
        self.stage.optimizer_state.clear()
        self.stage.optimizer_state.update(state)
        if self.best_weights:
            self.network.load_state_dict(self.best_weights)
        else:
            self.settle()
        self.network.eval()

"""From events to a fitted model, and on from there: the stages, wired."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from palate._options import RunOptions
from palate._random import ModuleSeed, torch_generator
from palate.data.batches import Batch, cut_windows, iterate_batches
from palate.data.histories import Histories
from palate.data.items import ItemTable
from palate.data.moments import time_edges
from palate.data.people import People
from palate.data.rehearsal import Meeting, only_users, rehearsed
from palate.exceptions import InvalidParameterError
from palate.plan import Plan
from palate.reranking.module import ContentCorrection
from palate.reranking.training import learn_reranker
from palate.training.loop import Stage, run_stage
from palate.training.network import TasteNetwork
from palate.training.objectives import objective_for
from palate.training.optimizer import OptimizerState
from palate.training.pool import candidate_pool, seen_items
from palate.training.steps import PretrainStep, RankingStep, Step
from palate.training.transfer import move
from palate.training.validation import Holdout, hold_out, judge, validation_ndcg
from palate.training.weighing import weigh

# Streams of one seed.
_WEIGHTS, _HOLDOUT, _BATCHES, _STEPS, _REHEARSAL, _RERANK, _POOL = range(7)


@dataclass
class Learned:
    """What training leaves.

    Attributes
    ----------
    network : TasteNetwork
    records : list of dict
        One for each epoch.
    optimizer_state : dict
        Moments by parameter name.
    correction : ContentCorrection or None
        Of the re-ranker, if there is one.
    interrupted : bool
        Whether the keyboard ended it.
    """

    network: TasteNetwork
    records: list[dict[str, Any]]
    optimizer_state: OptimizerState
    correction: ContentCorrection | None = None
    interrupted: bool = False


def learn(
    plan: Plan,
    histories: Histories,
    table: ItemTable,
    seed: int,
    options: RunOptions,
    people: People | None = None,
) -> Learned:
    """Build a network and run both stages.

    Parameters
    ----------
    plan : Plan
    histories : Histories
        Compact ones.
    table : ItemTable
    seed : int
        Everything random derives from it.
    options : RunOptions
    people : People, default=None
        Attribute texts of the users.

    Returns
    -------
    Learned

    Raises
    ------
    InvalidParameterError
        If there are attribute texts, and the item encoder reads none.
    """
    seen = seen_items(histories, len(table))
    with ModuleSeed(_stream_seed(seed, _WEIGHTS)):
        items = plan.item_encoder.build(table, plan.dim, options)
        items.extend(table, seen, options)
        network = TasteNetwork(items, plan.user_encoder, plan.dim, plan.metric, seen)
        _check_content_weight(plan, network)
        room = network.users.max_length if plan.time_bias else None
        network.read_times(*time_edges(histories, plan.time_gaps, room))
        if people is not None:
            if not items.takes_text:
                raise InvalidParameterError(
                    "user_features needs an item encoder that reads text, such as "
                    f"item_encoder='bert+id'; got {plan.item_encoder!r}."
                )
            network.read_people(people.texts.array.tolist(), options)
        learned = Learned(network, [], {})
        pool = candidate_pool(seen)
        _train(plan, learned, histories, None, pool, seed, options, people, fresh=True)
    return learned


def learn_on(
    plan: Plan,
    network: TasteNetwork,
    optimizer_state: OptimizerState,
    histories: Histories,
    users: np.ndarray,
    met: Meeting,
    table: ItemTable,
    seed: int,
    options: RunOptions,
    people: People | None = None,
    correction: ContentCorrection | None = None,
) -> Learned:
    """Continue with the ranking stage on the histories of `users`, in a copy of `network`.

    Parameters
    ----------
    plan : Plan
    network : TasteNetwork
        Left as it is.
    optimizer_state : dict
        Left as it is.
    histories : Histories
        Compact ones, of all users.
    users : int64 ndarray
        Those to learn from, beside a share of the others.
    met : Meeting
        How many of them met items that the network knows, and how many others are repeated.
    table : ItemTable
        Of all items: those that the network knows, then the new ones.
    seed : int
    options : RunOptions
    people : People, default=None
        Attribute texts of the users: those that the network knows, then the new ones.
    correction : ContentCorrection, default=None
        What the re-ranker goes on from; left as it is.

    Returns
    -------
    Learned
    """
    network = copy.deepcopy(network)
    old = network.seen.cpu()
    seen = seen_items(histories, len(table))
    seen[: len(old)] |= old
    with ModuleSeed(_stream_seed(seed, _WEIGHTS)):
        void: list[str] = []
        # What is moved and not taught is worse than what was there.
        elsewhere = met.is_domain and plan.epochs > 0
        if elsewhere:
            void = move(network, table, seen, options)
        else:
            network.items.extend(table, seen, options)
        network.seen = seen.to(network.seen.device)
        _check_content_weight(plan, network)
        if people is not None and len(people.texts) > len(network.people_texts):
            network.read_people(people.texts.array[len(network.people_texts) :].tolist(), options)
        past = {n: copy.deepcopy(m) for n, m in optimizer_state.items() if n not in void}
        # A correction goes by the content that there was.
        learned = Learned(network, [], past, None if void else correction)
        users = rehearsed(users, histories.n_users, met.n_more, torch_generator(seed, _REHEARSAL))
        draw = torch_generator(seed, _POOL)
        pool = candidate_pool(seen, histories.gather(users)[1] if elsewhere else None, draw)
        given = pool, seed, options, people
        # Elsewhere, dropout is that of a fit there; what the network keeps is that of its own.
        dropout = getattr(plan.user_encoder, "dropout", None) if elsewhere else None
        with network.users.dropping(dropout):
            _train(plan, learned, histories, users, *given, fresh=False, anew=elsewhere)
    return learned


def _train(
    plan: Plan,
    learned: Learned,
    histories: Histories,
    users: np.ndarray | None,
    pool: torch.Tensor,
    seed: int,
    options: RunOptions,
    people: People | None,
    *,
    fresh: bool,
    anew: bool = True,
) -> None:
    subset = histories if users is None else only_users(histories, users)
    told = None
    if people is not None:
        told = people.of(np.arange(histories.n_users) if users is None else users)
    draw, timed = torch_generator(seed, _HOLDOUT), learned.network.reads_times
    left, holdout = hold_out(subset, plan.validation_fraction, draw, told, timed=timed)
    # Of what is learned from alone: there, an item's share is how often it is a target.
    counts = torch.bincount(torch.from_numpy(subset.items), minlength=len(learned.network.seen))
    stages: list[tuple[str, type[Step], int]] = (
        [("pretrain", PretrainStep, plan.pretrain_epochs)] if fresh else []
    )
    stages.append(("fit", RankingStep, plan.epochs))
    # In a batch, texts have the codes behind the items.
    leads = None if told is None else np.where(told >= 0, len(learned.network.seen) + told, -1)
    draw = torch_generator(seed, _BATCHES)
    batch_source = _batch_source(plan, learned.network, left, draw, leads)
    device = options.torch_device
    for name, step_type, n_epochs in stages:
        network = learned.network
        objective = plan.objective or objective_for(network, len(pool))
        step: Step = step_type(
            network,
            objective,
            pool.to(device),
            counts.to(device),
            torch_generator(seed, _STEPS, len(learned.records)),
        )
        ranking = name == "fit"
        stage = Stage(
            name,
            step,
            batch_source,
            n_epochs,
            plan.learning_rate,
            plan.weight_decay,
            options,
            validate=_validator(network, holdout, options, fresh) if ranking else None,
            refresh=None if people is None else partial(network.refresh_people, options),
            patience=plan.patience,
            keep_start=not fresh,
            averaging=plan.averaging,
            optimizer_state=learned.optimizer_state if ranking else {},
        )
        learned.records += run_stage(stage)
        if ranking and n_epochs:
            learned.optimizer_state = stage.optimizer_state
        learned.interrupted = stage.interrupted
        if stage.interrupted:
            break
    learned.network.to(device).eval()
    weigh(learned.network, holdout, plan.mean_weight, plan.content_weight, anew=anew)
    if plan.reranker is not None:
        found = learn_reranker(
            plan.reranker,
            learned.network,
            left,
            holdout,
            _stream_seed(seed, _RERANK),
            # Whoever has interrupted the first stage does not wait for a second one.
            0 if stage.interrupted else plan.reranker.epochs,
            options,
            learned.correction,
            told,
        )
        learned.correction, records = found
        learned.records += records


def _check_content_weight(plan: Plan, network: TasteNetwork) -> None:
    if plan.content_weight and not network.reads_content:
        raise InvalidParameterError(
            "content_weight must be 0 or 'auto' where the item encoder reads no text; "
            f"got {plan.content_weight}."
        )


def _validator(
    network: TasteNetwork, holdout: Holdout | None, options: RunOptions, fresh: bool
) -> Callable[[], Any] | None:
    if holdout is None:
        return None
    return partial(validation_ndcg if fresh else judge, network, holdout, options)


def _batch_source(
    plan: Plan,
    network: TasteNetwork,
    histories: Histories,
    generator: torch.Generator,
    leads: np.ndarray | None,
) -> Callable[[], tuple[Iterable[Batch], int]]:
    users, room = np.arange(histories.n_users), network.room
    moments = network.moments(histories.times, histories.indptr)

    def batches() -> tuple[Iterable[Batch], int]:
        windows = cut_windows(histories, users, room, generator, leads, moments)
        n_batches = -(-len(windows) // plan.batch_size)
        return iterate_batches(windows, plan.batch_size, generator), n_batches

    return batches


def _stream_seed(seed: int, stream: int) -> int:
    return torch_generator(seed, stream).initial_seed()

"""The shipped checks pass for palate's own parts, and notice each broken rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from palate import (
    BertEncoder,
    CosineRanker,
    Fusion,
    GRUEncoder,
    IdEncoder,
    RunOptions,
    TransformerEncoder,
)
from palate.protocols import ItemModule
from palate.testing.contracts import check_item_encoder, check_ranker, check_user_encoder


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize(
    "spec",
    [
        GRUEncoder(),
        GRUEncoder(n_layers=2, hidden_size=5, max_length=3),
        TransformerEncoder(n_layers=1, n_heads=2),
        TransformerEncoder(max_length=1),
    ],
)
def test_own_user_encoders(spec: Any, pooling: str) -> None:
    check_user_encoder(spec.set_params(pooling=pooling))


def test_own_item_encoders(tiny_bert: str, items: pd.DataFrame) -> None:
    content = items[["title"]]
    check_item_encoder(IdEncoder(), content, dim=6)
    check_item_encoder(BertEncoder(tiny_bert), content, dim=6)
    check_item_encoder(BertEncoder(tiny_bert, finetune="last"), content[:5])
    check_item_encoder(BertEncoder(tiny_bert, finetune="lora", lora_rank=2), content[:5])
    check_item_encoder(Fusion([BertEncoder(tiny_bert, pooling="cls"), IdEncoder()], 0.5), content)
    check_item_encoder(Fusion([IdEncoder(), IdEncoder()]))


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_own_rankers(metric: str, storage: str) -> None:
    check_ranker(CosineRanker(metric=metric, storage=storage), metric=metric)
    check_ranker(CosineRanker(metric=metric, item_block=4), metric=metric, exact=False)


def test_the_global_state_is_restored() -> None:
    state = torch.get_rng_state()
    check_user_encoder(GRUEncoder())
    check_item_encoder(IdEncoder())
    assert torch.equal(torch.get_rng_state(), state)


class Spec:
    """A user encoder with one fault at choice."""

    def __init__(self, fault: str = "", max_length: Any = 9, pooling: str = "last") -> None:
        self.fault = fault
        self.max_length = max_length
        self.pooling = pooling
        self.kept = None

    def build(self, dim: int) -> nn.Module:
        if self.fault == "shared":
            self.kept = self.kept or Net(dim, self.fault)  # type: ignore[assignment]
            return self.kept  # type: ignore[return-value]
        if self.fault == "changed":
            self.max_length += 1
        return Net(dim, self.fault)


class Net(nn.Module):
    def __init__(self, dim: int, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.mix = nn.Linear(dim, dim)
        self.spare = nn.Linear(dim, dim) if fault == "silent parameter" else None
        self.dropout = nn.Dropout(0.5)
        if fault == "last":
            self.last_state = lambda x, mask: self(x, mask)[:, -1]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        out = self.mix(x).cumsum(1)
        if self.fault == "narrow":
            return out[..., 1:]
        if self.fault == "random":
            return out + torch.rand(1)
        if self.fault == "future":
            return out + (x * mask[..., None]).sum(1, keepdim=True)
        if self.fault == "padding":
            return out * x.mean()
        if self.fault == "batch":
            return out * x[0, 0, 0]
        if self.fault == "deaf":
            return self.mix(torch.ones_like(x)).cumsum(1)
        if self.fault == "nan":
            return out / 0
        if self.fault == "short" and x.shape[1] > 5:
            return out[:, :5]
        return out


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "narrow",
            "states must have the shape (3, 5, 8) and type of the input; "
            "got (3, 5, 7), torch.float32",
        ),
        ("random", "a network in evaluation mode must be deterministic"),
        ("future", "a state must not depend on later events; changing event 1 moved one before it"),
        (
            "padding",
            "a state must not depend on later events; changing event 1 moved one before it",
        ),
        ("deaf", "the last state must depend on the last event"),
        ("nan", "states of real events must be finite"),
        ("batch", "a history must give the same states alone as in a batch"),
        (
            "last",
            "last_state must return the state that the network gives each row's last real event",
        ),
        ("short", "histories of 9 events must be accepted"),
        ("shared", "build must return a fresh network each time"),
        ("changed", "build must not change the spec"),
        (
            "silent parameter",
            "every trainable parameter must get a gradient; "
            "encoder.spare.weight, encoder.spare.bias got none",
        ),
    ],
)
def test_a_broken_user_encoder_is_noticed(fault: str, message: str) -> None:
    check_user_encoder(Spec())
    with pytest.raises(AssertionError) as caught:
        check_user_encoder(Spec(fault))
    assert str(caught.value) == message


class Looking(nn.Module):
    """A network that looks back by a bias, with one fault at choice."""

    bias_shape = (1, 1)

    def __init__(self, dim: int, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.mix = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        n_steps = x.shape[1]
        if bias is None or self.fault == "deaf":
            bias = torch.zeros(1, len(x), 1, n_steps, n_steps)
        elif self.fault == "never silent":
            bias = bias + torch.arange(n_steps)
        scores = bias[0, :, 0]
        if self.fault == "future":  # what is ahead weighs as what is behind
            scores = scores + scores.triu(1).transpose(1, 2)
        later = torch.ones(n_steps, n_steps, dtype=torch.bool).triu(1)
        return self.mix(scores.masked_fill(later, -torch.inf).softmax(-1) @ x)

    def last_state(self, x: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        states = self(x, mask, None if self.fault == "last" else bias)
        return states[torch.arange(len(x)), mask.sum(1) - 1]


class LookingSpec(Spec):
    def build(self, dim: int) -> nn.Module:
        return Looking(dim, self.fault)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("never silent", "a bias of zero must change nothing"),
        ("deaf", "a bias must change the states"),
        ("future", "a bias towards later events must change nothing"),
        ("last", "last_state must take the bias as the network does"),
    ],
)
def test_a_bias_taken_wrongly_is_noticed(fault: str, message: str) -> None:
    check_user_encoder(LookingSpec())
    with pytest.raises(AssertionError) as caught:
        check_user_encoder(LookingSpec(fault))
    assert str(caught.value) == message


def test_attributes_of_a_user_encoder() -> None:
    cases: list[tuple[Any, str]] = [
        (object(), "a user encoder must have the method build(dim)"),
        (Spec(max_length=0), "max_length must be an integer of at least 1; got 0"),
        (Spec(max_length=2.0), "max_length must be an integer of at least 1; got 2.0"),
        (Spec(pooling="max"), "pooling must be one of last, mean, attention; got 'max'"),
        (Spec, "a spec must be an object that is no network"),
        (nn.Linear(2, 2), "a spec must be an object that is no network"),
    ]
    for spec, message in cases:
        with pytest.raises(AssertionError) as caught:
            check_user_encoder(spec)
        assert str(caught.value) == message


class BrokenRanker(CosineRanker):
    fault = ""

    def topk(self, queries: Any, k: int, *, exclude: Any = None, include: Any = None) -> Any:
        if self.fault == "filters":
            exclude = None
        found = super().topk(queries, k, exclude=exclude, include=include)
        if self.fault == "scores":
            return found._replace(scores=found.scores * 2)
        if self.fault == "twice":
            return found._replace(
                indices=found.indices[:, :1].expand_as(found.indices),
                scores=found.scores[:, :1].expand_as(found.scores),
            )
        if self.fault == "worst" and k == 4:
            low = super().topk(-queries, k)
            return found._replace(scores=-low.scores.flip(1), indices=low.indices.flip(1))
        if self.fault == "length":
            return found._replace(scores=found.scores[:, :3], indices=found.indices[:, :3])
        return found

    def extend(self, vectors: Any) -> Any:
        if self.fault == "extend":
            return self
        return super().extend(vectors)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("filters", "an item that is filtered must not be returned"),
        ("scores", "a score must be the cosine of query and item"),
        ("twice", "an item must not be returned twice"),
        ("worst", "the best items must be returned"),
        ("length", "scores and indices must have the shape (n_queries, k) = (6, 4)"),
        ("extend", "extend must give what fit on all rows gives"),
    ],
)
def test_a_broken_ranker_is_noticed(
    fault: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BrokenRanker, "fault", fault)
    with pytest.raises(AssertionError) as caught:
        check_ranker(BrokenRanker())
    assert str(caught.value) == message


class BrokenIds(IdEncoder):
    fault = ""

    def build(self, items: Any, dim: int, context: Any, state: Any = None) -> ItemModule:
        module = super().build(items, dim, context, state)
        fault = self.fault
        if fault == "loud":
            extend = module.extend

            def all_seen(table: Any, seen: Tensor, options: Any) -> None:
                extend(table, torch.ones_like(seen), options)

            object.__setattr__(module, "extend", all_seen)
        if fault == "look-up":
            forward = module.forward
            object.__setattr__(
                module,
                "forward",
                lambda codes=None, content_only=False: forward(
                    None if codes is None else codes.flip(0) * 0 + 1, content_only=content_only
                ),
            )
        if fault == "state" and state is not None:
            module.register_buffer("more", torch.ones(1))
        return module


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("look-up", "items must have the same vector looked up as in all"),
        ("state", "build with a state must need its tensors"),
    ],
)
def test_a_broken_item_encoder_is_noticed(
    fault: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BrokenIds, "fault", fault)
    with pytest.raises(AssertionError) as caught:
        check_item_encoder(BrokenIds(), options=RunOptions(device="cpu", cache=False))
    assert str(caught.value) == message


def test_scores_of_the_check_are_right() -> None:
    from palate.testing._ranker_contract import scores_of

    q, v = torch.tensor([[1.2, 0.9, -0.8]]), torch.tensor([[0.8, 1.1, -0.7]])
    assert float(scores_of(q, v, "cosine")) == pytest.approx(0.9652, abs=5e-5)
    assert float(scores_of(q, v, "dot")) == pytest.approx(2.51, abs=1e-6)
    assert float(scores_of(q, v, "euclidean")) == pytest.approx(-np.sqrt(0.21), abs=1e-6)

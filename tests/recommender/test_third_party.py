"""Parts written by somebody else: plain classes that follow the protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from torch import Tensor, nn

from palate import CosineRanker, Fusion, IdEncoder, Recommender
from palate.exceptions import InvalidParameterError, MissingContentError
from palate.model_selection import LeaveLastOut
from palate.protocols import ItemModule, Objective, Ranker, UserEncoder
from palate.testing.contracts import check_item_encoder, check_ranker, check_user_encoder

Make = Callable[..., Recommender]


class Convolution:
    """A user encoder as a plain class: build, max_length, pooling."""

    def __init__(self, width: int = 3, max_length: int = 8, pooling: str = "last") -> None:
        self.width = width
        self.max_length = max_length
        self.pooling = pooling

    def build(self, dim: int) -> nn.Module:
        return _Convolution(dim, self.width)


class _Convolution(nn.Module):
    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.convolution = nn.Conv1d(dim, dim, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        past = nn.functional.pad(x.transpose(1, 2), (self.width - 1, 0))
        return self.convolution(past).transpose(1, 2)  # type: ignore[no-any-return]


class Prices(BaseEstimator):
    """An item encoder of one numeric column."""

    def __init__(self, column: str = "price") -> None:
        self.column = column

    def build(
        self, items: Any, dim: int, context: Any, state: Mapping[str, Tensor] | None = None
    ) -> ItemModule:
        return _Prices(self.column, items, dim)


class _Prices(ItemModule):
    has_content = True
    values: Tensor

    def __init__(self, column: str, items: Any, dim: int) -> None:
        super().__init__()
        self.column = column
        self.register_buffer("values", self._read(items))
        self.layers = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, dim))

    def _read(self, items: Any) -> Tensor:
        return torch.tensor(items.frame[self.column].to_numpy(np.float32))[:, None]

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        values = self.values if codes is None else self.values[codes]
        return self.layers(values)  # type: ignore[no-any-return]

    def extend(self, items: Any, seen: Tensor, context: Any) -> None:
        self.values = self._read(items)

    def encode_texts(self, texts: Sequence[str], context: Any) -> Tensor:
        raise MissingContentError("prices say nothing about a text.")


class Loop:
    """A ranker as a plain class, one query after another."""

    def fit(self, vectors: Tensor) -> Loop:
        self.vectors = nn.functional.normalize(vectors.double())
        return self

    def extend(self, vectors: Tensor) -> Loop:
        self.vectors = torch.cat([self.vectors, nn.functional.normalize(vectors.double())])
        return self

    def topk(self, queries: Tensor, k: int, *, exclude: Any = None, include: Any = None) -> Any:
        from palate.ops.topk import TopK

        scores = torch.full((len(queries), max(k, len(self.vectors))), -torch.inf)
        for row, query in enumerate(nn.functional.normalize(queries.double())):
            scores[row, : len(self.vectors)] = (self.vectors * query).sum(1).float()
        if include is not None:
            listed = torch.zeros(scores.shape[1], dtype=torch.bool)
            listed[include] = True
            scores[:, ~listed] = -torch.inf
        if exclude is not None:
            scores[exclude[0], exclude[1]] = -torch.inf
        ordered = scores.sort(dim=1, descending=True, stable=True)
        found, codes = ordered.values[:, :k], ordered.indices[:, :k]
        return TopK(found, codes.masked_fill(found.isneginf(), -1))


class Everything(BaseEstimator):
    """An objective: all of the pool, in the pool's order."""

    def candidates(
        self, targets: Tensor, pool: Tensor, counts: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        return pool, None


def test_they_pass_the_shipped_checks() -> None:
    check_user_encoder(Convolution())
    check_user_encoder(Convolution(width=1, max_length=3, pooling="attention"))
    check_item_encoder(Prices(), pd.DataFrame({"price": np.arange(9.0)}))
    check_ranker(Loop())
    assert isinstance(Convolution(), UserEncoder)
    assert isinstance(Loop(), Ranker)
    assert isinstance(Everything(), Objective)


def test_a_user_encoder_learns_and_can_be_searched(make_recommender: Make) -> None:
    cycle = [[(u + t) % 12 for t in range(7)] for u in range(48)]
    spec = Convolution()
    model = make_recommender(
        user_encoder=spec,
        dim=24,
        epochs=15,
        batch_size=8,
        learning_rate=1e-2,
        validation_fraction=0,
        pretrain_epochs=1,
    ).fit(cycle)
    starts = [[(s + t) % 12 for t in range(4)] for s in range(12)]
    table = model.recommend(histories=starts, k=1, filter_viewed=False)
    assert (table["item_id"] == (np.arange(12) + 4) % 12).mean() >= 0.9
    assert vars(spec) == {"width": 3, "max_length": 8, "pooling": "last"}
    assert model.user_encoder is spec
    search = GridSearchCV(
        make_recommender(),
        {"user_encoder": ["gru", Convolution(2)]},
        cv=LeaveLastOut(),
        error_score="raise",
    )
    search.fit(np.array([(user, item) for user, row in enumerate(cycle) for item in row]))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_an_item_encoder_places_cold_items(make_recommender: Make, events: pd.DataFrame) -> None:
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(13)], "price": np.arange(13) / 6})
    for spec in (Prices(), Fusion([Prices(), IdEncoder()])):
        model = make_recommender(item_encoder=spec, epochs=2).fit(events, items=items)
        model.add_items(pd.DataFrame({"item_id": ["cold"], "price": [5 / 6]}))
        if isinstance(spec, Prices):
            assert model.recommend_to_items(["cold"], k=1)["item_id"].tolist() == ["i5"]
        with pytest.raises(MissingContentError):
            model.recommend(texts=[["a lamp"]])
        model.partial_fit(
            pd.DataFrame({"user_id": ["u0"], "item_id": ["new"], "timestamp": [99]}),
            items=pd.DataFrame({"item_id": ["new"], "price": [2.0]}),
        )
        assert model.item_vectors_.shape == (15, 8)
        assert np.isfinite(model.item_vectors_).all()


def test_a_ranker_and_an_objective(make_recommender: Make, events: pd.DataFrame) -> None:
    own = make_recommender().fit(events)
    other = make_recommender(ranker=Loop(), objective=Everything()).fit(events)
    np.testing.assert_allclose(other.item_vectors_, own.item_vectors_, atol=1e-6)
    for arguments in ({"k": 3}, {"k": 99, "items_to_exclude": ["i1"]}, {"filter_viewed": False}):
        pd.testing.assert_frame_equal(
            other.recommend(**arguments), own.recommend(**arguments), atol=1e-5
        )


def test_what_is_no_part_is_refused(make_recommender: Make, events: pd.DataFrame) -> None:
    for params, message in (
        (
            {"user_encoder": object},
            "user_encoder must be one of 'gru', 'transformer', or a spec of that kind; "
            "got <class 'object'> (it lacks build).",
        ),
        (
            {"item_encoder": CosineRanker()},
            "item_encoder must be one of 'bert', 'id', 'bert+id', or a spec of that kind; "
            "got CosineRanker() (it lacks build).",
        ),
        (
            {"objective": Convolution},
            "objective must be one of 'softmax', 'sampled_softmax', 'gbce', or a spec of that "
            f"kind; got {Convolution!r} (it lacks candidates).",
        ),
    ):
        with pytest.raises(InvalidParameterError) as caught:
            make_recommender(**params).fit(events)
        assert str(caught.value) == message


class _Kinds(ItemModule):
    """Reads a column, and has nothing to say of an item that training never saw."""

    kinds: Tensor
    seen: Tensor

    def __init__(self, items: Any, dim: int) -> None:
        super().__init__()
        self.weight = nn.Embedding(9, dim)
        self.extend(items, torch.ones(len(items), dtype=torch.bool), None)

    def forward(self, codes: Tensor | None = None, *, content_only: bool = False) -> Tensor:
        rows = torch.arange(len(self.kinds)) if codes is None else codes
        return self.weight(self.kinds[rows]) * self.seen[rows][..., None]  # type: ignore[no-any-return]

    def extend(self, items: Any, seen: Tensor, context: Any) -> None:
        self.register_buffer("kinds", torch.tensor([len(v) % 9 for v in items.frame["title"]]))
        self.register_buffer("seen", seen.clone())


class Kinds(BaseEstimator):
    """An item encoder with a table and without content."""

    def build(
        self, items: Any, dim: int, context: Any, state: Mapping[str, Tensor] | None = None
    ) -> ItemModule:
        return _Kinds(items, dim)


def test_a_table_is_kept_for_an_encoder_without_content(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    model = make_recommender(item_encoder=Kinds()).fit(events, items=items)
    kept = model._serving.table.frame.copy()
    model.partial_fit(events[:20])
    pd.testing.assert_frame_equal(model._serving.table.frame, kept)

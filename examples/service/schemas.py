"""What goes over the wire: the bodies of requests and answers, as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictInt, StrictStr

# The ids of JSON: whole numbers of 64 bits, or strings; "7" and 7 are two ids.
Id = (
    Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)]
    | Annotated[StrictStr, Field(min_length=1, max_length=256)]
)
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Words = Annotated[str, Field(min_length=1, max_length=10_000)]
OnUnsupported = Literal["raise", "ignore"]


class Body(BaseModel):
    """A request; a field that is not known is an error, not a typo that does nothing."""

    model_config = ConfigDict(extra="forbid")


class Told(Body):
    """An event of a history, in words."""

    text: Words


History = Annotated[list[Id | Told], Field(min_length=1, max_length=1_000)]
TextHistory = Annotated[list[Words], Field(min_length=1, max_length=100)]


class RecommendRequest(Body):
    """One kind of query: `users`, `histories` or `texts`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"users": ["ann", "bob"], "k": 5},
                {"histories": [["tea", "jam"], ["nail", {"text": "a hammer"}]], "k": 5},
                {"texts": [["I bought a book"]], "k": 5},
            ]
        }
    )

    users: list[Id] | None = Field(default=None, min_length=1, description="Ids of known users.")
    histories: list[History] | None = Field(
        default=None,
        min_length=1,
        description="What people did, oldest first, as item ids or events in words; the people "
        "need not be known.",
    )
    texts: list[TextHistory] | None = Field(
        default=None,
        min_length=1,
        description="Histories told in words, for a model that reads text.",
    )
    k: StrictInt = Field(default=10, ge=1, description="Most items for each query.")
    filter_viewed: bool = Field(
        default=True, description="Leave out the items of the query's history."
    )
    items_to_recommend: list[Id] | None = Field(default=None, description="The only items allowed.")
    items_to_exclude: list[Id] | None = Field(default=None, description="Items not allowed.")
    on_unsupported_targets: OnUnsupported = Field(
        default="raise", description="Refuse unknown users and items with 422, or skip them."
    )


class Ranked(BaseModel):
    """One item of a list."""

    item_id: Id
    score: float = Field(description="The similarity; for the cosine, in [-1, 1].")
    rank: int = Field(description="From 1.")


class Recommendation(BaseModel):
    """The list of one query; empty for a user that was skipped."""

    user_id: Id = Field(description="The user's id, or the place of the history: 0, 1, …")
    items: list[Ranked]


class RecommendResponse(BaseModel):
    """A list for each query, in the order of the request, all from one state of one model."""

    model_version: str
    recommendations: list[Recommendation]


class Event(Body):
    """Somebody did something with an item."""

    user_id: Id
    item_id: Id
    timestamp: StrictInt | Number | AwareDatetime | None = Field(
        default=None, description="As in training: a number, or a datetime with its UTC offset."
    )
    weight: Number | None = Field(default=None, ge=0, description="1 where it is not given.")


class ObserveRequest(Body):
    """New events; all are taken, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"events": [{"user_id": "ann", "item_id": "tea", "timestamp": 17}]}]
        }
    )

    events: list[Event] = Field(min_length=1)
    on_unsupported_targets: OnUnsupported = Field(
        default="raise", description="Refuse events of unknown items with 422, or skip them."
    )


class NewItem(BaseModel):
    """An item, with the content columns that the model was trained with."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, StrictStr | StrictInt | Number | list[StrictStr] | None]

    item_id: Id


class ItemsRequest(Body):
    """Items that the catalogue does not have yet; all are taken, or none."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"item_id": "saw", "title": "a hand saw"}]}]}
    )

    items: list[NewItem] = Field(min_length=1)


class Accepted(BaseModel):
    """The change is on disk: no crash takes it back."""

    accepted: int = Field(description="Events or items of the request.")
    sequence: int = Field(description="Its place in the log; later changes have larger numbers.")


class Health(BaseModel):
    """The process answers, so it is alive; `ready` tells whether it can recommend."""

    ready: bool
    model_version: str | None = None
    sequence: int | None = Field(
        default=None, description="The last change that the answers reflect."
    )
    unsaved: int | None = Field(
        default=None, description="Rows in the log that no saved model holds."
    )
    detail: str | None = Field(default=None, description="Why it is not ready.")


class Saved(BaseModel):
    """A version of the model on disk."""

    model_version: str
    watermark: int = Field(description="The last change of the log that it holds.")


class Problem(BaseModel):
    """What was wrong, in one sentence."""

    detail: str


def event_columns(events: list[Event]) -> dict[str, list[Any]]:
    """Turn events into columns as the log keeps them: plain JSON, datetimes in ISO 8601."""
    columns: dict[str, list[Any]] = {
        "user_id": [event.user_id for event in events],
        "item_id": [event.item_id for event in events],
    }
    times = [event.timestamp for event in events]
    if any(time is not None for time in times):
        if len({isinstance(t, datetime) for t in times}) > 1 or None in times:
            raise ValueError("timestamp must be of one kind in all events, or in none.")
        columns["timestamp"] = [t.isoformat() if isinstance(t, datetime) else t for t in times]
    if any(event.weight is not None for event in events):
        columns["weight"] = [1.0 if e.weight is None else e.weight for e in events]
    return columns


def item_columns(items: list[NewItem]) -> dict[str, list[Any]]:
    """Turn items into columns; all must have the same fields."""
    rows = [item.model_dump() for item in items]
    for place, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            raise ValueError(
                f"items must all have the same fields, {', '.join(rows[0])}; "
                f"item {place} has {', '.join(row)}."
            )
    return {name: [row[name] for row in rows] for name in rows[0]}

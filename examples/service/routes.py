"""The endpoints: check the limits, hand on, answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from palate import Text
from service.answers import Question
from service.schemas import (
    Accepted,
    Health,
    ItemsRequest,
    ObserveRequest,
    Problem,
    RecommendRequest,
    RecommendResponse,
    Saved,
    Told,
    event_columns,
    item_columns,
)
from service.service import Service

_BUSY = {"model": Problem, "description": "Not ready, or too many requests are waiting."}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "The body is too large."},
    422: {"model": Problem, "description": "The request is not valid; nothing was changed."},
    503: _BUSY,
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "The version cannot be used; nothing was changed."},
    503: _BUSY,
}
_QUERIES = ("users", "histories", "texts")

router = APIRouter()


def _service(request: Request) -> Service:
    return request.app.state.service  # type: ignore[no-any-return]


def _check_at_most(name: str, given: int, limit: int) -> None:
    if given > limit:
        raise ValueError(f"{name} must be at most {limit}; got {given}.")


@router.post("/recommend", response_model=RecommendResponse, responses=_PROBLEMS, tags=["asking"])
async def recommend(body: RecommendRequest, request: Request) -> Response:
    """Return the best items for known users, for histories, or for histories in words."""
    service = _service(request)
    named = [name for name in _QUERIES if getattr(body, name) is not None]
    if len(named) != 1:
        raise ValueError(
            f"one of users, histories and texts must be given; got {' and '.join(named) or 'none'}."
        )
    queries = getattr(body, named[0])
    _check_at_most("k", body.k, service.settings.max_k)
    _check_at_most(f"the number of {named[0]}", len(queries), service.settings.max_users)
    version, answer = await service.ask(_question(named[0], queries, body))
    lists = [{"user_id": user, "items": items} for user, items in answer]
    # A plain response: what the model answers need not be validated again.
    return JSONResponse({"model_version": version, "recommendations": lists})


def _question(kind: str, queries: list[Any], body: RecommendRequest) -> Question:
    if kind == "histories":
        queries = [[Text(e.text) if isinstance(e, Told) else e for e in row] for row in queries]
    allowed, excluded = body.items_to_recommend, body.items_to_exclude
    options = {
        "k": body.k,
        "filter_viewed": body.filter_viewed,
        "items_to_recommend": None if allowed is None else tuple(allowed),
        "items_to_exclude": None if excluded is None else tuple(excluded),
        "on_unsupported_targets": body.on_unsupported_targets,
    }
    return Question(kind, queries, tuple(options.items()))


@router.post("/observe", responses=_PROBLEMS, tags=["changing"])
async def observe(body: ObserveRequest, request: Request) -> Accepted:
    """Take in new events: the next recommendation knows them, and no crash forgets them."""
    service = _service(request)
    _check_at_most("the number of events", len(body.events), service.settings.max_events)
    change = {
        "kind": "events",
        "unknown": body.on_unsupported_targets,
        "columns": event_columns(body.events),
    }
    return Accepted(accepted=len(body.events), sequence=await service.change(change))


@router.post("/items", responses=_PROBLEMS, tags=["changing"])
async def items(body: ItemsRequest, request: Request) -> Accepted:
    """Put new items into the catalogue by their content, without training."""
    service = _service(request)
    _check_at_most("the number of items", len(body.items), service.settings.max_items)
    change = {"kind": "items", "columns": item_columns(body.items)}
    return Accepted(accepted=len(body.items), sequence=await service.change(change))


@router.get("/healthz", responses={503: {"model": Health}}, tags=["running"])
async def healthz(request: Request, response: Response) -> Health:
    """Answer 200 when the service can recommend (readiness), 503 until then."""
    service = _service(request)
    if not service.holder.ready:
        response.status_code = 503
        return Health(ready=False, detail=service.failure or "the model is being loaded.")
    live = service.holder.live
    return Health(
        ready=True, model_version=live.version, sequence=live.sequence, unsaved=live.unsaved
    )


@router.get("/healthz/live", tags=["running"])
async def live() -> dict[str, bool]:
    """Answer 200 while the process can answer at all (liveness)."""
    return {"alive": True}


@router.get("/metrics", response_class=Response, tags=["running"])
async def metrics(request: Request) -> Response:
    """Return the metrics in the format of Prometheus."""
    return Response(_service(request).metrics.text(), media_type="text/plain; version=0.0.4")


@router.post("/reload", responses=_CONFLICT, tags=["running"])
async def reload(request: Request) -> Saved:
    """Serve the version that ``models/current`` points to now; requests in flight go on."""
    version = await _service(request).reload()
    return Saved(model_version=version.name, watermark=version.watermark)


@router.post("/save", responses=_CONFLICT, tags=["running"])
async def save(request: Request) -> Saved:
    """Save the model with all changes so far, and shorten the log."""
    version = await _service(request).save()
    return Saved(model_version=version.name, watermark=version.watermark)

"""The application: ``uvicorn --app-dir examples --factory service.app:create_app``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from palate.exceptions import PersistenceError
from service.batching import Busy
from service.event_log import LogError
from service.limits import BodyLimit
from service.metrics import Measured
from service.model_holder import NotReady
from service.model_store import StoreError
from service.routes import router
from service.service import Service
from service.settings import Settings

DESCRIPTION = """Recommendations from a palate model: lists for known users, for histories and for
histories in words; new events count from the next request on and survive crashes."""

_STATUS = {
    ValueError: 422,  # every error of palate about its input is one
    PersistenceError: 409,
    StoreError: 409,
    LogError: 503,
    Busy: 503,
    NotReady: 503,
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; without `settings` they come from the environment."""
    service = Service(Settings.from_env(os.environ) if settings is None else settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(title="palate", version="1", description=DESCRIPTION, lifespan=lifespan)
    app.state.service = service
    app.include_router(router)
    app.add_middleware(BodyLimit, max_bytes=service.settings.max_body_bytes)
    app.add_middleware(Measured, metrics=service.metrics, paths=set(app.openapi()["paths"]))
    app.add_exception_handler(RequestValidationError, _invalid)
    for kind in _STATUS:
        app.add_exception_handler(kind, _problem)
    return app


async def _problem(request: Request, error: Exception) -> JSONResponse:
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"detail": str(error)}, status, headers)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    """Say what the schema says in one sentence, as palate's own errors do."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"detail": f"the body must be JSON: {first['ctx']['error']}."}, 422)
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    given = repr(first.get("input"))
    given = given if len(given) <= 80 else f"{given[:77]}..."
    return JSONResponse({"detail": f"{where} is not valid: {first['msg']}; got {given}."}, 422)

"""A limit on the size of request bodies, before anything parses them."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse


class BodyLimit:
    """ASGI middleware: reads the body up to a limit, refuses a larger one with 413.

    Parameters
    ----------
    app : ASGI application
    max_bytes : int
    """

    def __init__(self, app: Any, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        body, more = b"", True
        too_large = int(declared) > self._max_bytes  # the server made sure that it is a number
        while more and not too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            too_large = len(body) > self._max_bytes
        if too_large:
            detail = f"the body must have at most {self._max_bytes} bytes."
            await JSONResponse({"detail": detail}, 413)(scope, receive, send)
            return
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Any:
            return next(whole, None) or await receive()

        await self._app(scope, replay, send)

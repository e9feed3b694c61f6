"""What Prometheus may know: requests and their times, the log, the model."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.model_holder import ModelHolder

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one service.

    Parameters
    ----------
    holder : ModelHolder
        Asked for the state of the model and the log at every scrape.
    """

    def __init__(self, holder: ModelHolder) -> None:
        self._registry = registry = CollectorRegistry()
        self._holder = holder
        self.requests = Counter(
            "palate_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "palate_request_seconds",
            "Time from a request to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "palate_batch_requests",
            "Requests that were worked off together.",
            ["queue"],
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.observed = Counter("palate_observed_events", "Events taken in.", registry=registry)
        self.added = Counter("palate_added_items", "Items taken in.", registry=registry)
        self.saves = Counter("palate_saves", "Saves tried.", ["result"], registry=registry)
        self.reloads = Counter("palate_reloads", "Reloads tried.", ["result"], registry=registry)
        self._version = Gauge(
            "palate_model_info", "1 for the version that is served.", ["version"], registry=registry
        )
        self._gauges = {
            name: Gauge(f"palate_{name}", text, registry=registry)
            for name, text in (
                ("ready", "Whether a model is loaded."),
                ("log_sequence", "The last change that the answers reflect."),
                ("log_lag_rows", "Rows in the log that no saved model holds."),
                ("log_bytes", "Size of the log."),
                ("log_dropped_bytes", "Length of a frame cut off by a crash, at the last start."),
                ("log_skipped_rows", "Rows of the log that did not fit the model."),
            )
        }

    def text(self) -> bytes:
        """Return all metrics in the format of Prometheus."""
        holder, log = self._holder, self._holder.log
        self._gauges["ready"].set(holder.ready)
        self._gauges["log_skipped_rows"].set(holder.skipped)
        if log is not None:
            self._gauges["log_bytes"].set(log.size)
            self._gauges["log_dropped_bytes"].set(log.dropped_bytes)
        if holder.ready:
            live = holder.live
            self._gauges["log_sequence"].set(live.sequence)
            self._gauges["log_lag_rows"].set(live.unsaved)
            self._version.clear()
            self._version.labels(live.version).set(1)
        return generate_latest(self._registry)


class Measured:
    """ASGI middleware: counts and times the requests to known paths, the others as "other"."""

    def __init__(self, app: Any, metrics: Metrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        start, status = time.perf_counter(), 499  # the client left before an answer

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - start)

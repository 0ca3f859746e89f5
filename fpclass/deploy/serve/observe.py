"""What a server tells its owner: metrics for Prometheus, and a line of JSON per request, without what was in it."""

from __future__ import annotations

import itertools
import json
import logging
import re
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import JSONResponse

from fpclass.errors import printable

REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)
LOG = logging.getLogger("fpclass.serve")


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("fpclass_requests", "Requests answered", ["path", "status"], **named)
        self.seconds = Histogram("fpclass_request_seconds", "Time of a request", ["path"], buckets=SECONDS, **named)
        self.images = Counter("fpclass_images", "Images, by what became of them", ["outcome"], **named)
        self.batches = Histogram("fpclass_batch_images", "Images of a batch", buckets=SIZES, **named)
        self.waiting = Gauge("fpclass_images_here", "Images that were let in and have no answer yet", **named)
        self.in_flight = Gauge("fpclass_requests_in_flight", "Requests that are read or answered", **named)
        self.ready = Gauge("fpclass_ready", "1 when images are answered", **named)

    def text(self) -> bytes:
        """All of them in Prometheus's format."""
        return generate_latest(self.registry)


class Observed:
    """ASGI middleware: an id, a log line and metrics for each request.

    Args:
      paths: that have metrics of their own; all others are counted together, whatever clients ask for.
    """

    def __init__(self, app: Any, metrics: Metrics, paths: frozenset[str]):
        self._app, self._metrics, self._paths = app, metrics, paths
        self._prefix, self._numbers = secrets.token_hex(4), itertools.count(1)

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, is_begun = time.perf_counter(), 500, False
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
        request_id = sent if REQUEST_ID.fullmatch(sent) else f"{self._prefix}-{next(self._numbers)}"
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "log": {}}

        async def observed_send(message: Any) -> None:
            nonlocal status, is_begun
            if message["type"] == "http.response.start":
                status, is_begun = message["status"], True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        except Exception as error:
            log_defect(request_id, error)
            if not is_begun:
                reason = {"error": f"a defect of this server; its log says more under {request_id}"}
                await JSONResponse(reason, 500)(scope, receive, observed_send)
        finally:
            seconds = time.perf_counter() - started
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(seconds)
            shown = printable(scope["path"].partition("=")[0][:200])  # behind it the page names pictures
            log(
                "request", id=request_id, method=scope["method"], path=shown, status=status,
                ms=round(1e3 * seconds, 1), **scope["state"]["log"],
            )  # fmt: skip


def log(event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Writes a line of JSON."""
    if LOG.isEnabledFor(level):
        LOG.log(level, json.dumps({"time": round(time.time(), 3), "event": event, **fields}))


def log_defect(request_id: str, error: BaseException) -> None:
    """Writes what nobody expected, with where it came from; the client is told the id alone."""
    trace = traceback.format_exception(error)
    log("defect", level=logging.ERROR, id=request_id, error=repr(error), trace="".join(trace))


def write_logs_to_stderr() -> None:
    """Lets the log lines go to the standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)

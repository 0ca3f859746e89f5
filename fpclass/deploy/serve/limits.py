"""How much a client may send, and how many may send at once: ASGI middleware around everything that is served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from fpclass.deploy.serve.observe import Metrics
from fpclass.deploy.serve.settings import Settings

BUSY_SECONDS = 1
"""After which a client that was turned away may come again."""
CLOSE = {"connection": "close"}


class Limited:
    """Refuses bodies that are too large, whether they say so or not, or too slow, and more requests than fit.

    Args:
      app: the application behind it.
      counted: paths whose requests are counted; all others answer at once.
    """

    def __init__(self, app: Any, settings: Settings, metrics: Metrics, counted: frozenset[str]):
        self._app, self._settings, self._metrics, self._counted = app, settings, metrics, counted
        self._num_requests = 0

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._settings.max_bytes
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > limit:
            await refusal(413, too_large(self._settings))(scope, receive, send)
            return
        num_bytes, seconds = 0, self._settings.seconds
        deadline: float | None = asyncio.get_running_loop().time() + seconds

        async def bounded() -> Any:
            nonlocal num_bytes, deadline
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the request did not arrive within {seconds:g} s", CLOSE) from None
            if not message.get("more_body"):
                deadline = None  # it is whole: what comes next is that the client has gone
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                raise HTTPException(413, too_large(self._settings), CLOSE)
            return message

        if scope["path"] not in self._counted or scope["method"] != "POST":
            await self._app(scope, bounded, send)
            return
        if self._num_requests >= self._settings.max_requests:
            reason = f"{self._num_requests} requests are being answered; try again in {BUSY_SECONDS} s"
            await refusal(429, reason, **{"retry-after": str(BUSY_SECONDS)})(scope, receive, send)
            return
        self._num_requests += 1
        self._metrics.in_flight.set(self._num_requests)
        try:
            await self._app(scope, bounded, send)
        finally:
            self._num_requests -= 1
            self._metrics.in_flight.set(self._num_requests)


def too_large(settings: Settings) -> str:
    """The reason in a 413."""
    return f"the request is larger than {settings.max_body_mb:g} MB"


def refusal(status: int, reason: str, **headers: str) -> JSONResponse:
    """An answer that says why there is none; the connection ends with it where the body was not read."""
    return JSONResponse({"error": reason}, status, {**CLOSE, **headers} if status == 413 else headers)

"""What visitors may ask of Gradio: what the page itself asks, and no file or address but pictures that were uploaded.

Gradio can do more: it fetches addresses that a client names, takes any file of the machine as if it had been uploaded
(where it is mounted on another application, as here, it does not check), and runs functions by number.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from fpclass.deploy.serve.limits import refusal

UPLOAD, JOIN, FILE = "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/file="
EXACT = {
    "GET": (
        *("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/gradio_api/info"),
        *("/gradio_api/startup-events", "/gradio_api/upload_progress", "/gradio_api/queue/data"),
    ),
    "POST": (UPLOAD, JOIN, "/gradio_api/reset", "/gradio_api/cancel"),
}
UNDER = ("/assets/", "/static/", "/gradio_api/heartbeat/")
"""Beginnings of other paths that are read."""
MAX_KEPT_BYTES = 10**9
"""Of pictures that were uploaded and are not removed yet."""


class Guarded:
    """ASGI middleware around Gradio's application.

    Args:
      uploads: folder that Gradio writes uploaded pictures to, and what it makes for visitors.
      keep_seconds: after which they are removed.
    """

    def __init__(self, app: Any, uploads: pathlib.Path, keep_seconds: float):
        self._app, self._uploads, self._keep_seconds = app, uploads.resolve(), keep_seconds
        self._kept: deque[tuple[float, int]] = deque()

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        path, method = scope["path"], scope.get("method", "").replace("HEAD", "GET")
        if method == "GET" and path.startswith(FILE):
            is_known = self._is_ours(path.removeprefix(FILE))
        else:
            is_known = path in EXACT.get(method, ()) or (method == "GET" and path.startswith(UNDER))
        if not is_known:
            await refusal(404, "Not Found")(scope, receive, send)
        elif path == JOIN:
            await self._join(scope, receive, send)
        elif path == UPLOAD:
            await self._upload(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _join(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        """A click: its JSON names pictures."""
        try:
            body = await Request(scope, receive).body()
        except HTTPException as error:  # Gradio's own handler of them comes after this
            await refusal(error.status_code, error.detail)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        try:
            are_ours = all(self._is_ours(path) for path in _paths(json.loads(body)))
        except (ValueError, RecursionError):
            are_ours = False
        if not are_ours:
            await refusal(403, "only pictures that were uploaded here are looked at")(scope, receive, send)
            return
        is_given = False

        async def again() -> Any:
            nonlocal is_given
            if is_given:
                return await receive()
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    async def _upload(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        while self._kept and self._kept[0][0] < time.monotonic() - 2 * self._keep_seconds:
            self._kept.popleft()
        if sum(num_bytes for _, num_bytes in self._kept) > MAX_KEPT_BYTES:
            wait = {"retry-after": str(round(self._keep_seconds))}
            await refusal(429, "too many pictures were uploaded; try again later", **wait)(scope, receive, send)
            return

        async def counted() -> Any:
            message = await receive()
            if num_bytes := len(message.get("body", b"")):
                self._kept.append((time.monotonic(), num_bytes))
            return message

        await self._app(scope, counted, send)

    def _is_ours(self, path: Any) -> bool:
        """Whether a path is of a file that was uploaded, or made for a visitor."""
        try:
            return isinstance(path, str) and pathlib.Path(path).resolve().is_relative_to(self._uploads)
        except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a null byte
            return False


def _paths(value: Any) -> Iterator[Any]:
    """Whatever a JSON value calls a path, at any depth."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _paths(each)

"""A real web server on this machine that publishes one file, as well or as badly as a test wants."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import re
import threading
from collections.abc import Iterator


@dataclasses.dataclass
class Server:
    """What is published and how; `requests` has the Range header of each request, or "".

    Attributes:
      data: the file.
      has_ranges: whether parts can be asked for.
      failures: answered one after the other before anything is sent: a status, or a number of bytes after which the
        connection is closed ("cut 100") or falls silent ("stall 100").
      tells_length: whether there is a Content-Length.
      redirect: where to, instead.
      version: what it is called as ETag; a part is sent only if that was asked for by If-Range.
      shift: so many bytes before the asked ones a part begins, the first time.
    """

    data: bytes
    has_ranges: bool = True
    failures: list[int | str] = dataclasses.field(default_factory=list)
    tells_length: bool = True
    redirect: str = ""
    version: str = ""
    shift: int = 0
    requests: list[str] = dataclasses.field(default_factory=list)
    url: str = ""
    is_over: threading.Event = dataclasses.field(default_factory=threading.Event)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serves until the end of the `with` block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self, server)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        server.url = f"http://127.0.0.1:{listener.server_port}/models/tiny-0.pth"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.is_over.set()
            listener.shutdown()
            thread.join()


def answer(handler: http.server.BaseHTTPRequestHandler, server: Server) -> None:
    asked = handler.headers.get("Range", "")
    server.requests.append(asked)
    failure = server.failures.pop(0) if server.failures else ""
    if isinstance(failure, int):
        handler.send_error(failure)
        return
    if server.redirect:
        handler.send_response(302)
        handler.send_header("Location", server.redirect)
        handler.end_headers()
        return
    size, start = len(server.data), 0
    is_same = handler.headers.get("If-Range", server.version) == server.version
    if asked and server.has_ranges and is_same:
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if start >= size:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.end_headers()
            return
        start, server.shift = start - server.shift, 0
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    else:
        handler.send_response(200)
    if server.version:
        handler.send_header("ETag", server.version)
    if server.tells_length:
        handler.send_header("Content-Length", str(size - start))
    handler.end_headers()
    kind, _, length = failure.partition(" ")
    handler.wfile.write(server.data[start : start + int(length) if kind else None])
    handler.wfile.flush()
    if kind == "stall":
        server.is_over.wait(20)
    handler.close_connection = True

"""A real web server on this machine that does what servers on the web do to those who collect pictures."""

from __future__ import annotations

import contextlib
import http.server
import io
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image


class Server:
    """What is published under each path, and what was asked for.

    Attributes:
      pages: path -> what answers; any other path is 404.
      requests: (path with query, time, headers) of each request, in order.
      is_over: set at the end; what drips and stalls ends then.
    """

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[Answerer], None]] = {}
        self.requests: list[tuple[str, float, dict[str, str]]] = []
        self.is_over = threading.Event()
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def asked(self, but: str = "/robots.txt") -> list[str]:
        """The paths that were asked for, but for one."""
        return [path for path, *_ in self.requests if path != but]


class Answerer(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    server_of_test: Server

    def do_GET(self):
        server = self.server_of_test
        server.requests.append((self.path, time.monotonic(), dict(self.headers)))
        self.close_connection = True
        page = server.pages.get(urllib.parse.urlsplit(self.path).path, status(404))
        with contextlib.suppress(OSError):  # who asked may have hung up
            page(self)

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serves until the end of the `with` block; encrypted where a context is given."""
    server = Server()
    handler = type("Handler", (Answerer,), {"server_of_test": server})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        listener.daemon_threads = True
        listener.handle_error = lambda *_: None  # who asked hung up, or does not trust the certificate
        if context is not None:
            listener.socket = context.wrap_socket(listener.socket, server_side=True)
        server.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.is_over.set()
            listener.shutdown()
            thread.join()


def picture(seed: int = 0, size: tuple[int, int] = (40, 30), file_format: str = "PNG", **options) -> bytes:
    """A picture that differs from that of every other seed; size is (width, height)."""
    rng = np.random.default_rng(seed)
    corners = Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8))
    stream = io.BytesIO()
    corners.resize(size, Image.Resampling.BILINEAR).save(stream, file_format, **options)
    return stream.getvalue()


def send(data: bytes, content_type: str = "image/png", **headers: object):
    """All is well."""

    def answer(answerer: Answerer) -> None:
        answerer.head(200, Content_Type=content_type, Content_Length=len(data), **headers)
        answerer.wfile.write(data)

    return answer


def status(code: int, **headers: object):
    """An error page."""

    def answer(answerer: Answerer) -> None:
        body = b"<html>sorry</html>"
        answerer.head(code, Content_Type="text/html", Content_Length=len(body), **headers)
        answerer.wfile.write(body)

    return answer


def in_turn(*answers):
    """One answer after the other; the last one for good."""
    left = list(answers)
    return lambda answerer: (left.pop(0) if len(left) > 1 else left[0])(answerer)


def redirect(location: str, code: int = 302):
    """Somewhere else."""
    return lambda answerer: answerer.head(code, Location=location, Content_Length=0)


def endless(chunk: bytes = b"x" * 65536):
    """A body without an end, whose length is not told."""

    def answer(answerer: Answerer) -> None:
        answerer.head(200, Content_Type="image/png")
        while not answerer.server_of_test.is_over.is_set():
            answerer.wfile.write(chunk)

    return answer


def drip(data: bytes, seconds: float = 0.05):
    """A body that comes byte by byte, too steadily for a time-out of the socket."""

    def answer(answerer: Answerer) -> None:
        answerer.head(200, Content_Type="image/png", Content_Length=len(data))
        for byte in data:
            if answerer.server_of_test.is_over.wait(seconds):
                return
            answerer.wfile.write(bytes([byte]))

    return answer


def drip_headers(seconds: float = 0.05):
    """Headers that never end."""

    def answer(answerer: Answerer) -> None:
        answerer.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not answerer.server_of_test.is_over.wait(seconds):
            answerer.wfile.write(b"x")

    return answer


def stall(data: bytes, after: int):
    """A body that falls silent."""

    def answer(answerer: Answerer) -> None:
        answerer.head(200, Content_Type="image/png", Content_Length=len(data))
        answerer.wfile.write(data[:after])
        answerer.wfile.flush()
        answerer.server_of_test.is_over.wait(20)

    return answer


def cut(data: bytes, after: int):
    """A body that breaks off."""

    def answer(answerer: Answerer) -> None:
        answerer.head(200, Content_Type="image/png", Content_Length=len(data))
        answerer.wfile.write(data[:after])

    return answer

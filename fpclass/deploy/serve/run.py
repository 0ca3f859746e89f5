"""The process of a server: uvicorn around the application, from the first signal to the last answer."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fpclass.common.console import complain, say
from fpclass.deploy.serve.app import add_documents_as_root, make_app
from fpclass.deploy.serve.limits import BUSY_SECONDS, CLOSE, refusal
from fpclass.deploy.serve.observe import write_logs_to_stderr
from fpclass.deploy.serve.served import Served
from fpclass.deploy.serve.service import Service
from fpclass.deploy.serve.settings import Settings
from fpclass.errors import FpclassError, RunError


class _Protocol(HttpToolsProtocol):
    """uvicorn's connection, which ends in time if no request begins, its headers do not end, or no answer is read.

    Connections beyond the limit are told so, if their request comes soon.
    """

    seconds: float
    max_connections: int
    _unsent: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _answered: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        is_one_too_many = len(self.connections) > self.max_connections
        if is_one_too_many:
            self.app = refusal(
                503, "too many connections; try again soon", **CLOSE, **{"retry-after": str(BUSY_SECONDS)}
            )
        self._wait_for_headers(BUSY_SECONDS if is_one_too_many else self.seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for_headers(self.seconds)

    def on_headers_complete(self) -> None:
        self._unsent = _cancelled(self._unsent)
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        self._unread = _cancelled(self._unread)
        super().resume_writing()

    def on_response_complete(self) -> None:
        self._wait_for_reader()
        super().on_response_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None:  # uvicorn tells the last request that was read, which may be another
            self._answered.disconnected = not self._answered.response_complete
        self._unsent, self._unread = _cancelled(self._unsent), _cancelled(self._unread)
        super().connection_lost(exc)

    def _wait_for_headers(self, seconds: float) -> None:
        if self._unsent is None:
            self._unsent = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _wait_for_reader(self) -> None:
        if self._unread is None and self.transport.get_write_buffer_size():
            self._unread = self.loop.call_later(self.seconds, self._end_unread)

    def _end_unread(self) -> None:
        self._unread = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # to close it would wait for the reader


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class _Server(uvicorn.Server):
    """uvicorn's server, which says where it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers if self.started else []:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                say(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}")


def serve(served: Served, settings: Settings, host: str, port: int, *, with_page: bool) -> int:
    """Serves until somebody ends it with Ctrl-C or SIGTERM; what was taken is answered.

    Returns:
      Exit code 0.

    Raises:
      RunError: the address is taken, or not of this machine.
      FpclassError: the model cannot be loaded.
    """
    failures: list[BaseException] = []

    def on_failure(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    service = Service(served, settings)
    app = make_app(service, on_failure)
    if with_page:
        from fpclass.deploy.serve.page import add_page

        app = add_page(app, service)
    else:
        add_documents_as_root(app)
    limits = {"seconds": settings.seconds, "max_connections": _connections(settings.max_connections)}
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        http=type("_Bounded", (_Protocol,), limits),
        ws="none",
        timeout_keep_alive=math.ceil(settings.seconds),
        timeout_graceful_shutdown=int(2 * settings.seconds),
    )
    server = _Server(config)
    write_logs_to_stderr()
    say(f"{served.name}, version {served.version}, of {', '.join(served.predictor.class_names)}; Ctrl-C ends it")
    with _listening(host, port) as listening, _ending_quietly():
        server.run([listening])
    if failures:
        if isinstance(failures[0], FpclassError):
            raise failures[0]
        complain(f"serve: {failures[0]!r}")
        return 1
    return 0


def _connections(wanted: int) -> int:
    """How many connections may be open, of those that the system lets a process have; it is asked for all it gives."""
    try:
        import resource
    except ImportError:  # on Windows, which has no such limit
        return wanted
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return wanted if most == resource.RLIM_INFINITY else max(1, min(wanted, most // 2))


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"serve: cannot listen on {host}, port {port}: {reason}; choose another --port") from error
    return listening


class _ending_quietly:
    """Within it a signal that uvicorn has honoured, and raises again afterwards, ends nothing more."""

    def __enter__(self) -> None:
        def honoured(*_: Any) -> None:
            pass

        self._before = {number: signal.signal(number, honoured) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

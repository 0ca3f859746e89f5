"""A polite and wary client: one turn per host, robots.txt, back-off, and limits to all that a server can do."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import email.utils
import http.client
import math
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from fpclass.data.collect import address
from fpclass.data.collect.address import Refused
from fpclass.errors import one_line

if TYPE_CHECKING:
    from protego import Protego

AGENT = "fpclass"
"""What robots.txt files can call this program."""
BACK_OFF_SECONDS = (2.0, 4.0, 8.0)
"""Waits before the second and every further attempt, where the server does not ask for longer ones."""
MAX_WAIT_SECONDS = 120.0
"""What a server asks for beyond this is not waited for: a later run comes back to it."""
SILENCE_SECONDS = 20.0
"""Without a byte for so long, a connection counts as lost."""
TOTAL_SECONDS = 90.0
"""Longer than this no answer may take, however steadily it drips."""
MAX_REDIRECTS = 5
ROBOTS_BYTES = 2**20
"""RFC 9309 asks for 500 KiB at least."""
CHUNK_BYTES = 2**16
REDIRECTS = (301, 302, 303, 307, 308)
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
OPT_OUTS = frozenset(("noai", "noimageai", "noindex", "noimageindex", "none"))
"""What a site says in the header X-Robots-Tag where it does not want its pictures collected."""


class Later(Exception):
    """Something that cannot be had now; a later run may get it, after `wait_seconds` at the earliest."""

    def __init__(self, reason: str, wait_seconds: float = 0.0):
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class Stopped(Exception):
    """The user interrupted."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """Answer of a server; `content_type` is what the server calls it, which need not be true."""

    data: bytes
    content_type: str


class _Origin:
    """A scheme, host and port, with its rules once they have been read."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rules: Protego | None = None


class Client:
    """An HTTP client for several threads; `stop` is set when `halt` was called."""

    def __init__(
        self, *, user_agent: str = AGENT, delay_seconds: float = 1.0, is_allowed: Callable[[str], bool] | None = None
    ):
        """Fetches nothing yet.

        Args:
          delay_seconds: between the starts of two requests to a host, unless its robots.txt has a longer Crawl-delay.
          is_allowed: which numeric addresses may be connected to; None for those of the public internet.
        """
        self.stop = threading.Event()
        self._user_agent = user_agent
        self._delay_seconds = delay_seconds
        self._is_allowed = is_allowed or address.is_public
        self._lock = threading.Lock()
        self._next_turn: dict[str, float] = {}
        self._crawl_delay: dict[str, float] = {}
        self._origins: dict[str, _Origin] = {}
        self._connections: set[address.Connection] = set()

    def halt(self) -> None:
        """Ends all waits and connections; every thread that is in here raises `Stopped`."""
        self.stop.set()
        with self._lock:
            for connection in self._connections:
                connection.hang_up()

    def get(
        self, url: str, *, max_bytes: int, headers: Mapping[str, str] | None = None, is_crawling: bool = True
    ) -> Answer:
        """Fetches an address, follows its redirects, and tries again where that may help.

        Args:
          max_bytes: a longer body is refused, as soon as that is known.
          headers: sent to the first host only, not to where it redirects.
          is_crawling: obeys robots.txt and opt-out headers; False for interfaces that are made for programs.

        Raises:
          Refused: for good.
          Later: not now.
          Stopped: the user has had enough.
        """
        for back_off in (*BACK_OFF_SECONDS, math.inf):
            try:
                return self._follow(url, max_bytes, headers or {}, is_crawling)
            except Later as error:
                wait = max(back_off, error.wait_seconds)
                if wait > MAX_WAIT_SECONDS:
                    raise
                self._pause(wait)
        raise AssertionError("unreachable: the last wait is without end")

    def take_turn(self, host: str) -> None:
        """Waits until a host may be asked again.

        Raises:
          Stopped: the user has had enough.
        """
        with self._lock:
            turn = max(time.monotonic(), self._next_turn.get(host, 0.0))
            self._next_turn[host] = turn + max(self._delay_seconds, self._crawl_delay.get(host, 0.0))
        self._pause(turn - time.monotonic())

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(min(max(seconds, 0.0), threading.TIMEOUT_MAX)):
            raise Stopped

    def _follow(self, url: str, max_bytes: int, headers: Mapping[str, str], is_crawling: bool) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            url = address.normal_url(url)
            if is_crawling:
                self._ask_robots(url)
            self.take_turn(urllib.parse.urlsplit(url).hostname or "")
            answer = self._request(url, max_bytes, headers, is_crawling)
            if isinstance(answer, Answer):
                return answer
            try:
                url, headers = urllib.parse.urljoin(url, answer), {}
            except ValueError as error:
                raise Refused(f"redirected to what is not an address: {one_line(error)}") from None
        raise Refused(f"more than {MAX_REDIRECTS} redirects")

    def _ask_robots(self, url: str) -> None:
        """Asks robots.txt whether this program may fetch an address.

        Raises:
          Refused: it does not.
          Later: nobody knows now; RFC 9309, 2.3.1.4: what cannot be reached forbids everything.
        """
        parts = urllib.parse.urlsplit(url)
        with self._lock:
            origin = self._origins.setdefault(f"{parts.scheme}://{parts.netloc}", _Origin())
        with origin.lock:
            if origin.rules is None:
                origin.rules = self._fetch_rules(f"{parts.scheme}://{parts.netloc}")
                delay = origin.rules.crawl_delay(AGENT) or 0.0
                with self._lock:
                    self._crawl_delay[parts.hostname or ""] = delay
        if not origin.rules.can_fetch(url, AGENT):
            raise Refused("forbidden by robots.txt")
        delay = self._crawl_delay.get(parts.hostname or "", 0.0)
        if delay > MAX_WAIT_SECONDS:
            raise Refused(f"robots.txt asks for {delay:.0f} seconds between two requests")

    def _fetch_rules(self, origin: str) -> Protego:
        from protego import Protego

        try:
            text = self.get(f"{origin}/robots.txt", max_bytes=ROBOTS_BYTES, is_crawling=False).data
        except address.NotPublic:
            raise
        except Refused as error:
            if not 400 <= error.status < 500:
                raise Refused(f"robots.txt: {error}") from None
            text = b""  # RFC 9309, 2.3.1.3: a host without the file forbids nothing
        except Later as error:
            raise Later(f"robots.txt: {error}", math.inf) from None
        return Protego.parse(text.decode("utf-8", "replace"))

    def _request(self, url: str, max_bytes: int, headers: Mapping[str, str], is_crawling: bool) -> Answer | str:
        """One request: the answer, or where it redirects to."""
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
        always = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", "Connection": "close"}
        connection = address.Connection(url, SILENCE_SECONDS, self._is_allowed)
        try:
            with self._known(connection), contextlib.closing(connection), _time_limit(connection):
                connection.request("GET", target, headers={**headers, **always})
                with connection.getresponse() as response:
                    location = _check_status(response)
                    if location:
                        return location
                    _check_headers(response, max_bytes, is_crawling)
                    return Answer(self._read(response, max_bytes), response.headers.get("Content-Type", ""))
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self.stop.is_set():
                raise Stopped from None
            raise _as_outcome(error) from None

    @contextlib.contextmanager
    def _known(self, connection: address.Connection) -> Iterator[None]:
        """Lets `halt` end a connection."""
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _read(self, response: http.client.HTTPResponse, max_bytes: int) -> bytes:
        data = bytearray()
        while chunk := response.read1(CHUNK_BYTES):
            data += chunk
            if len(data) > max_bytes:
                raise Refused(f"longer than {_megabytes(max_bytes)}")
            if self.stop.is_set():
                raise Stopped
        if response.length:
            raise Later(f"the connection broke off, {response.length} bytes before the end")
        return bytes(data)


@contextlib.contextmanager
def _time_limit(connection: address.Connection) -> Iterator[None]:
    """Ends a connection after `TOTAL_SECONDS`: the time-out of a socket begins anew with every byte."""
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        connection.hang_up()

    timer = threading.Timer(TOTAL_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, Later):
        if not is_over.is_set():
            raise
    finally:
        timer.cancel()
    if is_over.is_set():
        raise Later(f"not whole after {TOTAL_SECONDS:g} seconds", math.inf)


def _as_outcome(error: Exception) -> Refused | Later:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(f"its certificate is not right: {error.verify_message}")
    if isinstance(error, socket.gaierror):
        return Later(f"no such host, or no network ({error.strerror or error})", math.inf)
    if isinstance(error, TimeoutError):
        return Later(f"silent for {SILENCE_SECONDS:g} seconds")
    return Later(f"the connection broke off ({one_line(error)})")


def _check_status(response: http.client.HTTPResponse) -> str:
    """The address that the server redirects to; empty where it answers itself.

    Raises:
      Refused, Later: it does neither.
    """
    location = response.headers.get("Location", "")
    if response.status == 200:
        return ""
    if response.status in REDIRECTS and location:
        with contextlib.suppress(UnicodeError):  # http.client takes every header for Latin-1
            location = location.encode("latin-1").decode("utf-8")
        return location
    reason = f"the server answered {response.status} {one_line(response.reason)}".rstrip()
    if response.status in TEMPORARY:
        raise Later(reason, _seconds(response.headers.get("Retry-After", "")))
    raise Refused(reason, response.status)


def _check_headers(response: http.client.HTTPResponse, max_bytes: int, is_crawling: bool) -> None:
    """Checks the headers before the body is read.

    Raises:
      Refused: it is too long, compressed though nobody asked for that, or its owner does not want it collected.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refused(f"compressed by {encoding[:20]}, though it was asked for plainly")
    if response.length is not None and response.length > max_bytes:
        raise Refused(f"{_megabytes(response.length)}, longer than {_megabytes(max_bytes)}")
    if is_crawling:
        tags = ",".join(response.headers.get_all("X-Robots-Tag", [])).lower()
        # "otherbot: noindex" is meant for another program.
        wishes = {tag.strip().removeprefix(f"{AGENT}:").strip() for tag in tags.split(",")}
        if wishes & OPT_OUTS:
            raise Refused(f"its owner does not want it collected (X-Robots-Tag: {', '.join(wishes & OPT_OUTS)})")


def _seconds(retry_after: str) -> float:
    """Retry-After in seconds, from now; 0 where there is none that makes sense. It may be a number or a date."""
    if retry_after.strip().isascii() and retry_after.strip().isdigit():
        return float(retry_after)
    try:
        when = email.utils.parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
    return max(0.0, (when - datetime.datetime.now(datetime.UTC)).total_seconds())


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"

"""Addresses that may be fetched: http and https of the public internet, checked at the address that is connected to."""

from __future__ import annotations

import contextlib
import functools
import http.client
import ipaddress
import re
import socket
import ssl
import urllib.parse
from collections.abc import Callable

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that IANA has given out of IPv6. What lies outside stands for other networks: site-local, translated, future."""
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")
"""RFC 9637, which older Pythons do not know."""
_NOT_PUBLIC = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("168.63.129.16/32"))
"""IETF protocol assignments, a part of which Pythons count as global; and Azure's own services for its machines."""
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
MAX_URL = 8000
"""Characters of an address; longer ones no server takes."""
_KEPT = "!$&'()*+,;=:@/%~"
"""Characters of a path that stay as they are; `%`, because it may have been quoted already."""


class Refused(Exception):
    """Something that will not be fetched, now or later; `status` is the server's, such as 404, or 0 if never asked."""

    def __init__(self, reason: str, status: int = 0):
        super().__init__(reason)
        self.status = status


class NotPublic(Refused):
    """A host that is not of the public internet."""


def normal_url(text: str) -> str:
    """One spelling of an address, which may have spaces and letters of any language: ASCII, quoted, without fragment.

    Raises:
      Refused: not http or https, no host, a bad host or port, with a user and password, or endless.
    """
    try:
        parts = urllib.parse.urlsplit(text.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
        host = host if ":" in host else host.encode("idna").decode("ascii")
        path = urllib.parse.quote(parts.path or "/", safe=_KEPT)
        query = urllib.parse.quote(parts.query, safe=_KEPT + "?[]")
    except ValueError as error:  # UnicodeError is one
        raise Refused(f"not an address: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise Refused(f"only http and https are fetched, not {parts.scheme[:20] or 'an address without either'}")
    if not host:
        raise Refused("an address without a host")
    if not _HOST.fullmatch(host):
        raise Refused("an address with a host that cannot be one")
    if parts.username is not None:
        raise Refused("an address with a user name in it")
    place = f"[{host}]" if ":" in host else host
    if port and port != (443 if parts.scheme == "https" else 80):
        place += f":{port}"
    url = urllib.parse.urlunsplit((parts.scheme, place, path, query, ""))
    if len(url) > MAX_URL:
        raise Refused(f"an address of {len(url)} characters; expected {MAX_URL} at most")
    return url


def is_public(address: str) -> bool:
    """Whether a numeric address is of the public internet; IPv6 addresses for an IPv4 one are as public as that."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip not in _UNICAST or ip in _DOCUMENTATION:
            return False
    elif any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast


class Connection(http.client.HTTPConnection):
    """A connection to the host of an address, if all that the name stands for is allowed.

    The name is looked up once, and what was looked up is what is connected to: a name server that gives another answer
    the second time gains nothing. Proxies of the environment are not used, because behind one nobody can check this.
    `opened` is the socket, which stays known here after the response has taken it over; None before.
    """

    def __init__(self, url: str, timeout_seconds: float, is_allowed: Callable[[str], bool]):
        parts = urllib.parse.urlsplit(url)
        self._is_https = parts.scheme == "https"
        self.default_port = 443 if self._is_https else 80
        self._is_allowed = is_allowed
        self.opened: socket.socket | None = None
        self.is_ended = False
        super().__init__(parts.hostname or "", parts.port, timeout=timeout_seconds)

    def connect(self) -> None:
        """Looks up, checks, connects.

        Raises:
          NotPublic: an address that is not allowed.
          OSError: no such name, no connection, a certificate that is not right.
        """
        addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for *_, address in addresses:
            if not self._is_allowed(str(address[0])):
                place = "" if self.host == address[0] else f", whose address is {address[0]},"
                raise NotPublic(f"{self.host}{place} is not of the public internet")
        self.sock = self.opened = _connect(addresses, self.timeout)
        if self._is_https:
            # Known before the handshake, in which a server can take its time, too.
            secure = _tls().wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock = self.opened = secure
        if self.is_ended:
            raise OSError("ended before it was there")
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.do_handshake()

    def hang_up(self) -> None:
        """Ends the connection from another thread; the one that connects or reads meets the end of it."""
        self.is_ended = True
        if self.opened is not None:
            with contextlib.suppress(OSError):  # it may just have been closed
                # Not SSLSocket's own, which takes the encryption away from under the thread that reads.
                socket.socket.shutdown(self.opened, socket.SHUT_RDWR)


def _connect(addresses: list[tuple], timeout_seconds: float | None) -> socket.socket:
    failure = OSError("no address")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout_seconds)
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise failure


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context

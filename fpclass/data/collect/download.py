"""Downloads of pictures: fetched host by host, decoded, kept once, each with its row in the provenance."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import itertools
import pathlib
import threading
import urllib.parse
from collections import Counter, deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from fpclass.common import files
from fpclass.data.collect.address import Refused
from fpclass.data.collect.backends import Candidate, Query
from fpclass.data.collect.client import Client, Later
from fpclass.data.collect.provenance import DUPLICATE, LATER, REFUSED, Provenance, Row
from fpclass.data.decode import open_picture, pixel_digest
from fpclass.errors import DecodeError

NUM_THREADS = 8
STRIKES = 3
"""After so many addresses in a row that cannot be had now, a host is left alone until the next run."""
SUFFIXES = {
    "AVIF": ".avif", "BMP": ".bmp", "GIF": ".gif", "JPEG": ".jpg", "JPEG2000": ".jp2", "MPO": ".jpg", "PNG": ".png",
    "TIFF": ".tif", "WEBP": ".webp",
}  # fmt: skip
"""Formats that are kept: those of pictures, with the extension that `data.source=folder` knows them by."""

_one_picture = threading.Lock()
"""Pictures are looked into one at a time: a few hundred kilobytes can hold a gigabyte, and not once per thread."""


@dataclasses.dataclass(frozen=True)
class Find:
    """An address to fetch, and how it was found."""

    candidate: Candidate
    query: Query
    source: str

    @property
    def host(self) -> str:
        """The host of the address; "" where it is none."""
        with contextlib.suppress(ValueError):  # not an address: nobody's, and refused when its turn comes
            return urllib.parse.urlsplit(self.candidate.url).hostname or ""
        return ""

    @property
    def stem(self) -> str:
        """Name of the file, without its extension: from the address, so that a file is known without its row."""
        return hashlib.sha256(self.candidate.url.encode()).hexdigest()[:16]

    def row(self, **values: Any) -> Row:
        """A row of the provenance with all that was known before, and these values."""
        known: dict[str, Any] = {
            **dataclasses.asdict(self.candidate),
            "class_name": self.query.class_name,
            "query": self.query.text,
            "language": self.query.language,
            "source": self.source,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        return Row(**{"filename": "", **known, **values})


@dataclasses.dataclass(frozen=True)
class Picture:
    """The bytes of a picture file, the extension of its format, and its measurements, as `Row` names them."""

    data: bytes
    suffix: str
    measured: dict[str, Any]


def interleave(finds: Sequence[Sequence[Find]]) -> list[Find]:
    """The finds of all queries, first the first of each, so that classes grow alike; every address once."""
    rounds = itertools.zip_longest(*finds)
    first: dict[str, Find] = {}
    for find in itertools.chain.from_iterable(rounds):
        if find is not None:
            first.setdefault(find.candidate.url, find)
    return list(first.values())


def examine(data: bytes, min_side_px: int, content_type: str = "") -> Picture:
    """Decodes what came; neither its name nor what the server calls it (`content_type`, for the message) counts.

    Raises:
      Refused: not a picture, damaged, or too small.
    """
    with _one_picture:
        try:
            image, facts = open_picture(data)
        except DecodeError as error:
            called = f"; the server calls it {content_type[:60]}" if content_type else ""
            raise Refused(f"{error}{called}") from None
        if facts["format"] not in SUFFIXES:
            raise Refused(f"of the format {facts['format']}, which is not for pictures of a data set")
        if min(image.size) < min_side_px:
            raise Refused(f"smaller than {min_side_px} pixels ({image.width} x {image.height})")
        digests = {"sha256": hashlib.sha256(data).hexdigest(), "pixel_sha256": pixel_digest(image)}
        measured = {"width": image.width, "height": image.height, "num_bytes": len(data), **digests}
    return Picture(data, SUFFIXES[facts["format"]], measured)


class Downloads:
    """Downloads to a folder; `left` counts by host the addresses left for a later run, because it did not answer."""

    def __init__(
        self, folder: pathlib.Path, provenance: Provenance, client: Client, *, min_side_px: int, max_bytes: int
    ):
        """Fetches nothing yet; `folder` gets a folder per class."""
        self._folder, self._provenance, self._client = folder, provenance, client
        self._min_side_px, self._max_bytes = min_side_px, max_bytes
        self.left: Counter[str] = Counter()

    def waiting(self, finds: Sequence[Find]) -> list[Find]:
        """The addresses still to be fetched; files that a kill left without a row get theirs."""
        there = {path.with_suffix(""): path for path in self._folder.glob("*/*") if path.suffix in SUFFIXES.values()}
        waiting = []
        for find in finds:
            if self._provenance.is_done(find.candidate.url):
                continue
            path = there.get(self._folder / find.query.class_name / find.stem)
            try:
                if path is None:
                    raise Refused("not there")
                measured = examine(path.read_bytes(), min_side_px=1).measured
                self._provenance.add(find.row(filename=path.relative_to(self._folder).as_posix(), **measured))
            except Refused:  # or damaged, as a power cut can leave it
                waiting.append(find)
        # What could not be had before comes last: else it would be what a host is given up for, run after run.
        return sorted(waiting, key=lambda find: find.candidate.url in self._provenance.rows)

    def run(self, finds: Sequence[Find]) -> Generator[Row, None, None]:
        """Fetches all of them, some hosts at a time and one address of each, and gives the rows as they come.

        Raises:
          RunError: the folder cannot be written to.
        """
        hosts: dict[str, deque[Find]] = {}
        for find in finds:
            hosts.setdefault(find.host, deque()).append(find)
        ready, strikes = deque(hosts), Counter[str]()
        running: dict[Future, Find] = {}
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            try:
                while ready or running:
                    while ready and len(running) < NUM_THREADS:
                        find = hosts[ready.popleft()].popleft()
                        running[pool.submit(self._fetch, find)] = find
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        find = running.pop(future)
                        row = self._store(find, future.result())
                        strikes[find.host] = strikes[find.host] + 1 if row.status == LATER else 0
                        yield row
                        if strikes[find.host] >= STRIKES:
                            self.left[find.host] = len(hosts[find.host])
                        elif hosts[find.host]:
                            ready.append(find.host)
            except BaseException:  # Ctrl-C, a full disk, a reader that has had enough: no thread goes on
                self._client.halt()
                raise

    def _fetch(self, find: Find) -> Picture | Exception:
        try:
            answer = self._client.get(find.candidate.url, max_bytes=self._max_bytes)
            return examine(answer.data, self._min_side_px, answer.content_type)
        except (Refused, Later) as error:
            return error

    def _store(self, find: Find, result: Picture | Exception) -> Row:
        if not isinstance(result, Picture):
            status = REFUSED if isinstance(result, Refused) else LATER
            row = find.row(status=status, reason=str(result))
        elif same := self._provenance.same_picture(result.measured["pixel_sha256"]):
            other = "" if same.class_name == find.query.class_name else f", of the class {same.class_name}"
            row = find.row(status=DUPLICATE, reason=f"same picture as {same.filename}{other}", **result.measured)
        else:
            path = self._folder / find.query.class_name / f"{find.stem}{result.suffix}"
            with files.replacing(path) as temporary:
                temporary.write_bytes(result.data)
            row = find.row(filename=path.relative_to(self._folder).as_posix(), **result.measured)
        self._provenance.add(row)
        return row

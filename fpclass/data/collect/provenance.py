"""Provenance of every picture: a CSV with a row per address, which grows while pictures come and survives a kill."""

from __future__ import annotations

import csv
import dataclasses
import io
import pathlib
from typing import IO, Any

import pandas as pd

from fpclass.common import files
from fpclass.errors import DataError, RunError, one_line, printable

NAME = "provenance.csv"
KEPT, DUPLICATE, REFUSED, LATER = "kept", "duplicate", "refused", "later"
"""Status of an address: in a folder; the same picture as one that is; not for us; not now."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Facts about an address, a column each.

    Attributes:
      filename: below the folder; empty unless it was kept.
      page: that it is shown on.
      class_name: the class it was searched for; column `class`.
      source: name of the backend.
      time: when it was fetched, UTC.
      licence: as the source has it; empty where that does not say. Check it at the page before you publish.
      width: pixels, upright; 0 where it did not decode, and so are height, num_bytes and digests empty.
      pixel_sha256: of the picture, which is the same for two files that hold the same one.
      status: `KEPT`, `DUPLICATE`, `REFUSED` or `LATER`.
    """

    filename: str
    url: str
    page: str
    class_name: str
    query: str
    language: str
    source: str
    time: str
    licence: str
    creator: str
    width: int = 0
    height: int = 0
    num_bytes: int = 0
    sha256: str = ""
    pixel_sha256: str = ""
    status: str = KEPT
    reason: str = ""


COLUMNS = tuple(field.name.replace("class_name", "class") for field in dataclasses.fields(Row))
_NUMBERS = ("width", "height", "num_bytes")


class Provenance:
    """The last row of each address: read when the table is opened, appended to, put in order when it is closed."""

    def __init__(self, folder: pathlib.Path):
        """Reads what there is.

        Raises:
          DataError: the file is there, and is not such a table.
        """
        self.path = folder / NAME
        self.rows: dict[str, Row] = {}
        self._by_picture: dict[str, Row] = {}
        self._file: IO[bytes] | None = None
        self._num_lines = 0
        if self.path.exists():
            if not self.path.is_file():  # a pipe would be waited for
                raise DataError(f"{self.path}: is no file; collect into a new folder")
            self._read()

    def __enter__(self) -> Provenance:
        try:
            self._file = self.path.open("ab", buffering=0)
            if not self._file.tell():
                self._write_line(COLUMNS)
        except OSError as error:
            raise RunError(f"{self.path}: cannot write ({error.strerror or error})") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._num_lines > len(self.rows):  # an address that was got at last drops the failures before it
            frame = pd.DataFrame([dataclasses.astuple(row) for row in self.rows.values()], columns=list(COLUMNS))
            files.write_csv(self.path, frame)

    def is_done(self, url: str) -> bool:
        """Whether an address has been dealt with for good."""
        return url in self.rows and self.rows[url].status != LATER

    def same_picture(self, pixel_sha256: str) -> Row | None:
        """The row of a kept file with the same pixels, if there is one."""
        return self._by_picture.get(pixel_sha256)

    def add(self, row: Row) -> None:
        """Appends a row, which is on its way to the disk when this returns.

        Raises:
          RunError: the disk is full, for example.
        """
        # The address stays, because it is how a row is found again; that one is normal, or refused and written out.
        texts = {name: _cell(getattr(row, name)) for name in ("page", "licence", "creator")}
        row = dataclasses.replace(row, **texts, reason=one_line(row.reason, 1000) if row.reason else "")
        try:
            self._write_line(dataclasses.astuple(row))
        except OSError as error:
            raise RunError(f"{self.path}: cannot write ({error.strerror or error}); free space") from None
        self._take(row)

    def _take(self, row: Row) -> None:
        self._num_lines += 1
        self.rows[row.url] = row
        if row.status == KEPT:
            self._by_picture[row.pixel_sha256] = row

    def _write_line(self, cells: tuple) -> None:
        assert self._file is not None
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        data = line.getvalue().encode("utf-8", "replace")
        if self._file.write(data) != len(data):  # one call of the system: a kill finds it done or not begun
            raise OSError("the disk is full")

    def _read(self) -> None:
        """Takes the rows of the file, but for a line that a dying machine left without its end, which goes."""
        try:
            data = self.path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if whole != data:
                with self.path.open("r+b") as file:
                    file.truncate(len(whole))
            if not whole:  # it died before the header was there
                return
            header, *lines = csv.reader(io.StringIO(whole.decode("utf-8-sig"), newline=""))
            if tuple(header) != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
                raise ValueError("other columns than those it was written with")
            for line in lines:
                values: dict[str, Any] = dict(zip(COLUMNS, line, strict=True))
                values["class_name"] = values.pop("class")
                values.update({name: int(values[name]) for name in _NUMBERS})
                self._take(Row(**values))
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        except (ValueError, csv.Error) as error:
            raise DataError(
                f"{self.path}: not as it was written ({error}), perhaps saved by a spreadsheet; put the original "
                "back, or collect into a new folder"
            ) from None


def _cell(text: str) -> str:
    """A text from elsewhere as a cell: one line, not endless, and nothing that a spreadsheet takes for a formula."""
    return printable(" ".join(text.split()))[:1000].lstrip("=+-@ ")

"""Finding image files below a folder, and the one that a cell of a CSV means."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from fpclass.errors import DataError

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".gif", ".heic", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
))
# fmt: on


def is_text(name: str) -> bool:
    """Whether a name can be written in UTF-8; the bytes of one that is not stand in it as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def looks_like_image(path: Path) -> bool:
    """Whether a file has an image's extension, in any case."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_folder(path: Path) -> bool:
    """Whether a path is a folder and not a hidden one."""
    return path.is_dir() and not _is_hidden(path.name)


def all_files(folder: Path) -> Iterator[Path]:
    """Files at any depth below a folder but hidden ones; follows links to folders unless they lead in circles.

    Raises:
      OSError: a folder cannot be listed.
      DataError: the name of a file or folder that is not UTF-8, as old archives leave them.
    """

    def stop(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        for name in names:
            if not is_text(name):  # no table could hold it
                raise DataError(f"{parent}: the file name {name!r} is not UTF-8; rename the file")
        folders[:] = sorted(f for f in folders if not _is_hidden(f) and not _leads_back(folder, parent, f))
        for name in folders:
            if not is_text(name):
                raise DataError(f"{parent}: the folder name {name!r} is not UTF-8; rename the folder")
        yield from (Path(parent, name) for name in sorted(names) if not _is_hidden(name))


def image_files(folder: Path) -> list[Path]:
    """Files with an image's extension at any depth below a folder, hidden ones left out, sorted.

    Raises:
      OSError: a folder cannot be listed.
    """
    return sorted(filter(looks_like_image, all_files(folder)))


def csv_files(folder: Path) -> list[Path]:
    """CSV files, also those with tabs, directly in a folder, hidden ones left out, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv") and path.name[0] != ".")


def some_of(values: Sequence[object], limit: int = 8, separator: str = ", ") -> str:
    """The values in one line for a message, only the first few where there are many."""
    shown = separator.join(str(value) for value in values[:limit]) or "none"
    return f"{shown} and {len(values) - limit} more" if len(values) > limit else shown


class ImageIndex:
    """Finds the file that a cell means: by its path, by its name, or by either without the extension.

    `images` are the files with an image's extension below the searched folder, as POSIX paths relative to the root.
    """

    def __init__(self, root: Path, folder: Path):
        """Lists the files at any depth below `folder`; relative paths start there or in `root`, the data set's."""
        self._folder = folder
        self.images: list[str] = []
        # In this order: a relative path is exact, a bare name or stem may stand in several folders.
        self._by_path, self._by_name, self._by_stem = (defaultdict[str, list[str]](list) for _ in range(3))
        prefix = Path(os.path.relpath(folder, root))
        for file in all_files(folder):
            inner = file.relative_to(folder)
            outer = prefix / inner
            from_root = outer.as_posix()
            # Both are the same path where the root itself is searched: one entry then.
            paths = list(dict.fromkeys(PurePosixPath(_composed(path.as_posix())) for path in (outer, inner)))
            self._by_name[paths[0].name].append(from_root)
            for path in paths:
                self._by_path[str(path)].append(from_root)
            if looks_like_image(file):  # a.json beside a.png is no second candidate for "a"
                self.images.append(from_root)
                for stem in {paths[0].stem, *(str(path.with_suffix("")) for path in paths)}:
                    self._by_stem[stem].append(from_root)

    def find(self, cell: str, place: str) -> str:
        """The file's POSIX path relative to the root, or "" if there is none.

        `cell` is a relative path or bare name, with or without the extension; `place` is for the message.

        Raises:
          DataError: several files could be meant.
        """
        wanted = str(PurePosixPath(_composed(cell.replace("\\", "/"))))
        for index in (self._by_path, self._by_name, self._by_stem):
            matches = index.get(wanted, [])
            if len(matches) > 1:
                raise DataError(
                    f"{place}: {cell!r} could be {some_of(sorted(matches))} below {self._folder}; "
                    f"narrow the search with data.image_dir, or write the relative path into the CSV"
                )
            if matches:
                return matches[0]
        return ""


def _leads_back(start: Path, parent: str, name: str) -> bool:
    """Whether a folder is a link to one of those that the walk from `start` came through, or to one above them."""
    link = os.path.join(parent, name)
    if not os.path.islink(link):
        return False
    target = os.path.realpath(link)
    way = [start, *(start / up for up in Path(parent).relative_to(start).parents), Path(parent)]
    return any(Path(os.path.realpath(folder)).is_relative_to(target) for folder in way)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # the latter: what macOS adds to its archives


def _composed(text: str) -> str:
    """One spelling for what looks the same: macOS stores an umlaut as two characters, a CSV has one."""
    return unicodedata.normalize("NFC", text)

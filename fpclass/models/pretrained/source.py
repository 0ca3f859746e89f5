"""From the name of a set of weights, or a file given by hand, to its arrays and all that must be known about them."""

from __future__ import annotations

import difflib
import functools
import hashlib
import pathlib
import shutil
from collections.abc import Mapping

import numpy as np

from fpclass.common.console import program, say
from fpclass.common.files import expanded, replacing
from fpclass.errors import WeightsError
from fpclass.models.pretrained.fetch import (
    cached_path,
    fetch,
    file_digest,
    file_state,
    folder,
    matches,
    remembered_digest,
)
from fpclass.models.pretrained.formats import read_arrays, read_metadata
from fpclass.models.pretrained.manifest import MANIFEST, Weights

NAME_KEY, ARRAYS_KEY = "fpclass.weights", "arrays.sha256"
SOURCE_KEY, PUBLISHED_KEY = "source.sha256", "source.is_published"
"""In the metadata of a converted file: which set of weights it is, the digest of its arrays, the digest of the file
that it was made of, and whether that was the published one."""


def resolve(name_or_file: str) -> tuple[Weights, pathlib.Path | None]:
    """Finds the entry of a set of weights, and the file where it is given as one (else None).

    Args:
      name_or_file: a name in the manifest, or a file: one that is published, known by its digest, or one that
        `convert` made of it.

    Raises:
      WeightsError: neither, or a file of which nobody knows how its images must be normalised.
    """
    entry, path = find(name_or_file)
    if entry is None:
        path = pathlib.Path(path or name_or_file)
        raise WeightsError(
            f"{path}: is no published file (sha256 {file_digest(path)}), so that it is unknown how its images must be "
            f"normalised; if it holds those of a published set: `{program()} weights convert {path} --as NAME`; to "
            "start from it as it is, say which network it is of and how its images are normalised: "
            "--config.model.name=NETWORK --config.data.mean=… --config.data.std=…"
        )
    return entry, path


def find(name_or_file: str) -> tuple[Weights | None, pathlib.Path | None]:
    """As `resolve`; of a file of the user's own, which no entry is about, the entry is None.

    Raises:
      WeightsError: neither a name nor a file, or one that was converted as something unknown.
    """
    if name_or_file in MANIFEST:
        return MANIFEST[name_or_file], None
    path = expanded(name_or_file)
    if path.is_file():
        return _entry_of(path), path
    close = difflib.get_close_matches(name_or_file, MANIFEST, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise WeightsError(
        f"weights {name_or_file!r}: neither a file nor a name in the list; {hint}`{program()} weights list` shows them"
    )


def open_arrays(name_or_file: str) -> tuple[Weights | None, dict[str, np.ndarray]]:
    """The arrays of a set of weights by their published names, fetched if they are not in the cache; entry as `find`.

    Raises:
      WeightsError: unknown, not to be had, damaged or hostile.
    """
    entry, path = _local(name_or_file)
    return entry, read_arrays(path)


def require(name_or_file: str) -> None:
    """Makes sure that a set of weights is on this machine and whole, so that nothing is missing when it is needed.

    Cheap to repeat: what was found whole counts as whole until it is written to.

    Raises:
      WeightsError: as `open_arrays`, but for what only its reading of a whole file can find.
    """
    _local(name_or_file)


def digest_of(name_or_file: str) -> str:
    """All digits of the sha256 of the file that a run with these weights starts from; cheap to repeat.

    Raises:
      WeightsError: as `require`.
    """
    return remembered_digest(_local(name_or_file)[1])


def _local(name_or_file: str) -> tuple[Weights | None, pathlib.Path]:
    """The entry of a set of weights, and its file, fetched if need be and proven to be whole."""
    entry, path = find(name_or_file)
    if path is not None:
        _check_unchanged(path, file_state(path))
    if entry is None or path is not None:
        return entry, pathlib.Path(path or name_or_file)
    path = in_cache(entry)
    if path is not None:
        return entry, path
    unusable = why_unusable(entry)
    try:
        path = fetch(entry)
    except WeightsError as error:
        raise type(error)(f"{error}; {unusable}" if unusable else str(error)) from None
    if unusable:
        say(f"note: {unusable}; the published file was fetched instead")
    return entry, path


def converted_path(entry: Weights) -> pathlib.Path:
    """Where `convert` puts what it makes of the published file, and the name finds it."""
    return folder() / f"{entry.name}.safetensors"


def in_cache(entry: Weights) -> pathlib.Path | None:
    """The file that the name stands for, if it is there: the published one if it is whole, or else made of it."""
    published, converted = cached_path(entry), converted_path(entry)
    if published.is_file() and matches(published, entry.digest):
        return published
    return converted if converted.is_file() and not why_unusable(entry) else None


def why_unusable(entry: Weights) -> str:
    """Why the name does not stand for the converted file that lies in its place; "" if it may, or there is none."""
    path = converted_path(entry)
    if not path.is_file():
        return ""
    try:
        if not is_of_published(read_metadata(path), entry):
            return (
                f"{path}: was not converted from the published file of {entry.name}, so that the name does not stand "
                f"for it; give it by --config.model.weights={path}"
            )
        _check_unchanged(path, file_state(path))
    except WeightsError as error:
        return str(error)
    return ""


def is_of_published(metadata: Mapping[str, str], entry: Weights) -> bool:
    """Whether a file says that it was converted from the published file of an entry, the one that is listed now."""
    kind, _, digest = entry.digest.partition(":")
    is_same_source = kind != "sha256" or metadata.get(SOURCE_KEY, "").startswith(digest)
    is_said = metadata.get(NAME_KEY) == entry.name and metadata.get(PUBLISHED_KEY) == "true"
    return is_said and is_same_source and ARRAYS_KEY in metadata


@functools.lru_cache(maxsize=1024)
def _check_unchanged(path: pathlib.Path, state: tuple[int, ...]) -> None:
    """Checks a converted file, once per process and state of the file; of others the digest tells as much."""
    if ARRAYS_KEY in read_metadata(path):
        read_checked(path)


def read_checked(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a file; those of a converted one must be what they were when it was written.

    Raises:
      WeightsError: unreadable, or changed.
    """
    arrays = read_arrays(path)
    expected = read_metadata(path).get(ARRAYS_KEY)
    if expected is not None and (met := arrays_digest(arrays)) != expected:
        raise WeightsError(
            f"{path}: its arrays have changed since it was converted: sha256 {met}, expected {expected}; convert again"
        )
    return arrays


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The sha256 of names, types, shapes and numbers, whatever file they are in."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), order="C", copy=False)
        digest.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def known_entry(path: pathlib.Path) -> Weights | None:
    """The entry whose published file this is, by digest."""
    digests = {f"{kind}:{remembered_digest(path, kind)}" for kind in ("sha256", "md5")}
    return next((e for e in MANIFEST.values() if any(digest.startswith(e.digest) for digest in digests)), None)


def add(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Copies published files into the cache, where their names find them: a file, or all below a folder.

    Returns:
      Where each now is, by its name; nothing for files that are not as published, whatever they are called.

    Raises:
      WeightsError: no such file or folder, or a disk that is full.
    """
    if not path.exists():
        raise WeightsError(f"{path}: no such file or folder")
    added, endings = {}, {pathlib.PurePath(entry.filename).suffix for entry in MANIFEST.values()}
    for found in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if found.suffix in endings and found.is_file() and (entry := known_entry(found)) is not None:
            added[entry.name] = there = cached_path(entry)
            if not there.is_file() or not matches(there, entry.digest):
                with replacing(there) as temporary:
                    shutil.copyfile(found, temporary)
    return added


def _entry_of(path: pathlib.Path) -> Weights | None:
    known = known_entry(path)
    if known is not None:
        return known
    name = read_metadata(path).get(NAME_KEY)
    if name in MANIFEST:
        return MANIFEST[name]
    if name is not None:
        raise WeightsError(f"{path}: was converted as {name!r}, which `{program()} weights list` does not have")
    return None

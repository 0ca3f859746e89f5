"""Files of weights rewritten as safetensors, in the cache or wherever they are wanted."""

from __future__ import annotations

import pathlib

import numpy as np
from safetensors.numpy import save

from fpclass.common import files
from fpclass.errors import WeightsError
from fpclass.models.pretrained.check_fit import check_fit
from fpclass.models.pretrained.fetch import file_digest, folder, matches
from fpclass.models.pretrained.formats import read_metadata
from fpclass.models.pretrained.manifest import Weights
from fpclass.models.pretrained.source import (
    ARRAYS_KEY,
    NAME_KEY,
    PUBLISHED_KEY,
    SOURCE_KEY,
    arrays_digest,
    converted_path,
    known_entry,
    read_checked,
)


def unpublished_path(entry: Weights, sha256: str) -> pathlib.Path:
    """Where `convert` puts what it makes of another file, by the digest of that one; the name does not find it."""
    return folder() / "converted" / f"{entry.name}-UNPUBLISHED-{sha256[:8]}.safetensors"


def convert(path: pathlib.Path, entry: Weights, out: pathlib.Path | None = None) -> pathlib.Path:
    """Writes any readable file of a set of weights as safetensors, after trying it on the real network.

    The arrays keep their published names and layout, so that the same mapping table serves both files.

    Args:
      entry: what it is said to be; only its numbers can prove it, and a file that is not the published one is marked.
      out: where to; None: into the cache. There the name of the entry finds what is made of the published file; what
        is made of any other must be given by its path.

    Raises:
      WeightsError: not of this network, known to be another set or converted as one, or unreadable.
      RunError: the place cannot be written to.
    """
    known = known_entry(path)
    if known is not None and known.name != entry.name and not matches(path, entry.digest):
        raise WeightsError(f"{path}: is {known.name} by its digest, not {entry.name}; use --as {known.name}")
    before = read_metadata(path)
    if before.get(NAME_KEY, entry.name) != entry.name:
        name = before[NAME_KEY]
        raise WeightsError(f"{path}: was converted as {name}, not {entry.name}; use --as {name}")
    arrays = read_checked(path)
    check_fit(arrays, entry, str(path))
    metadata = {
        NAME_KEY: entry.name,
        ARRAYS_KEY: arrays_digest(arrays),
        "license": entry.license,
        "source.file": path.name,
        SOURCE_KEY: file_digest(path),
        PUBLISHED_KEY: str(known is not None).lower(),
    }
    if {NAME_KEY, ARRAYS_KEY, SOURCE_KEY, PUBLISHED_KEY} <= before.keys():  # converted once more: the source stays
        metadata |= {key: value for key, value in before.items() if key.startswith("source.")}
    is_published = metadata[PUBLISHED_KEY] == "true"
    out = out or (converted_path(entry) if is_published else unpublished_path(entry, metadata[SOURCE_KEY]))
    with files.replacing(out) as temporary:
        temporary.write_bytes(save({n: np.asarray(a, order="C") for n, a in arrays.items()}, metadata))
    return out

"""From the name of a set of weights, or a file given by hand, to its arrays and all that must be known about them."""

from __future__ import annotations

import difflib
import hashlib
import pathlib
from collections.abc import Mapping

import numpy as np

from fpclass import files
from fpclass.errors import WeightsError
from fpclass.weights.fetch import cached_path, fetch, file_digest, folder, matches
from fpclass.weights.formats import read_arrays, read_metadata
from fpclass.weights.load import load_weights
from fpclass.weights.manifest import MANIFEST, Weights

NAME_KEY, ARRAYS_KEY = "fpclass.weights", "arrays.sha256"
"""In the metadata of a converted file: which set of weights it is, and the digest of its arrays."""


def resolve(name_or_file: str) -> tuple[Weights, pathlib.Path | None]:
    """Finds the entry of a set of weights.

    Args:
      name_or_file: a name in the manifest, or a file: one that is published, known by its digest, or one that
        `convert` made of it.

    Returns:
      The entry, and the file where it was one.

    Raises:
      WeightsError: neither, or a file of which nobody knows how its images must be normalised.
    """
    if name_or_file in MANIFEST:
        return MANIFEST[name_or_file], None
    path = pathlib.Path(name_or_file).expanduser()
    if path.is_file():
        return _entry_of(path), path
    close = difflib.get_close_matches(name_or_file, MANIFEST, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise WeightsError(
        f"weights {name_or_file!r}: neither a file nor a name in the list; {hint}`launch.py weights list` shows them"
    )


def open_arrays(name_or_file: str) -> tuple[Weights, dict[str, np.ndarray]]:
    """The arrays of a set of weights by their published names, fetched if they are not in the cache.

    Raises:
      WeightsError: unknown, not to be had, damaged or hostile.
    """
    entry, path = resolve(name_or_file)
    return entry, read_checked(path or in_cache(entry) or fetch(entry))


def converted_path(entry: Weights) -> pathlib.Path:
    """Where `convert` puts its file unless told otherwise."""
    return folder() / f"{entry.name}.safetensors"


def in_cache(entry: Weights) -> pathlib.Path | None:
    """The file of the cache that holds a set of weights: the published one if it is whole, or else a converted one."""
    published, converted = cached_path(entry), converted_path(entry)
    if published.is_file() and matches(published, entry.digest):
        return published
    return converted if converted.is_file() and _name_of(converted) == entry.name else None


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


def convert(path: pathlib.Path, entry: Weights, out: pathlib.Path | None = None) -> pathlib.Path:
    """Writes any readable file of a set of weights as safetensors, after trying it on the real network.

    The arrays keep their published names and layout, so that the same mapping table serves both files.

    Args:
      path: the file.
      entry: what it is said to be; only its numbers can prove it, and a file that is not the published one is marked.
      out: where to; None: into the cache, where the name of the entry then finds it.

    Returns:
      The file that was written.

    Raises:
      WeightsError: not of this network, known to be another set, or unreadable.
      RunError: the place cannot be written to.
    """
    from safetensors.numpy import save

    known = _known_entry(path)
    if known is not None and known.name != entry.name and not matches(path, entry.digest):
        raise WeightsError(f"{path}: is {known.name} by its digest, not {entry.name}; use --as {known.name}")
    arrays = read_checked(path)
    check_fit(arrays, entry, str(path))
    metadata = {
        NAME_KEY: entry.name,
        ARRAYS_KEY: arrays_digest(arrays),
        "license": entry.license,
        "source.file": path.name,
        "source.sha256": file_digest(path),
        "source.is_published": str(known is not None).lower(),
    }
    out = out or converted_path(entry)
    with files.replacing(out) as temporary:
        temporary.write_bytes(save({n: np.asarray(a, order="C") for n, a in arrays.items()}, metadata))
    return out


def check_fit(arrays: Mapping[str, np.ndarray], entry: Weights, where: str) -> None:
    """Loads arrays into the whole network of an entry, at its published image size.

    Raises:
      WeightsError: lists what does not fit.
    """
    import jax
    import jax.numpy as jnp

    from fpclass.models import ARCHITECTURES
    from fpclass.models.network import DenseHead, Network
    from fpclass.weights.mappings import rules_for

    architecture = ARCHITECTURES[entry.architecture](entry.variant)
    head = DenseHead(entry.num_classes or 1, pool="none", name="head", parent=None)
    network = Network(stages=(*architecture.features, *architecture.classifier), head=head)
    images = jax.ShapeDtypeStruct((1, *entry.image_size, 3), jnp.float32)
    load_weights(
        arrays,
        rules_for(entry.architecture, entry.variant, arrays),
        jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), images),
        where=f"{where} as {entry.name}",
        left_out=(*entry.left_out, *(() if entry.num_classes else ("head",))),
        stem_kernel=architecture.stem_kernel,
        is_bgr=entry.is_bgr,
    )


def _known_entry(path: pathlib.Path) -> Weights | None:
    """The entry whose published file this is, by digest."""
    digests = {f"{kind}:{file_digest(path, kind)}" for kind in ("sha256", "md5")}
    return next((e for e in MANIFEST.values() if any(digest.startswith(e.digest) for digest in digests)), None)


def _name_of(path: pathlib.Path) -> str | None:
    return read_metadata(path).get(NAME_KEY)


def _entry_of(path: pathlib.Path) -> Weights:
    known = _known_entry(path)
    if known is not None:
        return known
    name = _name_of(path)
    if name in MANIFEST:
        return MANIFEST[name]
    if name is not None:
        raise WeightsError(f"{path}: was converted as {name!r}, which `launch.py weights list` does not have")
    raise WeightsError(
        f"{path}: is no published file (sha256 {file_digest(path)}), so that it is unknown how its images must be "
        f"normalised; if it holds the numbers of a published set: `launch.py weights convert {path} --as NAME`"
    )

"""Files of weights into arrays by name: safetensors, HDF5, npz, and PyTorch's, told apart by their content.

Nobody else's framework is needed, nothing in a file is executed, and no part of it can make the reader open another
file or fill the memory.
"""

from __future__ import annotations

import itertools
import math
import pathlib
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from fpclass.errors import WeightsError, one_line
from fpclass.models.pretrained.torch_file import read_torch_pickles, read_torch_zip
from fpclass.models.pretrained.torch_pickle import Refused

MAX_RATIO, SMALL_BYTES = 20, 64 * 2**20
"""Compressed arrays may have so many times the bytes of their file; below a size in bytes they may have any."""
OLD_KERAS_NAMES = {"W": "kernel", "b": "bias"}
"""What Keras 1 called the variables of convolutions and dense layers."""

Arrays = dict[str, np.ndarray]


def read_arrays(path: pathlib.Path) -> Arrays:
    """Reads every array of a file.

    Args:
      path: safetensors; HDF5 as Keras wrote it until version 2 and `model.save("….h5")` still does; npz; PyTorch's
        zip, or its older row of pickles.

    Returns:
      Arrays by their published names, in the published layout; numbers or booleans in the machine's byte order,
      bfloat16 as float32. They may be views, and not writable. Keras' names are paths without ":0":
      "block1_conv1/kernel".

    Raises:
      WeightsError: another format, damaged, or hostile.
    """
    return _guarded(path, _read)


def read_metadata(path: pathlib.Path) -> dict[str, str]:
    """What a safetensors file says about itself; {} for the other formats.

    Raises:
      WeightsError: as for `read_arrays`.
    """
    return _guarded(path, lambda path: _safetensors_metadata(path) if _reader(path) is _read_safetensors else {})


def _read(path: pathlib.Path) -> Arrays:
    arrays = _reader(path)(path)
    if not arrays:
        raise Refused("holds no arrays; is it the right file?")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise Refused(f"its array {name[:60]!r} is of type {array.dtype}, expected numbers")
    return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}


def _guarded(path: pathlib.Path, read: Callable[[pathlib.Path], Any]) -> Any:
    try:
        return read(path)
    except Refused as error:
        raise WeightsError(f"{path}: {error}") from None
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({one_line(error.strerror or error, 200)}); is it whole? Get it again"
        ) from None
    except Exception as error:  # a damaged file can make a parser stumble anywhere
        raise WeightsError(
            f"{path}: is damaged ({type(error).__name__}: {one_line(error, 200)}); get it again"
        ) from None


def _reader(path: pathlib.Path) -> Callable[[pathlib.Path], Arrays]:
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror or error})") from None
    if not start:
        raise Refused("is empty; get it again")
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_hdf5
    if start.startswith(b"PK"):
        return _read_zip
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**27:
        return _read_safetensors
    if start.startswith(b"\x80"):
        return read_torch_pickles
    if start[257:262] == b"ustar":
        raise Refused("is in the tar format that PyTorch wrote before 0.1.10; save it anew")
    if start.startswith(b"version https://git-lfs"):
        raise Refused("is only Git LFS' pointer to the file; get the file itself")
    if start.lstrip()[:1] == b"<":
        raise Refused("is a web page, not weights; get the file itself")
    raise Refused(f"is neither safetensors, HDF5, npz nor a file of torch.save; begins with {start[:8]!r}")


def _read_safetensors(path: pathlib.Path) -> Arrays:
    import ml_dtypes  # bfloat16 becomes a type of NumPy by this
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it has only keys()
    return {n: a.astype(np.float32) if a.dtype == ml_dtypes.bfloat16 else a for n, a in arrays.items()}


def _safetensors_metadata(path: pathlib.Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return dict(file.metadata() or {})


def _read_zip(path: pathlib.Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if names and all(name.endswith(".npy") for name in names):
        return _read_npz(path)
    if any(name.endswith("data.pkl") for name in names):
        return read_torch_zip(path)
    if "model.weights.h5" in names:
        raise Refused(_KERAS_3)
    raise Refused(f"a zip that is neither npz nor a file of torch.save; has {', '.join(names[:3])}")


def _read_npz(path: pathlib.Path) -> Arrays:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_sizes(path, sum(info.file_size for info in members))
        for info in members:
            name = info.filename.removesuffix(".npy")
            if name in arrays:
                raise Refused(f"has two arrays named {name[:60]!r}")
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                if version not in ((1, 0), (2, 0)):
                    raise Refused(f"its array {name[:60]!r} is of npy version {version}")
                header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
                shape, is_fortran, dtype = header(file)
                data = file.read()
            # What a header claims is compared with what there is, before it is believed.
            if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data):
                raise Refused(f"its array {name[:60]!r} of {len(data)} bytes claims {shape} of {dtype}")
            arrays[name] = np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")
    return arrays


def _check_sizes(path: pathlib.Path, num_bytes: int) -> None:
    """Refuses what unpacks to very much more than the file."""
    limit = max(SMALL_BYTES, MAX_RATIO * path.stat().st_size)
    if num_bytes > limit:
        raise Refused(f"unpacks to {num_bytes} bytes, at most {limit} are expected of a file of its size")


_KERAS_3 = (
    "Keras 3 wrote it without the names of the variables; save it by model.save('FILE.h5'), "
    "which keeps them, or as safetensors"
)


def _read_hdf5(path: pathlib.Path) -> Arrays:
    import h5py

    with h5py.File(path, "r") as file:
        root = file
        if "layer_names" not in file.attrs and "layer_names0" not in file.attrs:
            if "model_weights" not in file:
                raise Refused(_KERAS_3 if "layers" in file else "HDF5, but not of Keras")
            root = _inside(file, "model_weights")
        datasets = {}
        for layer in _names(root, "layer_names"):
            group = _inside(root, layer)
            weights = _names(group, "weight_names")
            # A layer that is a model of its own has weights of several layers, which their names tell.
            is_model = len({weight.rpartition("/")[0] for weight in weights}) > 1
            for weight in weights:
                name = _keras_name(layer, weight, is_model)
                if name in datasets:
                    raise Refused(f"has two arrays named {name[:60]!r}")
                datasets[name] = _inside(group, weight)
        for name, dataset in datasets.items():
            if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
                raise Refused(f"its array {name[:60]!r} is not in the file itself")
        _check_sizes(path, sum(dataset.size * dataset.dtype.itemsize for dataset in datasets.values()))
        return {name: np.asarray(dataset[()]) for name, dataset in datasets.items()}


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names, which Keras divides over attributes with numbers where it is long."""
    numbered = itertools.takewhile(group.attrs.__contains__, (f"{attribute}{i}" for i in itertools.count()))
    parts = [attribute] if attribute in group.attrs else list(numbered)
    names = itertools.chain.from_iterable(group.attrs[part] for part in parts)
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _inside(group: Any, name: str) -> Any:
    """What lies in a group under a path, step by step, so that no link leads to another place or file."""
    import h5py

    for part in name.strip("/").split("/"):
        if not isinstance(group, h5py.Group) or part in (".", "") or part not in group:
            raise Refused(f"lacks {name[:80]!r}; is it whole?")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise Refused(f"its {name[:80]!r} is a link to another place: refused")
        group = group[part]
    return group


def _keras_name(layer: str, weight: str, is_model: bool) -> str:
    """The path of a variable: "conv1_conv/kernel:0" and "block1_conv1/block1_conv1_W_1:0" -> "block1_conv1/kernel".

    Keras 2 counts models of one process ("block1_conv1_2/kernel:0"), so that the layer's own name is the one to take.
    """
    scope, _, variable = re.sub(r":\d+$", "", weight).rpartition("/")
    if is_model:
        return f"{scope}/{variable}"
    variable = variable.removeprefix(f"{layer}_")
    stem = re.sub(r"_\d+$", "", variable)
    return f"{layer}/{OLD_KERAS_NAMES.get(stem, variable)}"

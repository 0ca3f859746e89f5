"""PyTorch's files without PyTorch: a state dict is a pickle that says how tensors lie in raw storages.

Two containers exist: a zip of `data.pkl` and `data/0`, `data/1` … (since 2020), and four pickles, the state dict the
last of them but one, with the raw storages behind them. The pickles are read by `torch_pickle`.

Source: torch.serialization (`_load`, `_legacy_load`) of PyTorch 2.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np

from fpclass.models.pretrained.torch_pickle import Machine, Refused, Storage, Tensor

MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
"""The first two pickles of the older format."""
MAX_PICKLE_BYTES = 64 * 2**20
"""Of `data.pkl`; a thousand arrays take some 100 kilobytes."""
MAX_RATIO = 4
"""The arrays together may have so many times the bytes of the file: some lie twice in one storage, tied weights."""
WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Under these keys training programs keep a state dict."""


def read_torch_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the zip that `torch.save` writes: arrays by name, views of the storages, not to be written to.

    Raises:
      Refused: damaged, hostile, or not a state dict.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise Refused("two of its members have the same name")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise Refused(f"its member {info.filename!r} is compressed or encrypted; PyTorch stores as it is")
        # Members are stored, so that they cannot have more bytes than the file, unless they lie over each other.
        if sum(info.file_size for info in members.values()) > path.stat().st_size:
            raise Refused("its members have more bytes than the file")
        pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise Refused(f"has {len(pickles)} members NAME/data.pkl, expected one: did torch.save write this?")
        folder = pickles[0].removesuffix("data.pkl")
        if members[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise Refused(f"its {pickles[0]} has {members[pickles[0]].file_size} bytes; a state dict takes far fewer")
        tensors = _state_dict(Machine().run(io.BytesIO(archive.read(pickles[0]))))
        byteorder = archive.read(f"{folder}byteorder").decode() if f"{folder}byteorder" in members else "little"
        if byteorder not in ("little", "big"):
            raise Refused(f"its byteorder is {byteorder[:20]!r}, expected 'little' or 'big'")
        storages = {}
        for key, storage in _roots(tensors).items():
            info = members.get(f"{folder}data/{key}") if key.isascii() and key.isdigit() else None
            if info is None:
                raise Refused(f"its storage {key[:20]!r} is missing")
            if info.file_size != storage.num_bytes:
                raise Refused(f"its storage {key} has {info.file_size} bytes, expected {storage.num_bytes}")
            storages[key] = _numbers(archive.read(info), storage.type, byteorder)
    return _arrays(tensors, storages, path.stat().st_size)


def read_torch_pickles(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the older format, pickles with the storages behind them; see `read_torch_zip`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if Machine().run(file) != MAGIC_NUMBER or Machine().run(file) != PROTOCOL_VERSION:
            raise Refused("a pickle that torch.save did not write; save the state dict with it, or as safetensors")
        Machine().run(file)  # sizes of types on the machine that wrote it: storages are little-endian all the same
        machine = Machine()
        tensors = _state_dict(machine.run(file))
        keys = Machine().run(file)
        needed = _roots(tensors).keys()
        is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not is_list or len(keys) != len(set(keys)) or not needed <= set(keys):
            raise Refused("its list of storages does not fit its tensors")
        storages = {}
        for key in keys:
            header = file.read(8)
            root = machine.storages.get(key)
            if len(header) < 8:
                raise Refused(f"ends before its storage {key[:20]!r}: it is cut short; get it again")
            count = struct.unpack("<q", header)[0]
            if root is None:
                raise Refused(f"its storage {key[:20]!r} belongs to no tensor")
            if count != root.size:
                raise Refused(f"its storage {key[:20]!r} has {count} numbers, expected {root.size}")
            if root.num_bytes > size - file.tell():
                raise Refused(f"ends within its storage {key[:20]!r}: it is cut short; get it again")
            if key in needed:
                storages[key] = _numbers(file.read(root.num_bytes), root.type, "little")
            else:  # of a tensor outside the state dict, such as those of an optimiser
                file.seek(root.num_bytes, io.SEEK_CUR)
        if file.read(1):
            raise Refused("goes on after its last storage; get it again")
    return _arrays(tensors, storages, size)


def _state_dict(value: Any) -> dict[str, Tensor]:
    """The names and tensors, taken out of what training programs wrap around them."""
    for _ in range(len(WRAPPERS)):
        key = next((k for k in WRAPPERS if isinstance(value, dict) and isinstance(value.get(k), dict)), None)
        if key is None:
            break
        value = value[key]
    if not isinstance(value, dict):
        raise Refused(f"holds a {type(value).__name__.lstrip('_').lower()}, expected arrays by name (a state dict)")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise Refused(
                f"its entry {str(name)[:60]!r} is not a tensor; expected a state dict, alone or under {WRAPPERS}"
            )
    return value


def _roots(tensors: dict[str, Tensor]) -> dict[str, Storage]:
    return {tensor.storage.key: dataclasses.replace(tensor.storage, start=0) for tensor in tensors.values()}


def _numbers(data: bytes, type_: str, byteorder: str) -> np.ndarray:
    sign = "<" if byteorder == "little" else ">"
    if type_ == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, f"{sign}u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(type_).newbyteorder(sign))


def _arrays(tensors: dict[str, Tensor], storages: dict[str, np.ndarray], file_size: int) -> dict[str, np.ndarray]:
    arrays, num_bytes = {}, 0
    for name, tensor in tensors.items():
        storage = storages[tensor.storage.key]
        offset = tensor.storage.start + tensor.offset
        count = math.prod(tensor.shape)
        last = offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        if count and (count > len(storage) or last >= len(storage)):
            raise Refused(f"its array {name[:60]!r} of shape {tensor.shape} reaches beyond its storage")
        num_bytes += count * storage.itemsize
        if num_bytes > MAX_RATIO * file_size:
            raise Refused(f"its arrays have more than {MAX_RATIO} times the bytes of the file")
        strides = [stride * storage.itemsize for stride in tensor.strides]
        # NumPy checks offset and strides against the buffer once more.
        arrays[name] = np.ndarray(
            tensor.shape, storage.dtype, storage, offset * storage.itemsize if count else 0, strides if count else None
        )
    return arrays

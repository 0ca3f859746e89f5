"""PyTorch's files built byte by byte: what its readers meet is then known to the letter, and needs no PyTorch."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence

MAGIC = 0x1950A86A20F9469CFC6C

# Pieces of a pickle. Each leaves one value on the stack.


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def old_text(value: str) -> bytes:
    """As Python 2 wrote it."""
    return b"U" + bytes([len(value)]) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else b"\x8a\x0a" + value.to_bytes(
        10, "little", signed=True
    )  # fmt: skip


def row(*parts: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(parts) + b"t"


def numbers(values: Sequence[int]) -> bytes:
    return row(*map(number, values))


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def named_by_stack(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + row(*arguments) + b"R"


ORDERED_DICT = call(named("collections", "OrderedDict"))
REBUILD = named("torch._utils", "_rebuild_tensor_v2")


def dictionary(items: Mapping[str, bytes], start: bytes = b"}") -> bytes:
    return start + b"(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def storage(key: str, kind: str, size: int, *view: bytes) -> bytes:
    """Of the zip; with a view (or b"N") that of the older format."""
    return row(text("storage"), named("torch", f"{kind}Storage"), text(key), text("cpu"), number(size), *view) + b"Q"


def tensor(where: bytes, shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> bytes:
    return call(REBUILD, where, number(offset), numbers(shape), numbers(strides), b"\x89", ORDERED_DICT)


def whole(value: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + value + b"."


def zip_file(value: bytes, storages: Mapping[str, bytes], more: Mapping[str, bytes] | None = None) -> bytes:
    """The zip around a pickle that is not finished yet."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", whole(value))
        for name, data in {**{f"data/{k}": v for k, v in storages.items()}, "version": b"3\n", **(more or {})}.items():
            archive.writestr(f"archive/{name}", data)
    return file.getvalue()


def old_file(value: bytes, storages: Mapping[str, tuple[int, bytes]]) -> bytes:
    """The row of pickles, and storages as (number of elements, bytes)."""
    before = [pickle.dumps(part, 2) for part in (MAGIC, 1001, {"little_endian": True, "type_sizes": {"int": 4}})]
    after = [pickle.dumps(list(storages), 2)]
    raw = [struct.pack("<q", count) + data for count, data in storages.values()]
    return b"".join([*before, whole(value), *after, *raw])

"""Small files of weights of every format, and what must come of them."""

from __future__ import annotations

import io
import pathlib
import struct

import h5py
import numpy as np
import pytest
import torch_bytes as tb
from safetensors.numpy import save

from fpclass.errors import WeightsError
from fpclass.models.pretrained.formats import read_arrays

FLOATS = np.arange(12, dtype=np.float32) / 8
ONE = tb.tensor(tb.storage("0", "Float", 12), (3, 4), (4, 1))
OLD_ONE = tb.tensor(tb.storage("77", "Float", 12, b"N"), (3, 4), (4, 1))
EXPECTED = {"conv.weight": FLOATS.reshape(3, 4), "count": np.array(5, np.int64)}


def refused(path: pathlib.Path, *words: str) -> None:
    """Reading fails in one line that names the file and holds these words."""
    with pytest.raises(WeightsError) as caught:
        read_arrays(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600
    for word in words:
        assert word in message, message


def written(folder: pathlib.Path, data: bytes, name: str = "weights.bin") -> pathlib.Path:
    path = folder / name
    path.write_bytes(data)
    return path


def assert_same(arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(array, expected[name], err_msg=name, strict=True)


def torch_zip(storages: dict[str, bytes] | None = None, **more: bytes) -> bytes:
    value = tb.dictionary({"conv.weight": ONE, "count": tb.tensor(tb.storage("1", "Long", 1), (), ())}, tb.ORDERED_DICT)
    return tb.zip_file(value, storages or {"0": FLOATS.tobytes(), "1": struct.pack("<q", 5)}, more)


def torch_old() -> bytes:
    value = tb.dictionary({"conv.weight": OLD_ONE, "count": tb.tensor(tb.storage("9", "Long", 1, b"N"), (), ())})
    return tb.old_file(value, {"77": (12, FLOATS.tobytes()), "9": (1, struct.pack("<q", 5))})


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, **EXPECTED)
    return file.getvalue()


def hdf5(folder: pathlib.Path) -> bytes:
    path = folder / "made.h5"
    write_keras(path, {"conv": {"conv/weight:0": EXPECTED["conv.weight"], "conv/count:0": EXPECTED["count"]}})
    return path.read_bytes()


def write_keras(path: pathlib.Path, layers: dict[str, dict[str, np.ndarray]], below: str = "/") -> None:
    with h5py.File(path, "w") as file:
        root = file.require_group(below)
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                group[name] = array


def every_format(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        "zip": torch_zip(), "old": torch_old(), "npz": npz(), "h5": hdf5(folder), "safetensors": save(EXPECTED)
    }  # fmt: skip

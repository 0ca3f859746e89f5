"""Every format of weights: what is read, to the bit, and what is refused, with one line that names the file."""

from __future__ import annotations

import pathlib
import struct
import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import save
from weight_files import EXPECTED, assert_same, every_format, refused, torch_zip, write_keras, written

from fpclass.errors import WeightsError
from fpclass.models.pretrained import formats
from fpclass.models.pretrained.formats import read_arrays, read_metadata


@pytest.mark.parametrize("kind", ["zip", "old", "npz", "h5", "safetensors"])
def test_every_format_gives_the_same(tmp_path, kind):
    arrays = read_arrays(written(tmp_path, every_format(tmp_path)[kind], "a name.that tells nothing"))
    names = {"conv/weight": "conv.weight", "conv/count": "count"}
    assert_same({names.get(name, name): arrays[name] for name in arrays}, EXPECTED)


@pytest.mark.parametrize("kind", ["zip", "old", "npz", "h5", "safetensors"])
def test_cut_short_anywhere_is_refused(tmp_path, kind):
    data = every_format(tmp_path)[kind]
    for length in sorted({*range(1, 24), *range(24, len(data), max(1, len(data) // 60)), len(data) - 1}):
        refused(written(tmp_path, data[:length]))


@pytest.mark.parametrize("kind", ["zip", "old", "npz", "h5", "safetensors"])
def test_changed_anywhere_is_read_or_refused_but_nothing_else(tmp_path, kind):
    data = bytearray(every_format(tmp_path)[kind])
    rng = np.random.default_rng(0)
    num_refused = 0
    for position in rng.choice(len(data), size=min(len(data), 300), replace=False):
        changed = data.copy()
        changed[position] ^= 1 << rng.integers(8)
        try:
            read_arrays(written(tmp_path, changed))
        except WeightsError:
            num_refused += 1
    assert num_refused > 10


def test_safetensors(tmp_path):
    def made(header: bytes, data: bytes) -> bytes:
        return struct.pack("<Q", len(header)) + header + data

    brain = made(b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}', b"\x80\x3f\x00\xc0")
    assert_same(read_arrays(written(tmp_path, brain)), {"a": np.array([1, -2], np.float32)})
    path = written(tmp_path, save(EXPECTED, {"fpclass.weights": "resnet18"}))
    assert read_metadata(path) == {"fpclass.weights": "resnet18"}
    assert read_metadata(written(tmp_path, save(EXPECTED))) == {}
    assert read_metadata(written(tmp_path, torch_zip())) == {}
    refused(written(tmp_path, made(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}', bytes(4))), "damaged")
    refused(written(tmp_path, made(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(4))), "damaged")
    refused(written(tmp_path, made(b"{" * 300, b"")), "damaged")
    refused(written(tmp_path, made(b"{}", b"")), "no arrays")


def test_npz(tmp_path, monkeypatch):
    fortran = np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3))
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **{"block1/kernel": fortran})
    assert_same(read_arrays(path), {"block1/kernel": fortran.astype(np.int16)})
    np.savez(path, a=np.array([{}], object))
    refused(path, "'a'", "object")
    np.savez(path, a=np.array(["text"]))
    refused(path, "'a'", "expected numbers")
    np.savez_compressed(path, a=np.zeros(200_000))
    assert read_arrays(path)["a"].shape == (200_000,)
    monkeypatch.setattr(formats, "SMALL_BYTES", 1_000_000)
    refused(path, "unpacks to 1600128 bytes")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(16))
    refused(path, "'a'", "claims")


def test_keras_names(tmp_path):
    path = tmp_path / "keras.h5"
    kernel, bias = np.ones((2, 3), np.float32), np.zeros(3, np.float32)
    layers = {
        "input_1": {},
        "conv1_conv": {"conv1_conv/kernel:0": kernel, "conv1_conv/bias:0": bias},
        "block1_conv1": {"block1_conv1/block1_conv1_W_1:0": kernel, "block1_conv1/block1_conv1_b_1:0": bias},
        "fc1": {"fc1_W_1:0": kernel, "fc1_b_1:0": bias},
        "fc2": {"fc2_3/kernel:0": kernel, "fc2_3/bias:0": bias},
        "bn": {"bn/gamma": bias, "bn/beta": bias, "bn/moving_mean": bias, "bn/moving_variance": bias},
        "conv_1": {"conv_1/depthwise_kernel:0": kernel},
        "inner": {"a/kernel:0": kernel, "b/kernel:0": kernel},
    }
    expected = {
        "conv1_conv/kernel", "conv1_conv/bias", "block1_conv1/kernel", "block1_conv1/bias", "fc1/kernel", "fc1/bias",
        "fc2/kernel", "fc2/bias", "bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance",
        "conv_1/depthwise_kernel", "a/kernel", "b/kernel",
    }  # fmt: skip
    for below in ("/", "model_weights"):
        write_keras(path, layers, below)
        arrays = read_arrays(path)
        assert set(arrays) == expected
        np.testing.assert_array_equal(arrays["block1_conv1/kernel"], kernel)
        np.testing.assert_array_equal(arrays["fc1/bias"], bias)
    with h5py.File(path, "r+") as file:  # long lists are divided
        root = file["model_weights"]
        names = list(root.attrs["layer_names"])
        del root.attrs["layer_names"]
        root.attrs["layer_names0"], root.attrs["layer_names1"] = names[:3], names[3:]
    assert set(read_arrays(path)) == expected


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras
def test_what_keras_saves(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="top")(keras.layers.Flatten()(x)))
    model.save(tmp_path / "model.h5")
    arrays = read_arrays(tmp_path / "model.h5")
    assert set(arrays) == {variable.path for variable in model.weights}
    for variable in model.weights:
        np.testing.assert_array_equal(arrays[variable.path], variable.numpy())
    model.save_weights(tmp_path / "model.weights.h5")
    refused(tmp_path / "model.weights.h5", "Keras 3", "model.save")


def test_hdf5_stays_within_the_file(tmp_path, monkeypatch):
    path, other = tmp_path / "a.h5", tmp_path / "other.h5"
    kernel = np.ones((500, 200), np.float32)
    write_keras(other, {"conv": {"conv/kernel:0": kernel}})

    def with_weight(make) -> pathlib.Path:
        write_keras(path, {"conv": {}})
        with h5py.File(path, "r+") as file:
            file["conv"].attrs["weight_names"] = [b"kernel:0"]
            make(file)
        return path

    def outside(file: h5py.File) -> None:
        file["conv"]["kernel:0"] = h5py.ExternalLink(str(other), "/conv/conv/kernel:0")

    def soft(file: h5py.File) -> None:
        file["x"] = kernel
        file["conv"]["kernel:0"] = h5py.SoftLink("/x")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((500, 200), "f4")
        layout[...] = h5py.VirtualSource(str(other), "/conv/conv/kernel:0", (500, 200))
        file["conv"].create_virtual_dataset("kernel:0", layout)

    def raw(file: h5py.File) -> None:
        file["conv"].create_dataset("kernel:0", (20,), "f4", external=[(str(other), 0, 80)])

    def squeezed(file: h5py.File) -> None:
        file["conv"].create_dataset("kernel:0", data=kernel, compression="gzip")

    refused(with_weight(outside), "link")
    refused(with_weight(soft), "link")
    refused(with_weight(virtual), "not in the file")
    refused(with_weight(raw), "not in the file")
    refused(with_weight(lambda file: None), "lacks 'kernel:0'")
    refused(with_weight(lambda file: file["conv"].create_group("kernel:0")), "not in the file")
    assert set(read_arrays(with_weight(squeezed))) == {"conv/kernel"}
    monkeypatch.setattr(formats, "SMALL_BYTES", 100_000)
    refused(with_weight(squeezed), "unpacks to 400000 bytes")
    refused(with_weight(lambda f: f["conv"].create_dataset("kernel:0", (2**40,), "f4", chunks=(1024,))), "unpacks to")
    with h5py.File(path, "w") as file:
        file["data"] = kernel
    refused(path, "not of Keras")


def test_what_is_no_weights_at_all(tmp_path):
    refused(tmp_path / "nowhere.pth", "No such file")
    refused(tmp_path, "directory")
    for data, word in (
        (b"", "empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, "tar"),
        (b"hello", "neither"),
        (bytes(range(200)), "neither"),
    ):
        refused(written(tmp_path, data), word)

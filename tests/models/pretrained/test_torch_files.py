"""PyTorch's files: both containers to the bit, and everything hostile that a pickle or zip can be."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch_bytes as tb
from weight_files import EXPECTED, FLOATS, OLD_ONE, ONE, assert_same, refused, torch_zip, written

from fpclass.models.pretrained import torch_file, torch_pickle
from fpclass.models.pretrained.formats import read_arrays


def test_zip_notices_a_single_changed_bit_of_the_numbers(tmp_path):
    data = torch_zip()
    position = data.index(FLOATS.tobytes()) + 17
    refused(written(tmp_path, data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]), "CRC")


def test_views_types_and_wrappers(tmp_path):
    halves, bits = np.arange(6, dtype=np.float16), np.array([0x3F80, 0xC000, 0x7F80, 0x0001], np.uint16)
    storages = {
        "0": FLOATS.tobytes(), "1": halves.tobytes(), "2": bits.tobytes(), "3": b"\1\0\1", "4": b"",
        "5": np.array([1.5, -2]).tobytes(), "6": b"\xff\1",
    }  # fmt: skip
    inner = {
        "transposed": tb.tensor(tb.storage("0", "Float", 12), (4, 2), (1, 4), 4),
        "scalar": tb.tensor(tb.storage("0", "Float", 12), (), (), 11),
        "half": tb.call(
            tb.named("torch._utils", "_rebuild_parameter"),
            tb.tensor(tb.storage("1", "Half", 6), (2, 3), (3, 1)), b"\x88", tb.ORDERED_DICT,
        ),
        "bfloat16": tb.tensor(tb.storage("2", "BFloat16", 4), (4,), (1,)),
        "bool": tb.tensor(tb.storage("3", "Bool", 3), (3,), (1,)),
        "empty": tb.tensor(tb.storage("4", "Float", 0), (0, 3), (3, 1)),
        "double": tb.tensor(tb.storage("5", "Double", 2), (2,), (1,)),
        "char": tb.tensor(tb.storage("6", "Char", 2), (2,), (1,)),
        "tied": tb.tensor(tb.storage("0", "Float", 12), (12,), (1,)),
    }  # fmt: skip
    metadata = tb.dictionary({"_metadata": tb.dictionary({"": tb.dictionary({"version": tb.number(1)})})}) + b"b"
    value = tb.dictionary({"epoch": tb.number(3), "state_dict": tb.dictionary(inner, tb.ORDERED_DICT) + metadata})
    expected = {
        "transposed": FLOATS.reshape(3, 4)[1:].T,
        "scalar": FLOATS[11],
        "half": halves.reshape(2, 3),
        "bfloat16": np.array([1, -2, np.inf, 2.0**-133], np.float32),
        "bool": np.array([True, False, True]),
        "empty": np.zeros((0, 3), np.float32),
        "double": np.array([1.5, -2]),
        "char": np.array([-1, 1], np.int8),
        "tied": FLOATS,
    }
    assert_same(read_arrays(written(tmp_path, tb.zip_file(value, storages))), expected)
    assert_same(
        read_arrays(written(tmp_path, tb.zip_file(tb.dictionary({"model": value}), storages))), expected
    )  # and twice


def test_big_endian_zip(tmp_path):
    storages = {"0": FLOATS.astype(">f4").tobytes(), "1": struct.pack(">q", 5)}
    assert_same(read_arrays(written(tmp_path, torch_zip(storages, byteorder=b"big"))), EXPECTED)
    refused(written(tmp_path, torch_zip(byteorder=b"middle")), "byteorder", "middle")


def test_what_python_2_and_the_first_versions_wrote(tmp_path):
    """Text as bytes, an ordered dict of pairs, parameters, a part of a storage."""
    where = tb.row(
        tb.old_text("storage"), tb.named("torch.cuda", "FloatStorage"), tb.old_text("77"), tb.old_text("cuda:0"),
        tb.number(12), tb.row(tb.old_text("78"), tb.number(4), tb.number(8)),
    ) + b"Q"  # fmt: skip
    rebuilt = tb.call(tb.named("torch._utils", "_rebuild_tensor"), where, tb.number(1), tb.numbers((3,)),
                      tb.numbers((2,)))  # fmt: skip
    state = tb.row(b"\x88", b"\x89", tb.ORDERED_DICT) + b"b"
    parameter = tb.call(tb.named("torch.nn.parameter", "Parameter"), rebuilt) + state
    pairs = b"](](" + tb.old_text("a") + parameter + b"e" + b"e"
    data = tb.old_file(tb.call(tb.named("collections", "OrderedDict"), pairs), {"77": (12, FLOATS.tobytes())})
    assert_same(read_arrays(written(tmp_path, data)), {"a": FLOATS[[5, 7, 9]]})


class Evil:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


OF_PAIRS = tb.named("collections", "OrderedDict")
SQUARE = tb.row(tb.row(*[b"N"] * 3000) + b"q\1", *[b"h\1"] * 2999)
"""A row of 3000 times the same row of 3000 values: 9 KB, and 72 MB were the values put in a row."""


def hostile() -> dict[str, tuple[bytes, str]]:
    """Pickles that do something, or are out to break the reader, and a word of the answer."""
    system = tb.named("posix", "system")
    arguments = tb.row(tb.text("touch canary"))
    nested = b")q\0" + b"h\0\x86q\0" * 60  # a tuple of twice the tuple before, and so on
    return {
        "GLOBAL": (system + arguments + b"R", "posix.system"),
        "STACK_GLOBAL": (tb.named_by_stack("builtins", "eval") + arguments + b"R", "builtins.eval"),
        "STACK_GLOBAL of numbers": (tb.number(1) + tb.number(2) + b"\x93", "damaged"),
        "getattr": (tb.call(tb.named("builtins", "getattr"), system, tb.text("__class__")), "builtins.getattr"),
        "dotted": (tb.named_by_stack("torch", "FloatStorage.__init__.__globals__"), "__globals__"),
        "dotted module": (tb.named("torch.FloatStorage", "_new"), "torch.FloatStorage._new"),
        "storage of elsewhere": (tb.named("os", "FloatStorage"), "os.FloatStorage"),
        "as an argument": (tb.call(tb.REBUILD, system), "posix.system"),
        "in a dict": (tb.dictionary({"a": ONE, "b": system}), "posix.system"),
        "nested REDUCE": (tb.call(tb.ORDERED_DICT), "damaged"),
        "REDUCE of a tensor": (tb.call(ONE), "damaged"),
        "REDUCE of a storage class": (tb.call(tb.named("torch", "FloatStorage"), tb.number(2**31)), "FloatStorage"),
        "load from bytes": (tb.named("torch.storage", "_load_from_bytes"), "_load_from_bytes"),
        "other rebuilders": (tb.named("torch._utils", "_rebuild_wrapper_subclass"), "_rebuild_wrapper_subclass"),
        "numpy": (tb.named("numpy.core.multiarray", "_reconstruct"), "_reconstruct"),
        "INST": (b"(" + tb.text("touch canary") + b"iposix\nsystem\n", "posix system"),
        "OBJ": (b"(" + tb.named("torch", "Size") + b"o", "OBJ"),
        "NEWOBJ": (tb.named("torch", "Size") + b")\x81", "NEWOBJ"),
        "EXT1": (b"\x82\1", "EXT1"),
        "DUP": (b"}2", "DUP"),
        "PERSID": (b"Pmodule\n", "PERSID"),
        "BYTEARRAY8": (b"\x96" + struct.pack("<Q", 2**40), "damaged"),
        "long text": (b"\x8d" + struct.pack("<Q", 2**62) + b"x", "damaged"),
        "BUILD of a name": (tb.named("torch", "Size") + b"}b", "attributes"),
        "BUILD of a storage": (tb.storage("0", "Float", 12) + b"}b", "attributes"),
        "persistent text": (tb.text("storage") + b"Q", "not a storage"),
        "persistent module": (tb.row(tb.text("module"), system, b"N", b"N") + b"Q", "posix.system"),
        "persistent, other kind": (tb.row(*[tb.text("module")] * 5) + b"Q", "not a storage"),
        "persistent, no class": (tb.row(tb.text("storage"), *[tb.text("x")] * 4) + b"Q", "damaged"),
        "persistent, class of containers": (
            tb.row(tb.text("storage"), tb.named("torch", "Size"), tb.text("0"), b"N", tb.number(1)) + b"Q", "torch.Size"
        ),
        "persistent, negative size": (tb.storage("0", "Float", -1), "damaged"),
        "persistent, size of truth": (
            tb.row(tb.text("storage"), tb.named("torch", "FloatStorage"), tb.text("0"), b"N", b"\x88") + b"Q", "damaged"
        ),
        "memo far away": (b"}r" + struct.pack("<I", 2**32 - 1) + b"j\1\0\0\0", "damaged"),
        "memo unknown": (b"h\7", "damaged"),
        "hash bomb": (b"}(" + nested + tb.number(1) + b"u", "key"),
        "key of a list": (b"}(](" + tb.number(1) + b"eNu", "key"),
        "numbers of the same hash": (b"}(" + tb.number(2**61 - 1) + b"Nu", "key"),
        "pairs that are none": (tb.call(OF_PAIRS, tb.row(tb.row(*[b"N"] * 4))), "not pairs"),
        "n times n values": (tb.call(OF_PAIRS, SQUARE), "not pairs"),
        "text for pairs": (tb.call(OF_PAIRS, tb.text("abcd")), "damaged"),
        "two of a name": (b"}(" + (tb.text("same") + ONE) * 2 + b"u", "same"),
        "odd number of items": (b"}(" + tb.text("a") + b"u", "damaged"),
        "empty stack": (b"R", "damaged"),
        "mark missing": (b"t", "damaged"),
        "nothing at all": (b"", "damaged"),
        "a list": (b"](" + ONE + b"e", "list"),
        "a tensor alone": (ONE, "tensor"),
        "no tensors": (tb.dictionary({"a": tb.number(1)}), "'a' is not a tensor"),
        "containers in it": (tb.dictionary({"a": ONE, "b": b"]"}), "'b' is not a tensor"),
        "wrapped in itself": (b"}q\1(" + tb.text("state_dict") + b"h\1u", "state_dict"),
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile())
def test_hostile_pickles_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    value, word = hostile()[name]
    refused(written(tmp_path, tb.zip_file(value, {"0": FLOATS.tobytes()})), word)
    refused(written(tmp_path, tb.old_file(value, {"0": (12, FLOATS.tobytes())})), word)
    assert not (tmp_path / "canary").exists()


def test_a_small_pickle_takes_little_memory(tmp_path):
    path = written(tmp_path, tb.zip_file(tb.call(OF_PAIRS, SQUARE), {}))
    assert path.stat().st_size < 10_000
    tracemalloc.start()
    refused(path, "not pairs")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize("protocol", range(6))
def test_what_pickle_itself_writes_is_never_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    canary = tmp_path / "canary"
    data = pickle.dumps({"state_dict": {"a": Evil(eval, f"open({str(canary)!r}, 'w').close()")}}, protocol)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    refused(written(tmp_path, file.getvalue()), "")
    refused(written(tmp_path, data), "")
    assert not canary.exists()
    pickle.loads(data)
    assert canary.exists(), "otherwise this test shows nothing"


def test_deep_and_long_pickles_end_soon(tmp_path, monkeypatch):
    deep = b"]" * 200_000 + b"a" * 199_999
    refused(written(tmp_path, tb.zip_file(deep, {})), "list")
    monkeypatch.setattr(torch_pickle, "MAX_STEPS", 1000)
    refused(written(tmp_path, tb.zip_file(b"N0" * 600 + b"}", {})), "POP")
    refused(written(tmp_path, tb.zip_file(b"]" * 2000, {})), "1000 steps")
    pairs = b"](" + b"".join(b"(" + tb.text(str(i)) + b"Nt" for i in range(100)) + b"e\x85q\1"
    again = tb.named("collections", "OrderedDict") + b"q\0" + pairs + b"R" + b"h\0h\1R" * 9
    refused(written(tmp_path, tb.zip_file(again, {})), "1000 steps")
    rest = tb.REBUILD + b"q\0" + tb.row(
        tb.storage("0", "Float", 1), tb.number(0), tb.numbers((1,)), tb.numbers((1,)), *[b"N"] * 100
    ) + b"q\1R" + b"h\0h\1R" * 9  # fmt: skip
    refused(written(tmp_path, tb.zip_file(rest, {})), "1000 steps")
    monkeypatch.setattr(torch_file, "MAX_PICKLE_BYTES", 1000)
    refused(written(tmp_path, tb.zip_file(b"]" * 2000, {})), "2003 bytes")


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "word"),
    [
        ((3, 5), (5, 1), 0, "beyond"),
        ((3, 4), (4, 1), 1, "beyond"),
        ((2,), (12,), 0, "beyond"),
        ((13,), (0,), 0, "beyond"),
        ((2**59, 2**59), (0, 0), 0, "beyond"),
        ((2**61,), (0,), 0, "damaged"),
        ((2,), (2**59,), 0, "beyond"),
        ((1,), (1,), 2**59, "beyond"),
        ((2,), (-1,), 5, "damaged"),
        ((2,), (1,), -1, "damaged"),
        ((-2,), (1,), 0, "damaged"),
        ((2, 2), (1,), 0, "damaged"),
        ((1,) * 40, (1,) * 40, 0, "damaged"),
    ],
)
def test_tensors_stay_within_their_storage(tmp_path, shape, strides, offset, word):
    value = tb.dictionary({"a": tb.tensor(tb.storage("0", "Float", 12), shape, strides, offset)})
    refused(written(tmp_path, tb.zip_file(value, {"0": FLOATS.tobytes()})), word)


def test_storages_must_be_what_is_said_of_them(tmp_path):
    value = tb.dictionary({"a": ONE})
    refused(written(tmp_path, tb.zip_file(value, {})), "'0' is missing")
    refused(written(tmp_path, tb.zip_file(value, {"0": bytes(44)})), "44 bytes, expected 48")
    refused(written(tmp_path, tb.zip_file(value, {"0": bytes(52)})), "52 bytes, expected 48")
    huge = tb.dictionary({"a": tb.tensor(tb.storage("0", "Float", 2**50), (2**50,), (1,))})
    refused(written(tmp_path, tb.zip_file(huge, {"0": bytes(48)})), "48 bytes, expected")
    both = tb.dictionary({"a": ONE, "b": tb.tensor(tb.storage("0", "Int", 12), (1,), (1,))})
    refused(written(tmp_path, tb.zip_file(both, {"0": bytes(48)})), "two types or sizes")
    for key in ("../../data/0", "0\0", "", "²"):
        odd = tb.dictionary({"a": tb.tensor(tb.storage(key, "Float", 12), (1,), (1,))})
        refused(written(tmp_path, tb.zip_file(odd, {"0": bytes(48)})), "missing")


def test_old_storages_must_be_what_is_said_of_them(tmp_path):
    value = tb.dictionary({"a": OLD_ONE})
    good = tb.old_file(value, {"77": (12, FLOATS.tobytes())})
    refused(written(tmp_path, good + b"x"), "goes on")
    refused(written(tmp_path, tb.old_file(value, {})), "list of storages")
    refused(written(tmp_path, tb.old_file(value, {"77": (11, FLOATS.tobytes())})), "11 numbers, expected 12")
    refused(written(tmp_path, tb.old_file(value, {"77": (12, FLOATS.tobytes()), "78": (1, bytes(4))})), "no tensor")
    huge = tb.dictionary({"a": tb.tensor(tb.storage("77", "Float", 2**50, b"N"), (2**50,), (1,))})
    refused(written(tmp_path, tb.old_file(huge, {"77": (2**50, bytes(48))})), "cut short")
    view = tb.row(tb.text("78"), tb.number(5), tb.number(8))
    beyond = tb.dictionary({"a": tb.tensor(tb.storage("77", "Float", 12, view), (1,), (1,))})
    refused(written(tmp_path, tb.old_file(beyond, {"77": (12, FLOATS.tobytes())})), "view")
    twice = good.replace(pickle.dumps(["77"], 2), pickle.dumps(["77", "77"], 2))
    refused(written(tmp_path, twice), "list of storages")
    refused(written(tmp_path, pickle.dumps({"a": 1}, 2)), "torch.save did not write")


def checkpoint(tail: bytes) -> bytes:
    """A training checkpoint in the older format: the optimiser's tensors lie before and behind the state dict's."""
    moment = tb.tensor(tb.storage("5", "Double", 3, b"N"), (3,), (1,))
    step = tb.tensor(tb.storage("99", "Long", 1, b"N"), (), ())
    value = tb.dictionary(
        {
            "optimizer": tb.dictionary(
                {"state": b"}(" + tb.number(0) + tb.dictionary({"m": moment, "step": step}) + b"u"}
            ),
            "state_dict": tb.dictionary({"a": OLD_ONE}),
        }
    )
    storages = {"5": (3, np.ones(3).tobytes()), "77": (12, FLOATS.tobytes())}
    return tb.old_file(value, storages | {"99": (1, tail)})


def test_old_training_checkpoint(tmp_path):
    """What is not of the state dict is passed over, but must be there."""
    assert_same(read_arrays(written(tmp_path, checkpoint(bytes(8)))), {"a": FLOATS.reshape(3, 4)})
    refused(written(tmp_path, checkpoint(bytes(7))), "within its storage '99'", "cut short")
    refused(written(tmp_path, checkpoint(bytes(9))), "goes on")
    wrong = checkpoint(bytes(8)).replace(struct.pack("<q", 3) + np.ones(3).tobytes(), struct.pack("<q", 2) + bytes(16))
    refused(written(tmp_path, wrong), "'5' has 2 numbers, expected 3")


def rezipped(change, data: bytes | None = None) -> bytes:
    """The zip with each member written anew by `change(archive, info, content)`."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data or torch_zip())) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            change(new, info, old.read(info))
    return file.getvalue()


def test_odd_zips_are_refused(tmp_path):
    compressed = rezipped(lambda new, info, content: new.writestr(info, content, zipfile.ZIP_DEFLATED))
    refused(written(tmp_path, compressed), "compressed")
    two = rezipped(lambda new, info, content: [new.writestr(folder + info.filename[8:], content) for folder in "ab/c"
                                               if folder != "/"])  # fmt: skip
    refused(written(tmp_path, two), "NAME/data.pkl")
    outside = rezipped(lambda new, info, content: new.writestr("../" + info.filename, content))
    refused(written(tmp_path, outside), "NAME/data.pkl")
    twice = torch_zip(**{"data/2": b"x"}).replace(b"archive/data/2", b"archive/data/1")
    refused(written(tmp_path, twice), "same name")
    other = rezipped(lambda new, info, content: new.writestr(info.filename.replace("data.pkl", "x"), content))
    refused(written(tmp_path, other), "neither npz")
    keras = rezipped(lambda new, info, content: new.writestr("model.weights.h5", content) if "version" in info.filename
                     else None)  # fmt: skip
    refused(written(tmp_path, keras), "Keras 3", "model.save")


def test_members_over_each_other_are_refused(tmp_path):
    """Two entries of the directory that point at the same bytes: that is how small zips become large ones."""
    data = torch_zip(**{"data/2": bytes(10_000)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = archive.start_dir
    entries, end = data[start : data.rindex(b"PK\5\6")], bytearray(data[data.rindex(b"PK\5\6") :])
    again = entries[entries.rindex(b"PK\1\2") :].replace(b"data/2", b"data/3")
    count = struct.unpack_from("<H", end, 8)[0] + 1
    struct.pack_into("<HHI", end, 8, count, count, len(entries) + len(again))
    refused(written(tmp_path, data[:start] + entries + again + bytes(end)), "more bytes than the file")


def test_arrays_over_each_other_are_limited(tmp_path):
    """Tied weights are fine; a thousand names for the same numbers are not."""
    large = np.zeros(10_000, np.float32).tobytes()
    same = tb.tensor(tb.storage("0", "Float", 10_000), (10_000,), (1,))
    tied = tb.dictionary({"a": same, "b": same})
    assert len(read_arrays(written(tmp_path, tb.zip_file(tied, {"0": large})))) == 2
    many = tb.dictionary({str(i): same for i in range(50)})
    refused(written(tmp_path, tb.zip_file(many, {"0": large})), "4 times")


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_pytorch_saves(tmp_path, is_zip):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    base = torch.randn(6, 7, generator=generator)
    state = layer.state_dict()
    state |= {
        "parameter": layer[0].weight,
        "transposed": base.T[2:],
        "strided": base[::2, ::3],
        "tied": base,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "half": base.half(),
        "brain": base.bfloat16(),
        **{str(t): (base * 5).to(t) for t in (torch.float64, torch.int32, torch.int16, torch.int8, torch.bool)},
        "uint8": torch.arange(9, dtype=torch.uint8),
    }
    path = tmp_path / "weights.pth"
    for wrapped in (state, {"state_dict": state, "epoch": 1}):
        torch.save(wrapped, path, _use_new_zipfile_serialization=is_zip)
        loaded = torch.load(path, weights_only=True)
        loaded = loaded.get("state_dict", loaded)
        expected = {k: (v.float() if v.dtype == torch.bfloat16 else v).detach().numpy() for k, v in loaded.items()}
        assert_same(read_arrays(path), expected)
    optimiser = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3, 8, 8)).sum().backward()
    optimiser.step()
    expected = {name: value.numpy() for name, value in layer.state_dict().items()}
    checkpoint = {"state_dict": layer.state_dict(), "optimizer": optimiser.state_dict()}
    torch.save(checkpoint, path, _use_new_zipfile_serialization=is_zip)
    assert_same(read_arrays(path), expected)
    torch.save(layer, path, _use_new_zipfile_serialization=is_zip)
    refused(path, "torch.nn.modules")


def test_reading_needs_no_pytorch(tmp_path):
    path = written(tmp_path, torch_zip())
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from fpclass.models.pretrained.formats import read_arrays\n"
        f"print(sorted(read_arrays(__import__('pathlib').Path({str(path)!r}))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["['conv.weight',", "'count']"], done.stderr

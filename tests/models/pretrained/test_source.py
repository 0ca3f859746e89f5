"""Names and files of weights: what they are found to be, what is refused, and what converting keeps."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import re

import flax.linen as nn
import numpy as np
import pytest
import torch_bytes as tb
from safetensors.numpy import save
from tiny_disk import tiny_disk
from weights_server import Server, serving

from fpclass.errors import FpclassError, WeightsError
from fpclass.experiment import load_config
from fpclass.models.architecture import Published, Variant
from fpclass.models.layers import Conv
from fpclass.models.mapping import Rule, torch_conv, torch_dense, torch_layer
from fpclass.models.network import Backbone, GlobalPool
from fpclass.models.pretrained import fetch, source
from fpclass.models.pretrained.convert import convert
from fpclass.models.pretrained.formats import read_arrays, read_metadata
from fpclass.models.pretrained.load import load_weights
from fpclass.models.pretrained.manifest import MANIFEST
from fpclass.models.registry import ARCHITECTURES
from fpclass.models.registry import published as published_network
from fpclass.train.task import build_network, pretrained_variables

KERNEL = np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3) / 8
ARRAYS = {
    "conv.weight": KERNEL,
    "conv.bias": np.ones(2, np.float32),
    "fc.weight": np.ones((5, 2), np.float32),
    "fc.bias": np.zeros(5, np.float32),
}


class Stem(nn.Module):
    @nn.compact
    def __call__(self, x, mode):
        return Conv(2, (3, 3), 1, 1, use_bias=True, name="conv")(x)


def tiny(variant: str) -> Backbone:
    return Backbone(
        features=(Stem(name="stem", parent=None),),
        classifier=(GlobalPool(name="pool", parent=None),),
        stem_kernel=("stem", "conv", "kernel"),
    )


def torch_file(arrays: dict[str, np.ndarray]) -> bytes:
    """As PyTorch would have published them."""
    items, storages = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        strides = [stride // array.itemsize for stride in array.strides]
        items[name] = tb.tensor(tb.storage(str(key), "Float", array.size), array.shape, strides)
        storages[str(key)] = array.tobytes()
    return tb.zip_file(tb.dictionary(items), storages)


PUBLISHED = torch_file(ARRAYS)


@pytest.fixture(autouse=True)
def listed(tmp_path, monkeypatch):
    """Two sets of weights of a tiny network in the list, and no network."""
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    rules = (*torch_layer("conv", "stem/conv", torch_conv), *torch_layer("fc", "head/logits", torch_dense))
    monkeypatch.setitem(ARCHITECTURES, "tiny", Published("tiny", tiny, (Variant("torchvision", rules),)))
    entry = dataclasses.replace(
        MANIFEST["resnet18"], name="tiny.v1", architecture="tiny", num_classes=5, image_size=(8, 8),
        url="https://nowhere.invalid/tiny-1.pth", digest=f"sha256:{hashlib.sha256(PUBLISHED).hexdigest()[:8]}",
    )  # fmt: skip
    monkeypatch.setitem(MANIFEST, "tiny.v1", entry)
    other = dataclasses.replace(entry, name="tiny.v2", url="https://nowhere.invalid/tiny-2.pth",
                                digest=f"md5:{hashlib.md5(b'other').hexdigest()}")  # fmt: skip
    monkeypatch.setitem(MANIFEST, "tiny.v2", other)


def test_every_entry_can_be_kept_and_proven():
    """A name of its own in the cache, an https address, and a digest in a form that can be compared."""
    names = [entry.filename for entry in MANIFEST.values()] + [f"{name}.safetensors" for name in MANIFEST]
    assert len(set(names)) == len(names)
    for entry in MANIFEST.values():
        assert re.fullmatch("sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}", entry.digest), entry.name
        assert entry.url.startswith(("https://", "pypi:")), entry.name
        assert entry.filename.endswith((".pth", ".h5", ".npz", ".safetensors")), "a zip needs its member named"
    assert MANIFEST["convnextv2_tiny.in1k"].filename == "convnextv2_tiny.fcmae_ft_in1k.safetensors"  # not model.…


@pytest.fixture
def published(tmp_path) -> pathlib.Path:
    path = tmp_path / "given by hand.bin"
    path.write_bytes(PUBLISHED)
    return path


def assert_same(arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray] = ARRAYS) -> None:
    assert set(arrays) == set(expected)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name, strict=True)


def refused(function, *words: str) -> None:
    with pytest.raises(FpclassError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_name_is_its_entry():
    assert source.resolve("tiny.v1") == (MANIFEST["tiny.v1"], None)
    refused(lambda: source.open_arrays("tiny.v1"), "tiny.v1", "https://nowhere.invalid/tiny-1.pth", "FPCLASS_OFFLINE")


def test_a_published_file_is_known_whatever_its_name(published):
    assert source.resolve(str(published)) == (MANIFEST["tiny.v1"], published)
    entry, arrays = source.open_arrays(str(published))
    assert entry.name == "tiny.v1"
    assert_same(arrays)
    by_md5 = published.with_name("other")
    by_md5.write_bytes(b"other")
    assert source.resolve(str(by_md5))[0].name == "tiny.v2"


def test_a_file_in_the_cache_is_found_by_name(published):
    path = fetch.cached_path(MANIFEST["tiny.v1"])
    path.parent.mkdir(parents=True)
    path.write_bytes(PUBLISHED)
    assert_same(source.open_arrays("tiny.v1")[1])
    path.write_bytes(PUBLISHED[:-1])
    refused(lambda: source.open_arrays("tiny.v1"), "FPCLASS_OFFLINE")


def test_an_unknown_file_is_refused(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(save(ARRAYS))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    refused(lambda: source.resolve(str(path)), str(path), digest, "normalised", f"weights convert {path} --as NAME")
    path.write_bytes(save(ARRAYS, {"fpclass.weights": "resnet1000"}))
    refused(lambda: source.resolve(str(path)), "resnet1000", "weights list")


def test_a_file_of_ones_own_is_taken_with_its_network_and_normalisation(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(save(ARRAYS))
    assert source.find(str(path)) == (None, path)
    plain = [f"model.weights={path}", "model.head=gap", "data.channels=3", "data.image_size=(8,8)", "data.mean=(0.4,)"]
    load = lambda *more: load_config("configs/base.py", [f"--config.{setting}" for setting in (*plain, *more)])
    refused(lambda: load("model.name=tiny"), str(path), "--config.model.name=NETWORK", "--config.data.std=")
    refused(lambda: load("data.std=(0.2,)"), str(path), "--config.model.name=NETWORK")
    config = load("model.name=tiny", "data.std=(0.5,)")  # the default, and said
    assert (config.data.mean, config.data.std) == ((0.4,), (0.5,))
    variables = pretrained_variables(config, build_network(config, 2))
    assert set(variables["params"]) == {"stem"}, "the file's classifier is of other classes"
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, KERNEL.transpose(2, 3, 1, 0))
    assert source.digest_of(str(path)) == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(save({**ARRAYS, "conv.weight": KERNEL[:1]}))
    refused(lambda: pretrained_variables(config, build_network(config, 2)), str(path), "conv.weight", "shape")


def test_an_unknown_name_is_refused_with_close_ones():
    refused(lambda: source.resolve("tiny.v3"), "'tiny.v3'", "did you mean tiny.v", "weights list")
    refused(lambda: source.resolve("resnet50"), "resnet50.v1", "resnet50.v2")
    refused(lambda: source.resolve("/nowhere/x.pth"), "/nowhere/x.pth", "neither a file nor a name")


def test_convert_keeps_everything_and_the_name_finds_it(published):
    out = convert(published, MANIFEST["tiny.v1"])
    assert out == source.converted_path(MANIFEST["tiny.v1"])
    assert_same(read_arrays(out))
    metadata = read_metadata(out)
    assert metadata["fpclass.weights"] == "tiny.v1"
    assert metadata["source.sha256"] == hashlib.sha256(PUBLISHED).hexdigest()
    assert metadata["source.is_published"] == "true"
    published.unlink()
    assert_same(source.open_arrays("tiny.v1")[1])
    elsewhere = out.rename(out.parent.parent / "copied.bin")
    entry, arrays = source.open_arrays(str(elsewhere))
    assert entry.name == "tiny.v1"
    assert_same(arrays)
    again = convert(elsewhere, MANIFEST["tiny.v1"], out.parent / "again")
    assert read_metadata(again)["arrays.sha256"] == metadata["arrays.sha256"]


def test_views_and_scalars_survive_converting(tmp_path, monkeypatch):
    """Transposed and of no dimensions: safetensors would write other numbers, or another shape."""
    rules = published_network("tiny").variant("torchvision").mapping
    variant = Variant("torchvision", (*rules, Rule("n", "")))
    monkeypatch.setitem(ARCHITECTURES, "tiny", Published("tiny", tiny, (variant,)))
    arrays = {**ARRAYS, "fc.weight": np.arange(10, dtype=np.float32).reshape(2, 5).T, "n": np.array(7.0, np.float32)}
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    assert_same(read_arrays(convert(path, MANIFEST["tiny.v2"])), arrays)


def test_convert_says_that_a_file_is_not_the_published_one(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **ARRAYS)
    out = convert(path, MANIFEST["tiny.v2"], tmp_path / "out" / "mine.safetensors")
    assert read_metadata(out)["source.is_published"] == "false"
    assert source.resolve(str(out))[0].name == "tiny.v2"


def test_unpublished_numbers_never_get_the_name(tmp_path):
    """They must be given by their path, which then stands for the network and normalisation of the name."""
    path = tmp_path / "mine.npz"
    mine = {**ARRAYS, "conv.bias": np.full(2, 7, np.float32)}
    np.savez(path, **mine)
    out = convert(path, MANIFEST["tiny.v1"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert out == tmp_path / "cache" / "weights" / "converted" / f"tiny.v1-UNPUBLISHED-{digest[:8]}.safetensors"
    refused(lambda: source.open_arrays("tiny.v1"), "not in the cache")
    assert source.resolve(str(out)) == (MANIFEST["tiny.v1"], out)
    entry, arrays = source.open_arrays(str(out))
    assert entry.normalisation(3) == MANIFEST["tiny.v1"].normalisation(3)
    assert_same(arrays, mine)
    place = out.rename(source.converted_path(MANIFEST["tiny.v1"]))
    assert source.in_cache(MANIFEST["tiny.v1"]) is None
    words = ("not in the cache", "not converted from the published file", f"--config.model.weights={place}")
    refused(lambda: source.open_arrays("tiny.v1"), *words)
    assert_same(source.open_arrays(str(place))[1], mine)


@pytest.mark.parametrize(
    "change", [{"arrays.sha256": None}, {"source.is_published": "false"}, {"source.sha256": "0" * 64}]
)
def test_a_conversion_must_say_all_that_makes_it_the_published_one(published, change):
    metadata = read_metadata(convert(published, MANIFEST["tiny.v1"])) | change
    path = source.converted_path(MANIFEST["tiny.v1"])
    path.write_bytes(save(ARRAYS, {key: value for key, value in metadata.items() if value is not None}))
    refused(lambda: source.open_arrays("tiny.v1"), "not in the cache", str(path))


def test_converting_once_more_keeps_what_is_known(published, tmp_path):
    of_published = convert(published, MANIFEST["tiny.v1"], tmp_path / "a.safetensors")
    again = convert(of_published, MANIFEST["tiny.v1"])
    assert again == source.converted_path(MANIFEST["tiny.v1"])
    assert read_metadata(again) == read_metadata(of_published)
    refused(lambda: convert(of_published, MANIFEST["tiny.v2"]), str(of_published), "tiny.v1", "--as tiny.v1")
    path = tmp_path / "mine.npz"
    np.savez(path, **ARRAYS)
    mine = convert(path, MANIFEST["tiny.v1"], tmp_path / "b.safetensors")
    again = convert(mine, MANIFEST["tiny.v1"])
    assert again.parent.name == "converted"
    assert read_metadata(again) == read_metadata(mine)
    assert read_metadata(again)["source.file"] == "mine.npz"


@pytest.mark.parametrize("damage", [lambda data: data[:-8], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_a_damaged_conversion_does_not_stop_fetching(published, monkeypatch, capsys, damage):
    converted = convert(published, MANIFEST["tiny.v1"])
    converted.write_bytes(damage(converted.read_bytes()))
    refused(lambda: source.open_arrays("tiny.v1"), "FPCLASS_OFFLINE", str(converted))
    monkeypatch.delenv("FPCLASS_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Server(PUBLISHED)) as server:
        monkeypatch.setitem(MANIFEST, "tiny.v1", dataclasses.replace(MANIFEST["tiny.v1"], url=server.url))
        assert_same(source.open_arrays("tiny.v1")[1])
        note = capsys.readouterr().out
        fetching, note = note.splitlines()
        assert fetching.startswith("fetching tiny.v1: ")
        assert str(converted) in note
        assert "fetched instead" in note
        assert_same(source.open_arrays("tiny.v1")[1])
        assert capsys.readouterr().out == ""


def test_require_fetches_once_and_reads_no_arrays(monkeypatch, published, tmp_path):
    refused(lambda: source.require("tiny.v1"), "tiny.v1", "not in the cache", "FPCLASS_OFFLINE")
    refused(lambda: source.require(str(tmp_path / "nowhere.pth")), "nowhere.pth", "neither a file nor a name")
    monkeypatch.delenv("FPCLASS_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(source, "read_arrays", lambda path: pytest.fail("arrays were read"))
    with serving(Server(PUBLISHED)) as server:
        monkeypatch.setitem(MANIFEST, "tiny.v1", dataclasses.replace(MANIFEST["tiny.v1"], url=server.url))
        source.require("tiny.v1")
        source.require("tiny.v1")
        source.require(str(published))
        assert len(server.requests) == 1
    assert fetch.cached_path(MANIFEST["tiny.v1"]).read_bytes() == PUBLISHED


def test_require_finds_a_changed_file(published):
    out = convert(published, MANIFEST["tiny.v1"])
    source.require(str(out))
    source.require("tiny.v1")
    data = bytearray(out.read_bytes())
    data[-1] ^= 1
    out.with_name("new").write_bytes(data)
    out.with_name("new").replace(out)
    refused(lambda: source.require(str(out)), str(out), "changed")
    refused(lambda: source.require("tiny.v1"), str(out), "changed")


def test_digest_of_what_a_run_starts_from(published, monkeypatch):
    """That of the very file, published or converted; computed again only when the file is another."""
    digest = hashlib.sha256(PUBLISHED).hexdigest()
    assert source.digest_of(str(published)) == digest
    out = convert(published, MANIFEST["tiny.v1"])
    assert source.digest_of("tiny.v1") == source.digest_of(str(out)) == hashlib.sha256(out.read_bytes()).hexdigest()
    path = fetch.cached_path(MANIFEST["tiny.v1"])
    path.write_bytes(PUBLISHED)
    assert source.digest_of("tiny.v1") == digest
    with monkeypatch.context() as patch:
        for module in (fetch, source):
            patch.setattr(module, "file_digest", lambda *args: pytest.fail("computed again"))
        patch.setattr(source, "read_arrays", lambda path: pytest.fail("read again"))
        assert source.digest_of("tiny.v1") == source.digest_of(str(published)) == digest
        source.digest_of(str(out))
    path.write_bytes(PUBLISHED[:-1])
    assert source.digest_of("tiny.v1") == source.digest_of(str(out)), "it fell back on the converted one"


def test_a_file_known_as_another_set_is_refused(published, tmp_path):
    refused(lambda: convert(published, MANIFEST["tiny.v2"]), "is tiny.v1", "--as tiny.v1")
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fc.weight": None}, ["params/head/logits/kernel", "nothing in the file"]),
        ({"extra": np.zeros(1, np.float32)}, ["extra", "no place"]),
        ({"conv.weight": KERNEL[:, :, 1:]}, ["conv.weight", "(2, 3, 3, 2)"]),
        ({"conv.bias": np.full(2, np.nan, np.float32)}, ["conv.bias", "finite"]),
        ({"conv.weight": KERNEL.astype(np.int8)}, ["1 of its arrays", "conv.weight", "int8", "floating-point"]),
    ],
)
def test_what_does_not_fit_the_network_is_not_converted(tmp_path, change, words):
    path = tmp_path / "mine.npz"
    np.savez(path, **{n: a for n, a in {**ARRAYS, **change}.items() if a is not None})
    refused(lambda: convert(path, MANIFEST["tiny.v1"]), str(path), "tiny.v1", *words)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_numbers_that_no_weights_are(monkeypatch):
    """All in one list; arrays that nobody needs may be of any type."""
    shapes = {"params": {"a": {"kernel": np.zeros(2)}}, "batch_stats": {"a": {"mean": np.zeros(2), "var": np.zeros(2)}}}
    rules = (
        Rule("kernel", "params/a/kernel"), Rule("mean", "batch_stats/a/mean"), Rule("var", "batch_stats/a/var"),
        Rule("count", ""), Rule("scale", "params/left/kernel"),
    )  # fmt: skip
    good = {
        "kernel": np.float16([-1, 2]), "mean": np.array([-1.0, 0]), "var": np.float32([0, 1]), "count": np.array(3),
        "scale": np.int8([1]),
    }  # fmt: skip
    loaded = load_weights(good, rules, shapes, where="file", left_out=("left",))
    assert loaded["params"]["a"]["kernel"].dtype == np.float32
    bad = good | {"kernel": np.int8([1, 2]), "mean": np.array([True, False]), "var": np.float32([1, -1e-6])}
    words = ("3 of its arrays", "kernel: holds int8", "mean: holds bool", "var: has negative values")
    refused(lambda: load_weights(bad, rules, shapes, where="file", left_out=("left",)), *words)


def test_without_a_classifier(tmp_path, monkeypatch):
    notop = dataclasses.replace(MANIFEST["tiny.v2"], num_classes=0, left_out=("pool",))
    path = tmp_path / "notop.npz"
    np.savez(path, **{name: ARRAYS[name] for name in ("conv.weight", "conv.bias")})
    assert convert(path, notop).is_file()
    refused(lambda: convert(path, MANIFEST["tiny.v2"]), "params/head/logits/bias")


def test_a_converted_file_that_changed_is_refused(published):
    out = convert(published, MANIFEST["tiny.v1"])
    data = bytearray(out.read_bytes())
    data[-1] ^= 1
    out.write_bytes(data)
    refused(lambda: source.open_arrays("tiny.v1"), str(out), "changed", "convert again")
    out.write_bytes(data[:-8])
    refused(lambda: source.open_arrays(str(out)), str(out))


def test_converted_under_another_name_is_not_taken_for_this_one(published):
    out = convert(published, MANIFEST["tiny.v1"])
    out.rename(source.converted_path(MANIFEST["tiny.v2"]))
    refused(lambda: source.open_arrays("tiny.v2"), "tiny.v2", "FPCLASS_OFFLINE")


def test_convert_on_a_full_disk(published, tmp_path):
    with tiny_disk(tmp_path / "small", size_kib=4) as small:
        (small / "filler").write_bytes(bytes(3000))
        refused(lambda: convert(published, MANIFEST["tiny.v1"], small / "x.safetensors"), "space")
        assert [f.name for f in small.iterdir()] == ["filler"]


def test_hostile_file_is_not_converted(tmp_path):
    path = tmp_path / "evil.pth"
    path.write_bytes(tb.zip_file(tb.call(tb.named("posix", "system"), tb.text("true")), {}))
    with pytest.raises(WeightsError, match=r"posix\.system"):
        convert(path, MANIFEST["tiny.v1"])

"""`fpclass weights`: what it says, and that every failure is one line and exit code 2."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
from weights_server import Server, serving

from fpclass import cli
from fpclass.common import download
from fpclass.models.pretrained import convert
from fpclass.models.pretrained.manifest import MANIFEST

DATA = b"not really weights" * 1000


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("FPCLASS_OFFLINE", raising=False)
    monkeypatch.setattr(download, "BACK_OFF_SECONDS", ())
    monkeypatch.setattr(cli, "prepare_libraries", lambda: None)  # its cache would be this one


@pytest.fixture
def server(monkeypatch):
    with serving(Server(DATA)) as running:
        entry = dataclasses.replace(
            MANIFEST["resnet18"], url=running.url, digest=f"sha256:{hashlib.sha256(DATA).hexdigest()}"
        )
        monkeypatch.setitem(MANIFEST, "resnet18", entry)
        yield running


def said(capsys, *args: str) -> str:
    assert cli.main(["weights", *args]) == 0
    return capsys.readouterr().out


def listed(capsys, name: str) -> str:
    """The line of a set of weights in the list."""
    return next(line for line in said(capsys, "list").splitlines() if line.startswith(f"{name} "))


def fails(capsys, args: list[str], *words: str) -> None:
    assert cli.main(["weights", *args]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    for word in words:
        assert word in error, error


def test_list_names_everything(capsys, tmp_path):
    text = said(capsys, "list")
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    for name, entry in MANIFEST.items():
        for part in (entry.architecture, entry.variant, entry.license, f"{entry.image_size[0]}x", " no"):
            assert part in lines[name]
    assert "0.698" in lines["resnet18"]
    assert str(tmp_path / "cache" / "weights") in text
    assert max(map(len, text.splitlines()[:-1])) <= 120


def test_fetch_list_verify(capsys, server, tmp_path):
    digest = hashlib.sha256(DATA).hexdigest()
    path = tmp_path / "cache" / "weights" / "tiny-0.pth"
    fails(capsys, ["verify", "resnet18"], "resnet18", "not in the cache", "weights fetch resnet18")
    assert f"{path}\nsha256 {digest}" in said(capsys, "fetch", "resnet18")
    assert listed(capsys, "resnet18").endswith("published")
    assert digest in said(capsys, "verify", "resnet18")
    assert f"is resnet18; sha256 {digest}" in said(capsys, "verify", str(path))
    path.write_bytes(DATA[:-1])
    fails(capsys, ["verify", "resnet18"], "is not resnet18", digest, hashlib.sha256(DATA[:-1]).hexdigest())
    fails(capsys, ["verify", str(path)], str(path), "neither safetensors")


def test_add_takes_published_files_by_their_digests(capsys, server, tmp_path, monkeypatch):
    folder = tmp_path / "attached" / "deeper"
    folder.mkdir(parents=True)
    (folder / "of another name.pth").write_bytes(DATA)
    (folder / "resnet18-f37072fd.pth").write_bytes(DATA[:-1])  # called so, and is not
    (folder / "notes.txt").write_bytes(DATA)
    path = tmp_path / "cache" / "weights" / "tiny-0.pth"
    assert said(capsys, "add", str(tmp_path / "attached")) == f"resnet18: {path}\n"
    assert path.read_bytes() == DATA
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    assert str(path) in said(capsys, "fetch", "resnet18")
    path.write_bytes(DATA[:-1])  # damaged since: made good
    assert said(capsys, "add", str(folder / "of another name.pth")).startswith("resnet18: ")
    assert path.read_bytes() == DATA
    fails(capsys, ["add", str(folder / "resnet18-f37072fd.pth")], "no published file", "weights convert")
    fails(capsys, ["add", str(tmp_path / "nothing")], "no such file or folder")


def test_convert_and_verify(capsys, tmp_path, monkeypatch):
    """With arrays of a real network of the list, drawn."""
    import jax

    from fpclass.models.architecture import Published, Variant
    from fpclass.models.mapping import Rule
    from fpclass.models.network import DenseHead, Network
    from fpclass.models.registry import ARCHITECTURES, published

    architecture = published("resnet18").stages("torchvision")
    head = DenseHead(1000, pool="none", name="head", parent=None)
    network = Network(stages=(*architecture.features, *architecture.classifier), head=head)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32), train=False))
    shapes = {kind: shapes[kind] for kind in ("params", "batch_stats")}
    flat = {"/".join(k.key for k in path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)}
    variants = (Variant("torchvision", (Rule("(.*)", r"\1"),)),)
    for name in ("resnet18", "resnet34"):
        monkeypatch.setitem(ARCHITECTURES, name, Published(name, published(name).stages, variants))
    path = tmp_path / "drawn.npz"
    np.savez(path, **{name: np.zeros(shape, np.float32) for name, shape in flat.items()})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    text = said(capsys, "convert", str(path), "--as", "resnet18")
    out = tmp_path / "cache" / "weights" / "converted" / f"resnet18-UNPUBLISHED-{digest[:8]}.safetensors"
    assert f"use it by --config.model.weights={out}\n" in text
    assert "the name resnet18 does not stand for it" in text
    assert "is not the file that resnet18 is published as" in text
    fails(capsys, ["verify", "resnet18"], "not in the cache")
    text = said(capsys, "verify", str(out))
    assert "converted as resnet18" in text
    assert "NOT published" in text
    assert listed(capsys, "resnet18").endswith("no")
    fails(capsys, ["convert", str(path), "--as", "resnet34"], "resnet34", "layer1_2", "another architecture")
    fails(capsys, ["convert", str(path), "--as", "resnet18", f"--output={path}/x"], "cannot write")
    with open(out, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    fails(capsys, ["verify", str(out)], "changed")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A published file that every network of the name takes: nothing is tried on it."""
    path = tmp_path / "given.npz"
    np.savez(path, a=np.zeros(3, np.float32))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = dataclasses.replace(MANIFEST["resnet18"], digest=f"sha256:{digest}", url="https://nowhere.invalid/r.npz")
    monkeypatch.setitem(MANIFEST, "resnet18", entry)
    monkeypatch.setattr(convert, "check_fit", lambda *args: None)
    return path


def test_what_convert_says_is_true(capsys, small, tmp_path):
    """Whichever file the name stands for afterwards."""
    converted = tmp_path / "cache" / "weights" / "resnet18.safetensors"
    text = said(capsys, "convert", str(small), "--as", "resnet18")
    assert f"written: {converted}," in text
    assert "use it by --config.model.weights=resnet18\n" in text
    assert "does not stand" not in text
    assert listed(capsys, "resnet18").endswith("converted")
    text = said(capsys, "verify", "resnet18")
    assert f"{converted}: converted as resnet18, unchanged since; from the published file" in text
    elsewhere = tmp_path / "a folder" / "mine.safetensors"
    text = said(capsys, "convert", str(small), "--as", "resnet18", f"--output={elsewhere}")
    assert f"use it by '--config.model.weights={elsewhere}'\n" in text
    assert f"does not stand for it, but for {converted}\n" in text
    published = converted.with_name("r.npz")
    published.write_bytes(small.read_bytes())
    text = said(capsys, "convert", str(small), "--as", "resnet18")
    assert f"use it by --config.model.weights={converted}\n" in text
    assert f"does not stand for it, but for {published}\n" in text
    assert listed(capsys, "resnet18").endswith("published, converted")


def test_unpublished_in_the_place_of_a_name_is_not_listed(capsys, small, tmp_path):
    other = tmp_path / "other.npz"
    np.savez(other, a=np.ones(3, np.float32))
    place = tmp_path / "cache" / "weights" / "resnet18.safetensors"
    text = said(capsys, "convert", str(other), "--as", "resnet18", f"--output={place}")
    assert f"use it by --config.model.weights={place}\n" in text
    assert listed(capsys, "resnet18").endswith("no")
    fails(capsys, ["verify", "resnet18"], "not in the cache", str(place), "not converted from the published file")
    place.write_bytes(b"damaged")
    assert listed(capsys, "resnet18").endswith("no")


def test_failures_are_one_line(capsys, server, tmp_path, monkeypatch):
    server.failures = [404, 500]
    fails(capsys, ["fetch", "resnet18"], "404", server.url, "--config.model.weights=FILE")
    fails(capsys, ["fetch", "resnet18"], "500")
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    fails(capsys, ["fetch", "resnet18"], "FPCLASS_OFFLINE", server.url)
    fails(capsys, ["fetch", "resnet19"], "did you mean", "resnet18")
    fails(capsys, ["fetch", __file__], "is a file")
    fails(capsys, ["verify", "nothing"], "neither a file nor a name")
    fails(capsys, ["verify", __file__], "neither safetensors")
    fails(capsys, ["convert", str(tmp_path / "nowhere"), "--as", "resnet18"], "nowhere", "No such file")
    fails(capsys, ["convert", __file__, "--as", "resnet18"], "neither safetensors")
    fails(capsys, ["convert", __file__, "--as", "resnet"], "did you mean")
    fails(capsys, ["list", "--config=x"], "unexpected argument '--config=x'")


@pytest.mark.parametrize("args", [[], ["list"], ["fetch"], ["verify"], ["convert"]])
def test_help_fits_a_screen(capsys, args):
    with pytest.raises(SystemExit) as stop:
        cli.main(["weights", *args, "--help"])
    assert stop.value.code == 0
    assert 3 < len(capsys.readouterr().out.splitlines()) <= 40
    if args not in ([], ["list"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["weights", *args])
        assert stop.value.code == 2

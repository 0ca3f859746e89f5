"""Data sets as archives: over a real connection, of every kind, damaged, hostile, huge, or on a full disk."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import pathlib
import stat
import tarfile
import types
import warnings
import zipfile

import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny_disk import tiny_disk
from weights_server import Server, serving

from configs import base
from fpclass.common import download
from fpclass.data.sources import archive, load_table
from fpclass.errors import ConfigError, DataError

# Noise, which does not shrink, so that connections can break off in the middle of it.
NOISE = np.random.default_rng(0)
FILES = {f"PetImages/{kind}/{i}.jpg": NOISE.bytes(3000) for kind in ("Cat", "Dog") for i in range(3)}
FILES["readme[1].txt"] = b"where they are from"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of its own, no waits, no proxy."""
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("FPCLASS_OFFLINE", raising=False)
    monkeypatch.setattr(download, "BACK_OFF_SECONDS", (0, 0, 0))
    monkeypatch.setattr(download, "CHUNK_BYTES", 1000)


def zipped(contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = stat.S_IFREG) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target, warnings.catch_warnings(action="ignore"):
        for name, data in contents.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            target.writestr(info, data)
    return file.getvalue()


def tarred(contents: dict[str, bytes], mode: str = "w", **changes: object) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as target:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in changes.items():
                setattr(info, key, value)
            target.addfile(info, io.BytesIO(data))
    return file.getvalue()


def config(root: object, **more: str) -> ConfigDict:
    data = base.get_config().data
    data.update({"source": "folder", "root": str(root), **more})
    return data


def written(tmp_path: pathlib.Path, content: bytes, name: str = "pets.zip") -> pathlib.Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def refused(root: object, *words: str, sha256: str = "") -> None:
    with pytest.raises(DataError) as caught:
        load_table(config(root, sha256=sha256))
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    for word in words:
        assert word in message, message


def left_in_cache(tmp_path: pathlib.Path) -> list[str]:
    """Files and folders directly in the folder of archives, but for locks."""
    return sorted(f.name for f in (tmp_path / "cache/archives").iterdir() if not f.name.endswith(".lock"))


def assert_pets(table) -> None:
    assert table.classes == ("Cat", "Dog")
    expected = sorted(name.removeprefix("PetImages/") for name in FILES if "/" in name)
    assert table.rows["filename"].tolist() == expected
    assert [table.read(k) for k in range(6)] == [FILES[f"PetImages/{name}"] for name in expected]


KINDS = {
    "pets.zip": zipped(FILES), "stored.zip": zipped(FILES, zipfile.ZIP_STORED), "pets.tar": tarred(FILES),
    "pets.tar.gz": tarred(FILES, "w:gz"), "pets.tbz": tarred(FILES, "w:bz2"), "pets": tarred(FILES, "w:xz"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_an_archive_is_a_data_set(tmp_path, name):
    path = written(tmp_path, KINDS[name], name)
    table = load_table(config(path))
    assert_pets(table)
    assert f"unpacked from {path}" in table.source
    (folder,) = left_in_cache(tmp_path)
    assert folder == f"{name.split('.')[0]}-{hashlib.sha256(KINDS[name]).hexdigest()[:16]}"
    first = (tmp_path / "cache/archives" / folder).stat().st_mtime_ns
    assert_pets(load_table(config(path)))
    assert (tmp_path / "cache/archives" / folder).stat().st_mtime_ns == first, "unpacked once"


def test_a_csv_and_its_images_in_an_archive(tmp_path):
    content = {"feet/labels.csv": b"filename,label\na.png,0\nb.png,1\n", "feet/a.png": b"a", "feet/b.png": b"b"}
    path = written(tmp_path, zipped(content))
    table = load_table(config(path, source="csv"))
    assert table.rows["filename"].tolist() == ["a.png", "b.png"]
    assert table.read(1) == b"b"


def test_from_an_address_once_and_resumed(tmp_path, capsys, monkeypatch):
    data = KINDS["stored.zip"]
    sha256 = hashlib.sha256(data).hexdigest()
    with serving(Server(data, failures=["cut 5000", 503])) as server:
        assert_pets(load_table(config(server.url)))
        assert server.requests == ["", "bytes=5000-", "bytes=5000-"]
        assert f"--config.data.sha256={sha256}" in capsys.readouterr().out
        assert_pets(load_table(config(server.url, sha256=sha256)))
        monkeypatch.setenv("FPCLASS_OFFLINE", "1")
        assert_pets(load_table(config(server.url)))
        assert len(server.requests) == 3, "it was there"
        refused(server.url, server.url, "FPCLASS_OFFLINE", "--config.data.root=FILE", sha256="0" * 64)
        monkeypatch.setenv("FPCLASS_OFFLINE", "")
        refused(server.url, sha256, "expected sha256:000", sha256="0" * 64)
    assert sum(f.stat().st_size for f in (tmp_path / "cache").rglob("*.zip")) == 0, "the archive itself is gone"


def test_another_command_goes_on_with_the_same_version_only(tmp_path):
    old, new = zipped({"a/1.png": bytes(9000), "b/2.png": b"old"}, zipfile.ZIP_STORED), KINDS["stored.zip"]
    with serving(Server(old, failures=["cut 3000", "cut 3000", "cut 3000", 503], version='"one"')) as server:
        refused(server.url, "503", "after 4 attempts", "goes on with it")
        server.data, server.version = new, '"two"'
        assert_pets(load_table(config(server.url)))
        assert server.requests[-1] == "bytes=9000-", "it asked for the rest, and was given the whole new one"
    assert not [name for name in left_in_cache(tmp_path) if ".part" in name]


def test_what_comes_is_no_archive(tmp_path):
    with serving(Server(b"<!DOCTYPE html><p>Please log in")) as server:
        refused(server.url, "neither a zip nor a tar", "<!DOCTYPE html>")
        assert left_in_cache(tmp_path) == []
    refused("http://example.org/pets.zip", "refused", "https")
    refused("file:///etc/passwd", "refused")


HOSTILE = {
    "../out.png": ("leads out", zipped({"../out.png": b""})),
    "in the middle": ("leads out", zipped({"Cat/../../out.png": b""})),
    "backslashes": ("leads out", zipped({"Cat\\..\\..\\out.png": b""})),
    "absolute": ("leads out", tarred({"/tmp/out.png": b""})),
    "drive": ("leads out", zipped({"C:\\out.png": b""})),
    "control characters": ("leads out", tarred({"Cat/\x1b[2J.png": b""})),
    "not UTF-8": ("not UTF-8", tarred({"Cat/caf\udce9.png": b""})),
    "link in a tar": ("is a link", tarred({"Cat/1.png": b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "hard link": ("is a link", tarred({"Cat/1.png": b""}, type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "device": ("a device", tarred({"Cat/1.png": b""}, type=tarfile.CHRTYPE)),
    "pipe": ("the like", tarred({"Cat/1.png": b""}, type=tarfile.FIFOTYPE)),
    "link in a zip": ("is a link", zipped({"Cat/1.png": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)),
    "twice": ("twice", tarred({"Cat/1.png": b"a", "Cat/./1.png": b"b"})),
    "file and folder": ("twice", zipped({"Cat": b"a", "Cat/1.png": b"b"})),
    "nothing": ("no files", zipped({})),
    "empty tar": ("no", tarred({})),
    "empty file": ("neither a zip nor a tar", b""),
    "cut zip": ("damaged", KINDS["pets.zip"][:-100]),
    "cut tar": ("damaged", KINDS["pets.tar"][:12_000]),
    "cut tar between two files": ("damaged", tarred({"Cat/1.png": bytes(512), "Dog/2.png": bytes(512)})[:1024]),
    "cut tar.gz": ("damaged", KINDS["pets.tar.gz"][:-2000]),
    "flipped bit in a zip": ("damaged", KINDS["stored.zip"].replace(FILES["PetImages/Cat/1.jpg"][:32], bytes(32))),
    "flipped bit in a tar.gz": ("damaged", gzip.compress(KINDS["pets.tar"])[:-8] + bytes(8)),
    "damaged header": ("damaged", tarred({"Cat/1.png": bytes(512), "Dog/2.png": b"b"}).replace(b"Dog", b"Dox")),
    "bzip2 of nothing": ("neither", bz2.compress(b"")),
    "7z": ("neither a zip nor a tar", b"7z\xbc\xaf\x27\x1c" + bytes(600)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_damaged_archives_leave_nothing(tmp_path, name):
    said, content = HOSTILE[name]
    path = written(tmp_path, content)
    refused(path, str(path), said)
    assert left_in_cache(tmp_path) == []
    assert sorted(f.name for f in tmp_path.iterdir()) == ["cache", "pets.zip"]


def test_a_zip_with_a_password(tmp_path):
    content = bytearray(zipped({"Cat/1.png": b"secret"}, zipfile.ZIP_STORED))
    content[6] |= 1  # the flag in the file's header, and that in the list of files
    content[content.index(b"PK\x01\x02") + 8] |= 1
    refused(written(tmp_path, bytes(content)), "password")


@pytest.mark.parametrize("make", [zipped, lambda files: tarred(files, "w:gz")], ids=["zip", "tar.gz"])
def test_bombs_are_not_unpacked(tmp_path, monkeypatch, make):
    monkeypatch.setattr(archive, "FREE_BYTES", 10**6)
    path = written(tmp_path, make({"Cat/1.bmp": bytes(5 * 10**6), "Dog/2.bmp": bytes(5 * 10**6)}))
    assert path.stat().st_size < 20_000
    refused(
        path, "more than 2 MB" if path.stat().st_size > 10_000 else "more than 1 MB", "100 times", "give the folder"
    )
    assert left_in_cache(tmp_path) == []
    monkeypatch.setattr(archive, "FREE_BYTES", 2**28)
    monkeypatch.setattr(archive, "MAX_NUM_FILES", 1)
    refused(path, "more than 1 files")


def test_no_room_keeps_what_was_fetched(tmp_path, monkeypatch):
    data = zipped({f"{kind}/1.bmp": bytes(200_000) for kind in ("Cat", "Dog")})
    with tiny_disk(tmp_path / "small", size_kib=250) as small, serving(Server(data)) as server:
        monkeypatch.setenv("FPCLASS_CACHE", str(small))
        refused(server.url, str(small), "too few to unpack", "FPCLASS_CACHE")
        assert [f.suffix for f in (small / "archives").iterdir() if f.is_file() and f.suffix != ".lock"] == [".pth"]
        monkeypatch.setattr(archive, "FREE_BYTES", 2**28)
        monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=10**9))
        refused(server.url, "No space left", "FPCLASS_CACHE")
        assert not [f for f in (small / "archives").iterdir() if f.is_dir()]
        assert len(server.requests) == 1


def test_the_digest_of_a_file(tmp_path):
    path = written(tmp_path, KINDS["pets.zip"])
    assert_pets(load_table(config(path, sha256=hashlib.sha256(KINDS["pets.zip"]).hexdigest())))
    refused(path, str(path), "data.sha256", sha256="0" * 64)
    with pytest.raises(ConfigError, match="is a folder"):
        load_table(config(tmp_path, sha256="0" * 64))
    refused(tmp_path / "nowhere.zip", "no folder", "archive")


def test_a_prepared_tfds_set_in_an_archive(tmp_path):
    """What TFDS makes keeps its folders: the name and the version of the set."""
    from test_tfds_source import prepare_tfds

    prepare_tfds(tmp_path / "made", "tiny_set", train=3)
    contents = {f.relative_to(tmp_path / "made").as_posix(): f.read_bytes() for f in (tmp_path / "made").rglob("*.*")
                if f.is_file()}  # fmt: skip
    table = load_table(config(written(tmp_path, tarred(contents)), source="tfds", tfds_name="tiny_set"))
    assert len(table) == 3

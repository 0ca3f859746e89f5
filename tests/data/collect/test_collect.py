"""`fpclass collect` from queries to folders, at a server that misbehaves: kept, recorded, resumed."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import filelock
import pytest
from misbehaving_server import cut, endless, picture, redirect, send, serving, stall, status

from configs.base import get_config
from fpclass import cli
from fpclass.data import decode
from fpclass.data.collect import address, client, download
from fpclass.data.collect import search as searches
from fpclass.data.collect.backends import Candidate, Openverse, Page, Query
from fpclass.data.collect.client import Later
from fpclass.data.decode import decode_table
from fpclass.data.resize import Decoding
from fpclass.data.sources import load_table

HTML = b"<!doctype html><html><body>Please log in</body></html>"


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def this_machine_counts_as_public(monkeypatch):
    real = address.is_public
    monkeypatch.setattr(address, "is_public", lambda place: place == "127.0.0.1" or real(place))
    monkeypatch.setattr(client, "BACK_OFF_SECONDS", (0.0, 0.0, 0.0))


def write_list(tmp_path, server, name, *paths):
    file = tmp_path / f"{name}.txt"
    urls = [path if "://" in path else server.url(path) for path in paths]
    file.write_text("# addresses\n\n" + "\n".join(urls) + "\n", encoding="utf-8")
    return f"{name}={file}"


def collect(folder, *flags):
    return cli.main(["collect", str(folder), "--delay=0", "--min-side=20", *map(str, flags)])


def provenance(folder):
    with (folder / "provenance.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pictures(folder):
    return [name for name in names(folder) if "/" in name and not name.startswith(".")]


def data_config(folder):
    config = get_config().unlock()
    config.data.source, config.data.root = "folder", str(folder)
    return config.data


# --- what is kept ---------------------------------------------------------------------------------


def test_collected_folder_is_a_data_set(tmp_path, server, capsys):
    """Good pictures of every format are kept under their true extension; all the rest is recorded with its reason."""
    formats = {"/0.jpg": "PNG", "/1": "JPEG", "/2.php": "WEBP", "/3.png": "GIF", "/4.jpeg": "BMP", "/5.png": "TIFF"}
    for seed, (path, file_format) in enumerate(formats.items()):
        server.pages[path] = send(picture(seed, file_format=file_format), "application/octet-stream")
    server.pages |= {
        "/html.jpg": send(HTML, "image/jpeg"),
        "/page.jpg": send(HTML, "text/html; charset=utf-8"),
        "/small.png": send(picture(50, (19, 300))),
        "/cut.png": send(picture(51)[:400]),
        "/endless.png": endless(),
        "/away.png": redirect("http://192.168.7.7/router.png"),
        "/ico.png": send(picture(52, file_format="ICO")),
        "/empty.png": send(b""),
        "/copy.png": send(picture(0)),
        "/recoded.png": send(picture(0, file_format="BMP")),
        "/hello there.png": send(picture(60)),
        "/hello%20there.png": send(picture(60)),
    }
    some = write_list(tmp_path, server, "heel_hook", *formats, "/html.jpg", "/page.jpg", "/small.png", "/copy.png")
    more = write_list(
        tmp_path, server, "toe hook", "/cut.png", "/endless.png", "/away.png", "/ico.png", "/empty.png", "/404.png",
        "/recoded.png", "/hello there.png", "/hello%20there.png", "ftp://example.org/x.png",
    )  # fmt: skip
    out = tmp_path / "out"
    assert collect(out, "--urls", some, more, "--max-megabytes=1") == 0
    said = capsys.readouterr().out

    rows = {row["url"].replace(server.url(""), ""): row for row in provenance(out)}
    kept = {path: row for path, row in rows.items() if row["status"] == "kept"}
    assert sorted(kept) == sorted([*formats, "/hello%20there.png"])
    suffixes = [pathlib.Path(kept[path]["filename"]).suffix for path in formats]
    assert suffixes == [".png", ".jpg", ".webp", ".gif", ".bmp", ".tif"]
    assert sorted(row["filename"] for row in kept.values()) == pictures(out)
    assert {row["class"] for row in kept.values()} == {"heel_hook", "toe hook"}
    for row in kept.values():
        assert (row["width"], row["height"], row["source"], row["licence"]) == ("40", "30", "list", "")
        assert len(row["sha256"]) == len(row["pixel_sha256"]) == 64
        assert row["time"].endswith("+00:00")
    reasons = {path: f"{row['status']}: {row['reason']}" for path, row in rows.items() if row["status"] != "kept"}
    expected = {
        "/html.jpg": ("refused", "not an image", "image/jpeg"),
        "/page.jpg": ("refused", "not an image", "text/html"),
        "/small.png": ("refused", "smaller than 20", "19 x 300"),
        "/copy.png": ("duplicate", kept["/0.jpg"]["filename"]),
        "/recoded.png": ("duplicate", kept["/0.jpg"]["filename"], "of the class heel_hook"),
        "/cut.png": ("refused", "damaged"),
        "/endless.png": ("refused", "longer than 1.0 MB"),
        "/away.png": ("refused", "192.168.7.7"),
        "/ico.png": ("refused", "ICO"),
        "/empty.png": ("refused", "empty file"),
        "/404.png": ("refused", "404"),
        "ftp://example.org/x.png": ("refused", "only http"),
    }
    assert sorted(reasons) == sorted(expected)
    for path, words in expected.items():
        for word in words:
            assert word in reasons[path], reasons[path]
    assert len(server.asked()) == len(set(server.asked()))
    assert "404" in said
    assert "1 pictures were found for two classes" in said
    assert "licence of 7 pictures is not known" in said

    table = load_table(data_config(out))
    images, facts = decode_table(table, Decoding((8, 8), 3, "bilinear"), cache_dir=None)
    assert table.classes == ("heel_hook", "toe hook")
    assert len(images) == 7
    assert set(facts["error"]) == {""}
    assert table.unlisted == ()


def test_the_audit_finds_nothing(tmp_path, server, capsys):
    for seed in range(8):
        server.pages[f"/{seed}.png"] = send(picture(seed))
    lists = [write_list(tmp_path, server, name, *(f"/{s}.png" for s in seeds)) for name, seeds in
             {"a": range(4), "b": range(4, 8)}.items()]  # fmt: skip
    assert collect(tmp_path / "out", "--urls", *lists) == 0
    flags = [
        "--config=configs/base.py",
        "--config.data.source=folder",
        f"--config.data.root={tmp_path / 'out'}",
        f"--workdir={tmp_path / 'run'}",
    ]
    capsys.readouterr()
    assert cli.main(["audit", "--strict", *flags]) == 0
    report = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert report["summary"]["num_images"] == 8, report["summary"]
    assert ", 0 in quarantine" in capsys.readouterr().out


# --- resumed --------------------------------------------------------------------------------------


def test_nothing_is_fetched_twice(tmp_path, server):
    server.pages |= {f"/{seed}.png": send(picture(seed)) for seed in range(3)} | {"/bad.png": send(HTML)}
    paths = ["/0.png", "/1.png", "/2.png", "/bad.png", "/404.png"]
    out, some = tmp_path / "out", write_list(tmp_path, server, "a", *paths)
    assert collect(out, "--urls", some, "--per-query=1") == 0  # a list is taken whole
    before, table = names(out), (out / "provenance.csv").read_bytes()
    (out / provenance(out)[1]["filename"]).unlink()  # the user does not want this one
    server.requests.clear()
    assert collect(out, "--urls", some) == 0
    assert server.requests == []
    assert (out / "provenance.csv").read_bytes() == table
    assert len(names(out)) == len(before) - 1

    server.pages["/3.png"] = send(picture(3))
    assert collect(out, "--urls", write_list(tmp_path, server, "a", *paths, "/3.png")) == 0
    assert server.asked() == ["/3.png"]
    assert [row["status"] for row in provenance(out)] == ["kept"] * 3 + ["refused"] * 2 + ["kept"]


def test_what_was_not_to_be_had_is_tried_again(tmp_path, server):
    server.pages |= {"/0.png": send(picture(0)), "/1.png": status(503)}
    out, some = tmp_path / "out", write_list(tmp_path, server, "a", "/0.png", "/1.png")
    assert collect(out, "--urls", some) == 0
    assert [row["status"] for row in provenance(out)] == ["kept", "later"]
    server.pages["/1.png"] = send(picture(1))
    server.requests.clear()
    assert collect(out, "--urls", some) == 0
    assert server.asked() == ["/1.png"]
    assert [row["status"] for row in provenance(out)] == ["kept", "kept"], "one row per address"


def test_a_host_that_is_down_is_left_alone(tmp_path, server, capsys):
    paths = [f"/{seed}.png" for seed in range(20)]
    server.pages |= dict.fromkeys(paths, cut(picture(), 10))
    some = write_list(tmp_path, server, "a", *paths)
    assert collect(tmp_path / "out", "--urls", some) == 1
    assert sorted(set(server.asked())) == ["/0.png", "/1.png", "/2.png"]
    assert "127.0.0.1 does not answer; 17 addresses were left" in capsys.readouterr().out

    server.pages |= {path: send(picture(seed)) for seed, path in enumerate(paths) if seed > 2}
    assert collect(tmp_path / "out", "--urls", some) == 0
    assert [row["status"] for row in provenance(tmp_path / "out")] == ["later"] * 3 + ["kept"] * 17


def test_a_dead_machine_leaves_a_line_without_its_end(tmp_path, server):
    server.pages |= {f"/{seed}.png": send(picture(seed)) for seed in range(3)}
    out, some = tmp_path / "out", write_list(tmp_path, server, "a", "/0.png", "/1.png", "/2.png")
    assert collect(out, "--urls", some) == 0
    file = out / "provenance.csv"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:60])
    whole = out / provenance_of(lines, 3)
    whole.write_bytes(b"")  # renamed, but its pixels never reached the disk
    server.requests.clear()
    assert collect(out, "--urls", some) == 0
    assert server.asked() == ["/2.png"], "the file of the second is there, and gets its row again"
    assert {row["url"]: row["filename"] for row in provenance(out)} == {
        server.url(f"/{i}.png"): provenance_of(lines, i + 1) for i in range(3)
    }
    assert [row["status"] for row in provenance(out)] == ["kept"] * 3
    assert whole.read_bytes() == picture(2)


def provenance_of(lines, number):
    return lines[number].decode().partition(",")[0]


KILLED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
from fpclass import cli
from fpclass.data.collect import address
address.is_public = lambda place: place == "127.0.0.1"
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT] if os.name == "posix" else [])
def test_killed_and_resumed(tmp_path, server, number):
    """Killed while a picture is half there: the others are whole and in the table; only that one is fetched again."""
    server.pages |= {f"/{seed}.png": send(picture(seed)) for seed in range(6)}
    server.pages["/3.png"] = stall(picture(3), 100)
    out, some = tmp_path / "out", write_list(tmp_path, server, "a", *(f"/{seed}.png" for seed in range(6)))
    command = [sys.executable, "-c", KILLED, "collect", str(out), "--delay=0", "--min-side=20", f"--urls={some}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while "/3.png" not in server.asked():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=20)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), said
    if number == signal.SIGINT:
        assert "the same command goes on" in said[0]
        assert said[1] == "fpclass: interrupted\n"

    assert [row["status"] for row in provenance(out)] == ["kept"] * 3
    assert sorted(row["filename"] for row in provenance(out)) == pictures(out)
    (out / "a" / ".0123456789abcdef.png.4194399.tmp.png").write_bytes(b"half")
    server.pages["/3.png"] = send(picture(3))
    server.requests.clear()
    assert collect(out, "--urls", some) == 0
    assert server.asked() == ["/3.png", "/4.png", "/5.png"]
    assert [row["status"] for row in provenance(out)] == ["kept"] * 6
    assert len(pictures(out)) == 6, "what was half-written is gone"


def test_lines_that_are_no_addresses_are_refused(tmp_path, server):
    """Whatever stands in a list: a row with the reason, and the others are fetched."""
    server.pages["/0.png"] = send(picture(0))
    odd = ["http://exa mple.com/x.png", "http://[::1", "http://a\x00b.example/x", "://", "http://h/" + "a" * 200_000]
    out, some = tmp_path / "out", write_list(tmp_path, server, "a", *odd, "/0.png")
    assert collect(out, "--urls", some) == 0
    rows = provenance(out)
    assert sorted(row["status"] for row in rows) == ["kept"] + ["refused"] * 5
    server.requests.clear()
    assert collect(out, "--urls", some) == 0, "the table can be read again"
    assert provenance(out) == rows
    assert server.requests == []


def test_a_table_without_its_header_is_begun_again(tmp_path, server):
    """A machine that died before the first line was on the disk."""
    server.pages["/0.png"] = send(picture(0))
    out, some = tmp_path / "out", write_list(tmp_path, server, "a", "/0.png")
    for beginning in (b"", b"filename,ur"):
        out.mkdir(exist_ok=True)
        (out / "provenance.csv").write_bytes(beginning)
        assert collect(out, "--urls", some) == 0
        assert [row["status"] for row in provenance(out)] == ["kept"]


def test_large_pictures_are_looked_into_one_at_a_time(monkeypatch):
    """A few hundred kilobytes can hold a gigabyte: eight threads must not unpack that side by side."""
    inside, most = [], []

    def open_picture(data):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return decode.open_picture(data)

    monkeypatch.setattr(download, "open_picture", open_picture)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: download.examine(picture(seed), 1), range(4)))
    assert most == [1] * 4


# --- searched -------------------------------------------------------------------------------------


class Fake:
    """Three pages of ten addresses; breaks off where told to."""

    name, is_remembered, settings = "fake", True, ""

    def __init__(self):
        self.asked, self.breaks_at = [], 0

    def search(self, query, page):
        self.asked.append((query.text, page))
        if page == self.breaks_at:
            raise Later("429 Too Many Requests")
        urls = [f"http://example.org/{query.text}/{10 * page + i}.png" for i in range(10)]
        return Page(tuple(Candidate(url, licence="CC0") for url in urls), is_last=page == 3)


def test_pages_are_asked_for_once(tmp_path, capsys):
    fake, queries = Fake(), [Query("a", "x", "en"), Query("b", "y", "ja")]
    fake.breaks_at = 2
    finds, num_failed = searches.search(fake, queries, 15, tmp_path)
    assert ([len(some) for some in finds], num_failed) == ([10, 10], 2)
    assert "429" in capsys.readouterr().out
    fake.breaks_at = 0
    finds, num_failed = searches.search(fake, queries, 15, tmp_path)
    assert ([len(some) for some in finds], num_failed) == ([15, 15], 0)
    assert fake.asked == [("x", 1), ("x", 2), ("y", 1), ("y", 2), ("x", 2), ("y", 2)]
    finds, _ = searches.search(fake, queries, 100, tmp_path)
    assert [len(some) for some in finds] == [30, 30]
    assert fake.asked[6:] == [("x", 3), ("y", 3)]
    assert finds[1][0].candidate == Candidate("http://example.org/y/10.png", licence="CC0")
    assert finds[1][0].query == queries[1]


def test_an_engine_that_repeats_its_last_page(tmp_path, monkeypatch):
    fake = Fake()
    page = Page((Candidate("http://example.org/1.png"),), is_last=False)
    monkeypatch.setattr(fake, "search", lambda query, number: fake.asked.append(number) or page)
    finds, num_failed = searches.search(fake, [Query("a", "x", "en")], 15, tmp_path)
    assert (len(finds[0]), num_failed, fake.asked) == (1, 0, [1, 2])


def test_answers_that_are_half_a_letter(tmp_path, server, monkeypatch):
    """Lone surrogates, which JSON can hold and no file can; and numbers where texts should be."""
    server.pages["/0.png"] = send(picture(0))
    result = {"url": server.url("/0.png"), "creator": "a\ud83d", "foreign_landing_url": 7}
    results = [result, {"url": server.url("/\ud83d.png")}, {"url": 5}]
    server.pages["/v1/images/"] = send(json.dumps({"page_count": 1, "results": results}).encode(), "application/json")
    monkeypatch.setattr(Openverse.__init__, "__defaults__", ("any", server.url("")))
    out = tmp_path / "out"
    assert collect(out, "--query", "a:en=x") == 0
    kept = [row for row in provenance(out) if row["status"] == "kept"]
    assert [(row["creator"], row["page"]) for row in kept] == [("a?", "7")]
    assert len(provenance(out)) == 3


def test_classes_grow_alike(tmp_path):
    finds, _ = searches.search(
        Fake(), [Query("a", "x", "en"), Query("b", "y", "ja"), Query("b", "x", "fr")], 3, tmp_path
    )
    order = [find.candidate.url[-8:-4] for find in download.interleave(finds)]
    assert order == ["x/10", "y/10", "x/11", "y/11", "x/12", "y/12"], "each once, for the class that was first"


def openverse_answer(server, first, count, pages):
    results = [
        {
            "url": server.url(f"/pictures/{i}.jpg"), "foreign_landing_url": f"https://example.org/photo/{i}",
            "license": "by-sa", "license_version": "4.0", "creator": "=HYPERLINK(1)\nZoë",
        }
        for i in range(first, first + count)
    ]  # fmt: skip
    return send(json.dumps({"page_count": pages, "results": results}).encode(), "application/json")


def test_openverse_from_query_to_folder(tmp_path, server, monkeypatch, capsys):
    """Queries in several languages by file and flag, through the interface as documented, with licences recorded."""
    answers = {"1": openverse_answer(server, 0, 20, 2), "2": openverse_answer(server, 20, 5, 2)}
    server.pages["/v1/images/"] = lambda answerer: answers[answerer.path.partition("page=")[2].partition("&")[0]](
        answerer
    )
    server.pages |= {f"/pictures/{i}.jpg": send(picture(i, file_format="JPEG")) for i in range(25)}
    monkeypatch.setattr(Openverse.__init__, "__defaults__", ("any", server.url("")))
    monkeypatch.setenv("OPENVERSE_TOKEN", "secret")
    queries = tmp_path / "queries.yaml"
    queries.write_text("heel_hook:\n  ja: [クライミング ヒールフック]\n", encoding="utf-8")
    out = tmp_path / "out"
    flags = ["--queries", queries, "--query", "toe_hook:es=escalada gancho", "--licence=commercial", "--per-query=30"]
    assert collect(out, *flags, "--contact=me@example.org") == 0
    asked = [path for path in server.asked() if path.startswith("/v1")]
    assert len(asked) == 4, "two pages each, and none beyond the last"
    assert "q=%E3%82%AF%E3%83%A9%E3%82%A4%E3%83%9F%E3%83%B3%E3%82%B0+%E3%83%92" in asked[0]
    assert "license_type=commercial" in asked[0]
    assert "q=escalada+gancho" in asked[3]
    for path, _, headers in server.requests:
        assert headers["User-Agent"].startswith("fpclass/")
        assert "me@example.org" in headers["User-Agent"]
        assert ("Authorization" in headers) == path.startswith("/v1")
    rows = provenance(out)
    assert len(rows) == len(pictures(out)) == 25
    assert {row["class"] for row in rows} == {"heel_hook"}
    for row in rows:
        found = (row["query"], row["language"], row["source"], row["licence"], row["creator"])
        assert found == ("クライミング ヒールフック", "ja", "openverse", "CC BY-SA 4.0", "HYPERLINK(1) Zoë")
    assert rows[0]["page"].startswith("https://example.org/photo/")
    said = capsys.readouterr().out
    assert "note: nothing was kept for toe_hook" in said
    assert "25 pictures were found for two classes" in said

    server.requests.clear()
    assert collect(out, *flags) == 0
    assert server.requests == [], "neither searched nor fetched again"


@pytest.mark.parametrize(
    "answer",
    [send(HTML, "text/html"), send(b"{}"), send(b'{"results": 3, "page_count": 1}'), status(429, Retry_After=3600)],
)
def test_a_search_that_breaks_off(tmp_path, server, monkeypatch, capsys, answer):
    server.pages |= {"/v1/images/": answer, "/0.png": send(picture())}
    monkeypatch.setattr(Openverse.__init__, "__defaults__", ("any", server.url("")))
    some = write_list(tmp_path, server, "a", "/0.png")
    assert collect(tmp_path / "out", "--query", "a:en=x", "--urls", some) == 1
    assert "broke off" in capsys.readouterr().out
    assert len(pictures(tmp_path / "out")) == 1, "the rest goes on"
    assert len(server.asked("/robots.txt")) == 2


def test_two_at_once(tmp_path, server, capsys):
    some = write_list(tmp_path, server, "a", "/0.png")
    (tmp_path / "out" / ".collect").mkdir(parents=True)
    with filelock.FileLock(tmp_path / "out" / ".collect" / "lock"):
        assert collect(tmp_path / "out", "--urls", some) == 2
    assert "another collect" in capsys.readouterr().err
    assert server.requests == []

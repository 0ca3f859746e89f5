"""Files are whole or not there, and who cannot write is told in one line."""

from __future__ import annotations

import json
import os
import pathlib
import re
import socket
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from tiny_disk import fill, tiny_disk

from fpclass.common import files
from fpclass.errors import ConfigError, FpclassError, RunError


def one_line(caught: pytest.ExceptionInfo[FpclassError]) -> str:
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def half_written(path: pathlib.Path, error: BaseException) -> None:
    """A writer that fails when half is written."""
    with files.replacing(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_written_file_holds_the_text_and_nothing_is_left_beside_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    files.write_text(path, "Füße\n")
    assert path.read_bytes() == "Füße\n".encode()
    files.write_text(path, "2\n")
    assert path.read_text() == "2\n"
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with files.replacing(path) as temporary:
        temporary.write_text("half of the n")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent, "a rename across file systems is a copy"
        assert temporary.suffix == path.suffix, "np.savez and savefig go by the suffix"
    assert path.read_text() == "half of the n"


@pytest.mark.parametrize("error", [ValueError("of the writer"), KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupted_write_leaves_the_old_file_and_the_error(tmp_path: pathlib.Path, error: BaseException) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(type(error)):
        half_written(path, error)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_a_failed_write_where_nothing_was_leaves_nothing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RunError, match="Input/output error"):
        half_written(tmp_path / "a.npz", OSError(5, "Input/output error"))
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: pathlib.Path) -> None:
    with tiny_disk(tmp_path / "disk", size_kib=64) as disk:
        path = disk / "metrics.json"
        files.write_json(path, {"accuracy": 0.5})
        filler = fill(disk, leave_kib=8)
        with pytest.raises(RunError) as caught:
            files.write_json(path, {"accuracy": list(range(4_000))})
        message = one_line(caught)
        assert message.startswith(f"{path}: cannot write (No space left on device)")
        assert "free space" in message
        assert files.read_json(path) == {"accuracy": 0.5}
        assert sorted(os.listdir(disk)) == ["filler", "metrics.json"]
        filler.unlink()
        files.write_json(path, {"accuracy": list(range(4_000))})
        assert len(files.read_json(path)["accuracy"]) == 4_000


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_no_space_on_the_last_flush_counts_too(tmp_path: pathlib.Path) -> None:
    """The bytes of a small file reach the disk only when it is closed."""
    path = tmp_path / "metrics.json"
    files.write_json(path, 1)
    with files.replacing(path) as temporary:
        temporary.write_text("2")
    os.symlink("/dev/full", temporary)  # what the next write opens
    with pytest.raises(RunError, match="No space left on device"):
        files.write_json(path, 3)
    assert files.read_json(path) == 2
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: pathlib.Path) -> None:
    """Below a regular file nobody can write, root included."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "run" / "metrics.json"
    with pytest.raises(RunError) as caught:
        files.write_json(path, {})
    expected = rf"{re.escape(str(path))}: cannot write \(.+\); free space or choose another place"
    assert re.fullmatch(expected, one_line(caught))


def test_a_folder_in_the_place_of_the_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        files.write_json(tmp_path / "metrics.json", {})
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_json_is_readable_by_any_parser(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.json"
    value = {"name": "Füße", "numbers": [1, 0.25, None], "nested": {"yes": True}}
    files.write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value == files.read_json(path)
    assert "Füße" in path.read_text(encoding="utf-8")
    assert path.read_text().endswith("}\n")
    for number in (np.nan, float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            files.write_json(path, number)
    assert files.read_json(path) == value


def test_json_that_is_missing_or_damaged_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.json"
    with pytest.raises(RunError) as caught:
        files.read_json(path)
    assert one_line(caught).startswith(f"{path}: not found")
    for damaged in (b'{"accuracy": 0.', b"\xff\xfe", b""):
        path.write_bytes(damaged)
        with pytest.raises(RunError) as caught:
            files.read_json(path)
        assert one_line(caught).startswith(f"{path}: cannot be read")
    path.unlink()
    path.mkdir()
    with pytest.raises(RunError, match="cannot be read"):
        files.read_json(path)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path))
    assert files.cache_dir() == tmp_path
    monkeypatch.delenv("FPCLASS_CACHE")
    assert files.cache_dir().is_absolute()
    assert files.cache_dir().name == "fpclass"


# --- what else than a file a name can stand for ------------------------------------------------------


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "real.csv"
    target.write_text("old")
    link, second = tmp_path / "link.csv", tmp_path / "second.csv"
    link.symlink_to("far/real.csv")
    second.symlink_to(link)
    files.write_text(second, "new")
    assert (link.is_symlink(), second.is_symlink(), target.read_text()) == (True, True, "new")
    new = tmp_path / "new.csv"
    new.symlink_to(tmp_path / "far" / "new.csv")
    files.write_text(new, "made")
    assert (new.is_symlink(), (tmp_path / "far" / "new.csv").read_text()) == (True, "made")
    assert sorted(os.listdir(tmp_path / "far")) == ["new.csv", "real.csv"]


def test_a_circle_of_links_and_a_link_to_nowhere_are_one_line(tmp_path: pathlib.Path) -> None:
    circle, nowhere = tmp_path / "circle", tmp_path / "nowhere"
    circle.symlink_to(circle)
    nowhere.symlink_to(tmp_path / "no" / "folder" / "file")
    for path in (circle, nowhere):
        with pytest.raises(RunError) as caught:
            files.write_text(path, "x")
        assert one_line(caught).startswith(f"{path}: cannot write (")
        assert path.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["circle", "nowhere"]


def test_a_pipe_gets_the_bytes_and_stays_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    text = "x" * 300_000  # more than a pipe holds at once
    for path in (pipe, link):
        got: list[str] = []
        reader = threading.Thread(target=lambda got=got: got.append(pipe.read_text()))
        reader.start()
        files.write_text(path, text)
        reader.join(timeout=20)
        assert got == [text]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]
    monkeypatch.setattr(files, "READER_SECONDS", 0.2)
    with pytest.raises(RunError) as caught:
        files.write_text(pipe, "x")
    assert "nobody reads from this pipe" in one_line(caught)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def make_device(path: pathlib.Path, kind: int, major: int, minor: int) -> None:
    """A device node of one's own, like /dev/null, which no test may touch: a mistake would be one for the machine."""
    try:
        os.mknod(path, kind | 0o600, os.makedev(major, minor))
    except (AttributeError, OSError) as error:
        pytest.skip(f"device nodes cannot be made here: {error}")


def test_a_device_takes_the_bytes_and_stays_one(tmp_path: pathlib.Path) -> None:
    null, full = tmp_path / "null", tmp_path / "full"
    make_device(null, stat.S_IFCHR, 1, 3)
    make_device(full, stat.S_IFCHR, 1, 7)
    files.write_json(null, {"a": 1})
    with pytest.raises(RunError, match="No space left on device"):
        files.write_json(full, {"a": 1})
    assert stat.S_ISCHR(null.stat().st_mode)
    assert stat.S_ISCHR(full.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["full", "null"]


def test_disks_sockets_and_folders_are_refused(tmp_path: pathlib.Path) -> None:
    disk, plug, folder = tmp_path / "disk", tmp_path / "plug", tmp_path / "folder"
    make_device(disk, stat.S_IFBLK, 259, 4_000)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(plug))
        for path, kind in ((disk, "a disk"), (plug, "a socket"), (folder, "a folder")):
            before = path.stat()
            for write in (lambda path=path: files.write_text(path, "x"), lambda path=path: files.check_writable(path)):
                with pytest.raises(RunError) as caught:
                    write()
                assert one_line(caught) == f"{path}: cannot write (it is {kind}); give the name of a file"
            assert os.path.samestat(path.stat(), before)
    assert sorted(os.listdir(tmp_path)) == ["disk", "folder", "plug"]


WRITER = """
import pathlib, sys
from fpclass.common import files
print("before", flush=True)
for path in sys.argv[1:]:
    files.write_text(pathlib.Path(path), path + "\\n")
print("after", flush=True)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="this system has no /proc")
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_standard_output_goes_where_it_went(tmp_path: pathlib.Path, kind: str) -> None:
    """Also into a file: one that takes its place would lose what comes before and after."""
    out, names = tmp_path / "out.txt", ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
    command = [sys.executable, "-c", WRITER, *names]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(files.__file__).parents[2])}
    with out.open("w") as stream:
        to = subprocess.PIPE if kind == "pipe" else stream
        run = subprocess.run(command, stdout=to, stderr=subprocess.PIPE, text=True, env=environment, timeout=60)
    assert run.returncode == 0, run.stderr
    said = run.stdout if kind == "pipe" else out.read_text()
    assert said.split() == ["before", *names, "after"]


def test_what_cannot_be_written_is_known_beforehand(tmp_path: pathlib.Path) -> None:
    files.check_writable(tmp_path / "new" / "folders" / "a.csv")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    files.check_writable(tmp_path / "file")
    with pytest.raises(RunError, match="cannot write"):
        files.check_writable(tmp_path / "file" / "below")


def dead_process() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_killed_processes_left_is_swept(tmp_path: pathlib.Path) -> None:
    dead, living = dead_process(), os.getpid()
    (tmp_path / "figures").mkdir()
    names = [f".metrics.json.{dead}.tmp.json", f"figures/.a.png.{dead}.tmp.png", f".table.{dead}.tmp"]
    kept = [f".metrics.json.{living}.tmp.json", "metrics.json", ".tmp", ".a.tmp", f"a.{dead}.tmp.csv", ".lock"]
    for name in names + kept:
        (tmp_path / name).write_text("half")
    (tmp_path / f".drawn.{dead}.tmp" / "images").mkdir(parents=True)
    (tmp_path / f".drawn.{dead}.tmp" / "images" / "a.png").write_text("half")
    files.sweep(tmp_path, min_age_seconds=60)
    assert all((tmp_path / name).exists() for name in names), "on a disk that machines share, it may be another's"
    files.sweep(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(kept)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["figures"]


def test_a_folder_is_whole_or_not_there(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "drawn"
    left = tmp_path / f".drawn.{dead_process()}.tmp"
    left.mkdir()
    with files.replacing_folder(path) as scratch:
        (scratch / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    with pytest.raises(OSError, match="empty"), files.replacing_folder(path) as scratch:
        (scratch / "b").write_text("2")
    assert [p.name for p in tmp_path.rglob("*")] == ["drawn", "a"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with files.replacing_folder(tmp_path / "link") as scratch:
        (scratch / "c").write_text("3")
    assert (tmp_path / "empty" / "c").read_text() == "3"


def test_a_home_folder_of_nobody_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.expanded("~/a") == tmp_path / "a"
    assert files.expanded("a/~b") == pathlib.Path("a/~b")
    with pytest.raises(ConfigError) as caught:
        files.expanded("~nosuchuser/a")
    assert "~nosuchuser is nobody's home folder" in one_line(caught)
    monkeypatch.setenv("FPCLASS_CACHE", "~nosuchuser/cache")
    with pytest.raises(ConfigError):
        files.cache_dir()


def test_json_that_is_no_file_or_nested_without_end_is_one_line(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    started = time.monotonic()
    for name in ("pipe.json", "deep.json"):
        with pytest.raises(RunError) as caught:
            files.read_json(tmp_path / name)
        assert one_line(caught).startswith(f"{tmp_path / name}: cannot be read")
    assert time.monotonic() - started < 10

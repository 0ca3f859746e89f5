"""Files are whole or not there, and who cannot write is told in one line."""

from __future__ import annotations

import json
import os
import pathlib
import re

import numpy as np
import pytest
from tiny_disk import fill, tiny_disk

from fpclass import files
from fpclass.errors import FpclassError, RunError


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

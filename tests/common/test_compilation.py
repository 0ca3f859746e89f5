"""Programs are compiled once; what a full disk did to the folder that keeps them is mended."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zlib

import pytest
from tiny_disk import fill, tiny_disk

from fpclass.common import compilation

COMPILER = """
import logging, pathlib, sys
import fpclass.common.compilation as compilation
compilation.keep_programs(pathlib.Path(sys.argv[1]))
import jax, jax.numpy as jnp
from jax._src import monitoring
hits = []
monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
for n in range(1, 6):
    assert float(jax.jit(lambda x: jnp.sin(x * n).sum())(jnp.ones(4))) != 0
print(len(hits), flush=True)
"""


def compile_some(folder: pathlib.Path) -> tuple[int, str]:
    """A process that needs some programs: how many were there, and what it complained of."""
    root = pathlib.Path(compilation.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # importing JAX in this process has set it
    command = [sys.executable, "-c", COMPILER, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == 0, run.stderr
    return int(run.stdout), run.stderr


def test_after_a_full_disk_programs_are_compiled_once_more_and_then_kept(tmp_path: pathlib.Path) -> None:
    with tiny_disk(tmp_path / "disk", size_kib=512) as disk:
        folder = disk / "compiled"
        folder.mkdir()
        filler = fill(disk, leave_kib=8)
        _, said = compile_some(folder)
        assert said == "", "a full disk costs nothing but time"
        sizes = [path.stat().st_size for path in folder.glob("*-cache")]
        assert 0 in sizes, "JAX leaves entries that are empty, else this test shows nothing"
        filler.unlink()
        _, said = compile_some(folder)
        assert said == "", "JAX warns of every entry that it cannot read"
        assert all(not compilation.is_cut_short(path) for path in folder.glob("*-cache"))
        num_programs = len(list(folder.glob("*-cache")))
        assert num_programs >= 5
        assert compile_some(folder) == (num_programs, ""), "all of them are there now"


def entry(folder: pathlib.Path, name: str, data: bytes, used: float = 1_000.0) -> pathlib.Path:
    path = folder / f"{name}-cache"
    path.write_bytes(data)
    os.utime(path, (used, used))
    return path


def packed(num_bytes: int) -> bytes:
    """An entry as JAX packs them, of a size that a full disk may leave."""
    data = os.urandom(num_bytes)
    while len(zlib.compress(data)) % compilation.BLOCK_BYTES:
        data += os.urandom(1)
    return zlib.compress(data)


def test_entries_that_are_cut_short_go_and_whole_ones_stay(tmp_path: pathlib.Path) -> None:
    whole = packed(20_000)
    kept = [entry(tmp_path, "whole", whole), entry(tmp_path, "odd", whole[:10_000])]  # no disk cuts off there
    for size in (0, 4096, len(whole) - 512):
        assert len(whole[:size]) % compilation.BLOCK_BYTES == 0
        entry(tmp_path, f"cut-{size}", whole[:size])
    entry(tmp_path, "zeros", bytes(8192))
    (tmp_path / "folder-cache").mkdir()
    compilation.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["folder-cache", *(path.name for path in kept)])


def test_frames_of_zstd_are_followed_to_their_end(tmp_path: pathlib.Path) -> None:
    """Of two blocks, stored and repeated, with a size and without a checksum; and cut anywhere."""
    stored = (0 | 0 << 1 | 700 << 3).to_bytes(3, "little") + os.urandom(700)
    repeated = (1 | 1 << 1 | 90 << 3).to_bytes(3, "little") + b"a"
    for head in (bytes([0x60, 790 - 256 & 0xFF, 790 - 256 >> 8]), bytes([0x00, 0x58]), bytes([0x04, 0x58])):
        checksum = b"1234" if head[0] & 4 else b""
        whole = compilation.ZSTD + head + stored + repeated + checksum
        assert not compilation.is_cut_short(entry(tmp_path, "zstd", whole))
        for size in (4, 5, 9, 400, 712, len(whole) - 1):
            assert compilation.is_cut_short(entry(tmp_path, "zstd", whole[:size])), size


def test_the_folder_does_not_grow_without_end(tmp_path: pathlib.Path) -> None:
    for i in range(10):
        entry(tmp_path, f"{i}", zlib.compress(os.urandom(1001)), used=1_000 + (i * 7) % 10)
    compilation.tidy(tmp_path, limit_bytes=10_300)
    assert len(list(tmp_path.iterdir())) == 10
    compilation.tidy(tmp_path, limit_bytes=8_000)
    left = {path.name[0] for path in tmp_path.iterdir()}
    assert left == {str(i) for i in range(10) if (i * 7) % 10 > 4}, "those not used for longest have gone"


def test_only_what_is_new_is_looked_at(tmp_path: pathlib.Path) -> None:
    looks = [compilation._has_changed(tmp_path) for _ in range(3)]
    assert (looks[0], looks[2]) == (True, False)
    entry(tmp_path, "new", b"")
    assert compilation._has_changed(tmp_path)
    assert not compilation._has_changed(tmp_path)


def test_a_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    compilation.keep_programs(tmp_path / "file" / "compiled")
    with pytest.raises(OSError):
        compilation.tidy(tmp_path / "none")

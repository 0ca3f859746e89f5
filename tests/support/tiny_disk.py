"""A disk that is really full, for the tests of what is left behind on one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def tiny_disk(folder: pathlib.Path, size_kib: int) -> Iterator[pathlib.Path]:
    """Mounts a file system in memory of so many KiB on `folder`; skips the test where this is not allowed."""
    if not sys.platform.startswith("linux") or shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("a full disk needs mount and root")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)]
    if (mounted := subprocess.run(command, capture_output=True, text=True)).returncode:
        pytest.skip(f"a full disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: pathlib.Path, leave_kib: int = 0) -> pathlib.Path:
    """Fills the file system that a folder is on with one file, up to so many KiB; returns the file."""
    file = folder / "filler"
    free = os.statvfs(folder)
    file.write_bytes(b"x" * max(0, free.f_bavail * free.f_frsize - 1024 * leave_kib))
    return file

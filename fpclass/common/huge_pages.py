"""Large pages of memory, which a process gets only if it asks for them as it starts."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import sys

MODE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""What Linux gives large pages to: "always [madvise] never", the one in brackets."""
TUNABLE = "glibc.malloc.hugetlb"
"""Of the C library, which reads it when a process starts, and never again: GNU C Library manual, Memory Allocation
Tunables."""
SINCE = (2, 35)
"""Version of the GNU C Library."""


def restart_with_huge_pages() -> None:
    """Starts this process anew, the same command with the same number, if that gets it large pages; or does nothing.

    A training step takes gigabytes from Linux and gives them back, every time anew. In pages of 4 kB that costs up to
    half of its time, in pages of 2 MB next to nothing (benchmarks/backbones.py, docs/performance.md). Who sets
    GLIBC_TUNABLES=glibc.malloc.hugetlb=0 keeps small ones.
    """
    with contextlib.suppress(
        OSError, ValueError, AttributeError
    ):  # what is not there gives no large pages; all goes on without
        wanted = _tunables(os.environ.get("GLIBC_TUNABLES", ""), os.confstr("CS_GNU_LIBC_VERSION"), MODE.read_text())
        if wanted and sys.executable:
            environment = {**os.environ, "GLIBC_TUNABLES": wanted}
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _tunables(now: str, libc: str | None, mode: str) -> str | None:
    """The setting that gets large pages; None where it is there, of no use, or decided by the user.

    Args:
      now: GLIBC_TUNABLES, "name=value:name=value"; libc: "glibc 2.36"; mode: what `MODE` says.
    """
    version = re.fullmatch(r"glibc (\d+)\.(\d+).*", libc or "")
    if not version or tuple(map(int, version.groups())) < SINCE or "[madvise]" not in mode or TUNABLE in now:
        return None
    return ":".join(filter(None, (now, f"{TUNABLE}=1")))

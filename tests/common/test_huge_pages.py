"""Large pages: who gets them, and that the process that is started anew is the same command."""

import json
import os
import subprocess
import sys

import pytest

from fpclass import cli
from fpclass.common import huge_pages
from fpclass.common.huge_pages import MODE, restart_with_huge_pages

ASKED = "always [madvise] never\n"


@pytest.mark.parametrize(
    ("now", "libc", "mode", "expected"),
    [
        ("", "glibc 2.36", ASKED, "glibc.malloc.hugetlb=1"),
        ("glibc.rtld.nns=4", "glibc 2.35", ASKED, "glibc.rtld.nns=4:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc 2.36", ASKED, None),
        ("glibc.malloc.hugetlb=1", "glibc 2.36", ASKED, None),
        ("", "glibc 2.31", ASKED, None),
        ("", None, ASKED, None),
        ("", "musl 1.2", ASKED, None),
        ("", "glibc 2.36", "[always] madvise never\n", None),
        ("", "glibc 2.36", "always madvise [never]\n", None),
    ],
)
def test_who_gets_large_pages(now, libc, mode, expected):
    assert huge_pages._tunables(now, libc, mode) == expected


@pytest.mark.skipif(not MODE.exists() or "[madvise]" not in MODE.read_text(), reason="Linux gives none who asks")
def test_the_same_command_with_the_same_number_starts_anew():
    code = (
        "import json, os, sys; print(os.getpid())\n"
        "from fpclass.common.huge_pages import restart_with_huge_pages\n"
        "sys.stdout.flush(); restart_with_huge_pages()\n"
        "print(json.dumps([sys.argv[1:], sys.warnoptions, os.environ['GLIBC_TUNABLES']]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-W", "error", "-c", code, "a b", "--flag=ä"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    first, second, rest = done.stdout.splitlines()
    assert first == second
    arguments, warnings, tunables = json.loads(rest)
    assert (arguments, warnings[0]) == (["a b", "--flag=ä"], "error")
    assert tunables == "glibc.malloc.hugetlb=1"


def test_nothing_happens_where_there_are_none(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("started anew"))
    monkeypatch.setattr(huge_pages, "MODE", tmp_path / "not there")
    restart_with_huge_pages()
    monkeypatch.setattr(huge_pages, "MODE", tmp_path / "mode")
    huge_pages.MODE.write_text(ASKED)
    monkeypatch.delattr(os, "confstr", raising=False)
    restart_with_huge_pages()


def test_commands_ask_for_them(monkeypatch):
    monkeypatch.setattr(cli, "restart_with_huge_pages", lambda: (_ for _ in ()).throw(BlockingIOError("asked")))
    with pytest.raises(BlockingIOError, match="asked"):
        cli.start()

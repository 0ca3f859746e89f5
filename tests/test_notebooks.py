"""The notebooks, executed from their first cell to their last in a kernel of their own, on few drawn images."""

from __future__ import annotations

import os
import pathlib
import tomllib
from collections.abc import Iterator

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from pictures import draw_picture
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Twenty-four pictures of each of two classes, which differ in their brightness."""
    root = tmp_path_factory.mktemp("attached") / "photos"
    for k, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(24):
            picture = draw_picture(100 * k + i, (48, 48)).point(lambda x, k=k: x // 2 + 90 * k)
            picture.save(root / name / f"{name}{i:02d}.png")
    return root


@pytest.fixture
def kernel(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """An empty folder in which notebooks run, without a network, for few epochs."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    for name, value in {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)), "FPCLASS_OFFLINE": "1", "EPOCHS": "2", "IMAGES": "",
        "ATTACHED": str(tmp_path / "nothing"), "FPCLASS_CACHE": str(tmp_path / "cache"), "IPYTHONDIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"), "JUPYTER_PLATFORM_DIRS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return tmp_path


def run_all(name: str, folder: pathlib.Path) -> str:
    """Every output of a notebook that was run in a folder, as text."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "\n".join(str(output.get("text") or output.get("data")) for output in outputs)


@pytest.mark.promise
def test_quickstart_draws_footprints_where_nothing_is_attached(kernel: pathlib.Path) -> None:
    said = run_all("quickstart", kernel)
    assert "SYNTHETIC" in said
    assert "accuracy   0." in said
    assert "probability" not in said
    assert (kernel / "submission.csv").read_bytes() == (kernel / "runs/quickstart/submission.csv").read_bytes()


@pytest.mark.promise
def test_own_images_takes_what_is_attached(
    kernel: pathlib.Path, photos: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTACHED", str(photos.parent))
    monkeypatch.setenv("MODEL", "blocks")
    said = run_all("own_images", kernel)
    assert "2 classes (cat 24, dog 24)" in said
    assert "probability_cat" in said
    assert np.asarray(Image.open(next((kernel / "runs/own_images/figures").glob("grad_cam*.png")))).ndim == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean_and_their_badges_point_here(path: pathlib.Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    place = f"{repository.removeprefix('https://github.com')}/blob/main/notebooks/{path.name}"
    assert f"https://colab.research.google.com/github{place})" in notebook.cells[0].source
    assert f"?src={repository}/blob/main/notebooks/{path.name})" in notebook.cells[0].source
    assert f'"git+{repository}"' in code[0].source

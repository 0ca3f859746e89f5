"""The code of docs/python.md does what it says, word for word, on drawn images."""

from __future__ import annotations

import pathlib
import re
import shutil

import pytest
from conftest import SMALLEST

import fpclass
import fpclass.api.training

ROOT = pathlib.Path(__file__).parents[2]
BLOCKS = dict(
    re.findall(r"(?:^|\n)#+ ([^\n]*)\n+```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), flags=re.DOTALL)
)
THREE_LINES = BLOCKS["From Python"]


@pytest.fixture
def names(photos, tmp_path, monkeypatch):
    """What the page takes to be there: `photos`, `cat.jpg`, paths, labels and people. Trainings are made small."""
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(photos / "cat/cat000.jpeg", tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    small = SMALLEST | {"explain.num_images": 1}
    overrides_for = fpclass.api.training.overrides_for
    smaller = fpclass.api.training.as_overrides(small)
    monkeypatch.setattr("fpclass.api.training.overrides_for", lambda *a, **k: overrides_for(*a, **k) + smaller)
    paths = sorted((tmp_path / "photos").rglob("*.jpeg"))
    labels = [path.parent.name for path in paths]
    return {"paths": paths, "labels": labels, "people": [f"{k // 2}" for k in range(len(paths))]}


@pytest.mark.slow
def test_every_block_of_the_page_runs(names, study, blobs, tmp_path):
    for title in ("From Python", "What came out", "Predicting", "Why", "scikit-learn", "Training"):
        exec(BLOCKS[title], names)
    assert names["one"].label in ("cat", "dog")
    assert len(names["table"]) == 28
    assert pathlib.Path("runs/photos/scores.json").is_file()
    assert names["run"].folder == pathlib.Path("runs/small")
    (tmp_path / "new").symlink_to(blobs / "processed")
    text = re.sub(r"^study = .*$", f"study = fpclass.load({str(study)!r})", BLOCKS["Studies"], flags=re.MULTILINE)
    assert text != BLOCKS["Studies"]
    exec(text, names)


def test_the_three_lines_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert THREE_LINES in readme
    assert readme.index(THREE_LINES) < readme.index("\n## Your data")
    assert set(BLOCKS) == {"From Python", "Training", "What came out", "Predicting", "Why", "Studies", "scikit-learn"}


def test_keys_and_files_of_the_page_are_there(photos, blobs, tmp_path, monkeypatch):
    """Trainings and studies of the page are planned as they stand there, and not trained."""
    planned = []
    monkeypatch.setattr("fpclass.api.training.train_run", lambda config, folder, **_: planned.append((config, folder)))
    monkeypatch.setattr("fpclass.api.training.run_study", lambda plan, **_: planned.append(plan))
    monkeypatch.setattr("fpclass.api.training._go_on_after", lambda _: None)
    monkeypatch.setattr("fpclass.api.training.TrainedRun", lambda run: run)
    monkeypatch.setattr("fpclass.api.training.Run", _Opened)
    monkeypatch.setattr("fpclass.api.training.Study", _Opened)
    monkeypatch.setattr("fpclass.api.training.TrainedStudy", lambda study: study)
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "DIR").symlink_to(blobs)
    monkeypatch.chdir(tmp_path)
    for text in (BLOCKS["Training"], BLOCKS["Studies"].splitlines()[0]):
        exec(text, {"fpclass": fpclass})
    (config, folder), plan = planned
    assert (config.data.image_size, config.train.num_epochs, config.optim.learning_rate) == ((64, 64), 10, 1e-3)
    assert folder == pathlib.Path("runs/small")
    assert (plan.num_folds, plan.num_seeds, list(plan.configs)) == (5, 3, ["baseline", "exp20_gap_head"])


class _Opened:
    @staticmethod
    def open(folder):
        return folder

"""check-maps and features on whole runs and studies: what they write, and what they say where they cannot."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fpclass import cli
from fpclass.errors import DataError
from fpclass.run.checks.map_checks import draw_rows
from fpclass.run.checks.masks import masks_of
from fpclass.run.folder import Run
from fpclass.run.prepare import prepare_again


@pytest.mark.promise
def test_maps_of_a_run_are_checked(photo_run, tmp_path, capsys):
    folder = shutil.copytree(photo_run, tmp_path / "run")
    assert cli.main(["check-maps", str(folder), "--method", "grad_cam", "occlusion", "--num=8"]) == 0
    said = capsys.readouterr().out
    found = json.loads((folder / "map_checks.json").read_text())
    titles = [next(iter(found["methods"])), "Occlusion", "edges of the picture (no network)"]
    assert titles[0].startswith("Grad-CAM of ")
    assert list(found["methods"]) == titles
    assert all(sentence in said for sentence in found["report"]["sentences"])
    assert (folder / found["report"]["figures"][0]).is_file()
    steps = found["methods"][titles[0]]["randomised"]
    assert len(steps) > 1
    assert steps[-1]["correlation"]["value"] < 0.9


@pytest.mark.promise
def test_features_of_a_run_are_shown(photo_run, tmp_path, capsys):
    folder = shutil.copytree(photo_run, tmp_path / "run")
    assert cli.main(["features", str(folder), "--num=2"]) == 0
    found = json.loads((folder / "features.json").read_text())
    assert len(found["nearest"]) == 4
    assert all(len(image["nearest"]) == 5 for image in found["nearest"])
    assert all((folder / name).is_file() for name in found["report"]["figures"])
    assert "figures/filters.png" in found["report"]["figures"]


@pytest.mark.promise
def test_configs_of_a_study_are_compared(study, tmp_path, capsys):
    folder = shutil.copytree(study, tmp_path / "study")
    assert cli.main(["check-maps", str(folder), "--method", "grad_cam", "--num=10"]) == 0
    checked = json.loads((folder / "map_checks.json").read_text())
    compared = json.loads((folder / "map_agreement.json").read_text())
    assert checked["num_images"] == compared["num_images"] == 10
    assert len(compared["within"]) == 2
    ((pair),) = compared["pairs"]
    assert -1 <= pair["correlation"]["value"] <= 1
    assert (folder / "figures/map_agreement.png").is_file()


def test_masks_of_a_persons_own_are_found_by_name_and_resized(photo_run, photos, tmp_path):
    run = Run.open(photo_run)
    prepared = prepare_again(run)
    rows = prepared.splits.rows("validation")[:2]
    names = prepared.table.rows["filename"].iloc[rows].tolist()
    for name in names:
        with Image.open(photos / name) as picture:
            mask = np.zeros(picture.size[::-1], np.uint8)
        mask[: len(mask) // 2] = 255
        path = (tmp_path / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    found = masks_of(run.config, prepared, rows, prepared.images[rows], tmp_path)["object"]
    assert found.shape == (2, 24, 20)
    assert found[:, :11].all()
    assert not found[:, 13:].any()
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"{path.name} cannot be read"):
        masks_of(run.config, prepared, rows, prepared.images[rows], tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=f"no mask .*{path.name}; every image"):
        masks_of(run.config, prepared, rows, prepared.images[rows], tmp_path)


def test_what_cannot_be_checked_is_told_in_one_line(photo_run, tmp_path, capsys):
    """A stage that does not exist, too few validation images."""
    folder = shutil.copytree(photo_run, tmp_path / "run")
    assert cli.main(["check-maps", str(folder), "--config.explain.stage=nowhere"]) == 2
    assert "explain.stage is 'nowhere': the model's stages are" in capsys.readouterr().err
    with pytest.raises(DataError, match="3 validation images: maps are checked on at least 5; train with more"):
        draw_rows([0, 1, 2], 50, "validation images")

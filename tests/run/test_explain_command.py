"""explain: sheets by any method, of any images, about any target; what is wrong is said in a line."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
from archives import arrays_of
from PIL import Image

import fpclass
from fpclass import cli
from fpclass.common.flags import split_keys
from fpclass.errors import ConfigError
from fpclass.explain.methods import METHODS
from fpclass.explain.request import TARGETS, WHICH, Request, classes_of
from fpclass.run.sheets.chosen import ranked

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(photo_run: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the run on drawn photographs."""
    return pathlib.Path(shutil.copytree(photo_run, tmp_path / "run"))


def test_sheets_of_ranked_named_and_new_images(folder, photos, tmp_path, capsys):
    explain = ["explain", f"--workdir={folder}", "--stage=block1"]
    assert cli.main([*explain, "--method=hires_cam", "--which=best", "--num=2", "--target=cat,dog"]) == 0
    frame = fpclass.load(folder).predictions
    validation = frame.loc[frame["split"] == "validation"]
    logits = validation[["logit_cat", "logit_dog"]].to_numpy()
    losses = np.logaddexp(*logits.T) - logits[np.arange(len(logits)), validation["label"]]
    best = arrays_of(folder / "hires_cam_best_cat-dog.npz")
    assert best["filename"].tolist() == validation["filename"].iloc[np.argsort(losses)[:2]].tolist()
    assert (str(best["stage"]), best["raw"].shape) == ("block1", (2, 12, 10))
    new = tmp_path / "new.png"
    Image.new("LA", (33, 77), 90).save(new)  # of another size and mode
    known = sorted(validation["filename"])[0]
    assert cli.main([*explain, "--method=occlusion", "--which", known, str(new), "--scale=shared"]) == 0
    files = arrays_of(folder / "occlusion_files.npz")
    assert (files["label"].tolist()[1], files["raw"].shape) == (-1, (2, 24, 20))
    found = json.loads((folder / "explain.json").read_text())
    assert list(found["sheets"]) == ["hires_cam_best_cat-dog", "occlusion_files"]
    assert "1 of no known class" in found["report"]["sentences"][-1]
    assert found["report"]["figures"] == ["figures/hires_cam_best_cat-dog.png", "figures/occlusion_files.png"]
    assert all((folder / name).is_file() for name in found["report"]["figures"])
    one = fpclass.load(folder).explain(str(new), method="occlusion", target="dog")
    assert one.png.startswith(b"\x89PNG")
    assert (one.about, one.raw.shape, one.heat.shape) == ("dog", (24, 20), (24, 20))
    capsys.readouterr()
    for flags, said in {
        ("--target=horse",): "--target=horse: expected a class (cat, dog), two with a comma between them, or predicted",
        ("--stage=conv9",): "explain.stage is 'conv9': the model's stages are ",
        ("--which", "nothere.png"): "nothere.png: no such file, and the data of ",
        ("--which", str(folder / "config.json")): "config.json: ",
        ("--which", str(new), "--target=loss"): f"--target=loss: nobody knows the class of {new}",
    }.items():
        assert cli.main(["explain", f"--workdir={folder}", *flags]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert said in error


NEEDED = {
    "config.json": ((), "", "train again into a new --workdir"),
    "environment.json": ((), None, "delete it: the next command begins it anew"),
    "metrics.json": ((), None, "evaluate {folder}` makes it anew"),
    "predictions.csv": ((), None, "evaluate {folder}` makes it anew"),
    "model.json": (("--which", "{new}"), "", "the command of the training, given once more, makes it anew"),
    "splits.csv": (("--which", "{new}"), None, "the command of the training, given once more, makes it anew"),
    "table.csv": (("--which", "{new}"), None, "the command of the training, given once more, makes it anew"),
}
"""Files that explain reads: of which images, whether it needs them (None: it does without), what to do about them."""


@pytest.mark.parametrize("content", [None, '{"torn'])
@pytest.mark.parametrize("name", NEEDED)
def test_a_file_that_is_missing_or_torn_is_named_with_what_to_do(name, content, folder, photos, capsys):
    flags, needed, advice = NEEDED[name]
    (folder / name).unlink()
    if content:
        (folder / name).write_text(content)
    new = next(photos.glob("cat/*"))
    status = cli.main(
        ["explain", str(folder), "--num=1", "--method=hires_cam", *(flag.format(new=new) for flag in flags)]
    )
    error = capsys.readouterr().err
    if content is None and needed is None:
        assert status == 0
        return
    assert (status, error.count("\n")) == (2, 1)
    assert name in error
    if content:
        assert advice.format(folder=folder) in error
    assert cli.main(["report", str(folder)]) == 0, "the page comes out all the same"
    page = (folder / "report.html").read_text()
    assert f"Missing here: {name}" in page or name in ("predictions.csv", "table.csv") or content is None


def test_data_are_looked_for_where_the_training_was_started(photos, photo_run, tmp_path, monkeypatch, capsys):
    """A run called as its images are, asked from the folder of runs: they are not taken for each other."""
    run = pathlib.Path(shutil.copytree(photo_run, tmp_path / "runs" / "photos"))
    config = json.loads((run / "config.json").read_text())
    config["config"]["data"]["root"] = photos.name
    (run / "config.json").write_text(json.dumps(config))
    environment = json.loads((run / "environment.json").read_text())
    assert environment["started_in"] == str(pathlib.Path.cwd())
    monkeypatch.chdir(run.parent)
    explain = ["explain", "photos", "--num=1", "--method=hires_cam"]
    assert cli.main(explain) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "data.root is photos, which from here is no data set but a run or study folder: start this in" in error
    (run / "environment.json").write_text(json.dumps(environment | {"started_in": str(photos.parent)}))
    assert cli.main(explain) == 0
    assert cli.main([*explain, f"--config.data.root={photos}"]) == 0
    assert json.loads((run / "config.json").read_text()) == config, "it stays as it was given"


def test_images_are_ranked_by_what_their_names_say():
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    losses = np.array([0.1, 0.7, 1.6])
    first = {which: ranked(which, losses, probabilities, 1, 0).tolist() for which in WHICH}
    assert (first["worst"], first["best"], first["most_uncertain"]) == ([2], [0], [1])
    assert sorted(ranked("random", losses, probabilities, 9, 0)) == [0, 1, 2]


def test_a_class_is_named_as_figures_or_as_the_source_call_it():
    named = (("cat", "dog, large"), ("0", "1"))
    assert [classes_of(name, *named) for name in ("cat", "1", "1,cat", "dog, large", "loss")] == [
        (0,), (1,), (1, 0), (1,), (),
    ]  # fmt: skip


def test_the_page_has_every_method_choice_and_command():
    for name in (*METHODS, *WHICH, *TARGETS):
        assert f"`{name}`" in PAGE
    commands = re.findall(r"^fpclass (explain .+?) +#", PAGE, flags=re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        args, _ = cli.make_parser().parse_known_args(split_keys(shlex.split(command))[0])
        request = Request.of(args.which, args.method, args.target, args.scale, args.baseline)
        assert request.of_method


def test_a_choice_of_images_that_is_misspelt_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--which=wrost: no such file, did you mean worst\? One of worst, best"):
        Request.of(["wrost"], "grad_cam", "predicted", "own", "mean")
    assert Request.of(["img_0003"], "grad_cam", "predicted", "own", "mean").files == ("img_0003",)
    (tmp_path / "wrost").touch()
    assert Request.of(["wrost"], "grad_cam", "predicted", "own", "mean").files == ("wrost",)

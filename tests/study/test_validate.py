"""What a referee asks of a study and of a run: another data set, frozen; subgroups; clustered tests; the checklist."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import draw_blobs
from PIL import Image
from test_study import fails

from fpclass import cli

COLUMNS = [f"--config.data.{key}" for key in ("filename_column=file", "label_column=kind", "group_column=subject")]


@pytest.fixture(scope="module")
def run(study, tmp_path_factory):
    """One of its members, evaluated; read only."""
    folder = tmp_path_factory.mktemp("members") / "member"
    shutil.copytree(study / "members/baseline/fold-0-seed-0", folder)
    assert cli.main(["evaluate", f"--workdir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory, blobs) -> pathlib.Path:
    """20 labelled images of 10 people, one named as in training, with other columns; and two people of training.

    One has an image of training, the other one that was made larger and saved again; both have a second image.
    """
    folder = tmp_path_factory.mktemp("other")
    draw_blobs(folder / "drawn", 10, 2, (50, 36))
    (folder / "images").mkdir()
    lines = ["file,subject,kind,device"]
    for i, line in enumerate((folder / "drawn/all_labels.csv").read_text().splitlines()[1:]):
        name, person, label = line.split(",")
        shutil.copy(folder / "drawn/processed/processed" / f"{name}.png", folder / "images" / f"o{i}.png")
        subject = person if person == "1003" else f"s{person}"
        lines.append(f"o{i}.png,{subject},{label.removesuffix('.0')},{'AB'[i % 2]}")
    shutil.rmtree(folder / "drawn")
    shutil.copy(blobs / "processed/processed/img_0000.png", folder / "images/seen.png")
    Image.fromarray(np.full((50, 36), 255, np.uint8)).save(folder / "images/same_person.png")
    Image.open(blobs / "processed/processed/img_0006.png").resize((60, 90)).save(folder / "images/again.jpg")
    Image.fromarray(np.full((50, 36), 0, np.uint8)).save(folder / "images/with_again.png")
    (folder / "images/broken.png").write_bytes(b"no image")
    lines += ["seen.png,sx,0,A", "same_person.png,sx,0,A", "broken.png,sy,1,A"]
    lines += ["again.jpg,sz,1,A", "with_again.png,sz,1,B"]
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder


def validate(folder: pathlib.Path, other: pathlib.Path, *more: str) -> list[str]:
    return ["validate", f"--data.root={other}", f"--workdir={folder}", *COLUMNS, *more]


@pytest.mark.promise
@pytest.mark.figures
def test_a_study_is_validated_as_it_predicts(study, other, tmp_path, capsys):
    """The same probabilities as `predict` gives; nothing of the study changes; whom it has seen is left out."""
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    is_free = (".lock", "checklist.md", "methods.md", "report.html")  # which say what was found
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in is_free}
    assert cli.main(validate(folder, other, "--name=b", "--config.evaluate.subgroups=('device','image_size')")) == 0
    out = capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
    place = folder / "validation/b"
    found = json.loads((place / "metrics.json").read_text())
    assert found["flow"] == {
        "listed": 27,
        "in quarantine": 1,
        "without a label": 2,
        "of the folder's own images or people": 4,
        "analysed": 20,
    }
    frame = pd.read_csv(place / "predictions.csv")
    assert frame["filename"].tolist() == [f"o{i}.png" for i in range(20)]
    images = [str(other / "images" / name) for name in frame["filename"]]
    assert cli.main(["predict", *images, f"--workdir={folder}", f"--output={tmp_path / 'out.csv'}"]) == 0
    predicted = pd.read_csv(tmp_path / "out.csv")
    columns = ["probability_0", "probability_1"]
    np.testing.assert_allclose(frame[columns], predicted[columns], atol=1e-5)
    accuracy = (frame["predicted"] == frame["label"]).mean()
    assert found["ensemble"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert found["num_groups"] == 10
    results = json.loads((folder / "results.json").read_text())
    assert found["internal"]["accuracy"] == results["ensemble"]["scores"]["accuracy"]
    assert found["decisions"]["conformal"]["quantiles"] == results["decisions"]["conformal"]["quantiles"]
    levels = found["subgroups"]["columns"]["device"]["levels"]
    assert [level["num_images"] for level in levels] == [10, 10]
    assert levels[0]["coverage"] is not None
    for words in (
        "1 people (2 images) have the name", "--new-people",
        "calibration, frozen", "inside (out of fold) and outside", "subgroups by device",
    ):  # fmt: skip
        assert words in out
    text = (place / "validation.md").read_text()
    for name in ("confusion_matrix", "roc", "reliability", "subgroups"):
        assert (place / f"figures/{name}.png").stat().st_size > 5000
        assert f"(figures/{name}.png)" in text


def test_copies_of_training_images_are_left_out_and_shown(study, other, tmp_path, capsys):
    """The same pixels, and nearly the same picture; scores without them stand beside those with them."""
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    assert cli.main(validate(folder, other, "--name=b")) == 0
    out = capsys.readouterr().out
    place = folder / "validation/b"
    found = json.loads((place / "metrics.json").read_text())
    assert {key: found["copies"][key] for key in ("identical", "near", "left_out")} == {
        "identical": 1,
        "near": 1,
        "left_out": 4,
    }
    copies = pd.read_csv(place / "copies.csv").to_dict("records")
    assert copies == [
        {"filename": "seen.png", "copy_of": "img_0000", "kind": "identical"},
        {"filename": "again.jpg", "copy_of": "img_0006", "kind": "nearly the same"},
    ]
    left_out = [str(other / "images" / n) for n in ("seen.png", "same_person.png", "again.jpg", "with_again.png")]
    assert cli.main(["predict", *left_out, f"--workdir={folder}", f"--output={tmp_path / 'out.csv'}"]) == 0
    of_copies = pd.read_csv(tmp_path / "out.csv")["probability_1"].to_numpy() > 0.5
    num_right = (of_copies == [False, False, True, True]).sum() + 20 * found["ensemble"]["accuracy"]["value"]
    assert found["copies"]["with_them"]["accuracy"]["value"] == pytest.approx(num_right / 24)
    for words in ("LEAK: 2 images are those of", "with all 4 images", "without them", "with them (copies.csv)"):
        assert words in out
    assert "LEAK: 2 images" in (place / "validation.md").read_text()
    page = (folder / "checklist.md").read_text()
    assert "no external validation" not in page
    for item in ("| 16 | how evaluation data differ from development | b: ", "external validation: b", "inside "):
        assert item in page


def test_a_run_is_validated_without_people_of_known_names(study, run, other, tmp_path, capsys):
    folder = pathlib.Path(shutil.copytree(run, tmp_path / "run"))
    assert cli.main(validate(folder, other, "--new-people")) == 0
    found = json.loads((folder / "validation" / other.name / "metrics.json").read_text())
    assert (found["flow"]["of people named as in training"], found["flow"]["analysed"]) == (2, 18)
    assert found["copies"]["near"] == 1
    assert "external validation: other" in (folder / "checklist.md").read_text()
    assert found["internal"]["of"] == "validation images"
    assert found["decisions"]["conformal"] == {}, "a run has no sets"
    assert "left out" in capsys.readouterr().out
    shutil.copy(study / "table.csv", folder)  # which a member alone lacks
    path, gone = folder / "config.json", json.loads((folder / "config.json").read_text())
    gone["config"]["data"]["root"] = str(tmp_path / "gone")
    path.write_text(json.dumps(gone))
    assert cli.main(validate(folder, other, "--name=c")) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "near copies are not looked for" in line)
    assert str(tmp_path / "gone") in line
    found = json.loads((folder / "validation/c/metrics.json").read_text())
    assert (found["copies"]["identical"], found["copies"]["near"], found["flow"]["analysed"]) == (1, 0, 22)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--config.data.label_column=device"], "has the classes A, B; "),
        (["--config.data.label_column=nothing"], "no column 'nothing'"),
        (["--config.data.image_size=(9,9)"], "--config.data.image_size cannot change"),
        (["--config.model.dropout_rate=0.3"], "cannot change after training"),
        (["--config.evaluate.subgroups=('hand',)"], "no column 'hand' (evaluate.subgroups)"),
        (["--config.data.rot=x"], "config.data.rot: no such key"),
    ],
)
def test_what_does_not_fit_is_one_line(study, other, capsys, more, said):
    fails(capsys, validate(study, other, *more), said)


def test_nothing_left_nowhere_to_look(study, blobs, capsys):
    fails(capsys, ["validate", f"--workdir={study}"], "give the other data set")
    fails(capsys, ["validate", f"--data.root={blobs}", f"--workdir={study}"], "no image is left to validate on")
    fails(capsys, ["validate", f"--data.root={blobs}/gone", f"--workdir={study}"], "no folder")


SUBGROUPS = "--config.evaluate.subgroups=('SEX','ID','filename','image_size')"


@pytest.mark.promise
@pytest.mark.figures
def test_a_study_is_judged_by_subgroups(study, tmp_path, capsys):
    """Also of columns that the study was not begun with, and what stands where there are no levels."""
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    assert cli.main(["evaluate", f"--workdir={folder}", SUBGROUPS]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("subgroups by ID (numbers, cut into 4 bands", "a level per image of 32 images", "have '2400'"):
        assert words in out
    report = json.loads((folder / "results.json").read_text())["subgroups"]
    ensemble = json.loads((folder / "results.json").read_text())["ensemble"]["scores"]
    levels = report["columns"]["SEX"]["levels"]
    assert [level["name"] for level in levels] == ["0.0", "1.0"]
    for level, recall in zip(levels, ensemble["per_class"].values(), strict=True):
        assert level["score"]["value"] == pytest.approx(recall["recall"]["value"])
        assert level["num_images"] == recall["support"] == 16
        assert level["coverage"]["value"] is not None
    frame = pd.read_csv(folder / "subgroups.csv")
    assert frame.loc[frame["column"] == "SEX", "num_people"].tolist() == [8, 8]
    text = (folder / "study.md").read_text()
    assert "## Subgroups" in text
    assert "(figures/subgroups.png)" in text
    assert (folder / "figures/subgroups.png").stat().st_size > 5000
    assert "subgroups by SEX" in (folder / "checklist.md").read_text()
    fails(capsys, ["evaluate", f"--workdir={folder}", "--config.evaluate.subgroups=('hand',)"], "no column 'hand'")


def test_a_run_is_judged_by_subgroups(run, blobs, tmp_path, capsys):
    folder = pathlib.Path(shutil.copytree(run, tmp_path / "run"))
    assert cli.main(["evaluate", f"--workdir={folder}", SUBGROUPS]) == 0
    assert "subgroups by SEX (2 levels)" in capsys.readouterr().out
    metrics = json.loads((folder / "metrics.json").read_text())["validation"]
    levels = metrics["subgroups"]["columns"]["SEX"]["levels"]
    assert [level["score"]["value"] for level in levels] == [
        pytest.approx(of["recall"]["value"]) for of in metrics["per_class"].values()
    ]
    assert levels[0]["coverage"] is None, "a run has no sets"
    shutil.copytree(blobs / "processed/processed", tmp_path / "folder" / "0")
    shutil.copytree(blobs / "processed/processed", tmp_path / "folder" / "1")
    source = [f"--config.data.root={tmp_path / 'folder'}", "--config.data.source=folder", f"--workdir={tmp_path / 'r'}"]
    flags = ["train", "--config=configs/base.py", "--until=ingest", *source]
    fails(capsys, [*flags, "--config.evaluate.subgroups=('hand',)"], "names 'hand'", "has no columns", "image_size")
    for wrong in ("('a','a')", "(' a',)", "('',)", "(3,)"):
        fails(capsys, [*flags, f"--config.evaluate.subgroups={wrong}"], "evaluate.subgroups is")


def test_tests_by_name_and_the_checklist(study):
    frame = pd.read_csv(study / "study.csv").set_index("config")
    found = json.loads((study / "results.json").read_text())["clustered_tests"]
    (name,) = found
    assert frame.loc[name, "p_mcnemar_clustered"] == pytest.approx(found[name]["mcnemar_clustered"]["p_value"])
    assert frame.loc[name, "p_auc_clustered"] == pytest.approx(found[name]["delong_clustered"]["p_value"])
    assert frame.loc["baseline"].filter(like="clustered").isna().all()
    predictions = pd.read_csv(study / "out_of_fold.csv")
    odds = predictions.assign(p=1 / (1 + np.exp(predictions["logit_0"] - predictions["logit_1"])))
    mean = odds.groupby(["config", "filename"])[["p", "label"]].mean()
    right = (mean["p"] > 0.5) == (mean["label"] == 1)
    difference = right[name].mean() - right["baseline"].mean()
    assert found[name]["mcnemar"]["difference"] == pytest.approx(difference)
    text = (study / "checklist.md").read_text()
    assert "images listed 38 → in quarantine 0 → without a label 6 → with a label 32" in text
    assert "analysed 32 images of 16 people" in text
    for item in ("| 12a | ", "| 20a | ", "| 23a | ", "| 27c | ", "| 10b | ", "| 24 | "):
        assert item in text
    assert "| 17 | ethical approval | MISSING: only the authors know |" in text
    assert "3 folds x 2 seeds" in text
    assert "no external validation" in text

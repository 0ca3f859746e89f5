"""A study on the split that a data set brings, by seeds, and its labelled test images: the vehicles recipe in small."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import types

import jax
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score, log_loss, precision_score

from fpclass import cli
from fpclass.errors import ConfigError
from fpclass.experiment import load_configs
from fpclass.report import grids
from fpclass.run.best import BestModel
from fpclass.run.folder import Run
from fpclass.stats.evidence.pooling import Pooling
from fpclass.study.metric import metric_of, name_of
from fpclass.study.plan import plan_study
from fpclass.study.study import Study
from fpclass.study.test_set import collect_labelled_test
from fpclass.study.trained.ensemble import ChosenEnsemble

CONFIGS = "configs/vehicles_animals/vehicles_model[12].py"
NAMES = ["vehicles_model1", "vehicles_model2"]
SMALL = [
    "--config.model.conv_features=(4,)",
    "--config.model.dense_features=(4,)",
    "--config.train.num_epochs=2",
    "--config.train.batch_size=16",
    "--config.evaluate.num_resamples=50",
    "--config.data.group_pattern=((?:[a-z]+-[a-z]+|new)[0-9]+)",
    "--config.evaluate.subgroups=('image_size',)",
    "--config.data.merge=(('vehicle',('ship','truck')),('animal',('cat','dog')))",
]
COUNTS = {"train": 10, "validation": 6, "test": 5}
COLOURS = {"cat": (190, 120, 60), "dog": (140, 110, 80), "ship": (80, 90, 190), "truck": (110, 190, 90)}


def draw(folder: pathlib.Path, splits: dict[str, int]) -> pathlib.Path:
    """So many images of each of four classes in the folder of each split, a small and a large one of everybody.

    Two more in test/ have no class.
    """
    rng = np.random.default_rng(0)

    def save(path: pathlib.Path, colour: tuple[int, int, int], side: int = 32) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.normal(rng.normal(colour, 45), 40, (side, side, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)

    for split, count in splits.items():
        for name, colour in COLOURS.items():
            for i in range(count):
                save(folder / split / name / f"{split}-{name}{i // 2}-{i % 2}.png", colour, 32 + 8 * (i % 2))
    save(folder / "test" / "new1.png", COLOURS["cat"])
    save(folder / "test" / "new2.png", COLOURS["ship"])
    return folder


def args(data: pathlib.Path, folder: pathlib.Path, *more: str, configs: str = CONFIGS) -> list[str]:
    flags = ["--configs", configs, "--baseline=vehicles_model1", f"--workdir={folder}"]
    return ["study", *flags, f"--config.data.root={data}", *SMALL, *more]


def fails(capsys, arguments, *said):
    """The command ends with exit code 2 and one line that holds these words."""
    assert cli.main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    for word in said:
        assert word in lines[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> pathlib.Path:
    return draw(tmp_path_factory.mktemp("images"), COUNTS)


@pytest.fixture(scope="module")
def study(images, tmp_path_factory) -> pathlib.Path:
    """The folder of a finished study by two seeds on given splits, through the command of the recipe; read only."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    assert cli.main(args(images, folder, "--seeds=2")) == 0
    return folder


def judged(study: pathlib.Path, name: str, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Probabilities and labels of the images of a split, by each of the members."""
    result = []
    for member in Study.open(study).members(name):
        frame = member.run.read_csv("predictions.csv")
        frame = frame[frame["split"] == split]
        odds = frame.filter(like="logit_").to_numpy(float)
        result.append((np.exp(odds - np.logaddexp(odds[:, :1], odds[:, 1:])), frame["label"].astype(int).to_numpy()))
    return result


@pytest.mark.promise
def test_all_members_validate_on_the_given_images(study):
    assert sorted(path.name for path in (study / "members" / NAMES[0]).iterdir()) == ["seed-0", "seed-1"]
    for member in Study.open(study).members(NAMES[1]):
        splits = member.run.read_csv("splits.csv")
        folder_of = splits["filename"].str.split("/").str[0]
        given = splits["role"].replace({"selection": "train", "predict": "test"})
        assert (folder_of == given).all()
        assert (splits["fold"] == -1).all()
    table = pd.read_csv(study / "validation_predictions.csv")
    assert table.groupby(["config", "seed"]).size().tolist() == [4 * COUNTS["validation"]] * 4
    assert not (study / "out_of_fold.csv").exists(), "there are no folds"


@pytest.mark.promise
def test_the_report_pretends_no_folds(study):
    frame = pd.read_csv(study / "study.csv").set_index("config")
    found = json.loads((study / "results.json").read_text())
    text = (study / "study.md").read_text()
    assert (found["num_folds"], found["num_seeds"]) == (0, 2)
    assert "24 validation images of 12 people, one split x 2 seeds" in text
    assert "one split cannot tell" in text
    assert "Classification reports, validation images" in text
    for words in ("out of fold", "overlapping", "folds x"):
        assert words not in text
    accuracies = [(p.argmax(1) == labels).mean() for p, labels in judged(study, NAMES[1], "validation")]
    assert frame.loc[NAMES[1], "mean"] == pytest.approx(np.mean(accuracies))
    assert frame.loc[NAMES[1], "sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert np.isnan(frame.loc[NAMES[1], "p_folds"])
    assert frame.loc[NAMES[1], "p_adjusted"] >= 0
    assert frame.loc[NAMES[1], "low"] < frame.loc[NAMES[1], "high"]
    assert len(found["choice"]["chosen_per_fold"]) == 5, "parts of the validation images"


@pytest.mark.promise
def test_test_images_are_scored_as_validation_is(study):
    """Mean and deviation over seeds of loss, accuracy, precision and F1: the reference's own table."""
    frame = pd.read_csv(study / "study.csv").set_index("config")
    found = json.loads((study / "results.json").read_text())["test"]
    text = (study / "study.md").read_text()
    for name in NAMES:
        of_seeds = judged(study, name, "test")
        assert len(of_seeds[0][1]) == 4 * COUNTS["test"]
        by_hand = {
            "loss": [log_loss(labels, p) for p, labels in of_seeds],
            "accuracy": [(p.argmax(1) == labels).mean() for p, labels in of_seeds],
            "precision": [precision_score(y, p.argmax(1), average="macro", zero_division=0) for p, y in of_seeds],
            "f1": [f1_score(y, p.argmax(1), average="macro") for p, y in of_seeds],
        }
        for score, values in by_hand.items():
            assert frame.loc[name, f"test_{score}"] == pytest.approx(np.mean(values), abs=1e-6), score
            assert frame.loc[name, f"test_{score}_sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6), score
            low = found["configs"][name][score]["low"]
            assert frame.loc[name, f"test_{score}_low"] == pytest.approx(low, rel=1e-14)  # pandas 2 rounds as it reads
        accuracy = by_hand["accuracy"]
        assert f"{np.mean(accuracy):.3f} ± {np.std(accuracy, ddof=1):.3f} [" in text
    assert (found["num_images"], found["ensemble"]["num_images"]) == (20, 20)
    assert found["chosen"] == json.loads((study / "results.json").read_text())["choice"]["chosen"]
    for title in ("## Test images", "nothing is chosen by them", "Classification reports, test images"):
        assert title in text
    assert "test images, by original class" in text
    assert (study / "original_classes_test.csv").is_file()


@pytest.mark.promise
def test_the_ensemble_is_judged_by_person_and_by_subgroup_on_test_images(study):
    """As it predicts new images, and by the pooling that validation images gave: nothing is fitted to test images."""
    results = json.loads((study / "results.json").read_text())
    found = results["test"]
    there = Study.open(study)
    aside = collect_labelled_test(there, NAMES, ("vehicle", "animal"))
    assert aside is not None
    ensemble = ChosenEnsemble.read(there)
    log_p = ensemble.combine({name: aside.logits[name] for name in ensemble.weights}, there.num_splits)
    whose = np.array([re.search(r"([a-z]+-[a-z]+[0-9]+)-", name)[1] for name in aside.filenames])  # pyright: ignore
    pooling = Pooling.from_json(results["person"]["pooling"], "")
    assert found["person"]["pooling"] == results["person"]["pooling"], "as validation images say"
    right = {}
    for person in np.unique(whose):
        pooled = pooling.of_people(log_p[whose == person], np.zeros(np.sum(whose == person), int))
        right[person] = pooled.argmax() == aside.cohort.labels[whose == person][0]
    assert (found["person"]["num_people"], found["person"]["num_images"]) == (len(right), 20) == (12, 20)
    assert found["person"]["per_person"]["accuracy"]["value"] == pytest.approx(np.mean(list(right.values())))
    per_image = np.mean([right[person] for person in whose])
    assert found["person"]["per_image_pooled"]["accuracy"]["value"] == pytest.approx(per_image)
    assert found["person"]["per_image"]["accuracy"] == found["ensemble"]["accuracy"]
    assert "by_sum" not in found["person"], "its class shares would be those of the test images"

    levels = found["subgroups"]["columns"]["image_size"]["levels"]
    is_large = np.array([name.endswith("-1.png") for name in aside.filenames])
    for level, rows in zip(levels, (~is_large, is_large), strict=True):
        is_right = log_p[rows].argmax(axis=1) == aside.cohort.labels[rows]
        assert (level["num_images"], level["score"]["value"]) == (rows.sum(), pytest.approx(is_right.mean()))
        assert level["coverage"] is not None
    text, said = ((study / name).read_text() for name in ("study.md", "study.txt"))
    for words in (
        "## The person as the unit, test images",
        "## Subgroups, test images",
        "(figures/subgroups_test.png)",
    ):
        assert words in text
    for words in ("test, the person as the unit: accuracy", "test, subgroups by image_size"):
        assert words in " ".join(said.split())
    assert (study / "figures/subgroups_test.png").stat().st_size > 5000
    assert len(pd.read_csv(study / "subgroups_test.csv")) == 2


@pytest.mark.promise
def test_test_images_of_one_class_and_people_who_would_train(study, tmp_path, capsys):
    """What is undefined is a dash, with the class that lacks named; whoever is in both is said to be left out."""
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    for path in folder.glob("members/*/*/predictions.csv"):
        frame = pd.read_csv(path)
        frame[(frame["split"] != "test") | (frame["label"] == 0)].to_csv(path, index=False)
    for path in folder.glob("members/*/*/splits.csv"):
        splits = pd.read_csv(path, keep_default_na=False)
        is_moved = splits["unit"] == "train-ship0"
        splits.loc[is_moved, ["unit", "role"]] = ["test-ship0", "excluded"]
        splits.to_csv(path, index=False)
    assert cli.main(["evaluate", f"--workdir={folder}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "test: no image of animal; what needs every class is undefined" in said
    assert "test: 2 images of the same people, or copies of these images, are left out of training" in said
    found = json.loads((folder / "results.json").read_text())["test"]
    assert (found["num_images"], found["num_left_out"]) == (10, 2)
    assert found["ensemble"]["roc_auc"]["value"] is None
    assert found["person"]["per_person"]["accuracy"]["value"] is not None


@pytest.mark.promise
def test_all_configs_are_shown_side_by_side(study):
    names = ["learning_curves", "predictions"]
    names += [f"{name}{suffix}" for name in ("confusion_matrices", "roc") for suffix in ("", "_test")]
    text = (study / "study.md").read_text()
    for name in names:
        assert (study / "figures" / f"{name}.png").stat().st_size > 5000
        assert f"(figures/{name}.png)" in text
    for member in Study.open(study).members(NAMES[0]):
        events = b"".join(path.read_bytes() for path in member.run.path("tensorboard").iterdir())
        assert b"validation/accuracy" in events
        assert b"train/loss" in events


@pytest.mark.promise
def test_a_second_look_by_the_f1_of_a_class(study, images, tmp_path, capsys, monkeypatch):
    """Also what a terminal shows, and that green is right and red is wrong."""
    shown = {}

    def record(pictures, titles, is_right, title, **options):
        shown.update(titles=titles, is_right=is_right, title=title)
        return draw_grid(pictures, titles, is_right, title, **options)

    draw_grid = grids.prediction_grid
    monkeypatch.setattr(grids, "prediction_grid", record)
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    more = ["--config.study.metric=f1", "--config.evaluate.positive_class=vehicle"]
    assert cli.main(["study", "--resume", f"--workdir={folder}", *more]) == 0
    out = capsys.readouterr().out
    frame = pd.read_csv(folder / "study.csv").set_index("config")
    assert set(frame["metric"]) == {"f1 of vehicle"}
    for name in NAMES:
        values = [f1_score(labels, p.argmax(1), pos_label=0) for p, labels in judged(study, name, "validation")]
        assert frame.loc[name, "mean"] == pytest.approx(np.mean(values))
        of_test = judged(study, name, "test")
        values = [precision_score(labels, p.argmax(1), pos_label=0, zero_division=0) for p, labels in of_test]
        assert frame.loc[name, "test_precision"] == pytest.approx(np.mean(values))
    lines = [" ".join(line.split()) for line in out.splitlines()]
    header = lines.index("test images") + 1
    assert lines[header] == "config loss accuracy precision of vehicle f1 of vehicle roc auc"
    assert lines[header + 2].startswith(f"{NAMES[0]} {frame.loc[NAMES[0], 'test_loss']:.3f} ± ")
    assert "validation images, drawn at random" in shown["title"]
    wrong = [("\nis " in title) for title in shown["titles"]]
    assert [not is_wrong for is_wrong in wrong] == list(shown["is_right"])
    classes = [title.split("\nis ")[-1].split(" ")[0] for title in shown["titles"]]
    assert len(set(classes)) == 2
    assert classes != sorted(classes), "drawn at random, and shown so"
    found = json.loads((folder / "results.json").read_text())["ensemble"]["scores"]
    assert len(wrong) == 24, "all of them"
    assert sum(wrong) == pytest.approx(24 * (1 - found["accuracy"]["value"]))
    fails(
        capsys,
        ["study", "--resume", f"--workdir={folder}", "--config.evaluate.positive_class=boat"],
        "evaluate.positive_class is 'boat'",
        "vehicle, animal",
    )


def test_f1_is_of_one_class(tmp_path):
    (config,) = load_configs(["configs/base.py"], ["--config.study.metric=f1"])
    assert metric_of(config, ("0", "1"), ("man", "woman")) == "f1[1]"
    assert name_of("f1[1]", ("man", "woman")) == "f1 of woman"
    assert name_of("log_loss", ("man", "woman")) == "log_loss"
    with pytest.raises(ConfigError, match=r"there are 3 classes.*evaluate\.positive_class \(a, b, c\)"):
        metric_of(config, ("a", "b", "c"), ("a", "b", "c"))
    (config,) = load_configs(["configs/base.py"], ["--config.study.metric=f1", "--config.evaluate.positive_class=0"])
    assert metric_of(config, ("0", "1"), ("man", "woman")) == "f1[0]", "as the source calls it"


@pytest.mark.promise
def test_a_member_is_what_train_makes_of_its_seed(study, images, tmp_path, capsys):
    """In its weights; and `train` shows test images as it shows those of validation."""
    folder = tmp_path / "alone"
    config = "--config=configs/vehicles_animals/vehicles_model1.py"
    more = ["--config.seed=1", "--config.explain.num_images=1", "--config.evaluate.positive_class=animal"]
    assert cli.main(["train", config, f"--config.data.root={images}", f"--workdir={folder}", *SMALL, *more]) == 0
    out = capsys.readouterr().out
    member = Run.open(study / "members" / NAMES[0] / "seed-1")
    weights, expected = BestModel(Run.open(folder), 2).variables, BestModel(member, 2).variables
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), weights, expected)
    for name in ("classification_report_test.txt", "figures/confusion_matrix_test.png", "figures/roc_test.png"):
        assert (folder / name).is_file(), name
    scores = json.loads((folder / "scores.json").read_text())
    (_, _), (probabilities, labels) = judged(study, NAMES[0], "test")
    predicted = probabilities.argmax(1)
    assert scores["test_loss"] == pytest.approx(log_loss(labels, probabilities), rel=1e-4)
    assert scores["test_accuracy"] == pytest.approx((predicted == labels).mean())
    assert scores["test_f1"] == pytest.approx(f1_score(labels, predicted))
    line = next(line for line in out.splitlines() if line.startswith("  test "))
    assert f"accuracy {scores['test_accuracy']:.3f} [" in line
    assert f"loss {scores['test_loss']:.3f} [" in line
    assert f"f1 of animal {scores['test_f1']:.3f}" in line
    assert "20 images" in out


@pytest.mark.promise
def test_submission_of_all_seeds(study, tmp_path):
    folder = pathlib.Path(shutil.copytree(study, tmp_path / "study"))
    assert cli.main(["submit", "--ensemble", f"--workdir={folder}"]) == 0
    assert pd.read_csv(folder / "submission.csv")["filename"].tolist() == ["test/new1.png", "test/new2.png"]


@pytest.mark.slow
def test_folds_of_the_training_images_beside_a_test_set(tmp_path):
    """Without validation images there are folds, and every member of every fold predicts the test images."""
    data, folder = draw(tmp_path / "data", {"train": 10, "test": 5}), tmp_path / "study"
    assert cli.main(args(data, folder, "--folds=2", configs="configs/vehicles_animals/vehicles_model1.py")) == 0
    frame = pd.read_csv(folder / "study.csv").set_index("config")
    of_folds = judged(folder, NAMES[0], "test")
    accuracies = [(p.argmax(1) == labels).mean() for p, labels in of_folds]
    assert [len(labels) for _, labels in of_folds] == [20, 20]
    assert frame.loc[NAMES[0], "test_accuracy"] == pytest.approx(np.mean(accuracies))
    assert frame.loc[NAMES[0], "test_accuracy_sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert "2 folds x 1 seeds" in (folder / "study.md").read_text()
    assert len(pd.read_csv(folder / "out_of_fold.csv")) == 40


def test_what_one_split_cannot_do(images, tmp_path, capsys):
    fails(capsys, args(images, tmp_path / "a", "--folds=3"), "its own validation images", "leave --folds out")
    fails(capsys, args(images, tmp_path / "b", "--compare-splits"), "this study has one split")
    peeking = "--config.split.selection=validation"
    fails(capsys, args(images, tmp_path / "c", peeking), "chooses on the people that report")
    few = pathlib.Path(shutil.copytree(images, tmp_path / "few"))
    for name in ("ship", "truck"):
        for path in sorted((few / "validation" / name).iterdir())[1 if name == "ship" else 0 :]:
            path.unlink()
    (few / "validation" / "truck").rmdir()
    fails(capsys, args(few, tmp_path / "d"), "validation has 1 person", "'vehicle'")


def test_where_there_are_folds_and_where_not(images, tmp_path):
    """The split of the data set, or else five folds; one hold-out by so many seeds where that is asked for."""

    def planned(root: pathlib.Path, num_folds: int | None, *overrides: str) -> Study:
        data = [f"--config.data.root={root}", *SMALL, *overrides]
        options = {"num_folds": num_folds, "num_seeds": 2, "baseline": None, "compare_splits": False}
        return plan_study(tmp_path / "study", [CONFIGS], data, **options)

    given = planned(images, None)
    assert (given.num_folds, given.num_splits) == (0, 1)
    assert [member.name for member in given.members(NAMES[0])] == ["seed-0", "seed-1"]
    assert {member.run.config.split.num_folds for member in given.members(NAMES[0])} == {0}
    assert planned(images / "train", None).num_folds == 5
    assert planned(images / "train", 0).num_folds == 0
    assert [member.name for member in planned(images / "train", 3).members(NAMES[0])][:2] == [
        "fold-0-seed-0",
        "fold-1-seed-0",
    ]
    opened = types.SimpleNamespace(**given.to_json())
    assert opened.folds == 0

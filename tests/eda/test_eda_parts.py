"""What the page rests on: features, out-of-fold predictions, distances, extreme looks, small pictures, figures."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fpclass import experiment
from fpclass.common import files
from fpclass.config import base_config
from fpclass.data.table import Table, make_rows
from fpclass.eda import figures as figures_eda
from fpclass.eda.explore import better_predictions, printable
from fpclass.eda.features import make_features, simple_features
from fpclass.eda.judgement import Judgement, quick_judgement, read_judgement
from fpclass.eda.outliers import extreme_looks, find_strange, robust_z
from fpclass.eda.thumbnails import LONGEST_PX, make_thumbnails
from fpclass.errors import DataError, RunError
from fpclass.stats.intervals import Bootstrap
from fpclass.study.plan import assemble


def make_table(labels, *, classes=("a", "b"), groups=None, read=lambda row: b""):
    names = [f"{k}.png" for k in range(len(labels))]
    rows = make_rows(names, names, [classes[k] if k >= 0 else "" for k in labels], classes, group=groups)
    return Table(rows, classes, classes, read, "a set")


# --- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32, 32, 3), (120, 80, 1), (7, 90, 3), (1, 1, 1)])
def test_features_of_any_size_are_finite_and_tell_images_apart(shape):
    images = np.random.default_rng(0).integers(0, 256, (9, *shape), np.uint8)
    images[4] = images[2]
    values = simple_features(images, np.arange(9))
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    distances = np.linalg.norm(values[:, None] - values[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() == distances[2, 4] == 0
    assert (distances < 1e-6).sum() == 2


def test_features_are_those_of_the_rows_asked_for():
    images = np.random.default_rng(0).integers(0, 256, (600, 16, 16, 1), np.uint8)
    rows = np.arange(0, 600, 2)
    np.testing.assert_array_equal(simple_features(images, rows), simple_features(images[::2], np.arange(300)))


def test_features_of_blank_images_are_numbers():
    images = np.full((5, 20, 20, 1), 255, np.uint8)
    features = make_features(base_config(), images, np.arange(5))
    assert np.isfinite(features.values).all()
    assert not features.is_pretrained


def test_features_see_direction_colour_and_layout():
    y, x = np.mgrid[:32, :32]
    grey = [np.sin(x) * 60 + 128, np.sin(y) * 60 + 128]
    colours = [np.full((32, 32, 3), colour) for colour in ((200, 60, 60), (60, 60, 200))]
    images = np.stack([*(np.repeat(g[..., None], 3, -1) for g in grey), *colours]).astype(np.uint8)
    values = simple_features(images, np.arange(4))
    distances = np.linalg.norm(values[:, None] - values[None], axis=-1)
    assert distances[0, 1] > 0.5
    assert distances[2, 3] > 0.5


# --- predictions ----------------------------------------------------------------------------------


def test_nobody_is_in_two_folds():
    """Each person has a fingerprint of features and a random label: only a leak could predict it."""
    rng = np.random.default_rng(0)
    num_people = 150
    person = np.repeat(np.arange(num_people), 2)
    labels = rng.integers(0, 2, num_people)[person]
    features = rng.normal(size=(num_people, 200))[person].astype(np.float32) / np.sqrt(200)
    table = make_table(labels)
    judgement = quick_judgement(features, table, np.arange(300), np.array([f"p{k}" for k in person]), "x", 0)
    assert np.mean(judgement.probabilities.argmax(axis=1) == labels) < 0.62
    leaking = quick_judgement(features, table, np.arange(300), np.arange(300).astype(str), "x", 0)
    assert np.mean(leaking.probabilities.argmax(axis=1) == labels) > 0.8


def test_quick_predictions_learn_and_are_probabilities_of_all_classes():
    rng = np.random.default_rng(0)
    labels = np.array([*rng.permutation(np.arange(90) % 3), 3])
    features = (np.eye(4)[labels] + rng.normal(0, 0.3, (91, 4))).astype(np.float32)
    table = make_table(labels, classes=("a", "b", "c", "rare"))
    judgement = quick_judgement(features, table, np.arange(91), np.arange(91).astype(str), "four numbers", 0)
    assert judgement.rows.tolist() == list(range(90))
    assert judgement.probabilities.shape == (90, 4)
    assert judgement.probabilities.sum(axis=1) == pytest.approx(1)
    assert judgement.probabilities[:, 3].max() < 1e-100
    assert "rare" in judgement.notes[0]
    accuracy = judgement.accuracy(labels[:90], Bootstrap(200, 0.95))
    assert 0.8 < accuracy.low < accuracy.value < accuracy.high <= 1


def test_too_few_people_cannot_be_predicted():
    table = make_table([0, 0, 1, 1])
    with pytest.raises(DataError, match="too few to predict"):
        quick_judgement(np.eye(4, dtype=np.float32), table, np.arange(4), np.array(["p", "p", "q", "r"]), "x", 0)


@pytest.fixture
def study(tmp_path):
    """A study of two configs, two folds and a seed whose members only have their tables, of a set of six images."""
    arms = {}
    for name in ("baseline", "other"):
        config = experiment.load_config("configs/footprints/baseline.py", [f"--config.name={name}"])
        arms[name] = config
    plan = assemble(tmp_path / "study", arms, num_folds=2, num_seeds=1, baseline="baseline", compare_splits=False)
    plan.folder.mkdir()
    files.write_json(plan.path("study.json"), plan.to_json())
    names = [f"{k}.png" for k in range(6)]
    labels = [0, 1, 0, 1, 0, 1]
    frame = pd.DataFrame({"filename": names, "unit": names, "fold": [0, 0, 0, 1, 1, 1], "role": "train"})
    for strength, name in ((2.0, "baseline"), (4.0, "other")):
        for member in plan.members(name):
            held = frame["fold"] == member.fold
            logit_b = np.where(np.array(labels) == 1, strength, -strength)
            logit_b[2] *= -1  # the model says that the label of this image is wrong
            predictions = pd.DataFrame(
                {"filename": names, "group": "", "label": labels, "member": "m", "split": "validation"}
            ).assign(logit_a=0.0, logit_b=logit_b)
            member.run.write_csv("splits.csv", frame)
            member.run.write_csv("predictions.csv", predictions[held])
    return plan


def test_predictions_of_a_study_are_averaged(study):
    table = make_table([0, 1, 0, 1, 0, 1, -1])
    judgement = read_judgement(study.folder, table, np.arange(7).astype(str))
    assert judgement.rows.tolist() == [0, 1, 2, 3, 4, 5]
    expected = np.mean([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-4))])
    assert judgement.probabilities[[1, 2, 3, 5], 1] == pytest.approx(expected)
    assert judgement.probabilities[[0, 4], 0] == pytest.approx(expected)
    assert "baseline, other" in judgement.source
    assert not judgement.is_quick


def test_a_config_that_is_not_finished_has_no_say(study):
    study.members("other")[0].run.path("predictions.csv").unlink()
    judgement = read_judgement(study.folder, make_table([0, 1, 0, 1, 0, 1]), np.arange(6).astype(str))
    assert judgement.probabilities[1, 1] == pytest.approx(1 / (1 + np.exp(-2)))
    assert any("not finished" in note for note in judgement.notes)


def test_predictions_of_a_run_are_those_of_its_held_out_images(study):
    folder = study.members("baseline")[0].run
    files.write_json(folder.path("config.json"), folder.config.to_dict())
    judgement = read_judgement(folder.folder, make_table([0, 1, 0, 1, 0, 1]), np.arange(6).astype(str))
    assert judgement.rows.tolist() == [0, 1, 2]
    assert any("3 of 6 labelled images have no prediction" in note for note in judgement.notes)


@pytest.mark.parametrize("key", ["split.grouped", "data.near_duplicates"])
def test_predictions_that_may_have_seen_the_person_or_a_copy_say_so(study, key):
    """A study as well as a run; those that keep people and copies together say nothing."""
    table, units = make_table([0, 1, 0, 1, 0, 1]), np.arange(6).astype(str)
    assert not any("LEAK" in note for note in read_judgement(study.folder, table, units).notes)
    values = files.read_json(study.path("study.json"))
    section, name = key.split(".")
    values["configs"]["other"][section][name] = type(values["configs"]["other"][section][name])(0)
    files.write_json(study.path("study.json"), values)
    assert any(f"LEAK: trained with {key}" in note for note in read_judgement(study.folder, table, units).notes)
    run = study.members("other")[0].run
    files.write_json(
        run.path("config.json"), {**run.config.to_dict(), **{section: values["configs"]["other"][section]}}
    )
    assert any(f"LEAK: trained with {key}" in note for note in read_judgement(run.folder, table, units).notes)


def test_predictions_of_other_data_are_refused(study):
    with pytest.raises(RunError, match="the classes of a set are a, c"):
        read_judgement(study.folder, make_table([0, 1], classes=("a", "c")), np.array(["0", "1"]))
    stranger = make_table([0, 1, 0])
    stranger = stranger.with_columns(filename=["x", "y", "z"])
    with pytest.raises(RunError, match="0 of 3 labelled images"):
        read_judgement(study.folder, stranger, np.array(["0", "1", "2"]))


# --- outliers -------------------------------------------------------------------------------------


def test_far_images_are_suspected_and_first():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 20)).astype(np.float32)
    values[[7, 70]] += 30
    distances = find_strange(values)
    assert set(distances.order[:2].tolist()) == {7, 70}
    assert distances.is_suspected[[7, 70]].all()
    assert distances.is_suspected.sum() <= 5
    assert distances.percentile[distances.order[0]] == pytest.approx(100 * 299 / 300)
    assert distances.percentile[distances.order[-1]] == 0
    assert np.median(distances.z) == pytest.approx(0)


def test_copies_of_an_outlier_do_not_hide_it():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 20)).astype(np.float32)
    values[:3] = 30
    assert {0, 1, 2} <= set(np.flatnonzero(find_strange(values).is_suspected).tolist())


def test_identical_and_few_images_have_distances():
    distances = find_strange(np.zeros((12, 4), np.float32))
    assert not distances.is_suspected.any()
    one_differs = find_strange(np.eye(12, 4, 11, dtype=np.float32) + np.eye(12, 4, dtype=np.float32)[[5] * 11 + [0]])
    assert np.flatnonzero(one_differs.is_suspected).tolist() == [11]
    assert np.isfinite(one_differs.z).all()
    assert np.isfinite(distances.z).all()
    assert len(find_strange(np.eye(3, dtype=np.float32)).order) == 3


def test_robust_z_is_in_standard_deviations():
    values = np.random.default_rng(0).normal(5, 2, 20001)
    assert robust_z(values).std() == pytest.approx(1, abs=0.05)
    assert robust_z(np.array([1.0, 1, 1, 4])).tolist() == [0, 0, 0, np.inf]


def facts_of(num_images, **overrides):
    facts = pd.DataFrame({"width": 80, "height": 120, "mean": 200.0, "std": 50.0}, index=range(10, 10 + num_images))
    facts["mean"] += np.linspace(-5, 5, num_images)
    for column, values in overrides.items():
        for row, value in values.items():
            facts.loc[row, column] = value
    return facts


def test_extremes_are_named_and_ordinary_differences_are_not():
    found = extreme_looks(facts_of(50, width={13: 800, 15: 90}, mean={20: 3.0, 21: 215.0}))
    assert list(found) == [13, 20]
    assert [reason.split(" (")[0] for reason in found[13]] == ["longer side 800 px", "width / height 6.67"]
    assert "median 120 px" in found[13][0]
    assert found[20] == ["brightness 3 of 255 (median 200 of 255)"]


def test_two_common_sizes_are_not_extreme():
    assert extreme_looks(facts_of(50, width=dict.fromkeys(range(10, 34), 300))) == {}
    assert extreme_looks(facts_of(0)) == {}


# --- pictures and figures -------------------------------------------------------------------------


def as_image(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def test_small_pictures_keep_the_shape_of_the_file(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (1000, 500), (200, 30, 30)).save(stream, "PNG")
    table = make_table([0, 1, 0], read=lambda row: stream.getvalue() if row == 0 else b"")
    table = table.with_columns(quarantine=["", "", "empty file"])
    images = np.zeros((3, 20, 10, 1), np.uint8)
    pictures = make_thumbnails(table, images, [0, 1, 2, 0])
    assert as_image(pictures[0]).size == (LONGEST_PX, LONGEST_PX // 2)
    assert as_image(pictures[0]).getpixel((5, 5)) == pytest.approx((200, 30, 30), abs=4)
    assert as_image(pictures[1]).size == (10, 20)  # the file has gone since; the decoded image is still there
    assert pictures[2] == ""


def test_figures_follow_dark_and_light():
    labels = np.array([0, 0, 1, 1, -1])
    svg = figures_eda.to_svg(figures_eda.spreads(np.arange(5.0), labels, ["cats & <dogs>", "$x$"], "Size", "px"))
    xml.etree.ElementTree.fromstring(svg)
    assert "prefers-color-scheme:dark" in svg
    assert "#222222" not in svg.partition("</style>")[2]
    people = figures_eda.images_per_person(np.array([1, 2, 2, 50]))
    assert sum(bar.get_height() for bar in people.axes[0].patches) == 4


def test_spreads_show_the_quantiles():
    figure = figures_eda.spreads(np.arange(101.0), np.zeros(101, int), ["only", "empty"], "Size", "px")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["only"]
    bar = axes.patches[0]
    assert (bar.get_x(), bar.get_width()) == pytest.approx((25, 50))
    line, median = (list(artist.get_xdata()) for artist in axes.lines)
    assert line == pytest.approx([2.5, 97.5])
    assert median == [50, 50]


def test_printable_keeps_text_and_drops_what_a_file_cannot_hold():
    assert printable("Füße 足 <b>") == "Füße 足 <b>"
    assert printable("a\udcffb\nc\x85d").encode()
    assert printable("a\nb") == "a\ufffdb"


def test_who_gave_predictions_is_not_told_to_give_them():
    def advice(is_quick, is_pretrained=False):
        judgement = Judgement(np.arange(2), np.zeros((2, 2)), np.arange(2), "somebody", is_quick)
        return better_predictions(judgement, is_pretrained)

    assert advice(is_quick=False) == "give those of a better model (--predictions)"
    assert "of a study (--predictions) or a pretrained network" in advice(is_quick=True)
    assert "pretrained" not in advice(is_quick=True, is_pretrained=True)

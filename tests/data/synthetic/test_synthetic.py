import hashlib
import json
import subprocess
import sys
import time
import types

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fpclass.data.synthetic import anatomy, drawing
from fpclass.data.synthetic import dataset as synthetic
from fpclass.data.synthetic import shape as footprint_shape
from fpclass.data.synthetic.anatomy import MAN, MEASUREMENTS, NAMES, WOMAN
from fpclass.errors import DataError

SMALL = {"num_images": 40, "image_size": (155, 101), "seed": 3}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "set"
    synthetic.draw_dataset(root, **SMALL)
    return root


def read(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def hashes(root):
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.*")}


def make_parameters(sex=WOMAN, side="right", **changes):
    """An average foot, set down straight in the middle of the page, without defects."""
    measurements = np.array([m.mean[sex] for m in MEASUREMENTS])
    for name, value in changes.items():
        measurements[NAMES.index(name)] = value
    return anatomy.PrintParameters(measurements, side, 0.0, (100.0, 157.0), 1.0, ())


def ink_extent_mm(grey, image_size):
    """(height, width) of the print, on cells of 2 mm: dust is smaller, the scanner's lines are left and right of it."""
    cell_px = round(2 / drawing.mm_per_px(image_size))
    cell_mm = cell_px * drawing.mm_per_px(image_size)
    cells = np.asarray(Image.fromarray((grey < 200).astype(np.uint8) * 255).reduce(cell_px)) > 110
    cells = cells[:, round(20 / cell_mm) : round(180 / cell_mm)]
    rows, columns = np.flatnonzero(cells.sum(1) >= 2), np.flatnonzero(cells.sum(0) >= 2)
    return (np.ptp(rows) + 1) * cell_mm, (np.ptp(columns) + 1) * cell_mm


# -- the data set on disk


def test_layout_and_columns_are_the_competitions(drawn):
    table = read(drawn / "all_labels.csv")
    assert list(table.columns) == ["filename", "ID", "SEX"]
    assert table["filename"].tolist() == [f"img_{k:04d}" for k in range(40)]
    assert set(table["SEX"]) == {"0.0", "1.0", ""}
    images = {p.name for p in (drawn / "processed" / "processed").iterdir()}
    assert images == {f"{name}.png" for name in table["filename"]}
    assert "SYNTHETIC" in (drawn / "SYNTHETIC.txt").read_text()


def test_images_are_rgb_of_the_asked_size_with_five_grey_levels(drawn):
    levels = set()
    for path in sorted((drawn / "processed" / "processed").iterdir())[:10]:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert image.size == (101, 155)
            pixels = np.asarray(image)
        assert (pixels == pixels[..., :1]).all()
        levels |= set(np.unique(pixels).tolist())
        assert 0.04 < (pixels < 200).mean() < 0.5  # a print, neither an empty nor a black page
    assert levels == set(drawing.LEVELS.tolist())


def test_people_are_adjacent_and_either_labelled_or_not(drawn):
    table = read(drawn / "all_labels.csv")
    changes = (table["ID"] != table["ID"].shift()).sum()
    assert changes == table["ID"].nunique()  # each person's rows in one block
    assert table.groupby("ID")["SEX"].nunique().max() == 1
    assert set(table["ID"].value_counts()) == {1, 2}
    truth = pd.read_csv(drawn / "truth" / "truth.csv", keep_default_na=False)
    pairs = truth[truth.duplicated("ID", keep=False)]
    assert (pairs.groupby("ID")["side"].nunique() == 2).all()


def test_truth_holds_every_row_and_agrees_with_the_labels(drawn):
    table, truth = read(drawn / "all_labels.csv"), read(drawn / "truth" / "truth.csv")
    assert truth["filename"].tolist() == table["filename"].tolist()
    assert truth["ID"].tolist() == table["ID"].tolist()
    assert set(truth["SEX"]) == {"0", "1"}
    labelled = table["SEX"] != ""
    assert (table["SEX"][labelled].str[0] == truth["SEX"][labelled]).all()
    assert ((truth["labelled"] == "True") == labelled).all()
    assert set(NAMES) <= set(truth.columns)
    assert truth[list(NAMES)].astype(float).notna().all(axis=None)


def test_default_size_has_the_competitions_counts():
    people = synthetic.plan_people(2628, 0)
    prints = {key: sum(p.num_prints for p in people if (p.sex, p.labelled) == key) for key in synthetic._SHARES}
    assert prints[WOMAN, True] == 845
    assert prints[MAN, True] == 728
    assert prints[WOMAN, False] + prints[MAN, False] == 1055
    assert len({(p.sex, p.number) for p in people}) == len(people)
    assert np.mean([p.num_prints == 2 for p in people]) > 0.8


@pytest.mark.parametrize("num_images", [8, 9, 33, 100])
def test_any_number_of_images_is_hit_with_both_classes_labelled(num_images):
    people = synthetic.plan_people(num_images, 1)
    assert sum(p.num_prints for p in people) == num_images
    assert {p.sex for p in people if p.labelled} == {WOMAN, MAN}
    assert not all(p.labelled for p in people)


def test_rows_do_not_tell_the_class_by_their_order():
    sexes = [p.sex for p in synthetic.plan_people(2628, 0)]
    assert abs(np.mean(sexes[:500]) - np.mean(sexes[-500:])) < 0.15


# -- determinism


def test_same_parameters_give_the_same_bytes_and_another_seed_other_prints(drawn, tmp_path):
    synthetic.draw_dataset(tmp_path / "again", **SMALL)
    assert hashes(tmp_path / "again") == hashes(drawn)
    synthetic.draw_dataset(tmp_path / "other", **(SMALL | {"seed": 4}))
    first = "processed/processed/img_0000.png"
    assert hashes(tmp_path / "other")[first] != hashes(drawn)[first]


def test_a_persons_print_does_not_depend_on_the_size_of_the_data_set():
    few, many = synthetic.plan_people(20, 0), synthetic.plan_people(60, 0)
    numbered = {(p.sex, p.number): p for p in many}
    for person in few[:3]:
        other = numbered[person.sex, person.number]
        for k in range(min(person.num_prints, other.num_prints)):
            one, _ = synthetic.draw_person_print(person, k, image_size=(155, 101), seed=0)
            two, _ = synthetic.draw_person_print(other, k, image_size=(155, 101), seed=0)
            np.testing.assert_array_equal(one, two)


def test_parameters_do_not_depend_on_the_size_of_the_image():
    person = synthetic.Person(MAN, 5, 2, True)
    _, small = synthetic.draw_person_print(person, 0, image_size=(120, 80), seed=0)
    _, large = synthetic.draw_person_print(person, 0, image_size=(310, 202), seed=0)
    np.testing.assert_array_equal(small.measurements, large.measurements)
    assert (small.side, small.center_mm, small.defects) == (large.side, large.center_mm, large.defects)


def test_two_prints_of_a_person_are_alike_but_not_equal():
    people = [synthetic.Person(sex, n, 2, True) for sex in (WOMAN, MAN) for n in range(40)]
    prints = [
        [synthetic.draw_person_print(person, k, image_size=(60, 40), seed=0)[1] for k in (0, 1)] for person in people
    ]
    lengths = np.array([[p["foot_length_mm"] for p in pair] for pair in prints])
    assert (lengths[:, 0] != lengths[:, 1]).all()
    assert np.abs(lengths[:, 0] - lengths[:, 1]).mean() < 0.4 * lengths.std()
    assert all({p.side for p in pair} == {"left", "right"} for pair in prints)


# -- anatomy


@pytest.mark.parametrize(
    ("name", "mean", "sd"),
    [("foot_length_mm", 263.03, 17.39), ("ball_breadth_mm", 98.87, 6.66), ("heel_breadth_mm", 70.76, 5.93)],
)
def test_distributions_reproduce_the_surveys_pooled_moments(name, mean, sd):
    """ANSUR II has 1,986 women and 4,082 men."""
    measurement = MEASUREMENTS[NAMES.index(name)]
    weight = np.array([1986, 4082]) / 6068
    pooled = weight @ measurement.mean
    variance = weight @ (np.square(measurement.between_sd) + np.square(np.array(measurement.mean) - pooled))
    assert pooled == pytest.approx(mean, abs=0.1)
    assert np.sqrt(variance) == pytest.approx(sd, abs=0.06)


@pytest.mark.parametrize("sex", [WOMAN, MAN])
def test_samples_follow_the_stated_density(sex):
    rng = np.random.default_rng(0)
    prints = anatomy.sample_prints(rng, anatomy.sample_people(rng, sex, 40_000))
    covariance = anatomy.between_covariance(sex) + np.diag([m.within_sd**2 for m in MEASUREMENTS])
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((prints.mean(0) - [m.mean[sex] for m in MEASUREMENTS]) / scale, 0, atol=0.025)
    variances = np.outer(scale, scale)
    np.testing.assert_allclose(np.cov(prints.T) / variances, covariance / variances, atol=0.03)


def test_log_density_is_the_multivariate_normal():
    from scipy.stats import multivariate_normal

    prints = anatomy.sample_people(np.random.default_rng(1), MAN, 5)
    shown = np.array([m.shown_when_cropped for m in MEASUREMENTS])
    covariance = anatomy.between_covariance(WOMAN) + np.diag([m.within_sd**2 for m in MEASUREMENTS])
    mean = np.array([m.mean[WOMAN] for m in MEASUREMENTS])
    expected = multivariate_normal(mean[shown], covariance[np.ix_(shown, shown)]).logpdf(prints[:, shown])
    np.testing.assert_allclose(anatomy.log_density(prints, WOMAN, shown), expected, rtol=1e-10)


def test_bayes_accuracy_is_near_092_and_no_rule_beats_it():
    accuracy, standard_error = synthetic.bayes_accuracy(seed=0, num_people=100_000)
    assert 0.90 < accuracy < 0.94
    assert 0 < standard_error < 0.001
    # The best rule's hits on whole prints of fresh people, at equal class frequencies.
    rng = np.random.default_rng(9)
    everything = np.ones(len(MEASUREMENTS), bool)
    hits = []
    for sex in (WOMAN, MAN):
        prints = anatomy.sample_prints(rng, anatomy.sample_people(rng, sex, 50_000))
        log_ratio = anatomy.log_density(prints, MAN, everything) - anatomy.log_density(prints, WOMAN, everything)
        hits.append(np.mean((log_ratio > 0) == sex))
    assert accuracy < np.mean(hits) < accuracy + 0.015  # cropped heels cost something, but not much


# -- drawing


@pytest.mark.parametrize("image_size", [(619, 403), (310, 202)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_prints_are_drawn_to_scale(image_size, side):
    for seed, (length, ball) in enumerate([(235.0, 88.0), (262.0, 98.0), (285.0, 108.0)]):
        print_ = make_parameters(side=side, foot_length_mm=length, ball_breadth_mm=ball, toe_size=0.9)
        grey = drawing.draw_print(np.random.default_rng(seed), print_, image_size)
        height, width = ink_extent_mm(grey, image_size)
        assert height == pytest.approx(length * 0.94, abs=5.0)
        assert width == pytest.approx(ball * 0.92, abs=8.0)  # the smallest toe may stand out


def test_outline_has_exactly_the_measured_length_and_ball():
    for seed in range(5):
        print_ = make_parameters(foot_length_mm=240.0 + 10 * seed, ball_breadth_mm=95.0)
        shape = footprint_shape.make_shape(np.random.default_rng(seed), print_)
        points = np.concatenate([shape.sole, *shape.toes])
        assert np.ptp(points[:, 1]) == pytest.approx(0.94 * (240.0 + 10 * seed), abs=1e-6)
        ball = shape.sole[shape.sole[:, 1] > 0.56 * shape.length_mm]
        assert np.ptp(ball[:, 0]) == pytest.approx(0.92 * 95.0, abs=1.0)
        heel = shape.sole[shape.sole[:, 1] < 0.2 * shape.length_mm]
        assert np.ptp(heel[:, 0]) == pytest.approx(0.74 * print_["heel_breadth_mm"], abs=4.0)


def test_narrow_arch_is_drawn_narrower():
    breadth = []
    for arch_index in (0.1, 0.3, 0.5):
        shape = footprint_shape.make_shape(np.random.default_rng(0), make_parameters(arch_index=arch_index))
        at = np.abs(shape.sole[:, 1] - shape.isthmus_mm[1]) < 6
        breadth.append(np.ptp(shape.sole[at, 0]) / (0.92 * 93.2))
    assert breadth == sorted(breadth)
    np.testing.assert_allclose(breadth, (0.1, 0.3, 0.5), atol=0.09)


def test_left_foot_mirrors_the_right_one():
    right = drawing.draw_print(np.random.default_rng(2), make_parameters(side="right"), (310, 202))
    left = drawing.draw_print(np.random.default_rng(2), make_parameters(side="left"), (310, 202))
    axis_px = round(100.0 / drawing.mm_per_px((310, 202)))
    inner = [grey[:, axis_px - 60 : axis_px] < 128 for grey in (right, left[:, ::-1][:, 202 - 2 * axis_px :])]
    overlap = (inner[0] & inner[1]).sum() / (inner[0] | inner[1]).sum()
    assert overlap > 0.8
    arch = slice(130, 170)  # hollow at the inner side: left of a right foot's axis
    assert (right[arch, axis_px : axis_px + 60] < 128).sum() > 3 * (right[arch, axis_px - 60 : axis_px] < 128).sum()


def test_men_leave_more_ink_than_women():
    area = {}
    for sex in (WOMAN, MAN):
        prints = [
            synthetic.draw_person_print(synthetic.Person(sex, n, 1, True), 0, image_size=(155, 101), seed=0)[0]
            for n in range(30)
        ]
        area[sex] = np.mean([(grey < 100).mean() for grey in prints])
    assert area[MAN] > 1.08 * area[WOMAN]


def test_defects_show():
    def ink(**changes):
        print_ = make_parameters()
        print_ = anatomy.PrintParameters(**{**vars(print_), **changes})
        return 255.0 - drawing.draw_print(np.random.default_rng(1), print_, (310, 202))

    whole = ink()
    assert ink(defects=tuple(f"missing_{toe}" for toe in anatomy.TOES))[:75].mean() < 0.3 * whole[:75].mean()
    assert ink(ink=0.5).mean() < 0.8 * whole.mean()
    assert ink(defects=("smudge",)).mean() > 1.01 * whole.mean()
    assert ink(center_mm=(100.0, 200.0))[-3:].mean() > 20 * whole[-3:].mean() + 5  # the page cuts the heel


def test_cropped_prints_reach_the_edge_and_others_do_not():
    seen = {True: [], False: []}
    for n in range(150):
        rng = np.random.default_rng(n)
        print_ = anatomy.sample_parameters(rng, anatomy.sample_people(rng, n % 2, 1)[0], "left")
        bottom = print_.center_mm[1] + 0.5 * print_.on_paper_mm("foot_length_mm")
        seen["cropped_heel" in print_.defects].append(bottom)
    assert min(seen[True]) > anatomy.PAGE_MM[0] + 5
    assert max(seen[False]) < anatomy.PAGE_MM[0]


def test_scale_fits_the_page_into_any_shape():
    assert drawing.mm_per_px((1238, 806)) == pytest.approx(0.254, abs=1e-3)
    assert drawing.mm_per_px((619, 403)) == pytest.approx(0.508, abs=1e-3)
    assert drawing.mm_per_px((300, 100)) == pytest.approx(2.047, abs=1e-3)  # the breadth decides
    print_ = make_parameters()
    assert drawing.draw_print(np.random.default_rng(0), print_, (300, 100)).shape == (300, 100)


# -- folders


def test_the_same_data_set_is_left_as_it_is(drawn):
    before = {p: p.stat().st_mtime_ns for p in drawn.rglob("*")}
    synthetic.draw_dataset(drawn, **SMALL)
    assert {p: p.stat().st_mtime_ns for p in drawn.rglob("*")} == before


@pytest.mark.parametrize("change", [{"num_images": 41}, {"image_size": (156, 101)}, {"seed": 5}])
def test_other_parameters_in_the_folder_are_an_error(drawn, change):
    with pytest.raises(DataError, match=next(iter(change))) as caught:
        synthetic.draw_dataset(drawn, **(SMALL | change))
    assert str(drawn) in str(caught.value)


def test_another_drawing_version_is_an_error(drawn, monkeypatch):
    monkeypatch.setattr(synthetic, "DRAWING_VERSION", 10_000)
    with pytest.raises(DataError, match="drawing_version"):
        synthetic.draw_dataset(drawn, **SMALL)


@pytest.mark.parametrize("content", ["notes.txt", "parameters.json"])
def test_foreign_content_is_an_error_and_stays(tmp_path, content):
    (tmp_path / content).write_text(json.dumps(["mine"]))
    with pytest.raises(DataError, match="something other than a synthetic data set"):
        synthetic.draw_dataset(tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == [content]


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "set").write_text("mine")
    with pytest.raises(DataError, match="set"):
        synthetic.draw_dataset(tmp_path / "set", **SMALL)
    assert (tmp_path / "set").read_text() == "mine"


def test_empty_folder_and_missing_parents_are_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "empty", tmp_path / "a" / "b"):
        synthetic.draw_dataset(root, num_images=8, image_size=(60, 40), seed=0)
        assert (root / "all_labels.csv").is_file()
        assert [p.name for p in root.parent.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_or_full_leaves_nothing(tmp_path, monkeypatch, error):
    real, calls = synthetic.draw_person_print, []

    def fail_later(*args, **kwargs):
        calls.append(args)
        if len(calls) == 5:
            raise error
        if len(calls) > 5:
            time.sleep(0.05)
        return real(*args, **kwargs)

    monkeypatch.setattr(synthetic, "draw_person_print", fail_later)
    expected = DataError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        synthetic.draw_dataset(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []
    assert len(calls) < 20  # the rest was not drawn
    if expected is DataError:
        assert "No space left on device" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_interruption_in_the_progress_bar_leaves_nothing(tmp_path):
    def progress(iterable, total):
        yield next(iter(iterable))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic.draw_dataset(tmp_path / "set", **SMALL, progress=progress)
    time.sleep(0.1)  # a thread that still draws would write by now
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the synthetic data set") as caught:
        synthetic.draw_dataset(tmp_path / "file" / "set", **SMALL)
    assert "\n" not in str(caught.value)


def test_another_process_that_was_faster_is_no_error(tmp_path, drawn, monkeypatch):
    import shutil

    real = synthetic._write_dataset

    def write_then_lose(*args):
        real(*args)
        shutil.copytree(drawn, tmp_path / "set")

    monkeypatch.setattr(synthetic, "_write_dataset", write_then_lose)
    synthetic.draw_dataset(tmp_path / "set", **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert hashes(tmp_path / "set") == hashes(drawn)


@pytest.mark.parametrize("change", [{"num_images": 7}, {"num_images": 10**9}, {"image_size": (50, 80)}, {"seed": -1}])
def test_senseless_parameters_are_errors(tmp_path, change):
    with pytest.raises(DataError, match=f"data.synthetic.{next(iter(change))}"):
        synthetic.draw_dataset(tmp_path / "set", **(SMALL | change))
    assert not (tmp_path / "set").exists()


def test_progress_sees_every_print(tmp_path):
    seen = types.SimpleNamespace(total=0, steps=0)

    def progress(iterable, total):
        seen.total = total
        for item in iterable:
            seen.steps += 1
            yield item

    synthetic.draw_dataset(tmp_path / "set", num_images=8, image_size=(60, 40), seed=0, progress=progress)
    assert (seen.total, seen.steps) == (8, 8)


def test_module_prints_the_bayes_accuracy_and_needs_no_jax():
    code = """if True:
        import runpy, sys
        runpy.run_module("fpclass.data.synthetic.dataset", run_name="__main__")
        print("jax" in sys.modules)
    """
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert 0.90 < float(lines[0].split(":")[1].split()[0]) < 0.94
    assert lines[1] == "False"

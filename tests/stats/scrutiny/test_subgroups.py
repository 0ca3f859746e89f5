"""Subgroups by a column: how cells become levels, what is said of each, and how often a difference is found in vain."""

from __future__ import annotations

import numpy as np
import pytest

from fpclass.report.forest import forest_plot
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.scrutiny.subgroups import EMPTY, levels_of, subgroup_cells, subgroup_findings, subgroup_report

BOOTSTRAP = Bootstrap(300, 0.95)


def cohort_of(rng, num_people=40, per_person=4):
    people = np.repeat(np.arange(num_people), per_person)
    return Cohort((people % 2).astype(np.int64), [f"p{person}" for person in people])


def logits_of(labels, is_right):
    score = np.where(is_right, 1, -1) * np.where(labels == 1, 1.0, -1.0)
    return np.stack([-score, score], axis=1)


@pytest.mark.parametrize(
    ("cells", "names", "note"),
    [
        (["b", "a", "", "a"], ("a", "b", EMPTY), ""),
        (["2", "10", "2", ""], ("2", "10", EMPTY), ""),
        (["", "", "", ""], (), "empty"),
        (["x"] * 4, (), "all of these images have 'x'"),
        ([f"id{i}" for i in range(40)], (), "a level per image"),
        ([f"id{i // 2}" for i in range(60)], (), "a level per group (30)"),
        ([f"id{i % 25}" for i in range(100)], (), "25 levels"),
        ([str(20 + i) for i in range(40)], ("20 to 29", "30 to 39", "40 to 49", "50 to 59"), "cut into 4 bands"),
        (["0.5", "1.5", "2.5", "3.5", "4.5", "5.5"], None, "bands"),
        (["1"] * 90 + [str(i) for i in range(2, 12)], ("1", "2 to 11"), "2 bands"),
    ],
)
def test_cells_become_levels(cells, names, note):
    """A column that is empty, numeric, or has a level per row says so in place of subgroups."""
    groups = np.arange(len(cells)) if len(cells) != 60 else np.arange(60) // 2
    levels = levels_of(cells, groups)
    assert note in levels.note
    if names is not None:
        assert levels.names == names
    assert (levels.codes < max(len(levels.names), 1)).all()
    if note == "" and names:
        assert [names[code] for code in levels.codes] == [cell or EMPTY for cell in cells]


def test_a_level_is_judged_as_if_alone():
    rng = np.random.default_rng(0)
    cohort = cohort_of(rng)
    hand = np.array(["left", "right"] * 80)
    logits = logits_of(cohort.labels, (hand == "left") | (rng.random(160) < 0.4))
    is_covered = hand == "left"
    report = subgroup_report(
        logits, cohort, {"hand": hand.tolist(), "id": ["x"] * 160}, "accuracy", BOOTSTRAP, is_covered
    )
    left, right = report["columns"]["hand"]["levels"]
    assert (left["num_images"], left["num_groups"]) == (80, 40)
    assert left["score"]["value"] == 1
    wrong = (logits.argmax(1) != cohort.labels)[hand == "right"].mean()
    assert right["score"]["value"] == pytest.approx(1 - wrong)
    assert left["difference"]["value"] == pytest.approx(wrong)
    assert left["difference"]["value"] == -right["difference"]["value"]
    assert (left["coverage"]["value"], right["coverage"]["value"]) == (1, 0)
    assert right["overconfidence"]["value"] == pytest.approx(1 / (1 + np.exp(-2)) - (1 - wrong))
    assert report["num_tests"] == 1, "of two levels each is the rest of the other"
    assert left["p_holm"] == left["p_value"] < 0.001
    lines = subgroup_findings(report)
    assert "different from the others" in lines[0]
    assert "none, all of these images have 'x'" in lines[1]
    cells = subgroup_cells(report)
    assert {len(row) for row in cells} == {len(cells[0])}


def test_all_columns_are_one_family_and_few_people_are_not_tested():
    rng = np.random.default_rng(1)
    cohort = cohort_of(rng)
    people = cohort.groups
    logits = logits_of(cohort.labels, rng.random(160) < 0.8)
    site = np.where(people < 3, "tiny", np.where(people < 20, "b", "c")).tolist()
    columns = {"site": site, "hand": ["l", "r"] * 80, "third": [str(i % 3) for i in range(160)]}
    report = subgroup_report(logits, cohort, columns, "accuracy", BOOTSTRAP)
    tiny = next(level for level in report["columns"]["site"]["levels"] if level["name"] == "tiny")
    assert (tiny["num_groups"], tiny["p_value"], tiny["p_holm"]) == (3, None, None)
    assert report["num_tests"] == 2 + 1 + 3
    raw = [
        level["p_value"] for c in report["columns"].values() for level in c["levels"] if level["p_value"] is not None
    ]
    adjusted = [level["p_holm"] for c in report["columns"].values() for level in c["levels"] if level["p_value"]]
    assert min(adjusted) == pytest.approx(min(1, 6 * min(raw)))
    of_auc = subgroup_report(logits, cohort, {"label": cohort.labels.astype(str).tolist()}, "roc_auc", BOOTSTRAP)
    assert all(level["score"]["value"] is None for level in of_auc["columns"]["label"]["levels"])
    assert "undefined in all" in subgroup_findings(of_auc)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_people", "kind"), [(20, "of people"), (60, "of people"), (60, "of images"), (300, "of people")]
)
def test_level(num_people, kind):
    """No subgroup differs: how often one of two, unequal in size, is found to, at 0.05 (docs/statistics.md)."""
    rng, trials, found, covered = np.random.default_rng(2), 800, 0, 0
    for _ in range(trials):
        cohort = cohort_of(rng, num_people)
        ease = rng.normal(size=num_people)[cohort.groups]
        logits = logits_of(cohort.labels, ease + rng.normal(size=len(cohort)) > -1)
        is_in = (cohort.groups % 3 == 0) if kind == "of people" else np.arange(len(cohort)) % 2 == 0
        columns = {"c": np.where(is_in, "a", "b").tolist()}
        level = subgroup_report(logits, cohort, columns, "accuracy", Bootstrap(200, 0.95))["columns"]["c"]["levels"][0]
        found += level["p_holm"] is not None and level["p_holm"] < 0.05
        covered += level["difference"]["low"] <= 0 <= level["difference"]["high"]
    print(f"\n{num_people} people, {kind}: found {found / trials:.3f}, covered {covered / trials:.3f}")
    assert found / trials < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials) + 0.01


def test_sizes_of_images_have_their_unit():
    labels = np.arange(40) % 2
    columns = {"image_size": ["9888"] * 40, "image_width": [str(100 + i) for i in range(40)], "hand": ["l", "r"] * 20}
    report = subgroup_report(logits_of(labels, True), Cohort(labels), columns, "accuracy", BOOTSTRAP)
    size, width, hand = subgroup_findings(report)
    assert size == "subgroups by image_size in pixels (width x height): none, all of these images have '9888'"
    assert width.startswith("subgroups by image_width in pixels (numbers, cut into 4 bands")
    assert hand.startswith("subgroups by hand (2 levels)")
    assert {row[0] for row in subgroup_cells(report)[1:]} == {
        "image_size in pixels (width x height)", "image_width in pixels", "hand"
    }  # fmt: skip
    assert list(report["columns"]) == list(columns), "as they are named in the config and in files"
    drawn = [text.get_text() for text in forest_plot(report, Interval(1.0)).axes[0].get_yticklabels()]
    assert drawn[0] == "image_size in pixels (width x height)"


def test_levels_that_are_all_right_may_differ_in_other_images():
    labels = np.arange(80) % 2
    report = subgroup_report(logits_of(labels, True), Cohort(labels), {"eye": ["l"] * 40 + ["r"] * 40}, "accuracy",
                             BOOTSTRAP)  # fmt: skip
    for level in report["columns"]["eye"]["levels"]:
        difference = level["difference"]
        assert (difference["value"], level["p_value"]) == (0, None)
        assert difference["high"] == -difference["low"] == pytest.approx(0.124, abs=0.002)
    assert "no difference between any of these images" in subgroup_findings(report)[0]

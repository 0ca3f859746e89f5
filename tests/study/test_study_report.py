"""The table of a study as text, Markdown, CSV and figure: from rows of every kind."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
from matplotlib.text import Text

from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import Inflation, Score
from fpclass.stats.comparison.selection import Selection
from fpclass.stats.comparison.verdicts import Comparison
from fpclass.stats.decisions.report import decision_report
from fpclass.stats.intervals import Bootstrap, Interval, evaluate_predictions
from fpclass.stats.probabilities.ensembling import Ensemble
from fpclass.stats.probabilities.reliability import calibration_report
from fpclass.study.figures import study_figure
from fpclass.study.looks import Look, describe_looks
from fpclass.study.report import StudyReport, StudyRow, to_frame, to_markdown, to_text


def comparison(difference=0.05, p_adjusted=0.01, verdict="better"):
    return Comparison(Interval(difference, -0.01, 0.11), p_value=0.001, p_adjusted=p_adjusted, verdict=verdict)


def row(name, **values):
    members = np.array([[0.6], [0.8]])
    return StudyRow(name, Score(Interval(0.7, 0.65, 0.75), 0.1, 2), members, **{"comparison": None, **values})


ROWS = [
    row("baseline", is_baseline=True),
    row("good", comparison=comparison(p_adjusted=0.0001)),
    row("same", comparison=comparison(0.0, 1.0, "no difference that matters (within ±0.02)")),
    StudyRow("broken", None, None, None, "loss is nan | in epoch 1"),
]


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    labels, folds = np.arange(40) % 2, np.arange(40) % 3
    logits = rng.normal(size=(40, 2)) + 2 * np.eye(2)[labels]
    cohort, bootstrap = Cohort(labels, np.arange(40) // 2, folds, ["a", "b"]), Bootstrap(50, 0.95)
    return StudyReport(
        rows=ROWS,
        metric="balanced_accuracy",
        confidence=0.95,
        note="SYNTHETIC data: drawn, not real prints",
        source="a source",
        cohort=cohort,
        num_seeds=1,
        choice=Selection("good", ("good", "same", "good"), Interval(0.7, 0.6, 0.8), Interval(0.66, 0.55, 0.77), 0.04),
        ensemble=Ensemble({"good": 0.75, "same": 0.25, "baseline": 0.0}, (), logits),
        ensemble_score=Interval(0.7, 0.6, 0.8),
        ensemble_scores=evaluate_predictions(logits, cohort, bootstrap),
        calibration=calibration_report(logits, cohort, bootstrap),
        decisions=decision_report(logits, cohort, bootstrap, cost=((0, 1), (4, 0)), max_risk=0.005),
        inflations={"good": Inflation(0.9, 0.7, Interval(0.2, 0.1, 0.3))},
        failed_splits={"same": "the disk was full"},
    )


def test_a_class_of_very_few_images_is_said(report):
    assert "judged images of a class" not in to_text(report, pathlib.Path("study"))
    labels = np.append(np.zeros(38, int), [1, 1])
    cohort = Cohort(labels, report.cohort.groups, report.cohort.folds, report.cohort.class_names)
    text = " ".join(to_text(dataclasses.replace(report, cohort=cohort), pathlib.Path("study")).split())
    assert "fewer than 5 judged images of a class: b (2); its precision and recall are a matter of chance" in text


def test_the_text_says_what_was_found(report):
    text = " ".join(to_text(report, pathlib.Path("runs/study")).split())
    for line in (
        "SYNTHETIC data",
        "40 images of 20 people, 3 folds x 1 seeds",
        "best config: good, balanced accuracy 0.700 [0.600, 0.800] OPTIMISTIC",
        "of the choice itself expect 0.660 [0.550, 0.770] (each fold chosen for by the others: good 2x, same 1x)",
        "ensemble: 0.75 good, 0.25 same; cross-fitted: accuracy",
        "costs: decided by them",
        "at most 0.5 % errors",
        "the leak: good on image-random folds 0.900, on folds of people 0.700: inflated by +0.200 [+0.100, +0.300]",
        "the leak: same on image-random folds FAILED: the disk was full",
    ):
        assert line in text, line
    assert "threshold for cost" not in text, "costs decide by the matrix, not by a threshold"


def test_one_line_per_config_with_the_interval_of_the_verdict(report):
    lines = to_text(report, pathlib.Path("runs/study")).splitlines()
    baseline, good, same, broken = lines[3:7]
    assert baseline.split()[:4] == ["baseline", "0.700", "0.100", "[0.650,"]
    assert baseline.endswith("the baseline")
    assert "+0.050      [-0.010, +0.110]  <0.001        better" in good
    assert same.endswith("no difference that matters (within ±0.02)")
    assert broken.split()[:2] == ["broken", "-"]
    assert broken.endswith("FAILED: loss is nan | in epoch 1")


def test_without_a_baseline_nobody_else_is_called_so():
    assert row("good").verdict == "not compared: the baseline failed"


def test_images_are_not_called_people(report):
    alone = dataclasses.replace(report, cohort=Cohort(report.cohort.labels, folds=report.cohort.folds))
    assert "40 images, 3 folds" in " ".join(to_text(alone, pathlib.Path("x")).split())
    assert "few people" in " ".join(to_text(report, pathlib.Path("x")).split()), "20 of them"
    assert (
        "people"
        not in " ".join(to_text(alone, pathlib.Path("x")).split()).partition("one seed")[0].partition("hold")[0]
    )


def test_what_a_reader_of_verdicts_has_to_know(report):
    text = " ".join(to_text(report, pathlib.Path("x")).split())
    assert "one seed: the noise of training is known from the folds alone" in text
    assert "judged" not in text
    looks = [Look("accuracy", 0.95, 0.02, 1), Look("accuracy", 0.95, 0.02, 3)]
    assert describe_looks(looks[:1], looks[0]) == []
    grown = dataclasses.replace(report, num_seeds=3, looks=describe_looks(looks, looks[1]))
    text = " ".join(to_text(grown, pathlib.Path("x")).split())
    assert "one seed:" not in text
    assert (
        "judged 2 times by different rules or seeds: first by accuracy at 95 %, margin 0.02, 1 seed, now by accuracy "
        "at 95 %, margin 0.02, 3 seeds; adjusted p values are multiplied by 2" in text
    )


def test_markdown_is_a_table_whatever_an_error_says(report):
    lines = [line for line in to_markdown(report).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(ROWS)
    assert {line.replace("\\|", "").count("|") for line in lines} == {9}


def test_the_frame_has_every_figure_and_its_data():
    frame = to_frame(ROWS, "accuracy", "SYNTHETIC footprints").set_index("config")
    assert set(frame["data"]) == {"SYNTHETIC footprints"}
    assert frame.loc["good", ["difference_low", "difference_high", "low"]].tolist() == [-0.01, 0.11, 0.65]
    assert frame.loc["good", "num_members"] == 2
    assert np.isnan(frame.loc["broken", "mean"])
    assert frame.loc["broken", "verdict"].startswith("FAILED")


def test_the_figure_shows_all_that_were_trained():
    figure = study_figure(ROWS, "accuracy", confidence=0.95, margin=0.02, note="SYNTHETIC")
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert {"baseline", "good", "same", "SYNTHETIC", "difference from baseline"} <= texts
    assert "broken" not in texts
    two = study_figure([row("good"), row("same")], "accuracy", confidence=0.95, margin=0.02)
    assert "difference from the baseline, which failed" in {text.get_text() for text in two.findobj(Text)}
    one = study_figure([row("good")], "accuracy", confidence=0.95, margin=0.02)
    assert [panel.get_xlabel() for panel in one.axes] == ["accuracy"], "there is no difference to show"

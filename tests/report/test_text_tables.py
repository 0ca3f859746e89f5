import numpy as np
from drawn_predictions import names, random_predictions

from fpclass.report.text_tables import align_columns, classification_report, markdown_table
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval, evaluate_predictions
from fpclass.stats.metrics import compute_metrics


def test_columns_are_aligned_and_nothing_trails():
    rows = [["name", "size", ""], ["a longer one", "7", "!"], ["b", "1234", ""]]
    assert align_columns(rows) == ["name          size", "a longer one  7     !", "b             1234"]
    assert align_columns([row[:2] for row in rows], right=True) == [
        "name          size",
        "a longer one     7",
        "b             1234",
    ]


def test_markdown_is_a_table_whatever_the_cells_hold():
    assert markdown_table([["a|b", "c"], ["1", "x | y"]]) == ["| a\\|b | c |", "| --- | --- |", "| 1 | x \\| y |"]


def test_report_is_an_aligned_table_of_every_class():
    logits, labels = random_predictions(50, 3)
    result = compute_metrics(logits, labels, ["a", "a much longer class name", "c"])
    lines = classification_report(result).split("\n")
    table = lines[:4]
    assert len({len(line) for line in table}) == 1
    assert table[2].startswith("a much longer class name  ")
    assert f"{result['per_class']['c']['recall']:.3f}" in table[3].split()
    assert any(line.split() == ["accuracy", f"{result['accuracy']:.3f}"] for line in lines)


def test_report_shows_undefined_values_as_a_dash():
    result = compute_metrics(np.array([[1.0, 0]]), np.array([0]), names(2))
    lines = classification_report(result).split("\n")
    assert ["ROC", "AUC", "-"] in [line.split() for line in lines]


def test_report_has_the_intervals():
    logits, labels = random_predictions(120, 3)
    cohort = Cohort(labels, np.arange(120) // 2, class_names=names(3))
    result = evaluate_predictions(logits, cohort, Bootstrap(200, 0.9))
    report = classification_report(result)
    assert str(Interval.of(result["accuracy"])) in report
    assert str(Interval.of(result["per_class"]["class 1"]["f1"])) in report
    assert result["interval"] in report

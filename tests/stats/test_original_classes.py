"""Errors by the classes that were put together, against scikit-learn and cases counted by hand."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from sklearn.metrics import roc_auc_score

from fpclass.report.grids import original_classes
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.original_classes import class_table, findings, pair_table

BOOTSTRAP = Bootstrap(200, 0.95)


@pytest.fixture(scope="module")
def judged():
    """Airplanes and trucks (0) against birds and cats (1); airplanes and birds overlap."""
    rng = np.random.default_rng(0)
    originals = np.repeat(["airplane", "truck", "bird", "cat"], 50)
    labels = np.repeat([0, 0, 1, 1], 50)
    centre = {"airplane": -0.3, "truck": -3.0, "bird": 0.3, "cat": 3.0}
    score = np.array([centre[name] for name in originals]) + rng.standard_normal(200)
    logits = np.stack([-score / 2, score / 2], axis=1) + rng.standard_normal((200, 1))
    return logits, Cohort(labels, np.arange(200) // 2, class_names=["vehicle", "animal"]), originals


def test_counts_and_intervals(judged):
    table = class_table(*judged, BOOTSTRAP).set_index("original")
    logits, cohort, originals = judged
    labels, predicted = cohort.labels, logits.argmax(axis=1)
    for name in set(originals):
        rows = originals == name
        assert table.loc[name, "num_wrong"] == np.sum(predicted[rows] != labels[rows])
        assert table.loc[name, "predicted_animal"] == np.sum(predicted[rows] == 1)
        assert table.loc[name, ["predicted_vehicle", "predicted_animal"]].sum() == table.loc[name, "num_images"] == 50
        assert table.loc[name, "low"] <= table.loc[name, "accuracy"] <= table.loc[name, "high"]
    assert set(table.index[:2]) == {"airplane", "bird"}, "the worst come first"
    assert table.loc["truck", "class"] == "vehicle"


def test_pairs_are_areas_under_the_curve_of_the_difference(judged):
    logits, _, originals = judged
    table = pair_table(*judged, BOOTSTRAP)
    assert {frozenset(pair) for pair in zip(table["one"], table["other"], strict=True)} == {
        frozenset(pair) for pair in (("airplane", "bird"), ("airplane", "cat"), ("truck", "bird"), ("truck", "cat"))
    }
    hardest = table.iloc[0]
    assert {hardest["one"], hardest["other"]} == {"airplane", "bird"}
    rows = np.isin(originals, ["airplane", "bird"])
    expected = roc_auc_score(originals[rows] == "bird", (logits[:, 1] - logits[:, 0])[rows])
    assert hardest["auc"] == pytest.approx(expected)
    assert hardest["low"] < hardest["auc"] < hardest["high"]
    assert table["auc"].is_monotonic_increasing


def test_what_is_said(judged):
    tables = class_table(*judged, BOOTSTRAP), pair_table(*judged, BOOTSTRAP)
    worst, hardest = findings(*tables, 0.95)
    assert "the most often wrong of " in worst
    assert "airplane and bird" in hardest or "bird and airplane" in hardest
    assert hardest.endswith("; 95 % intervals, of all pairs at once)")


def test_nobody_is_the_worst_where_nothing_is_wrong(judged):
    _, cohort, originals = judged
    right = np.stack([1 - cohort.labels, cohort.labels], axis=1) * 9.0, cohort, originals
    tables = class_table(*right, BOOTSTRAP), pair_table(*right, BOOTSTRAP)
    assert findings(*tables, 0.95) == ["by original class: no image of any of them is wrong"]


def test_every_pair_can_be_read_whatever_its_colour(judged):
    """Light figures on dark, dark ones on bright; also where all pairs are told apart perfectly, which is all dark."""
    classes = class_table(*judged, BOOTSTRAP)
    pairs = pair_table(*judged, BOOTSTRAP)
    for of_pairs in (pairs, pairs.assign(auc=1.0)):
        _, heat = original_classes(classes, of_pairs).axes
        (drawn,) = heat.get_images()
        for text in heat.texts:
            column, row = map(int, text.get_position())
            shade = np.mean(drawn.cmap(drawn.norm(drawn.get_array()[row, column]))[:3])
            assert abs(shade - np.mean(to_rgb(text.get_color()))) > 0.35


def test_no_intervals_are_claimed_where_there_are_none(judged):
    none = Bootstrap(0, 0.95)
    tables = class_table(*judged, none), pair_table(*judged, none)
    assert not any("interval" in line or "[" in line for line in findings(*tables, 0.95))

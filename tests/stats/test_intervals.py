import json
import math
import tracemalloc

import numpy as np
import pytest
from drawn_predictions import names, random_predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from fpclass.stats import draws, intervals
from fpclass.stats.bounds import Support, resampled_bounds, wilson_bounds
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval, describe_groups, evaluate_predictions, metric_bounds
from fpclass.stats.metrics import compute_metrics
from fpclass.stats.weighted_metrics import OVERALL_METRICS, PER_CLASS_METRICS


def test_resamples_draw_whole_groups():
    cohort = Cohort(np.zeros(5, int), ["a", "b", "b", "c", "a"])
    weights = np.concatenate(list(Bootstrap(500, 0.95).weights(cohort)))
    assert weights.shape == (500, 5)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 4])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 2])
    # As many draws as groups, each with the same chance.
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)
    assert weights.max() == 3


def test_result_depends_on_the_seed_only(monkeypatch):
    logits, labels = random_predictions(60, 3)
    cohort = Cohort(labels, np.arange(60) // 3)

    def run(seed):
        return metric_bounds(logits, cohort, Bootstrap(101, 0.95, seed))

    first = run(0)
    monkeypatch.setattr(intervals, "RESAMPLES_PER_CHUNK", 10)
    monkeypatch.setattr(draws, "IMAGE_WEIGHTS_PER_PART", 180)  # three of them
    second = run(0)
    assert first["accuracy"] == second["accuracy"]
    assert first["roc_auc"] == pytest.approx(second["roc_auc"], abs=1e-12)
    assert first["recall"] == second["recall"]
    assert run(1)["log_loss"] != first["log_loss"]


def test_interval_is_that_of_resampled_people():
    """The same numbers the slow way: pick people, copy their images, evaluate, take the deviation."""
    logits, labels = random_predictions(40, 2)
    groups = np.arange(40) // 4
    rng = np.random.default_rng(5)
    values = []
    for _ in range(300):
        chosen = rng.integers(0, 10, 10)
        rows = np.concatenate([np.flatnonzero(groups == g) for g in chosen])
        found = compute_metrics(logits[rows], labels[rows], names(2))
        values.append([found["accuracy"], found["log_loss"]])
    result = metric_bounds(logits, Cohort(labels, groups), Bootstrap(300, 0.8, seed=5))
    points = compute_metrics(logits, labels, names(2))
    error = np.std(values, axis=0) * math.sqrt(10 / 9) * stats.t.ppf(0.9, 9)
    accuracy, loss = points["accuracy"], points["log_loss"]
    odds = special.logit(accuracy) + np.array([-1, 1]) * error[0] / (accuracy * (1 - accuracy))
    assert result["accuracy"] == pytest.approx(special.expit(odds), abs=1e-12)
    assert result["log_loss"] == pytest.approx(loss * np.exp(np.array([-1, 1]) * error[1] / loss), abs=1e-12)


def test_few_people_and_unequal_ones_count_as_fewer():
    cohort = Cohort(np.zeros(24, int), np.arange(4).repeat([3, 3, 9, 9]))
    assert cohort.effective_groups() == pytest.approx(24**2 / (9 + 9 + 81 + 81))
    assert cohort.effective_groups(np.arange(24) < 6) == 2
    assert Cohort(np.zeros(8, int), np.arange(4).repeat(2)).effective_groups() == 4
    logits, labels = random_predictions(40, 2)
    said = evaluate_predictions(logits, Cohort(labels, np.arange(40) // 4, None, names(2)), Bootstrap(50, 0.95))
    assert said["effective_groups"] == 10
    assert said["interval"].endswith("rough: as much as 10 people alike")


def test_one_error_more_is_never_better():
    """The bounds of 49 right of 50 lie below those of 50, as of 1 below those of 2 wrong."""
    labels, before = np.arange(50) % 2, (-1.0, -1.0)
    for num_right in (*range(6), 25, *range(46, 51)):
        logits = np.eye(2)[np.where(np.arange(50) < num_right, labels, 1 - labels)]
        bounds = metric_bounds(logits, Cohort(labels), Bootstrap(400, 0.95), ["accuracy"])["accuracy"]
        assert all(new > old for new, old in zip(bounds, before, strict=True)), num_right
        before = bounds


def test_people_and_their_images_are_drawn_together(monkeypatch):
    """The same people for a cohort of images and one of people, or their difference is no paired one."""
    people = np.arange(60).repeat(50)
    images, units = Cohort(people % 3, people), Cohort(np.arange(60) % 3, np.arange(60))
    bootstrap = Bootstrap(400, 0.95)
    for within in (False, True):
        first = np.concatenate(list(bootstrap.weights(images, within_classes=within)))[:, ::50]
        np.testing.assert_array_equal(first, np.concatenate(list(bootstrap.weights(units, within_classes=within))))
        monkeypatch.setattr(intervals, "DRAWN_PER_CHUNK", 100)
        again = np.concatenate(list(bootstrap.weights(images.take(np.arange(3000)), within_classes=within)))
        np.testing.assert_array_equal(first, again[:, ::50])
        monkeypatch.undo()


def test_people_are_drawn_within_their_class_where_every_class_is_needed():
    """A hundred classes of three people: drawn at random, next to no resample has all of them."""
    rng = np.random.default_rng(0)
    people = np.arange(300).repeat(2)
    labels = people // 3
    logits = 2.5 * np.eye(100)[labels] + rng.normal(size=(600, 100))
    cohort, bootstrap = Cohort(labels, people), Bootstrap(200, 0.95)
    within = np.concatenate(list(bootstrap.weights(cohort, within_classes=True)))
    assert (np.stack([within[:, labels == k].sum(axis=1) for k in range(100)]) == 6).all()
    at_random = np.concatenate(list(bootstrap.weights(cohort)))
    assert (np.stack([at_random[:, labels == k].sum(axis=1) for k in range(100)]) == 0).any(axis=0).mean() > 0.9
    value = compute_metrics(logits, labels, names(100))["macro_f1"]
    low, high = metric_bounds(logits, cohort, bootstrap, ["macro_f1"])["macro_f1"]
    assert low < value < high
    assert (value - low, high - value) == pytest.approx(((high - low) / 2,) * 2, rel=0.1), "as far up as down"
    # Who has images of several classes cannot be drawn within one.
    mixed = Cohort(np.arange(600) % 2, people)
    assert mixed.class_of_groups is None
    np.testing.assert_array_equal(next(bootstrap.weights(mixed, within_classes=True)), next(bootstrap.weights(mixed)))


def test_too_few_defined_resamples_give_no_interval():
    values = np.full(100, 0.7) + np.linspace(-0.1, 0.1, 100)
    assert None not in resampled_bounds(0.7, np.where(np.arange(100) < 10, np.nan, values), 0.95, Support(50))
    assert None in resampled_bounds(0.7, np.where(np.arange(100) < 11, np.nan, values), 0.95, Support(50))


def test_no_interval_from_one_group():
    logits, labels = random_predictions(20, 2)
    result = metric_bounds(logits, Cohort(labels, ["one"] * 20), Bootstrap(50, 0.95))
    assert set(map(str, result.values())) == {"(None, None)", "[(None, None), (None, None)]"}


def test_metrics_of_a_class_seen_in_one_group_have_no_interval():
    logits, labels = random_predictions(30, 2)
    labels = np.array([1] * 3 + [0] * 27)
    groups = ["rare"] * 3 + [f"person {i}" for i in range(27)]
    result = metric_bounds(logits, Cohort(labels, groups), Bootstrap(100, 0.95))
    assert result["recall"][1] == result["roc_auc"] == (None, None)
    assert None not in (*result["recall"][0], *result["accuracy"])


def test_all_right_does_not_mean_certain():
    labels = np.array([0] * 20 + [1] * 10)
    logits = np.eye(2)[labels] * 3
    cohort, bootstrap = Cohort(labels, np.arange(30) // 2), Bootstrap(100, 0.95)
    result = metric_bounds(logits, cohort, bootstrap)
    assert result["accuracy"] == pytest.approx(wilson_bounds(15, 15, 0.95))
    assert result["recall"][1] == pytest.approx(wilson_bounds(5, 5, 0.95))
    assert result["precision"][0] == pytest.approx(wilson_bounds(10, 10, 0.95))
    assert result["roc_auc"] == pytest.approx(wilson_bounds(5, 5, 0.95))
    wrong = metric_bounds(-logits, cohort, bootstrap)
    assert wrong["accuracy"] == pytest.approx(wilson_bounds(0, 15, 0.95))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0.809 * 1055, 1055, 0.784, 0.832),  # the reference's private leaderboard
        (240, 267, 0.857, 0.930),  # Budka et al. 2021
        (0, 10, 0, 0.2775),
    ],
)
def test_wilson_interval_as_published(successes, n, low, high):
    assert wilson_bounds(successes, n, 0.95) == pytest.approx((low, high), abs=6e-4)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_interval_holds_the_proportion_and_stays_in_range(n, share, confidence):
    low, high = wilson_bounds(share * n, n, confidence)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    mirrored = wilson_bounds(n - share * n, n, confidence)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="trials"):
        wilson_bounds(successes, n, 0.95)


def test_evaluation_holds_points_and_intervals_and_is_json():
    logits, labels = random_predictions(120, 3)
    cohort = Cohort(labels, np.arange(120) // 2, class_names=names(3))
    result = evaluate_predictions(logits, cohort, Bootstrap(200, 0.9))
    points = compute_metrics(logits, labels, names(3))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for metric in OVERALL_METRICS:
        scores = result[metric]
        assert scores["value"] == points[metric]
        assert scores["low"] < scores["value"] < scores["high"]
    for name, values in result["per_class"].items():
        assert values["support"] == points["per_class"][name]["support"]
        for metric in PER_CLASS_METRICS:
            assert values[metric]["value"] == points["per_class"][name][metric]
            assert values[metric]["low"] < values[metric]["value"] < values[metric]["high"]
    assert (result["num_images"], result["num_groups"]) == (120, 60)
    assert result["interval"] == "90 % bootstrap t over 60 people, 200 resamples"
    assert result["groups_are"] == describe_groups(result) == "people"


def test_evaluation_without_groups_or_without_resamples_says_so():
    logits, labels = random_predictions(30, 2)
    cohort = Cohort(labels, [""] * 30, class_names=names(2))
    ungrouped = evaluate_predictions(logits, cohort, Bootstrap(10, 0.95))
    assert ungrouped["interval"] == "95 % bootstrap t over 30 images, 10 resamples"
    without = evaluate_predictions(logits, cohort, Bootstrap(0, 0.95))
    assert without["interval"] is None
    assert describe_groups(without) == "images"
    of_people = Cohort(labels, np.arange(30) // 3, None, names(2))
    assert describe_groups(evaluate_predictions(logits, of_people, Bootstrap(0, 0.95))) == "people"
    assert without["accuracy"]["low"] is None
    assert without["per_class"]["class 0"]["f1"]["high"] is None


def test_memory_grows_by_a_byte_for_each_person_and_resample():
    logits, labels = random_predictions(20_000, 2)
    tracemalloc.start()
    try:
        # 80 MB; all weights at once would be 640 MB.
        metric_bounds(logits, Cohort(labels), Bootstrap(4000, 0.95), ["accuracy"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 130e6


def test_coverage_with_several_images_per_person():
    """Nominal 95 % holds by resampling people; resampling their images as if independent does not."""
    num_people, num_prints, num_studies, true_accuracy = 60, 5, 400, 0.8
    rng = np.random.default_rng(0)
    people = np.arange(num_people).repeat(num_prints)
    labels = (np.arange(num_people) % 2).repeat(num_prints)
    covered = {"people": 0, "images": 0}
    for study in range(num_studies):
        # Prints of one person are alike: some people are nearly always recognised, others seldom.
        ability = rng.beta(2 * true_accuracy, 2 * (1 - true_accuracy), num_people).repeat(num_prints)
        is_right = rng.random(num_people * num_prints) < ability
        logits = np.eye(2)[np.where(is_right, labels, 1 - labels)]
        for drawn, cohort in (("people", Cohort(labels, people)), ("images", Cohort(labels))):
            low, high = metric_bounds(logits, cohort, Bootstrap(300, 0.95, seed=study), ["accuracy"])["accuracy"]
            covered[drawn] += low <= true_accuracy <= high
    assert 0.91 <= covered["people"] / num_studies <= 0.98
    assert covered["images"] / num_studies < 0.88


@pytest.mark.parametrize(
    ("interval", "plain", "signed"),
    [
        (Interval(0.8124, 0.7836, 0.8401), "0.812 [0.784, 0.840]", "+0.812 [+0.784, +0.840]"),
        (Interval(-0.02, -0.05, 0.01), "-0.020 [-0.050, 0.010]", "-0.020 [-0.050, +0.010]"),
        (Interval(0.5), "0.500", "+0.500"),
        (Interval(0.5, math.nan, math.nan), "0.500", "+0.500"),
        (Interval(), "-", "-"),
    ],
)
def test_an_interval_prints_itself(interval, plain, signed):
    assert (str(interval), f"{interval}", f"{interval:+}") == (plain, plain, signed)
    assert Interval.of({**interval.to_json(), "num_bins": 3}) == interval
    assert list(interval.columns("x")) == ["x", "x_low", "x_high"]


def test_an_estimate_is_the_value_with_its_interval():
    logits, labels = random_predictions(60, 2)
    cohort, bootstrap = Cohort(labels, np.arange(60) // 3), Bootstrap(100, 0.9)
    is_right = logits.argmax(axis=1) == labels
    accuracy = bootstrap.estimate(lambda weights: weights @ is_right / weights.sum(axis=1), cohort)
    assert accuracy.value == pytest.approx(is_right.mean())
    assert (accuracy.low, accuracy.high) == pytest.approx(metric_bounds(logits, cohort, bootstrap)["accuracy"])
    assert bootstrap.estimate(lambda weights: np.full(len(weights), np.nan), cohort) == Interval()
    assert bootstrap.estimate(lambda weights: weights[:, 0], cohort, num_groups=1).low is None


def test_a_loss_that_no_resample_changes_has_no_interval():
    labels = np.arange(80) % 2
    for margin in (6.0, 60.0):  # nats; at 60 the loss is 0 in double precision
        scores = evaluate_predictions(
            margin * np.eye(2)[labels], Cohort(labels, class_names=("a", "b")), Bootstrap(200, 0.95)
        )
        assert scores["log_loss"]["low"] is scores["log_loss"]["high"] is None
        assert scores["roc_auc"]["low"] < 0.95

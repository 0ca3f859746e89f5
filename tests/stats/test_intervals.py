import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fpclass.stats import intervals
from fpclass.stats.metrics import classification_report, compute_metrics


def random_predictions(num_images, num_classes, seed=0):
    """Logits that are right more often than not, with many ties among them, and every class present."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), rng.integers(0, num_classes, num_images - num_classes)])
    logits = rng.normal(size=(num_images, num_classes))
    logits[np.arange(num_images), labels] += 1
    logits[1::3] = logits[: len(logits[1::3])]  # exact ties, also between images of different classes
    return logits, labels


def names(num_classes):
    return [f"class {k}" for k in range(num_classes)]


def scikit_learn_metrics(logits, labels, weights):
    num_classes = logits.shape[1]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = logits.argmax(axis=1)
    squares = (probabilities - np.eye(num_classes)[labels]) ** 2
    brier = squares[:, 1] if num_classes == 2 else squares.sum(axis=1)
    scores = probabilities[:, 1] if num_classes == 2 else probabilities
    options = {} if num_classes == 2 else {"multi_class": "ovr", "average": "macro"}
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, predicted, sample_weight=weights)
    return {
        "accuracy": sk.accuracy_score(labels, predicted, sample_weight=weights),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted, sample_weight=weights),
        "macro_f1": sk.f1_score(labels, predicted, average="macro", sample_weight=weights),
        "roc_auc": sk.roc_auc_score(labels, scores, sample_weight=weights, **options),
        "log_loss": sk.log_loss(labels, probabilities, sample_weight=weights),
        "brier": np.average(brier, weights=weights),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_weighted_metrics_agree_with_scikit_learn(num_classes):
    logits, labels = random_predictions(200, num_classes)
    weights = np.random.default_rng(1).exponential(size=(7, 200))
    values = intervals.weighted_metrics(logits, labels, weights)
    for b, row in enumerate(weights):
        for metric, expected in scikit_learn_metrics(logits, labels, row).items():
            np.testing.assert_allclose(values[metric][b], expected, rtol=0, atol=1e-9, err_msg=metric)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 4), st.integers(4, 30), st.integers(0, 2**32 - 1))
def test_a_weight_is_a_number_of_copies(num_classes, num_images, seed):
    logits, labels = random_predictions(num_images, num_classes, seed)
    weights = np.random.default_rng(seed).integers(0, 4, num_images)
    weights[:num_classes] += 1  # one of each class stays
    values = intervals.weighted_metrics(logits, labels, weights[None].astype(float))
    copies = compute_metrics(logits.repeat(weights, axis=0), labels.repeat(weights), names(num_classes))
    for metric in intervals.OVERALL_METRICS:
        assert values[metric][0] == pytest.approx(copies[metric], abs=1e-9), metric
    for metric in intervals.PER_CLASS_METRICS:
        expected = [v[metric] if v[metric] is not None else np.nan for v in copies["per_class"].values()]
        np.testing.assert_allclose(values[metric][0], expected, atol=1e-9, err_msg=metric)


def test_ties_count_half():
    logits = np.zeros((4, 2))
    logits[:, 1] = [1, 1, 1, 2]
    weights = np.array([[1.0, 1, 1, 1], [3, 1, 1, 0]])
    # Positives are images 1 and 3: pairs (1,0) tie, (1,2) tie, (3,0) right, (3,2) right.
    area = intervals.weighted_metrics(logits, np.array([0, 1, 0, 1]), weights, ["roc_auc"])["roc_auc"]
    np.testing.assert_allclose(area, [3 / 4, 1 / 2])


def test_a_weighting_without_a_class_is_undefined_where_it_must_be():
    logits = np.array([[2.0, 0], [0, 2], [2, 0]])
    values = intervals.weighted_metrics(logits, np.array([0, 1, 0]), np.array([[1.0, 0, 1]]))
    for metric in ("roc_auc", "balanced_accuracy", "macro_f1"):
        assert np.isnan(values[metric][0]), metric
    assert values["accuracy"][0] == 1
    np.testing.assert_array_equal(values["recall"][0], [1, np.nan])
    np.testing.assert_array_equal(values["precision"][0], [1, np.nan])


def test_resamples_draw_whole_groups():
    codes = intervals.group_codes(["a", "b", "b", "c", "a"])
    weights = np.concatenate(list(intervals.group_resamples(codes, 500, seed=0)))
    assert weights.shape == (500, 5)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 4])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 2])
    # As many draws as groups, each with the same chance.
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)
    assert weights.max() == 3


def test_unknown_groups_are_one_image_each():
    codes = intervals.group_codes(["", "p", "", "p", float("nan"), None, 0])
    assert codes.tolist() == [0, 1, 2, 1, 3, 4, 5]
    assert intervals.group_codes(np.array(["x", "y", "x"])).tolist() == [0, 1, 0]


def test_result_depends_on_the_seed_only(monkeypatch):
    logits, labels = random_predictions(60, 3)
    groups = [f"person {i // 3}" for i in range(60)]

    def run(seed):
        return intervals.bootstrap_groups(logits, labels, groups, num_resamples=101, confidence=0.95, seed=seed)

    first = run(0)
    monkeypatch.setattr(intervals, "WEIGHTS_PER_CHUNK", 600)  # ten resamples at a time
    second = run(0)
    assert first["accuracy"] == second["accuracy"]
    assert first["roc_auc"] == pytest.approx(second["roc_auc"], abs=1e-12)
    assert first["recall"] == second["recall"]
    assert run(1)["log_loss"] != first["log_loss"]


def test_interval_is_that_of_resampled_people():
    """The same numbers the slow way: pick people, copy their images, evaluate, take percentiles."""
    logits, labels = random_predictions(40, 2)
    groups = np.array([f"person {i // 4}" for i in range(40)])
    rng = np.random.default_rng(5)
    values = []
    for _ in range(300):
        chosen = rng.integers(0, 10, 10)
        rows = np.concatenate([np.flatnonzero(groups == f"person {g}") for g in chosen])
        values.append(compute_metrics(logits[rows], labels[rows], names(2))["macro_f1"])
    result = intervals.bootstrap_groups(logits, labels, groups.tolist(), num_resamples=300, confidence=0.8, seed=5)
    assert result["macro_f1"] == pytest.approx(np.quantile(values, [0.1, 0.9]), abs=1e-12)


def test_no_interval_from_one_group():
    logits, labels = random_predictions(20, 2)
    result = intervals.bootstrap_groups(logits, labels, ["one"] * 20, num_resamples=50, confidence=0.95)
    assert set(map(str, result.values())) == {"None", "[None, None]"}


def test_metrics_of_a_class_seen_in_one_group_have_no_interval():
    logits, labels = random_predictions(30, 2)
    labels = np.array([1] * 3 + [0] * 27)
    groups = ["rare"] * 3 + [f"person {i}" for i in range(27)]
    result = intervals.bootstrap_groups(logits, labels, groups, num_resamples=100, confidence=0.95)
    assert result["recall"][1] is None
    assert result["roc_auc"] is None
    assert result["recall"][0] is not None
    assert result["accuracy"] is not None


def test_all_right_does_not_mean_certain():
    labels = np.array([0] * 20 + [1] * 10)
    logits = np.eye(2)[labels] * 3
    groups = [f"person {i // 2}" for i in range(30)]
    result = intervals.bootstrap_groups(logits, labels, groups, num_resamples=100, confidence=0.95)
    assert result["accuracy"] == pytest.approx(intervals.wilson_interval(15, 15, 0.95))
    assert result["recall"][1] == pytest.approx(intervals.wilson_interval(5, 5, 0.95))
    assert result["precision"][0] == pytest.approx(intervals.wilson_interval(10, 10, 0.95))
    assert result["roc_auc"] == pytest.approx(intervals.wilson_interval(5, 5, 0.95))
    wrong = intervals.bootstrap_groups(-logits, labels, groups, num_resamples=100, confidence=0.95)
    assert wrong["accuracy"] == pytest.approx(intervals.wilson_interval(0, 15, 0.95))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0.809 * 1055, 1055, 0.784, 0.832),  # the reference's private leaderboard
        (240, 267, 0.857, 0.930),  # Budka et al. 2021
        (0, 10, 0, 0.2775),
    ],
)
def test_wilson_interval_as_published(successes, n, low, high):
    assert intervals.wilson_interval(successes, n, 0.95) == pytest.approx((low, high), abs=6e-4)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_interval_holds_the_proportion_and_stays_in_range(n, share, confidence):
    low, high = intervals.wilson_interval(share * n, n, confidence)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    mirrored = intervals.wilson_interval(n - share * n, n, confidence)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="trials"):
        intervals.wilson_interval(successes, n, 0.95)


def test_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="acuracy"):
        intervals.weighted_metrics(np.zeros((2, 2)), np.array([0, 1]), np.ones((1, 2)), ["acuracy"])


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match="3 groups for 2 images"):
        intervals.bootstrap_groups(np.zeros((2, 2)), np.array([0, 1]), "abc", num_resamples=1, confidence=0.95)


def test_evaluation_holds_points_and_intervals_and_is_json():
    logits, labels = random_predictions(120, 3)
    groups = [f"person {i // 2}" for i in range(120)]
    result = intervals.evaluate_predictions(logits, labels, groups, names(3), num_bootstrap=200, confidence=0.9)
    points = compute_metrics(logits, labels, names(3))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for metric in intervals.OVERALL_METRICS:
        scores = result[metric]
        assert scores["value"] == points[metric]
        assert scores["low"] < scores["value"] < scores["high"]
    for name, values in result["per_class"].items():
        assert values["support"] == points["per_class"][name]["support"]
        for metric in intervals.PER_CLASS_METRICS:
            assert values[metric]["value"] == points["per_class"][name][metric]
            assert values[metric]["low"] < values[metric]["value"] < values[metric]["high"]
    assert (result["num_images"], result["num_groups"]) == (120, 60)
    assert result["interval"] == "90 % percentile bootstrap over 60 people, 200 resamples"
    accuracy = result["accuracy"]
    report = classification_report(result)
    assert f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]" in report
    assert result["interval"] in report


def test_evaluation_without_groups_or_without_resamples_says_so():
    logits, labels = random_predictions(30, 2)
    ungrouped = intervals.evaluate_predictions(logits, labels, [""] * 30, names(2), num_bootstrap=10, confidence=0.95)
    assert ungrouped["interval"] == "95 % percentile bootstrap over 30 images, 10 resamples"
    without = intervals.evaluate_predictions(logits, labels, [""] * 30, names(2), num_bootstrap=0, confidence=0.95)
    assert without["interval"] is None
    assert without["accuracy"]["low"] is None
    assert without["per_class"]["class 0"]["f1"]["high"] is None


def test_memory_does_not_grow_with_the_number_of_resamples():
    logits, labels = random_predictions(20_000, 2)
    tracemalloc.start()
    try:
        # All weights at once would be 640 MB.
        intervals.bootstrap_groups(logits, labels, range(20_000), ["accuracy"], num_resamples=4000, confidence=0.95)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_coverage_with_several_images_per_person():
    """Nominal 95 % holds by resampling people; resampling their images as if independent does not."""
    num_people, num_prints, num_studies, true_accuracy = 60, 5, 400, 0.8
    rng = np.random.default_rng(0)
    people = np.arange(num_people).repeat(num_prints).tolist()
    labels = (np.arange(num_people) % 2).repeat(num_prints)
    covered = {"people": 0, "images": 0}
    for study in range(num_studies):
        # Prints of one person are alike: some people are nearly always recognised, others seldom.
        ability = rng.beta(2 * true_accuracy, 2 * (1 - true_accuracy), num_people).repeat(num_prints)
        is_right = rng.random(num_people * num_prints) < ability
        logits = np.eye(2)[np.where(is_right, labels, 1 - labels)]
        for unit, groups in (("people", people), ("images", range(len(people)))):
            low, high = intervals.bootstrap_groups(
                logits, labels, groups, ["accuracy"], num_resamples=300, confidence=0.95, seed=study
            )["accuracy"]
            covered[unit] += low <= true_accuracy <= high
    assert 0.91 <= covered["people"] / num_studies <= 0.98
    assert covered["images"] / num_studies < 0.88

import numpy as np
import pytest
from drawn_predictions import names, random_predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fpclass.stats.metrics import compute_metrics
from fpclass.stats.weighted_metrics import (
    MACRO_PRECISION,
    OVERALL_METRICS,
    PER_CLASS_METRICS,
    class_of,
    make_weighted_metrics,
    metric_value,
    of_class,
)


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
    values = make_weighted_metrics(logits, labels)(weights)
    for b, row in enumerate(weights):
        for metric, expected in scikit_learn_metrics(logits, labels, row).items():
            np.testing.assert_allclose(values[metric][b], expected, rtol=0, atol=1e-9, err_msg=metric)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 4), st.integers(4, 30), st.integers(0, 2**32 - 1))
def test_a_weight_is_a_number_of_copies(num_classes, num_images, seed):
    logits, labels = random_predictions(num_images, num_classes, seed)
    weights = np.random.default_rng(seed).integers(0, 4, num_images)
    weights[:num_classes] += 1  # one of each class stays
    values = make_weighted_metrics(logits, labels)(weights[None].astype(float))
    copies = compute_metrics(logits.repeat(weights, axis=0), labels.repeat(weights), names(num_classes))
    for metric in OVERALL_METRICS:
        assert values[metric][0] == pytest.approx(copies[metric], abs=1e-9), metric
    for metric in PER_CLASS_METRICS:
        expected = [v[metric] if v[metric] is not None else np.nan for v in copies["per_class"].values()]
        np.testing.assert_allclose(values[metric][0], expected, atol=1e-9, err_msg=metric)


def test_ties_count_half():
    logits = np.zeros((4, 2))
    logits[:, 1] = [1, 1, 1, 2]
    weights = np.array([[1.0, 1, 1, 1], [3, 1, 1, 0]])
    # Positives are images 1 and 3: pairs (1,0) tie, (1,2) tie, (3,0) right, (3,2) right.
    area = make_weighted_metrics(logits, np.array([0, 1, 0, 1]), ["roc_auc"])(weights)["roc_auc"]
    np.testing.assert_allclose(area, [3 / 4, 1 / 2])


def test_a_weighting_without_a_class_is_undefined_where_it_must_be():
    logits = np.array([[2.0, 0], [0, 2], [2, 0]])
    values = make_weighted_metrics(logits, np.array([0, 1, 0]))(np.array([[1.0, 0, 1]]))
    for metric in ("roc_auc", "balanced_accuracy", "macro_f1"):
        assert np.isnan(values[metric][0]), metric
    assert values["accuracy"][0] == 1
    np.testing.assert_array_equal(values["recall"][0], [1, np.nan])
    np.testing.assert_array_equal(values["precision"][0], [1, np.nan])


def test_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="acuracy"):
        make_weighted_metrics(np.zeros((2, 2)), np.array([0, 1]), ["acuracy"])


def test_metrics_of_one_class_and_the_mean_precision():
    logits, labels = random_predictions(200, 3)
    predicted = logits.argmax(axis=1)
    for k in range(3):
        for name, score in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
            expected = score(labels, predicted, labels=[k], average="macro")
            assert metric_value(logits, labels, of_class(name, k)) == pytest.approx(expected)
            assert class_of(of_class(name, k)) == k
    assert class_of("f1") is None
    expected = sk.precision_score(labels, predicted, average="macro")
    assert metric_value(logits, labels, MACRO_PRECISION) == pytest.approx(expected)


def test_a_class_that_is_never_predicted_has_precision_0_where_members_are_averaged():
    logits, labels = np.array([[2.0, 0.0], [1.0, 0.0]]), np.array([0, 1])
    assert metric_value(logits, labels, of_class("precision", 1)) == 0
    assert metric_value(logits, labels, MACRO_PRECISION) == 0.25
    assert metric_value(logits, labels, of_class("f1", 1)) == 0
    for metric in ("accuracy[1]", "f2", "f1[x"):
        with pytest.raises(ValueError, match="unknown metric"):
            make_weighted_metrics(logits, labels, [metric])

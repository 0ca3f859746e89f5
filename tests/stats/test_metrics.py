import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from drawn_predictions import names, random_predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fpclass.errors import DataError
from fpclass.stats import metrics


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_agrees_with_scikit_learn(num_classes):
    logits, labels = random_predictions(300, num_classes)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = logits.argmax(axis=1)
    result = metrics.compute_metrics(logits, labels, names(num_classes))
    one_hot = np.eye(num_classes)[labels]
    squares = (probabilities - one_hot) ** 2
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "macro_f1": sk.f1_score(labels, predicted, average="macro"),
        "log_loss": sk.log_loss(labels, probabilities),
        "brier": squares[:, 1].mean() if num_classes == 2 else squares.sum(axis=1).mean(),
        "roc_auc": sk.roc_auc_score(labels, probabilities[:, 1])
        if num_classes == 2
        else sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
    }
    assert {m: result[m] for m in expected} == pytest.approx(expected, abs=1e-9)
    np.testing.assert_array_equal(result["confusion_matrix"], sk.confusion_matrix(labels, predicted))
    reference = sk.precision_recall_fscore_support(labels, predicted)
    for k, values in enumerate(result["per_class"].values()):
        per_class = [values[m] for m in ("precision", "recall", "f1", "support")]
        assert per_class == pytest.approx([column[k] for column in reference], abs=1e-12)
    assert result["num_images"] == 300
    assert list(result["per_class"]) == names(num_classes)


def test_confusion_matrix_has_true_classes_in_rows():
    logits = np.array([[0.0, 1, 0], [0, 1, 0], [0, 0, 1]])
    result = metrics.compute_metrics(logits, np.array([0, 0, 2]), names(3))
    assert result["confusion_matrix"] == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_undefined_values_are_null_and_nobody_warns():
    # Class 1 has no image and is predicted once; class 2 has one and is never predicted.
    logits = np.array([[3.0, 0, 0], [0, 3, 0], [3, 0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = metrics.compute_metrics(logits, np.array([0, 0, 2]), names(3))
    assert result["roc_auc"] is None
    assert result["per_class"]["class 1"] == {"precision": 0, "recall": None, "f1": None, "support": 0}
    assert result["per_class"]["class 2"] == {"precision": None, "recall": 0, "f1": 0, "support": 1}
    assert result["balanced_accuracy"] == pytest.approx((1 / 2 + 0) / 2)
    assert result["macro_f1"] == pytest.approx((2 * 1 / (2 + 2) + 0) / 2)
    assert "NaN" not in json.dumps(result)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_large_logits_are_neither_clipped_nor_infinite(num_classes):
    logits = np.zeros((2, num_classes), np.float32)
    logits[0, 0], logits[1, 1] = 2000, 2000  # the second is wrong by e^2000
    result = metrics.compute_metrics(logits, np.array([0, 0]), names(num_classes))
    assert result["log_loss"] == pytest.approx(1000)
    assert result["brier"] == pytest.approx(0.5 if num_classes == 2 else 1)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_scores_of_sure_predictions_still_differ(num_classes):
    # Probabilities of all three round to 1, the logits tell them apart.
    logits = np.zeros((3, num_classes))
    logits[:, 1] = [50, 60, 900]
    scores = metrics.one_vs_rest_scores(logits)
    assert (np.diff(scores[:, 1]) > 0).all()
    assert (np.diff(scores[:, 0]) < 0).all()
    assert np.isfinite(scores).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_scores_are_the_log_odds(num_classes, seed):
    logits = np.random.default_rng(seed).normal(scale=3, size=(20, num_classes))
    probabilities = np.exp(metrics.log_softmax(logits))
    expected = np.log(probabilities) - np.log1p(-probabilities)
    np.testing.assert_allclose(metrics.one_vs_rest_scores(logits), expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1), st.floats(-100, 100))
def test_order_of_images_and_shift_of_logits_do_not_matter(num_classes, seed, shift):
    logits, labels = random_predictions(40, num_classes, seed)
    order = np.random.default_rng(seed).permutation(40)
    first = metrics.compute_metrics(logits, labels, names(num_classes))
    second = metrics.compute_metrics(logits[order] + shift, labels[order], names(num_classes))
    for metric in ("accuracy", "macro_f1", "log_loss", "brier"):
        assert first[metric] == pytest.approx(second[metric], abs=1e-9)


@pytest.mark.parametrize(
    ("logits", "labels", "class_names", "message"),
    [
        (np.zeros((0, 2)), [], ["a", "b"], "no labelled image"),
        (np.zeros((2, 2)), [0], ["a", "b"], "shape"),
        (np.zeros((2, 1)), [0, 0], ["a"], "two classes"),
        (np.array([[0, np.nan], [0, 1]]), [0, 1], ["a", "b"], "1 images are not finite"),
        (np.zeros((2, 2)), [0, 2], ["a", "b"], "label 2 "),
        (np.zeros((2, 2)), [0, -1], ["a", "b"], "label -1 "),
        (np.zeros((2, 2)), [0, 1], ["a", "a"], "distinct"),
        (np.zeros((2, 2)), [0, 1], ["a"], "distinct"),
    ],
)
def test_refuses_what_cannot_be_evaluated(logits, labels, class_names, message):
    with pytest.raises(DataError, match=message) as caught:
        metrics.compute_metrics(logits, np.array(labels, np.int64), class_names)
    assert "\n" not in str(caught.value)


def test_import_stays_light():
    code = "import sys, fpclass.stats.metrics; print([m for m in ('jax', 'sklearn', 'scipy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

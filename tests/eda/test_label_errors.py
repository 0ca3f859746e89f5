import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpclass.eda.label_errors import find_label_errors


def two_classes(p1):
    p1 = np.asarray(p1, float)
    return np.stack([1 - p1, p1], axis=1)


def test_suspects_what_reaches_the_threshold_of_another_class():
    # Thresholds: the mean probability of class 0 among those labelled 0 is 0.55, that of class 1 likewise 0.6.
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    errors = find_label_errors(labels, two_classes([0.1, 0.25, 0.55, 0.9, 0.9, 0.8, 0.1]))
    assert errors.is_suspected.tolist() == [False, False, False, True, False, False, True]
    assert errors.num_suspected == 2
    assert errors.quality == pytest.approx([0.9, 0.75, 0.45, 0.1, 0.9, 0.8, 0.1])
    assert errors.suggested.tolist() == [1, 1, 1, 1, 0, 0, 0]
    # The image that is more probably of the other class, but not confidently so, comes right after the suspected ones.
    assert errors.order.tolist() == [3, 6, 2, 1, 5, 0, 4]


def test_a_class_that_the_models_believe_in_less_has_a_lower_threshold():
    # Class 2 is predicted with 0.5 at best: its threshold is 0.45, and 0.47 is confident for it.
    labels = np.array([0, 0, 0, 2, 2, 1, 1])
    probabilities = np.array(
        [
            [0.9, 0.05, 0.05],
            [0.9, 0.05, 0.05],
            [0.3, 0.23, 0.47],
            [0.3, 0.2, 0.5],
            [0.35, 0.25, 0.4],
            [0.05, 0.9, 0.05],
            [0.05, 0.9, 0.05],
        ]
    )
    errors = find_label_errors(labels, probabilities)
    assert np.flatnonzero(errors.is_suspected).tolist() == [2]
    assert errors.suggested[2] == 2


def test_classes_without_a_label_are_left_out():
    labels = np.array([0, 0, 0, 3, 3, 3])
    probabilities = np.full((6, 5), 0.02)
    probabilities[[0, 1, 5], 0] = 0.92
    probabilities[[2, 3, 4], 3] = 0.92
    errors = find_label_errors(labels, probabilities)
    assert np.flatnonzero(errors.is_suspected).tolist() == [2, 5]
    assert errors.suggested[[2, 5]].tolist() == [3, 0]


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        ([0, 0], two_classes([0.1, 0.2])),
        ([0, 2], two_classes([0.1, 0.2])),
        ([0, -1], two_classes([0.1, 0.2])),
        ([0, 1, 1], two_classes([0.1, 0.2])),
        ([0, 1], np.array([[0.5, 0.4], [0.5, 0.5]])),
        ([0, 1], np.array([[1.5, -0.5], [0.5, 0.5]])),
    ],
    ids=["one class", "out of range", "unlabelled", "lengths", "sum", "negative"],
)
def test_refuses_what_makes_no_sense(labels, probabilities):
    with pytest.raises(ValueError):
        find_label_errors(np.array(labels), probabilities)


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_finds_planted_errors_of_a_good_classifier(seed, num_classes):
    rng = np.random.default_rng(seed)
    truth = np.arange(60 * num_classes) % num_classes
    logits = rng.normal(0, 1, (len(truth), num_classes))
    logits[np.arange(len(truth)), truth] += 6
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    planted = rng.choice(len(truth), len(truth) // 20, replace=False)
    labels = truth.copy()
    labels[planted] = (labels[planted] + rng.integers(1, num_classes, len(planted))) % num_classes
    errors = find_label_errors(labels, probabilities)
    found = np.isin(errors.order[: len(planted)], planted).mean()
    assert found > 0.8
    assert np.isin(planted, np.flatnonzero(errors.is_suspected)).mean() > 0.5
    assert np.isin(np.flatnonzero(errors.is_suspected), planted).mean() > 0.8
    assert np.mean(errors.suggested[planted] == truth[planted]) > 0.85
    assert sorted(errors.order.tolist()) == list(range(len(truth)))

"""The fit of a probe: a plain scikit-learn pipeline, its strength chosen by people; and what it cannot learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fpclass.errors import DataError
from fpclass.models.probe import ProbeHead
from fpclass.stats.metrics import log_softmax
from fpclass.train.probes import fit as fitting
from fpclass.train.probes.fit import NUM_PARTS, fit_probe, inner_parts, judged_share, logits_of

HEAD = ProbeHead(stages=("any",), num_classes=2)


def drawn(num_people=40, num_features=30, num_classes=2, noise=2.0):
    """Features of two images a person, their classes and people."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_people) % num_classes, 2)
    centres = rng.normal(size=(num_classes, num_features))
    features = 5 + centres[labels] + noise * rng.normal(size=(len(labels), num_features)) * rng.uniform(1, 9)
    return features.astype(np.float32), labels, np.repeat([f"person {i}" for i in range(num_people)], 2)


def probabilities(head, probe, features):
    return np.exp(log_softmax(logits_of(head, probe.params, features)))


@pytest.mark.parametrize(("num_features", "num_classes"), [(30, 2), (300, 3)])
def test_it_is_the_regression_of_a_plain_pipeline(num_features, num_classes):
    features, labels, people = drawn(num_features=num_features, num_classes=num_classes)
    head = ProbeHead(stages=("any",), num_classes=num_classes)
    weights = np.where(labels == 0, 2.0, 1.0)
    probe = fit_probe(head, features, labels, people, seed="0", weights=weights)
    regression = LogisticRegression(C=probe.best.strength, tol=1e-8, max_iter=10_000)
    pipeline = make_pipeline(StandardScaler(), regression)
    pipeline.fit(features.astype(np.float64), labels, logisticregression__sample_weight=weights)
    np.testing.assert_allclose(
        probabilities(head, probe, features), pipeline.predict_proba(features.astype(np.float64)), atol=1e-3
    )
    parts, num_parts = inner_parts(labels, people, num_classes, "0")
    x = StandardScaler().fit_transform(features.astype(np.float64))
    out_of_fold = np.zeros((len(labels), num_classes))
    for part in range(num_parts):
        train, judged = parts != part, parts == part
        fitted = LogisticRegression(C=probe.best.strength, tol=1e-8, max_iter=10_000).fit(
            x[train], labels[train], weights[train]
        )
        out_of_fold[judged] = fitted.predict_proba(x[judged])
    np.testing.assert_allclose(np.exp(log_softmax(probe.inner_logits)), out_of_fold, atol=1e-3)
    chosen = probe.best
    assert chosen.loss == pytest.approx(log_loss(labels, out_of_fold, sample_weight=weights), abs=1e-3)
    assert chosen.loss == min(trial.loss for trial in probe.trials)


def test_a_feature_that_hardly_ever_speaks_does_not_decide_alone():
    features, labels, people = drawn(num_features=30)
    features[:, 7] = 0
    features[0, 7] = 1e-3  # the others vary by 2 to 18
    probe = fit_probe(HEAD, features, labels, people, seed="0", widths=(20, 10))
    other = features[:1].copy()
    other[:, 7] = 10.0
    assert np.abs(logits_of(HEAD, probe.params, other) - logits_of(HEAD, probe.params, features[:1])).max() < 2
    assert probe.params["scale"][7] > 0, "nor is it taken for a constant"


def test_labels_that_are_not_trusted_judge_nothing():
    features, labels, people = drawn()
    trusted = np.arange(len(labels)) < 60
    made_up = np.where(trusted, labels, 1 - labels)
    probe = fit_probe(HEAD, features, made_up, people, seed="0", trusted=trusted)
    assert set(probe.inner) == set(np.flatnonzero(trusted))
    alone = fit_probe(HEAD, features[:60], labels[:60], people[:60], seed="0")
    assert probe.best.loss > alone.best.loss, "but they are learnt from"


def test_nobody_is_on_both_sides_of_the_inner_cross_validation():
    """Both images of a person are the same and labels are tossed: whoever saw the one would know the other."""
    rng = np.random.default_rng(1)
    people = np.repeat([f"person {i}" for i in range(40)], 2)
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 2)
    features = np.repeat(rng.normal(size=(40, 200)), 2, axis=0).astype(np.float32)
    parts, num_parts = inner_parts(labels, people, 2, "0")
    assert num_parts == NUM_PARTS
    assert all(len({*parts[people == person]}) == 1 for person in people)
    probe = fit_probe(HEAD, features, labels, people, seed="0")
    assert (probabilities(HEAD, probe, features).argmax(1) == labels).mean() == 1
    assert (probe.inner_logits.argmax(1) == labels).mean() < 0.75
    assert probe.best.loss > 0.6


def test_a_class_of_two_people_makes_two_parts_and_one_of_a_single_person_always_trains():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2])
    people = np.array(["a", "b", "c", "d", "e", "e", "f", "f", "a"])
    parts, num_parts = inner_parts(labels, people, 3, "0")
    assert num_parts == 2
    assert parts[[0, 8]].tolist() == [-1, -1], "the person of the only image of class 2, with all images"
    assert {*parts[1:4]} == {*parts[4:8]} == {0, 1}
    assert inner_parts(labels[:5], people[:5], 3, "0")[1] == 0, "one person of class 1"


def test_sigmoid_and_subclasses_are_the_same_regression():
    features, labels, people = drawn(num_people=24, num_features=60)
    of_softmax = fit_probe(HEAD, features, labels, people, seed="0")
    sigmoid = HEAD.clone(output="sigmoid")
    of_sigmoid = fit_probe(sigmoid, features, labels, people, seed="0")
    assert of_sigmoid.params["logits"]["kernel"].shape == (60, 1)
    expected = probabilities(HEAD, of_softmax, features)
    np.testing.assert_allclose(probabilities(sigmoid, of_sigmoid, features), expected, atol=1e-5)
    # Class 0 is made of two subclasses, class 1 of two, of which one has no image to train on.
    merged = HEAD.clone(subclasses=(2, 2))
    sublabels = np.where(labels == 0, np.arange(len(labels)) // 2 % 4 // 2, 2)
    probe = fit_probe(merged, features, labels, people, seed="0", sublabels=sublabels)
    assert logits_of(merged, probe.params, features).shape == (48, 2)
    assert (probabilities(merged, probe, features).argmax(1) == labels).mean() > 0.9
    assert probe.params["logits"]["kernel"].shape == (60, 4)


@pytest.mark.parametrize("num_features", [5, 100])
def test_images_that_are_all_alike_get_the_shares_of_the_classes(num_features):
    labels = np.array([0, 1, 1, 1] * 5)
    features = np.full((20, num_features), 0.1, np.float32)
    probe = fit_probe(HEAD, features, labels, np.arange(20).astype(str), seed="0")
    np.testing.assert_allclose(probabilities(HEAD, probe, features), [[0.25, 0.75]] * 20, atol=1e-3)
    unseen = probabilities(HEAD, probe, features + 1e3)
    np.testing.assert_allclose(unseen, [[0.25, 0.75]] * 20, atol=1e-3, err_msg="what never varied has no say")


def test_too_few_people_to_choose_get_the_usual_strength_and_one_class_is_refused():
    features, labels, people = drawn(num_people=2)
    probe = fit_probe(HEAD, features, labels, people, seed="0")
    assert (probe.num_parts, len(probe.trials), len(probe.inner)) == (0, 1, 0)
    assert np.isfinite(logits_of(HEAD, probe.params, features)).all()
    with pytest.raises(DataError, match="two classes or more, and all 2 are of one"):
        fit_probe(HEAD, features[:2], labels[:2], people[:2], seed="0")


def test_a_narrow_stage_that_knows_is_raised_over_a_wide_one_that_does_not():
    """As the middle of a network beside its end, on images of what it was not taught."""
    rng = np.random.default_rng(2)
    labels, people = np.arange(120) % 2, np.arange(120).astype(str)
    narrow = rng.normal(size=(120, 8)) + 0.6 * labels[:, None]
    features = np.concatenate([narrow, rng.normal(size=(120, 800))], axis=1).astype(np.float32)
    probe = fit_probe(HEAD, features, labels, people, seed="0", widths=(8, 800))
    assert probe.best.balance == 1
    scale = probe.params["scale"] * features.std(axis=0)
    np.testing.assert_allclose(scale[[0, -1]], np.sqrt([808 / 16, 808 / 1600]), rtol=1e-4)
    by_balance = {b: min(t.loss for t in probe.trials if t.balance == b) for b in (0, 1)}
    assert by_balance[1] == probe.best.loss < by_balance[0] - 0.1
    alone = fit_probe(HEAD, features, labels, people, seed="0")
    assert {trial.balance for trial in alone.trials} == {0}, "one stage has nothing to be balanced with"


def test_of_many_images_not_all_parts_are_judged(monkeypatch):
    features, labels, people = drawn()
    whole = fit_probe(HEAD, features, labels, people, seed="0")
    assert (whole.num_judged, whole.num_parts, len(whole.inner)) == (5, 5, 80)
    monkeypatch.setattr(fitting, "ENOUGH", 15)  # people, of two images
    some = fit_probe(HEAD, features, labels, people, seed="0")
    parts, _ = inner_parts(labels, people, 2, "0")
    assert (some.num_judged, some.num_parts) == (2, 5)
    assert len(some.inner) == 32
    np.testing.assert_array_equal(some.inner, np.flatnonzero(parts < 2))
    same = next(trial for trial in whole.trials if trial.strength == some.best.strength)
    assert some.best.loss != same.loss, "of other images"
    regression = LogisticRegression(C=some.best.strength, tol=1e-8, max_iter=10_000)
    pipeline = make_pipeline(StandardScaler(), regression).fit(features.astype(np.float64), labels)
    expected = pipeline.predict_proba(features.astype(np.float64))
    np.testing.assert_allclose(probabilities(HEAD, some, features), expected, atol=1e-3)
    assert judged_share(40) == 0.4
    assert judged_share(15) == 1


@pytest.mark.parametrize("num_features", [30, 300])
def test_large_data_are_fitted_in_single_precision_to_the_same_probabilities(num_features, monkeypatch):
    features, labels, people = drawn(num_features=num_features)
    double = fit_probe(HEAD, features, labels, people, seed="0")
    kinds = []
    monkeypatch.setattr(fitting, "SINGLE", 1)
    fit = fitting._fit
    monkeypatch.setattr(fitting, "_fit", lambda strength, x, *args: kinds.append(x.dtype) or fit(strength, x, *args))
    single = fit_probe(HEAD, features, labels, people, seed="0")
    assert set(kinds) == {np.dtype(np.float32)}
    assert single.best.strength == double.best.strength
    expected = probabilities(HEAD, double, features)
    np.testing.assert_allclose(probabilities(HEAD, single, features), expected, atol=1e-3)

"""Self-training of probes: which labels are made up, how sure they are, and that they train and never judge."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fpclass.experiment.unlabelled import IMAGES, PEOPLE, WEIGHTED
from fpclass.models.probe import ProbeHead
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.calibration import fit_temperature
from fpclass.train.probes import self_training
from fpclass.train.probes.self_training import ProbeData

NUM_IMAGES, NUM_KNOWN = 160, 60


@pytest.fixture
def data(monkeypatch) -> ProbeData:
    """Features of four images a person that tell two classes apart with errors; the last 100 have no label."""
    monkeypatch.setattr(self_training, "widths", lambda network: ())
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(NUM_IMAGES // 4) % 2, 4)
    features = rng.normal(size=(NUM_IMAGES, 12)) + 0.5 * rng.normal(size=(NUM_IMAGES // 4, 12)).repeat(4, axis=0)
    features[:, 0] += 1.2 * labels
    known = np.where(np.arange(NUM_IMAGES) < NUM_KNOWN, labels, -1)
    groups = np.repeat([f"person {i}" for i in range(NUM_IMAGES // 4)], 4)
    network = types.SimpleNamespace(head=ProbeHead(stages=("any",), num_classes=2))
    copies = np.zeros(NUM_IMAGES, bool)
    return ProbeData(network, features.astype(np.float32), known, groups, groups, copies, np.ones(2))  # pyright: ignore


KNOWN, UNKNOWN = np.arange(NUM_KNOWN), np.arange(NUM_KNOWN, NUM_IMAGES)


def test_an_image_is_believed_from_a_calibrated_confidence_on(data):
    probe = data.fit(KNOWN, "0")
    temperature = fit_temperature(log_softmax(probe.inner_logits.astype(float)), data.labels[probe.inner])
    p = np.exp(log_softmax(data.logits(probe, UNKNOWN).astype(float) / temperature))
    made_up = data.make_up(probe, KNOWN, UNKNOWN, IMAGES, 0.7)
    sure = p.max(axis=1) >= 0.7
    assert 10 < sure.sum() < 90, "or the test says nothing"
    np.testing.assert_array_equal(made_up.rows, UNKNOWN[sure])
    np.testing.assert_array_equal(made_up.labels, p.argmax(axis=1)[sure])
    assert made_up.num_images == sure.sum()
    assert len(data.make_up(probe, KNOWN, UNKNOWN, IMAGES, 0.0).rows) == len(UNKNOWN)


def test_a_person_is_believed_from_a_confidence_on_that_is_calibrated_by_person(data):
    probe = data.fit(KNOWN, "0")
    people, is_first = data.groups[KNOWN].reshape(-1, 4)[:, 0], np.arange(0, NUM_KNOWN, 4)
    of_known = log_softmax(probe.inner_logits.astype(float))
    inner = np.stack([of_known[data.groups[KNOWN] == person].mean(axis=0) for person in people])
    temperature = fit_temperature(log_softmax(inner), data.labels[is_first])
    of_images = log_softmax(data.logits(probe, UNKNOWN).astype(float)).reshape(-1, 4, 2)
    p = np.exp(log_softmax(log_softmax(of_images.mean(1)) / temperature)).repeat(4, axis=0)
    made_up = data.make_up(probe, KNOWN, UNKNOWN, PEOPLE, 0.7)
    np.testing.assert_array_equal(made_up.rows, UNKNOWN[p.max(axis=1) >= 0.7])
    np.testing.assert_allclose(data.make_up(probe, KNOWN, UNKNOWN, WEIGHTED, 0.0).weights.reshape(-1, 2), p)


def test_copies_train_and_calibrate_nothing(data):
    probe = data.fit(KNOWN, "0")
    data.copies[:20] = True
    inner, labels = probe.inner_logits[20:].astype(float), data.labels[20:NUM_KNOWN]
    temperature = fit_temperature(log_softmax(inner), labels)
    p = np.exp(log_softmax(data.logits(probe, UNKNOWN).astype(float) / temperature))
    made_up = data.make_up(probe, KNOWN, UNKNOWN, IMAGES, 0.7)
    np.testing.assert_array_equal(made_up.rows, UNKNOWN[p.max(axis=1) >= 0.7])


def test_a_persons_images_get_one_label_together(data):
    probe = data.fit(KNOWN, "0")
    made_up = data.make_up(probe, KNOWN, UNKNOWN, PEOPLE, 0.7)
    of_images = data.make_up(probe, KNOWN, UNKNOWN, IMAGES, 0.0)
    by_person = {person: set(made_up.labels[data.groups[made_up.rows] == person]) for person in data.groups[UNKNOWN]}
    believed = {person: labels for person, labels in by_person.items() if labels}
    assert 5 < len(believed) < 25
    assert all(len(labels) == 1 for labels in believed.values())
    assert all(np.sum(data.groups[made_up.rows] == person) == 4 for person in believed)
    torn = [len(set(of_images.labels[data.groups[of_images.rows] == person])) for person in believed]
    assert max(torn) == 2, "image by image some of them would have both"


def test_with_weights_everybody_takes_part_as_often_as_there_are_classes(data):
    made_up = data.make_up(data.fit(KNOWN, "0"), KNOWN, UNKNOWN, WEIGHTED, 0.99)
    assert made_up.num_images == len(UNKNOWN)
    np.testing.assert_array_equal(made_up.rows, np.repeat(UNKNOWN, 2))
    np.testing.assert_allclose(made_up.weights.reshape(-1, 2).sum(axis=1), 1)
    weights = {person: set(made_up.weights[data.groups[made_up.rows] == person].round(9)) for person in data.groups}
    assert all(len(of_person) <= 2 for of_person in weights.values()), "a person's images weigh the same"


def test_made_up_labels_train_and_never_judge(data):
    first = data.fit(KNOWN, "0")
    made_up = data.make_up(first, KNOWN, UNKNOWN, IMAGES, 0.7)
    second = data.fit(KNOWN, "0", made_up)
    assert set(second.inner) == set(range(NUM_KNOWN))
    assert not np.allclose(data.logits(first, UNKNOWN), data.logits(second, UNKNOWN))
    wrong = self_training.MadeUp(made_up.rows, 1 - made_up.labels, made_up.weights, made_up.num_images)
    assert data.fit(KNOWN, "0", wrong).best.loss > second.best.loss


def test_weights_of_labels_and_of_classes_count(data):
    """As in a plain regression with the same weights."""
    first = data.fit(KNOWN, "0")
    made_up = data.make_up(first, KNOWN, UNKNOWN, WEIGHTED, 0.0)
    weighted = dataclasses.replace(data, class_weights=np.array([3.0, 0.5]))
    probe = weighted.fit(KNOWN, "0", made_up)
    x = np.concatenate([data.features[KNOWN], data.features[made_up.rows]]).astype(float)
    y = np.concatenate([data.labels[KNOWN], made_up.labels])
    of_each = np.concatenate([np.ones(NUM_KNOWN), made_up.weights]) * weighted.class_weights[y]
    regression = LogisticRegression(C=probe.best.strength, tol=1e-8, max_iter=10_000)
    pipeline = make_pipeline(StandardScaler(), regression).fit(x, y, logisticregression__sample_weight=of_each)
    p = np.exp(log_softmax(data.logits(probe, UNKNOWN).astype(float)))
    np.testing.assert_allclose(p, pipeline.predict_proba(data.features[UNKNOWN].astype(float)), atol=1e-3)


def test_nothing_is_read_of_labels_that_are_not_known(data):
    probe, made_up = data.fit(KNOWN, "0"), data.make_up(data.fit(KNOWN, "0"), KNOWN, UNKNOWN, PEOPLE, 0.6)
    data.labels[UNKNOWN] = 1
    again = data.make_up(data.fit(KNOWN, "0"), KNOWN, UNKNOWN, PEOPLE, 0.6)
    np.testing.assert_array_equal(again.labels, made_up.labels)
    np.testing.assert_array_equal(data.fit(KNOWN, "0").inner_logits, probe.inner_logits)

"""Self-training of probes: which labels are made up, how sure they are, and that they train and never judge."""

from __future__ import annotations

import types

import numpy as np
import pytest

from fpclass.experiment.unlabelled import IMAGES, PEOPLE, WEIGHTED
from fpclass.models.probe import ProbeHead
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.calibration import fit_temperature
from fpclass.train import self_training
from fpclass.train.self_training import ProbeData

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
    return ProbeData(network, features.astype(np.float32), known, groups, np.ones(2))  # pyright: ignore


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


def test_nothing_is_read_of_labels_that_are_not_known(data):
    probe, made_up = data.fit(KNOWN, "0"), data.make_up(data.fit(KNOWN, "0"), KNOWN, UNKNOWN, PEOPLE, 0.6)
    data.labels[UNKNOWN] = 1
    again = data.make_up(data.fit(KNOWN, "0"), KNOWN, UNKNOWN, PEOPLE, 0.6)
    np.testing.assert_array_equal(again.labels, made_up.labels)
    np.testing.assert_array_equal(data.fit(KNOWN, "0").inner_logits, probe.inner_logits)

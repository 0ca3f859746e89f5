"""The scikit-learn classifier: labels of any kind, groups, pickle, and scikit-learn's own checks on rows of tables."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from conftest import SMALLEST
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

import fpclass

SIZE = (24, 20)


def draw(num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey images (N, H, W), dark ones "01" and bright ones "nan": labels that a table would change."""
    rng = np.random.default_rng(0)
    labels = np.array(["01", "nan"], object)[np.arange(num_images) % 2]
    images = rng.integers(0, 60, (num_images, *SIZE), np.uint8)
    images[labels == "nan"] += 150
    return images, labels


@pytest.fixture(scope="module")
def fitted() -> fpclass.ImageClassifier:
    images, labels = draw(32)
    groups = np.repeat(np.arange(16), 2)
    return fpclass.ImageClassifier(size=SIZE, config=SMALLEST).fit(images, labels, groups=groups)


def test_it_predicts_labels_and_is_pickled_with_its_weights(fitted):
    images, labels = draw(32)
    assert fitted.classes_.tolist() == ["01", "nan"]
    assert fitted.score(images, labels) == 1
    shares = fitted.predict_proba(images)
    assert shares.shape == (32, 2)
    assert fitted.classes_[shares.argmax(axis=1)].tolist() == fitted.predict(images).tolist()
    again = pickle.loads(pickle.dumps(fitted))
    folder = fitted.run_.folder
    assert again.run_.folder != folder
    assert (again.predict_proba(images) == shares).all()
    assert again.run_.metrics["validation"]["num_groups"] < again.run_.metrics["validation"]["num_images"]
    assert "confusion_matrix" in again.run_.figures
    unfitted = clone(fitted)
    assert unfitted.get_params() == fitted.get_params()
    assert unfitted.set_params(random_state=3).random_state == 3
    with pytest.raises(ValueError, match="not fitted"):
        unfitted.predict(images)


def test_it_takes_files_and_refuses_what_is_no_list_of_images(fitted, photos):
    paths = sorted(photos.rglob("*.jpeg"))
    assert fitted.predict(paths).shape == (28,)
    assert (fitted.predict_proba([path.read_bytes() for path in paths]) == fitted.predict_proba(paths)).all()
    for x in (paths[0], str(photos), draw(4)[0].reshape(4, -1)):
        with pytest.raises(fpclass.DataError, match="X"):
            fitted.predict(x)
    with pytest.raises(fpclass.DataError, match="empty file"):
        fitted.predict([b"", paths[0]])
    classifier = fpclass.ImageClassifier()
    with pytest.raises(ValueError, match="inconsistent numbers"):
        classifier.fit(paths, [0] * 27)
    with pytest.raises(ValueError, match="only one class"):
        classifier.fit(paths, [0] * 28)


@pytest.mark.slow
def test_people_stay_together_in_cross_validation():
    images, labels = draw(48)
    classifier = fpclass.ImageClassifier(size=SIZE, config=SMALLEST)
    scores = cross_val_score(classifier, images, labels, groups=np.repeat(np.arange(12), 4), cv=GroupKFold(2))
    assert scores.tolist() == [1, 1]


class OnTables(fpclass.ImageClassifier):
    """A classifier of the rows of a table, each drawn as a grey image: what scikit-learn's checks can be run on."""

    def fit(self, X: Any, y: Any) -> OnTables:
        X, y = validate_data(self, X, y)
        return super().fit(drawn(X), y)

    def _predict(self, X: Any) -> Any:
        fpclass.ImageClassifier.run_.__get__(self)  # fitted, or an error
        return super()._predict(drawn(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        tags.classifier_tags.poor_score = True  # some epochs of a tiny network
        return tags


def drawn(table: np.ndarray) -> np.ndarray:
    """A column of pixels for each number, as bright as its sine says: N images (8, 4 F)."""
    return np.repeat(np.repeat((1 + np.sin(table))[:, None] / 2, 8, axis=1), 4, axis=2)


ON_TABLES = OnTables(size=8, config=SMALLEST | {"train.num_epochs": 2, "data.near_duplicates": 0.0})
"""Rows of a few numbers look alike; of photographs that would make them copies."""


BITS = "the bits of an image are those of its batch's size, and probabilities have six digits; 1e-7 is asked for"


@pytest.mark.slow
@parametrize_with_checks([ON_TABLES], expected_failed_checks=lambda _: {"check_methods_subset_invariance": BITS})
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)

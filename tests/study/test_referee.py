"""What a study says of people, evidence and diagnosis: sections, numbers and figures, from drawn predictions."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
from drawn_predictions import people_predictions

from configs import base
from fpclass.errors import ConfigError
from fpclass.stats.comparison.selection import Selection
from fpclass.stats.evidence.person import cross_fitted_pooling, why_no_people
from fpclass.stats.evidence.pooling import Pooling
from fpclass.stats.intervals import Interval
from fpclass.stats.metrics import log_softmax
from fpclass.study.evidence.people import PooledEnsemble
from fpclass.study.evidence.referee import answer_referee, chosen_predictions
from fpclass.study.out_of_fold import OutOfFold

pytestmark = pytest.mark.figures

CLASSES = {2: (["0", "1"], ["woman", "man"]), 3: (["0", "1", "2"], ["a", "b", "c"])}


def asked(tmp_path, num_people, per_person, num_classes=2, **settings):
    logits, cohort = people_predictions(num_people, per_person, num_classes, seed=1)
    log_p, people = log_softmax(logits), cohort.groups
    why_not = why_no_people(cohort, people)
    pooled, shown = (None, Pooling("none")) if why_not else cross_fitted_pooling(log_p, cohort, people, "calibrated")
    ensemble = PooledEnsemble(cohort, people, log_p, pooled, Pooling("none"), shown, why_not)
    config = base.get_config().unlock()
    config.evaluate.num_resamples = 100
    for key, value in settings.items():
        config.evaluate[key] = value
    study = types.SimpleNamespace(path=lambda name: tmp_path / name)
    logits = {"a": np.stack([logits, logits]), "b": np.stack([-logits, logits])}
    predictions = OutOfFold([], cohort, logits, cohort)
    choice = Selection("a", ("a", "a", "b", "a", "a"), Interval(), Interval(), 0.0)
    return (
        answer_referee(study, predictions, ensemble, choice, config, CLASSES[num_classes]),
        cohort,
        predictions,
        choice,
    )


def test_two_classes_with_people_have_all_three_sections(tmp_path):
    (tmp_path / "figures").mkdir()
    found, cohort, *_ = asked(tmp_path, 60, 4, positive_class="woman", prevalence=0.1)
    assert list(found.sections) == ["The person as the unit", "Evidence as likelihood ratios", "Diagnostic accuracy"]
    for name in ("tippett", "empirical_cross_entropy", "decision_curve"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000
    values = json.loads(json.dumps(found.values, allow_nan=False))
    assert (values["evidence"]["h1"], values["evidence"]["h2"]) == ("woman", "man")
    assert values["evidence"]["person"]["num_h1"] == (cohort.labels[::4] == 0).sum()
    assert values["evidence"]["person"]["cllr"]["value"] < values["evidence"]["image"]["cllr"]["value"]
    assert values["person"]["per_person"]["accuracy"]["value"] > values["person"]["per_image"]["accuracy"]["value"]
    diagnostics = values["diagnostics"]
    assert {"ensemble_per_image", "ensemble_per_person", "choice_per_image"} < diagnostics.keys()
    assert diagnostics["ensemble_per_image"]["prevalence"] == 0.1
    assert "at a prevalence of 10.0%, as stated" in found.sections["Diagnostic accuracy"]
    assert len(found.findings) == 2


@pytest.mark.parametrize(("num_people", "per_person", "num_classes"), [(60, 1, 3), (12, 1, 2), (60, 2, 3)])
def test_what_cannot_be_told_has_its_reason_in_its_place(tmp_path, num_people, per_person, num_classes):
    (tmp_path / "figures").mkdir()
    found, *_ = asked(tmp_path, num_people, per_person, num_classes)
    assert ("why_not" in found.values["person"]) == (per_person == 1)
    assert found.values["evidence"]["why_not"]
    assert ("diagnostics" in found.values) == (num_classes == 2)
    if num_classes == 2:
        assert "intervals over images, with" in found.sections["Diagnostic accuracy"], "nobody says whose they are"
    assert "Evidence as likelihood ratios" not in found.sections


def test_a_prevalence_of_no_class_in_particular_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"evaluate.prevalence is 0.2, and there are 3 classes: name the one"):
        asked(tmp_path, 60, 2, 3, prevalence=0.2)


def test_the_choice_is_judged_on_each_fold_by_what_the_others_chose(tmp_path):
    (tmp_path / "figures").mkdir()
    found, cohort, predictions, choice = asked(tmp_path, 60, 2)
    log_p, rows = chosen_predictions(predictions, choice)
    assert len(rows) == 2 * len(cohort)
    assert rows.num_groups == cohort.num_groups
    is_turned = np.tile(cohort.folds == 2, 2) & (np.arange(240) < 120)  # the first seed of b, where b was chosen
    np.testing.assert_array_equal(
        log_p.argmax(axis=1) == np.tile(predictions.logits["a"][0].argmax(axis=1), 2), ~is_turned
    )
    counts = found.values["diagnostics"]["choice_per_image"]
    assert sum(counts[key] for key in ("tp", "fn", "fp", "tn")) == 240

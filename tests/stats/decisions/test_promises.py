"""What is promised of new images: columns of a table by hand, words, JSON and its damage."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from drawn_predictions import people_predictions

from fpclass.errors import DataError
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.decisions.report import decision_report
from fpclass.stats.intervals import Bootstrap

THREE = Promises(0.05, 0.9, 0.8, "class", 0.9, (0.3, 0.95, 1.0))


def test_who_abstains_and_which_classes_are_in_a_set():
    p = np.array([[0.85, 0.1, 0.05], [0.2, 0.04, 0.76], [0.6, 0.3, 0.1]])
    columns = THREE.columns(np.log(p), ("0", "1", "two words"))
    assert columns["abstain"] == ["no", "yes", "yes"]
    assert columns["set"] == ["0 | 1 | two words", "two words", "1 | two words"]
    nothing = dataclasses.replace(THREE, smallest_confidence=None)
    assert nothing.columns(np.log(p), ("0", "1", "2"))["abstain"] == ["", "", ""]


def test_words_say_what_is_promised_or_that_nothing_can_be():
    assert THREE.words.startswith("at most 5 % errors with 90 % confidence from a probability of 0.800 on")
    nothing = dataclasses.replace(THREE, smallest_confidence=None)
    assert "no threshold can promise at most 5 % errors with 90 % confidence, so nothing is abs" in nothing.words


def test_they_are_those_of_the_report_and_are_judged_on_other_images():
    logits, cohort = people_predictions(200, 2, sharpness=1.0)
    report = decision_report(logits, cohort, Bootstrap(0, 0.9), max_risk=0.2, miss_rate=0.2)
    new, people = people_predictions(400, 2, seed=1)
    for kind, key in (("marginal", "conformal"), ("class", "conformal_by_class")):
        promises = Promises.of_report(report, kind)
        assert list(promises.quantiles) == report[key]["quantiles"]
        assert Promises.from_json(json.loads(json.dumps(promises.to_json())), 2) == promises
        judged = promises.judge(new, people, Bootstrap(0, 0.9))
        columns = promises.columns(new, ("0", "1"))
        covered = [str(k) in inside for k, inside in zip(people.labels, columns["set"], strict=True)]
        assert judged["set_coverage"]["value"] == pytest.approx(np.mean(covered))
        is_decided = np.array(columns["abstain"]) == "no"
        assert judged["coverage"]["value"] == pytest.approx(is_decided.mean()) != 0
        wrong = new.argmax(axis=1) != people.labels
        assert judged["risk"]["value"] == pytest.approx(wrong[is_decided].mean())


@pytest.mark.parametrize(
    "values",
    [
        *({}, [], 3, "x"),
        THREE.to_json() | {"quantiles": [0.5, 0.5]},
        THREE.to_json() | {"kind": "mondrian"},
        THREE.to_json() | {"smallest_confidence": "high"},
    ],
)
def test_damage_is_one_line(values):
    with pytest.raises(DataError, match=r"promises .* are damaged .*run the study again") as caught:
        Promises.from_json(values, 3)
    assert "\n" not in str(caught.value)

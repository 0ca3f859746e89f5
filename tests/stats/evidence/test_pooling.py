import json
import math

import numpy as np
import pytest

from fpclass.errors import DataError
from fpclass.stats.cohort import Cohort
from fpclass.stats.evidence.person import cross_fitted_pooling, person_report, why_no_people
from fpclass.stats.evidence.pooling import Pooling, fit_pooling, independent_sum, make_pooling, with_thresholds
from fpclass.stats.evidence.report import (
    cross_fitted_evidence,
    evidence_report,
    judge_ratios,
    uncalibrated,
    why_no_evidence,
)
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.metrics import image_log_losses, log_softmax

BOOTSTRAP = Bootstrap(200, 0.95)


def draw(num_people, seed=0, shared=0.6, bias=0.0, share=0.5, per_person=None, counts=range(1, 21)):
    """Calibrated log-odds of images with a correlation within people, of whom there are so many images."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(num_people) < share).astype(int)
    counts = rng.choice(counts, num_people) if per_person is None else np.full(num_people, per_person)
    people = np.repeat(np.arange(num_people), counts)
    variance = 1 + shared**2
    signal = 0.7 * (2 * labels - 1) + shared * rng.normal(size=num_people)
    odds = (signal[people] + rng.normal(size=len(people))) * 2 * 0.7 / variance + bias
    odds += np.log(share / (1 - share))
    return -np.logaddexp(0, np.stack([odds, -odds], axis=1)), labels[people], people


def loss_by_person(pooling, log_p, labels, people):
    of_person = labels[np.unique(people, return_index=True)[1]]
    return image_log_losses(pooling.of_people(log_p, people), of_person).mean()


@pytest.mark.parametrize("shared", [0.0, 0.6, 1.5])
def test_the_fitted_strength_is_that_of_equicorrelated_images(shared):
    log_p, labels, people = draw(6000, shared=shared, counts=(1, 3, 12))
    fitted = fit_pooling(log_p, labels, people)
    counts, correlation = np.array([1, 3, 12]), shared**2 / (1 + shared**2)
    np.testing.assert_allclose(fitted.strength(counts), counts / (1 + (counts - 1) * correlation), rtol=0.12)
    new = draw(4000, seed=1, shared=shared)
    losses = {name: loss_by_person(pooling, *new) for name, pooling in {
        "calibrated": fitted, "mean": Pooling("mean"), "sum": independent_sum(*new)}.items()}  # fmt: skip
    assert losses["calibrated"] < min(losses["mean"], losses["sum"]) + 0.002
    if shared == 1.5:  # what they share counted ten times: worse than saying nothing of each image's neighbours
        assert losses["sum"] > losses["mean"] + 0.1


def test_every_person_weighs_the_same_and_priors_count_once():
    log_p, labels, people = draw(3000, shared=0.5, share=0.15)
    fitted = fit_pooling(log_p, labels, people)
    pooled = fitted.of_people(log_p, people)
    of_person = labels[np.unique(people, return_index=True)[1]]
    assert np.exp(pooled[:, 1]).mean() == pytest.approx(of_person.mean(), abs=0.005)
    few = np.bincount(people) <= 2
    assert np.exp(pooled[few, 1]).mean() == pytest.approx(of_person[few].mean(), abs=0.03)
    # A person with a hundred times the images does not move the fit a hundred times as much.
    heavy = np.concatenate([np.arange(len(people)), np.tile(np.flatnonzero(people == 0), 100)])
    again = fit_pooling(log_p[heavy], labels[heavy], people[heavy])
    assert again.scale == pytest.approx(fitted.scale, abs=0.05)


def test_apply_gives_every_image_its_persons_answer():
    log_p, labels, people = draw(30, per_person=3)
    for pooling in (Pooling("mean"), fit_pooling(log_p, labels, people)):
        pooled = pooling.apply(log_p, people)
        np.testing.assert_allclose(np.exp(pooled).sum(axis=1), 1)
        assert (pooled == pooled[people * 3]).all()
    np.testing.assert_array_equal(Pooling("none").apply(log_p, people), log_p)
    np.testing.assert_allclose(
        Pooling("mean").apply(log_p, people)[:3], log_softmax(log_p[:3].mean(axis=0)[None]) + np.zeros((3, 1))
    )


def test_a_pooling_survives_json_and_damage_is_said():
    log_p, labels, people = draw(60)
    fitted = with_thresholds(fit_pooling(log_p, labels, people, "60 people"), log_p, labels, people)
    assert set(fitted.thresholds) == {"accuracy", "f1", "balanced_accuracy"}
    values = json.loads(json.dumps(fitted.to_json()))
    assert Pooling.from_json(values, "there") == fitted
    for damage in ({"scale": -1}, {"method": "sum"}, {"bias": [0]}, {"correlation": 2}, {"prior": None}):
        with pytest.raises(DataError, match=r"^there: has no pooling"):
            Pooling.from_json(values | damage, "there")


def test_too_few_people_are_not_followed():
    log_p, labels, people = draw(12)
    pooling = make_pooling("calibrated", log_p, labels, people, "12 people")
    assert pooling.method == "mean"
    assert "12 people" in pooling.words


def test_reports_are_cross_fitted_and_paired():
    log_p, labels, people = draw(60, seed=3, per_person=6, bias=0.3)
    cohort = Cohort(labels, people, people % 5)
    pooled, final = cross_fitted_pooling(log_p, cohort, people, "calibrated")
    own = fit_pooling(
        log_p[people % 5 != 0], labels[people % 5 != 0], np.unique(people[people % 5 != 0], return_inverse=True)[1]
    )
    np.testing.assert_allclose(pooled[:6], own.of_people(log_p[:6], np.zeros(6, int)) + np.zeros((6, 1)))
    assert final.scale != own.scale
    report = person_report(log_p, pooled, cohort, people, BOOTSTRAP)
    assert (report["num_images"], report["num_people"]) == (360, 60)
    gain = report["per_person"]["accuracy"]["value"] - report["per_image"]["accuracy"]["value"]
    assert report["gain_of_people"]["accuracy"]["value"] == pytest.approx(gain)
    assert gain > 0.03
    assert report["per_image_pooled"]["accuracy"] == pytest.approx(report["per_person"]["accuracy"])  # six images each
    evidence = evidence_report(log_p, cohort, people, BOOTSTRAP)
    assert 0 < evidence["cllr_min"]["value"] <= evidence["cllr"]["value"] < 1
    assert evidence["cllr"]["low"] < evidence["cllr"]["value"] < evidence["cllr"]["high"]
    # Of five folds the variance is 5/4 of what drawing people gives, on the scale of logarithms.
    llr, fitted = cross_fitted_evidence(log_p, cohort, people)
    units = cohort.take(np.arange(0, 360, 6))
    given = judge_ratios(
        llr, uncalibrated(log_p, labels, people), fitted, units.with_folds(np.zeros(60, int)), BOOTSTRAP
    )
    widths = [math.log(report["cllr"]["high"] / report["cllr"]["low"]) for report in (evidence, given)]
    assert widths[0] == pytest.approx(widths[1] * math.sqrt(5 / 4))
    assert sum(sum(count.values()) for count in evidence["verbal"].values()) == 60
    json.dumps([report, evidence], allow_nan=False)
    # The same answer for images that all belong to others: folds were fitted without them.
    flipped = np.where(people % 5 == 0, 1 - labels, labels)
    other, _ = cross_fitted_evidence(log_p, Cohort(flipped, people, people % 5), people)
    same, _ = cross_fitted_evidence(log_p, cohort, people)
    np.testing.assert_array_equal(other[::5], same[::5])


def test_why_there_are_no_people_and_no_evidence():
    labels = np.array([0, 0, 1, 1, 1, 0])
    alone = Cohort(labels)
    assert "no person has more than one image" in why_no_people(alone, alone.groups)
    torn = Cohort(labels, [0, 0, 0, 1, 1, 2])
    assert why_no_people(torn, torn.groups).startswith("1 of 3 people have images of several classes")
    split = Cohort(np.zeros(4, int), None, np.array([0, 1, 0, 1]))
    assert "split.grouped=False" in why_no_people(split, np.array([0, 0, 1, 1]))
    assert "there are 3" in why_no_evidence(alone, 3)
    assert "too few" in why_no_evidence(alone, 2)

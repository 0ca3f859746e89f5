"""The average over folds for new images: as calibrated as one fold's members are, and what is promised of it holds."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from fold_simulation import Linear, Noisy, true_error
from study_simulation import NUM_FOLDS

from fpclass.errors import DataError
from fpclass.stats.decisions import thresholds
from fpclass.stats.decisions.risk_control import control_risk
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.calibration import fit_calibration
from fpclass.stats.probabilities.ensembling import average_members, predict_by_fold
from fpclass.stats.probabilities.fold_average import (
    LARGEST,
    UNSHARPENED,
    Combination,
    Sharpening,
    extrapolate_sharpening,
    fit_sharpening,
)

WEIGHTS = {"a": 1.0}


def new_images(members, how="probabilities", num_unlabelled=300):
    """Log-probabilities of new images: one fold, the average, sharpened by others, by seeds; the calibration; scale."""
    averaged = average_members(members.out_of_fold, how)
    calibration = fit_calibration(averaged, members.cohort.labels, "temperature")
    of_folds = predict_by_fold({"a": members.new}, NUM_FOLDS, WEIGHTS, calibration, how)
    scale = fit_sharpening(of_folds[:, :num_unlabelled], how)
    average = average_members(of_folds, how)[num_unlabelled:]
    values = {"one fold": of_folds[0, num_unlabelled:], "average": average, "sharpened": log_softmax(scale * average)}
    if len(members.out_of_fold) > 1:
        of_seeds = np.stack([calibration.apply(of_seed) for of_seed in members.out_of_fold])
        by_seeds = extrapolate_sharpening(of_seeds, members.cohort.labels, NUM_FOLDS, how)
        values["by seeds"] = log_softmax(by_seeds * average)
    return values, calibration.apply(averaged), scale


def errors_of(simulation, num_studies, how="probabilities", num_unlabelled=300):
    """Mean calibration error on new images of each of `new_images`, and the mean scale."""
    rng, rows, scales = np.random.default_rng(0), [], []
    for _ in range(num_studies):
        members = simulation.draw(rng)
        values, _, scale = new_images(members, how, num_unlabelled)
        labels = members.of_new.labels[num_unlabelled:]
        rows.append({name: true_error(given, labels) for name, given in values.items()})
        scales.append(scale)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}, float(np.mean(scales))


OVERFITTED = [Noisy(), Noisy(num_classes=4, skill=2.0), Linear(num_people=50, num_features=120)]


@pytest.mark.parametrize("how", ["probabilities", "logits"])
@pytest.mark.parametrize("simulation", OVERFITTED)
def test_the_sharpened_average_is_as_calibrated_as_one_fold(simulation, how):
    errors, scale = errors_of(simulation, 4, how)
    assert errors["sharpened"] < min(0.75 * errors["average"], errors["one fold"] + 0.015)
    assert 1.1 < scale < 3


def test_folds_that_agree_are_left_alone():
    one = log_softmax(np.random.default_rng(0).normal(size=(50, 3)))
    for how in ("probabilities", "logits"):
        assert fit_sharpening(np.stack([one] * 5), how) == pytest.approx(1, abs=1e-6)


def test_of_gaussian_log_odds_it_is_the_ratio_of_the_variances():
    """2 mu z / (s^2 + t^2) of one fold, 2 mu z / (s^2 + t^2 / F) of the mean of F."""
    rng, mu, shared, own = np.random.default_rng(0), 1.0, 1.0, 0.8
    labels = rng.integers(0, 2, 100_000)
    margins = mu * (2 * labels - 1) + shared * rng.normal(size=labels.shape)
    margins = margins + own * rng.normal(size=(5, len(labels)))
    odds = 2 * mu / (shared**2 + own**2) * margins
    of_folds = log_softmax(np.stack([0 * odds, odds], axis=-1).reshape(-1, 2)).reshape(5, -1, 2)
    expected = (shared**2 + own**2) / (shared**2 + own**2 / 5)
    assert fit_sharpening(of_folds, "logits") == pytest.approx(expected, rel=0.01)


def test_seeds_alone_tell_all_where_folds_differ_by_their_seeds_and_too_little_where_not():
    by_training, _ = errors_of(Noisy(num_seeds=3, noise_of_fold=0.0, noise_of_seed=1.2, num_people=600), 4)
    assert by_training["by seeds"] < 0.6 * by_training["average"]
    by_fold, _ = errors_of(Noisy(num_seeds=3, noise_of_fold=1.0, noise_of_seed=0.3, num_people=600), 4)
    assert by_fold["sharpened"] < 0.7 * by_fold["by seeds"]


def test_what_is_promised_of_new_images_holds():
    """Thresholds fitted on one fold's members, applied to the sharpened average, which is righter than they are."""
    broken = promise_table(Noisy(num_people=300, skill=2.2), 20)
    assert broken["risk above"] <= 0.2
    assert broken["promised"] > 0.5
    assert broken["covered"] > 0.89
    assert broken["least class"] > 0.88


def promise_table(simulation, num_studies):
    """Shares of studies: risk above 5 %, promised at all; means of the set coverage, and of the class covered least."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(num_studies):
        members = simulation.draw(rng)
        values, calibrated, _ = new_images(members)
        cohort, new, labels = members.cohort, values["sharpened"], members.of_new.labels[300:]
        confidences, is_wrong = thresholds.confidences_of(calibrated), calibrated.argmax(axis=1) != cohort.labels
        found = control_risk(confidences, is_wrong, cohort.groups, 0.05, 0.9)
        is_decided, wrong = found.decides(thresholds.confidences_of(new)), new.argmax(axis=1) != labels
        covered = {}
        for kind in thresholds.SETS:
            scores = thresholds.set_scores(calibrated)
            quantiles = thresholds.set_quantiles(scores, cohort.labels, cohort.groups, 0.1, kind)
            covered[kind] = (thresholds.set_scores(new) <= quantiles)[np.arange(len(new)), labels]
        of_class = [covered["class"][labels == k].mean() for k in range(new.shape[1])]
        risk = (wrong & is_decided).sum() / max(is_decided.sum(), 1)
        rows.append([risk > 0.05, is_decided.any(), is_decided.mean(), covered["marginal"].mean(), min(of_class)])
    names = ("risk above", "promised", "decided", "covered", "least class")
    return dict(zip(names, np.mean(rows, axis=0), strict=True))


def test_it_goes_through_json_and_an_old_study_has_none():
    sharpening = Sharpening(1.4, "what the folds say of 40 images to predict")
    assert Sharpening.from_json(json.loads(json.dumps(sharpening.to_json()))) == sharpening
    assert Sharpening.from_json(None) == UNSHARPENED
    logits = {"a": np.random.default_rng(0).normal(size=(2, 5, 3))}
    calibration = fit_calibration(np.eye(3)[np.arange(9) % 3], np.arange(9) % 3, "none")
    plain, sharp = (
        Combination(WEIGHTS, "logits", calibration, 2, given)(logits) for given in (UNSHARPENED, sharpening)
    )
    np.testing.assert_array_equal(plain, average_members(logits["a"], "logits"))
    np.testing.assert_allclose(sharp, log_softmax(1.4 * plain))
    np.testing.assert_array_equal(sharp.argmax(axis=1), plain.argmax(axis=1))


@pytest.mark.parametrize(
    "values", [{}, {"scale": 1}, {"scale": "x", "fitted_on": ""}, [], 3, {"scale": 0.5, "fitted_on": "", "why_not": ""}]
)
def test_damage_is_one_line(values):
    with pytest.raises(DataError, match="run the study again") as caught:
        Sharpening.from_json(values)
    assert "\n" not in str(caught.value)


def test_folds_that_contradict_each_other_end_at_the_bound():
    sure = np.array([[[0.0, 8.0]] * 3, [[8.0, 0.0]] * 3])
    assert 1 <= fit_sharpening(log_softmax(sure.reshape(-1, 2)).reshape(2, 3, 2), "logits") <= LARGEST


TABLE = {
    "1 seed": Noisy(),
    "1 seed, little noise": Noisy(noise_of_fold=0.3, noise_of_seed=0.3),
    "1 seed, much noise": Noisy(noise_of_fold=1.5, noise_of_seed=1.5),
    "1 seed, easy and hard images": Noisy(spread=1.0),
    "1 seed, 50 people": Noisy(num_people=50),
    "3 seeds": Noisy(num_seeds=3),
    "3 seeds, noise of training only": Noisy(num_seeds=3, noise_of_fold=0.0, noise_of_seed=1.5),
    "5 classes": Noisy(num_classes=5, skill=2.0),
    "linear, 100 people, 60 features": Linear(),
    "linear, 300 people, 60 features": Linear(num_people=300),
    "linear, 50 people, 120 features": Linear(num_people=50, num_features=120),
}


@pytest.mark.slow
def test_table_of_calibration_errors_on_new_images():
    print("\n| members | one fold | average | sharpened | by seeds | sharpened by 40 images | factor |")
    for name, simulation in TABLE.items():
        simulation = dataclasses.replace(simulation, num_new=5000)
        errors, scale = errors_of(simulation, 20)
        by_few, _ = errors_of(simulation, 20, num_unlabelled=40)
        by_seeds = f"{errors['by seeds']:.3f}" if "by seeds" in errors else ""
        cells = [f"{errors[key]:.3f}" for key in ("one fold", "average", "sharpened")]
        print(f"| {name} | {' | '.join(cells)} | {by_seeds} | {by_few['sharpened']:.3f} | {scale:.2f} |")
        far_off = 0.04 if "easy and hard" in name else 0.02  # one temperature does not fit both
        assert errors["sharpened"] <= errors["one fold"] + far_off
        assert errors["sharpened"] < errors["average"] + 0.005


@pytest.mark.slow
def test_table_of_promises_on_new_images():
    print("\n| members | risk above 5 % | promised | decided | sets cover | class covered least, sets by class |")
    more = {f"1 seed, skill {skill}": Noisy(num_people=300, skill=skill) for skill in (2.0, 2.5, 3.0)}
    for name, simulation in (TABLE | more).items():
        found = promise_table(dataclasses.replace(simulation, num_new=3000), 60)
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in found.values()) + " |")
        assert found["risk above"] <= 0.1 + 3 * np.sqrt(0.09 / 60)
        assert found["covered"] > (0.85 if "50 people, 120" in name else 0.88)

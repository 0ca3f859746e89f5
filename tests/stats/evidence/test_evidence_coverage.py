"""How often intervals of Cllr and of accuracy per person hold the truth; docs/statistics.md has the table.

pytest -m slow tests/stats/evidence/test_evidence_coverage.py -s -n 0
"""

import numpy as np
import pytest

from fpclass.stats.cohort import Cohort
from fpclass.stats.evidence.likelihood_ratios import cllr, cllr_min
from fpclass.stats.evidence.person import cross_fitted_pooling, person_report, renumbered
from fpclass.stats.evidence.pooling import fit_pooling
from fpclass.stats.evidence.report import evidence_report, fit_evidence
from fpclass.stats.intervals import Bootstrap, Interval

NUM_FOLDS, NUM_TRUE = 5, 4000
SEPARATION, SHARED, OWN, TOO_SURE = 0.45, 0.5, 1.0, 2.0
"""Of log-odds: half the distance of the classes, deviation of people, of a person's images; factor of all of it."""


def draw(num_people, rng, per_person=None):
    """Log-probabilities of images, labels and people; by default one to twenty images of a person."""
    labels = np.arange(num_people) % 2
    counts = rng.integers(1, 21, num_people) if per_person is None else np.full(num_people, per_person)
    people = np.repeat(np.arange(num_people), counts)
    signal = SEPARATION * (2 * labels - 1) + SHARED * rng.normal(size=num_people)
    odds = TOO_SURE * (signal[people] + OWN * rng.normal(size=len(people)))
    return -np.logaddexp(0, np.stack([odds, -odds], axis=1)), labels[people], people


def simulate(num_people, num_studies, population):
    """Share of the studies whose interval holds the truth, by quantity, and the mean of estimate less truth."""
    rng, bootstrap = np.random.default_rng(num_people), Bootstrap(400, 0.95)
    held = {name: [] for name in ("cllr_image", "cllr_person", "cllr_min", "calibration_loss", "accuracy", "gain")}
    errors = {name: [] for name in held}
    log_p, labels, people = population
    of_person = labels[np.unique(people, return_index=True)[1]]
    for _ in range(num_studies):
        drawn, of_drawn, who = draw(num_people, rng)
        folds = rng.permutation(np.arange(num_people) // 2 % NUM_FOLDS)[who]
        cohort = Cohort(of_drawn, who, np.unique(folds, return_inverse=True)[1])
        truths = {name: [] for name in held}
        shares = []
        for fold in range(cohort.num_folds):  # what was fitted for each fold, on a population
            rows = cohort.folds != fold
            shares.append(len(np.unique(who[~rows])))
            part = drawn[rows], of_drawn[rows]
            single = fit_evidence(*part, np.arange(rows.sum()), who[rows])
            evidence = fit_evidence(*part, renumbered(who[rows]), who[rows])
            pooling = fit_pooling(*part, renumbered(who[rows]))
            truths["cllr_image"].append(cllr(single.log_ratios(log_p, np.arange(len(log_p))), labels))
            llr = evidence.log_ratios(log_p, people)
            truths["cllr_person"].append(cllr(llr, of_person))
            truths["cllr_min"].append(cllr_min(llr, of_person))
            truths["calibration_loss"].append(truths["cllr_person"][-1] - truths["cllr_min"][-1])
            truths["accuracy"].append((pooling.of_people(log_p, people).argmax(axis=1) == of_person).mean())
            truths["gain"].append(truths["accuracy"][-1] - (log_p.argmax(axis=1) == labels).mean())
        pooled, _ = cross_fitted_pooling(drawn, cohort, cohort.groups, "calibrated")
        by_person = person_report(drawn, pooled, cohort, cohort.groups, bootstrap)
        report = evidence_report(drawn, cohort, cohort.groups, bootstrap)
        found = {
            "cllr_image": evidence_report(drawn, cohort, np.arange(len(drawn)), bootstrap)["cllr"],
            "cllr_person": report["cllr"],
            "cllr_min": report["cllr_min"],
            "calibration_loss": report["calibration_loss"],
            "accuracy": by_person["per_person"]["accuracy"],
            "gain": by_person["gain_of_people"]["accuracy"],
        }
        for name, values in found.items():
            truth, interval = np.average(truths[name], weights=shares), Interval.of(values)
            held[name].append(interval.low <= truth <= interval.high)
            errors[name].append(interval.value - truth)
    return {name: (np.mean(held[name]), np.mean(errors[name])) for name in held}


@pytest.mark.slow
def test_intervals_of_cllr_and_of_accuracy_per_person_hold_the_truth():
    population = draw(NUM_TRUE, np.random.default_rng(99))
    for num_people, lowest in ((30, 0.8), (100, 0.8)):
        result = simulate(num_people, 60, population)
        print(num_people, {name: f"{held:.3f} ({error:+.3f})" for name, (held, error) in result.items()})
        assert all(held >= lowest for held, _ in result.values())

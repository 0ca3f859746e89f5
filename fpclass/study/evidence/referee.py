"""What a referee asks of a study: scores by person, likelihood ratios, diagnostic accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fpclass.config import Config
from fpclass.report.evidence import cross_entropy_plot, decision_curves, tippett_plot
from fpclass.report.style import save_figure
from fpclass.report.text_tables import markdown_table
from fpclass.run.prepare import condition_of
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.selection import Selection
from fpclass.stats.evidence.diagnostics import MEASURES, TITLES, decision_curve, diagnostic_accuracy
from fpclass.stats.evidence.person import cohort_of_people, person_report
from fpclass.stats.evidence.report import evidence_report, why_no_evidence
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import log_softmax
from fpclass.study.evidence.people import PERSON_TITLE, PooledEnsemble, person_finding, person_markdown
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study

PAGE = "docs/evidence.md"


@dataclasses.dataclass(frozen=True)
class Referee:
    """What is written beside the table of a study.

    Attributes:
      sections: of study.md, by title.
      values: of results.json.
      findings: for the terminal and the head of study.md, a line each.
    """

    sections: dict[str, str]
    values: dict[str, Any]
    findings: list[str]


def answer_referee(
    study: Study,
    predictions: OutOfFold,
    ensemble: PooledEnsemble,
    choice: Selection | None,
    settings: Config,
    classes: tuple[list[str], list[str]],
    note: str = "",
) -> Referee:
    """Judges a study's ensemble as a referee would, and draws it.

    Args:
      classes: as the source codes them, and their names.
    """
    bootstrap = Bootstrap(settings.evaluate.num_resamples, settings.evaluate.confidence)
    found = Referee({}, {}, [])
    _by_person(found, ensemble, settings, bootstrap)
    positive = condition_of(settings, *classes)
    _evidence(found, study, ensemble, positive or 0, classes[1], bootstrap, note)
    if positive is not None:
        _diagnostics(found, study, predictions, ensemble, choice, settings, (positive, classes[1]), bootstrap, note)
    return found


def _by_person(found: Referee, ensemble: PooledEnsemble, settings: Config, bootstrap: Bootstrap) -> None:
    """Adds what pooling a person's images is worth."""
    if ensemble.pooled is None:
        found.values["person"] = {"why_not": ensemble.why_not}
        return
    report = person_report(ensemble.log_probabilities, ensemble.pooled, ensemble.cohort, ensemble.people, bootstrap)
    judged = {"pool": settings.predict.pool, "pooling": ensemble.shown.to_json(), **report}
    found.values["person"] = judged
    found.sections[PERSON_TITLE] = person_markdown(
        judged, ensemble.shown, "the ensemble, cross-fitted", "each fold by the others"
    )
    found.findings.append(person_finding(judged))


def _evidence(
    found: Referee,
    study: Study,
    ensemble: PooledEnsemble,
    positive: int,
    class_names: list[str],
    bootstrap: Bootstrap,
    note: str,
) -> None:
    """Adds likelihood ratios, of single images and of people."""
    cohort = ensemble.cohort
    why_not = why_no_evidence(cohort, len(class_names))
    if why_not:
        found.values["evidence"] = {"why_not": why_not}
        return
    order = [1 - positive, positive]  # H1 is the positive class
    log_p, of_h1 = ensemble.log_probabilities[:, order], (cohort.labels == positive).astype(np.int64)
    judged = ensemble_cohort(cohort, of_h1)
    units = {"image": np.arange(len(cohort))} | ({} if ensemble.pooled is None else {"person": ensemble.people})
    reports = {unit: evidence_report(log_p, judged, of_unit, bootstrap) for unit, of_unit in units.items()}
    hypotheses = (class_names[positive], class_names[1 - positive])
    found.values["evidence"] = {"h1": hypotheses[0], "h2": hypotheses[1], **reports}
    found.sections["Evidence as likelihood ratios"] = evidence_markdown(reports, hypotheses, cohort.groups_are)
    for name, figure in {
        "tippett": tippett_plot(reports, hypotheses, note=note),
        "empirical_cross_entropy": cross_entropy_plot(reports, note=note),
    }.items():
        save_figure(figure, study.path(f"figures/{name}.png"))
    unit, report = list(reports.items())[-1]
    cllr, lowest = (Interval.of(report[name]) for name in ("cllr", "cllr_min"))
    bounds = [10 ** report["evidence"][name] for name in ("log10_low", "log10_high")]
    found.findings.append(
        f"evidence per {unit}: Cllr {cllr}, Cllr_min {lowest}; {report['num_people']} {cohort.groups_are} support "
        f"likelihood ratios from 1/{1 / bounds[0]:.3g} to {bounds[1]:.3g} ({PAGE})"
    )


def ensemble_cohort(cohort: Cohort, labels: np.ndarray) -> Cohort:
    """The same images, people and folds with other labels."""
    return Cohort(labels, cohort.groups, cohort.folds)


def evidence_markdown(reports: Mapping[str, Any], hypotheses: tuple[str, str], groups_are: str) -> str:
    """The section of study.md about likelihood ratios."""
    rows = [["", *(f"per {unit}" for unit in reports)]]

    def add(title: str, cells: list[str]) -> None:
        rows.append([title, *cells])

    each = list(reports.values())
    add("H1 / H2", [f"{report['num_h1']} / {report['num_h2']}" for report in each])
    for name, title in (
        ("cllr", "Cllr (bits; 0 perfect, 1 no information)"),
        ("cllr_min", "Cllr_min (what their order is worth)"),
        ("calibration_loss", "calibration loss (Cllr - Cllr_min)"),
        ("cllr_uncalibrated", "Cllr before this calibration"),
    ):
        add(title, [str(Interval.of(report[name])) for report in each])
    if "person" in reports:
        add("Cllr of the sum, as if independent", ["", str(Interval.of(reports["person"]["cllr_sum"]))])
    for key in ("h1", "h2"):
        add(f"misleading under {key.upper()}", [str(Interval.of(report["misleading"][key])) for report in each])
    bounds = [[10 ** report["evidence"][name] for name in ("log10_low", "log10_high")] for report in each]
    add("supported ratios", [f"1/{1 / low:.3g} to {high:.3g}" for low, high in bounds])
    words = [["in words (ENFSI 2015)", *(f"H{k}, per {unit}" for unit in reports for k in (1, 2))]]
    for name in each[0]["verbal"]:
        counts = [report["verbal"][name][key] for report in each for key in ("h1", "h2")]
        if any(counts):
            words.append([name, *map(str, counts)])
    about = (
        f"H1: {hypotheses[0]}; H2: {hypotheses[1]}. Likelihood ratios of the ensemble, calibrated by logistic "
        f"regression and bounded by what so many {groups_are} support (ELUB), each fold by those of the others; "
        f"intervals over {groups_are}, with calibration and members as given. What the words and numbers mean, and "
        f"whom to cite: {PAGE}."
    )
    pictures = ["![tippett](figures/tippett.png)", "![empirical_cross_entropy](figures/empirical_cross_entropy.png)"]
    return "\n".join([about, "", *markdown_table(rows), "", *markdown_table(words), "", *pictures])


def _diagnostics(
    found: Referee,
    study: Study,
    predictions: OutOfFold,
    ensemble: PooledEnsemble,
    choice: Selection | None,
    settings: Config,
    condition: tuple[int, list[str]],
    bootstrap: Bootstrap,
    note: str,
) -> None:
    """Adds diagnostic accuracy of the ensemble, of people where they are known, and of the choice; decision curves."""
    positive, class_names = condition
    prevalence, cohort = settings.evaluate.prevalence or None, ensemble.cohort
    judged = {"the ensemble, per image": (ensemble.log_probabilities, cohort)}
    if ensemble.pooled is not None:
        first = np.unique(ensemble.people, return_index=True)[1]
        judged["the ensemble, per person"] = (ensemble.pooled[first], cohort_of_people(cohort, ensemble.people))
    curves = {name: decision_curve(*of, positive, bootstrap, prevalence) for name, of in judged.items()}
    if choice:
        judged["the choice, per image"] = chosen_predictions(predictions, choice)
    measured = {name: diagnostic_accuracy(*of, positive, bootstrap, prevalence) for name, of in judged.items()}
    keys = {name: name.removeprefix("the ").replace(", per ", "_per_") for name in judged}
    found.values["diagnostics"] = {
        "condition": class_names[positive],
        **{keys[name]: values for name, values in measured.items()},
        "decision_curve": {keys[name]: curve for name, curve in curves.items()},
    }
    rows = [[class_names[positive], *(TITLES[name] for name in MEASURES)]]
    for name, values in measured.items():
        rows.append([name, *(str(Interval.of(values[measure])) for measure in MEASURES)])
    stated = next(iter(measured.values()))
    where = (
        "as stated (evaluate.prevalence)"
        if prevalence
        else "that of these images; state another with evaluate.prevalence"
    )
    useful = [
        f"- net benefit of {name} above acting on everybody or nobody, by its interval: "
        + (
            f"thresholds from {curve['useful'][0]:.0%} to {curve['useful'][1]:.0%}"
            if curve["useful"]
            else "at no threshold"
        )
        for name, curve in curves.items()
    ]
    about = [
        f"- The condition is {class_names[positive]}, positive where it is the most probable class; PPV, NPV and net "
        f"benefit at a prevalence of {stated['prevalence']:.1%}, {where}.",
        *useful,
        f"- Cross-fitted, intervals over {cohort.groups_are}, with the trained members as given; the choice is the "
        "config that the other folds chose, a row per seed.",
    ]
    picture = "![decision_curve](figures/decision_curve.png)"
    found.sections["Diagnostic accuracy"] = "\n".join([*markdown_table(rows), "", *about, "", picture])
    figure = decision_curves(curves, class_names[positive], is_stated=bool(prevalence), note=note)
    save_figure(figure, study.path("figures/decision_curve.png"))


def chosen_predictions(predictions: OutOfFold, choice: Selection) -> tuple[np.ndarray, Cohort]:
    """Log-probabilities of the cross-fitted choice, a row for each image and seed, and the cohort of these rows."""
    folds = predictions.cross_fitted.folds
    logits = np.empty_like(predictions.logits[choice.chosen], np.float64)
    for fold, name in enumerate(choice.chosen_per_fold):
        logits[:, folds == fold] = predictions.logits[name][:, folds == fold]
    num_seeds = len(logits)
    labels, groups = (np.tile(values, num_seeds) for values in (predictions.cohort.labels, predictions.cohort.groups))
    return log_softmax(logits.reshape(-1, logits.shape[-1])), Cohort(labels, groups)

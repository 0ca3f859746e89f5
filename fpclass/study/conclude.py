"""What a study amounts to: the table with its verdicts, an honest choice, the ensemble and how far to trust it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fpclass import files
from fpclass.config import Config
from fpclass.report import charts as figures
from fpclass.run.folder import Run
from fpclass.run.prepare import note_of
from fpclass.stats.calibration import calibration_report, cross_fitted_calibration
from fpclass.stats.comparison import compare_all
from fpclass.stats.decisions import decision_report
from fpclass.stats.intervals import OVERALL_METRICS, evaluate_predictions
from fpclass.stats.original_classes import judge_originals, write_originals
from fpclass.stats.scores import Inflation, inflation, member_scores, score_config
from fpclass.stats.selection import Ensemble, Selection, cross_fitted_choice, cross_fitted_ensemble
from fpclass.study.calibration_figures import reliability_diagram, risk_coverage_curve
from fpclass.study.figures import study_figure
from fpclass.study.out_of_fold import OutOfFold, collect, write_tables
from fpclass.study.report import StudyReport, StudyRow, to_frame, to_markdown, to_text
from fpclass.study.study import IMAGE_RANDOM, Study
from fpclass.study.training_table import reports_markdown, training_markdown, training_table

TRAINING_NOTE = (
    "Means over members ± standard deviation, of the epoch that was kept. Training scores are measured while training, "
    "on augmented images and with dropout, and the loss is the one that is minimised (label smoothing, class weights "
    "and the L2 penalty included); validation loss is the plain cross-entropy. Precision is the mean over the classes, "
    "the gap training accuracy minus validation accuracy."
)


def conclude(study: Study, failures: dict[str, str]) -> str:
    """Judges the trained members of a study and writes everything about them into its folder.

    Args:
      study: all of whose members are trained, except those of the failed arms.
      failures: reason by arm.

    Returns:
      What to tell a person: the table, the choice, the ensemble, where things are.

    Raises:
      RunError: a member's files are missing or damaged, or the folder cannot be written to.
    """
    trained = [name for name in study.names if name not in failures]
    if not trained:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failures.items())
        return f"no config could be trained:\n{reasons}"
    hub = collect(study, trained)
    settings = study.arms[study.baseline]
    described = files.read_json(study.members(trained[0])[0].run.path("model.json"))
    write_tables(study, trained)
    rows = judge(hub, study, failures, settings)
    choice = choose_config(hub, settings) if len(trained) > 1 else None
    ensemble, reports = judge_ensemble(hub, described["class_names"], settings)
    write_ensemble(study, ensemble, reports, described, settings)
    report = StudyReport(
        rows=rows,
        metric=settings.study.metric,
        confidence=1 - settings.study.alpha,
        note=note_of(described["is_synthetic"]),
        source=described["trained_on"],
        num_images=len(hub.labels),
        num_people=len(set(hub.units)),
        num_folds=study.num_folds,
        num_seeds=study.num_seeds,
        choice=choice,
        ensemble=ensemble,
        ensemble_scores=reports["scores"],
        calibration=reports["calibration"],
        decisions=reports["decisions"],
        inflations=judge_splits(hub, study, failures, settings),
        failed_splits={
            name.removesuffix(IMAGE_RANDOM): why for name, why in failures.items() if name.endswith(IMAGE_RANDOM)
        },
    )
    _write(study, report, hub, settings, described["class_names"])
    return to_text(report, study.folder)


def judge(hub: OutOfFold, study: Study, failures: dict[str, str], settings: Config) -> list[StudyRow]:
    """The rows of the table, the baseline first, failures in their place."""
    options = _bootstrap(settings)
    shared = (hub.labels, hub.folds, hub.units, settings.study.metric)
    compared = {}
    if study.baseline in hub.logits:
        compared = compare_all(hub.logits, study.baseline, *shared, margin=settings.study.margin, **options)
    rows = []
    for name in study.names:
        if name in failures:
            rows.append(StudyRow(name, None, None, None, failures[name], name == study.baseline))
            continue
        logits = hub.logits[name]
        scores = member_scores(logits, hub.labels, hub.folds, settings.study.metric)
        score = score_config(logits, *shared, **options)
        rows.append(StudyRow(name, score, scores, compared.get(name), is_baseline=name == study.baseline))
    return rows


def choose_config(hub: OutOfFold, settings: Config) -> Selection:
    """The best config, with its optimistic score and the one that is free of the choice."""
    shared = (hub.labels, hub.folds, hub.units, settings.study.metric)
    return cross_fitted_choice(hub.logits, *shared, **_bootstrap(settings))


def judge_ensemble(hub: OutOfFold, class_names: list[str], settings: Config) -> tuple[Ensemble, dict[str, Any]]:
    """The greedy ensemble over the configs, and what can be expected of it, all of it fitted out of fold.

    Returns:
      The ensemble; and its scores, calibration and decisions, for JSON.
    """
    average = settings.predict.average
    ensemble = cross_fitted_ensemble(hub.logits, hub.labels, hub.folds, average=average)
    bootstrap: dict[str, Any] = {
        "num_bootstrap": settings.evaluate.num_bootstrap,
        "confidence": 1 - settings.study.alpha,
    }
    said, method = ensemble.log_probabilities, settings.study.calibration
    calibrated, _, _ = cross_fitted_calibration(said, hub.labels, hub.folds, method)
    cost = [list(costs) for costs in settings.study.cost] or None
    people = (hub.labels, hub.folds, hub.units)
    return ensemble, {
        "scores": evaluate_predictions(said, hub.labels, hub.units, class_names, **bootstrap),
        "calibration": calibration_report(said, *people, method=method, **bootstrap),
        "decisions": decision_report(
            calibrated,
            *people,
            cost=cost,
            max_risk=settings.study.max_risk,
            miss_rate=settings.study.miss_rate,
            **bootstrap,
        ),
    }


def judge_splits(hub: OutOfFold, study: Study, failures: dict[str, str], settings: Config) -> dict[str, Inflation]:
    """How much folds that divide people flatter each config that was trained on both kinds."""
    inflations = {}
    for name in study.arms:
        grouped = name.removesuffix(IMAGE_RANDOM)
        if grouped == name or {name, grouped} & failures.keys():
            continue
        random = collect(study, [name])
        order = {filename: i for i, filename in enumerate(random.filenames)}
        rows = np.array([order[filename] for filename in hub.filenames])
        inflations[grouped] = inflation(
            random.logits[name][:, rows],
            random.folds[rows],
            hub.logits[grouped],
            hub.folds,
            hub.labels,
            hub.units,
            settings.study.metric,
            **_bootstrap(settings),
        )
    return inflations


def write_ensemble(
    study: Study, ensemble: Ensemble, reports: dict[str, Any], described: dict[str, Any], settings: Config
) -> None:
    """Writes ensemble.json: all that `submit --ensemble` needs beside the members' predictions."""
    thresholds = reports["decisions"]["thresholds"]
    files.write_json(
        study.path("ensemble.json"),
        {
            "weights": {name: weight for name, weight in ensemble.weights.items() if weight},
            "average": settings.predict.average,
            "calibration": reports["calibration"]["final"],
            "thresholds": {objective: values["threshold"] for objective, values in thresholds.items()},
            **described,
        },
    )


def describe_originals(study: Study, report: StudyReport, hub: OutOfFold, class_names: list[str]) -> dict[str, str]:
    """Errors of the ensemble by the classes that `data.merge` put together: two tables, a figure and a section.

    Returns:
      The section's text by its title; nothing where no classes were put together.
    """
    settings = study.arms[study.baseline]
    if not settings.data.merge:
        return {}
    rows = Run(study.folder, settings).read_csv("table.csv").set_index("filename")
    classes, pairs, lines = judge_originals(
        report.ensemble.log_probabilities,
        hub.labels,
        np.array(rows.loc[hub.filenames, "original"], str),
        np.array(hub.units),
        class_names,
        num_bootstrap=settings.evaluate.num_bootstrap,
        confidence=report.confidence,
    )
    write_originals(study.folder, classes, pairs, note=report.note)
    about = (
        "Of the ensemble, which `submit --ensemble` hands in, out of fold: every image by members that never saw it, "
        "weighted as the other folds want it; wrong is another most probable class. All classes and pairs: "
        "original_classes.csv, original_pairs.csv."
    )
    text = [about, "", *(f"- {line}" for line in lines), "", "![original_classes](figures/original_classes.png)"]
    return {"Errors by original class": "\n".join(text)}


def _bootstrap(settings: Config) -> dict[str, Any]:
    return {"num_resamples": settings.evaluate.num_bootstrap, "confidence": 1 - settings.study.alpha}


def _write(study: Study, report: StudyReport, hub: OutOfFold, settings: Config, class_names: list[str]) -> None:
    """Writes the table, the report and the figures."""
    frame = to_frame(report.rows, report.metric, report.source)
    for metric in OVERALL_METRICS:
        means = {
            name: float(np.nanmean(member_scores(logits, hub.labels, hub.folds, metric)))
            for name, logits in hub.logits.items()
        }
        frame[f"mean_{metric}"] = [means.get(row.name) for row in report.rows]
    files.write_csv(study.path("study.csv"), frame)
    trainings = training_table(study, list(hub.logits), class_names)
    files.write_csv(study.path("training.csv"), trainings)
    sections = {
        "Training beside validation": f"{TRAINING_NOTE}\n\n{training_markdown(trainings)}",
        "Classification reports, out of fold": reports_markdown(hub, class_names),
        **describe_originals(study, report, hub, class_names),
    }
    files.write_text(study.path("study.md"), to_markdown(report, sections))
    choice = dataclasses.asdict(report.choice) if report.choice else None
    files.write_json(
        study.path("results.json"),
        {
            "data": report.source,
            "is_synthetic": bool(report.note),
            "num_folds": report.num_folds,
            "num_seeds": report.num_seeds,
            "metric": report.metric,
            "confidence": report.confidence,
            "choice": choice,
            "ensemble": {
                "weights": report.ensemble.weights,
                "weights_per_fold": list(report.ensemble.weights_per_fold),
                "scores": report.ensemble_scores,
            },
            "calibration": report.calibration,
            "decisions": report.decisions,
            "inflation": {name: dataclasses.asdict(found) for name, found in report.inflations.items()},
        },
    )
    note = report.note
    table = study_figure(
        report.rows, report.metric, confidence=report.confidence, margin=settings.study.margin, note=note
    )
    for name, figure in {
        "study": table,
        "reliability": reliability_diagram(report.calibration, note=note),
        "risk_coverage": risk_coverage_curve(report.decisions, note=note),
    }.items():
        figures.save_figure(figure, study.path(f"figures/{name}.png"))

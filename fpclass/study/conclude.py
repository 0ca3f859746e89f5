"""Conclusions of a study: the table with its verdicts, an honest choice, the ensemble and how far to trust it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fpclass.common import files
from fpclass.config import Config
from fpclass.report.style import save_figure
from fpclass.run.folder import Run
from fpclass.run.original_classes import write_original_classes
from fpclass.run.prepare import Prepared, note_of, read_model
from fpclass.run.warnings import transductive_mark_of
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import Inflation, Resampled, inflation, member_scores_by, resample_configs
from fpclass.stats.comparison.selection import Selection, cross_fitted_choice, cross_fitted_choice_in_parts
from fpclass.stats.comparison.verdicts import compare_all
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.decisions.report import decision_report
from fpclass.stats.evidence.pooling import Pooling
from fpclass.stats.intervals import Bootstrap, Interval, evaluate_predictions
from fpclass.stats.probabilities.calibration import Calibration, cross_fitted_calibration
from fpclass.stats.probabilities.ensembling import Ensemble, LogProbabilities, cross_fitted_ensemble
from fpclass.stats.probabilities.fold_average import Sharpening
from fpclass.stats.probabilities.reliability import calibration_report
from fpclass.stats.weighted_metrics import OVERALL_METRICS
from fpclass.study.evidence.people import pool_ensemble
from fpclass.study.evidence.referee import answer_referee
from fpclass.study.figures import reliability_diagram, risk_coverage_curve, study_figure
from fpclass.study.gallery import draw_gallery, draw_grid
from fpclass.study.looks import Look, describe_looks, look_at
from fpclass.study.metric import metric_of, name_of
from fpclass.study.new_images import sharpening_of
from fpclass.study.out_of_fold import OutOfFold, collect, write_tables
from fpclass.study.quick import ABOUT
from fpclass.study.report import StudyReport, StudyRow, sets_markdown, to_frame, to_markdown, to_text
from fpclass.study.scrutiny.checklist import write_study_checklist
from fpclass.study.scrutiny.clustered import p_columns, tests_for_reviewers
from fpclass.study.scrutiny.learning_curve import add_curves
from fpclass.study.scrutiny.subgroups import judge_test_subgroups, study_subgroups, subgroup_section
from fpclass.study.study import IMAGE_RANDOM, Study
from fpclass.study.test_set import collect_labelled_test, judge_test
from fpclass.study.training_table import reports_markdown, training_markdown, training_table

TRAINING_NOTE = (
    "Means over members ± standard deviation, of the epoch that was kept. Training scores are measured while training, "
    "on augmented images and with dropout, and the loss is the one that is minimised (label smoothing, class weights "
    "and the L2 penalty included); validation loss is the plain cross-entropy. Precision is the mean over the classes, "
    "of which one that is never predicted counts 0; the gap is training accuracy minus validation accuracy."
)


def conclude(study: Study, failures: dict[str, str], prepared: Prepared | None = None) -> str:
    """Judges the trained members of a study, writes everything about them, and returns a summary for the terminal.

    Args:
      failures: reason by config; the members of all others have to be trained.
      prepared: data of the baseline, if they are at hand.

    Raises:
      RunError: a member's files are missing or damaged, or the folder cannot be written to.
    """
    trained = [name for name in study.names if name not in failures]
    if not trained:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failures.items())
        return f"no config could be trained:\n{reasons}"
    described = read_model(study.members(trained[0])[0].run)
    predictions = collect(study, trained, described["class_names"])
    write_tables(study, trained)
    report = _judge_all(study, failures, predictions, described)
    logits, shown = report.ensemble.log_probabilities, judged_are(study)
    drawn = draw_gallery(study, predictions, logits, report.test, shown, report.note)
    drawn += draw_grid(study, predictions, logits, shown, prepared)
    _write(study, report, predictions, drawn)
    write_study_checklist(study)
    return to_text(report, study.folder)


def _judge_all(
    study: Study, failures: dict[str, str], predictions: OutOfFold, described: dict[str, Any]
) -> StudyReport:
    """Everything that there is to say of the trained configs; `described` is as `read_model` gives it.

    Writes ensemble.json, and what sections beside the table have of files and figures.
    """
    settings, bootstrap = study.configs[study.baseline], bootstrap_of(study.configs[study.baseline])
    named = described["classes"], described["class_names"]
    metric, note = metric_of(settings, *named), note_of(described["is_synthetic"])
    look = Look(name_of(metric, named[1]), bootstrap.confidence, settings.study.margin, study.num_seeds)
    looks = look_at(study, look)
    resampled = resample_configs(predictions.logits, predictions.cohort, metric, bootstrap)
    marks = transductive_marks(study, list(predictions.logits))
    rows = judge(resampled, study, failures, len(looks), marks)
    choice = judge_choice(predictions, resampled, bootstrap) if len(predictions.logits) > 1 else None
    chosen = choice.chosen if choice else ""
    ensemble, reports = judge_ensemble(predictions, settings)
    pooled = pool_ensemble(study, predictions, ensemble.log_probabilities, settings)
    record = write_ensemble(study, ensemble, reports, pooled.pooling, predictions, described)
    test = None
    if aside := collect_labelled_test(study, predictions.logits, named[1]):
        test = judge_test(aside, study.num_splits, settings, named[0], record, chosen, pooled.shown)
        test = judge_test_subgroups(study, test, metric, note)
    referee = answer_referee(study, predictions, pooled, choice, settings, named, note)
    add_curves(referee, study, failures, described, chosen)
    return StudyReport(
        rows=rows,
        metric=look.metric,
        confidence=bootstrap.confidence,
        note=note,
        source=described["trained_on"],
        cohort=predictions.cohort,
        num_seeds=study.num_seeds,
        choice=choice,
        ensemble=ensemble,
        ensemble_score=_by_fold(ensemble, predictions, metric, settings),
        ensemble_scores=reports["scores"],
        calibration=reports["calibration"],
        decisions=reports["decisions"],
        sets=settings.study.sets,
        sharpening=Sharpening.from_json(record["sharpening"]),
        inflations=judge_splits(predictions, study, failures, metric),
        failed_splits={
            name.removesuffix(IMAGE_RANDOM): why for name, why in failures.items() if name.endswith(IMAGE_RANDOM)
        },
        predictions_file=study.predictions_file,
        looks=[*([ABOUT] if study.is_quick else []), *describe_looks(looks, look)],
        transductive=marks,
        test=test,
        referee=referee,
        subgroups=study_subgroups(study, predictions, ensemble, metric, described),
    )


def judged_are(study: Study) -> str:
    """What the labelled images that members are judged on are called."""
    return "out of fold" if study.num_folds else "validation images"


def bootstrap_of(settings: Config) -> Bootstrap:
    """The bootstrap behind all intervals of a study, from the config of its baseline."""
    return Bootstrap(settings.evaluate.num_resamples, settings.evaluate.confidence)


def transductive_marks(study: Study, names: Sequence[str]) -> dict[str, str]:
    """What has to be said of the trained configs that learn from rows to predict, by name."""
    marks = {name: transductive_mark_of(study.members(name)[0].run) for name in names}
    return {name: mark for name, mark in marks.items() if mark}


def judge(
    resampled: Mapping[str, Resampled],
    study: Study,
    failures: dict[str, str],
    num_looks: int = 1,
    transductive: Collection[str] = (),
) -> list[StudyRow]:
    """The rows of the table, the baseline first, failures in their place; `num_looks` as `compare_all`."""
    compared = {}
    if study.baseline in resampled:
        margin = study.configs[study.baseline].study.margin
        compared = compare_all(resampled, study.baseline, margin=margin, num_looks=num_looks)
    rows = []
    for name in study.names:
        is_baseline = name == study.baseline
        if name in failures:
            rows.append(StudyRow(name, None, None, None, failures[name], is_baseline))
            continue
        of_config = resampled[name]
        rows.append(
            StudyRow(
                name,
                of_config.score,
                of_config.members,
                compared.get(name),
                is_baseline=is_baseline,
                is_transductive=name in transductive,
            )
        )
    return rows


def judge_choice(predictions: OutOfFold, resampled: Mapping[str, Resampled], bootstrap: Bootstrap) -> Selection:
    """The best of the configs, and what to expect of it."""
    if predictions.cohort.num_folds > 1:
        return cross_fitted_choice(resampled)
    return cross_fitted_choice_in_parts(predictions.logits, resampled, predictions.cross_fitted.folds, bootstrap)


def judge_ensemble(predictions: OutOfFold, settings: Config) -> tuple[Ensemble, dict[str, Any]]:
    """The greedy ensemble over the configs; and its scores, calibration and decisions, cross-fitted, for JSON."""
    cohort = predictions.cross_fitted
    ensemble = cross_fitted_ensemble(predictions.logits, cohort, average=settings.predict.averaging)
    return ensemble, judge_predictions(ensemble.log_probabilities, cohort, settings)


def _by_fold(ensemble: Ensemble, predictions: OutOfFold, metric: str, settings: Config) -> Interval:
    """The score of the calibrated ensemble as that of a config, a mean over folds: to be beside theirs in a table."""
    method = settings.study.calibration
    calibrated, _, _ = cross_fitted_calibration(ensemble.log_probabilities, predictions.cross_fitted, method)
    of_one = resample_configs({"": calibrated[None]}, predictions.cohort, metric, bootstrap_of(settings))
    return of_one[""].score.mean


def judge_predictions(log_probabilities: LogProbabilities, cohort: Cohort, settings: Config) -> dict[str, Any]:
    """Scores, calibration and decisions of predictions [N, K] by members that never saw the image, for JSON.

    What is fitted is cross-fitted by the folds, or parts, of the cohort.
    """
    bootstrap, method = bootstrap_of(settings), settings.study.calibration
    calibrated, _, _ = cross_fitted_calibration(log_probabilities, cohort, method)
    return {
        "scores": evaluate_predictions(log_probabilities, cohort, bootstrap),
        "calibration": calibration_report(log_probabilities, cohort, bootstrap, method),
        "decisions": decision_report(
            calibrated,
            cohort,
            bootstrap,
            cost=[list(costs) for costs in settings.study.cost] or None,
            max_risk=settings.study.max_risk,
            risk_confidence=settings.study.risk_confidence,
            miss_rate=settings.study.miss_rate,
        ),
    }


def judge_splits(predictions: OutOfFold, study: Study, failures: dict[str, str], metric: str) -> dict[str, Inflation]:
    """How much folds that divide people flatter each config that was trained on both kinds."""
    bootstrap = bootstrap_of(study.configs[study.baseline])
    inflations = {}
    for name in study.configs:
        grouped = name.removesuffix(IMAGE_RANDOM)
        if grouped == name or {name, grouped} & failures.keys():
            continue
        random = collect(study, [name])
        order = {filename: i for i, filename in enumerate(random.filenames)}
        rows = np.array([order[filename] for filename in predictions.filenames])
        inflations[grouped] = inflation(
            random.logits[name][:, rows],
            random.cohort.folds[rows],
            predictions.logits[grouped],
            predictions.cohort,
            metric,
            bootstrap,
        )
    return inflations


def write_ensemble(
    study: Study,
    ensemble: Ensemble,
    reports: dict[str, Any],
    pooling: Pooling,
    predictions: OutOfFold,
    described: dict[str, Any],
) -> dict[str, Any]:
    """Writes ensemble.json, which it returns: all that `submit --ensemble` needs beside the members' predictions."""
    settings = study.configs[study.baseline]
    calibration, thresholds = reports["calibration"]["final"], reports["decisions"]["thresholds"]
    weights = {name: weight for name, weight in ensemble.weights.items() if weight}
    average = settings.predict.averaging
    sharpening = sharpening_of(study, weights, Calibration.from_json(calibration), predictions, average)
    record = {
        "weights": weights,
        "average": average,
        "calibration": calibration,
        "pooling": pooling.to_json(),
        "sharpening": sharpening.to_json(),
        "thresholds": {objective: values["threshold"] for objective, values in thresholds.items()},
        "promises": Promises.of_report(reports["decisions"], settings.study.sets).to_json(),
        **described,
    }
    files.write_json(study.path("ensemble.json"), record)
    return record


def describe_originals(study: Study, report: StudyReport, filenames: list[str]) -> dict[str, str]:
    """Errors of the ensemble by the classes that `data.merge` put together: two tables, a figure and a section.

    Returns the section's text by its title; nothing where no classes were put together.
    """
    settings = study.configs[study.baseline]
    if not settings.data.merge:
        return {}
    rows = Run(study.folder, settings).read_csv("table.csv", ("filename", "original")).set_index("filename")
    originals = np.array(rows.loc[filenames, "original"], str)
    logits, bootstrap = report.ensemble.log_probabilities, bootstrap_of(settings)
    _, _, lines = write_original_classes(study.folder, logits, report.cohort, originals, bootstrap, note=report.note)
    if test := report.test:
        originals = np.array(rows.loc[test.judged.filenames, "original"], str)
        options: Any = {"suffix": "_test", "note": report.note}
        _, _, of_test = write_original_classes(
            study.folder, test.logits, test.judged.cohort, originals, bootstrap, **options
        )
        lines += [f"test images, {line}" for line in of_test]
    about = (
        "Of the ensemble, which `submit --ensemble` hands in, cross-fitted: every image by members that never saw it, "
        "weighted as other images want it; wrong is another most probable class. All classes and pairs: "
        "original_classes.csv, original_pairs.csv."
    )
    text = [about, "", *(f"- {line}" for line in lines), "", "![original_classes](figures/original_classes.png)"]
    return {"Errors by original class": "\n".join(text)}


def _write(study: Study, report: StudyReport, predictions: OutOfFold, drawn: Sequence[str]) -> None:
    """Writes the tables, the report and its figures, and shows in the report those that are drawn."""
    settings, test = study.configs[study.baseline], report.test
    clustered = tests_for_reviewers(predictions, study.baseline, settings)
    files.write_csv(study.path("study.csv"), _frame(report, predictions, clustered))
    trainings = training_table(study, list(predictions.logits), report.cohort.class_names)
    files.write_csv(study.path("training.csv"), trainings)
    of_test = {}
    if test:
        of_test["Classification reports, test images"] = reports_markdown(test.judged.logits, test.judged.cohort)
        of_test |= test.by_person() | subgroup_section(test.subgroups, test.called)
    sections = {
        "Training beside validation": f"{TRAINING_NOTE}\n\n{training_markdown(trainings)}",
        f"Classification reports, {judged_are(study)}": reports_markdown(predictions.logits, predictions.cohort),
        **of_test,
        **(report.referee.sections if report.referee else {}),
        "Coverage of the conformal sets": sets_markdown(report),
        **subgroup_section(report.subgroups),
        **describe_originals(study, report, predictions.filenames),
        "Figures": "\n".join(f"![{name}](figures/{name}.png)" for name in drawn),
    }
    files.write_text(study.path("study.md"), to_markdown(report, sections))
    files.write_json(study.path("results.json"), _results(study, report, clustered))
    note, confidence, margin = report.note, report.confidence, settings.study.margin
    for name, figure in {
        "study": study_figure(report.rows, report.metric, confidence=confidence, margin=margin, note=note),
        "reliability": reliability_diagram(report.calibration, note=note),
        "risk_coverage": risk_coverage_curve(report.decisions, note=note),
    }.items():
        save_figure(figure, study.path(f"figures/{name}.png"))


def _frame(report: StudyReport, predictions: OutOfFold, clustered: dict[str, Any]) -> pd.DataFrame:
    """study.csv: a row per config."""
    frame = to_frame(report.rows, report.metric, report.source)
    by_metric = {
        name: member_scores_by(logits, report.cohort, OVERALL_METRICS) for name, logits in predictions.logits.items()
    }
    for metric in OVERALL_METRICS:
        means = {name: float(np.nanmean(scores[metric])) for name, scores in by_metric.items()}
        frame[f"mean_{metric}"] = [means.get(row.name) for row in report.rows]
    frame = frame.join(pd.DataFrame([p_columns(clustered.get(row.name)) for row in report.rows]))
    if test := report.test:
        frame = frame.join(pd.DataFrame([test.columns(row.name) for row in report.rows]))
    return frame


def _results(study: Study, report: StudyReport, clustered: dict[str, Any]) -> dict[str, Any]:
    """What results.json holds."""
    return {
        "data": report.source,
        "is_synthetic": bool(report.note),
        "num_folds": study.num_folds,
        "num_seeds": report.num_seeds,
        "groups_are": report.cohort.groups_are,
        "metric": report.metric,
        "confidence": report.confidence,
        "choice": report.choice.record() if report.choice else None,
        "ensemble": {
            "weights": report.ensemble.weights,
            "weights_per_fold": list(report.ensemble.weights_per_fold),
            "score": report.ensemble_score.to_json(),
            "scores": report.ensemble_scores,
        },
        "calibration": report.calibration,
        "decisions": report.decisions,
        "sharpening": report.sharpening.to_json(),
        "transductive": dict(report.transductive),
        "inflation": {name: of_config.record() for name, of_config in report.inflations.items()},
        "subgroups": report.subgroups,
        "clustered_tests": clustered,
        "test": report.test.to_json() if report.test else None,
        **(report.referee.values if report.referee else {}),
    }

"""Metrics of the best weights of a run: metrics.json with intervals, figures, and a summary in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fpclass.common import files
from fpclass.common.extension import is_own
from fpclass.config import Config
from fpclass.data.splits import SELECTION, TEST, VALIDATION, Splits, counted
from fpclass.data.table import Table
from fpclass.experiment import is_trained, needs_selection
from fpclass.report.text_tables import classification_report
from fpclass.run.best import BestModel
from fpclass.run.checklist import run_facts, write_checklist
from fpclass.run.decisions.held_out import held_out_images
from fpclass.run.decisions.people import PeopleOfRun
from fpclass.run.decisions.rule import describe_rule, fit_rule_of_run, judge_rule
from fpclass.run.error_analysis import show_errors
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, positive_class, read_classes
from fpclass.run.subgroups import judge_subgroups
from fpclass.run.warnings import find_warnings, transductive_mark
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.intervals import Bootstrap, Interval, describe_groups, evaluate_predictions

SCORES = {"loss": "log_loss", "accuracy": "accuracy", "macro_f1": "macro_f1", "roc_auc": "roc_auc"}
"""What scores.json holds of the validation images, and as test_loss, … of labelled test images, for scripts that want a
number and no interval; with `evaluate.positive_class` also precision and f1, of that class."""
OF_POSITIVE = ("precision", "f1")


def evaluate(best: BestModel, prepared: Prepared) -> dict[str, Any]:
    """Writes figures and metrics.json, which it returns, of the best weights on validation and labelled test images.

    Files about test images have the ending _test.
    """
    from fpclass.report import charts as figures

    run, config, table = best.run, best.run.config, prepared.table
    predictions = best.predict_rows(prepared, (VALIDATION, TEST), "predictions.csv")
    history, (rule, people) = run.history(), _fit_decisions(best, prepared)
    kept = next((line for line in history if line["epoch"] == best.epoch), {})
    metrics: dict[str, Any] = _about(best, prepared, history, kept) | {"calibration": rule.to_json()}
    for split in (VALIDATION, TEST):
        part = predictions.select(split)
        if not len(part.frame):
            continue
        groups = prepared.splits.frame["unit"].iloc[prepared.splits.rows(split)].tolist()
        cohort = Cohort(part.labels, groups, class_names=table.class_names)
        bootstrap = Bootstrap(config.evaluate.num_resamples, config.evaluate.confidence)
        metrics[split] = evaluate_predictions(part.logits, cohort, bootstrap, config.study.metric)
        metrics["calibration"][split] = judge_rule(rule, part, cohort, run)
        metrics[split] |= people.judge(part, cohort)
        metrics[split]["subgroups"] = judge_subgroups(
            run.folder,
            table.rows.iloc[prepared.splits.rows(split)],
            rule.calibration.apply(part.logits),
            cohort,
            config,
            of=f"{split} images",
            suffix="" if split == VALIDATION else f"_{split}",
            note=prepared.note,
        )
    metrics["calibration"]["summary"] = describe_rule(rule, metrics["calibration"][VALIDATION], table.class_names[-1])
    metrics["calibration"]["summary"] += people.summary(metrics[VALIDATION])
    on_test = _scores_of(metrics[TEST], table, config) if TEST in metrics else {}
    overall = _scores_of(metrics[VALIDATION], table, config)
    files.write_json(run.path("scores.json"), overall | {f"test_{name}": score for name, score in on_test.items()})
    files.write_json(run.path("metrics.json"), metrics | {"findings": []})  # before figures, which may fail
    for split in (VALIDATION, TEST):
        if split in metrics:
            _show_split(run, prepared, predictions.select(split), metrics[split], split)
    curves = figures.learning_curves(history, chosen_epoch=metrics["epoch"], test=on_test, note=prepared.note)
    figures.save_figure(curves, run.path("figures/learning_curves.png"))
    metrics["findings"] = show_errors(run, prepared, predictions)
    write_checklist(run.folder, run_facts(run.folder, config, metrics, VALIDATION))
    files.write_json(run.path("metrics.json"), metrics)
    return metrics


def _about(
    best: BestModel, prepared: Prepared, history: Sequence[dict[str, Any]], kept: dict[str, Any]
) -> dict[str, Any]:
    """What metrics.json says of the training, and of what was kept: the log has `kept` of it."""
    config, table = best.run.config, prepared.table
    mark = transductive_mark(config, table)
    return {
        "experiment": config.name,
        "data": table.source,
        "is_synthetic": table.is_synthetic,
        "weights": config.model.weights or "random",
        "epoch": best.epoch,
        "num_epochs": len(history),
        **{key: kept[key] for key in ("strength", "balance") if key in kept},
        "selected_on": _describe_selection(config, prepared.splits, kept),
        "split_notes": list(prepared.splits.notes),
        "positive_class": config.evaluate.positive_class,
        "warnings": find_warnings(config, prepared, history, best.epoch),
        "transductive": {config.name: mark} if mark else {},
    }


def _fit_decisions(best: BestModel, prepared: Prepared) -> tuple[DecisionRule, PeopleOfRun]:
    """Calibration and thresholds, and what is said of people, of the same held-out images."""
    held_out = held_out_images(best, prepared)
    rule = fit_rule_of_run(best, prepared, held_out)
    return rule, PeopleOfRun(best, prepared, held_out, rule)


def _show_split(run: Run, prepared: Prepared, part: Predictions, metrics: dict[str, Any], split: str) -> None:
    """Writes the classification report, the confusion matrix and the ROC curve of the images of a split."""
    from fpclass.report import charts as figures

    suffix, of = ("", "") if split == VALIDATION else (f"_{split}", f"{split} images")
    report, names = classification_report(metrics), prepared.table.class_names
    files.write_text(run.path(f"classification_report{suffix}.txt"), f"{prepared.note}\n{report}".lstrip("\n") + "\n")
    matrix, auc = np.array(metrics["confusion_matrix"]), Interval.of(metrics["roc_auc"])
    for name, figure in {
        "confusion_matrix": figures.confusion_matrix(matrix, names, of=of, note=prepared.note),
        "roc": figures.roc_curves(part.logits, part.labels, names, auc, of=of, note=prepared.note),
    }.items():
        figures.save_figure(figure, run.path(f"figures/{name}{suffix}.png"))


def _scores_of(metrics: dict[str, Any], table: Table, config: Config) -> dict[str, float | None]:
    """`SCORES` of the metrics of a split, and those of `evaluate.positive_class`, where there is one."""
    scores = {name: metrics[metric]["value"] for name, metric in SCORES.items()}
    positive = positive_class(config, table.classes, table.class_names)
    if positive is None:
        return scores
    of_class = metrics["per_class"][table.class_names[positive]]
    return scores | {name: of_class[name]["value"] for name in OF_POSITIVE}


def summarise(run: Run, metrics: dict[str, Any], seconds: float | None = None) -> str:
    """What came out and where it is, in a few lines."""
    positive = positive_class(run.config, *read_classes(run))
    name = "" if positive is None else list(metrics[VALIDATION]["per_class"])[positive]
    seen = "Grad-CAM of the highest losses, " * run.path("figures/grad_cam_worst.png").is_file()
    has_epochs = is_trained(run.config)
    about = {
        "report.html": "all of it on one page, and a text for a paper",
        "submission.csv": "the rows to predict",
        "metrics.json": "every metric with its interval",
        "checklist.md": "TRIPOD+AI and STARD-AI, filled in, for the appendix of a paper",
        "figures": f"confusion matrix, ROC, {'learning curves' if has_epochs else 'strengths'}, {seen}the data",
        "checkpoints": "best and last weights" if has_epochs else "weights",
    }
    lines = [
        "",
        f"{run.config.name}: {metrics['data']}",
        *(line for split in (VALIDATION, TEST) if split in metrics for line in _summary(split, metrics[split], name)),
        f"  {_chosen(metrics, run.config)}, selected on {metrics['selected_on']}",
        *(f"  WARNING     {line}" for line in metrics.get("warnings", ())),
        *(f"  {line}" for line in (*metrics["calibration"]["summary"], *metrics["findings"])),
        *(f"  written     {run.path(name)}  ({text})" for name, text in about.items() if run.path(name).exists()),
    ]
    if metrics["is_synthetic"]:
        lines.append("  These numbers are about SYNTHETIC prints. They say nothing about real ones.")
    if seconds is not None:
        lines.append(f"  took        {seconds:.0f} s")
    return "\n".join(lines)


def _summary(split: str, judged: dict[str, Any], positive: str) -> list[str]:
    """The scores of a split, and of how many images they are."""
    scores = {name.replace("_", " "): judged[name] for name in ("accuracy", "macro_f1", "roc_auc")}
    if split == TEST:
        scores["loss"] = judged["log_loss"]
    scores |= {name.partition(":")[2]: judged[name] for name in judged if is_own(name)}
    if positive:
        scores |= {f"{name} of {positive}": judged["per_class"][positive][name] for name in OF_POSITIVE}
    shown = ",  ".join(f"{name} {Interval.of(score)}" for name, score in scores.items() if score["value"] is not None)
    about = counted(judged["num_images"], judged["num_groups"], describe_groups(judged))
    found = (judged.get("subgroups") or {}).get("findings", [])
    return [
        f"  {split:<10}  {shown}",
        f"              {about}; {judged['interval'] or 'no intervals'}",
        *(f"    {line}" for line in found),
    ]


def _chosen(metrics: dict[str, Any], config: Config) -> str:
    """Which of the epochs, or of the strengths of a probe, was kept, and by what."""
    of_all = f"{metrics['epoch']} of {metrics['num_epochs']}"
    if is_trained(config) and needs_selection(config):
        of_all += f" by {config.train.selection_metric}"
    return f"strength    C={metrics['strength']:g}, {of_all}" if "strength" in metrics else f"best epoch  {of_all}"


def _describe_selection(config: Config, splits: Splits, kept: dict[str, Any]) -> str:
    if not is_trained(config):
        return "the log loss of training images out of fold" if "selection_loss" in kept else "nothing: too few people"
    if not needs_selection(config):
        return "nothing: the last epoch is kept"
    if config.split.selection == "validation":
        return "the validation images themselves (selected on what is reported: optimistic)"
    return f"an inner split of the training data: {splits.counted(SELECTION)}"

"""Metrics of the best weights of a run: metrics.json with intervals, figures, and a summary in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpclass import files
from fpclass.config import Config
from fpclass.data.splits import SELECTION, TEST, VALIDATION, Splits
from fpclass.experiment import needs_selection
from fpclass.report.text_tables import classification_report
from fpclass.run.best import BestModel
from fpclass.run.error_analysis import show_errors
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared
from fpclass.stats.cohort import Cohort
from fpclass.stats.intervals import Bootstrap, Interval, evaluate_predictions

SCORES = {"loss": "log_loss", "accuracy": "accuracy", "macro_f1": "macro_f1", "roc_auc": "roc_auc"}
"""What scores.json holds of the validation images, for scripts that want a number and no interval."""


def evaluate(best: BestModel, prepared: Prepared) -> dict[str, Any]:
    """Writes figures and metrics.json, which it returns, of the best weights on validation and labelled test images."""
    from fpclass.report import charts as figures

    run, config, table = best.run, best.run.config, prepared.table
    predictions = best.predict_rows(prepared, (VALIDATION, TEST), "predictions.csv")
    history = run.history()
    metrics: dict[str, Any] = {
        "experiment": config.name,
        "data": table.source,
        "is_synthetic": table.is_synthetic,
        "weights": config.model.weights or "random",
        "epoch": best.epoch,
        "num_epochs": len(history),
        "selected_on": _describe_selection(config, prepared.splits),
        "split_notes": list(prepared.splits.notes),
    }
    for split in (VALIDATION, TEST):
        part = predictions.select(split)
        if not len(part.frame):
            continue
        groups = prepared.splits.frame["unit"].iloc[prepared.splits.rows(split)].tolist()
        cohort = Cohort(part.labels, groups, class_names=table.class_names)
        bootstrap = Bootstrap(config.evaluate.num_resamples, config.evaluate.confidence)
        metrics[split] = evaluate_predictions(part.logits, cohort, bootstrap)
    report = classification_report(metrics[VALIDATION])
    files.write_text(run.path("classification_report.txt"), f"{prepared.note}\n{report}".lstrip("\n") + "\n")
    judged = predictions.select(VALIDATION)
    matrix, auc = np.array(metrics[VALIDATION]["confusion_matrix"]), Interval.of(metrics[VALIDATION]["roc_auc"])
    roc = figures.roc_curves(judged.logits, judged.labels, table.class_names, auc, note=prepared.note)
    for name, figure in {
        "confusion_matrix": figures.confusion_matrix(matrix, table.class_names, note=prepared.note),
        "roc": roc,
        "learning_curves": figures.learning_curves(history, chosen_epoch=metrics["epoch"], note=prepared.note),
    }.items():
        figures.save_figure(figure, run.path(f"figures/{name}.png"))
    metrics["findings"] = show_errors(run, prepared, predictions)
    files.write_json(run.path("metrics.json"), metrics)
    overall = {name: metrics[VALIDATION][metric]["value"] for name, metric in SCORES.items()}
    files.write_json(run.path("scores.json"), overall)
    return metrics


def summarise(run: Run, prepared: Prepared, metrics: dict[str, Any], seconds: float | None = None) -> str:
    """What came out and where it is, in a few lines."""
    table, judged = prepared.table, metrics[VALIDATION]

    def shown(name: str) -> str:
        score = Interval.of(judged[name])
        return "" if score.value is None else f"{name.replace('_', ' ')} {score}"

    scores = ",  ".join(filter(None, map(shown, ("accuracy", "macro_f1", "roc_auc"))))
    about = {
        "submission.csv": "the rows to predict",
        "metrics.json": "every metric with its interval",
        "figures": "confusion matrix, ROC, learning curves, Grad-CAM of the worst errors, the data",
        "checkpoints": "best and last weights",
    }
    lines = [
        "",
        f"{run.config.name}: {table.source}",
        f"  validation  {scores}",
        f"              {_counted(judged['num_images'], judged['num_groups'])}; {judged['interval']}",
        f"  best epoch  {metrics['epoch']} of {metrics['num_epochs']}, selected on {metrics['selected_on']}",
        *(f"  {line}" for line in metrics["findings"]),
        *(f"  written     {run.path(name)}  ({text})" for name, text in about.items() if run.path(name).exists()),
    ]
    if table.is_synthetic:
        lines.append("  These numbers are about SYNTHETIC prints. They say nothing about real ones.")
    if seconds is not None:
        lines.append(f"  took        {seconds:.0f} s")
    return "\n".join(lines)


def _describe_selection(config: Config, splits: Splits) -> str:
    if not needs_selection(config):
        return "nothing: the last epoch is kept"
    if config.split.selection == "validation":
        return "the validation images themselves (selected on what is reported: optimistic)"
    rows = splits.rows(SELECTION)
    num_units = splits.frame["unit"].iloc[rows].nunique()
    return f"an inner split of the training data: {_counted(len(rows), num_units)}"


def _counted(num_images: int, num_units: int) -> str:
    return f"{num_images} images" + (f" of {num_units} people" if num_units < num_images else "")

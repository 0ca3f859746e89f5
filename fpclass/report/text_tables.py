"""Tables as text: aligned columns for the terminal, Markdown for a page, and the classification report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fpclass.stats.intervals import Interval


def align_columns(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """One line per row, columns two spaces apart; `right` aligns all but the first, as of numbers.

    Args:
      rows: cells, equally many in each; the header first, if there is one.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = str.rjust if right else str.ljust
    lines = []
    for first, *cells in rows:
        padded = [align(cell, width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    return lines


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, whatever the cells hold; the first row is the header."""
    header, *body = [[cell.replace("|", "\\|") for cell in cells] for cells in rows]
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *body)]


def classification_report(metrics: dict[str, Any]) -> str:
    """The metrics of `compute_metrics` or `evaluate_predictions` as lines of text, with intervals if there are any."""

    def cell(value: float | dict[str, float | None] | None) -> str:
        return str(Interval.of(value) if isinstance(value, dict) else Interval(value))

    rows = [["class", "precision", "recall", "F1", "images"]]
    for name, values in metrics["per_class"].items():
        scores = [cell(values[metric]) for metric in ("precision", "recall", "f1")]
        rows.append([name, *scores, str(values["support"])])
    titles = {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro F1",
        "roc_auc": "ROC AUC",
        "log_loss": "log-loss",
        "brier": "Brier score",
    }
    overall = [[title, cell(metrics[key])] for key, title in titles.items()]
    overall.append(["images", str(metrics["num_images"])])
    if metrics.get("interval"):
        overall.append(["[intervals]", metrics["interval"]])
    return "\n".join([*align_columns(rows, right=True), "", *align_columns(overall)])

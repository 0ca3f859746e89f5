"""Puts the metrics of several run folders into one Markdown table, in the order given.

Run: python benchmarks/results_table.py runs/footprints/*
"""

from __future__ import annotations

import argparse
import json
import pathlib

METRICS = ("accuracy", "macro_f1", "roc_auc", "log_loss")


def cell(score: dict[str, float | None]) -> str:
    """A value with its interval."""
    if score["low"] is None or score["high"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path, help="folders of finished trainings")
    folders = parser.parse_args().runs
    print(f"| experiment | epoch kept | {' | '.join(m.replace('_', ' ') for m in METRICS)} |")
    print("|---|---|" + "---|" * len(METRICS))
    judged = {}
    for folder in folders:
        metrics = json.loads((folder / "metrics.json").read_text())
        judged = metrics["validation"]
        row = [
            metrics["experiment"],
            f"{metrics['epoch']} of {metrics['num_epochs']}",
            *(cell(judged[m]) for m in METRICS),
        ]
        print(f"| {' | '.join(map(str, row))} |")
    print(f"\n{judged['num_images']} images of {judged['num_groups']} people; {judged['interval']}.")


if __name__ == "__main__":
    main()

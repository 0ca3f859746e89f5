"""The facts of a study for checklist.md: its estimand, how it selects, its intervals and its decisions."""

from __future__ import annotations

from typing import Any

from fpclass.common import files
from fpclass.common.console import program
from fpclass.run.checklist import shared_facts, subgroup_fact, write_checklist
from fpclass.stats.intervals import Interval
from fpclass.study.study import Study


def write_study_checklist(study: Study) -> None:
    """Writes checklist.md of a study that is judged, from its results.json.

    Raises:
      RunError: results.json is missing or damaged.
    """
    results = files.read_object(study.path("results.json"), ensemble=dict, calibration=dict, decisions=dict, metric=str)
    settings, scores = study.configs[study.baseline], results["ensemble"]["scores"]
    whose = results.get("groups_are", "people")
    analysed = f"{scores['num_images']} images of {scores['num_groups']} {whose}"
    division = f"{study.num_folds} folds" if study.num_folds else "one split"
    facts = shared_facts(study.folder, settings, scores, analysed) | subgroup_fact(results.get("subgroups"))
    calibration, thresholds = results["calibration"], results["decisions"]["thresholds"]
    ece = calibration["after"]["ece"]
    compared = list(results["ensemble"]["weights"])
    weights = ", ".join(f"{weight:.2f} {name}" for name, weight in results["ensemble"]["weights"].items() if weight)
    facts |= {
        "division": f"{division} x {study.num_seeds} seeds; nobody (and no copy of an image) is in two folds; the "
        f"epoch, where one is chosen, by a part of the training {whose}",
        "measures": f"configs by {results['metric']}, mean over folds and seeds (the estimand: of a training on "
        f"{whose} like these); ensemble: {facts['measures']}; ECE {Interval.of(ece)}",
        "model": f"{len(compared)} config{'s' * (len(compared) > 1)} compared ({', '.join(compared[:6])}"
        f"{' …' if len(compared) > 6 else ''}), errors of the whole table controlled; baseline: {facts['model']}; "
        f"ensemble {weights}, weights, calibration and thresholds cross-fitted",
        "performance": f"ensemble, out of sample: {facts['performance']}; calibration: ECE {Interval.of(ece)} "
        f"({ece['expected_if_calibrated']:.3f} by chance alone)",
        "thresholds": "the most probable class; others, cross-fitted: "
        + (", ".join(f"{name} {values['threshold']:.3f}" for name, values in thresholds.items()) or "none"),
        "prediction": f"average of all members by ensemble.json, {calibration['method']} calibration; "
        f"`{program()} predict --workdir` of this folder",
        "indeterminate": "every image is decided; abstention, sets of classes: results.json, decisions",
        "weights": "members/*/*/checkpoints/best, ensemble.json, study.json",
    }
    if test := results.get("test"):
        facts["performance"] += f"; {test['num_images']} test images: {_scores(test['ensemble'])}"
    if curves := results.get("learning_curve"):
        said = {name: curve.get("findings") or [curve.get("why_not", "")] for name, curve in curves.items()}
        facts["size"] = "MISSING: no calculation before; " + "; ".join(
            f"learning curve of {name}: {'; '.join(lines)}" for name, lines in said.items()
        )
    write_checklist(study.folder, facts)


def _scores(scores: dict[str, Any]) -> str:
    shown = ("accuracy", "roc_auc", "log_loss")
    return ", ".join(f"{name.replace('_', ' ')} {Interval.of(scores[name])}" for name in shown)

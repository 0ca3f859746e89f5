"""The facts of a study for checklist.md: its estimand, how it selects, its intervals and its decisions."""

from __future__ import annotations

from fpclass.run.checklist import shared_facts, subgroup_fact, write_checklist
from fpclass.stats.intervals import Interval
from fpclass.study.report import StudyReport
from fpclass.study.study import Study


def write_study_checklist(study: Study, report: StudyReport) -> None:
    """Writes checklist.md of a study that is judged."""
    settings, cohort, scores = study.configs[study.baseline], report.cohort, report.ensemble_scores
    analysed = f"{len(cohort)} images of {cohort.num_groups} {cohort.groups_are}"
    division = f"{study.num_folds} folds" if study.num_folds else "one split"
    facts = shared_facts(study.folder, settings, scores, analysed) | subgroup_fact(report.subgroups)
    calibration, decisions = report.calibration, report.decisions
    ece = calibration["after"]["ece"]
    weights = ", ".join(f"{weight:.2f} {name}" for name, weight in report.ensemble.weights.items() if weight)
    facts |= {
        "division": f"{division} x {report.num_seeds} seeds; nobody (and no copy of an image) is in two folds; the "
        "epoch, where one is chosen, by a part of the training people",
        "measures": f"configs by {report.metric}, mean over folds and seeds (the estimand: of a training on people "
        f"like these); ensemble: {facts['measures']}; ECE {Interval.of(ece)}",
        "model": f"{len(report.rows)} configs compared ({', '.join(row.name for row in report.rows[:6])}"
        f"{' …' if len(report.rows) > 6 else ''}), errors of the whole table controlled; baseline: {facts['model']}; "
        f"ensemble {weights}, weights, calibration and thresholds cross-fitted",
        "performance": f"ensemble, out of sample: {facts['performance']}; calibration: ECE {Interval.of(ece)} "
        f"({ece['expected_if_calibrated']:.3f} by chance alone)",
        "thresholds": "the most probable class; others, cross-fitted: "
        + (
            ", ".join(f"{name} {values['threshold']:.3f}" for name, values in decisions["thresholds"].items()) or "none"
        ),
        "prediction": f"average of all members by ensemble.json, {calibration['method']} calibration; "
        "`launch.py predict --workdir` of this folder",
        "indeterminate": "every image is decided; abstention, sets of classes: results.json, decisions",
        "weights": "members/*/*/checkpoints/best, ensemble.json, study.json",
    }
    if report.test:
        facts["performance"] += f"; {report.test.findings()[-1]}"
    write_checklist(study.folder, facts)

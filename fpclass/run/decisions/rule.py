"""The calibration and thresholds of a run: fitted on images held out for that, judged on those that are reported."""

from __future__ import annotations

from typing import Any

from fpclass.common import files
from fpclass.common.console import program
from fpclass.run.best import BestModel
from fpclass.run.decisions.held_out import HeldOut
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared
from fpclass.stats.cohort import Cohort
from fpclass.stats.decisions.report import compare_with_half
from fpclass.stats.decisions.rule import DecisionRule, fit_rule
from fpclass.stats.decisions.thresholds import COST, check_cost, name_objective
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.probabilities.reliability import before_and_after

FILE = "calibration.json"


def fit_rule_of_run(best: BestModel, prepared: Prepared, held_out: HeldOut) -> DecisionRule:
    """Fits calibration and thresholds of the best weights on the images held out for that; writes calibration.json.

    Where there are none nothing is fitted.

    Raises:
      ConfigError: `study.cost` does not fit the classes.
    """
    study, table = best.run.config.study, prepared.table
    if held_out.why_not:
        rule = DecisionRule.nothing(table.num_classes, held_out.why_not)
    else:
        labels, fitted_on = table.labels[held_out.rows], held_out.by_image
        rule = fit_rule(held_out.logits, labels, fitted_on, method=study.calibration, cost=study.cost)
    files.write_json(best.run.path(FILE), {"epoch": best.epoch, **rule.to_json()})
    return rule


def read_rule(best: BestModel, num_classes: int) -> DecisionRule:
    """The rule that was fitted for the weights of a run; where there is none, one that does nothing and says why.

    Raises:
      DataError, RunError: calibration.json is damaged.
    """
    path = best.run.path(FILE)
    how = f"run `{program()} evaluate --workdir={best.run.folder}` first"
    if not path.is_file():
        return DecisionRule.nothing(num_classes, how)
    values = files.read_object(path, epoch=int)
    rule = DecisionRule.from_json(values, str(path))
    if values["epoch"] != best.epoch or len(rule.calibration.scale) != num_classes:
        return DecisionRule.nothing(num_classes, f"calibration.json is of other weights; {how}")
    return rule


def judge_rule(rule: DecisionRule, predictions: Predictions, cohort: Cohort, run: Run) -> dict[str, Any]:
    """What a rule does to images that had no say in it, for metrics.json.

    Returns:
      before, after, gain (`before_and_after`), unless it leaves probabilities alone; thresholds: by objective
      threshold, score, score_at_half and gain.
    """
    evaluate = run.config.evaluate
    bootstrap = Bootstrap(evaluate.num_resamples, evaluate.confidence)
    calibrated = rule.calibration.apply(predictions.logits)
    judged: dict[str, Any] = {}
    if rule.calibration.method != "none":
        judged |= before_and_after(predictions.logits, calibrated, cohort, bootstrap)
    judged["thresholds"] = {}
    for objective, threshold in rule.thresholds.items():
        cost = check_cost(run.config.study.cost, calibrated.shape[1]) if objective == COST else None
        decided = rule.by_threshold(calibrated, objective)
        scores = compare_with_half(decided, calibrated, cohort, bootstrap, objective, cost)
        judged["thresholds"][objective] = {"threshold": threshold, **scores}
    return judged


def describe_rule(rule: DecisionRule, judged: dict[str, Any], class_name: str) -> list[str]:
    """What a person should know of it, a line each; `judged` is of the validation images."""
    lines = [f"calibration {rule.words}"]
    if "after" in judged:
        before, after = (judged[when]["log_loss"]["value"] for when in ("before", "after"))
        lines[0] += f"; validation log loss {before:.3f} before, {after:.3f} after"
    if rule.thresholds:
        listed = ", ".join(f"{value:.3f} for {name_objective(name)}" for name, value in rule.thresholds.items())
        lines.append(f"thresholds  of {class_name!r}: {listed}; --config.submit.threshold_for decides by them")
    return lines

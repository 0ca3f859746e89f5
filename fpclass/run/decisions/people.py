"""The images of a person as one answer: fitted on held-out images of a run, judged on others, applied to new ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from fpclass.common import files
from fpclass.common.console import program, say
from fpclass.config import Config
from fpclass.data.table import Table
from fpclass.errors import ConfigError
from fpclass.run.best import BestModel
from fpclass.run.decisions.held_out import HeldOut
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, check_groups, condition_of, why_not_by_person
from fpclass.stats.cohort import Cohort, group_codes
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.evidence.diagnostics import decision_curve, diagnostic_accuracy
from fpclass.stats.evidence.person import cohort_of_people, person_report, why_no_people
from fpclass.stats.evidence.pooling import SUBMISSION, Codes, Pooling, make_pooling, method_of, with_thresholds
from fpclass.stats.evidence.report import fit_evidence, judge_ratios, uncalibrated, why_no_evidence
from fpclass.stats.intervals import Bootstrap, Interval
from fpclass.stats.metrics import Logits

FILE = "pooling.json"


class PeopleOfRun:
    """What a run's held-out images say of people: the pooling, and whether there are likelihood ratios.

    Attributes:
      pooling: what `predict.pool` asks for, in pooling.json.
      shown: what metrics.json shows, which is calibrated where nothing is asked for.
    """

    def __init__(self, best: BestModel, prepared: Prepared, held_out: HeldOut, rule: DecisionRule):
        """Fits on the images that the rule was fitted on, and writes pooling.json where `predict.pool` is on."""
        self.config: Config = best.run.config
        self.rule, self.table = rule, prepared.table
        self.wanted = self.config.predict.pool
        if self.wanted == SUBMISSION and why_not_by_person(self.table):
            self.wanted = "none"
        self.held_out, rows = held_out, held_out.rows
        frame = prepared.splits.frame.iloc[rows]
        self.people, self.cohort = group_codes(frame["group"].to_numpy(str)), None
        self.shown = Pooling("mean", why_not=rule.why_not or "nothing was set aside to fit it on")
        if len(rows):
            groups = frame["unit"].to_numpy(str)
            self.cohort = Cohort(prepared.table.labels[rows], groups, class_names=prepared.table.class_names)
            self.log_probabilities = rule.calibration.apply(held_out.logits)
            self.shown = self._fit("calibrated" if self.wanted == "none" else method_of(self.wanted))
        self.pooling = self.shown if self.wanted != "none" else Pooling("none")
        if self.wanted != "none":
            files.write_json(best.run.path(FILE), {"epoch": best.epoch, **self.pooling.to_json()})

    def _fit(self, method: str) -> Pooling:
        assert self.cohort is not None
        if why_not := why_no_people(self.cohort, self.people):
            return Pooling("mean", why_not=why_not)
        num_people = self.people.max() + 1
        fitted_on, labels = self.held_out.by_person(num_people), self.cohort.labels
        pooling = make_pooling(method, self.log_probabilities, labels, self.people, fitted_on)
        return with_thresholds(pooling, self.log_probabilities, labels, self.people, self.config.study.cost)

    def judge(self, part: Predictions, cohort: Cohort) -> dict[str, Any]:
        """What metrics.json holds of labelled images beside their metrics: person, evidence, diagnostics."""
        bootstrap = Bootstrap(self.config.evaluate.num_resamples, self.config.evaluate.confidence)
        log_p = self.rule.calibration.apply(part.logits)
        people = group_codes(part.frame["group"].to_numpy(str))
        units = {"image": np.arange(len(cohort))}
        judged: dict[str, Any] = {"person": {"why_not": why_no_people(cohort, people)}}
        if not judged["person"]["why_not"]:
            units["person"] = people
            pooled = self.shown.apply(log_p, people)
            report = person_report(log_p, pooled, cohort, people, bootstrap)
            judged["person"] = {"pool": self.wanted, "pooling": self.shown.to_json(), **report}
        judged["evidence"] = self._evidence(log_p, cohort, units, bootstrap)
        positive = condition_of(self.config, self.table.classes, self.table.class_names)
        if positive is not None:
            prevalence = self.config.evaluate.prevalence or None
            measures = diagnostic_accuracy(log_p, cohort, positive, bootstrap, prevalence)
            curve = decision_curve(log_p, cohort, positive, bootstrap, prevalence)
            condition = {"condition": self.table.class_names[positive]}
            judged["diagnostics"] = condition | {"per_image": measures, "decision_curve": {"per_image": curve}}
            if "person" in units:
                pooled, of_people = self.shown.of_people(log_p, people), cohort_of_people(cohort, people)
                measures = diagnostic_accuracy(pooled, of_people, positive, bootstrap, prevalence)
                judged["diagnostics"]["per_person"] = measures
        return judged

    def _evidence(self, log_p: Logits, cohort: Cohort, units: dict[str, Codes], bootstrap: Bootstrap) -> dict[str, Any]:
        """Likelihood ratios that the held-out images calibrate."""
        if self.cohort is None:
            return {"why_not": "nothing was set aside to calibrate on; a study calibrates out of fold"}
        why_not = why_no_evidence(self.cohort, self.table.num_classes) or why_no_evidence(
            cohort, self.table.num_classes
        )
        if why_not:
            return {"why_not": why_not}
        h1 = condition_of(self.config, self.table.classes, self.table.class_names) or 0
        order = [1 - h1, h1]
        fitted, labels = self.log_probabilities[:, order], (self.cohort.labels == h1).astype(np.int64)
        judged = Cohort((cohort.labels == h1).astype(np.int64), cohort.groups)
        reports: dict[str, Any] = {"h1": self.table.class_names[h1], "h2": self.table.class_names[1 - h1]}
        for unit, of_unit in units.items():
            own = np.arange(len(labels)) if unit == "image" else self.people
            if unit == "person" and why_no_people(self.cohort, self.people):
                continue
            evidence = fit_evidence(fitted, labels, own, self.cohort.groups)
            llr = evidence.log_ratios(log_p[:, order], of_unit)
            before = uncalibrated(log_p[:, order], judged.labels, of_unit)
            reports[unit] = judge_ratios(llr, before, evidence, cohort_of_people(judged, of_unit), bootstrap)
        return reports

    def summary(self, judged: dict[str, Any]) -> list[str]:
        """What a person should know of it, a line each; `judged` is of the validation images."""
        if self.wanted == "none" or "per_person" not in judged["person"]:
            return []
        scores = [
            Interval.of(judged["person"][key]["accuracy"]) for key in ("per_image", "per_image_pooled", "per_person")
        ]
        return [
            f"pooling     {self.pooling.words}",
            f"            accuracy {scores[0]} per image, {scores[1]} per image after pooling, {scores[2]} per person",
        ]


def read_pooling(best: BestModel, num_classes: int) -> Pooling:
    """The pooling that was fitted for the weights of a run; "none" where `predict.pool` is.

    Raises:
      ConfigError: it was not fitted.
      DataError, RunError: pooling.json is damaged.
    """
    method, path = best.run.config.predict.pool, best.run.path(FILE)
    if method == SUBMISSION and not path.is_file():  # as of `final/` of a search, which nothing is fitted for
        return Pooling("mean", why_not="nothing was set aside to fit it on")
    method = method_of(method)
    if method == "none" or (method == "mean" and not path.is_file()):
        return Pooling(method)
    how = f"run `{program()} evaluate --workdir={best.run.folder} --config.predict.pool={method}` first"
    if not path.is_file():
        raise ConfigError(f"predict.pool is {method!r}, and nothing is fitted for it; {how}")
    values = files.read_object(path, epoch=int)
    pooling = Pooling.from_json(values, str(path))
    is_other = pooling.method != method and not pooling.why_not
    if values["epoch"] != best.epoch or is_other or len(pooling.base) not in (0, num_classes):
        raise ConfigError(f"predict.pool is {method!r}, and {path} is of other weights or another method; {how}")
    return pooling


def pooling_for_rows(config: Config, table: Table, read: Callable[[], Pooling]) -> Pooling:
    """The pooling of the rows to predict of a table; `read` gives the one that was fitted.

    Raises:
      ConfigError, DataError, RunError: as `read`.
    """
    if config.predict.pool != SUBMISSION:
        return read()
    groups = table.rows.loc[table.to_predict_mask & table.usable_mask, "group"]
    num_nobody = int((groups == "").sum())
    nobody = f"{num_nobody} of {len(groups)} rows to predict have no person" if num_nobody else ""
    if why_not := why_not_by_person(table) or nobody:
        say(f"submission: each image by itself, since {why_not}")
        return Pooling("none")
    pooling = read()
    say(f"submission: one class for all images of a person; {pooling.words}")
    return pooling


def pooling_for_files(config: Config, read: Callable[[], Pooling]) -> Pooling:
    """The pooling of new files, of which nobody says whose they are unless they are to be pooled.

    Raises:
      ConfigError, DataError, RunError: as `read`.
    """
    return Pooling("none") if config.predict.pool == SUBMISSION else read()


def pool_rows(predictions: Predictions, pooling: Pooling, where: str) -> Predictions:
    """Calibrated predictions with every row's log-probabilities replaced by its person's.

    Raises:
      DataError: a row has no person; `where` names the data.
    """
    if pooling.method == "none":
        return predictions
    groups = predictions.frame["group"].to_numpy(str)
    check_groups(groups, predictions.frame["filename"].tolist(), where)
    return predictions.with_logits(pooling.apply(predictions.logits, group_codes(groups)))


def with_people_thresholds(rule: DecisionRule, pooling: Pooling) -> DecisionRule:
    """The rule with thresholds for pooled probabilities, where they are pooled."""
    return rule if pooling.method == "none" else dataclasses.replace(rule, thresholds=pooling.thresholds)

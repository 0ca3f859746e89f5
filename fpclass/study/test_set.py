"""Images that nothing was chosen by: how good configs and their ensemble are on a test split, or another data set.

All members predict them, on folds too: such images are in no fold. Calibration, thresholds, abstention, sets and the
pooling of a person's images are those that were fitted before; nothing is fitted here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fpclass.config import Config
from fpclass.data.files import some_of
from fpclass.data.splits import EXCLUDED, TEST
from fpclass.errors import RunError
from fpclass.run.prepare import positive_class
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import Score, SeedLogits, resample_scores_by
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.decisions.thresholds import set_scores
from fpclass.stats.evidence.person import person_report, why_no_people
from fpclass.stats.evidence.pooling import Codes, Pooling
from fpclass.stats.intervals import Bootstrap, Interval, evaluate_predictions, format_number
from fpclass.stats.probabilities.fold_average import UNSHARPENED, Combination, Sharpening
from fpclass.stats.scrutiny.external import frozen_findings, judge_frozen
from fpclass.stats.weighted_metrics import MACRO_PRECISION, of_class
from fpclass.study.evidence.people import PERSON_TITLE, people_of, person_finding, person_markdown
from fpclass.study.out_of_fold import logit_columns, read_member
from fpclass.study.study import Study

ENSEMBLE = "the ensemble"


@dataclasses.dataclass(frozen=True)
class SetAside:
    """Predictions of labelled images that nothing was chosen by.

    Attributes:
      filenames: [N].
      logits: by config; of its M members, all folds of the first seed, then of the next, [M, N, K].
      people: the person of each image [N]; who is nobody's is alone.
      num_left_out: images that nobody trains on because their person, or a copy, is among these.
    """

    filenames: list[str]
    cohort: Cohort
    logits: dict[str, SeedLogits]
    people: Codes
    num_left_out: int = 0


@dataclasses.dataclass(frozen=True)
class OnTest:
    """How good configs are on labelled images that nothing was chosen by.

    Attributes:
      titles: of the scores, by the names that they have in files.
      scores: by config and name, mean over its members with interval and standard deviation.
      ensemble: of `evaluate_predictions`, calibrated and weighted as the validation images, or folds, say.
      logits: of the ensemble [N, K].
      chosen: name of the config that these chose; "" where there is one only.
      frozen: of `judge_frozen`, of the ensemble.
      person: of `person_report` with pool and pooling, of the ensemble; or why_not.
      subgroups: of `judge_subgroups`, of the ensemble; None where none are asked for.
      called: what tables call these images, in a word.
      origin: where they come from, in a clause.
    """

    judged: SetAside
    titles: dict[str, str]
    scores: dict[str, dict[str, Score]]
    ensemble: dict[str, Any]
    logits: np.ndarray
    chosen: str
    frozen: dict[str, Any]
    person: dict[str, Any]
    subgroups: dict[str, Any] | None = None
    called: str = "test"
    origin: str = "that the data set sets aside"

    @property
    def is_covered(self) -> np.ndarray | None:
        """Whether each image's class is in its conformal set, bool [N]; None where there are no sets."""
        quantiles, labels = self.frozen["decisions"]["conformal"].get("quantiles"), self.judged.cohort.labels
        if quantiles is None:
            return None
        return (set_scores(self.logits) <= np.array(quantiles))[np.arange(len(labels)), labels]

    def columns(self, name: str) -> dict[str, float | None]:
        """A config's columns of study.csv; empty for one that failed."""
        record = {}
        for key, score in self.scores.get(name, {}).items():
            record |= score.mean.columns(f"test_{key}") | {f"test_{key}_sd": score.sd}
        return record

    def to_json(self) -> dict[str, Any]:
        """What results.json holds."""
        return {
            "num_images": len(self.judged.cohort),
            "num_groups": self.judged.cohort.num_groups,
            "chosen": self.chosen,
            "configs": {
                name: {key: score.mean.to_json() | {"sd": score.sd} for key, score in scores.items()}
                for name, scores in self.scores.items()
            },
            "num_left_out": self.judged.num_left_out,
            "ensemble": self.ensemble,
            **self.frozen,
            "person": self.person,
            "subgroups": self.subgroups,
        }

    def by_person(self) -> dict[str, str]:
        """The section about people by its title; nothing where nothing can be said of them."""
        if "why_not" in self.person:
            return {}
        pooling = Pooling.from_json(self.person["pooling"], "pooling")
        table = person_markdown(self.person, pooling, f"the ensemble, {self.called} images", "nothing is fitted here")
        return {f"{PERSON_TITLE}, {self.called} images": table}

    def cells(self, *, has_intervals: bool) -> list[list[str]]:
        """The table, its header first: mean ± standard deviation over the members, and intervals if wanted."""
        rows = [["config", *self.titles.values()]]
        for name, scores in self.scores.items():
            cells = []
            for score in scores.values():
                spread = "" if score.sd is None else f" ± {format_number(score.sd)}"
                bounds = f" {score.mean.format_bounds()}" if has_intervals else ""
                cells.append((format_number(score.mean.value) + spread + bounds).rstrip())
            rows.append([name, *cells])
        return rows

    def findings(self) -> list[str]:
        """What there is to say of them, a line each."""
        cohort = self.judged.cohort
        people = f" of {cohort.num_groups} people" if cohort.groups_are == "people" else ""
        lines = [
            f"{self.called}: {len(cohort)} images{people} {self.origin}; nothing is chosen by them, and they are "
            "scored once, with the weights that each member kept; mean ± standard deviation over the members"
        ]
        if left_out := self.judged.num_left_out:
            lines.append(
                f"{self.called}: {left_out} images of the same people, or copies of these images, are left out of "
                "training and validation"
            )
        absent = [name for name, of_class in self.ensemble["per_class"].items() if not of_class["support"]]
        if absent:
            lines.append(f"{self.called}: no image of {some_of(absent)}; what needs every class is undefined")
        if self.chosen:
            shown = ", ".join(f"{title} {self.scores[self.chosen][key].mean}" for key, title in self.titles.items())
            lines.append(f"{self.called}, the config chosen without them, {self.chosen}: {shown}")
        of_ensemble = {name: Interval.of(self.ensemble[name]) for name in ("log_loss", "accuracy", "roc_auc")}
        shown = ", ".join(f"{name.replace('_', ' ')} {score}" for name, score in of_ensemble.items())
        is_one = len(self.judged.logits) == 1 == len(next(iter(self.judged.logits.values())))
        whole = "the network" if is_one else ENSEMBLE
        lines.append(f"{self.called}, {whole}, weighted and calibrated without their labels: {shown}")
        further = frozen_findings(self.frozen, cohort)
        further += [] if "why_not" in self.person else [person_finding(self.person)]
        further += (self.subgroups or {}).get("findings", [])
        return [*lines, *(f"{self.called}, {line}" for line in further)]


def collect_labelled_test(study: Study, names: Iterable[str], class_names: Sequence[str]) -> SetAside | None:
    """Reads what the members of some configs predict of labelled test images; None where there are none.

    Raises:
      RunError: a member's files are damaged, or of other images.
    """
    logits: dict[str, np.ndarray] = {}
    filenames: list[str] = []
    labels, groups, num_left_out = np.empty(0, np.int64), np.empty(0, str), 0
    for name in names:
        members = study.members(name)
        frames = [read_member(member, TEST) for member in members]
        if not len(frames[0]):
            return None
        if not filenames:
            filenames, labels = frames[0]["filename"].tolist(), frames[0]["label"].to_numpy(np.int64)
            splits = members[0].run.read_csv("splits.csv", ("filename", "unit", "role")).set_index("filename")
            groups = splits.loc[filenames, "unit"].to_numpy(str)
            is_out = (splits["role"] == EXCLUDED).to_numpy(bool)
            num_left_out = int(np.sum(is_out & np.isin(splits["unit"].to_numpy(str), groups)))
        if any(frame["filename"].tolist() != filenames for frame in frames):
            raise RunError(f"{study.folder}: members of {name} predicted other test images; remove its members folder")
        logits[name] = np.stack([frame[logit_columns(frame)].to_numpy(np.float64) for frame in frames])
    if not logits:
        return None
    cohort = Cohort(labels, groups, None, class_names)
    return SetAside(filenames, cohort, logits, people_of(study, filenames), num_left_out)


def judge_test(
    judged: SetAside,
    num_splits: int,
    settings: Config,
    classes: Sequence[str],
    ensemble: Mapping[str, Any],
    chosen: str,
    pooling: Pooling,
    called: str = OnTest.called,
    origin: str = OnTest.origin,
) -> OnTest:
    """Scores all members, and the ensemble that ensemble.json describes, on images that nothing was chosen by.

    Precision and F1 are of `evaluate.positive_class`, or else means over the classes.

    Args:
      num_splits: folds of the members, or 1.
      ensemble: weights, average, calibration, thresholds, perhaps sharpening and promises, as ensemble.json has
        them.
      pooling: over a person's images, as it was fitted before; "none" where it could not be.
      called: as `OnTest`, like origin.
    """
    bootstrap = Bootstrap(settings.evaluate.num_resamples, settings.evaluate.confidence)
    cohort = judged.cohort
    positive = positive_class(settings, classes, cohort.class_names)
    metrics = {"loss": "log_loss", "accuracy": "accuracy", "precision": MACRO_PRECISION, "f1": "macro_f1"}
    titles = {"loss": "loss", "accuracy": "accuracy", "precision": "precision", "f1": "macro f1"}
    if positive is not None:
        for score in ("precision", "f1"):
            metrics[score] = of_class(score, positive)
            titles[score] = f"{score} of {cohort.class_names[positive]}"
    metrics["roc_auc"], titles["roc_auc"] = "roc_auc", "roc auc"
    scores = {}
    for name, logits in judged.logits.items():
        by_metric = resample_scores_by(logits, cohort, list(metrics.values()), bootstrap)
        scores[name] = {key: by_metric[metric].score for key, metric in metrics.items()}
    rule = DecisionRule.from_json(ensemble, "ensemble.json")
    before, combined = combine(judged.logits, num_splits, ensemble, rule)
    promised = ensemble.get("promises")
    promises = None if promised is None else Promises.from_json(promised, len(classes))
    frozen = judge_frozen(before, combined, cohort, bootstrap, rule, promises=promises, cost=settings.study.cost)
    evaluated = evaluate_predictions(combined, cohort, bootstrap)
    person = _judge_people(judged, combined, pooling, settings.predict.pool, bootstrap)
    return OnTest(judged, titles, scores, evaluated, combined, chosen, frozen, person, None, called, origin)


def combine(
    logits: Mapping[str, SeedLogits], num_splits: int, ensemble: Mapping[str, Any], rule: DecisionRule
) -> tuple[np.ndarray, np.ndarray]:
    """The ensemble's log-probabilities [N, K], not calibrated, and as it predicts; arguments as `judge_test`."""
    weighted = {name: logits[name] for name in ensemble["weights"]}
    nothing = DecisionRule.nothing(next(iter(weighted.values())).shape[-1], "")
    before, combined = (
        Combination(ensemble["weights"], ensemble["average"], of_folds.calibration, num_splits, scale)(weighted)
        for of_folds, scale in ((nothing, UNSHARPENED), (rule, Sharpening.from_json(ensemble.get("sharpening"))))
    )
    return before, combined


def _judge_people(
    judged: SetAside, log_probabilities: np.ndarray, pooling: Pooling, pool: str, bootstrap: Bootstrap
) -> dict[str, Any]:
    """What a pooling that was fitted before is worth on these images, calibrated [N, K]; or why_not."""
    why_not = why_no_people(judged.cohort, judged.people)
    if pooling.method == "none":
        why_not = why_not or "no pooling was fitted before"
    if why_not:
        return {"why_not": why_not}
    pooled = pooling.apply(log_probabilities, judged.people)
    report = person_report(log_probabilities, pooled, judged.cohort, judged.people, bootstrap, has_sum=False)
    return {"pool": pool, "pooling": pooling.to_json(), **report}

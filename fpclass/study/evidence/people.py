"""Whose images a study's predictions are of, the pooling of its ensemble over them, and what it is worth, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.report.text_tables import markdown_table
from fpclass.stats.cohort import Cohort, group_codes
from fpclass.stats.evidence.person import cohort_of_people, cross_fitted_pooling, why_no_people
from fpclass.stats.evidence.pooling import SUBMISSION, Codes, Pooling, method_of, with_thresholds
from fpclass.stats.intervals import Interval
from fpclass.stats.metrics import Logits
from fpclass.stats.probabilities.calibration import cross_fitted_calibration
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study

PERSON_TITLE = "The person as the unit"
PERSON_METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "roc_auc": "ROC AUC", "log_loss": "log-loss"}


@dataclasses.dataclass(frozen=True)
class PooledEnsemble:
    """The ensemble's calibrated, cross-fitted predictions, image by image and by person.

    Attributes:
      cohort: with the folds, or parts, that fitting is crossed by.
      people: the person of each image [N].
      log_probabilities: of images [N, K].
      pooled: those of the image's person [N, K]; None where people cannot be judged.
      pooling: for new people; method "none" unless `predict.pool` asks for another.
      shown: the method that `pooled` was made by: `predict.pool`, or what would be the best advice.
      why_not: why people cannot be judged, "" where they can.
    """

    cohort: Cohort
    people: Codes
    log_probabilities: Logits
    pooled: Logits | None
    pooling: Pooling
    shown: Pooling
    why_not: str


def pool_ensemble(study: Study, predictions: OutOfFold, log_probabilities: Logits, settings: Config) -> PooledEnsemble:
    """Calibrates the ensemble's log-probabilities [N, K] and pools them by person, each fold by the others.

    Raises:
      ConfigError: `predict.pool` asks for people whom the data do not have.
    """
    cohort, wanted = predictions.cross_fitted, settings.predict.pool
    calibrated, _, _ = cross_fitted_calibration(log_probabilities, cohort, settings.study.calibration)
    people = people_of(study, predictions.filenames)
    why_not = why_no_people(cohort, people)
    if why_not:
        if wanted not in ("none", SUBMISSION):
            raise ConfigError(f"predict.pool is {wanted!r}, but {why_not}; give --config.predict.pool=none")
        nothing = Pooling("none")
        return PooledEnsemble(cohort, people, calibrated, None, nothing, nothing, why_not)
    where = "out of fold" if study.num_folds else "on validation images"
    fitted_on = f"{cohort_of_people(cohort, people).num_groups} people, {where}"
    method = "calibrated" if wanted == "none" else method_of(wanted)
    pooled, shown = cross_fitted_pooling(calibrated, cohort, people, method, fitted_on)
    used = (
        Pooling("none")
        if wanted == "none"
        else with_thresholds(shown, calibrated, cohort.labels, people, settings.study.cost)
    )
    return PooledEnsemble(cohort, people, calibrated, pooled, used, shown, "")


def people_of(study: Study, filenames: Sequence[str]) -> Codes:
    """The person of each image [N] by the splits of the first member that is trained; who is nobody's is alone."""
    run = next(m.run for name in study.configs for m in study.members(name) if m.is_done)
    frame = run.read_csv("splits.csv", ("filename", "group")).set_index("filename")
    return group_codes(frame.loc[list(filenames), "group"].to_numpy(str))


def person_markdown(judged: Mapping[str, Any], pooling: Pooling, of: str, how: str) -> str:
    """What pooling a person's images is worth, as a section.

    Args:
      judged: of `person_report`, and the `pool` that predictions are made with.
      pooling: that was judged.
      of: whose predictions, for the head of the table.
      how: who fitted it, for whom.
    """
    titles = {
        "per_image": "each image by itself",
        "per_image_pooled": "each image, by its person's pooled answer",
        "per_person": "each person, pooled",
        "gain": "gain, each image",
        "gain_of_people": "gain, person less image",
    }
    rows = [[of, *PERSON_METRICS.values()]]
    for key, title in titles.items():
        sign = "+" if key.startswith("gain") else ""
        rows.append([title, *(format(Interval.of(judged[key][metric]), sign) for metric in PERSON_METRICS)])
    used = {
        "none": "submissions and predictions are of single images; --config.predict.pool=calibrated pools them",
        SUBMISSION: "submissions are pooled so where their people are known, and files are predicted one by one; "
        "--config.predict.pool=calibrated pools those too",
    }
    is_used = (
        f"`predict.pool` is {judged['pool']}: {used.get(judged['pool'], 'submissions and predictions are pooled so')}"
    )
    about = [
        f"- {judged['num_images']} images of {judged['num_people']} people; {pooling.words}; {how}.",
        f"- {is_used}.",
    ]
    if summed := judged.get("by_sum"):
        cells = {metric: str(Interval.of(summed[metric])) for metric in summed}
        rows.append(["each person, images as if independent", cells["accuracy"], "", "", cells["log_loss"]])
        about.append(
            "- Adding up log-odds as if a person's images were independent (last row) counts what they share several "
            "times: look at its log-loss before believing such a sum."
        )
    return "\n".join([*markdown_table(rows), "", *about])


def person_finding(judged: Mapping[str, Any]) -> str:
    """The same in a line; arguments as `person_markdown`."""
    scores = [Interval.of(judged[key]["accuracy"]) for key in ("per_image", "per_person", "gain_of_people")]
    return (
        f"the person as the unit: accuracy {scores[0]} per image, {scores[1]} per person "
        f"({judged['pooling']['method']} over {judged['images_per_person']:.1f} images each), {scores[2]:+} by pooling"
    )

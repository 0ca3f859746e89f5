"""Whose images a study's predictions are of, and the pooling of its ensemble over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.stats.calibration import cross_fitted_calibration
from fpclass.stats.cohort import Cohort, group_codes
from fpclass.stats.evidence.person import cohort_of_people, cross_fitted_pooling, why_no_people
from fpclass.stats.evidence.pooling import Codes, Pooling, with_thresholds
from fpclass.stats.metrics import Logits
from fpclass.study.out_of_fold import OutOfFold
from fpclass.study.study import Study


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
        if wanted != "none":
            raise ConfigError(f"predict.pool is {wanted!r}, but {why_not}; give --config.predict.pool=none")
        nothing = Pooling("none")
        return PooledEnsemble(cohort, people, calibrated, None, nothing, nothing, why_not)
    fitted_on = f"{cohort_of_people(cohort, people).num_groups} people, out of fold"
    method = "calibrated" if wanted == "none" else wanted
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

"""The chosen ensemble of a study: members averaged, configs weighted as ensemble.json says, calibrated, and decided.

It predicts the rows without a label (submission.csv) and new images, both by the same arithmetic.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from fpclass.common import files
from fpclass.common.console import program
from fpclass.data.splits import PREDICT
from fpclass.errors import ConfigError, DataError, RunError
from fpclass.run.best import BestModel
from fpclass.run.decisions.people import (
    pool_rows,
    pooling_for_files,
    pooling_for_rows,
    with_people_thresholds,
)
from fpclass.run.decisions.submission import nothing_to_predict, write_submission
from fpclass.run.predictions import Predictions
from fpclass.run.predictor import Predictor, describe_probabilities
from fpclass.run.prepare import prepare_again, read_described
from fpclass.stats.comparison.scores import SeedLogits
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.evidence.pooling import Pooling, method_of
from fpclass.stats.probabilities.ensembling import Average, LogProbabilities
from fpclass.stats.probabilities.fold_average import UNSHARPENED, Combination, Sharpening
from fpclass.study.out_of_fold import collect_test
from fpclass.study.study import Study, StudyMember


@dataclasses.dataclass(frozen=True)
class ChosenEnsemble:
    """What ensemble.json holds: all that predictions need beside the members.

    Attributes:
      weights: of the configs, above 0 and summing to 1.
      average: how members and configs are averaged.
      rule: calibration of each fold's average, and thresholds.
      pooling: over the images of a person; None in folders of earlier versions.
      sharpening: of the average over folds.
      promises: abstention and sets; None of a study from before there were any.
      classes: as the source codes them.
      class_names: how figures call them.
      is_synthetic: whether the members were trained on drawn images.
    """

    weights: dict[str, float]
    average: Average
    rule: DecisionRule
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    is_synthetic: bool
    pooling: Pooling | None = None
    sharpening: Sharpening = UNSHARPENED
    promises: Promises | None = None

    @classmethod
    def read(cls, study: Study) -> ChosenEnsemble:
        """The ensemble of a finished study.

        Raises:
          RunError: the study is not finished, or ensemble.json is damaged.
        """
        path = study.path("ensemble.json")
        values = files.read_object(path, weights=dict, average=str, thresholds=dict, is_synthetic=bool)
        described = read_described(path)
        classes, class_names = tuple(described["classes"]), tuple(described["class_names"])
        weights, average = values["weights"], values["average"]
        is_fine = all(isinstance(weight, int | float) and 0 < weight <= 1.000001 for weight in weights.values())
        if not (is_fine and abs(sum(weights.values()) - 1) < 1e-6 and average in ("probabilities", "logits")):
            raise RunError(f"{path}: weights {weights} and average {average!r} make no ensemble; run the study again")
        for name in weights.keys() - study.configs.keys():
            raise RunError(f"{path}: weighs {name!r}, which study.json does not have; run the study again")
        fitted_on = "out-of-fold predictions" if study.num_folds else "validation images"
        rule = DecisionRule.from_json({"fitted_on": fitted_on, **values}, str(path))
        if len(rule.calibration.scale) != len(classes):
            raise RunError(f"{path}: its calibration is of {len(rule.calibration.scale)} classes; run the study again")
        pooling = Pooling.from_json(values["pooling"], str(path)) if "pooling" in values else None
        try:
            sharpening = Sharpening.from_json(values.get("sharpening"))
            promised = values.get("promises")
            promises = None if promised is None else Promises.from_json(promised, len(classes))
        except DataError as error:
            raise RunError(f"{path}: {error}") from error
        known = (weights, average, rule, classes, class_names, values["is_synthetic"])
        return cls(*known, pooling, sharpening, promises)

    @property
    def words(self) -> str:
        """What it is made of."""
        return ", ".join(f"{weight:.2f} {name}" for name, weight in self.weights.items())

    def pooling_of(self, study: Study) -> Pooling:
        """The pooling that `predict.pool` asks for.

        Raises:
          ConfigError: it was not fitted.
        """
        method = method_of(study.configs[study.baseline].predict.pool)
        fitted = self.pooling or Pooling("none")
        if method == "none" or fitted.method == method or (fitted.method == "mean" and fitted.why_not):
            return Pooling("none") if method == "none" else fitted
        raise ConfigError(
            f"predict.pool is {method!r}, and {study.path('ensemble.json')} has none such; run `{program()} evaluate "
            f"--workdir={study.folder} --config.predict.pool={method}` first"
        )

    def combine(self, logits: Mapping[str, SeedLogits], num_folds: int) -> LogProbabilities:
        """Log-probabilities [N, K] of images that no fold holds, weighted and calibrated."""
        return self.combination(num_folds)(logits)

    def combination(self, num_folds: int) -> Combination:
        """How members' logits become calibrated log-probabilities; `num_folds` is 1 where there are none."""
        return Combination(self.weights, self.average, self.rule.calibration, num_folds, self.sharpening)

    def promised(self, log_probabilities: LogProbabilities) -> dict[str, list[str]]:
        """Columns `abstain` and `set` of a table of predictions; none where nothing was fitted."""
        return self.promises.columns(log_probabilities, self.classes) if self.promises else {}

    @property
    def about_probabilities(self) -> str:
        """How they are calibrated and what is promised of them."""
        words = (self.rule.words, self.sharpening.words, self.promises.words if self.promises else "")
        return "; ".join(filter(None, words))


def submit_ensemble(study: Study) -> pathlib.Path:
    """Writes submission.csv, whose path it returns, and ensemble_predictions.csv of a finished study.

    Raises:
      RunError: the study is not finished.
      DataError: nothing to predict; the data have changed; or as `make_submission`.
      ConfigError: a threshold that was not fitted.
    """
    ensemble = ChosenEnsemble.read(study)
    config = study.configs[study.baseline]
    prepared = prepare_again(study.members(next(iter(ensemble.weights)))[0].run)
    table, splits = prepared.table, prepared.splits
    rows = splits.rows(PREDICT)
    if not len(rows):
        raise nothing_to_predict(table)
    filenames, logits = collect_test(study, ensemble.weights)
    if filenames != table.rows["filename"].iloc[rows].tolist():
        raise DataError(f"{study.folder}: its members predicted other rows than there are; run the study again")
    combined = ensemble.combine(logits, study.num_splits)
    pooling = pooling_for_rows(config, table, lambda: ensemble.pooling_of(study))
    predictions = pool_rows(Predictions.make(table, splits, rows, combined, "ensemble"), pooling, table.source)
    promised = ensemble.promised(combined) if pooling.method == "none" else {}
    files.write_csv(
        study.path("ensemble_predictions.csv"), predictions.frame.assign(**predictions.probability_columns, **promised)
    )
    rule = with_people_thresholds(ensemble.rule, pooling)
    decided = rule.decide(predictions.logits, config.submit.threshold_for, config.study.cost)
    return write_submission(study.folder, config, table, predictions.with_logits(np.eye(table.num_classes)[decided]))


def predictor_of_study(study: Study) -> Predictor:
    """All members of the chosen ensemble of a study, for new images.

    Raises:
      RunError: the study is not finished, or a member's checkpoint is missing.
      ConfigError: `predict.pool` asks for what was not fitted.
    """
    ensemble = ChosenEnsemble.read(study)
    config, num_classes = study.configs[study.baseline], len(ensemble.classes)
    pooling = pooling_for_files(config, lambda: ensemble.pooling_of(study))
    members = {name: [best for _, best in best_models(study, name, num_classes)] for name in ensemble.weights}
    words = f"probabilities: {ensemble.about_probabilities}"
    if pooling.method != "none":
        words = describe_probabilities(ensemble.rule, pooling)
    return Predictor(
        members=members,
        combine=ensemble.combination(study.num_splits),
        config=config,
        classes=ensemble.classes,
        class_names=ensemble.class_names,
        rule=ensemble.rule,
        pooling=pooling,
        words=f"ensemble of {sum(map(len, members.values()))} members ({ensemble.words}); {words}",
        promises=ensemble.promises,
    )


def best_models(study: Study, name: str, num_classes: int) -> Iterator[tuple[StudyMember, BestModel]]:
    """The members of a config, each with its best weights; what is compiled serves all of them.

    Raises:
      RunError: a member's checkpoint is gone.
    """
    shared: BestModel | None = None
    for member in study.members(name):
        if not member.run.path("checkpoints/best").is_dir():
            raise RunError(
                f"{member.run.folder}: its checkpoint is gone, and new images need those of all members of {name}: put "
                f"it back, or remove this folder and run `{program()} study --resume`"
            )
        shared = shared.of_member(member.run) if shared else BestModel(member.run, num_classes)
        yield member, shared

"""A run or a study as it stands, frozen: its members' predictions of any images, and everything fitted to them before.

A run is taken for an ensemble of one member.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fpclass.common import files
from fpclass.config import Config
from fpclass.data.decode import Images
from fpclass.data.splits import VALIDATION
from fpclass.run.best import BestModel
from fpclass.run.decisions.rule import read_rule
from fpclass.run.folder import Run
from fpclass.run.predictor import KEPT_BYTES
from fpclass.run.prepare import audit_data, read_model
from fpclass.stats.evidence.pooling import Pooling
from fpclass.stats.probabilities.ensembling import Average
from fpclass.study.study import Study
from fpclass.study.trained.ensemble import ChosenEnsemble, best_models
from fpclass.train.trained import Siblings


@dataclasses.dataclass(frozen=True)
class Frozen:
    """What a folder predicts new images by.

    Attributes:
      folder: of the run or study.
      settings: config that the results are judged by, a study's baseline.
      configs: those that predict, by name.
      classes: as the source codes them.
      class_names: how figures call them.
      is_synthetic: whether the members were trained on drawn images.
      num_splits: folds of the members, or 1.
      ensemble: weights, average, calibration, thresholds, sharpening and promises, as ensemble.json has them; a run has
        none of the last two.
      pooling: over a person's images, as it was judged before; "none" where none was fitted.
      internal: scores on the images that it was judged on before, of `evaluate_predictions`; {} where there are none.
      internal_are: those images, in words.
    """

    folder: pathlib.Path
    settings: Config
    configs: dict[str, Config]
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    is_synthetic: bool
    num_splits: int
    ensemble: dict[str, Any]
    pooling: Pooling
    internal: Mapping[str, Any]
    internal_are: str
    source: Study | Run

    @classmethod
    def of_study(cls, study: Study) -> Frozen:
        """The chosen ensemble of a finished study.

        Raises:
          RunError: the study is not finished, or a file of its conclusion is damaged.
        """
        chosen = ChosenEnsemble.read(study)
        results = files.read_object(study.path("results.json"), ensemble=dict)
        average: Average = chosen.average
        shown = (results.get("person") or {}).get("pooling")
        return cls(
            folder=study.folder,
            settings=study.configs[study.baseline],
            configs={name: study.configs[name] for name in chosen.weights},
            classes=chosen.classes,
            class_names=chosen.class_names,
            is_synthetic=chosen.is_synthetic,
            num_splits=study.num_splits,
            ensemble={
                "weights": chosen.weights,
                "average": average,
                **chosen.rule.to_json(),
                "sharpening": chosen.sharpening.to_json(),
                "promises": chosen.promises.to_json() if chosen.promises else None,
            },
            pooling=Pooling.from_json(shown, str(study.path("results.json"))) if shown else Pooling("none"),
            internal=results["ensemble"].get("scores") or {},
            internal_are="out of fold" if study.num_folds else "validation images",
            source=study,
        )

    @classmethod
    def of_run(cls, run: Run) -> Frozen:
        """The best weights of a run.

        Raises:
          RunError: it has no checkpoint, or its files are damaged.
        """
        described = read_model(run)
        classes = tuple(described["classes"])
        rule = read_rule(BestModel(run, len(classes)), len(classes))
        path = run.path("metrics.json")
        internal = files.read_object(path).get(VALIDATION) or {} if path.is_file() else {}
        shown = (internal.get("person") or {}).get("pooling")
        return cls(
            folder=run.folder,
            settings=run.config,
            configs={run.config.name: run.config},
            classes=classes,
            class_names=tuple(described["class_names"]),
            is_synthetic=described["is_synthetic"],
            num_splits=1,
            ensemble={"weights": {run.config.name: 1.0}, "average": "probabilities", **rule.to_json()},
            pooling=Pooling.from_json(shown, str(path)) if shown else Pooling("none"),
            internal=internal,
            internal_are="validation images",
            source=run,
        )

    @property
    def table(self) -> Run:
        """Where table.csv of the images is that it was made with."""
        return Run(self.folder, self.settings)

    def predict(self, name: str, images: Images, rows: np.ndarray) -> np.ndarray:
        """Logits [M, n, K] of a config's M members, float64, of some rows of images that it has decoded.

        Raises:
          RunError: a member's checkpoint is gone.
        """
        if isinstance(self.source, Run):
            return BestModel(self.source, len(self.classes)).predict(images, rows)[None].astype(np.float64)
        members = [best for _, best in best_models(self.source, name, len(self.classes))]
        return Siblings(members, KEPT_BYTES).predict(images, rows).astype(np.float64)

    def known(self) -> Any:
        """The labelled images that it was made with: filename, sha256, pixel_sha256, group, …

        A member of a study that was taken out of it has no table.csv: then its data are listed and decoded again.

        Raises:
          RunError: table.csv is damaged.
          DataError: there is none, and the data are gone.
        """
        if self.table.path("table.csv").is_file():
            columns = ("filename", "sha256", "pixel_sha256", "group", "quarantine")
            rows = self.table.read_csv("table.csv", columns, ("label",))
        else:
            rows = audit_data(self.settings)[0].table.rows
        return rows[(rows["label"].astype(float) >= 0) & (rows["quarantine"].fillna("") == "")]

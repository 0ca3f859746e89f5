"""A run or a study with the labelled images that it never saw, to be predicted once more as altered copies.

Of a run these are its validation images. Of a study all, each by the members that were not trained on its person, put
together as the ensemble is (or those of one config).
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Int

from fpclass.common.threads import in_threads
from fpclass.config import Config
from fpclass.data.altered.prints import Pixels
from fpclass.data.decode import Images
from fpclass.data.resize import Decoding
from fpclass.data.splits import VALIDATION, draw_some
from fpclass.errors import DataError, RunError
from fpclass.run.best import BestModel
from fpclass.run.decisions.rule import read_rule
from fpclass.run.folder import Run
from fpclass.run.predictor import KEPT_BYTES, WINDOW_BYTES, fetch
from fpclass.run.prepare import prepare_again
from fpclass.run.refit import NOTE
from fpclass.stats.cohort import Cohort
from fpclass.stats.probabilities.calibration import Calibration
from fpclass.stats.probabilities.ensembling import Average, LogProbabilities, average_members, weighted_average
from fpclass.study.out_of_fold import collect
from fpclass.study.study import Study
from fpclass.study.trained.ensemble import ChosenEnsemble, best_models
from fpclass.train.trained import Siblings

MIN_IMAGES = 5
"""Fewer say nothing."""
Alter = Callable[[Pixels, str], Pixels]
"""Makes a copy of an image [h, w, c], uint8, that has this file name."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A network that is asked about images that it never saw.

    Attributes:
      config: its name.
      seed: which of the config's seeds, counted from 0.
      best: its weights.
      at: positions of its images among those of `Unseen` [n].
    """

    config: str
    seed: int
    best: BestModel
    at: Int[np.ndarray, " n"]

    @property
    def decoding(self) -> Decoding:
        """How its images are decoded."""
        return Decoding.of(self.best.run.config.data)


@dataclasses.dataclass(frozen=True)
class Unseen:
    """What is trained, and N labelled images that it never saw.

    Attributes:
      folder: of the run or study.
      settings: config that it is judged by, a study's baseline.
      filenames: [N].
      cohort: their classes, people and folds.
      is_synthetic: whether they are drawn.
      images: all decoded images by decoding, and the rows of the N in them.
      weights: of the configs.
      average: how members and configs are averaged.
      calibration: of the average.
    """

    folder: pathlib.Path
    settings: Config
    filenames: list[str]
    cohort: Cohort
    is_synthetic: bool
    members: list[Member]
    images: Mapping[Decoding, tuple[Images, Int[np.ndarray, " n"]]]
    weights: Mapping[str, float]
    average: Average
    calibration: Calibration

    @classmethod
    def of_run(cls, run: Run) -> Unseen:
        """The best weights of a run and its validation images.

        Raises:
          RunError: it has no checkpoint, learnt from all labelled images, or the data have changed.
          DataError: fewer than `MIN_IMAGES` validation images.
        """
        if run.path(NOTE).is_file():
            raise RunError(
                f"{run.folder}: learnt from all labelled images, so that none are left to judge it on; give the folder "
                "above, whose members did not"
            )
        prepared = prepare_again(run)
        table, rows = prepared.table, prepared.splits.rows(VALIDATION)
        _check_number(len(rows), str(run.folder))
        units = prepared.splits.frame["unit"].to_numpy(str)[rows]
        best, name = BestModel(run, table.num_classes), run.config.name
        return cls(
            folder=run.folder,
            settings=run.config,
            filenames=table.rows["filename"].iloc[rows].tolist(),
            cohort=Cohort(table.labels[rows], units, class_names=table.class_names),
            is_synthetic=table.is_synthetic,
            members=[Member(name, 0, best, np.arange(len(rows)))],
            images={Decoding.of(run.config.data): (prepared.images, rows)},
            weights={name: 1.0},
            average="probabilities",
            calibration=read_rule(best, table.num_classes).calibration,
        )

    @classmethod
    def of_study(cls, study: Study) -> Unseen:
        """The chosen ensemble of a study, and all images that it was judged on.

        Raises:
          RunError: the study is not finished, a member's checkpoint is gone, or the data have changed.
          DataError: fewer than `MIN_IMAGES` images.
        """
        ensemble = ChosenEnsemble.read(study)
        predictions = collect(study, ensemble.weights, ensemble.class_names)
        filenames, cohort = predictions.filenames, predictions.cohort
        _check_number(len(filenames), str(study.folder))
        members: list[Member] = []
        images: dict[Decoding, tuple[Images, np.ndarray]] = {}
        for name in ensemble.weights:
            first_seed = study.configs[name].seed
            for member, best in best_models(study, name, len(ensemble.classes)):
                at = np.flatnonzero(cohort.folds == member.fold)
                members.append(Member(name, member.seed - first_seed, best, at))
            decoding = members[-1].decoding
            if decoding not in images:
                prepared = prepare_again(study.members(name)[0].run)
                images[decoding] = prepared.images, prepared.table.rows_of(filenames)
        return cls(
            folder=study.folder,
            settings=study.configs[study.baseline],
            filenames=filenames,
            cohort=cohort,
            is_synthetic=ensemble.is_synthetic,
            members=members,
            images=images,
            weights=ensemble.weights,
            average=ensemble.average,
            calibration=ensemble.rule.calibration,
        )

    def __len__(self) -> int:
        return len(self.filenames)

    def some(self, number: int) -> Unseen:
        """At most so many of the images, drawn at random, the same ones every time."""
        if number >= len(self):
            return self
        at = draw_some(np.arange(len(self)), number)
        place = np.full(len(self), -1)
        place[at] = np.arange(number)
        members = [dataclasses.replace(m, at=place[m.at][place[m.at] >= 0]) for m in self.members]
        return dataclasses.replace(
            self,
            filenames=[self.filenames[i] for i in at],
            cohort=self.cohort.take(at),
            members=members,
            images={decoding: (images, rows[at]) for decoding, (images, rows) in self.images.items()},
        )

    @property
    def first_images(self) -> tuple[Images, Int[np.ndarray, " n"]]:
        """All decoded images of the first config, and the rows of the N in them."""
        return next(iter(self.images.values()))

    def decoded(self, at: Int[np.ndarray, " n"]) -> Pixels:
        """Some of the images, as the first config has them decoded, uint8 [n, h, w, c]."""
        images, rows = self.first_images
        return np.asarray(images[rows[at]])

    def predict(self, alter: Alter | None = None) -> LogProbabilities:
        """Calibrated log-probabilities [N, K] of the images, or of copies of them.

        Raises:
          RunError: a checkpoint is damaged.
        """
        num_seeds, kept_bytes = 1 + max(member.seed for member in self.members), KEPT_BYTES / len(self.members)
        shape = num_seeds, len(self), len(self.calibration.scale)
        logits = {name: np.zeros(shape) for name in self.weights}
        for decoding in self.images:
            members = [member for member in self.members if member.decoding == decoding]
            for at, copies in self._copies(decoding, alter):
                for member in members:
                    own = np.flatnonzero(np.isin(at, member.at))
                    if len(own):
                        of_member = np.zeros((1, len(own), shape[-1]), np.float32)
                        for _, batches in Siblings([member.best], kept_bytes).launch(copies[own]):
                            fetch(of_member, batches)
                        logits[member.config][member.seed, at[own]] = of_member[0]
        averaged = {name: average_members(of_config, self.average) for name, of_config in logits.items()}
        return self.calibration.apply(weighted_average(averaged, self.weights, self.average))

    def _copies(self, decoding: Decoding, alter: Alter | None) -> Iterator[tuple[np.ndarray, Pixels]]:
        """Positions of some of the images and their copies, until all have had their turn."""
        images, rows = self.images[decoding]
        step = max(1, WINDOW_BYTES // int(np.prod(decoding.shape)))
        for start in range(0, len(self), step):
            at = np.arange(start, min(start + step, len(self)))
            copies = np.array(images[rows[at]])
            if alter:

                def alter_one(i: int, copies: Pixels = copies, at: np.ndarray = at) -> None:
                    copies[i] = alter(copies[i], self.filenames[at[i]])

                for _ in in_threads(alter_one, len(at)):
                    pass
            yield at, copies


def _check_number(number: int, where: str) -> None:
    if number < MIN_IMAGES:
        raise DataError(
            f"{where}: has {number} labelled images that it was not trained on, and it takes {MIN_IMAGES} to say "
            "anything; give a study with folds, or a larger split.validation_fraction"
        )

"""Training of teachers and students: the data of each config, and what a person sees meanwhile."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from fpclass.common.console import SILENT_SECONDS, Interruption, duration, say
from fpclass.common.threads import Background
from fpclass.run.folder import Run
from fpclass.run.log import Clock
from fpclass.run.prepare import Prepared, check_same_data
from fpclass.run.train import Trainee
from fpclass.study.run import StudyData
from fpclass.study.study import Study
from fpclass.study.training import train_members


class Training:
    """Trains members beside those of a study, on its data."""

    def __init__(self, study: Study, interruption: Interruption):
        self._study, self._data, self._interruption = study, StudyData(study), interruption

    def prepared(self, name: str) -> Prepared:
        """The data as a config takes them.

        Raises:
          RunError: they have changed since the study.
        """
        prepared = self._data.of(name)
        check_same_data(Run(self._study.folder, self._study.configs[self._study.baseline]), prepared)
        return prepared

    def train(self, trainees: Sequence[Trainee], folder: pathlib.Path, what: str) -> bool:
        """Trains those of one config that are not trained yet, with a line now and then; False if interrupted.

        Args:
          folder: theirs, whose name is the config's.
          what: they are, for the lines.
        """
        if not trainees:
            say(f"{what}: were there")
            return True
        began, silence, score = Clock(), Clock(), ""

        def num_done() -> int:
            return sum(trainee.run.path("predictions.csv").is_file() for trainee in trainees)

        def on_epoch(_: int, lines: Sequence[dict[str, Any]]) -> None:
            nonlocal score
            if lines:
                score = f"; epoch {lines[0]['epoch']}"
            if silence.seconds() > SILENT_SECONDS:
                silence.restart()
                say(f"{what}: {num_done()} of {len(trainees)} in {duration(began.seconds())}{score}")

        config = trainees[0].run.config
        with Background() as background:
            is_finished = train_members(trainees, config, folder, self._interruption, on_epoch, background)
        if is_finished:
            say(f"{what}: {len(trainees)} in {duration(began.seconds())}")
        return is_finished

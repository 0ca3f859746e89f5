"""Whatever predicts new images: the folder of a run, of a study or of a bundle."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from fpclass.deploy.bundle import Bundle, is_bundle
from fpclass.run.folder import Run
from fpclass.run.predictor import Predictor, predictor_of_run
from fpclass.study.study import Study
from fpclass.study.trained.ensemble import predictor_of_study

Source = Run | Study | Bundle


def open_source(folder: pathlib.Path, overrides: Sequence[str] = ()) -> Source:
    """Opens what is in a folder; overrides are of keys that may change after training, or in a bundle.

    Raises:
      RunError: it is none of the three, or damaged.
      ConfigError: an override that would need another training.
    """
    if is_bundle(folder):
        return Bundle.open(folder, overrides)
    if (folder / "study.json").is_file():
        return Study.open(folder).changed(overrides)
    return Run.open(folder, overrides)


def predictor_of(source: Source) -> Predictor:
    """What predicts new images by a run, a study or a bundle.

    Raises:
      RunError: a study is not finished, a checkpoint or a part of a bundle is missing or damaged.
      ConfigError: `predict.pool` asks for what was not fitted.
    """
    if isinstance(source, Bundle):
        return source.predictor()
    return predictor_of_study(source) if isinstance(source, Study) else predictor_of_run(source)

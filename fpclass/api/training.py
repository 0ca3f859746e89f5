"""Training from Python: the commands `train`, `study` and `best`, whose functions these are."""

from __future__ import annotations

import pathlib
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from fpclass.api.keys import as_overrides, short_of
from fpclass.api.trained import TrainedRun, TrainedStudy
from fpclass.common.compilation import prepare_libraries
from fpclass.common.console import silence
from fpclass.common.files import expanded
from fpclass.errors import ConfigError, RunError
from fpclass.experiment import load_config
from fpclass.experiment.propose import announce, propose, propose_study
from fpclass.run.commands import STAGES, train_run
from fpclass.run.folder import Run
from fpclass.search.commands import MINUTES, find_best
from fpclass.study.commands import run_study
from fpclass.study.plan import default_folder, plan_study
from fpclass.study.study import Study

Keys = Mapping[str, Any]
"""Keys of a config: {"optim": {"learning_rate": 1e-3}} or {"optim.learning_rate": 1e-3}."""


def train(
    root: str | pathlib.Path,
    *,
    model: str | None = None,
    label: str | None = None,
    group: str | None = None,
    size: int | tuple[int, int] | None = None,
    minutes: float | None = None,
    workdir: str | pathlib.Path | None = None,
    config: str | pathlib.Path | Keys | None = None,
    strict: bool = False,
    until: str | None = None,
    quiet: bool = False,
    **keys: Any,
) -> TrainedRun:
    """Trains a classifier on a folder of images, judges it, and gives it back: the command `train`.

    The same call goes on after an interruption, and trains nothing twice: see the folder, `run.folder`.

    Args:
      root: folder of the data set, with a CSV in it or a folder per class, or an archive of one.
      model: a network, or published weights of one: what `fpclass weights list` names; None: what suits the images.
      label: column of the classes in a CSV; None: it is found, or the error names what it could be.
      group: column of who or what must not be split: the person, the animal, the site; likewise; "none" for nobody.
      size: height and width that images are resized to, or one for both, pixels; None: what suits the network.
      minutes: a training ends after so many, with its best weights until then; None: no limit.
      workdir: where everything is written to; None: runs/NAME, the name being that of the root.
      config: file of an experiment; or keys of a config.
      strict: whether an image that has to be left out is an error.
      until: end after this stage: ingest, prepare, train, evaluate; without it the same call goes on from there.
      quiet: whether nothing is printed.
      keys: of a config, as `**{"optim.learning_rate": 1e-3}`.

    Raises:
      FpclassError: what can be mended, in one line that says how.
      KeyboardInterrupt: Ctrl-C; what was trained is kept.
    """
    if until not in (None, *STAGES):
        raise ConfigError(f"until={until!r}: expected one of {', '.join(STAGES)}")
    file, given = _read_config(config, keys)
    with silence(quiet):
        prepare_libraries()
        proposal = propose(file, given, short_of(root, model, label, group, size, minutes))
        announce("train", proposal)
        loaded = load_config(proposal.file, proposal.overrides)
        folder = _folder(workdir) or pathlib.Path("runs", loaded.name)
        _go_on_after(train_run(loaded, folder, strict=strict, until=until))
        return TrainedRun(Run.open(folder))


def study(
    configs: str | pathlib.Path | Sequence[str | pathlib.Path],
    root: str | pathlib.Path,
    *,
    folds: int | None = None,
    seeds: int = 1,
    baseline: str | None = None,
    compare_splits: bool = False,
    label: str | None = None,
    group: str | None = None,
    size: int | tuple[int, int] | None = None,
    workdir: str | pathlib.Path | None = None,
    config: Keys | None = None,
    strict: bool = False,
    quiet: bool = False,
    **keys: Any,
) -> TrainedStudy:
    """Trains experiments on every fold with every seed, and says which differences are real: the command `study`.

    Args:
      configs: files of experiments, or patterns of them such as "configs/footprints/exp*.py"; none, `[]`: the ways to
        a model that suit the images.
      folds: parts of the people; 0: one split; None: the split that the data set brings, or else 5 folds.
      seeds: trainings per fold.
      baseline: name of the experiment that the others are compared with; None: the one named baseline, or the first.
      compare_splits: train on image-random folds too, and show what the leak inflates.
      workdir: None: runs/study-NAME.
      config: keys for all experiments alike.

    All else is as in `train`.

    Raises:
      FpclassError: as `train`; and where an experiment could not be trained, after all others were.
      KeyboardInterrupt: Ctrl-C; what was trained is kept.
    """
    from fpclass.common import parallel

    patterns = [configs] if isinstance(configs, str | pathlib.Path) else list(configs)
    _, given = _read_config(config, keys)
    folder = _folder(workdir) or default_folder(str(root))
    with silence(quiet):
        prepare_libraries()
        parallel.use_all_cores()
        files, proposal = propose_study(list(map(str, patterns)), given, short_of(root, None, label, group, size))
        announce("study", proposal, files)
        plan = plan_study(
            folder,
            files,
            proposal.overrides,
            num_folds=folds,
            num_seeds=seeds,
            baseline=baseline,
            compare_splits=compare_splits,
        )
        code = run_study(plan, strict=strict)
        if code == 1:
            raise RunError(f"{folder}: an experiment could not be trained; its row of study.md says why")
        _go_on_after(code)
        return TrainedStudy(Study.open(folder))


def best(
    root: str | pathlib.Path,
    *,
    minutes: float = MINUTES,
    model: str | None = None,
    label: str | None = None,
    group: str | None = None,
    size: int | tuple[int, int] | None = None,
    folds: int | None = None,
    workdir: str | pathlib.Path | None = None,
    config: Keys | None = None,
    strict: bool = False,
    quiet: bool = False,
    **keys: Any,
) -> TrainedStudy:
    """The best model for labelled images within so many minutes: the command `best`.

    Args:
      minutes: for all of it, about.
      model: this network, or these weights, alone; None: all ways that suit the images.
      folds: parts of the people; None: as `study`, fewer of few people, 3 of 10,000 images and more.
      workdir: None: runs/best-NAME.
      config: keys for all ways alike.

    All else is as in `train`.

    Raises:
      FpclassError: as `train`; or the minutes were over before anything was trained.
      KeyboardInterrupt: Ctrl-C before anything was trained; later it ends the search with what there is.
    """
    from fpclass.common import parallel

    _, given = _read_config(config, keys)
    with silence(quiet):
        prepare_libraries()
        parallel.use_all_cores()
        short = short_of(root, model, label, group, size)
        folder, code = find_best(given, short, minutes, folds, _folder(workdir), strict=strict)
        if code == 1:
            raise RunError(f"{folder}: nothing is trained whole in {minutes:g} minutes; what was said has the reasons")
        _go_on_after(code)
        return TrainedStudy(Study.open(folder))


def _read_config(config: str | pathlib.Path | Keys | None, keys: Keys) -> tuple[str | None, list[str]]:
    """The file of an experiment if one is given, and the keys beside it, as arguments of the command line."""
    if isinstance(config, Mapping):
        return None, as_overrides({**config}) + as_overrides(keys)
    return (None if config is None else str(config)), as_overrides(keys)


def _folder(workdir: str | pathlib.Path | None) -> pathlib.Path | None:
    return None if workdir is None else expanded(str(workdir))


def _go_on_after(exit_code: int) -> None:
    """Hands a signal that a training was stopped by on to whoever called it: Ctrl-C becomes `KeyboardInterrupt`."""
    if exit_code > 128:
        signal.raise_signal(exit_code - 128)

"""A search from its folder to what it leaves: proposals until the time is over, then the comparison on other folds.

The folder: tune.json (what is searched), search/ (journal and members), tuned.py, trials.csv, tune.md, and study/ (the
comparison, a study folder like any other).
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from typing import Any

from fpclass import experiment
from fpclass.common import files
from fpclass.common.console import interruptible, program, progress, say
from fpclass.config import Config, differences, folder_format, read_format
from fpclass.data.sources import load_table
from fpclass.data.splits import VALIDATION
from fpclass.errors import ConfigError, RunError
from fpclass.run.folder import lock_folder, make_folder
from fpclass.stats.comparison.selection import Selection
from fpclass.study.commands import run_study
from fpclass.study.plan import assemble, default_folds
from fpclass.study.run import trained_configs
from fpclass.study.study import Study, has_begun
from fpclass.tune.compare import BASELINE, RULES, choice_of, plan_comparison, result_of
from fpclass.tune.report import PAGE, TRIALS, TUNED, config_text, lines_about, trial_frame, write_page
from fpclass.tune.search import BASE, Limits, Search
from fpclass.tune.space import Space, with_values

FILE = "tune.json"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is searched.

    Attributes:
      base: the config around which is searched.
      num_folds: at least 2.
      origin: where config and space come from, for the head of tuned.py.
    """

    folder: pathlib.Path
    base: Config
    space: Space
    num_folds: int
    origin: str

    def to_json(self) -> dict[str, Any]:
        """What tune.json holds."""
        space = {key: repr(entry) for key, entry in self.space.items()}
        return folder_format() | {"folds": self.num_folds, "space": space, "config": self.base.to_dict()}

    @property
    def study(self) -> Study:
        """The study of the search, whose configs are the trials.

        Raises:
          ConfigError: a config that a study does not take.
        """
        return assemble(
            self.folder / "search", {BASE: self.base}, num_folds=self.num_folds, num_seeds=1, baseline=BASE,
            compare_splits=False,
        )  # fmt: skip

    @property
    def is_begun(self) -> bool:
        """Whether the folder has anything of a training: predictions, or the checkpoint of an unfinished one."""
        return has_begun(self.folder)

    def changed(self) -> list[str]:
        """Keys of the config, and names of flags, that are others than those that the folder was begun with.

        Raises:
          RunError: tune.json cannot be read.
          ConfigError: its config is none of this version.
        """
        path = self.folder / FILE
        there = files.read_object(path, config=dict, space=dict, folds=int)
        old = experiment.config_of_format(there["config"], str(path), *read_format(there, str(path)))
        changed = [*experiment.training_differences(old, self.base)]
        changed += [key for key in differences(old, self.base) if key.split(".")[0] in RULES]
        changed += ["the space"] * (there["space"] != self.to_json()["space"])
        return changed + ["--folds"] * (there["folds"] != self.num_folds)

    def make_room(self) -> None:
        """Removes what another search has left in the folder, in which nothing was trained.

        Its settings may be what stood in the way, and is corrected now.

        Raises:
          RunError: another search, of which something was trained; or as `changed`; or it cannot be removed.
          ConfigError: as `changed`.
        """
        differing, left = ", ".join(self.changed()[:3]), self.study.folder
        if differing and self.is_begun:
            raise RunError(f"{self.folder} belongs to another search ({differing} differs); choose another --workdir")
        if not differing or not left.exists():
            return
        try:
            shutil.rmtree(left)
        except OSError as error:
            why = error.strerror or error
            raise RunError(f"{left}: cannot be removed ({why}); choose another --workdir") from error
        say(f"removed: {left}, of another search ({differing} differs), which had not trained anything")


def plan_search(folder: pathlib.Path, base: Config, space: Space, num_folds: int | None, origin: str) -> Plan:
    """A search, planned.

    Args:
      num_folds: None: as many as a study has.

    Raises:
      ConfigError: the data set brings its own validation images.
      DataError: the images cannot be listed.
    """
    if num_folds is None:
        num_folds = default_folds(base)
    elif (load_table(base.data, progress).rows["split"] == VALIDATION).any():
        num_folds = 0
    if num_folds == 0:
        raise ConfigError(
            f"{base.data.root}: brings its own validation images, which a search must not choose by: give the folder "
            "of its training images alone, whose people are divided into folds, and judge tuned.py on the others"
        )
    return Plan(folder, base, space, num_folds, origin)


def run_search(plan: Plan, limits: Limits) -> int:
    """Searches until its limits, compares what was found, and writes all of it.

    Returns:
      Exit code: 0, 1 where nothing could be compared, or 128 + n where a signal stopped it.

    Raises:
      FpclassError: as `Search.run`.
    """
    was_there = make_folder(plan.folder, FILE, "tune")
    with lock_folder(plan.folder):
        if was_there:
            plan.make_room()
        files.write_json(plan.folder / FILE, plan.to_json())
        study = plan.study
        study.folder.mkdir(exist_ok=True)
        search = Search(study, plan.space)
        with interruptible() as interruption:
            is_over = search.run(limits, interruption)
        choice = choice_of(search)
        tuned = _write(plan, search, choice)
        if not is_over:
            say(f"stopped; {plan.folder} has what there is, and the same command goes on from there")
            return interruption.exit_code
        return _compare(plan, search, choice, tuned) if tuned else 1


def _compare(plan: Plan, search: Search, choice: Selection | None, tuned: Config) -> int:
    """Trains the found config and the one that was there on other folds, and says what came of it."""
    if {*experiment.training_differences(tuned, plan.base)} <= {"name"}:
        say("nothing was better on these folds than the config as it stands: there is nothing to compare")
        return 0
    study, name = plan_comparison(plan.folder / "study", plan.base, tuned, plan.num_folds)
    say(f"\n{name} beside the config as it was, on other folds and with other seeds:")
    exit_code = run_study(study)
    if exit_code > 1 or not {name, BASELINE} <= trained_configs(study):
        return exit_code
    _write(plan, search, choice, study, name)
    return 0


def _write(
    plan: Plan, search: Search, choice: Selection | None, study: Study | None = None, name: str = ""
) -> Config | None:
    """Writes trials.csv, tune.md and tuned.py, says what they amount to, and returns the config that was found.

    Args:
      study: the finished comparison, in which the config has a name.
    """
    files.write_csv(plan.folder / TRIALS, trial_frame(search))
    lines = lines_about(search, choice, result_of(study, name) if study else None)
    written = [TRIALS, PAGE]
    tuned = None
    if search.best:
        values = search.values_of(search.best)
        tuned, _ = with_values(plan.base, values | {"name": f"{plan.base.name}_tuned"})
        text = config_text(search, tuned, values, plan.origin, lines)
        files.write_text(plan.folder / TUNED, text)
        written.insert(0, TUNED)
    write_page(plan.folder, search, lines)
    if study or not tuned:
        say("\n".join(["", *lines]))
        say(f"written: {', '.join(str(plan.folder / file) for file in written)}")
    if study:
        say(f"`{program()} train --config={plan.folder / TUNED}` trains it")
    return tuned

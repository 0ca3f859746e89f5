"""Preparation of the data of a run: audited table, decoded images, roles."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fpclass import experiment
from fpclass.common import files
from fpclass.common.console import progress, stoppable_progress
from fpclass.common.files import cache_dir
from fpclass.common.parallel import num_processes
from fpclass.config import Config
from fpclass.data.audit import Audit, audit_table
from fpclass.data.decode import Images, decode_table
from fpclass.data.resize import Decoding
from fpclass.data.sources import load_table
from fpclass.data.splits import Splits, make_splits, rows_without_label
from fpclass.data.table import Table, class_names
from fpclass.errors import ConfigError, DataError, RunError
from fpclass.experiment import needs_selection
from fpclass.experiment.unlabelled import IMAGES
from fpclass.run.folder import STARTED_IN, Run
from fpclass.stats.cohort import Cohort, group_codes
from fpclass.stats.evidence.person import num_torn, why_no_people
from fpclass.stats.evidence.pooling import SUBMISSION
from fpclass.train.inputs.streaming import memory_for_images


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The data of a run: audited table with its quarantine, decoded images, role of every row.

    Attributes:
      images: all rows, also those in quarantine (zeros); on disk where they are more than `data.memory_gb`.
      features: what probes read of all rows, float32 [N, d], by what it was computed with: see `run.probe`.
    """

    audit: Audit
    images: Images
    splits: Splits
    features: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    _divided: dict[str, Prepared] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def divided(self, config: Config) -> Prepared:
        """The same data with the roles that another config gives them, made once.

        Raises:
          DataError: the people cannot be divided like that.
        """
        key = repr((config.split.to_dict(), needs_selection(config)))
        if key not in self._divided:
            splits = make_splits(self.table, config.split, needs_selection=needs_selection(config))
            self._divided[key] = dataclasses.replace(self, splits=splits)
        return self._divided[key]

    @property
    def table(self) -> Table:
        """The audited table."""
        return self.audit.table

    @property
    def note(self) -> str:
        """Disclaimer printed on every figure."""
        return note_of(self.table.is_synthetic)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of what training depends on: names, contents, labels and groups."""
        return _hash_of(self.table.rows)

    @property
    def sha256_without_copies(self) -> str:
        """The same of what is judged: two trainings of which one has augmented copies as well can be compared."""
        return _hash_of(self.table.rows[~self.table.copy_mask]) if self.table.copy_mask.any() else self.sha256


def _hash_of(rows: Any) -> str:
    columns = rows[["filename", "sha256", "raw_label", "group", "split"]]
    return hashlib.sha256(columns.to_csv(index=False).encode()).hexdigest()


def note_of(is_synthetic: bool) -> str:
    """Disclaimer printed on figures and reports about such data; "" for real images."""
    return "SYNTHETIC data: drawn, not real prints" if is_synthetic else ""


def audit_data(config: Config) -> tuple[Audit, Images]:
    """Lists, decodes and judges the data set.

    Raises:
      DataError: the data set is not where or what the config says.
    """
    table, images, facts = decode_data(config)
    return judge_data(config, table, facts), images


def judge_data(config: Config, table: Table, facts: pd.DataFrame) -> Audit:
    """Judges a data set that `decode_data` has decoded."""
    kept = cache_dir() / "near_copies"
    return audit_table(table, facts, near_duplicates=config.data.near_duplicates, cache_dir=kept)


def decode_data(config: Config) -> tuple[Table, Images, pd.DataFrame]:
    """Lists and decodes the data set; the facts as `audit_table` takes them.

    Raises:
      DataError: as `audit_data`.
      Interrupted: somebody asked to stop, within `interruptible`.
    """
    data = config.data
    table = load_table(data, progress, config.evaluate.subgroups)
    decoding = Decoding.of(data)
    # Where one of several processes stopped, the others would wait for it.
    shown = stoppable_progress if num_processes() == 1 else progress
    images, facts = decode_table(
        table,
        decoding,
        cache_dir=cache_dir() / "decoded",
        memory_bytes=memory_for_images(data.memory_gb),
        progress=shown,
    )
    # Of what is cropped the shape before it was stretched is not kept.
    is_stretched = decoding.resize == "stretch" and decoding.crop == "none"
    return dataclasses.replace(table, is_stretched=is_stretched), images, facts


def prepare(config: Config, audit_folder: pathlib.Path | None = None, *, strict: bool = False) -> Prepared:
    """The data of a run, fit to train on.

    Args:
      audit_folder: where to write the audit, which happens also if it ends in an error; None to write nothing.
      strict: whether an image in quarantine is an error.

    Raises:
      ConfigError: as `check_judgement` and `check_unlabelled`.
      DataError: as `audit_data` and `check_judgement`; what makes training senseless; and with `strict`, images in
        quarantine.
    """
    audit, images = audit_data(config)
    if audit_folder:
        write_audit(audit_folder, audit, images)
    audit.raise_if_fatal()
    check_judgement(config, audit.table)
    check_unlabelled(config, audit.table)
    if strict:
        audit.raise_if_strict()
    splits = make_splits(audit.table, config.split, needs_selection=needs_selection(config))
    return Prepared(audit, images, splits)


def check_judgement(config: Config, table: Table) -> None:
    """Refuses, before anything is trained, what would be refused when it is judged.

    Raises:
      ConfigError: no such positive class; a prevalence, and nothing says of which class; images to be pooled by person,
        and no person has several, or somebody has images of several classes.
      DataError: rows to predict have no person, and are to be pooled.
    """
    condition_of(config, table.classes, table.class_names)
    if config.predict.pool in ("none", SUBMISSION):
        return
    if why_not := why_not_by_person(table):
        raise ConfigError(f"predict.pool is {config.predict.pool!r}, but {why_not}; leave it out")
    wanted = table.rows.loc[table.to_predict_mask & table.usable_mask]
    check_groups(wanted["group"].to_numpy(str), wanted["filename"].tolist(), table.source)


def check_unlabelled(config: Config, table: Table) -> None:
    """Refuses labels that are made up for rows to predict, where there are none, or where people have no one label.

    Raises:
      ConfigError: that is so.
    """
    way = config.unlabelled.self_training
    if way == "none":
        return
    given = f"unlabelled.self_training is {way!r}, but"
    if not len(rows_without_label(table)):
        has_any = bool((table.to_predict_mask & table.usable_mask).any())
        known = "every row to predict is of a person, or the same picture as an image, with a label"
        raise ConfigError(f"{given} {known if has_any else 'there are no rows to predict'}; leave it out")
    labels, people = _labelled(table)
    if way != IMAGES and (torn := num_torn(labels, group_codes(people))):
        raise ConfigError(f"{given} {torn} people have images of several classes; {IMAGES!r} asks nobody for one class")


def why_not_by_person(table: Table) -> str:
    """Why the images of a person cannot have one answer; "" where those of each, if labelled, are of one class."""
    cohort = Cohort(*_labelled(table))
    return why_no_people(cohort, cohort.groups)


def _labelled(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Classes and people of the labelled images, without augmented copies."""
    rows = table.rows.loc[table.labelled_mask & ~table.copy_mask]
    return rows["label"].to_numpy(np.int64), rows["group"].to_numpy(str)


def check_groups(groups: np.ndarray, filenames: Sequence[str], where: str) -> None:
    """Raises DataError where a row to predict has no person, whose images could be pooled; `where` names the data."""
    missing = [name for name, group in zip(filenames, groups, strict=True) if not group]
    if missing:
        raise DataError(
            f"{where}: predict.pool pools a person's images, and {len(missing)} of {len(filenames)} rows to predict "
            f"have no person, first {missing[0]}; fill data.group_column there, or give --config.predict.pool=none"
        )


def write_audit(folder: pathlib.Path, audit: Audit, images: Images) -> None:
    """Writes audit.json, table.csv and the figures of the data set."""
    from fpclass.report import charts, grids
    from fpclass.report.style import save_figure

    table = audit.table
    note = note_of(table.is_synthetic)
    files.write_json(folder / "audit.json", audit.to_json())
    files.write_csv(folder / "table.csv", table.rows)
    if not table.labelled_mask.any():
        return
    labels = np.where(table.labelled_mask, table.labels, -1)  # the figures leave those of -1 out
    names = table.rows["filename"].tolist()
    counts = {name: int(np.sum(labels == k)) for k, name in enumerate(table.class_names)}
    usable, shown = table.rows[table.usable_mask], cast(Any, images)
    for name, figure in {
        "class_balance": charts.class_balance(counts, note=note),
        "image_sizes": charts.image_sizes(usable["width"].to_numpy(), usable["height"].to_numpy(), note=note),
        "mean_images": grids.mean_images(shown, labels, table.class_names, note=note),
        "sample_grid": grids.sample_grid(
            shown, labels, table.class_names, names, seed=0, note=note, shapes=table.shapes()
        ),
    }.items():
        save_figure(figure, folder / "figures" / f"{name}.png")


def prepare_again(run: Run) -> Prepared:
    """The data of a run, from its config, once more; a relative data.root is one of where the training was started.

    Raises:
      RunError: they have changed since, or a run folder is what data.root is from here.
    """
    prepared = prepare(_where_they_were(run))
    check_same_data(run, prepared)
    return prepared


def _where_they_were(run: Run) -> Config:
    """A run's config with paths of the data that are right in whichever folder a command is started.

    They are kept as they were given. Looked for from here, `photos` is the run and not its images in a folder of runs.
    Where the training was started is tried first, except for what was given anew; a folder that was moved has the rest.
    """
    environment, known = run.path("environment.json"), run.path("config.json")
    started = files.read_object(environment).get(STARTED_IN) if environment.is_file() else None
    trained: Any = experiment.from_json(files.read_json(known), str(known)).data
    config: Any = ConfigDict(run.config.to_dict())
    for key in ("root", "copies", "exclude"):
        given = config.data[key]
        path = files.expanded(given) if given and "://" not in given else None
        if path is None or path.is_absolute():
            continue
        there = pathlib.Path(str(started), path) if started and given == trained[key] else path
        there = there if there.exists() else path
        if is_of_training(there):
            raise RunError(
                f"data.{key} is {given}, which from here is no data set but a run or study folder: start this in the "
                f"folder in which the training was started, or give --config.data.{key}=…"
            )
        config.data[key] = str(there)
    return config


def is_of_training(folder: pathlib.Path) -> bool:
    """Whether it is the folder of a run or of a study."""
    return any((folder / name).is_file() for name in ("config.json", "study.json"))


def check_same_data(run: Run, prepared: Prepared) -> None:
    """Begins environment.json, or compares the data with what the folder was begun with.

    Raises:
      RunError: the data have changed since.
    """
    path = run.path("environment.json")
    if not path.is_file():
        run.write_environment(prepared.sha256)
    elif files.read_object(path, data_sha256=str)["data_sha256"] != prepared.sha256:
        raise RunError(
            f"{run.folder}: the data have changed since this run began, or what data.exclude leaves out of them; "
            "train into another --workdir"
        )


def check_same_start(run: Run, prepared: Prepared) -> None:
    """Begins environment.json, or compares data and pretrained weights with what the folder was begun with.

    Raises:
      RunError: one of them has changed since.
      WeightsError: the weights cannot be had.
    """
    weights, digest = run.config.model.weights, None
    if weights:
        from fpclass.models.pretrained.source import digest_of

        digest = digest_of(weights)
    path = run.path("environment.json")
    if not path.is_file():
        run.write_environment(prepared.sha256, digest)
    check_same_data(run, prepared)
    if files.read_object(path).get("weights_sha256") not in (digest, None):  # None: begun anew by another command
        raise RunError(f"{run.folder}: {weights} is another file than when it began; train into another --workdir")


def positive_class(config: Config, classes: Sequence[str], class_names: Sequence[str]) -> int | None:
    """The index of `evaluate.positive_class`, given as the source or as figures call it; None where it is empty.

    Raises:
      ConfigError: there is no such class.
    """
    wanted = config.evaluate.positive_class
    for names in (class_names, classes):
        if wanted in names:
            return list(names).index(wanted)
    if wanted:
        raise ConfigError(f"evaluate.positive_class is {wanted!r}: expected one of {', '.join(class_names)}")
    return None


def condition_of(config: Config, classes: Sequence[str], class_names: Sequence[str]) -> int | None:
    """The class that diagnostic accuracy is about: `positive_class`, or the second of two; None where nobody says.

    Raises:
      ConfigError: as `positive_class`; a prevalence, and nothing says of which class.
    """
    positive = positive_class(config, classes, class_names)
    if positive is None and len(classes) == 2:
        return 1
    if positive is None and config.evaluate.prevalence:
        raise ConfigError(
            f"evaluate.prevalence is {config.evaluate.prevalence:g}, and there are {len(classes)} classes: name "
            f"the one that it is of with evaluate.positive_class ({', '.join(class_names)})"
        )
    return positive


def describe_model(table: Table) -> dict[str, Any]:
    """The contents of model.json: the classes, which `predictor_of_run` needs beside the config and the weights."""
    return {
        "classes": list(table.classes),
        "class_names": list(table.class_names),
        "trained_on": table.source,
        "is_synthetic": table.is_synthetic,
    }


def read_described(path: pathlib.Path) -> dict[str, Any]:
    """What model.json or ensemble.json says of a network: classes, their names, what it was trained on.

    Raises:
      RunError: missing or damaged.
    """
    described = files.read_object(path, classes=list, class_names=list, trained_on=str, is_synthetic=bool)
    classes, class_names = described["classes"], described["class_names"]
    if not all(isinstance(name, str) for name in (*classes, *class_names)) or not 2 <= len(classes) == len(class_names):
        raise RunError(f"{path}: the classes are {classes} and {class_names}; train again into a new --workdir")
    return described


def read_model(run: Run) -> dict[str, Any]:
    """What model.json of a run holds, with the names that the run's config now has for the classes.

    Raises:
      ConfigError: there are not as many names as classes.
      RunError: missing or damaged.
    """
    described = read_described(run.path("model.json"))
    names = class_names(run.config.data.class_names, tuple(described["classes"]))
    return described | {"class_names": list(names)}


def read_classes(run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes of `read_model`: as the source codes them, and how figures call them."""
    described = read_model(run)
    return tuple(described["classes"]), tuple(described["class_names"])

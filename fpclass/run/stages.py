"""Which stages of a folder are done, with what, and what they left: what is done already is not done again.

stages.json has an entry for each. A stage is done while its entry holds the settings of now and what it wrote is there;
ingesting is, while the data too, by the list of their files, are those that it was done with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from fpclass import __version__
from fpclass.common import files
from fpclass.common.console import say
from fpclass.common.parallel import num_processes
from fpclass.config import Config, flatten
from fpclass.data.sources import load_table
from fpclass.data.splits import VALIDATION
from fpclass.data.table import Table
from fpclass.errors import FpclassError, RunError
from fpclass.experiment import AFTER_TRAINING
from fpclass.explain.request import DEFAULT
from fpclass.run.best import BestModel
from fpclass.run.decisions.submission import submit
from fpclass.run.evaluate import evaluate
from fpclass.run.explain import FEATURE_MAPS, explain
from fpclass.run.folder import Run
from fpclass.run.prepare import Prepared, check_same_data, describe_model, prepare
from fpclass.run.report.write import REPORT, write_run_report
from fpclass.run.sheets.sheet import FILE as SHEETS
from fpclass.run.warnings import warn_of_data

INGEST, PREPARE, TRAIN, EVALUATE, SUBMIT, EXPLAIN = "ingest", "prepare", "train", "evaluate", "submit", "explain"
FILE = "stages.json"
NUM_NAMED = 3
"""Files of a stage that its line names."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage depends on beside the training, and what it leaves.

    Attributes:
      reads: what the keys begin with that may change after training and that it reads.
      writes: of these files and folders, those that are there when it ends have to be there later.
      about: stages after which this one has to be done anew.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    about: tuple[str, ...] = ()


def _figures(*names: str) -> tuple[str, ...]:
    return tuple(f"figures/{name}.png" for name in names)


OF_RUN: dict[str, Stage] = {
    INGEST: Stage(
        ("data.",),
        (
            *("audit.json", "table.csv", "splits.csv", "model.json"),
            *_figures("class_balance", "image_sizes", "mean_images", "sample_grid"),
        ),
    ),
    PREPARE: Stage((), ("model.txt",)),
    TRAIN: Stage((), ("checkpoints/best", "log.jsonl")),
    EVALUATE: Stage(
        ("data.class_names", "evaluate.", "study.calibration", "study.cost", "study.metric", "predict.pool"),
        (
            *("metrics.json", "scores.json", "predictions.csv", "calibration.json", "classification_report.txt"),
            *_figures(
                "confusion_matrix",
                "roc",
                "learning_curves",
                "predictions",
                "extremes",
                "confusion_matrix_test",
                "roc_test",
            ),
            "classification_report_test.txt",
        ),
        (TRAIN,),
    ),
    SUBMIT: Stage(("submit.", "study."), ("submission.csv", "test_predictions.csv"), (TRAIN, EVALUATE)),
    EXPLAIN: Stage(("data.class_names", "explain."), (DEFAULT.arrays, DEFAULT.figure, FEATURE_MAPS, SHEETS), (TRAIN,)),
}
OF_STUDY = {INGEST: Stage(("data.",), ("audit.json", "table.csv"))}
"""Of a study folder the data alone: whether members are trained is asked of each, and conclusions are cheap to ask."""


class Stages:
    """The stages of a run folder, or of a study folder with the config of its baseline."""

    def __init__(self, run: Run, stages: Mapping[str, Stage] = OF_RUN):
        self.run = run
        self._stages = stages

    def is_done(self, name: str) -> bool:
        """Whether a stage need not be done again."""
        entry = self._entries().get(name)
        if not isinstance(entry, dict) or not isinstance(entry.get("wrote"), list):
            return False
        wrote = [str(file) for file in entry["wrote"]]
        if entry.get("of") != self._settings(name) or not all(self.run.path(file).exists() for file in wrote):
            return False
        if name != INGEST:
            return True
        listed = listing(self.run.config)
        return listed in ("", entry.get("listing"))

    def done(self, name: str, table: Table | None = None) -> None:
        """Notes that a stage is done, ingesting with its table; those that are about it have to be done anew."""
        entries = {
            other: entry
            for other, entry in self._entries().items()
            if other in self._stages and other != name and name not in self._stages[other].about
        }
        wrote = [file for file in self._stages[name].writes if self.run.path(file).exists()]
        entries[name] = {"wrote": wrote, "of": self._settings(name)}
        if table is not None:
            entries[name]["listing"] = listing_of(table)
        files.write_json(self.run.path(FILE), entries)

    def forget(self, name: str) -> None:
        """Has a stage done anew."""
        entries = self._entries()
        if entries.pop(name, None) is not None:
            files.write_json(self.run.path(FILE), entries)

    def skipped(self, name: str) -> str:
        """A line about a stage that is done."""
        wrote = self._entries()[name]["wrote"]
        shown = ", ".join(wrote[:NUM_NAMED]) + (" …" if len(wrote) > NUM_NAMED else "")
        return f"{name:<9} was done" + (f": {shown}" if wrote else "")

    def _settings(self, name: str) -> dict[str, Any]:
        """What a stage was done with, as JSON gives it back."""
        values = flatten(self.run.config)
        after = {key for key in values if key.startswith(AFTER_TRAINING)}
        training = json.dumps({key: value for key, value in values.items() if key not in after}, sort_keys=True)
        read = {key: values[key] for key in sorted(after) if key.startswith((*self._stages[name].reads, "\n"))}
        digest = hashlib.sha256(training.encode()).hexdigest()
        return json.loads(json.dumps({"fpclass": __version__, "training": digest} | read))

    def _entries(self) -> dict[str, Any]:
        """What stages.json holds; nothing where it is missing or damaged: then all is done again."""
        try:
            entries = json.loads(self.run.path(FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return entries if isinstance(entries, dict) else {}


def listing(config: Config) -> str:
    """The `listing_of` what the source lists now; "" where nothing can be said: the data are gone, or are no files."""
    if config.data.source == "tfds":
        return ""
    try:
        return listing_of(load_table(config.data))
    except FpclassError:
        return ""


def listing_of(table: Table) -> str:
    """A hash of names, labels and people, and of size and time of every file; no file is opened."""
    digest = hashlib.sha256(table.rows[["filename", "raw_label", "group", "split"]].to_csv(index=False).encode())
    for path in table.rows["path"]:
        try:
            status = os.stat(path)
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        except (OSError, ValueError):
            digest.update(b"not there\n")
    return digest.hexdigest()


class RunData:
    """The data of a run, prepared when the first stage needs them, and not at all where none does."""

    def __init__(self, stages: Stages, *, strict: bool = False):
        self._stages, self._strict = stages, strict
        self._prepared: Prepared | None = None
        # Processes of a job prepare the data together, and others do not see this folder.
        self._is_ingested = not strict and num_processes() == 1 and stages.is_done(INGEST)

    def ingest(self) -> None:
        """Lists, decodes, audits and divides the images, unless that is done.

        Raises:
          DataError: as `prepare`.
        """
        if self._is_ingested:
            say(self._stages.skipped(INGEST))
        else:
            _ = self.prepared

    @property
    def prepared(self) -> Prepared:
        """The data; the first time they are decoded, from the cache if it has them.

        Raises:
          DataError: as `prepare`.
        """
        if self._prepared is None:
            run = self._stages.run
            self._prepared = prepare(run.config, None if self._is_ingested else run.folder, strict=self._strict)
            if not self._is_ingested:
                if run.path("environment.json").is_file():  # what was trained already, was trained on these
                    check_same_data(run, self._prepared)
                self._write(self._prepared)
        return self._prepared

    def _write(self, prepared: Prepared) -> None:
        run = self._stages.run
        run.write_csv("splits.csv", prepared.splits.frame)
        files.write_json(run.path("model.json"), describe_model(prepared.table))
        say(prepared.audit.to_text())
        for note in prepared.splits.notes:
            say(f"split: {note}")
        for line in warn_of_data(run.config, prepared.table):
            say(f"WARNING     {line}")
        self._stages.done(INGEST, prepared.table)


class AfterTraining:
    """The stages after training, each of them done once; the best weights are restored when the first needs them."""

    def __init__(self, stages: Stages, data: RunData):
        self._stages, self._data = stages, data
        self._best: BestModel | None = None
        self._has_begun = False

    @property
    def best(self) -> BestModel:
        """The best weights."""
        self._best = self._best or BestModel(self._stages.run, self._data.prepared.table.num_classes)
        return self._best

    def evaluate(self) -> dict[str, Any]:
        """What metrics.json holds, made now if need be."""
        if self._stages.is_done(EVALUATE):
            with contextlib.suppress(RunError):  # damaged since: then anew
                path = self._stages.run.path("metrics.json")
                metrics = files.read_object(path, **{VALIDATION: dict, "calibration": dict, "findings": list})
                say(self._stages.skipped(EVALUATE))
                return metrics
        self._has_begun = True
        metrics = evaluate(self.best, self._data.prepared)
        self._stages.done(EVALUATE)
        return metrics

    def submit(self) -> None:
        """Writes the submission, if there is one to write."""
        self._once(SUBMIT, self._submit)

    def explain(self) -> None:
        """Writes Grad-CAM and feature maps."""
        self._once(EXPLAIN, lambda: explain(self.best, self._data.prepared))

    def report(self) -> None:
        """Writes the report, unless there is one and nothing was done since."""
        folder = self._stages.run.folder
        if self._has_begun or not (folder / REPORT).is_file():
            write_run_report(folder)

    def _submit(self) -> None:
        if self._data.prepared.table.to_predict_mask.any():
            submit(self.best, self._data.prepared)

    def _once(self, name: str, step: Callable[[], object]) -> None:
        if self._stages.is_done(name):
            say(self._stages.skipped(name))
            return
        self._has_begun = True
        step()
        self._stages.done(name)

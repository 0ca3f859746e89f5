"""The run folder: what a command reads and leaves behind, the same layout for all of them."""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import filelock
import numpy as np
import pandas as pd

from fpclass import __version__, experiment
from fpclass.common import files
from fpclass.common.console import program
from fpclass.config import Config
from fpclass.data.files import some_of
from fpclass.errors import RunError, did_you_mean, one_line

STARTED_IN = "started_in"
"""Of environment.json: the folder that relative paths of the config begin in."""


class Run:
    """A run folder (`--workdir`) and the config that everything in it was made with."""

    def __init__(self, folder: pathlib.Path, config: Config):
        self.folder = folder
        self.config = config

    @classmethod
    def create(cls, folder: pathlib.Path | str, config: Config) -> Run:
        """Makes a run folder, or goes on in the one that has the same config.

        A folder in which nothing has been trained yet takes any config: a first attempt that ended in an error does
        not stand in the way of the corrected one.

        Raises:
          RunError: the folder has another config, holds something else, or cannot be written to.
        """
        folder = pathlib.Path(folder)
        run = cls(folder, config)
        path = run.path("config.json")
        was_there = make_folder(folder, path.name, "run")
        with run.lock():
            files.sweep(folder)
            if was_there and run.path("checkpoints").is_dir():
                changed = experiment.training_differences(cls.open(folder).config, config)
                if changed:
                    others = [f"{key}: {old!r} there, {new!r} now" for key, (old, new) in changed.items()]
                    listed = some_of(others, 3, "; ")
                    raise RunError(f"{folder} belongs to another config ({listed}); choose another --workdir")
            else:
                run.path("environment.json").unlink(missing_ok=True)
            run.write_config()
        return run

    @classmethod
    def beside(cls, workdir: pathlib.Path | str | None, config: Config, command: str) -> Run:
        """The folder of a command that trains nothing: where its own has a training by another config, one beside it.

        Args:
          workdir: as it was given; None or "": runs/NAME of the config, or runs/NAME-COMMAND.

        Raises:
          RunError: as `create`.
        """
        if workdir:
            return cls.create(workdir, config)
        folder = pathlib.Path("runs", config.name)
        is_study, is_trained = (folder / "study.json").is_file(), (folder / "checkpoints").is_dir()
        if is_study or (is_trained and experiment.training_differences(cls.open(folder).config, config)):
            folder = folder.with_name(f"{folder.name}-{command}")
        return cls.create(folder, config)

    @classmethod
    def open(cls, folder: pathlib.Path | str, overrides: Sequence[str] = ()) -> Run:
        """Opens the folder of an earlier run; overrides are of keys that may change after training.

        Raises:
          RunError: it is not one.
          ConfigError: its config, or an override, is none of this version.
        """
        folder = pathlib.Path(folder)
        path = folder / "config.json"
        if (folder / "study.json").is_file():
            raise RunError(
                f"{folder}: a study, not one training; give one of its members/ folders, or another --workdir to train"
            )
        if not path.is_file():
            raise RunError(not_one(folder, "run", path.name, "a training"))
        return cls(folder, experiment.from_json(files.read_json(path), str(path), overrides))

    def path(self, name: str) -> pathlib.Path:
        """The path of a file of this run."""
        return self.folder / name

    def write_config(self) -> None:
        """Writes `config.json`."""
        files.write_json(self.path("config.json"), experiment.to_json(self.config))

    def lock(self) -> contextlib.AbstractContextManager[object]:
        """Holds the folder for one training at a time, until the end of the `with` block that it opens.

        Raises:
          RunError: another process holds it.
        """
        return lock_folder(self.folder)

    def write_csv(self, name: str, frame: pd.DataFrame) -> None:
        """Writes a table, whole or not at all."""
        files.write_csv(self.path(name), frame)

    def read_csv(
        self, name: str, columns: Sequence[str] = (), numbers: Sequence[str] = (), text: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Reads a table that this run wrote; text columns stay text.

        Args:
          columns: that have to be there.
          text: further columns that stay text, if they are there.
          numbers: beginnings of the names of columns that have to be there and hold finite numbers alone.

        Raises:
          RunError: missing, damaged, or of other columns.
        """
        path = self.path(name)
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise RunError(f"{path}: cannot be read (it is no file)")
        of_text = ("filename", "group", "label", "raw_label", "original", "unit", "sha256", "pixel_sha256", *text)
        dtype: Any = dict.fromkeys(of_text, str)
        try:
            frame = pd.read_csv(path, dtype=dtype, keep_default_na=False, na_values={})
        except FileNotFoundError:
            raise RunError(f"{path}: not found; run `{program()} train` with this --workdir first") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read ({one_line(error)}); {files.remedy(path)}") from error
        for column in (*columns, *numbers):
            found = [other for other in frame if other == column or (column in numbers and other.startswith(column))]
            if not found:
                raise RunError(f"{path}: has no column {column}; it was changed or damaged: {files.remedy(path)}")
            for of in found if column in numbers else ():
                column_values: Any = pd.to_numeric(frame[of], errors="coerce")
                values = column_values.to_numpy(np.float64)
                if not np.isfinite(values).all():
                    met = frame[of].to_numpy()[~np.isfinite(values)][0]
                    raise RunError(f"{path}: column {of} holds {met!r}, expected finite numbers: {files.remedy(path)}")
        return frame

    def history(self) -> list[dict[str, Any]]:
        """The epochs of `log.jsonl`, one dict each; a last line that a kill cut short does not count.

        Raises:
          RunError: the file is damaged.
        """
        path = self.path("log.jsonl")
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
            records = [json.loads(line) for line in lines if line.endswith("\n")]
            if not all(isinstance(record, dict) and isinstance(record.get("epoch"), int) for record in records):
                raise ValueError("a line is no epoch")
            return records
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path}: cannot be read ({error}); train again into a new --workdir") from error

    @contextlib.contextmanager
    def appending(self, name: str) -> Iterator[Callable[[bytes], None]]:
        """Gives what appends bytes to a file of this run, which it begins where there is none.

        They are in the file when that returns, so a kill costs none of what was there before.

        Raises:
          RunError: the file cannot be written to, or the disk is full.
        """
        path = self.path(name)
        with contextlib.ExitStack() as stack:
            with _told_of(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                stream = stack.enter_context(path.open("ab", buffering=0))

            def append(piece: bytes) -> None:
                with _told_of(path):
                    while piece:  # the system may take a part
                        piece = piece[stream.write(piece) :]

            yield append

    @contextlib.contextmanager
    def appending_history(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Gives what appends an epoch to `log.jsonl`, as `appending` does: a kill costs at most this line."""
        with self.appending("log.jsonl") as append:
            yield lambda record: append(_to_line(record).encode())

    def truncate_history(self, epoch: int) -> None:
        """Drops from `log.jsonl` what came after the checkpoint that a training resumes from."""
        kept = [record for record in self.history() if record["epoch"] <= epoch]
        files.write_text(self.path("log.jsonl"), "".join(map(_to_line, kept)))

    def write_environment(self, data_sha256: str, weights_sha256: str | None = None) -> None:
        """Writes what a result depends on beside the config: versions, devices, data, weights, the commit."""
        import jax

        files.write_json(
            self.path("environment.json"),
            {
                "python": sys.version.split()[0],
                "platform": platform.platform(),
                "versions": _versions(),
                "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
                "git_commit": _commit_of_process(),
                "data_sha256": data_sha256,
                "weights_sha256": weights_sha256,
                STARTED_IN: str(pathlib.Path.cwd()),
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            },
        )


@contextlib.contextmanager
def _told_of(path: pathlib.Path) -> Iterator[None]:
    """Says which file of a run cannot be written."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise RunError(f"{path}: cannot write ({why}); free space or choose another --workdir") from error


def not_one(folder: pathlib.Path, kind: str, file: str, of: str) -> str:
    """Why a path is no run or study folder, and which other one may be meant: of a like name, or the newest here.

    Args:
      kind: "run" or "study", of which each has a file of this name.
      of: what such a folder is of, in words.
    """
    places = {folder.parent, pathlib.Path("runs")}
    names = ["study.json", *([file] if file != "study.json" else [])]  # most commands take either
    there = [path.parent for place in places for name in names for path in place.glob(f"*/{name}")]
    newest = sorted(there, key=lambda path: -path.stat().st_mtime)[:3]
    hint = did_you_mean(str(folder), map(str, there), likeness=0.7)
    if not hint and newest:
        hint = f", as {some_of(list(map(str, newest)))}"
    what = f"not a {kind} folder (it has no {file})" if folder.exists() else "no such folder"
    return f"{folder}: {what}; give the --workdir of {of}{hint}"


def make_folder(folder: pathlib.Path, marker: str, kind: str) -> bool:
    """Makes the folder of a command, or accepts one that is empty or has the marker; returns whether it had it.

    Args:
      folder: `--workdir`.
      marker: the file that tells whose folder it is, such as config.json.
      kind: what such a folder is called.

    Raises:
      RunError: it holds something else, or cannot be written to.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder}: is a file; --workdir must be a folder")
        names = [f.name for f in folder.iterdir()] if folder.is_dir() else []
        # What a kill leaves before there is a marker does not make it somebody else's folder.
        if marker not in names and any(not name.startswith((".lock", f".{marker}.")) for name in names):
            raise RunError(f"{folder}: is not empty and not a {kind} folder; choose another --workdir")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot write ({error.strerror or error}); choose another --workdir") from error
    return marker in names


def lock_folder(folder: pathlib.Path) -> contextlib.AbstractContextManager[object]:
    """Holds a folder for one process at a time, until the end of the `with` block that it opens.

    Raises:
      RunError: another process holds it.
    """
    try:
        return filelock.FileLock(folder / ".lock").acquire(timeout=0)
    except filelock.Timeout:
        raise RunError(f"{folder}: another training is running in this folder; wait, or use another") from None
    except OSError as error:
        raise RunError(f"{folder}: cannot write ({error.strerror or error})") from error


def _to_line(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


@functools.cache
def _versions() -> dict[str, str]:
    """Versions of this package and of those that a result depends on."""
    import importlib.metadata as metadata

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")
    return {"fpclass": __version__} | {name: metadata.version(name) for name in names}


@functools.cache
def _commit_of_process() -> str | None:
    """The commit when it was first asked for: a study asks for every member."""
    return _git_commit()


def _git_commit() -> str | None:
    """The commit of the source this package runs from, with "-dirty" if it was changed; None outside of a checkout."""
    here = pathlib.Path(__file__).parents[1]
    if not (here.parent / ".git").exists():  # installed: a repository further up would be somebody else's
        return None
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()

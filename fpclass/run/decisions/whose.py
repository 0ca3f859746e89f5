"""Whose images files are: by a pattern in their names, or by a table."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fpclass.config import Config
from fpclass.data.sources import groups_of
from fpclass.errors import ConfigError, DataError
from fpclass.stats.evidence.pooling import Pooling


@dataclasses.dataclass(frozen=True)
class Whose:
    """What the command line says about it; empty where nothing.

    Attributes:
      pattern: a regular expression whose (…) finds the person in a file's name.
      table: a CSV with a column of file names and one of people, called as in the config.
    """

    pattern: str = ""
    table: str = ""


def whose_files(
    paths: Sequence[pathlib.Path], inputs: Sequence[pathlib.Path], pooling: Pooling, whose: Whose, config: Config
) -> np.ndarray | None:
    """The person of each file [N]; None where images are not pooled.

    The pattern, or else `data.group_pattern`, is looked for in the path below the folder that was given, or in the name
    of a file that was given itself.

    Raises:
      ConfigError: nothing says whose the files are, or they are not to be pooled and something does; or as `groups_of`.
      DataError: the table cannot be read, lacks a column, or a file.
    """
    if pooling.method == "none":
        if whose.pattern or whose.table:
            raise ConfigError(
                "--group-pattern and --groups say whose images are, which is read only where they are pooled: give "
                "--config.predict.pool=mean or calibrated, or leave them out"
            )
        return None
    if whose.table:
        return _by_table(paths, pathlib.Path(whose.table), config.data)
    pattern = whose.pattern or config.data.group_pattern
    if not pattern:
        raise ConfigError(
            f"predict.pool is {config.predict.pool!r}, and nothing says whose images these files are: give "
            "--group-pattern='REGEX with (…)' or --groups=CSV, or --config.predict.pool=none for each image by itself"
        )
    folders = [folder for folder in inputs if folder.is_dir()]
    names = [_below(path, folders) for path in paths]
    if not whose.pattern:
        return np.array(groups_of(names, config.data), object)
    settings = ConfigDict({"group_pattern": pattern, "group_column": ""})
    try:
        return np.array(groups_of(names, settings), object)
    except ConfigError as error:
        raise ConfigError(str(error).replace("data.group_pattern =", "--group-pattern:", 1)) from None


def _below(path: pathlib.Path, folders: Sequence[pathlib.Path]) -> str:
    """The path below the folder that was given, or the file's own name."""
    for folder in folders:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.name


def _by_table(paths: Sequence[pathlib.Path], table: pathlib.Path, data: Config) -> np.ndarray:
    """The person of each file by a table that names it with or without its folder and ending."""
    names, people = data.filename_column, data.group_column or "group"
    try:
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{table}: cannot be read ({' '.join(str(error).split())})") from error
    for column in (names, people):
        if column not in frame:
            raise DataError(f"{table}: has no column {column}, but {', '.join(map(str, frame.columns))}")
    person_of = dict(zip(frame[names], frame[people], strict=True))
    found = []
    for path in paths:
        known = (str(path), path.as_posix(), path.name, path.stem)
        person = next((person_of[name] for name in known if person_of.get(name)), "")
        if not person:
            raise DataError(f"{table}: names no person of {path}; looked for {path.name} in column {names}")
        found.append(person)
    return np.array(found, object)

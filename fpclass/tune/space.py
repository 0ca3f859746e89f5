"""The space of a search: a Python file whose SPACE says between what each key of a config is looked for.

SPACE = {
    "optim.learning_rate": ("log", 1e-4, 1e-1),  # between two numbers, each power of ten as likely
    "model.dropout_rate": (0.0, 0.6),            # between two numbers; two whole ones mean whole ones
    "optim.name": ["adamw", "sgd"],              # one of a list
}
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import random
import runpy
from typing import TYPE_CHECKING, Any, TypeAlias

from fpclass import experiment
from fpclass.config import SIZES, Config, flatten, from_values, shipped, suggest_key
from fpclass.errors import ConfigError, one_line
from fpclass.experiment.unread import OF_A_RUN, find_unread
from fpclass.train.task import check_network

if TYPE_CHECKING:
    from optuna.trial import Trial

NAME, LOG = "SPACE", "log"
IMAGES = ("image_size", "channels", "interpolation", "resize", "pad_value", "crop", "equalise")
"""Keys of the section `data` that say how images are read; the others say which they are."""
FIXED = (
    *("name", "seed", "code_folders", "split.", "study.", "evaluate.", "explain.", "submit.", "hardware.", "data."),
    *("predict.averaging", "predict.pool", "train.num_devices", "train.checkpoint_seconds", "train.max_minutes"),
)
"""What begins with these is the same for all proposals, or they could not be compared."""
WEIGHTS = ("model.weights", "model.variant")
NUM_DRAWN = 50
"""Random configs of the space that are looked at where a value makes no sense beside the config's own others."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers between two, both included; whole ones where both are."""

    low: float
    high: float
    is_log: bool = False

    def ask(self, trial: Trial, key: str) -> float:
        """What the search proposes, as Optuna stores it."""
        ask: Any = trial.suggest_int if isinstance(self.low, int) else trial.suggest_float
        return ask(key, self.low, self.high, log=self.is_log)

    @staticmethod
    def stored(value: Any) -> float:
        """The value as Optuna stores it."""
        return value

    def loaded(self, stored: Any) -> Any:
        """The value that Optuna has stored, to as many digits as anybody would write."""
        return stored if isinstance(self.low, int) else min(max(float(f"{stored:.4g}"), self.low), self.high)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that have to make sense for all to do."""
        return self.low, self.high

    def contains(self, value: Any) -> bool:
        """Whether the search could propose a value."""
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def ask(self, trial: Trial, key: str) -> Any:
        """What the search proposes, as Optuna stores it: by its text, since not all values are numbers or words."""
        return trial.suggest_categorical(key, [self.stored(value) for value in self.values])

    @staticmethod
    def stored(value: Any) -> str:
        """The value as Optuna stores it."""
        return repr(value)

    def loaded(self, stored: Any) -> Any:
        """The value that Optuna has stored."""
        return next(value for value in self.values if repr(value) == stored)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that have to make sense for all to do."""
        return self.values

    def contains(self, value: Any) -> bool:
        """Whether the search could propose a value."""
        return value in self.values


Space: TypeAlias = dict[str, Range | Choice]


def read_space(path: str, base: Config) -> Space:
    """Reads a space and checks it against the config that it is searched around.

    Raises:
      ConfigError: no such file or SPACE, a key that does not exist, may not differ or is not read, or a value that the
        key does not take.
    """
    there = pathlib.Path(path)
    file = there if there.is_file() or not shipped(path) else pathlib.Path(shipped(path))
    if not file.is_file():
        raise ConfigError(f"--space={path}: no such file; configs/spaces/small_cnn.py is an example")
    try:
        entries = runpy.run_path(str(file)).get(NAME)
    except Exception as error:  # it is a program: whatever it raises is about the file
        raise ConfigError(f"--space={path}: cannot be read ({type(error).__name__}: {one_line(error)})") from error
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(
            f'--space={path}: has no {NAME}; expected {NAME} = {{"optim.learning_rate": (1e-4, 1e-2), …}}'
        )
    space = {str(key): _entry(str(key), value, f"--space={path}") for key, value in entries.items()}
    _check(space, base, f"--space={path}")
    return space


def read_values(base: Config, values: dict[str, Any], where: str = "a trial") -> dict[str, Any]:
    """Those of the values that the config with all of them reads.

    Raises:
      ConfigError: values of other types.
    """
    unread = find_unread(_with(base, values, where), OF_A_RUN)
    return {key: value for key, value in values.items() if key not in unread}


def with_values(base: Config, values: dict[str, Any], where: str = "a trial") -> tuple[Config, dict[str, Any]]:
    """The config with other values, and those of them that it reads; the others are left as they were.

    Raises:
      ConfigError: values of other types, or that make no sense together.
    """
    read = read_values(base, values, where)
    config = experiment.check(_with(base, read, where).lock())
    check_network(config)
    return config, read


def _with(base: Config, values: dict[str, Any], where: str) -> Config:
    return from_values(flatten(base) | values, where, "configs/base.py says what it takes", {})


def _entry(key: str, value: Any, where: str) -> Range | Choice:
    """What is given for a key, as the search takes it."""
    known = flatten(experiment.base_config())
    if key not in known:
        raise ConfigError(f"{where}: no such key {key}{suggest_key(key, list(known))}")
    if (key.startswith(FIXED) and key.removeprefix("data.") not in IMAGES) or key in WEIGHTS:
        why = (
            "weights are compared by `study`"
            if key in WEIGHTS
            else "all proposals have to be trained and judged alike, on the same images"
        )
        raise ConfigError(f"{where}: {key} cannot be searched: {why}")
    if isinstance(value, list) and len(value) > 1:
        sides = key in SIZES
        choices = tuple((v, v) if sides and isinstance(v, int) else v for v in map(_plain, value))
        if any(choice in choices[:position] for position, choice in enumerate(choices)):
            raise ConfigError(f"{where}: {key} is {value!r}: give each choice once")
        return Choice(choices)
    is_log = isinstance(value, tuple) and value[:1] == (LOG,)
    numbers = value[1:] if is_log else value
    if not (
        isinstance(value, tuple) and len(numbers) == 2 and all(map(_is_number, numbers)) and numbers[0] < numbers[1]
    ):
        raise ConfigError(
            f'{where}: {key} is {value!r}: expected (low, high), ("log", low, high), or a list [a, b, …] of choices'
        )
    if is_log and numbers[0] <= 0:
        raise ConfigError(f"{where}: {key} is {value!r}: powers of ten begin above 0")
    of_base = known[key]
    if isinstance(of_base, bool) or not isinstance(of_base, int | float):
        raise ConfigError(f"{where}: {key} is no number: give a list of values to choose from")
    if isinstance(of_base, int) and not all(isinstance(number, int) for number in numbers):
        raise ConfigError(f"{where}: {key} is {value!r}: expected whole numbers")
    kind = type(of_base)
    return Range(kind(numbers[0]), kind(numbers[1]), is_log)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> Any:
    """Lists, which a config does not know, as tuples."""
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _check(space: Space, base: Config, where: str) -> None:
    """Refuses values that make no sense, and keys that nothing reads, in any config of the space.

    Raises:
      ConfigError: there is one.
    """
    drawn, defaults = random.Random(0), flatten(experiment.base_config())
    for key, entry in space.items():
        others = {other: of_other.ends for other, of_other in space.items() if other != key}
        is_read = False
        for value in entry.ends:
            error, fits = None, False
            for number in range(1 + NUM_DRAWN * bool(others)):
                rest = {other: drawn.choice(ends) for other, ends in others.items()} if number else {}
                try:
                    _, read = with_values(base, rest | {key: value}, where)
                except ConfigError as met:
                    error = error or met
                    continue
                fits, is_read = True, is_read or (key in read and value != defaults[key])
                if is_read or value == defaults[key]:
                    break
            if error and not fits:
                raise ConfigError(f"{where}: {error}") from None
        if not is_read:
            value = next(value for value in entry.ends if value != defaults[key])
            when = find_unread(_with(base, {key: value}, where), OF_A_RUN).get(key, "other keys say so")
            raise ConfigError(f"{where}: {key} is read only where {when}; leave it out, or search around such a config")

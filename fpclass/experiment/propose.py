"""The config that a folder of images gets where nobody chose one, and the flags that repeat it."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from fpclass.common.console import program, say
from fpclass.common.extension import is_own
from fpclass.common.files import expanded
from fpclass.config import SHIPPED, apply_overrides, base_config, flatten, given_keys, read_config_file, suggest_key
from fpclass.data.recognise import Recognised, recognise
from fpclass.errors import CacheError, ConfigError, WeightsError, did_you_mean
from fpclass.experiment.unread import find_unread
from fpclass.models.pretrained import source
from fpclass.models.pretrained.manifest import MANIFEST, Weights
from fpclass.models.registry import ARCHITECTURES, published
from fpclass.stats.evidence.pooling import SUBMISSION

PRETRAINED, FROM_SCRATCH, NO_NETWORK = (
    f"{SHIPPED}/{name}" for name in ("transfer/probe.py", "from_scratch.py", "base.py")
)
"""What is trained with pretrained weights, what without, and what commands that train nothing take."""
STUDY = (PRETRAINED, f"{SHIPPED}/transfer/linear_probe.py", f"{SHIPPED}/transfer/cut_and_tuned.py")
"""What a study of a folder of images compares, beside a network from scratch."""
WEIGHTS = "efficientnet_lite0"
"""The pretrained weights that are taken where none are named: small, free to use, and quick on a CPU."""
MINUTES = "train.max_minutes"
MANY = 10_000
"""Labelled images from which on a probe is of moments alone, as covariances take three times the memory and time, and
from which on `best` tunes nearly all of EfficientNet-Lite0 in place of second looks: that adds nothing to a probe of
4,000 and something to one of 12,000 (docs/results.md)."""
NOT_OF_TRAINING = ("data.", "predict.", "code_folders")
"""Beginnings of keys that no training reads: where the images lie and what they are, what becomes of answers."""
LONGEST_SIDE = 128
"""Of an image that a network is trained on from random weights, in pixels, where no size is given."""
ENLARGED, LARGEST = 4, 224
"""Images of at most half the weights' size are enlarged so many times for them, and no further than to it or to so many
pixels. From 32 pixels to 128 that gained 0.040 in accuracy, from 64 to 224 0.127 (docs/results.md)."""


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A config file and the flags on top of it.

    Attributes:
      lines: what to say of it.
      found: what the images were taken for; None where nobody looked at them.
    """

    file: str
    overrides: list[str]
    lines: tuple[str, ...] = ()
    found: Recognised | None = None


Purpose = Literal["train", "explore", "read"]
"""What a command does with images: it trains a network of its own choice; it looks for errors in them, by pretrained
weights where they lie in the cache and images are few (they find planted label errors far better than what is computed
of pixels, docs/eda.md, and take seconds then); or it needs no network, or has those of a study's configs."""
POOLING_OF_MANY = {"model.probe_pooling": "moments"}
"""What probes read of many images: covariances of a hundred thousand would not fit into memory."""
Choice: TypeAlias = tuple[str, dict[str, Any], tuple[str, ...]]
"""A config file, what is set in it by key, and what to say of it."""


@dataclasses.dataclass(frozen=True)
class Short:
    """Short forms of keys, as the command line and Python take them; "" where they are not given.

    Attributes:
      root: `data.root`: a folder, an archive or the address of one; or the CSV in a folder.
      label: `data.label_column`.
      group: `data.group_column`; "none" for none.
      size: `data.image_size`, one number or HEIGHTxWIDTH in pixels.
      minutes: `train.max_minutes`; not of a probe, which takes seconds.
      model: a network, or a set of pretrained weights, whose size and normalisation follow.
    """

    root: str = ""
    label: str = ""
    group: str = ""
    size: str = ""
    minutes: str = ""
    model: str = ""

    @classmethod
    def of(cls, args: argparse.Namespace) -> Short:
        """Those of a command that `flags.add_data_flags` has given them."""
        return cls(**{field.name: getattr(args, field.name, "") for field in dataclasses.fields(cls)})

    def overrides(self) -> list[str]:
        """The flags of the config that say the same, but those of `model`.

        Raises:
          ConfigError: a size that is none.
        """
        values: dict[str, Any] = {}
        if self.root:
            values["data.root"] = self.root
        if self.root.lower().endswith((".csv", ".tsv")) and expanded(self.root).is_file():
            table = pathlib.Path(self.root)  # the one that lies in the folder of the images
            values |= {"data.root": str(table.parent), "data.csv": table.name}
        if self.label:
            values["data.label_column"] = self.label
        if self.group:
            values["data.group_column"] = "" if self.group == "none" else self.group
        if self.size:
            sides = self.size.lower().split("x")
            if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
                raise ConfigError(f"--size={self.size}: expected pixels, as 224, or 120x80 for height x width")
            values["data.image_size"] = (int(sides[0]), int(sides[-1]))
        if self.minutes:
            if not _is_positive(self.minutes):
                raise ConfigError(f"--minutes={self.minutes}: expected a number above 0")
            values[MINUTES] = self.minutes
        return as_flags(values)


def _is_positive(number: str) -> bool:
    try:
        return 0 < float(number) < math.inf
    except ValueError:
        return False


def propose(file: str | None, overrides: Sequence[str], short: Short, purpose: Purpose = "train") -> Proposal:
    """Settles config file and flags: what was given stays as it is, the rest follows from the images.

    Args:
      file: `--config`; None where it is not given.
      overrides: flags of the config.
      purpose: what the command does with the images.

    Raises:
      ConfigError, DataError: as `recognise`; an unknown model; short forms without a folder of images.
      WeightsError: a named set of weights cannot be had, or none, as the folder of the cache cannot be written to.
    """
    key, is_key, value = short.root.partition("=")
    if is_key and not expanded(short.root).exists():
        raise ConfigError(f"{short.root}: no such folder{suggest_key(key, flag=f'--config.{{}}={value}')}")
    given = [*short.overrides(), *overrides]
    if not short.root and (file or not _names_root(given)):
        if short.model:
            raise ConfigError("--model goes with a folder of images; with --config it is --config.model.name=…")
        return Proposal(file or f"{SHIPPED}/demo.py", given)
    config = apply_overrides(read_config_file(file, {}) if file else base_config(), given, {})
    if config.data.source not in ("csv", "folder") and given_keys(given) & {"data.source"}:
        return Proposal(file or NO_NETWORK, given)
    found = recognise(config.data, {key.removeprefix("data.") for key in given_keys(given)})
    keys = {f"data.{key}": value for key, value in found.keys.items()}
    lines = [found.found, *(f"note: {note}" for note in found.notes)]
    if file is None:
        file, more, why = (NO_NETWORK, as_they_are(found), ())
        size = config.data.image_size if "data.image_size" in given_keys(given) else ()
        if purpose == "train":
            of_training = _from_scratch_for(short, overrides, found)
            file, more, why = of_training or network_for(short.model, config.model.weights, found, size)
        elif purpose == "explore" and not (short.model or are_many(found)) and source.in_cache(MANIFEST[WEIGHTS]):
            file, more, why = network_for("", config.model.weights, found, size)
        at_default = flatten(read_config_file(file, {}))
        keys = {key: value for key, value in (keys | more).items() if at_default[key] != value}
        keys["name"] = name_of(config.data.root)
        lines += why
        keys |= pooled(config.data, found) if purpose == "train" else {}
        if file == PRETRAINED and short.minutes:
            given = [flag for flag in given if given_keys([flag]) != {MINUTES}]
            lines.append("--minutes: not needed, this takes seconds")
    elif short.model:
        raise ConfigError(f"--model={short.model} and --config={file}: give one of them")
    keys = {key: value for key, value in keys.items() if key not in given_keys(given)}
    return Proposal(file, [*given, *as_flags(keys)], tuple(lines), found)


def settle(args: argparse.Namespace, overrides: Sequence[str], purpose: Purpose = "train") -> Proposal:
    """As `propose`, of the arguments of a command; says what was worked out."""
    proposal = propose(args.config, overrides, Short.of(args), purpose)
    announce(args.command, proposal)
    return proposal


def announce(command: str, proposal: Proposal, configs: Sequence[str] = ()) -> None:
    """Says what was worked out, and the command that says all of it; `configs` are those of a study."""
    for line in proposal.lines:
        say(line)
    if proposal.lines:
        say(f"in full: {in_full(f'{program()} {command}', proposal, configs)}\n")


def propose_study(files: Sequence[str], overrides: Sequence[str], short: Short) -> tuple[list[str], Proposal]:
    """The configs of a study, and the flags that go with all of them; otherwise as `propose`.

    Args:
      files: `--configs`, perhaps patterns; empty where none are given: the ways to a model that suit the images.
    """
    proposal = propose(files[0] if files else NO_NETWORK, overrides, short, "read")
    proposal = dataclasses.replace(proposal, file="")  # each of them has its own
    if files or not proposal.found:
        return list(files), proposal
    found = proposal.found
    if "predict.pool" not in given_keys(proposal.overrides):
        data = apply_overrides(base_config(), proposal.overrides, {}).data
        by_person = as_flags(pooled(data, found))
        proposal = dataclasses.replace(proposal, overrides=[*proposal.overrides, *by_person])
    try:
        source.require(WEIGHTS)
    except CacheError:  # which can be mended at once, where a small network takes minutes and is worse
        raise
    except WeightsError as error:
        line = f"pretrained networks are left out, because weights cannot be had ({error})"
        return [FROM_SCRATCH], dataclasses.replace(proposal, lines=(*proposal.lines, line))
    own = MANIFEST[WEIGHTS]
    if are_many(found) and "model.probe_pooling" not in given_keys(proposal.overrides):
        proposal = dataclasses.replace(proposal, overrides=[*proposal.overrides, *as_flags(POOLING_OF_MANY)])
    size = _size_for(own, found.image_size)
    if size != own.image_size and "data.image_size" not in given_keys(
        proposal.overrides
    ):  # larger ones: as each config says
        sized = as_flags({"data.image_size": size})
        proposal = dataclasses.replace(proposal, overrides=[*proposal.overrides, *sized])
    return [*STUDY, FROM_SCRATCH], proposal


def as_flags(values: dict[str, Any]) -> list[str]:
    """Values by dotted key as flags of the command line."""
    return [f"--config.{key}={value}" for key, value in values.items()]


def in_full(command: str, proposal: Proposal, configs: Sequence[str] = ()) -> str:
    """The command that says everything that was worked out, to be pasted."""
    files = ["--configs", *configs] if configs else [f"--config={proposal.file}"]
    return f"{command} {shlex.join([*files, *proposal.overrides])}"


def name_of(root: str) -> str:
    """What a data set is called: the name of its folder, or of its archive without what follows the first dot."""
    if "://" in root:
        return pathlib.PurePosixPath(root).name.partition(".")[0]
    path = pathlib.Path(os.path.abspath(expanded(root)))  # by the name that was given, also of a link
    return path.name if path.is_dir() else path.name.partition(".")[0]


def pooled(data: Any, found: Recognised) -> dict[str, Any]:
    """What makes the submission one class for all images of a person: where rows to predict may have people.

    `data` is the section of the config, as it was given.
    """
    names = ("group_column", "group_pattern")
    has_people = any(found.keys.get(name) or data[name] for name in names)
    return {"predict.pool": SUBMISSION} if has_people and found.num_to_predict else {}


def _names_root(overrides: Sequence[str]) -> bool:
    keys = given_keys(overrides)
    return "data.root" in keys and "data.source" not in keys


def as_they_are(found: Recognised) -> dict[str, Any]:
    """Colours and size of images that no pretrained network asks another size of."""
    longest = max(found.image_size)
    height, width = (max(8, round(side * min(1, LONGEST_SIDE / longest) / 8) * 8) for side in found.image_size)
    return {"data.channels": 3 if found.is_colour else 1, "data.image_size": (height, width)}


def network_for(model: str, weights: str, found: Recognised, size: Sequence[int] = ()) -> Choice:
    """The config file that suits images, what is set in it, and what to say of it.

    Args:
      weights: those that are named, or a file; "" for none.
      size: (height, width) in pixels where they are given.
    """
    if is_own(model):
        return NO_NETWORK, {**as_they_are(found), "model.name": model}, (f"network: {model}, of your own",)
    if model and model not in MANIFEST and not _weights_of(model):
        if model not in ARCHITECTURES:
            known = list(dict.fromkeys([*ARCHITECTURES, *MANIFEST]))
            meant = did_you_mean(model, known)
            raise ConfigError(f"--model={model}: no such network{meant or ';'} expected one of {', '.join(known)}")
        return FROM_SCRATCH, {**as_they_are(found), "model.name": model}, (_from_random_weights(model),)
    entry = MANIFEST.get(model) or _weights_of(model) or MANIFEST[WEIGHTS]
    if weights:
        entry = source.find(weights)[0] or dataclasses.replace(entry, name=weights, license="of your own")
    try:
        source.require(weights or entry.name)
    except CacheError:
        raise
    except WeightsError as error:
        if model or weights:
            raise
        reason = f"a small network from random weights, because pretrained ones cannot be had ({error})"
        return FROM_SCRATCH, as_they_are(found), (f"network: {reason}; with them results are usually far better",)
    height, width = size or _size_for(entry, found.image_size)
    values = {
        "model.name": model if model in ARCHITECTURES else entry.architecture,
        "model.weights": entry.name,
        "data.channels": 3 if found.is_colour else 1,
        "data.image_size": (height, width),
        "submit.refit": bool(found.num_to_predict),
        **(POOLING_OF_MANY if are_many(found) else {}),
    }
    line = f"network: {entry.architecture}, pretrained ({entry.name}, {entry.terms}), at {height} x {width} pixels"
    return PRETRAINED, values, (f"{line}; it is frozen, and a logistic regression is fitted to its features",)


def are_many(found: Recognised) -> bool:
    """Whether at least `MANY` images are labelled: training pays more than another look of a probe."""
    return found.num_labelled >= MANY


def _from_scratch_for(short: Short, given: Sequence[str], found: Recognised) -> Choice | None:
    """A network that is trained, where flags are about training one and none is named; None where no flag is."""
    config = apply_overrides(read_config_file(PRETRAINED, {}), given, {})
    unread = (key for key in find_unread(config) if not key.startswith(NOT_OF_TRAINING))
    of_training = sorted(given_keys(given) & set(unread))
    if short.model or not of_training:
        return None
    why = f"{of_training[0]} is about training one, and pretrained features are fitted without"
    line = f"network: a small one from random weights, because {why}; to train a pretrained one: --config=cut_and_tuned"
    return FROM_SCRATCH, as_they_are(found), (line,)


def _from_random_weights(architecture: str) -> str:
    """What to say of a network whose weights, if it has any, only some may use."""
    named = [
        f"--model={entry.name} ({entry.terms})" for entry in MANIFEST.values() if entry.architecture == architecture
    ]
    only = f"; its pretrained ones have to be named: {' or '.join(named)}" if named else ""
    return f"network: {architecture}, from random weights{only}"


def _weights_of(architecture: str) -> Weights | None:
    """The best set of weights of a network that anybody may use; None where there is none."""
    entries = [entry for entry in MANIFEST.values() if entry.architecture == architecture and entry.is_commercial]
    return max(entries, key=lambda entry: entry.top1 or 0, default=None)


def _size_for(entry: Weights, images: tuple[int, int]) -> tuple[int, int]:
    """The size that weights were made for; of smaller images theirs, in steps of 32 pixels, as networks stride.

    Small ones are enlarged. Where a network sees patches, the steps are of as many as fit into 32 pixels.
    """
    patch = published(entry.architecture).stages(entry.variant).patch_size or 32
    step = 32 // patch * patch
    side, largest = -(-max(images) // step) * step, min(*entry.image_size, LARGEST)
    if 2 * side <= largest:
        side = min(ENLARGED * side, largest)
    return min(entry.image_size[0], side), min(entry.image_size[1], side)

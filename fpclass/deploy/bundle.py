"""A bundle: a folder that holds all that predictions need, of a run or of a study's ensemble.

- bundle.json: the networks, how images are decoded and normalised, classes, calibration, thresholds and promises, where
  it is from, and the sha256 of every other file
- weights.safetensors: the weights of all members
- metrics.json: how good it is, with intervals
- README.md: the model card

Nothing in it is executed: it is JSON and arrays, and only files of these names are opened.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from fpclass import experiment
from fpclass.common import extension, files
from fpclass.config import Config, base_config, flatten, read_format
from fpclass.deploy.weights import unpack
from fpclass.errors import ConfigError, DataError, RunError, one_line
from fpclass.models.network import variable_shapes
from fpclass.run.predictor import Predictor
from fpclass.stats.decisions.promises import Promises
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.evidence.pooling import Pooling
from fpclass.stats.probabilities.fold_average import Combination
from fpclass.train.trained import TrainedNetwork, Variables

FORMAT = 1
"""Of bundles; of the keys of configs in them `config.FORMAT`."""
BUNDLE, WEIGHTS, METRICS, CARD = "bundle.json", "weights.safetensors", "metrics.json", "README.md"
FILES = (WEIGHTS, METRICS, CARD)
"""What bundle.json has the digests of: it may name no other file."""
DIGEST = "sha256"
"""Key of the digest of all else that bundle.json holds."""
MAX_MB = 100_000.0
"""Largest file of a bundle, in 10**6 bytes."""
MAX_MEMBERS = 1000
"""Of one config."""
READ = (
    *("name", "model.", "predict.", "submit.threshold_for", "study.cost"),
    *("data.image_size", "data.channels", "data.interpolation", "data.resize", "data.pad_value", "data.crop"),
    *("data.equalise", "data.mean", "data.std", "data.merge", "data.class_names", "data.max_file_mb"),
    *("data.filename_column", "data.group_column", "data.group_pattern"),
)
"""Keys, or beginnings of them, that predictions read; a bundle says nothing of others, such as where the data were."""
CHANGEABLE = ("submit.threshold_for", "study.cost", "data.max_file_mb", "data.group_pattern", "data.group_column")
"""Keys that whoever opens a bundle may set."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those that it was made of.

    Attributes:
      folder: where it is.
      facts: what bundle.json holds.
      overrides: of keys of `CHANGEABLE`, as the command line has them.
    """

    folder: pathlib.Path
    facts: dict[str, Any]
    overrides: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: pathlib.Path, overrides: Sequence[str] = ()) -> Bundle:
        """Opens a bundle, and compares every file with its digest.

        Raises:
          RunError: it is none, was written by a later version, or a file is missing, altered or none of a bundle's.
        """
        if not is_bundle(folder):
            raise RunError(f"{folder}: no bundle (it has no {BUNDLE}); give the folder that `fpclass bundle` wrote")
        path = folder / BUNDLE
        _refuse_link(path)
        facts = files.read_object(path, bundle_format=int, files=dict, networks=dict, config=dict, classes=list)
        if facts["bundle_format"] not in range(1, FORMAT + 1):
            raise RunError(
                f"{path}: was written by fpclass {facts.get('fpclass')} in bundle format {facts['bundle_format']}, and "
                f"this one reads formats up to {FORMAT}: install that version"
            )
        if facts.get(DIGEST) != (met := digest_of(facts)):
            raise RunError(f"{path}: was altered: sha256 {facts.get(DIGEST)} when it was made, {met} now; get it again")
        if foreign := facts["files"].keys() ^ set(FILES):
            raise RunError(f"{path}: lists {min(foreign)[:80]!r} or lacks it; a bundle has {', '.join(FILES)} alone")
        for name in (METRICS, CARD):
            _read(folder, name, facts)
        return cls(folder, facts, tuple(overrides))

    @property
    def metrics(self) -> dict[str, Any]:
        """How good it is: scores with intervals, on which images."""
        return json.loads(_read(self.folder, METRICS, self.facts))

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return _read(self.folder, CARD, self.facts).decode()

    def predictor(self) -> Predictor:
        """All members, with their weights.

        Raises:
          RunError: bundle.json or the weights are damaged, or of another version.
          ConfigError: an override of another key, or a network that the bundle does not hold.
        """
        path, facts = str(self.folder / BUNDLE), self.facts
        number, version = read_format(facts, path)
        config = _changed(config_of(facts["config"], path, number, version), self.overrides)
        try:
            classes, class_names = (tuple(map(str, facts[key])) for key in ("classes", "class_names"))
            networks: dict[str, TrainedNetwork] = {}
            shapes = {}
            for name, network in facts["networks"].items():
                of_network = config_of(network["config"], f"{path}: {name}", number, version)
                networks[name] = TrainedNetwork(of_network, len(classes), dict)
                if not 1 <= network["members"] <= MAX_MEMBERS:
                    raise ValueError(f"{network['members']} members of {name}")
                shapes[name] = [shapes_of(networks[name])] * network["members"]
            weights = unpack(_read(self.folder, WEIGHTS, facts), shapes, str(self.folder / WEIGHTS))
            return Predictor(
                members={name: [_with(network, each) for each in weights[name]] for name, network in networks.items()},
                combine=Combination.from_json(facts["combination"]),
                config=config,
                classes=classes,
                class_names=class_names,
                rule=DecisionRule.from_json(facts["rule"], path),
                pooling=Pooling.from_json(facts["pooling"], path),
                words=str(facts["words"]),
                promises=facts["promises"] and Promises.from_json(facts["promises"], len(classes)),
            )
        except (AttributeError, DataError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: is damaged ({one_line(error, 200)}); make the bundle anew") from error


def is_bundle(folder: pathlib.Path) -> bool:
    """Whether a folder looks like a bundle."""
    return os.path.lexists(folder / BUNDLE)


def digest_of(facts: dict[str, Any]) -> str:
    """The sha256 of all that bundle.json holds beside it, in hexadecimal."""
    text = json.dumps({key: value for key, value in facts.items() if key != DIGEST}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def portable(config: Config) -> dict[str, Any]:
    """The values of a config that predictions read, by dotted key.

    Raises:
      ConfigError: the network is a function of the user's own.
    """
    refuse_own(config.model.name, "model.name")
    return {key: value for key, value in flatten(config).items() if key.startswith(READ) and key != "model.weights"}


def config_of(values: dict[str, Any], where: str, number: int, version: str) -> Config:
    """The config that `portable` took apart; number and version as of `config.read_format`.

    Raises:
      ConfigError: values that make no sense, or a network that is not this project's.
      RunError: keys that predictions do not read.
    """
    if foreign := [key for key in values if not key.startswith(READ)]:
        raise RunError(f"{where}: holds the key {foreign[0][:80]!r}, which is none of a bundle's")
    refuse_own(values.get("model.name"), where)
    return experiment.config_of_format(flatten(base_config()) | values, where, number, version)


def refuse_own(name: Any, where: str) -> None:
    """Raises ConfigError where a network is a function of the user's own: a bundle holds no code, and runs none."""
    if extension.is_own(name):
        raise ConfigError(
            f"{where}: the network is {extension.bare(name)}, a function of your own, and a bundle holds no code: "
            "predict with the run folder, or put the network into fpclass.models.architectures"
        )


def shapes_of(network: TrainedNetwork) -> Variables:
    """Shapes of the params and batch_stats of a network, without computing any of it."""
    data = network.config.data
    shapes = variable_shapes(network.model, (*data.image_size, data.channels))
    return {kind: shapes.get(kind, {}) for kind in ("params", "batch_stats")}


def _with(network: TrainedNetwork, variables: Variables) -> TrainedNetwork:
    return network.with_weights(lambda: variables)


def _changed(config: Config, overrides: Sequence[str]) -> Config:
    changed = experiment.override(config, overrides) if overrides else config
    for key, value in flatten(changed).items():
        if value != flatten(config)[key] and key not in CHANGEABLE:
            raise ConfigError(
                f"--config.{key} is part of the bundle; make another one of the run or study, with this flag"
            )
    return changed


def _read(folder: pathlib.Path, name: str, facts: dict[str, Any]) -> bytes:
    """A file of a bundle, if it is the one that it was made with.

    Raises:
      RunError: it is not.
    """
    path = folder / name
    _refuse_link(path)
    try:
        data = files.read_bytes(path, MAX_MB)
    except OSError as error:
        known = str(facts["files"][name])[:64]
        raise RunError(
            f"{path}: cannot be read ({error.strerror or error}); it had sha256 {known}: get it again"
        ) from error
    met = hashlib.sha256(data).hexdigest()
    if facts["files"][name] != met:
        raise RunError(
            f"{path}: was altered: sha256 {str(facts['files'][name])[:64]} when it was made, {met} now; get it again"
        )
    return data


def _refuse_link(path: pathlib.Path) -> None:
    """Refuses what leads to another place than the bundle's folder."""
    if path.is_symlink():
        raise RunError(f"{path}: is a link to {os.readlink(path)}; a bundle holds its files itself: copy it there")

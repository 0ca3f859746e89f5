"""The ways to a model that are tried on a data set, in the order in which they are tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from fpclass.common.console import say
from fpclass.config import SHIPPED, Config, apply_overrides, base_config, given_keys
from fpclass.data.recognise import Recognised, recognise
from fpclass.errors import ConfigError
from fpclass.experiment import load_configs
from fpclass.experiment.propose import (
    FROM_SCRATCH,
    PRETRAINED,
    WEIGHTS,
    Short,
    are_many,
    as_flags,
    as_they_are,
    name_of,
    network_for,
    pooled,
)
from fpclass.models.pretrained import source
from fpclass.models.pretrained.manifest import MANIFEST
from fpclass.models.probe import PROBE
from fpclass.train.task import build_network, check_network

CUT = f"{SHIPPED}/transfer/cut_and_tuned.py"
TUNED = f"{SHIPPED}/transfer/tuned_probe.py"
TUNED_MANY = f"{SHIPPED}/transfer/tuned_many.py"
LARGER = 1.25
"""A larger size than the weights' own is tried where images have so many times its pixels to a side."""
FOLDS_OF_MANY = 3
"""Folds of so many images, as there are enough to judge by in each."""
SMALLER = 0.625
"""Of the side of images that a probe sees, where many are trained on, for 0.4 of the time (CIFAR-10: 80 of 128)."""
AVERAGING = "logits"
"""How ways are averaged: what they say of an image are looks at the same thing, whose log-odds add up. Beside the mean
of probabilities, of two probes out of fold: log loss 0.025 and 0.028 (photographs), 0.451 and 0.463 (flowers), the same
on prints."""


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to a model: a config file and what is set in it, by key; `about` is for a table.

    Attributes:
      freezes: whether the first half of the stages that a probe reads is frozen, whatever they are called.
    """

    name: str
    file: str
    values: dict[str, Any]
    about: str
    freezes: bool = False


@dataclasses.dataclass(frozen=True)
class Portfolio:
    """What is tried.

    Attributes:
      ways: the quickest first.
      flags: of the config, for all of them: where the images are, and what was given.
      name: of the data set.
      lines: what to say of it.
      num_to_predict: images without a label.
      is_of_many: whether there are so many labelled images that training pays more than another look.
    """

    ways: tuple[Way, ...]
    flags: list[str]
    name: str
    lines: tuple[str, ...]
    num_to_predict: int
    is_of_many: bool


def make_portfolio(overrides: Sequence[str], short: Short) -> Portfolio:
    """Chooses the ways that suit a folder of images; what was given on the command line holds for all of them.

    Raises:
      ConfigError, DataError: as `recognise`; an unknown model; no folder of images.
      WeightsError: a named set of weights cannot be had.
    """
    given = [*short.overrides(), *overrides]
    if "data.root" not in given_keys(given):
        raise ConfigError("which images? give their folder: a folder per class, or a CSV with its images")
    config = apply_overrides(base_config(), given, {})
    found = recognise(config.data, {key.removeprefix("data.") for key in given_keys(given)})
    of_data = {f"data.{key}": value for key, value in found.keys.items() if f"data.{key}" not in given_keys(given)}
    is_sized, is_of_many = "data.image_size" in given_keys(given), are_many(found)
    first, lines = _first(short.model, config.model.weights, found, config.data.image_size if is_sized else ())
    ways, is_named = [first], bool(short.model) or bool({"model.name", "model.weights"} & given_keys(given))
    if first.file == PRETRAINED:
        ways += [] if is_named else _other_weights(first, found)
        is_known = first.values["model.weights"] == WEIGHTS  # whose stages configs name
        ways += [] if is_of_many and is_known else _second_looks(first, found, set(given_keys(given)))
        if is_known:
            ways.append(_of_many(first, is_sized=is_sized) if is_of_many else _cut(first))
        ways.append(Way("tuned_probe", TUNED, first.values, "trained on from the probe", freezes=True))
    if first.name != "scratch" and not is_named:
        ways.append(Way("scratch", FROM_SCRATCH, as_they_are(found), "a small network from random weights"))
    if first.name == "scratch" and not is_named:
        ways = [_of_random_weights(first), first, _wide(first)]
    of_all = {**of_data, "predict.averaging": AVERAGING, **pooled(config.data, found)}
    lines = (found.found, *(f"note: {note}" for note in found.notes), *lines)
    flags = [*as_flags({key: value for key, value in of_all.items() if key not in given_keys(given)}), *given]
    return Portfolio(tuple(ways), flags, name_of(config.data.root), lines, found.num_to_predict, is_of_many)


def load_ways(portfolio: Portfolio) -> dict[str, Config]:
    """The configs of the ways by name, without those that the network of their way does not take.

    Raises:
      ConfigError: the first way cannot be had like that, or a key is read by none of them.
    """
    ways = portfolio.ways
    named = [as_flags(way.values | {"name": way.name}) for way in ways]
    configs = load_configs([way.file for way in ways], portfolio.flags, named)
    fitting: dict[str, Config] = {}
    for way, config in zip(ways, configs, strict=True):
        try:
            config = _frozen(config) if way.freezes else config
            check_network(config)
        except ConfigError as error:
            if way is ways[0]:
                raise
            say(f"{way.name} is none here: {error}")
            continue
        fitting[way.name] = config
    return fitting


def _frozen(config: Config) -> Config:
    """The same config with a probe of all stages but the first that one reads, and all frozen through the next."""
    if config.model.head != PROBE:
        raise ConfigError(f"model.head is {config.model.head!r}, and it is trained on from a probe")
    frozen: Any = ConfigDict(config.to_dict())
    frozen.model.probe_stages = ()
    network: Any = build_network(frozen.lock(), 2)
    _, *read = network.head.stages
    with frozen.unlocked():
        frozen.model.probe_stages = tuple(read)
        frozen.finetune.freeze_before = network.stage_names[network.stage_names.index(read[0]) + 1]
    return frozen


def _first(model: str, weights: str, found: Recognised, size: Sequence[int]) -> tuple[Way, tuple[str, ...]]:
    """The quickest way, and what to say of it."""
    file, values, why = network_for(model, weights, found, size)
    if file == PRETRAINED:
        return _probe("probe", values), why
    return Way("scratch", file, values, "a small network from random weights"), why


def _probe(name: str, values: dict[str, Any]) -> Way:
    """The probe that `network_for` proposes, but for what a single run submits: a study has an ensemble."""
    of_study = {key: value for key, value in values.items() if key != "submit.refit"}
    return Way(name, PRETRAINED, of_study, f"probe of {values['model.weights']}")


def _other_weights(first: Way, found: Recognised) -> list[Way]:
    """Probes on the other sets of weights that lie in the cache and that anybody may use."""
    return [
        _probe(f"probe_{name}", network_for(name, "", found)[1])
        for name, entry in MANIFEST.items()
        if name != first.values["model.weights"] and entry.is_commercial and source.in_cache(entry) is not None
    ]


def _second_looks(first: Way, found: Recognised, given: set[str]) -> list[Way]:
    """Probes of the same network that see the images otherwise, for an ensemble with the first; seconds each."""
    looks = [] if "data.image_size" in given else _larger(first, found)
    return [*looks, _of_centre(first)] if found.is_colour and "data.crop" not in given else looks


def _larger(first: Way, found: Recognised) -> list[Way]:
    """The first way at a size above the weights' own, where images are that large.

    Source: Touvron et al., Fixing the train-test resolution discrepancy, NeurIPS 2019: networks are better a size
    above that of their training.
    """
    entry = MANIFEST.get(first.values["model.weights"])
    if entry is None or first.values["data.image_size"] != entry.image_size:
        return []
    size = tuple(round(LARGER * side / 32) * 32 for side in entry.image_size)
    if min(found.image_size) < min(size):
        return []
    return [_at(size, dataclasses.replace(first, name="probe_larger"))]


def _at(size: tuple[int, ...], way: Way) -> Way:
    """The same way on images of another size, which its line in a table says."""
    about = f"{way.about} at {size[0]} x {size[1]} pixels"
    return dataclasses.replace(way, values=way.values | {"data.image_size": size}, about=about)


def _of_centre(first: Way) -> Way:
    """The first way on the middle of the images, which it sees larger: a second look, for an ensemble with the first.

    What a photograph is of mostly lies there, at a scale that differs from that of the images the weights know. A grey
    scan is of what fills it, whose size and outline would be cut off (docs/results.md).
    """
    return Way("probe_centre", PRETRAINED, first.values | {"data.crop": "centre"}, f"{first.about} on their middle")


def _cut(first: Way) -> Way:
    return Way("cut_and_tuned", CUT, first.values, "its first stages, and those before their end tuned")


def _of_many(first: Way, *, is_sized: bool) -> Way:
    """Two epochs of nearly all of the network, on smaller images: what they lose is learnt from so many."""
    way = Way("tuned_many", TUNED_MANY, first.values, "all but its first stages tuned, two epochs")
    size = tuple(max(round(SMALLER * side / 16) * 16, 32) for side in first.values["data.image_size"])
    return way if is_sized else _at(size, way)


def _of_random_weights(first: Way) -> Way:
    """An answer within seconds where there are no pretrained weights, and something for trained networks to beat.

    Source: Saxe et al., On Random Weights and Unsupervised Feature Learning, ICML 2011: what a convolutional network
    computes tells much before it has learnt anything.
    """
    values = first.values | {"model.head": PROBE, "model.probe_pooling": "both", "predict.flip": True}
    return Way("random_probe", first.file, values, "probe of the same small network, its weights left random")


def _wide(first: Way) -> Way:
    values = first.values | {"model.conv_features": (32, 64, 128, 256)}
    return Way("scratch_wide", first.file, values, "the same with twice the channels")

"""All checks of one way of making maps, image by image: what `summary` puts intervals to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fpclass.explain.checks.maps import BATCH_SIZE, Function, in_batches, is_blank, moved, rank_correlation
from fpclass.explain.checks.objects import share_on
from fpclass.explain.checks.randomise import Cascade, cascade
from fpclass.explain.checks.removal import Curves, removal_curves

Masks = Mapping[str, Bool[np.ndarray, "n h w"]]
"""Where a part of the object is in each image, by the part's name; empty where it cannot be told."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained network and the images that its maps are checked on.

    Attributes:
      score: probability [n] of classes, of normalised images and classes.
      variables: of the network.
      stages: of the network, that have weights, in the order of the data flow.
      randomise: variables of which some stages are random, by their names and the number of the draw: `Randomiser`.
      images: normalised.
      classes: that the maps are about.
      noise: standard deviation of what is added to see whether maps are stable, in units of normalised images: one
        number, or one per channel.
      masks: of these images.
    """

    score: Function
    variables: dict[str, Any]
    stages: Sequence[str]
    randomise: Callable[[Sequence[str], int], dict[str, Any]]
    images: Float[np.ndarray, "n h w c"]
    classes: Int[np.ndarray, " n"]
    noise: float | Sequence[float]
    masks: Masks
    seed: int = 0
    batch_size: int = BATCH_SIZE


@dataclasses.dataclass(frozen=True)
class Checked:
    """What the checks found, by image.

    Attributes:
      size: (height, width) of the maps.
      blank: whether a map is the same everywhere.
      curves, random: of the maps, and of the maps moved to a random place.
      cascade: None for maps that no network makes.
      stability: rank correlation with the map of the image with a little noise.
      on: share of the map on each part, and the part's share of the image; nan where either is not defined.
    """

    size: tuple[int, int]
    blank: Bool[np.ndarray, " n"]
    curves: Curves
    random: Curves
    cascade: Cascade | None
    stability: Float[np.ndarray, " n"]
    on: Mapping[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]


def check_maps(make_maps: Callable[..., Any], subject: Subject, *, needs_network: bool = True) -> Checked:
    """Does every check of a way of making maps.

    Args:
      make_maps: raw maps, of variables, normalised images and a class of each.
      needs_network: whether the variables have any influence on the maps; else there is no cascade.
    """
    images, classes, seed, size = subject.images, subject.classes, subject.seed, subject.batch_size
    compute = in_batches(lambda x, k: make_maps(subject.variables, x, k), size)
    raw = compute(images, classes)
    maps = np.nan_to_num(raw)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(images.shape, np.float32) * np.asarray(subject.noise, np.float32)
    options: Any = {"seed": seed, "batch_size": size}
    return Checked(
        size=maps.shape[1:],
        blank=is_blank(raw),
        curves=removal_curves(subject.score, images, classes, maps, **options),
        random=removal_curves(subject.score, images, classes, moved(maps, seed), **options),
        cascade=cascade(
            make_maps, subject.variables, subject.stages, subject.randomise, images, classes, batch_size=size
        )
        if needs_network
        else None,
        stability=rank_correlation(maps, np.nan_to_num(compute(images + noise, classes))),
        on={name: share_on(maps, masks) for name, masks in subject.masks.items()},
    )


def joined(parts: Sequence[Checked]) -> Checked:
    """What the same checks found of several sets of images, as by the members of several folds."""
    if len(parts) == 1:
        return parts[0]
    cascades = [part.cascade for part in parts if part.cascade]
    return Checked(
        size=parts[0].size,
        blank=np.concatenate([part.blank for part in parts]),
        curves=_joined_curves([part.curves for part in parts]),
        random=_joined_curves([part.random for part in parts]),
        cascade=Cascade(
            cascades[0].stages,
            np.concatenate([of.correlations for of in cascades], axis=1),
            np.concatenate([of.blank for of in cascades], axis=1),
        )
        if cascades
        else None,
        stability=np.concatenate([part.stability for part in parts]),
        on={name: _joined_shares([part.on[name] for part in parts]) for name in parts[0].on},
    )


def _joined_curves(parts: Sequence[Curves]) -> Curves:
    deletion, insertion = ([getattr(part, name) for part in parts] for name in ("deletion", "insertion"))
    return Curves(np.concatenate(deletion), np.concatenate(insertion))


def _joined_shares(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    shares, areas = zip(*parts, strict=True)
    return np.concatenate(shares), np.concatenate(areas)

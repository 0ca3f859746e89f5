"""The labelled images that predictions are judged on: their classes, whom they belong to, and their folds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int

from fpclass.errors import DataError
from fpclass.stats.metrics import Labels, Logits, check_predictions

ALONE = "image "
"""What the name of a group begins with that is no person's: images that belong to nobody, tied as copies or alone."""
Folds = Int[np.ndarray, " n"]
"""Fold of each image, in [0, F); every fold has images."""
Rows = Bool[np.ndarray, " n"] | slice
Fitted = TypeVar("Fitted")


class Cohort:
    """Labelled images, the groups that are drawn as a whole, and the folds of a cross-validation.

    Attributes:
      labels: class index of each image [N], in [0, K).
      groups: number of each image's group, mostly a person, [N]: 0, 1, … in order of appearance.
      folds: fold of each image [N]; a group is in one only. All 0 without cross-validation.
      class_names: name of each class; () where no result names them.
    """

    def __init__(
        self,
        labels: Labels,
        groups: Sequence[Hashable] | np.ndarray | None = None,
        folds: Folds | None = None,
        class_names: Sequence[str] = (),
    ):
        """Numbers the groups and checks that all are about the same images.

        Args:
          labels: class index of each image [N].
          groups: the group of each image [N]; "", None and nan make the image a group of its own, as does no argument.
          folds: fold of each image [N], numbered 0, 1, …
          class_names: distinct.

        Raises:
          ValueError: there are not as many groups or folds as labels, or folds are not numbered without a gap.
        """
        self.labels = np.asarray(labels)
        self.groups = np.arange(len(self.labels)) if groups is None else group_codes(groups)
        self._has_people = any(not str(group).startswith(ALONE) for group in ([] if groups is None else groups))
        self.folds = np.zeros(len(self.labels), np.int64) if folds is None else np.asarray(folds)
        self.class_names = tuple(class_names)
        self._memory: dict[Hashable, np.ndarray] = {}
        if len(self.groups) != len(self.labels):
            raise ValueError(f"{len(self.groups)} groups for {len(self.labels)} images")
        if self.folds.shape != self.labels.shape:
            raise ValueError(f"folds of shape {self.folds.shape} for {len(self.labels)} images")
        if self.folds.min(initial=0) < 0 or not np.bincount(self.folds).all():
            raise ValueError(f"folds {sorted(set(self.folds.tolist()))} are not numbered 0, 1, … without a gap")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_groups(self) -> int:
        """How many groups there are."""
        return int(self.groups.max(initial=-1)) + 1

    @property
    def num_folds(self) -> int:
        """How many folds there are, 1 without cross-validation."""
        return int(self.folds.max(initial=-1)) + 1

    def effective_groups(self, rows: Rows = slice(None)) -> float:
        """How many groups with as many images each would tell as much, of some of the images: (sum m)^2 / sum m^2.

        At most their number; 0 without images. Source: Kish, Survey Sampling (1965), section 8.2.
        """
        counts = np.bincount(self.groups[rows])
        return float(counts.sum() ** 2 / (counts.astype(float) ** 2).sum()) if len(counts) else 0.0

    @functools.cached_property
    def class_of_groups(self) -> Int[np.ndarray, " g"] | None:
        """The class of every group [G]; None where the images of a group are of several classes."""
        of_groups = np.empty(self.num_groups, np.int64)
        of_groups[self.groups] = self.labels
        return of_groups if (of_groups[self.groups] == self.labels).all() else None

    @property
    def groups_are(self) -> str:
        """What a group is: "people", "images" where each is a group of its own, or "independent images".

        The last where only copies of an image are tied, and no group is a person's (`ALONE`).
        """
        if self.num_groups == len(self):
            return "images"
        return "people" if self._has_people else "independent images"

    @property
    def group_is(self) -> str:
        """The word for one group: "person" or "image"."""
        return "person" if self.groups_are == "people" else "image"

    def take(self, rows: np.ndarray) -> Cohort:
        """Some of the images, without folds."""
        return self._with_names(Cohort(self.labels[rows], self.groups[rows], None, self.class_names))

    def with_folds(self, folds: Folds) -> Cohort:
        """The same images in other folds."""
        other = self._with_names(Cohort(self.labels, self.groups, folds, self.class_names))
        other._memory = self._memory
        return other

    def remembered(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What `make` gives for these labels and groups; made once, and kept for as long as the cohort."""
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def _with_names(self, other: Cohort) -> Cohort:
        """The other one, made of this one's numbers, knows what its groups were called."""
        other._has_people = self._has_people
        return other

    def check(self, logits: Logits) -> Logits:
        """The logits as float64; DataError as `check_predictions`."""
        return check_predictions(logits, self.labels, self.class_names or None)[0]

    def check_folds(self) -> None:
        """Raises DataError where there are fewer than two folds, which cross-fitting needs."""
        if self.num_folds < 2:
            raise DataError(
                f"folds: {self.num_folds} different ones for {len(self)} images; cross-fitting needs the fold of every "
                "image and at least two folds; raise the number of folds"
            )

    def cross_fit(
        self, fit: Callable[[Rows], Fitted], apply: Callable[[Fitted, Rows], np.ndarray], out: np.ndarray
    ) -> tuple[np.ndarray, dict[int, Fitted], Fitted]:
        """Fits for each fold on the images of the others, and applies that to its own images, into `out` [N, ...].

        Returns:
          The values [N, ...]; what each fold got; and what all images together give, which is for new ones.

        Raises:
          DataError: there are not two folds.
        """
        self.check_folds()
        by_fold = {}
        for fold in range(self.num_folds):
            is_inside = self.folds == fold
            by_fold[fold] = fit(~is_inside)
            out[is_inside] = apply(by_fold[fold], is_inside)
        return out, by_fold, fit(slice(None))


def group_codes(groups: Sequence[Hashable] | np.ndarray) -> Int[np.ndarray, " n"]:
    """Numbers the groups 0, 1, … in order of appearance; "", None and nan make a group of one image each."""
    codes: dict[Hashable, int] = {}
    result = []
    for position, group in enumerate(groups.tolist() if isinstance(groups, np.ndarray) else groups):
        is_unknown = group is None or group == "" or group != group
        key = (position,) if is_unknown else (None, group)
        result.append(codes.setdefault(key, len(codes)))
    return np.array(result, np.int64)

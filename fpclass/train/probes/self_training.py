"""Self-training of probes: fitted to labelled images, they label others where they are sure, and are fitted to both.

How sure a probe is says a temperature that is fitted to its own predictions out of fold, those of the inner
cross-validation that chose its strength. Labels that were made up train, and never judge. But who makes them up has
learnt from all labelled images: of these, the second probe's predictions out of fold are a little too good.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fpclass.experiment.unlabelled import IMAGES, WEIGHTED
from fpclass.models.network import Network
from fpclass.models.probe import widths
from fpclass.stats.cohort import group_codes
from fpclass.stats.evidence.pooling import labels_of_people, mean_of_people
from fpclass.stats.metrics import log_softmax
from fpclass.stats.probabilities.calibration import fit_temperature
from fpclass.train.probes.fit import Probe, fit_probe, logits_of


@dataclasses.dataclass(frozen=True)
class MadeUp:
    """Labels that a probe made up.

    Attributes:
      rows: of the images that have one; each as often as there are classes where these are weighted.
      labels, weights: of each of them.
      num_images: how many images these are.
    """

    rows: Int[np.ndarray, " m"]
    labels: Int[np.ndarray, " m"]
    weights: Float[np.ndarray, " m"]
    num_images: int


@dataclasses.dataclass(frozen=True)
class ProbeData:
    """What probes are fitted to, of images with a label and without.

    Attributes:
      network: whose head is a `ProbeHead`.
      features: what it reads of every image.
      labels: class of each; of one without a label anything.
      groups: what the inner cross-validation must not divide, by name.
      people: of whom each is, by name; "" of nobody known. A person has labelled images of one class.
      copies: whether it is an augmented copy, of which nothing new is a copy: they train, and calibrate nothing.
      class_weights: weight of an image in the loss, by its class.
      sublabels: subclass of each, where these are learnt; then no labels can be made up.
    """

    network: Network
    features: Float[np.ndarray, "N d"]
    labels: Int[np.ndarray, " N"]
    groups: np.ndarray
    people: np.ndarray
    copies: Bool[np.ndarray, " N"]
    class_weights: Float[np.ndarray, " K"]
    sublabels: Int[np.ndarray, " N"] | None = None

    def fit(self, known: Int[np.ndarray, " n"], seed: str, made_up: MadeUp | None = None) -> Probe:
        """Fits a probe to some labelled rows, and to labels that were made up of others, which judge nothing.

        Raises:
          DataError: as `fit_probe`.
        """
        parts = [(known, self.labels[known], np.ones(len(known)))]
        parts += [(made_up.rows, made_up.labels, made_up.weights)] if made_up else []
        rows, labels, weights = (np.concatenate(of_parts) for of_parts in zip(*parts, strict=True))
        return fit_probe(
            self._head,
            self.features[rows],
            labels,
            self.groups[rows],
            seed=seed,
            widths=widths(self.network),
            weights=weights * self.class_weights[labels],
            sublabels=None if self.sublabels is None else self.sublabels[rows],
            trusted=np.arange(len(rows)) < len(known),
        )

    def logits(self, probe: Probe, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n K"]:
        """Logits of some rows, float32."""
        return logits_of(self._head, probe.params, self.features[rows])

    def make_up(
        self, probe: Probe, known: Int[np.ndarray, " n"], unknown: Int[np.ndarray, " m"], way: str, least: float
    ) -> MadeUp:
        """The labels that a probe, fitted to the rows `known`, gives to rows without one.

        Args:
          way: one of `experiment.unlabelled.WAYS`.
          least: confidence from which on a label is believed, in [0, 1); not of `WEIGHTED`.
        """
        p = self._probabilities(probe, known, unknown, by_person=way != IMAGES)
        if way == WEIGHTED:
            rows, labels = np.repeat(unknown, p.shape[1]), np.tile(np.arange(p.shape[1]), len(p))
            return MadeUp(rows, labels, p.ravel(), len(p))
        sure = p.max(axis=1) >= least
        num_images = int(sure.sum())
        return MadeUp(unknown[sure], p.argmax(axis=1)[sure], np.ones(num_images), num_images)

    @property
    def _head(self) -> Any:
        return self.network.head

    def _probabilities(
        self, probe: Probe, known: Int[np.ndarray, " n"], rows: Int[np.ndarray, " m"], *, by_person: bool
    ) -> Float[np.ndarray, "m K"]:
        """Calibrated on the labelled rows out of fold; by person, all images of one have the same."""
        judged = known[probe.inner]
        inner, of_rows = (x.astype(np.float64) for x in (probe.inner_logits, self.logits(probe, rows)))
        inner, judged = inner[~self.copies[judged]], judged[~self.copies[judged]]
        labels = self.labels[judged]
        if by_person:
            of_rows, people = of_people(of_rows, self.people[rows])
            of_rows = of_rows[people]
        if by_person and len(judged):
            inner, people = of_people(inner, self.people[judged])
            labels = labels_of_people(labels, people)
            assert labels is not None
        temperature = fit_temperature(log_softmax(inner), labels) if len(judged) else 1.0
        return np.exp(log_softmax(log_softmax(of_rows) / temperature))


def of_people(logits: Float[np.ndarray, "n K"], people: np.ndarray) -> tuple[Float[np.ndarray, "g K"], np.ndarray]:
    """Mean log-probabilities of each person, in order of appearance, and the person of each image by number."""
    codes = group_codes(people)
    return mean_of_people(logits, codes)[0], codes

"""What is served: a run, a study or a bundle, opened once, with what its users are told about it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fpclass import __version__
from fpclass.config import Config
from fpclass.data.decode import decode_and_describe
from fpclass.data.quality import ImageRange, Note, notes_of
from fpclass.deploy.bundle import DIGEST, Bundle
from fpclass.deploy.card import model_card
from fpclass.deploy.source import open_source, predictor_of
from fpclass.deploy.write import describe, metrics_of
from fpclass.run.predictor import DecodedImage, Predictor
from fpclass.stats.decisions.promises import BETWEEN
from fpclass.train.trained import TrainedNetwork, size_of

VERSION_LETTERS = 12
"""Of the digest that tells one model from another."""


@dataclasses.dataclass(frozen=True)
class NewPicture:
    """An image of a request: decoded, with what stands out in it."""

    image: DecodedImage
    notes: tuple[Note, ...]
    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Served:
    """A model that answers.

    Attributes:
      name: of its config.
      version: changes with every change of its weights or of its calibration.
      kind: run, study or bundle.
      metrics: how good it is, with intervals, and on which images.
      training: the images that it learnt from; None where that is not known.
      card: what it is for and what it was measured at, Markdown.
    """

    predictor: Predictor
    name: str
    version: str
    kind: str
    metrics: Mapping[str, Any]
    training: ImageRange | None
    card: str

    @property
    def config(self) -> Config:
        """What it was trained with; of a study that of its baseline."""
        return self.predictor.config

    def look_at(self, data: bytes, max_pixels: int) -> NewPicture:
        """Decodes an image file, once for each size that a network takes, and says what stands out.

        Raises:
          DecodeError: it cannot be decoded, or has more pixels than `max_pixels`.
        """
        decoded = {decoding: decode_and_describe(data, decoding, max_pixels) for decoding in self.predictor.decodings}
        first = self.predictor.decodings[0]
        facts = decoded[first].facts
        notes = notes_of(facts, first, self.training)
        return NewPicture(DecodedImage({key: one.image for key, one in decoded.items()}), tuple(notes), facts)

    def predict(self, pictures: Sequence[NewPicture], people: Sequence[int], batch: int) -> list[dict[str, Any]]:
        """The answers for pictures, as JSON; `people` tells whose they are where the images of a person are pooled."""
        whose = None if self.predictor.pooling.method == "none" else np.array([str(p) for p in people], object)
        names = [str(i) for i in range(len(pictures))]
        columns = self.predictor.predict_columns([picture.image for picture in pictures], names, whose, batch)
        rows = zip(*(np.asarray(values, object).tolist() for values in columns.values()), strict=True)
        named = (dict(zip(columns, row, strict=True)) for row in rows)
        return [self._answer(row, picture) for row, picture in zip(named, pictures, strict=True)]

    def blank(self) -> NewPicture:
        """A picture of zeros, to compile for."""
        pixels = {decoding: np.zeros(decoding.shape, np.uint8) for decoding in self.predictor.decodings}
        return NewPicture(DecodedImage(pixels), (), {})

    def describe(self) -> dict[str, Any]:
        """What GET /model tells."""
        data = self.config.data
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.kind,
            "classes": list(self.predictor.class_names),
            "image_size": list(self.predictor.decodings[0].image_size),
            "channels": data.channels,
            "network": str(self.config.model.name),
            "members": sum(map(len, self.predictor.members.values())),
            "probabilities": self.predictor.words,
            "metrics": dict(self.metrics),
            "training_images": self.training.to_json() if self.training else None,
            "fpclass": __version__,
        }

    def _answer(self, row: Mapping[str, Any], picture: NewPicture) -> dict[str, Any]:
        codes, names = self.predictor.classes, self.predictor.class_names
        by_code = dict(zip(codes, names, strict=True))
        each = {name: float(row[f"probability_{code}"]) for code, name in by_code.items()}
        because = [note.text for note in picture.notes if note.is_unlike]
        if row.get("abstain") == "yes":
            because.insert(0, "not sure enough to decide")
        answer = {
            "label": row["name"],
            "probability": each[row["name"]],
            "probabilities": each,
            "abstain": bool(because),
            "abstain_because": because,
            "notes": [dataclasses.asdict(note) for note in picture.notes],
            "calibration": row["calibration"],
            "decision": row["decision"],
        }
        if "set" in row:
            answer["set"] = [by_code[code] for code in str(row["set"]).split(BETWEEN) if code]
        return answer


def open_served(folder: pathlib.Path) -> Served:
    """Opens a run, a study or a bundle for serving, with all of its weights.

    Raises:
      FpclassError: it is none of them, is not finished, or a file of it is missing or damaged.
    """
    source = open_source(folder)
    predictor = predictor_of(source)
    if isinstance(source, Bundle):
        facts, metrics, card, version = source.facts, source.metrics, source.card, source.facts[DIGEST]
    else:
        facts, metrics = describe(source, predictor), metrics_of(source)
        networks = [network for of_config in predictor.members.values() for network in of_config]
        card = model_card(facts, metrics, sum(size_of(network.variables) for network in networks))
        version = _digest_of(facts, networks)
    training = facts.get("training_images")
    return Served(
        predictor=predictor,
        name=str(facts["name"]),
        version=version[:VERSION_LETTERS],
        kind="bundle" if isinstance(source, Bundle) else facts["kind"],
        metrics={key: metrics.get(key) for key in ("images", "scores", "num_images", "interval", "test")},
        training=ImageRange.from_json(training) if training else None,
        card=card,
    )


def _digest_of(facts: Mapping[str, Any], networks: Sequence[TrainedNetwork]) -> str:
    """What tells a model from any other: a SHA-256 of its description and of all its weights."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for network in networks:
        for leaf in jax.tree.leaves(network.variables):
            digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()

"""What is served: a run or a study, opened once, with what its users are told about it."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fpclass import __version__, files
from fpclass.config import Config
from fpclass.data.decode import decode_and_describe
from fpclass.data.quality import ImageRange, Note, notes_of
from fpclass.errors import RunError
from fpclass.run.folder import Run
from fpclass.run.predictor import DecodedImage, Predictor, predictor_of_run
from fpclass.stats.decisions.promises import BETWEEN

VERSION_LETTERS = 12
"""Of the digest that tells one model from another."""
TABLE_COLUMNS = ("width", "height", "mean", "std")


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
      metrics: what is known of how good it is, for people, by what it was judged on.
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
        frame = self.predictor.predict([picture.image for picture in pictures], names, whose, batch)
        rows = frame.to_dict("records")
        return [self._answer(row, picture) for row, picture in zip(rows, pictures, strict=True)]

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
            "image_size": list(data.image_size),
            "channels": data.channels,
            "network": str(self.config.model.name),
            "weights": str(self.config.model.weights),
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
    """Opens a run or a study for serving.

    Raises:
      FpclassError: it is neither, is not finished, or a file of it is missing or damaged.
    """
    if (folder / "study.json").is_file():
        return _of_study(folder)
    run = Run.open(folder)
    predictor = predictor_of_run(run)
    metrics = _metrics_of_run(run)
    training = _range_of(run)
    version = digest_of([run.path("checkpoints/best"), run.path("calibration.json"), run.path("config.json")])
    name = str(run.config.name)
    return Served(predictor, name, version, "run", metrics, training, _card(name, predictor, metrics, training))


def _of_study(folder: pathlib.Path) -> Served:
    from fpclass.study.study import Study
    from fpclass.study.trained.ensemble import predictor_of_study

    study = Study.open(folder)
    predictor = predictor_of_study(study)
    results = files.read_object(folder / "results.json", ensemble=dict)
    metrics = {"out of fold": _plain(results["ensemble"].get("scores", {}))}
    members = [best.run.path("checkpoints/best") for bests in predictor.members.values() for best in bests]
    version = digest_of([*members, study.path("ensemble.json")])
    training = _range_of(Run(folder, predictor.config))
    card = _card(folder.name, predictor, metrics, training)
    return Served(predictor, folder.name, version, "study", metrics, training, card)


def digest_of(paths: Iterable[pathlib.Path]) -> str:
    """The first letters of a SHA-256 of files, and of all files in folders, which have to be there to count."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.name.encode())
                with file.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:VERSION_LETTERS]


def _metrics_of_run(run: Run) -> dict[str, Any]:
    """Scores of a run with their intervals; none of a network that learnt from all labelled images."""
    if not run.path("metrics.json").is_file():
        return {}
    scores = files.read_object(run.path("metrics.json"))
    return {role: _plain(scores[role]) for role in ("validation", "test") if isinstance(scores.get(role), dict)}


def _plain(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Of the scores on some images those that are a value with an interval, and what they are about."""
    shown = {name: value for name, value in scores.items() if isinstance(value, dict) and "low" in value}
    return shown | {name: scores[name] for name in ("num_images", "num_groups", "interval") if name in scores}


def _range_of(run: Run) -> ImageRange | None:
    if not run.path("table.csv").is_file():
        return None
    try:
        rows = run.read_csv("table.csv", ("label", *TABLE_COLUMNS))
    except RunError:
        return None
    return ImageRange.of_rows(rows[~rows["label"].str.startswith("-")])  # -1 and -2: without a class


def _card(name: str, predictor: Predictor, metrics: Mapping[str, Any], training: ImageRange | None) -> str:
    """The model in words."""
    lines = [f"# {name}", "", f"Tells {', '.join(predictor.class_names)} apart. {predictor.words}."]
    for judged_on, scores in metrics.items():
        accuracy = scores.get("accuracy")
        if isinstance(accuracy, dict) and {"value", "low", "high"} <= accuracy.keys():
            value = f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
            lines += ["", f"Accuracy ({judged_on}): {value}."]
    if training:
        lines += ["", f"It learnt from {training.num_images} images; of others like them it knows nothing."]
    return "\n".join(lines)

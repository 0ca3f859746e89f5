"""Writes a bundle of a run, of a study's ensemble, or of the network that it was distilled into."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
from typing import Any

from fpclass.common import files
from fpclass.config import folder_format
from fpclass.data.quality import ImageRange
from fpclass.data.splits import TEST, VALIDATION
from fpclass.deploy.bundle import BUNDLE, CARD, DIGEST, FORMAT, METRICS, WEIGHTS, Bundle, digest_of, is_bundle, portable
from fpclass.deploy.card import model_card
from fpclass.deploy.source import Source, predictor_of
from fpclass.deploy.weights import pack
from fpclass.errors import RunError
from fpclass.models.pretrained.manifest import MANIFEST
from fpclass.run.folder import Run
from fpclass.run.predictor import Predictor
from fpclass.run.prepare import read_described
from fpclass.run.refit import NOTE
from fpclass.run.warnings import transductive_mark_of
from fpclass.study.distil.distil import Distilled
from fpclass.study.study import Study

PIECES = ("shortcuts.json", "robustness.json", "map_checks.json", "map_agreement.json")
"""Files of the commands that judge a model, each with a piece for the report: what the card says of limits."""
Written = Run | Study | Distilled
"""What a bundle is made of."""


def write_bundle(source: Source | Distilled, output: pathlib.Path) -> Bundle:
    """Writes a bundle into a folder, whole or not at all; one that is there is replaced.

    Raises:
      RunError: the source is a bundle, its files are missing or damaged; or something else is in the folder.
      ConfigError: a network of the user's own.
    """
    if isinstance(source, Bundle):
        raise RunError(f"{source.folder}: is a bundle already; copy the folder")
    check_output(output)
    predictor = source.predictor() if isinstance(source, Distilled) else predictor_of(source)
    facts = describe(source, predictor)
    metrics = metrics_of(source)
    weights = pack({name: [network.variables for network in of] for name, of in predictor.members.items()})
    try:
        with files.replacing_folder(output) as folder:
            (folder / WEIGHTS).write_bytes(weights)
            files.write_json(folder / METRICS, metrics)
            files.write_text(folder / CARD, model_card(facts, metrics, len(weights)))
            facts["files"] = {
                name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (WEIGHTS, METRICS, CARD)
            }
            files.write_json(folder / BUNDLE, facts | {DIGEST: digest_of(facts)})
            if is_bundle(output):
                shutil.rmtree(output)
    except OSError as error:
        raise RunError(f"{output}: cannot write ({error.strerror or error}); free space, or choose another") from error
    return Bundle.open(output)


def check_output(output: pathlib.Path) -> None:
    """Raises RunError where something else than a bundle is in a folder."""
    if output.exists() and not is_bundle(output) and (not output.is_dir() or any(output.iterdir())):
        raise RunError(f"{output}: is there, and no bundle; choose another --output")


def describe(source: Written, predictor: Predictor) -> dict[str, Any]:
    """What bundle.json holds, without the digests."""
    distilled = source.record if isinstance(source, Distilled) else None
    whole = source.study if isinstance(source, Distilled) else source
    study = whole if isinstance(whole, Study) else None
    described = read_described(study.path("ensemble.json") if study else source.path("model.json"))
    configs = {name: members[0].config for name, members in predictor.members.items()}
    environment = files.read_object(source.path("environment.json"), data_sha256=str)
    name = study.folder.resolve().name if study else predictor.config.name
    return {
        "bundle_format": FORMAT,
        **folder_format(),
        "name": f"{name}-distilled" if distilled else name,
        "kind": "study" if study else "run",
        "distilled_from": distilled and distilled["num_members"],
        "trained_on": without_folder(described["trained_on"]),
        "is_synthetic": described["is_synthetic"],
        "classes": list(predictor.classes),
        "class_names": list(predictor.class_names),
        "networks": {
            name: {"members": len(predictor.members[name]), "config": portable(config)}
            for name, config in configs.items()
        },
        "config": portable(predictor.config),
        "combination": predictor.combine.to_json(),
        "rule": predictor.rule.to_json(),
        "pooling": predictor.pooling.to_json(),
        "promises": predictor.promises and predictor.promises.to_json(),
        "words": predictor.words,
        "pretrained": [pretrained(name) for name in sorted({c.model.weights for c in configs.values()} - {""})],
        "training_images": ranges_of(whole),
        "data_sha256": environment["data_sha256"],
        "versions": {"python": environment.get("python"), **environment.get("versions", {})},
        "git_commit": environment.get("git_commit"),
    }


def ranges_of(source: Run | Study) -> dict[str, Any] | None:
    """What images it learnt from, by which those that are unlike them are told; None where that is not known."""
    folder = source if isinstance(source, Run) else Run(source.folder, source.configs[source.baseline])
    if not folder.path("table.csv").is_file():
        return None
    rows = folder.read_csv("table.csv", ("label", "mode", "width", "height", "mean", "std"))
    return ImageRange.of_rows(rows[~rows["label"].str.startswith("-")]).to_json()  # -1, -2: without a class


def pretrained(name: str) -> dict[str, str]:
    """Where weights that training began with are from, and their licence."""
    if name not in MANIFEST:  # a file
        return {"name": pathlib.Path(name).name, "license": "of a file of your own: not known", "terms": "", "url": ""}
    entry = MANIFEST[name]
    return {"name": name, "license": entry.license, "terms": entry.terms, "url": entry.url, "digest": entry.digest}


def without_folder(trained_on: str) -> str:
    """What a table calls its data, without where they were: "folder /home/me/photos" -> "folder photos"."""
    kind, slash, path = trained_on.partition(" /")
    return f"{kind} {pathlib.PurePosixPath(path).name}" if slash else trained_on


def metrics_of(source: Written) -> dict[str, Any]:
    """How good it is, for metrics.json: of which images, scores with intervals, and what was found about its limits."""
    pieces = [files.read_object(source.path(name)) for name in PIECES if source.path(name).is_file()]
    found = {"limits": [piece["report"] for piece in pieces if isinstance(piece.get("report"), dict)]}
    if isinstance(source, Distilled):
        test = source.record["test"]
        about = {"images": "students of the folds", "test": test and _scores(test)}
        shown = {key: source.record[key] for key in ("num_members", "student", "beside", "sentences")}
        of_teachers = files.read_object(source.study.path("results.json")).get("transductive") or {}
        marks = list(dict.fromkeys([*of_teachers.values(), *_marks_of(source.run)]))  # it may be one of them
        return {**about, **_scores(source.record["scores"]), "distilled": shown, "warnings": marks, "limits": []}
    if isinstance(source, Study):
        results = files.read_object(source.path("results.json"), ensemble=dict)
        about = "out-of-fold predictions" if source.num_folds else "validation images"
        test = (results.get("test") or {}).get("ensemble")
        marks = list((results.get("transductive") or {}).values())
        scores = _scores(results["ensemble"]["scores"])
        return {"images": about, **scores, "test": test and _scores(test), "warnings": marks, **found}
    if source.path(NOTE).is_file():
        note = source.path(NOTE).read_text(encoding="utf-8").strip()
        return {"images": "", "note": note, "scores": {}, "test": None, "warnings": _marks_of(source), **found}
    metrics = files.read_object(source.path("metrics.json"), validation=dict)
    test = metrics.get(TEST)
    return {
        "images": "validation images",
        **_scores(metrics[VALIDATION]),
        "test": test and _scores(test),
        "warnings": metrics.get("warnings", []),
        **found,
    }


def _marks_of(run: Run) -> list[str]:
    """What has to be said of a run that has learnt from rows to predict."""
    mark = transductive_mark_of(run)
    return [mark] if mark else []


def _scores(judged: dict[str, Any]) -> dict[str, Any]:
    """Of what was judged: the overall scores, the matrix, and how many images and people they are of."""
    scores = {name: value for name, value in judged.items() if isinstance(value, dict) and "low" in value}
    facts = ("num_images", "num_groups", "interval", "confusion_matrix", "per_class")
    return {"scores": scores, **{name: judged[name] for name in facts if name in judged}}

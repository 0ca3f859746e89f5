"""checklist.md: what a run or study folder answers of TRIPOD+AI and STARD-AI, and what its authors still have to write.

Sources:
  Collins et al., TRIPOD+AI statement, BMJ 385 (2024) e078378: items 1 to 27c, in our own short words.
  Bossuyt et al., STARD 2015, BMJ 351 (2015) h5527, items 1 to 30, and Sounderajah et al., STARD-AI, Nature Medicine 31
    (2025): items have the numbers of STARD 2015; what STARD-AI adds is marked "+AI".
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fpclass.common import files
from fpclass.common.console import program
from fpclass.common.extension import bare
from fpclass.config import Config
from fpclass.errors import RunError
from fpclass.experiment import POOLED, is_trained
from fpclass.report.text_tables import markdown_table
from fpclass.run.folder import Run
from fpclass.stats.intervals import Interval, describe_groups

FILE = "checklist.md"
AUTHORS = "MISSING: only the authors know"
LONG = 50
"""Letters of an answer from which on it is given once, and pointed to from other items."""

TRIPOD: tuple[tuple[str, str, str], ...] = (
    ("1", "title names model, population, outcome", ""),
    ("2", "structured abstract", ""),
    ("3a", "context, and why a model", ""),
    ("3b", "whom it is for, who uses it", ""),
    ("3c", "known inequalities between groups", ""),
    ("4", "objectives: development, evaluation", "objective"),
    ("5a", "sources of the data", "source"),
    ("5b", "dates of the data", ""),
    ("6a", "setting and centres", ""),
    ("6b", "eligibility", "eligibility"),
    ("6c", "treatments", ""),
    ("7", "preparation of the data", "preparation"),
    ("8a", "outcome and how it was assessed", "outcome"),
    ("8b", "who assessed a subjective outcome", ""),
    ("8c", "blinding of the assessment", ""),
    ("9a", "choice of predictors", "predictors"),
    ("9b", "definition of predictors", "predictors"),
    ("9c", "who assessed subjective predictors", ""),
    ("10", "how the sample size came about", "size"),
    ("11", "missing data", "missing"),
    ("12a", "how data were divided", "division"),
    ("12b", "how predictors were handled", "preparation"),
    ("12c", "model, fitting, tuning, internal validation", "model"),
    ("12d", "differences between clusters", "subgroups"),
    ("12e", "measures of performance", "measures"),
    ("12f", "updating of the model", "updating"),
    ("12g", "how predictions are computed", "prediction"),
    ("13", "class imbalance", "imbalance"),
    ("14", "fairness", "subgroups"),
    ("15", "output, and how thresholds were chosen", "thresholds"),
    ("16", "how evaluation data differ from development", "external_data"),
    ("17", "ethical approval", ""),
    ("18a", "funding", ""),
    ("18b", "conflicts of interest", ""),
    ("18c", "protocol", ""),
    ("18d", "registration", ""),
    ("18e", "sharing of data", "data_digest"),
    ("18f", "sharing of code", "code"),
    ("19", "involvement of patients and the public", ""),
    ("20a", "flow of participants", "flow"),
    ("20b", "characteristics", "characteristics"),
    ("20c", "evaluation data beside development data", "external_data"),
    ("21", "participants and outcomes in each analysis", "counts"),
    ("22", "the full model", "weights"),
    ("23a", "performance with intervals, also by subgroup", "performance"),
    ("23b", "heterogeneity of performance", "subgroups"),
    ("24", "results of updating", "updating"),
    ("25", "interpretation", ""),
    ("26", "limitations", "limitations"),
    ("27a", "poor or missing input at use", "use"),
    ("27b", "users and their expertise", ""),
    ("27c", "next steps", ""),
)
"""Number, words, and the fact that answers it; "" where no folder can."""

STARD: tuple[tuple[str, str, str], ...] = (
    ("1", "identified as a study of accuracy", "measures"),
    ("2", "structured abstract", ""),
    ("3", "background, intended use", ""),
    ("4", "objectives and hypotheses", "objective"),
    ("5", "prospective or retrospective", ""),
    ("6", "eligibility", "eligibility"),
    ("7", "how participants were found", ""),
    ("8", "where and when", ""),
    ("9", "consecutive, random or convenience", ""),
    ("10a", "index test, to be repeated", "model"),
    ("+AI", "version of the algorithm, and what runs it", "code"),
    ("+AI", "data: preparation, who is in which part", "division"),
    ("10b", "reference standard", "outcome"),
    ("11", "why this reference standard", ""),
    ("12a", "cut-offs of the index test, fixed before or not", "thresholds"),
    ("12b", "cut-offs of the reference standard", ""),
    ("13a", "whether the index test saw the reference", "blinding"),
    ("13b", "whether the reference saw the index test", ""),
    ("14", "how accuracy is estimated and compared", "measures"),
    ("15", "indeterminate results", "indeterminate"),
    ("16", "missing data", "missing"),
    ("17", "variability of accuracy", "subgroups"),
    ("18", "intended sample size", "size"),
    ("+AI", "bias and fairness", "subgroups"),
    ("19", "flow of participants", "flow"),
    ("20", "characteristics", "characteristics"),
    ("21a", "severity in those with the condition", ""),
    ("21b", "alternative diagnoses", ""),
    ("22", "interval between the tests", ""),
    ("23", "cross tabulation", "cross_table"),
    ("24", "accuracy with intervals", "performance"),
    ("+AI", "performance on data from elsewhere", "external"),
    ("25", "adverse events", ""),
    ("26", "limitations", "limitations"),
    ("27", "implications", ""),
    ("28", "registration", ""),
    ("29", "protocol", ""),
    ("30", "funding", ""),
    ("+AI", "access to code, data, weights", "weights"),
)


def write_checklist(folder: pathlib.Path, facts: Mapping[str, str]) -> pathlib.Path:
    """Writes checklist.md, whose path it returns; facts by the keys of `TRIPOD` and `STARD`."""
    parts = [
        "# Checklist",
        "",
        "Filled in from the folder of the analysis, for the appendix of a paper; the items are in short words of our "
        "own, by the numbers of the statements. Where it says MISSING, it has to be written.",
        "",
        "## Participants' flow",
        "",
        facts.get("flow", AUTHORS),
        "",
    ]
    said: dict[str, str] = {}
    facts = dict(facts)
    if "performance" in facts and not facts.get("external", AUTHORS).startswith("MISSING"):
        facts["performance"] += f"; on other data: {facts['external']}"
    for name, title, items in (
        ("TRIPOD+AI", "Collins et al., BMJ 2024", TRIPOD),
        ("STARD-AI", "Sounderajah et al., Nature Medicine 2025; numbers of STARD 2015", STARD),
    ):
        rows = [["item", "about", "here"]]
        for number, about, key in items:
            answer = " ".join(facts.get(key, "").split()) or AUTHORS
            before = said.setdefault(answer, f"{name} {number}")
            is_long = len(answer) > LONG and before != f"{name} {number}"
            rows.append([number, about, f"as {before}" if is_long else answer])
        missing = [row[0] for row in rows[1:] if row[2].startswith("MISSING")]
        partly = [row[0] for row in rows[1:] if "(MISSING" in row[2]]
        counted = f"{len(items) - len(missing)} of {len(items)} items are answered by the folder"
        parts += [f"## {name} ({title})", "", f"{counted}, {len(partly)} of these in part.", ""]
        parts += [*markdown_table(rows), ""]
    path = folder / FILE
    files.write_text(path, "\n".join(parts))
    return path


OF_SCORES = ("metrics.json", "results.json")
"""What holds the scores of a run, and of a study."""


def shared_facts(folder: pathlib.Path, config: Config, metrics: Mapping[str, Any], analysed: str) -> dict[str, str]:
    """What runs and studies alike say of data, model, code and performance.

    Args:
      metrics: of `evaluate_predictions`, of what is reported.
      analysed: how many images of how many people that is, in words.
    """
    audit, environment = _json(folder / "audit.json"), _json(folder / "environment.json")
    summary = audit.get("summary", {})
    out, versions = audit.get("quarantined", {}), environment.get("versions", {})
    data = config.data
    per_class = ", ".join(f"{name}: {count}" for name, count in summary.get("images_per_class", {}).items())
    per_person = summary.get("images_per_person") or {}
    people = f"{summary.get('num_people') or 'no'} people by name" + (
        f", {per_person['min']:g} to {per_person['max']:g} images each (median {per_person['median']:g})"
        if per_person
        else ""
    )
    reasons = sorted(set(map(str, out.values())))
    learnt_from = [mark for name in OF_SCORES for mark in (_json(folder / name).get("transductive") or {}).values()]
    by_hand = summary.get("num_left_out", 0)
    shown = {name: str(Interval.of(metrics[name])) for name in ("accuracy", "roc_auc", "log_loss", "brier")}
    facts = {
        "objective": "development with internal validation" + _external(folder, "; external validation: {}"),
        "source": f"{audit.get('source', '')} (MISSING: where and why they were collected)",
        "eligibility": "every image that is listed, can be decoded and has a label; left out: "
        + (f"{len(out)} ({'; '.join(reasons[:3])})" if out else "none")
        + (
            f"; by a person's list, data.exclude: {by_hand}, neither trained on nor judged (MISSING: by what "
            "rule; without hard images the estimate is too good)"
            if by_hand
            else ""
        ),
        "preparation": f"decoded to {data.image_size[0]} x {data.image_size[1]} pixels (height x width), "
        f"{data.channels} channels, resize {data.resize}, crop {data.crop}, equalise {data.equalise}; audit.json",
        "outcome": f"classes {', '.join(audit.get('class_names', []))} (MISSING: how labels came about)",
        "predictors": "the pixels of one image; nothing else of the person",
        "missing": f"{len(out)} images in quarantine, {summary.get('num_to_predict', 0)} without a label are not "
        f"analysed{'; '.join(['', *learnt_from])}; nothing is imputed",
        "imbalance": f"images by class: {per_class}; class weights in training: {config.train.class_weights}",
        "measures": f"{', '.join(name.replace('_', ' ') for name in shown)}; "
        f"{metrics.get('interval') or 'no intervals'}; unit of analysis: the image; unit that is drawn: the person",
        "updating": "none",
        "model": f"{bare(config.model.name)}, start: {config.model.weights or 'random weights'}, {_fitting(config)}; "
        "every setting is in config.json",
        "data_digest": f"sha256 of names, contents, labels and people: {environment.get('data_sha256')} (MISSING: "
        "whether and how others get them)",
        "code": f"fpclass {versions.get('fpclass')}, commit {environment.get('git_commit') or 'not known'}, JAX "
        f"{versions.get('jax')}, Python {environment.get('python')}, on {', '.join(environment.get('devices', [])[:1])}"
        f"; seed {config.seed}, split seed {config.split.seed}",
        "flow": f"images listed {summary.get('num_images', 0) + by_hand} → "
        + (f"left out by a person's list {by_hand} → " if by_hand else "")
        + f"in quarantine {len(out)} → without a label "
        f"{summary.get('num_to_predict')} → with a label {summary.get('num_labelled')} ({people}) → analysed "
        f"{analysed}",
        "characteristics": f"{people}; images by class: {per_class} (MISSING: age, sex, and what else describes them)",
        "counts": f"{analysed}; by class: "
        + ", ".join(f"{name} {values['support']}" for name, values in metrics["per_class"].items()),
        "performance": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items()),
        "cross_table": f"rows true, columns predicted: {metrics['confusion_matrix']}",
        "blinding": "predictions are computed without the labels of the images that are judged",
        "use": "images that cannot be read get no prediction, and are named",
        "limitations": "MISSING: in words; intervals are about people of the same kind as these",
        "size": "MISSING: no calculation before; see the smallest difference and the learning curve",
    }
    return facts | _validation_facts(folder)


def subgroup_fact(report: Mapping[str, Any] | None) -> dict[str, str]:
    """What is said of subgroups; a hint where none were judged."""
    if not report:
        return {"subgroups": "MISSING: no subgroups judged; --config.evaluate.subgroups=('column',) judges them"}
    return {"subgroups": "; ".join(report["findings"])}


def _external(folder: pathlib.Path, text: str) -> str:
    names = sorted(path.parent.name for path in folder.glob("validation/*/metrics.json"))
    return text.format(", ".join(names)) if names else ""


def _validation_facts(folder: pathlib.Path) -> dict[str, str]:
    """What the validations in a folder say: of their images, and of performance on them."""
    images, scores = [], []
    for path in sorted(folder.glob("validation/*/metrics.json")):
        values, name = _json(path), path.parent.name
        judged, inside = values.get("ensemble"), values.get("internal", {})
        if not isinstance(judged, dict) or "accuracy" not in judged:
            continue
        flow = " → ".join(f"{reason} {count}" for reason, count in values.get("flow", {}).items())
        per_class = ", ".join(f"{key}: {of_class['support']}" for key, of_class in judged["per_class"].items())
        images.append(
            f"{name}: {values.get('data')}; images {flow}, of {values.get('num_groups')} people (or independent "
            f"images); by class: {per_class} (MISSING: how place, time and eligibility differ)"
        )
        shown = {key: Interval.of(judged[key]) for key in ("accuracy", "roc_auc", "log_loss")}
        listed = [
            f"{key.replace('_', ' ')} {score}" + (f" (inside {Interval.of(inside[key])})" if inside.get(key) else "")
            for key, score in shown.items()
        ]
        ece = values.get("calibration", {}).get("after", {}).get("ece")
        calibrated = [f"ECE {Interval.of(ece)}"] if ece else []
        scores.append(f"{name}, {values.get('num_images')} images: {', '.join([*listed, *calibrated])}")
    missing = f"MISSING: no external validation; `{program()} validate --data.root=OTHER` makes one"
    return {"external": "; ".join(scores) or missing, "external_data": "; ".join(images) or missing}


def _json(path: pathlib.Path) -> dict[str, Any]:
    """What a file holds; nothing where it is missing or damaged: the page says less then."""
    try:
        return files.read_object(path) if path.is_file() else {}
    except RunError:
        return {}


def _fitting(config: Config) -> str:
    """How the weights came about."""
    if not is_trained(config):
        pooled = POOLED[config.model.probe_pooling]
        return f"frozen; L2-regularised logistic regression on standardised {pooled} of its stages"
    train, optim = config.train, config.optim
    return (
        f"{optim.name} at {optim.learning_rate:g}, {train.num_epochs} epochs at most, early stopping "
        f"{train.early_stopping}"
    )


def _parts(folder: pathlib.Path, config: Config) -> str:
    """How many images are in which part; "" where the table is missing or damaged: the page says less then."""
    try:
        roles = Run(folder, config).read_csv("splits.csv", ("filename", "role"))["role"].value_counts()
    except RunError:
        return ""
    return f"images by part: {', '.join(f'{role} {count}' for role, count in roles.items())}"


def run_facts(folder: pathlib.Path, config: Config, metrics: Mapping[str, Any], split: str) -> dict[str, str]:
    """All facts of a run; metrics as metrics.json has them, and the split that is reported."""
    judged = metrics[split]
    number, are_people = judged["num_groups"], describe_groups(judged) == "people"
    analysed = f"{judged['num_images']} images" + (f" of {number} people" if are_people else f" ({number} independent)")
    notes: Sequence[str] = metrics.get("split_notes", [])
    calibration = metrics.get("calibration", {})
    chosen = "epoch" if is_trained(config) else "strength"
    selected = f"{chosen} selected on {metrics['selected_on']}"
    return {
        **shared_facts(folder, config, judged, analysed),
        **subgroup_fact(judged.get("subgroups")),
        "division": "; ".join(filter(None, [_parts(folder, config), *notes, selected])),
        "thresholds": "; ".join(calibration.get("summary", [])) or "the most probable class",
        "prediction": f"best {chosen}'s weights (checkpoints/best), calibration.json; `{program()} predict`",
        "indeterminate": "none: every image is decided",
        "weights": f"checkpoints/best, config.json, model.txt; {chosen} {metrics['epoch']} of {metrics['num_epochs']}",
    }

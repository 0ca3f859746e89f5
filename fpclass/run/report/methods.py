"""Methods and Results of a run or a study as text for a paper, every number with the file and key it comes from."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pandas as pd

from fpclass.data.splits import SELECTION, TEST, TRAIN, VALIDATION
from fpclass.errors import printable
from fpclass.experiment import POOLED
from fpclass.report.facts import Cited, Piece, Sentence, listed, sentence
from fpclass.run.report.subject import Subject, counted, of_units

AUDIT, ENVIRONMENT = "audit.json", "environment.json"
COPIES = ("byte_identical", "pixel_identical", "near_duplicate")
"""Findings of the audit that are copies of an image."""
OF_MODEL = ("augment.", "finetune.", "model.", "optim.", "predict.", "train.", "data.mean", "data.std", "data.resize")
"""Keys whose values are hyperparameters; others say what the data are, or how results are judged."""
MAX_CLASSES = 12
"""Classes that a sentence names; tables have them all."""
NUM_REASONS = 8


# --- data -----------------------------------------------------------------------------------------


def images(subject: Subject) -> Sentence:
    """How many images of which classes."""
    facts = subject.facts
    per_class = facts.at(AUDIT, "summary", "images_per_class")
    named = dict(zip(per_class, subject.class_names, strict=False))
    keys = ("summary", "images_per_class")
    each = [sentence("{n} of {c}", n=facts.count(AUDIT, *keys, key), c=named[key]) for key in list(named)[:MAX_CLASSES]]
    more = f", and {len(named) - MAX_CLASSES} classes more" if len(named) > MAX_CLASSES else ""
    return sentence(
        "The data set ({source}) holds {all}, {labelled} of them labelled, in {k} classes: {each}{more}.",
        source=facts.cite(AUDIT, "source"),
        all=counted(facts.count(AUDIT, "summary", "num_images"), "image", "images"),
        labelled=facts.count(AUDIT, "summary", "num_labelled"),
        k=str(len(named)),
        each=listed(each),
        more=more,
    )


def people(subject: Subject) -> Sentence:
    """How many people they are of."""
    facts = subject.facts
    if not subject.has_people:
        return ("The data do not say whose images they are, so that each image counts as independent of the others.",)
    spread = {name: facts.cite(AUDIT, "summary", "images_per_person", name) for name in ("min", "max", "median")}
    number = facts.count(AUDIT, "summary", "num_people")
    is_even = spread["min"].text == spread["max"].text
    of_each = "{median}" if is_even else "{min} to {max} images each (median {median})"
    return sentence(f"They are of {{n}} people, with {of_each}{' images each' * is_even}.", n=number, **spread)


def people_per_class(subject: Subject) -> Sentence | None:
    """How many people each class has."""
    if not subject.has_people:
        return None
    rows = labelled_rows(subject)
    named = subject.class_names[:MAX_CLASSES]
    numbers = [len(set(rows["group"][rows["label"] == str(k)])) for k in range(len(named))]
    each = [
        sentence("{n} of {c}", n=Cited(f"{number:,}", f"table.csv: groups of label {k}"), c=named[k])
        for k, number in enumerate(numbers)
    ]
    return sentence("People with labelled images, by class: {each}.", each=listed(each))


def labelled_rows(subject: Subject) -> pd.DataFrame:
    """The rows of table.csv that can be trained on or judged."""
    rows: Any = subject.facts.frame("table.csv", "label", "group", "quarantine")
    return rows[(rows["quarantine"] == "") & ~rows["label"].isin(["-1", "-2", ""])]


def exclusions(subject: Subject) -> Sentence:
    """Which images could not be used, and why."""
    facts = subject.facts
    reasons = Counter(" ".join(str(why).split()) for why in facts.at(AUDIT, "quarantined").values())
    if not reasons:
        return sentence("{none} had to be left out as unreadable.", none=Cited("No image", f"{AUDIT}: quarantined"))
    number = Cited(f"{sum(reasons.values()):,}", f"{AUDIT}: quarantined")
    shown = [f"{printable(why)} ({count:,})" for why, count in reasons.most_common(NUM_REASONS)]
    more = [f"{len(reasons) - NUM_REASONS} other reasons"] if len(reasons) > NUM_REASONS else []
    return sentence(
        "{n} could not be used and took no part: {why}.",
        n=counted(number, "image", "images"),
        why=listed([*shown, *more], "; "),
    )


def left_out(subject: Subject) -> Sentence | None:
    """Which images a person left out."""
    if not subject.facts.get(AUDIT, "summary", "num_left_out"):
        return None
    number = subject.facts.count(AUDIT, "summary", "num_left_out")
    return sentence(
        "{n} left out by a list that a person drew up (data.exclude); without hard images the estimate is too good.",
        n=counted(number, "image was", "images were"),
    )


def to_predict(subject: Subject) -> Sentence | None:
    """Which images have no label."""
    if not subject.facts.get(AUDIT, "summary", "num_to_predict"):
        return None
    number = counted(subject.facts.count(AUDIT, "summary", "num_to_predict"), "image has", "images have")
    learnt_from = learnt_without_labels(subject)
    if not learnt_from:
        return sentence("{n} no label and took no part in what follows.", n=number)
    return sentence("{n} no label. They were learnt from all the same: {how}.", n=number, how=learnt_from)


def learnt_without_labels(subject: Subject) -> Piece | None:
    """How rows to predict were learnt from; None where they were not."""
    file = "results.json" if subject.is_study else "metrics.json"
    marks = subject.facts.get(file, "transductive") or {}
    return Cited("; ".join(map(printable, marks.values())), f"{file}: transductive") if marks else None


def copies(subject: Subject) -> Sentence:
    """How many copies of images there are."""
    found = [f for f in subject.facts.at(AUDIT, "findings") if f["kind"] in COPIES]
    source = f"{AUDIT}: findings of kind {', '.join(COPIES)}"
    if not found:
        return sentence("{none} of an image were found.", none=Cited("No copies", source))
    torn = sum("CONTRADICTORY" in f["reason"] for f in found)
    return sentence(
        "{n} of one image (the same file, the same pixels, or nearly) were found{torn}; each was kept on one side of "
        "every split.",
        n=counted(Cited(f"{len(found):,}", source), "group of copies", "groups of copies"),
        torn=sentence(", {n} of them with contradictory labels", n=Cited(f"{torn:,}", source)) if torn else "",
    )


def preparation(subject: Subject) -> Sentence:
    """What an image is before it goes into the network."""
    return sentence(
        "Images were decoded to {size} pixels (height x width), {channels} (resize: {resize}, crop: {crop}, "
        "equalisation: {equalise}).",
        size=subject.setting("data.image_size", lambda size: " x ".join(map(str, size))),
        channels=subject.setting("data.channels", lambda number: "in grey" if number == 1 else "in colour"),
        **{key: subject.setting(f"data.{key}") for key in ("resize", "crop", "equalise")},
    )


DATA = (images, people, people_per_class, exclusions, left_out, to_predict, copies, preparation)


# --- split and model of a run ---------------------------------------------------------------------


ROLES = {
    TRAIN: "trained",
    SELECTION: "were set aside to choose the epoch",
    VALIDATION: "were kept for validation",
    TEST: "were kept as labelled test images",
}


def split(subject: Subject) -> Sentence:
    """Who trained, chose, and judged."""
    frame = subject.facts.frame("splits.csv", "role", "unit")
    parts = []
    for role, what in ROLES.items():
        rows = frame[frame["role"] == role]
        if len(rows):
            number = Cited(f"{len(rows):,}", f"splits.csv: rows of role {role}")
            units = Cited(f"{len(set(rows['unit'])):,}", f"splits.csv: units of role {role}")
            parts.append(sentence("{images} {what}", images=of_units(subject, number, units, "images"), what=what))
    return sentence("{parts}.", parts=listed(parts, "; "))


def split_notes(subject: Subject) -> Sentence | None:
    """What there is to know of the split."""
    notes = subject.facts.at("metrics.json", "split_notes")
    cited = Cited("; ".join(map(printable, notes)), "metrics.json: split_notes")
    return sentence("Of the split: {notes}.", notes=cited) if notes else None


def selected(subject: Subject) -> Sentence:
    """What chose the weights that are kept."""
    chosen = subject.facts.cite("metrics.json", "selected_on")
    return sentence("What is kept was selected on {chosen}.", chosen=chosen)


def network(subject: Subject) -> Sentence:
    """Which network, and what it starts from."""
    first = subject.facts.text_of("model.txt").splitlines()[0] if subject.facts.is_there("model.txt") else ""
    size = re.search(r"([\d,]+) parameters", first)
    epochs = subject.facts.get(*subject.config, "unlabelled", "pretrain_epochs")
    drawn = "random weights" + (f", which learnt without labels first (SimCLR, {epochs} epochs)" if epochs else "")
    return sentence(
        "The network is {name}{size}, starting from {weights}.",
        name=subject.setting("model.name"),
        size=sentence(" ({n} parameters)", n=Cited(size[1], "model.txt: first line")) if size else "",
        weights=subject.setting("model.weights", lambda name: f"the weights {name}" if name else drawn),
    )


def fitting(subject: Subject) -> Sentence:
    """How the weights came about."""
    if is_probe(subject):
        strength, pooling = "", subject.facts.get(*subject.config, "model", "probe_pooling")
        if subject.facts.get("metrics.json", "strength") is not None:
            chosen = subject.facts.cite("metrics.json", "strength")
            strength = sentence(", of strength C = {c} (scikit-learn's)", c=chosen)
        return sentence(
            "It stays frozen; a logistic regression with an L2 penalty is fitted to {pooled} of its stages{strength}.",
            pooled=POOLED[pooling or "moments"],
            strength=strength,
        )
    kept: Piece | Sentence = ""
    if not subject.is_study:
        epoch, of_all = (subject.facts.count("metrics.json", key) for key in ("epoch", "num_epochs"))
        kept = sentence("; epoch {epoch} of {n} was kept", epoch=epoch, n=of_all)
    return sentence(
        "It was trained by {name} at a learning rate of {rate} in batches of {batch}, for {epochs} epochs at most "
        "(early stopping: {early}){kept}.",
        name=subject.setting("optim.name"),
        rate=subject.setting("optim.learning_rate"),
        batch=subject.setting("train.batch_size"),
        epochs=subject.setting("train.num_epochs"),
        early=subject.setting("train.early_stopping"),
        kept=kept,
    )


def is_probe(subject: Subject) -> bool:
    """Whether nothing is trained but a regression on features."""
    head, tuned = (subject.facts.get(*subject.config, *key) for key in (("model", "head"), ("finetune", "from_probe")))
    return head == "probe" and not tuned


def hyperparameters(subject: Subject) -> Sentence:
    """What is not as by default."""
    changed = [key for key in subject.differences() if key.startswith(OF_MODEL)]
    if not changed:
        return ("All hyperparameters are the software's defaults.",)
    each = [sentence("{key} = {value}", key=key, value=subject.setting(key)) for key in changed]
    return sentence("Hyperparameters that differ from the software's defaults: {each}.", each=listed(each))


def intervals(subject: Subject) -> Sentence:
    """How intervals were made."""
    if subject.facts.get(*subject.scores, "interval") is None:
        return sentence("No intervals were computed.")
    how = subject.facts.cite(*subject.scores, "interval")
    return sentence("Values in brackets are intervals ({how}).", how=how)


def calibrated_how(subject: Subject) -> Sentence:
    """What calibrated the probabilities."""
    facts, of = subject.facts, ("metrics.json", "calibration")
    if facts.at(*of, "why_not"):
        return sentence("Probabilities are not calibrated: {why}.", why=facts.cite(*of, "why_not"))
    return sentence(
        "Probabilities were calibrated ({method}), fitted on {on}.",
        method=facts.cite(*of, "calibration", "method"),
        on=facts.cite(*of, "fitted_on"),
    )


def software(subject: Subject) -> Sentence:
    """Versions, machine, seed and commit."""
    facts = subject.facts
    versions = {name: facts.cite(ENVIRONMENT, "versions", name) for name in ("fpclass", "jax", "flax", "numpy")}
    devices = Counter(facts.at(ENVIRONMENT, "devices"))
    names = [f"{count} x {name}" if count > 1 else name for name, count in devices.items()]
    return sentence(
        "Software: fpclass {fpclass} (commit {commit}), JAX {jax}, Flax {flax}, NumPy {numpy}, Python {python}; "
        "{platform}; devices: {devices}; random seed {seed}.",
        **versions,
        commit=facts.cite(ENVIRONMENT, "git_commit", show=lambda commit: commit or "not known"),
        python=facts.cite(ENVIRONMENT, "python"),
        platform=facts.cite(ENVIRONMENT, "platform"),
        devices=Cited(", ".join(map(printable, names)), f"{ENVIRONMENT}: devices"),
        seed=subject.setting("seed"),
    )


def digests(subject: Subject) -> Sentence:
    """Digests of data and weights."""
    facts = subject.facts
    weights = facts.get(ENVIRONMENT, "weights_sha256")
    return sentence(
        "SHA-256 of the data (names, contents, labels, people): {data}{weights}.",
        data=facts.cite(ENVIRONMENT, "data_sha256"),
        weights=sentence("; of the published weights: {w}", w=facts.cite(ENVIRONMENT, "weights_sha256"))
        if weights
        else "",
    )


METHODS = {
    "Data": DATA,
    "Split": (split, split_notes, selected),
    "Model": (network, fitting, hyperparameters),
    "Statistics": (calibrated_how, intervals),
    "Software": (software, digests),
}

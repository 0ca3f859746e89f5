"""The sections that the report of a run and that of a study have in common: question, data, model, checks, limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fpclass.common.console import program
from fpclass.data.files import some_of
from fpclass.errors import RunError, printable
from fpclass.report.blocks import (
    Block,
    Code,
    Folded,
    Heading,
    Listing,
    Picture,
    Section,
    Table,
    pictures_in,
    text,
    tried,
)
from fpclass.report.facts import Cited, Facts, Sentence, Typed, sentence
from fpclass.report.markdown import sections_of
from fpclass.run.folder import STARTED_IN
from fpclass.run.report import methods, results
from fpclass.run.report.subject import Subject, said

STRENGTHS = "strengths"
"""Of `SHOWN`, what learning_curves is of a probe."""
SHOWN = {
    "class_balance": "Images per class, as bars",
    "image_sizes": "Width against height of every image file, in pixels",
    "mean_images": "The mean image of each class, and of two classes their difference",
    "sample_grid": "Images drawn at random from each class, a class a row",
    "learning_curves": "Loss and accuracy over the epochs",
    STRENGTHS: "Loss and accuracy of the probe, which is fitted and has no epochs, over the strengths of its penalty",
    "confusion_matrix": "Confusion matrix of the validation images, rows true and columns predicted",
    "confusion_matrix_test": "Confusion matrix of the labelled test images, rows true and columns predicted",
    "confusion_matrices": "Confusion matrices of all configs and the ensemble, rows true and columns predicted",
    "roc": "ROC curves: true positive rate against false positive rate",
    "roc_test": "ROC curves of the labelled test images",
    "predictions": "Judged images drawn at random, with what is predicted of them; right in green, wrong in red",
    "extremes": "Judged images with the lowest and with the highest loss, with what is predicted of them",
    "grad_cam_worst": "The images with the highest loss beside Grad-CAM: where evidence for the predicted class lay",
    "feature_maps": "What each stage of the network makes of the image with the highest loss",
    "map_checks": "Deletion, insertion and randomised-weights curves of each kind of map, and a table of all checks",
    "map_agreement": "Rank correlations of the maps of each pair of configs; on the diagonal of two trainings of one",
    "nearest_training": "Validation images, worst first, each beside the training images with the nearest features",
    "embedding": "All images in the plane by their features, by class; validation images that are wrong as crosses",
    "filters": "The filters of the first convolution as pictures",
    "reliability": "Reliability diagram: how often predictions are right against how sure they are",
    "risk_coverage": "Error rate of the images that are decided, by the share of them that is",
    "study": "Score of each config with its interval, and its difference from the baseline",
    "tippett": "Tippett plot: the share of cases with a likelihood ratio at least so large",
    "empirical_cross_entropy": "Empirical cross-entropy by prior odds: of the ratios, calibrated, and of none",
    "decision_curve": "Decision curve: net benefit by the threshold from which one would act",
    "subgroups": "Score of each level of each column, with its interval",
    "robustness": "Accuracy on corrupted copies, by the strength of each corruption",
    "shortcuts": "Accuracy on versions that keep one thing alone, beside what each looks like",
    "original_classes": "Errors by the classes that were put together",
}
"""What figures show, by their names; others are described by theirs."""
SHEETS = "explain.json"
"""What `explain` has drawn."""
PIECES = {
    "map_checks.json": ("Do the maps mean anything", "check-maps"),
    "map_agreement.json": ("Do equally good networks look at the same thing", "check-maps"),
    "features.json": ("What the network takes for alike", "features"),
    "shortcuts.json": ("What the model uses: shortcut tests", "shortcuts"),
    "robustness.json": ("Robustness", "robustness"),
}
"""What other commands leave in a folder: a file, what it is about, and the command that writes it."""
OF_STUDIES, OF_RUNS = ("map_agreement.json",), ("features.json",)
NUM_FINDINGS, NUM_FILES = 12, 4

LIMITS = (
    "The intervals are about images and people of the same kind as these; another camera, scanner, place, age group or "
    "population is another question, which validation on such images answers and nothing here does.",
    "Two models whose intervals overlap have not been told apart; a difference takes a paired comparison.",
    "A map such as Grad-CAM shows where evidence for a class came from in this network. It is no reason, and it can "
    "mislead.",
    "A prediction supports a decision and does not replace one: whoever uses it should know the error rate, the "
    "interval and the population above. In forensics it is supporting evidence, never proof, and says nothing about "
    "identity.",
)
FEW = 30
"""Independent people or images below which intervals are rough (`stats.intervals.FEW_GROUPS`)."""


def figure(name: str, caption: str = "", alt: str = "") -> Picture:
    """A figure of the folder by its name."""
    return Picture(f"figures/{name}.png", alt or describe(name), caption)


def describe(name: str) -> str:
    """What a figure shows, by its name or its path."""
    stem = name.removeprefix("figures/").removesuffix(".png")
    return SHOWN.get(stem, stem.replace("_", " "))


def there(subject: Subject, *names: str) -> list[Block]:
    """Those of some figures that are there."""
    return [figure(name) for name in names if subject.facts.is_there(f"figures/{name}.png")]


def question(subject: Subject) -> list[Block]:
    """What is asked."""
    names = subject.class_names
    of = "of people" if subject.has_people else "of images"
    asked = f"Can {' and '.join(names) if len(names) == 2 else some_of(names)} be told apart by the image alone, {of} "
    return [text(f"{asked}that the model has never seen? And how sure is that?")]


def data(subject: Subject) -> list[Block]:
    """What the data are, and their faults."""
    return [
        text(*said(subject, methods.DATA[:3])),
        *tried(class_table, subject.facts, subject),
        *there(subject, "class_balance", "image_sizes"),
        Heading("Faults, exclusions, copies"),
        text(*said(subject, methods.DATA[3:])),
        *tried(findings, subject.facts),
        Folded("What the images look like", there(subject, "mean_images", "sample_grid")),
    ]


def class_table(facts: Facts, subject: Subject) -> list[Block]:
    """Images and people of each class; folded where there are many."""
    per_class = facts.at("audit.json", "summary", "images_per_class")
    rows = methods.labelled_rows(subject) if subject.has_people else None
    table: list[list[Any]] = [["class", "labelled images", *(["people"] if rows is not None else [])]]
    for k, (value, name) in enumerate(zip(per_class, subject.class_names, strict=False)):
        row: list[Any] = [name, facts.count("audit.json", "summary", "images_per_class", value)]
        if rows is not None:
            people = len(set(rows["group"][rows["label"] == str(k)]))
            row.append(Cited(f"{people:,}", f"table.csv: groups of label {k}"))
        table.append(row)
    blocks: list[Block] = [Table(table)]
    return [Folded(f"All {len(table) - 1} classes", blocks)] if len(table) > methods.MAX_CLASSES else blocks


def findings(facts: Facts) -> list[Block]:
    """What the audit found, the most serious first; what is more than a few folded."""
    found = facts.at("audit.json", "findings")
    if not found:
        return [text("The audit found nothing else.")]
    rows: list[list[str]] = [["severity", "kind", "what is wrong", "files"]]
    for one in found:
        names = [printable(str(name)) for name in one["filenames"]]
        shown = some_of(names, NUM_FILES) if names else ""
        rows.append([str(one["severity"]), str(one["kind"]).replace("_", " "), printable(str(one["reason"])), shown])
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in Counter(row[1] for row in rows[1:]).most_common())
    about = text(sentence("Findings of the audit: {kinds}.", kinds=Cited(kinds, "audit.json: findings")))
    if len(rows) <= NUM_FINDINGS:
        return [about, Table(rows)]
    more = f"The first {NUM_FINDINGS * 5} of {len(found)} findings" if len(found) > NUM_FINDINGS * 5 else "All of them"
    return [about, Folded(more, [Table(rows[: NUM_FINDINGS * 5 + 1])])]


def scores_table(subject: Subject) -> list[Block]:
    """All scores with their intervals, and precision, recall and F1 of each class."""
    rows: list[list[Any]] = [["score", "value [interval]"]]
    rows += [[name, subject.score(key)] for key, name in results.SHOWN.items()]
    classes: list[list[Any]] = [["class", "precision", "recall", "F1", "images"]]
    for name in subject.facts.at(*subject.scores, "per_class"):
        of_class: list[Any] = [subject.score("per_class", name, key) for key in ("precision", "recall", "f1")]
        support = subject.facts.count(*subject.scores, "per_class", name, "support")
        classes.append([printable(name), *of_class, support])
    by_class: Block = Table(classes)
    if len(classes) > methods.MAX_CLASSES:
        by_class = Folded(f"Each of {len(classes) - 1} classes", [by_class])
    return [Table(rows), by_class]


def units_table(subject: Subject) -> list[Block]:
    """Diagnostic accuracy by image and by person; nothing where there is no condition."""
    facts, of = subject.facts, (*subject.units, "diagnostics")
    if facts.get(*of) is None:
        return []
    keys = {
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "lr_positive": "LR+",
        "lr_negative": "LR-",
        "ppv": "PPV",
        "npv": "NPV",
    }
    rows: list[list[Any]] = [["", *keys.values()]]
    for key in subject.per:
        if facts.get(*of, key, "sensitivity") is not None:
            rows.append([key.replace("_", " "), *(facts.interval(*of, key, name) for name in keys)])
    about = text(sentence("Diagnostic accuracy, of the condition {c}:", c=facts.cite(*of, "condition")))
    return [about, Table(rows)] if len(rows) > 1 else []


def confusion(subject: Subject) -> list[Block]:
    """Which classes are taken for which: the figure, and its numbers as text."""
    matrix, names = subject.facts.at(*subject.scores, "confusion_matrix"), subject.class_names
    file, *keys = subject.scores
    alt = f"{describe('confusion_matrix')}: {matrix}" if len(matrix) <= methods.MAX_CLASSES else ""
    source = f"{file}: {'.'.join([*keys, 'confusion_matrix'])}"
    pairs = sorted(
        ((count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count), reverse=True
    )
    worst = [
        sentence("{n} of {i} taken for {j}", n=Cited(f"{count:,}", source), i=names[i], j=names[j])
        for count, i, j in pairs[:6]
    ]
    shown = "confusion_matrices" if subject.is_study else "confusion_matrix"
    blocks: list[Block] = [figure(shown, alt="" if subject.is_study else alt)]
    return [*blocks, Listing(worst) if worst else text("No image is taken for another class.")]


def piece(facts: Facts, name: str, command: str) -> list[Block]:
    """What another command left in the folder, in its own words; or that it has not been run."""
    if not facts.is_there(name):
        return [text(("Not done yet: ", Typed(f"{program()} {command} {facts.folder}"), "."), style="small")]
    report = facts.at(name, "report")
    if not isinstance(report, dict):
        raise RunError(f"{name}: report is no object")
    lines = [(Cited(str(line), f"{name}: report.sentences"),) for line in report.get("sentences", [])]
    rows = [[str(cell) for cell in row] for row in report.get("table", [])]
    pictures = [_own_picture(str(path), str(report.get("title", ""))) for path in report.get("figures", [])]
    note = str(report.get("note", ""))
    return [
        *([Listing(lines)] if lines else []),
        *([Table(rows)] if rows else []),
        *pictures,
        *([text(note, style="small")] if note else []),
    ]


def _own_picture(path: str, title: str) -> Picture:
    """A figure that another command names; only one of the folder's own."""
    if not path.startswith("figures/") or ".." in path.split("/"):
        raise RunError(f"{path!r} is no figure of this folder")
    stem = path.removeprefix("figures/").rpartition(".")[0].replace("_", " ")
    return Picture(path, f"{title}: {stem}" if title else stem)


def pieces(subject: Subject) -> list[Block]:
    """What all other commands have left, or what is to be run."""
    blocks: list[Block] = []
    for name, (about, command) in PIECES.items():
        if name not in (OF_RUNS if subject.is_study else OF_STUDIES):
            title = subject.facts.get(name, "report", "title", default="")
            blocks += [Heading(printable(str(title)) or about), *tried(piece, subject.facts, name, command)]
    return blocks


def other_figures(facts: Facts, shown: Sequence[Block]) -> list[Block]:
    """The figures of the folder that no section shows, folded."""
    known = {picture.name for picture in pictures_in(shown)}
    names = [f"figures/{path.name}" for path in sorted(facts.path("figures").glob("*.png"))]
    others = [Picture(name, describe(name)) for name in names if name not in known]
    return [Folded("All other figures of the folder", others)] if others else []


def validations(facts: Facts) -> list[Block]:
    """Judgements on other data sets: their figures, and what they say in short."""
    found = sorted(facts.folder.glob("validation/*/metrics.json"))
    if not found:
        command = Typed(f"{program()} validate --data.root=OTHER --workdir={facts.folder}")
        return [text(("Not done yet: ", command, "."), style="small")]
    rows: list[list[Any]] = [["data set", "images", "accuracy", "ROC AUC", "log loss"]]
    for path in found:
        name = path.relative_to(facts.folder).as_posix()
        scores = [facts.interval(name, "ensemble", key) for key in ("accuracy", "roc_auc", "log_loss")]
        rows.append([printable(path.parent.name), facts.count(name, "num_images"), *scores])
    return [Table(rows)]


def limits(subject: Subject) -> list[Block]:
    """What must not be read out of it, and how it may be used."""
    facts = subject.facts
    items: list[Sentence] = []
    if facts.get(*subject.config[:1], *subject.config[1:], "data", "source") == "synthetic":
        items.append(("The images are SYNTHETIC: these numbers say nothing about real ones.",))
    effective = facts.get(*subject.scores, "effective_groups")
    if isinstance(effective, int | float) and effective < FEW:
        number = facts.number(*subject.scores, "effective_groups")
        items.append(
            sentence(
                f"Few {'people' if subject.has_people else 'independent images'}: they tell as much as {{n}} alike; so "
                "few make rough intervals.",
                n=number,
            )
        )
    if not subject.has_people:
        items.append(
            ("Nothing says whose the images are. Where several are of one person, animal or site, this is too good.",)
        )
    items += [
        (Cited(printable(str(line)), "metrics.json: warnings"),) for line in facts.get("metrics.json", "warnings") or ()
    ]
    return [Listing([*items, *((line,) for line in LIMITS)])]


def versions(facts: Facts) -> list[Block]:
    """What a result depends on beside the config."""
    environment = facts.object("environment.json")
    rows: list[list[Any]] = [["what", "value"]]
    for key in environment:
        if key == STARTED_IN:  # says nothing elsewhere
            continue
        if key == "versions":
            rows += [[name, facts.cite("environment.json", key, name)] for name in environment[key]]
        else:
            rows.append([key.replace("_", " "), facts.cite("environment.json", key)])
    return [Table(rows)]


def differences(subject: Subject) -> list[Block]:
    """The config where it is not as by default."""
    changed = subject.differences()
    if not changed:
        return [text("Every key of the config is as by default.")]
    rows: list[list[Any]] = [["key", "here", "by default"]]
    rows += [[key, subject.setting(key), str(default)] for key, (default, _) in changed.items()]
    return [Folded(f"{len(changed)} keys of the config that are not as by default", [Table(rows)])]


def full_config(facts: Facts, subject: Subject) -> list[Block]:
    """Every key of the config."""
    from fpclass.config import flatten

    values = flatten(facts.at(*subject.config))
    return [Code("\n".join(f"{key} = {value!r}" for key, value in values.items()))]


def checklist(facts: Facts) -> list[Block]:
    """checklist.md, as it is."""
    return [
        Folded(title, blocks)
        for title, blocks in sections_of(facts.text_of("checklist.md"), describe).items()
        if title and blocks
    ]


def sections(parts: Sequence[tuple[str, str, Sequence[Block]]], facts: Facts) -> list[Section]:
    """Sections of their anchors, titles and blocks, those without any left out; last the figures that none shows."""
    shown = [block for _, _, blocks in parts for block in blocks]
    others = ("figures", "Other figures", other_figures(facts, shown))
    return [Section(anchor, title, blocks) for anchor, title, blocks in [*parts, others] if blocks]

"""What came of a run or a study as sentences, every number with the file and key that it comes from."""

from __future__ import annotations

from fpclass.data.splits import TEST, VALIDATION
from fpclass.errors import printable
from fpclass.report.facts import Cited, Sentence, listed, sentence
from fpclass.run.report.methods import MAX_CLASSES
from fpclass.run.report.subject import Subject, of_units
from fpclass.stats.intervals import format_number

SHOWN = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
}


def performance(subject: Subject) -> Sentence:
    """The scores per image."""
    facts = subject.facts
    scores = [
        sentence("{name} {score}", name=name, score=subject.score(key))
        for key, name in SHOWN.items()
        if facts.at(*subject.scores, key).get("value") is not None
    ]
    images, units = (facts.count(*subject.scores, f"num_{what}") for what in ("images", "groups"))
    counts = of_units(subject, images, units, subject.judged)
    return sentence("Per image, on {n}: {scores}.", n=counts, scores=listed(scores))


def guessing(subject: Subject) -> Sentence:
    """How good the commonest class alone would be."""
    return sentence("The commonest class alone would be right in {share} of them.", share=commonest(subject))


def commonest(subject: Subject) -> Cited:
    """The share of the commonest class among the images that are judged."""
    rows = [sum(row) for row in subject.facts.at(*subject.scores, "confusion_matrix")]
    file, *keys = subject.scores
    source = f"{file}: {'.'.join([*keys, 'confusion_matrix'])}, largest row"
    return Cited(format_number(max(rows) / max(sum(rows), 1)), source)


def diagnostics(subject: Subject) -> Sentence | None:
    """Sensitivity and specificity, by image and by person."""
    facts = subject.facts
    if facts.get(*subject.units, "diagnostics") is None:
        return None
    of, parts = (*subject.units, "diagnostics"), []
    for key, unit in zip(subject.per, ("image", "person"), strict=True):
        if facts.get(*of, key, "sensitivity") is not None:
            rates = {name: facts.interval(*of, key, name) for name in ("sensitivity", "specificity")}
            parts.append(sentence(f"per {unit} sensitivity {{sensitivity}}, specificity {{specificity}}", **rates))
    return sentence("With {c} as the condition: {parts}.", c=facts.cite(*of, "condition"), parts=listed(parts, "; "))


def recalls(subject: Subject) -> Sentence | None:
    """Recall of each class, where there is no condition."""
    if subject.facts.get(*subject.units, "diagnostics") is not None:
        return None
    names = list(subject.facts.at(*subject.scores, "per_class"))[:MAX_CLASSES]
    each = [sentence("{c} {r}", c=printable(n), r=subject.score("per_class", n, "recall")) for n in names]
    return sentence("Recall by class: {each}.", each=listed(each))


def per_person(subject: Subject) -> Sentence | None:
    """The score of a person's images pooled."""
    facts, of = subject.facts, (*subject.units, "person")
    if facts.get(*of, "per_person") is None:
        return None
    return sentence(
        "Per person, {n} images of each pooled, over {p} people: accuracy {score}.",
        n=facts.cite(*of, "images_per_person", show=lambda mean: f"{mean:.3g}"),
        p=facts.count(*of, "num_people"),
        score=facts.interval(*of, "per_person", "accuracy"),
    )


def calibration(subject: Subject) -> Sentence | None:
    """How far off probabilities are."""
    facts = subject.facts
    of = ("results.json", "calibration") if subject.is_study else ("metrics.json", "calibration", VALIDATION)
    if facts.get(*of, "after") is None:
        return None
    return sentence(
        "Expected calibration error {before} before and {after} after calibration, where {chance} is to be expected by "
        "chance alone; log loss {loss} and {now}.",
        before=facts.interval(*of, "before", "ece"),
        after=facts.interval(*of, "after", "ece"),
        chance=facts.number(*of, "after", "ece", "expected_if_calibrated"),
        loss=facts.interval(*of, "before", "log_loss"),
        now=facts.interval(*of, "after", "log_loss"),
    )


def on_test(subject: Subject) -> Sentence | None:
    """The scores of labelled test images."""
    of = ("results.json", "test", "ensemble") if subject.is_study else ("metrics.json", TEST)
    facts = subject.facts
    if facts.get(*of, "accuracy") is None:
        return None
    scores = [
        sentence("{name} {s}", name=SHOWN[key], s=facts.interval(*of, key))
        for key in ("accuracy", "roc_auc", "log_loss")
    ]
    number = facts.count("results.json", "test", "num_images") if subject.is_study else facts.count(*of, "num_images")
    return sentence("On {n} labelled test images, which chose nothing: {scores}.", n=number, scores=listed(scores))


def checklist(subject: Subject) -> Sentence | None:
    """Where the items of the statements are."""
    if not subject.facts.is_there("checklist.md"):
        return None
    return ("The items of TRIPOD+AI and STARD-AI, with what only the authors can add, are in checklist.md.",)


RESULTS = {
    "Performance": (performance, guessing, diagnostics, recalls, per_person, on_test),
    "Calibration": (calibration, checklist),
}

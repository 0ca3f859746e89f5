"""Puts a run's report together: report.html and methods.md."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from fpclass.common import files
from fpclass.common.console import program
from fpclass.data.splits import TEST, VALIDATION
from fpclass.errors import printable
from fpclass.report.blocks import Block, Code, Folded, Heading, Listing, Paste, Table, text, tried
from fpclass.report.facts import Cited, Facts, Sentence, sentence, why
from fpclass.report.html import Page, render_page
from fpclass.report.markdown import with_footnotes
from fpclass.run.prepare import note_of
from fpclass.run.report import methods, reproduce, results
from fpclass.run.report import sections as of_both
from fpclass.run.report.local_paths import known_paths, without_folders
from fpclass.run.report.subject import Subject, said

REPORT, METHODS = "report.html", "methods.md"


def write_run_report(folder: pathlib.Path) -> str:
    """Writes report.html and methods.md of a run folder from the files in it; returns a line that says so.

    Raises:
      RunError: the folder cannot be written to.
    """
    started = time.perf_counter()
    subject = Subject.of_run(folder)
    parts = paper(subject, methods.METHODS, results.RESULTS)
    return write(subject, run_page(subject, parts), parts, started)


def write(subject: Subject, page: Page, parts: Sequence[tuple[str, Sequence[Sentence]]], started: float) -> str:
    """Writes the page and the text, without paths of this machine; `started` is when that was begun.

    (By `time.perf_counter`.)
    """
    folder, known = subject.facts.folder, list(known_paths(subject))
    page, parts = without_folders(page, known), without_folders(list(parts), known)
    files.write_text(folder / METHODS, with_footnotes(page.title, parts))
    html = render_page(page, folder)
    files.write_text(folder / REPORT, html)
    size, seconds = len(html.encode()) / 2**20, time.perf_counter() - started
    return f"written: {folder / REPORT} ({size:.1f} MiB, {seconds:.1f} s), {METHODS}"


def paper(subject: Subject, *parts: dict[str, Sequence]) -> list[tuple[str, list[Sentence]]]:
    """Methods, then Results, by their headings."""
    made: list[tuple[str, list[Sentence]]] = []
    for name, of_part in zip(("Methods", "Results"), parts, strict=True):
        made += [(f"{name}: {title.lower()}", said(subject, makers)) for title, makers in of_part.items()]
    return [*made, *_checks(subject.facts)]


def _checks(facts: Facts) -> list[tuple[str, list[Sentence]]]:
    """What each other command has found, in short: a paragraph for each."""
    found: list[tuple[str, list[Sentence]]] = []
    for name, (about, _) in of_both.PIECES.items():
        key = "paper" if facts.get(name, "report", "paper") else "sentences"
        lines = facts.get(name, "report", key)
        if isinstance(lines, list) and lines:
            cited: list[Sentence] = [(Cited(printable(str(line)), f"{name}: report.{key}"),) for line in lines]
            found.append((f"Results: {about[0].lower()}{about[1:]}", cited))
    return found


def run_page(subject: Subject, parts: Sequence[tuple[str, Sequence[Sentence]]]) -> Page:
    """The page of a run."""
    facts, evaluate = subject.facts, f"{program()} evaluate {subject.facts.folder}"
    named = facts.get("config.json", *subject.config[1:], "name") or facts.folder.name
    is_probe = facts.get("metrics.json", "strength") is not None
    of_learning = "Strength of the penalty" if is_probe else "Learning curves"
    judged = [
        text(*said(subject, results.RESULTS["Performance"])),
        *tried(lambda _: of_both.scores_table(subject), facts, command=evaluate),
        *tried(lambda _: of_both.units_table(subject), facts),
        *of_both.there(subject, "roc"),
        *tried(_test, facts, subject),
    ]
    content = [
        ("question", "Question", tried(lambda _: of_both.question(subject), facts)),
        ("data", "Data and their faults", of_both.data(subject)),
        ("split", "Split", [text(*said(subject, methods.METHODS["Split"])), *tried(_roles, facts, subject)]),
        ("model", "Model", [text(*said(subject, methods.METHODS["Model"])), *tried(_model, facts)]),
        ("learning", of_learning, tried(_learning, facts, command=evaluate)),
        ("results", "Results", judged),
        ("calibration", "Calibration", [text(*said(subject, _CALIBRATION)), *tried(_decisions, facts)]),
        ("confusion", "Confusion", tried(lambda _: of_both.confusion(subject), facts, command=evaluate)),
        ("images", "Worst and best images", tried(lambda _: images(subject), facts)),
        ("checks", "Checks", of_both.pieces(subject)),
        ("elsewhere", "Images of another data set", tried(of_both.validations, facts)),
        ("limits", "Limits and proper use", tried(lambda _: of_both.limits(subject), facts)),
        ("reproduce", "How to reproduce it", reproduced(subject, tried(reproduce.command_of, facts))),
        ("paper", "A text to paste", paste(subject, parts)),
    ]
    return Page(
        title=str(named),
        what="training",
        verdict=verdict_of(subject, verdict),
        note=note_of(bool(facts.get("audit.json", "is_synthetic"))),
        numbers=numbers(subject),
        sections=of_both.sections(content, facts),
    )


_CALIBRATION = (methods.calibrated_how, results.calibration)


def verdict(subject: Subject) -> Sentence:
    """How good it is, in one sentence; errors as `Facts.at`."""
    accuracy, chance = subject.facts.at(*subject.scores, "accuracy"), results.commonest(subject)
    is_better = (accuracy.get("low") or 0) > float(chance.text)
    return sentence(
        "Right in {share} of the {judged}, accuracy {accuracy}: {told} naming the commonest class every time "
        "({chance}).",
        share=Cited(f"{accuracy['value']:.1%}", subject.score("accuracy").source),
        judged=f"{subject.judged} of people it never saw" if subject.has_people else f"{subject.judged} it never saw",
        accuracy=subject.score("accuracy"),
        told="better than" if is_better else "NOT told from",
        chance=chance,
    )


def verdict_of(subject: Subject, make: Callable[[Subject], Sentence]) -> Sentence:
    """The sentence on top; why there is none where it cannot be made."""
    try:
        return make(subject)
    except Exception as error:  # the rest of the page is worth having
        return (f"Not judged yet: {why(error, subject.facts.folder)}.",)


def numbers(subject: Subject) -> list[tuple[str, Cited]]:
    """The few numbers on top, those that are there."""
    facts = subject.facts
    found: list[tuple[str, Cited]] = []
    wanted = (
        ("labelled images", lambda: facts.count("audit.json", "summary", "num_labelled")),
        ("people", lambda: facts.count("audit.json", "summary", "num_people")),
        ("left out as unreadable", lambda: facts.count("audit.json", "summary", "num_quarantined")),
        ("accuracy", lambda: facts.number(*subject.scores, "accuracy", "value")),
        ("ROC AUC", lambda: facts.number(*subject.scores, "roc_auc", "value")),
    )
    for name, get in wanted:
        try:
            number = get()
        except Exception:  # said below, where it is missed
            continue
        found += [(name, number)] if number.text != "0" or name != "people" else []
    return found


def _roles(facts: Facts, subject: Subject) -> list[Block]:
    """Images, people and classes of every role."""
    frame, names = facts.frame("splits.csv", "role", "unit", "label"), subject.class_names[: methods.MAX_CLASSES]
    units = "people" if subject.has_people else "independent images"
    rows: list[list[Any]] = [["role", "images", units, *names]]
    for role, of_role in frame.groupby("role", sort=False):
        per_class = [f"{(of_role['label'] == value).sum():,}" for value in subject.classes[: len(names)]]
        cells = [f"{len(of_role):,}", f"{of_role['unit'].nunique():,}", *per_class]
        rows.append([str(role), *(Cited(cell, f"splits.csv: rows of role {role}") for cell in cells)])
    return [Table(rows)]


def _model(facts: Facts) -> list[Block]:
    return [Folded("Its stages, their sizes, and what of them learns", [Code(facts.text_of("model.txt").rstrip())])]


def _learning(facts: Facts) -> list[Block]:
    kept = {key: facts.count("metrics.json", key) for key in ("epoch", "num_epochs")}
    is_probe = facts.get("metrics.json", "strength") is not None
    what, shown = ("Strength", of_both.STRENGTHS) if is_probe else ("Epoch", "learning_curves")
    curves = of_both.figure("learning_curves", alt=of_both.describe(shown))
    return [text(sentence(f"{what} {{epoch}} of {{num_epochs}} was kept.", **kept)), curves]


def _test(facts: Facts, subject: Subject) -> list[Block]:
    if facts.get("metrics.json", TEST) is None:
        return []
    rows: list[list[Any]] = [["labelled test images", "value [interval]"]]
    rows += [[name, facts.interval("metrics.json", TEST, key)] for key, name in results.SHOWN.items()]
    return [Table(rows), *of_both.there(subject, "roc_test", "confusion_matrix_test")]


def _decisions(facts: Facts) -> list[Block]:
    """Thresholds, folded."""
    lines = facts.at("metrics.json", "calibration", "summary")
    cited = [(Cited(" ".join(str(line).split()), "metrics.json: calibration.summary"),) for line in lines]
    fitted = facts.get("metrics.json", "calibration", VALIDATION, "thresholds") or {}
    of = ("metrics.json", "calibration", VALIDATION, "thresholds")
    rows: list[list[Any]] = [["threshold for", "threshold", "score by it", "score at one half", "gain"]]
    for name in fitted:
        row = [facts.interval(*of, name, key) for key in ("score", "score_at_half")]
        gain = facts.interval(*of, name, "gain", sign="+")
        rows.append([name.replace("_", " "), facts.number(*of, name, "threshold"), *row, gain])
    return [Folded("Thresholds", [Listing(cited), *([Table(rows)] if fitted else [])])]


def images(subject: Subject) -> list[Block]:
    """Images that it is most wrong and most right about, and what it looked at."""
    facts = subject.facts
    shown: list[Block] = [*of_both.there(subject, "extremes"), Heading("What it looks at")]
    more = of_both.there(subject, "predictions", "feature_maps", "errors_by_original_class", "hardest_pair")
    if facts.is_there("figures/grad_cam_worst.png") and not facts.is_there(of_both.SHEETS):
        shown += of_both.there(subject, "grad_cam_worst")
    else:
        shown += tried(of_both.piece, facts, of_both.SHEETS, "explain")
    return [*shown, *([Folded("More images, and what each stage makes of one", more)] if more else [])]


def reproduced(subject: Subject, how: Sequence[Block]) -> list[Block]:
    """The command, the differences from the defaults, versions, digests."""
    facts = subject.facts
    return [
        *how,
        *tried(lambda _: of_both.differences(subject), facts),
        text(*said(subject, methods.METHODS["Software"])),
        Folded("Versions, devices, digests", tried(of_both.versions, facts)),
        Folded("Every key of the config", tried(of_both.full_config, facts, subject)),
    ]


def paste(subject: Subject, parts: Sequence[tuple[str, Sequence[Sentence]]]) -> list[Block]:
    """Methods and Results, to be copied, and the checklist behind them."""
    about = (
        "Methods and Results from the files of this folder. Each number says where it comes from; methods.md has the "
    )
    about += "same text with its sources as footnotes."
    return [
        text(about, style="small"),
        Paste(parts),
        Folded("Checklist: TRIPOD+AI and STARD-AI", tried(of_both.checklist, subject.facts)),
    ]

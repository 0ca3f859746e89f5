"""Puts the report of a study together, and of a folder of either kind."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence

from fpclass.common.console import program
from fpclass.errors import RunError
from fpclass.report.blocks import Block, Folded, text, tried
from fpclass.report.facts import Sentence
from fpclass.report.html import Page
from fpclass.run.prepare import note_of
from fpclass.run.report import results
from fpclass.run.report import sections as of_both
from fpclass.run.report import write as of_run
from fpclass.run.report.subject import Subject, said
from fpclass.study.page import sections


def write_report(folder: pathlib.Path) -> str:
    """Writes report.html and methods.md of a run folder or a study folder, from its files; a line that says so.

    Raises:
      RunError: it is neither, or cannot be written to.
    """
    if (folder / sections.STUDY).is_file():
        started, subject = time.perf_counter(), sections.subject_of(folder)
        parts = of_run.paper(subject, sections.METHODS, sections.PAPER_RESULTS)
        return of_run.write(subject, study_page(subject, parts), parts, started)
    if not any((folder / name).is_file() for name in ("config.json", "metrics.json", "environment.json")):
        raise RunError(f"{folder}: neither a run nor a study folder; give the --workdir of a training or a study")
    return of_run.write_run_report(folder)


def study_page(subject: Subject, parts: Sequence[tuple[str, Sequence[Sentence]]]) -> Page:
    """The page of a study."""
    facts, anew = subject.facts, f"{program()} evaluate {subject.facts.folder}"
    calibration = [
        text(*said(subject, (sections.calibrated_how, results.calibration))),
        *of_both.there(subject, "reliability"),
        Folded("What abstention brings", of_both.there(subject, "risk_coverage")),
    ]
    judged = [
        text(*said(subject, [*results.RESULTS["Performance"], sections.ensemble])),
        *tried(lambda _: of_both.scores_table(subject), facts, command=anew),
        *tried(lambda _: of_both.units_table(subject), facts),
        *of_both.there(subject, "roc"),
        *tried(sections.findings, facts, command=anew),
    ]
    content = [
        ("question", "Question", tried(lambda _: of_both.question(subject), facts)),
        ("data", "Data and their faults", of_both.data(subject)),
        ("split", "Split", [text(*said(subject, sections.METHODS["Design"]))]),
        ("model", "Model", [text(*said(subject, sections.METHODS["Model"])), *tried(sections.configs, facts)]),
        ("learning", "Learning curves", of_both.there(subject, "learning_curves")),
        ("results", "Results", judged),
        (
            "comparison",
            "Comparison with the baseline",
            [
                text(*said(subject, (sections.estimated, sections.choice))),
                *tried(sections.comparison, facts, command=anew),
            ],
        ),
        ("calibration", "Calibration", calibration),
        ("confusion", "Confusion", tried(lambda _: of_both.confusion(subject), facts, command=anew)),
        ("images", "Worst and best images", tried(lambda _: of_run.images(subject), facts)),
        *_of_study_md(subject),
        ("checks", "Checks", of_both.pieces(subject)),
        ("elsewhere", "Images of another data set", tried(of_both.validations, facts)),
        ("limits", "Limits and proper use", tried(lambda _: of_both.limits(subject), facts)),
        ("reproduce", "How to reproduce it", of_run.reproduced(subject, tried(sections.reproduce, facts))),
        ("paper", "A text to paste", of_run.paste(subject, parts)),
    ]
    return Page(
        title=facts.folder.resolve().name,
        what="study",
        verdict=of_run.verdict_of(subject, sections.verdict),
        note=note_of(bool(facts.get("audit.json", "is_synthetic"))),
        numbers=of_run.numbers(subject),
        sections=of_both.sections(content, facts),
    )


def _of_study_md(subject: Subject) -> list[tuple[str, str, Sequence[Block]]]:
    """What study.md says of people, evidence, learning curves and subgroups; what few need folded, and last."""
    try:
        pages = sections.pages(subject.facts)
    except RunError as error:
        return [("more", "People, evidence, subgroups", [text(f"Missing here: {error}.", style="missing")])]
    shown = [(f"page-{i}", title, blocks) for i, (title, blocks) in enumerate(pages.items())]
    open_ones = [page for page in shown if not page[1].startswith(sections.FOLDED)]
    folded = [Folded(title, blocks) for _, title, blocks in shown if title.startswith(sections.FOLDED)]
    return [*open_ones, ("tables", "Tables that few need", folded)]

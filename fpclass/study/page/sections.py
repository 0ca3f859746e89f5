"""What the report of a study says and that of a run does not: who was compared with whom, and what came of it."""

from __future__ import annotations

import math
import pathlib
import shlex
from typing import Any

from fpclass.common.console import program
from fpclass.config import flatten
from fpclass.errors import printable
from fpclass.report.blocks import Block, Code, Folded, Listing, Table, text
from fpclass.report.facts import Cited, Facts, Sentence, listed, sentence
from fpclass.report.markdown import sections_of
from fpclass.run.report import methods, results
from fpclass.run.report.reproduce import about_images, config_file
from fpclass.run.report.sections import describe, figure
from fpclass.run.report.subject import Subject, as_json, counted
from fpclass.stats.intervals import Interval, format_number
from fpclass.study.page.cited import cited
from fpclass.study.study import IMAGE_RANDOM, OF_PEOPLE, Study

STUDY, RESULTS = "study.json", "results.json"
MAX_CONFIGS, MAX_NAMED = 8, 3
"""Configs that the text names one by one, and the sentence on top; the table has all."""
FOLDED = ("Training beside validation", "Classification reports", "Coverage of the conformal sets")
"""Sections of study.md that few need."""
ELSEWHERE = ("", "Figures")
"""Those of study.md whose content stands in other sections of the page."""


def subject_of(folder: pathlib.Path) -> Subject:
    """A study folder, as its report reads it."""
    facts = Facts(folder)
    baseline = str(facts.get(STUDY, "baseline", default=""))
    judged = "out-of-fold images" if facts.get(STUDY, "folds") else "validation images"
    config, scores = (STUDY, "configs", baseline), (RESULTS, "ensemble", "scores")
    return Subject(facts, "study", config, scores, judged, (RESULTS,), ("ensemble_per_image", "ensemble_per_person"))


def compared(facts: Facts) -> dict[str, Any]:
    """The configs that are compared with each other, by name; errors as `Facts.at`."""
    configs = facts.at(STUDY, "configs")
    return {
        name: values for name, values in configs.items() if not name.endswith(IMAGE_RANDOM) and OF_PEOPLE not in name
    }


def trained(facts: Facts) -> dict[str, Any]:
    """The configs that were trained on every fold with every seed, by name; without results.json all that are compared.

    The ensemble has a weight, perhaps 0, for each of them and for no other. Errors as `Facts.at`.
    """
    names = facts.get(RESULTS, "ensemble", "weights") or compared(facts)
    return {name: values for name, values in compared(facts).items() if name in names}


# --- sentences ------------------------------------------------------------------------------------


def design(subject: Subject) -> Sentence:
    """What was trained on what."""
    facts = subject.facts
    number, names = facts.at(STUDY, "folds"), trained(facts)
    of_whom = "people" if subject.has_people else "images"
    division: Sentence = ("on one split",)
    if number:
        folds = facts.count(STUDY, "folds")
        division = sentence(
            "on each of {k} folds of {whom} (nobody, and no copy, in two of them)", k=folds, whom=of_whom
        )
    is_short, left_out = len(names) <= MAX_CONFIGS, len(compared(facts)) - len(names)
    return sentence(
        "{n} trained {division} with {seeds} each{names}; the baseline is {baseline}{others}.",
        n=counted(Cited(f"{len(names)}", f"{RESULTS}: ensemble"), "config was", "configs were"),
        division=division,
        seeds=counted(facts.count(STUDY, "seeds"), "random seed", "random seeds"),
        names=f": {', '.join(map(printable, names))}" if is_short else "",
        baseline=facts.cite(STUDY, "baseline"),
        others=sentence(
            "; {n} not trained whole, and left out",
            n=counted(Cited(f"{left_out}", f"{STUDY}: configs"), "other was", "others were"),
        )
        if left_out
        else "",
    )


def quick(subject: Subject) -> Sentence | None:
    """That it was a first look."""
    if not subject.facts.get(STUDY, "quick"):
        return None
    return ("It is a first look: trainings were cut short, and its figures are no final ones.",)


def baseline(subject: Subject) -> Sentence:
    """What follows is of the baseline."""
    name = subject.facts.cite(STUDY, "baseline")
    return sentence("Of the baseline, {name}:", name=name)


def estimated(subject: Subject) -> Sentence:
    """What is compared, and how errors are controlled."""
    return sentence(
        "Configs are compared by {metric}, the mean over folds and seeds, in pairs on the same images, with intervals "
        "of {confidence} that hold {whose} and the noise of training; p values are adjusted for the length of the "
        "table.",
        metric=subject.facts.cite(RESULTS, "metric", show=lambda name: str(name).replace("_", " ")),
        confidence=subject.facts.cite(RESULTS, "confidence", show=lambda share: f"{100 * share:g} %"),
        whose=subject.facts.cite(RESULTS, "groups_are"),
    )


def ensemble(subject: Subject) -> Sentence:
    """What the ensemble is made of."""
    facts, of = subject.facts, (RESULTS, "ensemble", "weights")
    each = [
        sentence("{w} {name}", w=facts.cite(*of, name, show=lambda weight: f"{weight:.2f}"), name=printable(name))
        for name, weight in facts.at(*of).items()
        if weight
    ]
    return sentence(
        "What predicts is an ensemble ({each}), its weights, calibration and thresholds cross-fitted: no image chose "
        "what it is judged by.",
        each=listed(each),
    )


def calibrated_how(subject: Subject) -> Sentence:
    """What calibrated the ensemble."""
    method = subject.facts.cite(RESULTS, "calibration", "method")
    return sentence("Probabilities of the ensemble were calibrated ({method}), each fold by the others.", method=method)


def rows_of(facts: Facts) -> list[dict[str, Any]]:
    """The rows of study.csv, numbers as numbers, None where there are none; errors as `Facts.frame`."""
    rows = facts.frame("study.csv", "config", "verdict").to_dict("records")
    return [{str(key): _value(key, cell) for key, cell in row.items()} for row in rows]


def _value(key: Any, cell: Any) -> Any:
    if key in ("config", "metric", "data", "verdict"):
        return cell
    try:
        return None if math.isnan(number := float(cell)) else number
    except ValueError:
        return None


def _cell(row: dict[str, Any], *names: str, sign: str = "") -> Cited:
    """An interval of a row of study.csv."""
    value = Interval(*(row.get(name) for name in names))
    return Cited(format(value, sign), f"study.csv: {row['config']}, {names[0]}")


def _of_score(row: dict[str, Any]) -> Cited:
    return _cell(row, "mean", "low", "high")


def _of_difference(row: dict[str, Any]) -> Cited:
    return _cell(row, "difference", "difference_low", "difference_high", sign="+")


def _p(row: dict[str, Any]) -> Cited:
    return Cited(format_number(row.get("p_adjusted")), f"study.csv: {row['config']}, p_adjusted")


def differences(subject: Subject) -> Sentence:
    """Every config beside the baseline; of many those that differ."""
    rows = [row for row in rows_of(subject.facts) if row.get("difference") is not None]
    if not rows:
        return ("No config could be compared with the baseline.",)
    first = next((row for row in rows_of(subject.facts) if row["verdict"] == "the baseline"), None)
    shown = (
        rows if len(rows) <= MAX_CONFIGS else [row for row in rows if row["verdict"].startswith(("better", "worse"))]
    )
    each = [
        sentence(
            "{name} {score}, {difference} from the baseline (adjusted p {p}): {verdict}",
            name=printable(row["config"]),
            score=_of_score(row),
            difference=_of_difference(row),
            p=_p(row),
            verdict=Cited(row["verdict"], f"study.csv: {row['config']}, verdict"),
        )
        for row in shown
    ]
    more = len(rows) - len(shown)
    others = [f"of {more} others no difference was shown"] if more else []
    start = [sentence("the baseline {score}", score=_of_score(first))] if first else []
    return sentence("By config: {each}.", each=listed([*start, *each, *others], "; "))


def choice(subject: Subject) -> Sentence | None:
    """The best config, and what to expect of the choice."""
    facts = subject.facts
    if facts.get(RESULTS, "choice") is None:
        return None
    values = [facts.at(RESULTS, "choice", f"cross_fitted{end}") for end in ("", "_low", "_high")]
    return sentence(
        "The best of them is {chosen}; of choosing like that expect {score}, each part chosen for by the others.",
        chosen=facts.cite(RESULTS, "choice", "chosen"),
        score=Cited(str(Interval(*values)), f"{RESULTS}: choice.cross_fitted"),
    )


METHODS = {
    "Data": methods.DATA,
    "Design": (design, quick),
    "Model": (baseline, methods.network, methods.fitting, methods.hyperparameters, ensemble),
    "Statistics": (estimated, calibrated_how, methods.intervals),
    "Software": (methods.software, methods.digests),
}
PAPER_RESULTS = {"Comparison": (differences, choice), **results.RESULTS}


# --- sections -------------------------------------------------------------------------------------


def comparison(facts: Facts) -> list[Block]:
    """The table with its verdicts, and its figure."""
    rows: list[list[Any]] = [["config", "score [interval]", "less the baseline [interval]", "p (adjusted)", "verdict"]]
    for row in rows_of(facts):
        has_difference = row.get("difference") is not None
        cells = [_of_difference(row), _p(row)] if has_difference else ["", ""]
        rows.append([printable(row["config"]), _of_score(row), *cells, row["verdict"]])
    return [Table(rows), figure("study")]


def configs(facts: Facts) -> list[Block]:
    """How the configs differ from the baseline."""
    of_all = compared(facts)
    first = facts.at(STUDY, "baseline")
    reference = flatten(of_all[first])
    rows = [["config", "unlike the baseline"]]
    for name, values in of_all.items():
        changed = [
            f"{key} = {value!r}"
            for key, value in flatten(values).items()
            if key != "name" and as_json(value) != as_json(reference.get(key))
        ]
        rows.append([printable(name), "the baseline" if name == first else ", ".join(changed) or "nothing"])
    table = Table(rows)
    return [Folded("How the configs differ", [table])]


def pages(facts: Facts) -> dict[str, list[Block]]:
    """The sections of study.md that no other section of the page has, by title; errors as `Facts.text_of`."""
    found = sections_of(facts.text_of("study.md"), describe)
    return {title: cited(blocks, title) for title, blocks in found.items() if title not in ELSEWHERE}


def findings(facts: Facts) -> list[Block]:
    """The findings beside the table of study.md, a line each."""
    of_first = cited(sections_of(facts.text_of("study.md"), describe)[""])
    lines = [item for block in of_first if isinstance(block, Listing) for item in block.items]
    return [Folded("What was found, a line each", [Listing(lines)])] if lines else []


def reproduce(facts: Facts) -> list[Block]:
    """The configs as files, and the command that trains them; errors as `Study.open`."""
    study = Study.open(facts.folder)
    files = [config_file(config, name) for name, config in study.configs.items() if name in study.names]
    command = [*program().split(), "study", "--configs", *(f"{name}.py" for name in study.names)]
    command += [f"--folds={study.num_folds}", f"--seeds={study.num_seeds}", f"--baseline={study.baseline}"]
    command += ["--compare-splits"] * study.compares_splits + ["--quick"] * study.is_quick
    curves = dict.fromkeys(name.partition(OF_PEOPLE)[0] for name in study.configs if OF_PEOPLE in name)
    command += ["--learning-curve", *curves] if curves else []
    return [
        text(about_images(facts), "The files hold what of each config is not by default."),
        Code(shlex.join([*command, "--workdir=NEW"])),
        Folded(f"The {len(files)} files", [Code(content) for content in files]),
    ]


def verdict(subject: Subject) -> Sentence:
    """What came of it, in one sentence."""
    rows = [row for row in rows_of(subject.facts) if row.get("difference") is not None]
    better = [printable(row["config"]) for row in rows if row["verdict"].startswith("better")]
    if better:
        names = listed_in_words(better) if len(better) <= MAX_NAMED else f"{len(better)} of {len(rows)} configs"
        of_table = f"{names} {'do' if len(better) > 1 else 'does'} better than the baseline"
    elif rows:
        of_table = f"None of {len(rows)} configs was shown to do better than the baseline"
    else:
        of_table = "There is nothing to compare"
    judged = f"{subject.judged} of people it never saw" if subject.has_people else subject.judged
    return sentence(
        "{of_table}; the ensemble has an accuracy of {accuracy} on {judged}, the commonest class alone {chance}.",
        of_table=Cited(of_table, "study.csv: verdict"),
        accuracy=subject.score("accuracy"),
        judged=judged,
        chance=results.commonest(subject),
    )


def listed_in_words(names: list[str]) -> str:
    """Names with commas and an "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

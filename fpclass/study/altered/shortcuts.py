"""Shortcut tests: what a network makes of versions that keep only one thing of an image, and what can be known from it.

As it was trained, a network has never seen such versions: what it makes of them says what it relies on, if it is right,
and little if it is not. Trained once more on a version, by the same config, split and seeds, it can know nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fpclass.common import files
from fpclass.common.console import Interruption, is_watched, make_bar
from fpclass.common.threads import in_threads
from fpclass.data.altered.prints import find_print
from fpclass.data.altered.versions import VERSIONS, WHOLE, Kind, kind_of, make_version, versions_of
from fpclass.errors import ConfigError
from fpclass.report.style import save_figure
from fpclass.report.text_tables import align_columns
from fpclass.run.prepare import note_of
from fpclass.stats.intervals import Bootstrap, describe_intervals
from fpclass.stats.scrutiny.altered import CopyScores, PairedScores
from fpclass.study.altered.figures import Row, shortcuts_figure
from fpclass.study.altered.unseen import Unseen

FILE, FIGURE = "shortcuts.json", "figures/shortcuts.png"
NUM_EXAMPLES = 4
"""Images of a version that the figure shows."""
NUM_NAMED = 5
"""Images without a print that are named."""
MIXED = 0.02
"""Share of prints of the rarer polarity from which on it is said: size and outline keep it."""


@dataclasses.dataclass(frozen=True)
class Shortcuts:
    """How a model, and networks trained on versions, fare on versions of images that they never saw.

    Attributes:
      unseen: the model and the images.
      kind: what the images are.
      without: file names of images in which there is no print, of prints.
      num_light: prints that are lighter than their paper.
      chance: accuracy of always saying the most frequent class.
      as_trained: scores of the model by version, "all" first.
      retrained: scores of networks trained on a version, "all" first; {} where none were.
      retrained_config: name of the config that was trained again, of a study.
      is_finished: whether nothing is missing.
    """

    unseen: Unseen
    kind: Kind
    without: list[str]
    num_light: int
    chance: float
    as_trained: dict[str, CopyScores]
    retrained: dict[str, CopyScores]
    retrained_config: str = ""
    is_finished: bool = True

    @property
    def interval(self) -> str:
        """What the intervals are."""
        return describe_intervals(self.unseen.cohort, bootstrap_of(self.unseen)) or "no intervals"


def choose_versions(unseen: Unseen, kind: Kind | None, wanted: Sequence[str]) -> tuple[Kind, list[str]]:
    """What the images are, by themselves unless it is said, and the versions of them.

    Raises:
      ConfigError: a version that is none of this kind of images, or a model that was trained on a version.
    """
    for member in unseen.members:
        if member.decoding.keep != WHOLE:
            raise ConfigError(
                f"{unseen.folder}: was trained on a version, data.keep={member.decoding.keep}; give the run that was "
                "trained on whole images"
            )
    images, rows = unseen.first_images
    found = kind or kind_of(np.asarray(images[rows]))
    known = versions_of(found, images.shape[-1])
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"--versions {name}: no version of {found}; there are {', '.join(known)} (--kind says what the images "
                "are, if they were taken for something else)"
            )
    return found, list(wanted) or known


def measure_versions(unseen: Unseen, kind: Kind, names: Sequence[str], interruption: Interruption) -> Shortcuts:
    """Asks a model about versions of its images, until all have had their turn or somebody asks to stop."""
    paired = PairedScores(unseen.predict(), unseen.cohort, bootstrap_of(unseen))
    as_trained = {WHOLE: paired.plain}
    bar = make_bar(names, desc="versions", unit="version", leave=False, disable=not is_watched())
    for name in bar:
        if interruption.signal_number:
            break
        alike = sum(VERSIONS[other].is_reduced == VERSIONS[name].is_reduced for other in names)
        as_trained[name] = paired.of(unseen.predict(functools.partial(_version, name=name)), alike)
    bar.close()
    without, num_light = _look_for_prints(unseen) if kind == "prints" else ([], 0)
    is_finished = len(as_trained) == 1 + len(names)
    return Shortcuts(unseen, kind, without, num_light, paired.chance, as_trained, {}, is_finished=is_finished)


def _version(image: Any, filename: str, *, name: str) -> Any:
    return make_version(image, name)


def _look_for_prints(unseen: Unseen) -> tuple[list[str], int]:
    """File names of images without a print, and how many prints are light on dark."""
    images, rows = unseen.first_images
    found = list(in_threads(lambda i: find_print(np.asarray(images[rows[i]])), len(unseen)))
    without = [name for name, one in zip(unseen.filenames, found, strict=True) if one is None]
    return without, sum(one is not None and not one.is_dark for one in found)


def conclude_shortcuts(found: Shortcuts) -> str:
    """Writes shortcuts.json and figures/shortcuts.png into the folder of the model; returns what they say."""
    folder, note = found.unseen.folder, note_of(found.unseen.is_synthetic)
    sentences, table = sentences_of(found), table_of(found)
    drawn = shortcuts_figure(_rows(found), found.chance, found.interval, note=note)
    save_figure(drawn, folder / FIGURE)
    record = {
        "kind": found.kind,
        "num_images": len(found.unseen),
        "num_groups": found.unseen.cohort.num_groups,
        "without_print": found.without,
        "num_light": found.num_light,
        "interval": found.interval,
        "is_finished": found.is_finished,
        "chance": found.chance,
        "as_trained": {name: scores.to_json() for name, scores in found.as_trained.items()},
        "retrained": {name: scores.to_json() for name, scores in found.retrained.items()},
        "retrained_config": found.retrained_config,
        "report": {
            "title": "What it uses: one thing at a time",
            "sentences": sentences,
            "paper": in_short(found),
            "table": table,
            "figures": [FIGURE],
            "note": " ".join(filter(None, (note and f"{note}.", _about(found)))),
        },
    }
    files.write_json(folder / FILE, record)
    written = f"written     {folder / FILE}, {FIGURE}"
    return "\n".join(["", *align_columns(table), "", *sentences, "", f"[intervals] {found.interval}", written])


def _about(found: Shortcuts) -> str:
    about = (
        f"Versions of the decoded image. Intervals: {found.interval}; differences are paired. A network as it was "
        "trained has never seen such versions: where it is at chance, it may use that thing all the same, and only "
        "training on the version tells what can be known from it. What sentences say of versions goes by intervals "
        "that hold for all of them at once (Bonferroni), wider than those of the table; known is what is told apart "
        "better than by chance, an area under the ROC curve of 0.5."
    )
    if found.kind == "photographs":
        about += " Without masks of the objects, background and centre are what is outside and inside of an ellipse."
    return about


def table_of(found: Shortcuts) -> list[list[str]]:
    """A row per version, with the header."""
    header = ["kept", "accuracy", "difference", "ROC AUC"]
    if found.retrained:
        header += ["trained on it: accuracy", "difference", "ROC AUC"]
    rows = [header]
    for name, scores in found.as_trained.items():
        cells = _cells(scores)
        if found.retrained:
            cells += _cells(found.retrained[name]) if name in found.retrained else ["", "", ""]
        rows.append([_words(name), *cells])
    return rows


def _cells(scores: CopyScores) -> list[str]:
    difference = scores.differences.get("accuracy")
    return [str(scores.scores["accuracy"]), f"{difference:+}" if difference else "", str(scores.scores["roc_auc"])]


def _words(name: str) -> str:
    return "the whole image" if name == WHOLE else VERSIONS[name].words


def sentences_of(found: Shortcuts) -> list[str]:
    """How good the model is on whole images, and what each version says of what it knows."""
    groups, number = found.unseen.cohort.groups_are, len(found.unseen)
    people = f"{number} images" + (f" of {found.unseen.cohort.num_groups} people" if groups == "people" else "")
    whole = found.as_trained[WHOLE].scores["accuracy"]
    sentences = [
        f"Accuracy is {whole} on {people} as they are; {found.chance:.3f} is always saying the most frequent class."
    ]
    if not found.is_finished:
        sentences.append("Stopped before all versions had their turn.")
    reduced = [name for name in found.as_trained if name != WHOLE and VERSIONS[name].is_reduced]
    if found.retrained:
        sentences += [_retrained(found, name) for name in reduced if name in found.retrained]
    else:
        sentences += [_as_trained(found, name) for name in reduced]
    sentences += [_changed(found, name) for name in found.as_trained if name != WHOLE and name not in reduced]
    if found.without:
        shown = ", ".join(found.without[:NUM_NAMED]) + (" …" if len(found.without) > NUM_NAMED else "")
        sentences.append(
            f"In {len(found.without)} of {number} images no print was found ({shown}): as size, outline and texture "
            "they are empty paper, and as paper and frame what they were."
        )
    num_prints = number - len(found.without)
    if found.kind == "prints" and MIXED * num_prints < found.num_light < (1 - MIXED) * num_prints:
        sentences.append(
            f"{found.num_light} of {num_prints} prints are light on dark, the others dark on light: size and outline "
            "are drawn likewise, so that this can be known from them as well."
        )
    return sentences


def in_short(found: Shortcuts) -> list[str]:
    """For a paper: by which versions the classes are told apart, and which disturb the network."""
    of, how = (found.retrained, "trained on each") if found.retrained else (found.as_trained, "as it was trained")
    known: dict[bool, list[str]] = {True: [], False: []}
    lower: dict[bool, list[str]] = {True: [], False: []}
    for name, scores in of.items():
        if name != WHOLE and VERSIONS[name].is_reduced:
            known[bool(scores.is_known)].append(f"{VERSIONS[name].words} (ROC AUC {scores.knowledge})")
    for name, scores in found.as_trained.items():
        if name != WHOLE and not VERSIONS[name].is_reduced:
            shown = "no answer changed" if scores.is_same else f"{scores.loss:+}"
            lower[scores.is_lower].append(f"{VERSIONS[name].words} ({shown})")
    named = (
        (f"On versions that keep one thing, the network {how} told the classes better than by chance", known[True]),
        (f"On versions that keep one thing, the network {how} was not shown to", known[False]),
        ("Accuracy was lower", lower[True]),
        ("Accuracy was not shown to be lower", lower[False]),
    )
    said = [f"{words}: {', '.join(versions)}." for words, versions in named if versions]
    return [*said, "Intervals hold for all versions at once (Bonferroni)."] if said else []


def _retrained(found: Shortcuts, name: str) -> str:
    scores, version = found.retrained[name], VERSIONS[name]
    start = f"{_capital(version.words)} gives a network trained on it a ROC AUC of {scores.knowledge}"
    if scores.is_known is None:
        return f"{start}: too few images to say whether that is more than chance."
    if not scores.is_known:
        return f"{start}: not shown to be more than chance."
    warning = " WARNING: that is a leak of how the images were made." if name == "frame" else ""
    return f"{start}: a part of what can be known is {version.means}.{warning}"


def _as_trained(found: Shortcuts, name: str) -> str:
    scores, version = found.as_trained[name], VERSIONS[name]
    start = f"{_capital(version.words)}, shown to the network as it was trained, gives a ROC AUC of {scores.knowledge}"
    if scores.is_known:
        return f"{start}: a part of what it uses is {version.means}."
    why = "too few images to say whether that is" if scores.is_known is None else "not shown to be"
    return f"{start}: {why} more than chance; whether something can be known from it --retrain tells."


def _changed(found: Shortcuts, name: str) -> str:
    scores, words = found.as_trained[name], _capital(VERSIONS[name].words)
    if scores.is_same:
        return f"{words}: the answers stay the same."
    verdict = "that disturbs it" if scores.is_lower else "no loss that these images show"
    return f"{words}: the accuracy changes by {scores.loss:+}: {verdict}."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _rows(found: Shortcuts) -> list[Row]:
    """What the figure shows: of every version the same few images, one of every class first."""
    labels = found.unseen.cohort.labels
    _, first = np.unique(labels, return_index=True)
    rest = [i for i in np.linspace(0, len(labels) - 1, 4 * NUM_EXAMPLES).astype(int) if i not in first]
    at = np.array([*first, *rest], int)[:NUM_EXAMPLES]
    examples = found.unseen.decoded(at)
    rows: list[Row] = []
    for name, scores in found.as_trained.items():
        again = found.retrained.get(name)
        rows.append(
            (
                _words(name),
                np.stack([make_version(image, name) for image in examples]),
                scores.scores["accuracy"],
                again.scores["accuracy"] if again else None,
            )
        )
    return rows


def with_retrained(
    found: Shortcuts, logits: Mapping[str, np.ndarray], unseen: Unseen, config: str = "", *, is_finished: bool
) -> Shortcuts:
    """The same with networks that were trained on versions.

    Args:
      logits: by version, "all" first, [N, K].
      unseen: the images that these are of; its cohort is what counts.
      config: name of what was trained again, of a study.
      is_finished: whether all that were wanted are there.
    """
    paired = PairedScores(logits[WHOLE], unseen.cohort, bootstrap_of(unseen))
    versions = {name: of_version for name, of_version in logits.items() if name != WHOLE}
    retrained = {WHOLE: paired.plain}
    retrained |= {name: paired.of(of_version, len(versions)) for name, of_version in versions.items()}
    return dataclasses.replace(
        found, retrained=retrained, retrained_config=config, is_finished=found.is_finished and is_finished
    )


def bootstrap_of(unseen: Unseen) -> Bootstrap:
    """As the settings of the model have it."""
    settings = unseen.settings.evaluate
    return Bootstrap(settings.num_resamples, settings.confidence)

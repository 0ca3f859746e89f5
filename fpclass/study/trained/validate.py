"""External validation: what a run or a study says of a second labelled data set, with nothing fitted to it.

The members predict it with the weights that they kept; calibration, thresholds, abstention and conformal sets are those
of the folder. Images that it was trained or judged on are left out, with everybody who shares such an image.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fpclass import experiment
from fpclass.common import files
from fpclass.common.console import program
from fpclass.config import Config, apply_overrides, differences, given_keys
from fpclass.data.files import some_of
from fpclass.data.resize import Decoding
from fpclass.data.splits import VALIDATION, find_groups
from fpclass.data.table import OUT_OF_RANGE, Table, canonical_label, column_cells
from fpclass.errors import ConfigError, DataError, RunError
from fpclass.report.style import save_figure
from fpclass.report.text_tables import align_columns, classification_report, markdown_table
from fpclass.run.checklist import FILE as CHECKLIST
from fpclass.run.checklist import run_facts, write_checklist
from fpclass.run.prepare import decode_data, judge_data, note_of
from fpclass.run.subgroups import judge_subgroups
from fpclass.stats.cohort import Cohort, group_codes
from fpclass.stats.decisions.rule import DecisionRule
from fpclass.stats.intervals import Bootstrap, Interval, evaluate_predictions
from fpclass.stats.metrics import log_softmax
from fpclass.study.scrutiny.checklist import write_study_checklist
from fpclass.study.study import Study
from fpclass.study.test_set import OnTest, SetAside, combine, judge_test
from fpclass.study.trained.copies import IDENTICAL, NEAR, Copies, find_copies
from fpclass.study.trained.frozen import Frozen

OTHER = (
    *("source", "root", "sha256", "csv", "separator", "image_dir", "filename_column", "label_column", "group_column"),
    *("group_pattern", "classes", "merge", "missing", "max_file_mb", "memory_gb", "tfds_name", "near_duplicates"),
    "exclude",
)
"""Keys of the section `data` that say where other images are; the rest says how images are decoded, which is kept."""
COMPARED = ("accuracy", "roc_auc", "log_loss")
"""Scores that are shown inside and outside."""


@dataclasses.dataclass(frozen=True)
class Participants:
    """Which images of the other data set are analysed.

    Attributes:
      table: audited.
      rows: of the table, those that are analysed, [n].
      with_copies: the same, and the folder's own images with whoever is in them, [m].
      copies: which images are the folder's own.
      units: whom each row of the table belongs to, [N].
      flow: how many images were listed, left out and analysed, by the reason.
      warnings: what a person should know, a line each.
    """

    table: Table
    rows: np.ndarray
    with_copies: np.ndarray
    copies: Copies
    units: np.ndarray
    flow: dict[str, int]
    warnings: tuple[str, ...]

    def aside(self, frozen: Frozen, predicted: Mapping[str, np.ndarray], rows: np.ndarray) -> SetAside:
        """Some of the images with_copies, of which all are predicted, [M, m, K] by config."""
        among = np.isin(self.with_copies, rows)
        frame = self.table.rows.iloc[rows]
        cohort = Cohort(self.table.labels[rows], self.units[rows], None, frozen.class_names)
        logits = {name: of_config[:, among] for name, of_config in predicted.items()}
        return SetAside(frame["filename"].tolist(), cohort, logits, group_codes(frame["group"].to_numpy(str)))


def other_config(config: Config, root: str, overrides: Sequence[str]) -> Config:
    """The config of a run with the images of another data set, decoded as its own are.

    Args:
      root: of the other data set; "" where `overrides` say it all.
      overrides: `--config.data.…` arguments, of the keys in `OTHER`.

    Raises:
      ConfigError: a key that says how images are decoded, or one that makes no sense.
    """
    other: Any = ConfigDict(config.to_dict())
    other.data.copies = other.data.exclude = other.data.sha256 = ""
    if root:
        other.data.root = root
    if root and other.data.source == "synthetic":
        other.data.source = "csv"
    folder = pathlib.Path(root)
    if root and folder.is_dir():  # a name of the old files; the same layout keeps it
        if other.data.csv and not (folder / other.data.csv).is_file():
            other.data.csv = ""
        if other.data.image_dir and not (folder / other.data.image_dir).is_dir():
            other.data.image_dir = ""
    changed = apply_overrides(ConfigDict(other.to_dict()), overrides, {})
    for key in differences(other.lock(), changed):
        if key.removeprefix("data.") not in OTHER and not key.startswith("data.synthetic."):
            raise ConfigError(
                f"--config.{key} cannot change: the other images are decoded and predicted as those that were "
                "trained on; leave it out"
            )
    unread = experiment.find_unread(experiment.check(changed))
    experiment.refuse_unread(changed, unread, given_keys(overrides))
    return changed


def with_classes(config: Config, frozen: Frozen) -> Config:
    """The config, naming the classes that the network knows, unless classes are put together."""
    if config.data.merge:
        return config
    named: Any = ConfigDict(config.to_dict())
    named.data.classes, named.data.class_names = frozen.classes, frozen.class_names
    return named.lock()


def check_classes(table: Table, frozen: Frozen) -> None:
    """Refuses a table whose classes are not those of the network.

    Raises:
      DataError: it has others.
    """
    known = [canonical_label(value) for value in frozen.classes]
    strange = table.rows.loc[table.labels == OUT_OF_RANGE, "raw_label"]
    if [canonical_label(value) for value in table.classes] != known:
        met = some_of(list(table.classes))
    elif len(strange):
        met = some_of(sorted(set(strange)))
    else:
        return
    raise DataError(
        f"{table.source}: has the classes {met}; {frozen.folder} knows {some_of(list(frozen.classes))}: name its label "
        "column (--config.data.label_column), or put its classes together as those "
        f"(--config.data.merge='((\"{frozen.classes[0]}\", (…)), …)')"
    )


def find_participants(
    table: Table, frozen: Frozen, known: pd.DataFrame, copies: Copies, *, leaves_out_people: bool
) -> Participants:
    """The labelled images of an audited table that the folder was not made with.

    Args:
      known: as `Frozen.known`.
      leaves_out_people: whether people of the same name as somebody in training are left out, or only warned of.

    Raises:
      DataError: none is left.
    """
    rows = table.rows
    units = find_groups(table, grouped=True)
    is_labelled = table.labelled_mask
    flow = {
        "listed": len(table) + len(table.left_out),
        **({"left out by data.exclude": len(table.left_out)} if table.left_out else {}),
        "in quarantine": int((~table.usable_mask).sum()),
        "without a label": int((table.usable_mask & table.to_predict_mask).sum()),
    }
    shares = np.isin(units, units[copies.kind != ""]) & is_labelled
    names = set(known["group"].astype(str)) - {"", "nan"}
    has_name = rows["group"].astype(str).isin(names).to_numpy(bool) & is_labelled & ~shares
    warnings = [copies.why_not] if copies.why_not else []
    flow["of the folder's own images or people"] = int(shares.sum())
    if has_name.any():
        people = rows.loc[has_name, "group"].nunique()
        text = f"{people} people ({has_name.sum()} images) have the name of somebody in training"
        if leaves_out_people:
            flow["of people named as in training"] = int(has_name.sum())
            warnings.append(f"{text}: left out")
        else:
            warnings.append(
                f"{text}: are they the same people? Then this is no external validation, and --new-people leaves them "
                "out; the same name may also be a number that both data sets count from"
            )
    if not names:
        warnings.append(f"{frozen.folder} knows no people by name: whether somebody is in both sets cannot be told")
    is_wanted = is_labelled & ~(has_name & leaves_out_people)
    is_analysed = is_wanted & ~shares
    flow["analysed"] = int(is_analysed.sum())
    if not is_analysed.any():
        counts = ", ".join(f"{count} {reason}" for reason, count in flow.items())
        raise DataError(f"{table.source}: no image is left to validate on ({counts}); give labelled images of others")
    analysed, with_copies = np.flatnonzero(is_analysed), np.flatnonzero(is_wanted)
    return Participants(table, analysed, with_copies, copies, units, flow, tuple(warnings))


def validate(frozen: Frozen, root: str, overrides: Sequence[str], name: str = "", *, new_people: bool = False) -> str:
    """Judges a run or a study on another labelled data set; writes validation/NAME/, and returns what it says.

    Args:
      root: as `other_config`, like overrides.
      name: of the folder of the results; "" for that of the data.
      new_people: as leaves_out_people of `find_participants`.

    Raises:
      ConfigError: as `other_config`.
      DataError: the other data cannot be read, have other classes, or nothing is left of them.
      RunError: a member's checkpoint is gone, or a file is damaged.
    """
    predicted: dict[str, np.ndarray] = {}
    found: Participants | None = None
    for names in _by_decoding(frozen).values():
        trained_on = frozen.configs[names[0]]
        config = with_classes(other_config(trained_on, root, overrides), frozen)
        config = _with_subgroups(config, frozen.settings)
        table, images, facts = decode_data(config)
        table = judge_data(config, table, facts).table
        check_classes(table, frozen)
        if found is None:
            known = frozen.known()
            copies = find_copies(table, facts, known, trained_on, config.data.near_duplicates)
            found = find_participants(table, frozen, known, copies, leaves_out_people=new_people)
        for member in names:
            predicted[member] = frozen.predict(member, images, found.with_copies)
    assert found is not None
    judged, origin = found.aside(frozen, predicted, found.rows), f"of {found.table.source}"
    of_study = frozen.num_splits, frozen.settings, frozen.classes, frozen.ensemble
    result = judge_test(judged, *of_study, "", frozen.pooling, "external", origin)
    leak = _judge_copies(frozen, found, found.aside(frozen, predicted, found.with_copies), result)
    folder = frozen.folder / "validation" / (_folder_name(name or pathlib.Path(root).name) or found.table.classes[0])
    return _write(folder, frozen, found, result, leak)


def _judge_copies(frozen: Frozen, found: Participants, judged: SetAside, result: OnTest) -> dict[str, Any]:
    """How many images are the folder's own, and the scores with them beside those without; no scores without any."""
    leak: dict[str, Any] = {"identical": found.copies.count(IDENTICAL), "near": found.copies.count(NEAR)}
    leak |= {"left_out": len(found.with_copies) - len(found.rows), "why_not": found.copies.why_not, "findings": []}
    if not leak["left_out"]:
        return leak
    rule = DecisionRule.from_json(frozen.ensemble, "ensemble.json")
    combined = combine(judged.logits, frozen.num_splits, frozen.ensemble, rule)[1]
    settings = frozen.settings.evaluate
    scores = evaluate_predictions(combined, judged.cohort, Bootstrap(settings.num_resamples, settings.confidence))
    leak["with_them"] = {key: scores[key] for key in ("num_images", "num_groups", *COMPARED)}
    without = result.ensemble
    shown = "; ".join(
        f"{key.replace('_', ' ')} {Interval.of(without[key])} without them, {Interval.of(scores[key])} with them"
        for key in COMPARED
    )
    leak["findings"] = [
        f"LEAK: {leak['identical'] + leak['near']} images are those of {frozen.folder}, {leak['identical']} to the "
        f"pixel and {leak['near']} nearly (saved again, resized): left out, with all {leak['left_out']} images of "
        f"whoever is in them; {shown} (copies.csv)"
    ]
    return leak


def _write(folder: pathlib.Path, frozen: Frozen, found: Participants, result: OnTest, leak: dict[str, Any]) -> str:
    """Writes the tables, metrics.json, validation.md, figures and the checklist; returns the text for the terminal."""
    from fpclass.report import charts
    from fpclass.study.figures import reliability_diagram

    table, rows, cohort = found.table, found.rows, result.judged.cohort
    note = note_of(table.is_synthetic or frozen.is_synthetic)
    files.write_csv(folder / "predictions.csv", _predictions(found, result, frozen))
    copies, filenames = found.copies, table.rows["filename"]
    frame = pd.DataFrame({"filename": filenames, "copy_of": copies.copy_of, "kind": copies.kind})
    files.write_csv(folder / "copies.csv", frame.loc[np.flatnonzero(copies.kind != "")])
    subgroups = judge_subgroups(
        folder, table.rows.iloc[rows], result.logits, cohort, frozen.settings,
        is_covered=result.is_covered, of="external", note=note,
    )  # fmt: skip
    result = dataclasses.replace(result, subgroups=subgroups)
    record = {
        "data": table.source,
        "validated": str(frozen.folder),
        "flow": found.flow,
        "warnings": list(found.warnings),
        "copies": leak,
        "internal": {"of": frozen.internal_are} | {key: frozen.internal.get(key) for key in COMPARED},
        **result.to_json(),
    }
    files.write_json(folder / "metrics.json", record)
    lines = [*([note] if note else []), *_flow_lines(found, leak), *_internal_lines(frozen, result)]
    lines += result.findings()
    figures = {
        "confusion_matrix": charts.confusion_matrix(
            np.array(result.ensemble["confusion_matrix"]), table.class_names, of="external", note=note
        ),
        "roc": charts.roc_curves(
            result.logits, cohort.labels, table.class_names, Interval.of(result.ensemble["roc_auc"]),
            of="external", note=note,
        ),
        "reliability": reliability_diagram(result.frozen["calibration"], note=note),
    }  # fmt: skip
    for name, figure in figures.items():
        save_figure(figure, folder / f"figures/{name}.png")
    drawn = [*figures, *(["subgroups"] if (folder / "figures/subgroups.png").is_file() else [])]
    files.write_text(folder / "validation.md", _markdown(frozen, result, lines, drawn))
    cells = align_columns(result.cells(has_intervals=True))
    written = f"written     {folder / 'validation.md'}, metrics.json, predictions.csv, copies.csv, figures/"
    return "\n".join(["", *cells, "", *lines, "", written, f"            {_write_checklist(frozen)}"])


def _write_checklist(frozen: Frozen) -> str:
    """Writes checklist.md of the folder anew, with what is said of other data now, and says so or why not."""
    source, path = frozen.source, frozen.folder / CHECKLIST
    try:
        if isinstance(source, Study):
            write_study_checklist(source)
        else:
            metrics = files.read_object(source.path("metrics.json"), validation=dict)
            write_checklist(source.folder, run_facts(source.folder, source.config, metrics, VALIDATION))
    except (RunError, KeyError, TypeError) as error:  # a folder of an older version lacks what the page says
        return f"{path} stays as it is ({error}); `{program()} evaluate --workdir={frozen.folder}` makes it anew"
    return f"{path}, with these images in it"


def _predictions(found: Participants, result: OnTest, frozen: Frozen) -> pd.DataFrame:
    """A row per analysed image: filename, group, unit, label, probability of each class, and what it is called."""
    table, rows = found.table, found.rows
    probabilities = np.exp(log_softmax(result.logits))
    frame = pd.DataFrame(
        {
            "filename": table.rows["filename"].to_numpy()[rows],
            "group": table.rows["group"].to_numpy()[rows],
            "unit": found.units[rows],
            "label": table.labels[rows],
            "predicted": probabilities.argmax(axis=1),
        }
    )
    for k, value in enumerate(frozen.classes):
        frame[f"probability_{value}"] = probabilities[:, k]
    for name in frozen.settings.evaluate.subgroups:
        frame[name] = column_cells(table.rows.iloc[rows], name)
    return frame


def _flow_lines(found: Participants, leak: Mapping[str, Any]) -> list[str]:
    flow = ", ".join(f"{count} {reason}" for reason, count in found.flow.items() if count or reason == "analysed")
    return [f"images: {flow}", *(f"WARNING: {line}" for line in (*leak["findings"], *found.warnings))]


def _internal_lines(frozen: Frozen, result: OnTest) -> list[str]:
    """The scores inside beside those outside: other people, so the intervals are independent."""
    shown = []
    for key in COMPARED:
        if frozen.internal.get(key):
            inside, outside = Interval.of(frozen.internal[key]), Interval.of(result.ensemble[key])
            shown.append(f"{key.replace('_', ' ')} {inside} inside, {outside} outside")
    return [f"inside ({frozen.internal_are}) and outside: " + "; ".join(shown)] if shown else []


def _markdown(frozen: Frozen, result: OnTest, lines: Sequence[str], drawn: Sequence[str]) -> str:
    table = markdown_table(result.cells(has_intervals=True))
    report = classification_report(result.ensemble)
    pictures = [f"![{name}](figures/{name}.png)" for name in drawn]
    about = f"Of {frozen.folder.name}, as it stood: nothing was fitted to, or chosen by, these images."
    parts = ["# External validation", "", about, "", *table, "", *(f"- {line}" for line in lines), ""]
    parts += [line for title, text in result.by_person().items() for line in (f"## {title}", "", text, "")]
    return "\n".join([*parts, "```", report, "```", "", *pictures, ""])


def _with_subgroups(config: Config, settings: Config) -> Config:
    """The config, with the subgroups that are asked for now."""
    changed: Any = ConfigDict(config.to_dict())
    changed.evaluate.subgroups = settings.evaluate.subgroups
    return changed.lock()


def _by_decoding(frozen: Frozen) -> dict[Decoding, list[str]]:
    together: dict[Decoding, list[str]] = {}
    for name, config in frozen.configs.items():
        together.setdefault(Decoding.of(config.data), []).append(name)
    return together


def _folder_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("._")[:80]

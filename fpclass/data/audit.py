"""Audit of a data set: findings, and the quarantine of unusable images, a column of the table; nothing is repaired."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fpclass.data.audit_summary import summarise, summary_lines
from fpclass.data.clusters import cluster_names
from fpclass.data.files import some_of
from fpclass.data.table import FATAL, NUM_NAMES, OUT_OF_RANGE, QUARANTINE, WARNING, Finding, Table
from fpclass.errors import DataError

MISSING = "missing file"
"""Error of a row that has no file."""
NEAR_BLANK_STD = 2.0
"""Standard deviation of the grey levels, of 255, below which an image shows next to nothing (chosen)."""


@dataclasses.dataclass(frozen=True)
class Audit:
    """A table with its quarantine and the facts of decoding, the findings in it, fatal ones first, and a summary."""

    table: Table
    findings: tuple[Finding, ...]
    summary: dict[str, Any]

    def raise_if_fatal(self) -> None:
        """Stops what cannot go on.

        Raises:
          DataError: there is a fatal finding; the message is the first one.
        """
        for finding in self.findings:
            if finding.severity == FATAL:
                raise DataError(f"{self.table.source}: {finding.reason}")

    def raise_if_strict(self) -> None:
        """Stops where something would be left out.

        Raises:
          DataError: rows are in quarantine; the message says how many and which is the first.
        """
        out = _quarantined(self.table)
        if len(out):
            raise DataError(
                f"{self.table.source}: {len(out)} of {len(self.table)} images cannot be used, first "
                f"{_first(out)}; mend them, or run without --strict"
            )

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-serialisable, for audit.json."""
        out = _quarantined(self.table)
        return {
            "source": self.table.source,
            "is_synthetic": self.table.is_synthetic,
            "classes": list(self.table.classes),
            "class_names": list(self.table.class_names),
            "summary": self.summary,
            "findings": [dataclasses.asdict(f) | {"filenames": list(f.filenames)} for f in self.findings],
            "quarantined": dict(zip(out["filename"], out["quarantine"], strict=True)),
        }

    def to_text(self) -> str:
        """A summary for the terminal, some 40 lines at most however long the lists are."""
        return "\n".join([*summary_lines(self.table, self.summary), *_finding_lines(self.findings)])


def audit_table(
    table: Table, facts: pd.DataFrame, *, near_duplicates: float = 0.0, cache_dir: Path | None = None
) -> Audit:
    """Judges a data set by what its source says and what decoding every image showed.

    Args:
      facts: one row per row of the table, in its order, with the columns of `decode.FACT_DTYPES`; phash, dhash and
        thumbnail are needed only for near-duplicates. `MISSING` is the error without a file.
      near_duplicates: correlation of the thumbnails from which two images are copies; 0 for identical ones only.
      cache_dir: where the clusters of many images are kept; None for nowhere.

    Returns:
      The findings, and the table with quarantine reasons, facts (without thumbnails) and the column near_duplicates:
      the cluster of a labelled image that has near copies among the labelled ones, or "".
    """
    if len(facts) != len(table):
        raise ValueError(f"{len(facts)} facts for {len(table)} images")
    columns: dict[str, Any] = {name: facts[name].to_numpy() for name in facts if name != "thumbnail"}
    for name in ("error", "sha256", "pixel_sha256", "mode", "format", "note"):
        columns[name] = facts[name].fillna("").to_numpy(object)
    reasons = [" ".join(str(error).split()) for error in columns["error"]]
    table = table.with_columns(**columns, quarantine=pd.Series(reasons, dtype=object))
    alike: list[Finding] = []
    if near_duplicates:
        table, alike = _tie_near_duplicates(table, facts, near_duplicates, cache_dir)
    findings = (  # the fatal ones first, then quarantine, then warnings
        *_label_findings(table),
        *_file_findings(table),
        *_copy_findings(table, "byte_identical", "sha256", "the same file"),
        *_copy_findings(table, "pixel_identical", "pixel_sha256", "the same pixels in different files", "sha256"),
        *alike,
        *_group_findings(table),
        *table.findings,
        *_look_findings(table),
    )
    return Audit(table, findings, summarise(table))


# --- findings -------------------------------------------------------------------------------------


def _label_findings(table: Table) -> Iterator[Finding]:
    """Labels that are not configured, and classes that nothing can be learnt about."""
    rows, classes = table.rows, table.classes
    wrong = rows[rows["label"] == OUT_OF_RANGE]
    if len(wrong):
        values = [f"{count} x {value!r}" for value, count in wrong["raw_label"].value_counts().items()]
        reason = (
            f"labels {some_of(values)}, e.g. of {wrong['filename'].iloc[0]!r}, are not among the classes "
            f"({some_of(classes)}); mend them or data.classes"
        )
        yield Finding("label_out_of_range", FATAL, tuple(wrong["filename"]), reason)
    # What validation and test hold does not help to learn a class.
    trainable = table.labels[table.labelled_mask & rows["split"].isin(["", "train"]).to_numpy()]
    if not len(trainable):
        reason = f"none of the {len(rows)} images can be trained on, it takes a label and a readable file"
        yield Finding("no_labelled_image", FATAL, (), reason + _because(_quarantined(table)))
        return
    if len(classes) == 1:
        reason = f"every label is {classes[0]!r}; it takes at least two classes"
        yield Finding("single_class", FATAL, (), reason)
    for k in np.flatnonzero(np.bincount(trainable, minlength=len(classes)) == 0):
        out = rows[(rows["label"] == k) & ~table.usable_mask]
        reason = f"class {classes[k]!r} has no usable image to train on{_because(out)}"
        yield Finding("empty_class", FATAL, tuple(out["filename"]), f"{reason}; add images or mend data.classes")


def _file_findings(table: Table) -> Iterator[Finding]:
    """Files that are not there, hold nothing or cannot be decoded, and those that nobody lists."""
    rows = table.rows
    together: dict[tuple[str, str], list[str]] = {}
    broken = rows[rows["error"] != ""]
    columns = ("filename", "quarantine", "num_bytes", "sha256")
    for filename, reason, num_bytes, sha256 in zip(*(broken[column] for column in columns), strict=True):
        if reason == MISSING:
            key = ("missing", "no file of this name below the data root")
        else:
            is_empty = num_bytes == 0 and sha256 != ""  # without a hash it was not even read
            key = ("empty" if is_empty else "unreadable", reason)
        together.setdefault(key, []).append(filename)
    for (kind, reason), filenames in together.items():
        yield Finding(kind, QUARANTINE, tuple(filenames), reason)
    if table.unlisted:
        yield Finding("unlisted", WARNING, table.unlisted, "files below the data root that no row names")


def _copy_findings(table: Table, kind: str, column: str, what: str, exact_column: str = "") -> list[Finding]:
    """One finding per cluster of images with the same `column`, unless it is "", in words `what`; the loud ones first.

    Clusters that have `exact_column` in common as well are left to another kind of finding.
    """
    rows = table.rows[table.usable_mask & ~table.copy_mask]  # augmented copies are meant to be alike
    copies = rows[(rows[column] != "") & rows[column].duplicated(keep=False)]
    fields = (copies[field] for field in (column, "filename", exact_column or column, "raw_label", "group", "split"))
    clusters: dict[str, list[tuple[str, ...]]] = {}
    for key, *copy in zip(*fields, strict=True):
        clusters.setdefault(key, []).append(tuple(copy))
    findings = []
    for cluster in clusters.values():
        filenames, exact, label, group, split = zip(*cluster, strict=True)
        if not exact_column or len(set(exact)) > 1:
            reason = f"{len(filenames)} times {what}{crossings(label, group, split)}"
            findings.append(Finding(kind, WARNING, filenames, reason))
    return sorted(findings, key=lambda f: ("CONTRADICTORY" not in f.reason, "ACROSS" not in f.reason))


def _tie_near_duplicates(
    table: Table, facts: pd.DataFrame, min_similarity: float, cache_dir: Path | None
) -> tuple[Table, list[Finding]]:
    """The table with its column `near_duplicates`, and the findings about all usable images."""
    filenames = table.rows["filename"].to_numpy()
    usable, labelled = table.usable_mask & ~table.copy_mask, table.labelled_mask & ~table.copy_mask
    seen = cluster_names(facts, filenames, usable, min_similarity, cache_dir)
    what = "nearly the same picture (saved again, resized)"
    marked = table.with_columns(near_duplicates=seen)
    findings = _copy_findings(marked, "near_duplicate", "near_duplicates", what, "pixel_sha256")
    if np.array_equal(labelled, usable):
        return marked, findings
    # A row to predict that is like two images does not tie them: it must not change who is trained on.
    tied = cluster_names(facts, filenames, labelled, min_similarity, cache_dir)
    return table.with_columns(near_duplicates=tied), findings


def crossings(label: Sequence[str], group: Sequence[str], split: Sequence[str]) -> str:
    """Disagreements between the copies of one image, "; "-separated."""
    labels, groups, splits = (sorted(set(values) - {""}) for values in (label, group, split))
    parts = [""]
    if len(labels) > 1:
        parts.append(f"CONTRADICTORY LABELS {', '.join(labels)}: at most one is right")
    if len(splits) > 1:
        parts.append(f"ACROSS THE SPLITS {', '.join(splits)} that the source gives")
    if len(groups) > 1:
        parts.append(f"across {len(groups)} people ({some_of(groups, limit=4)})")
    if labels and "" in label:
        parts.append("some labelled, some to predict")
    return "; ".join([*parts, "kept together when splitting"])


def _group_findings(table: Table) -> Iterator[Finding]:
    """People with two labels, and rows without a person where others have one."""
    rows = table.rows
    named = rows[(rows["group"] != "") & (rows["label"] >= 0)]
    torn = named[named.groupby("group")["label"].transform("nunique") > 1]
    people: dict[str, tuple[list[str], list[str]]] = {}
    for person, filename, label in zip(torn["group"], torn["filename"], torn["raw_label"], strict=True):
        filenames, labels = people.setdefault(person, ([], []))
        filenames.append(filename)
        labels.append(label)
    for person, (filenames, labels) in people.items():
        counts = ", ".join(f"{label}: {count}" for label, count in sorted(Counter(labels).items()))
        reason = f"{person!r} has different labels ({counts})"
        yield Finding("group_with_two_labels", WARNING, tuple(filenames), reason)
    nameless = rows[rows["group"] == ""]
    if 0 < len(nameless) < len(rows):
        reason = "no person given; each of these images counts as a person of its own"
        yield Finding("missing_group", WARNING, tuple(nameless["filename"]), reason)


def _look_findings(table: Table) -> Iterator[Finding]:
    rows = table.rows[table.usable_mask]
    blank = rows[rows["std"] < NEAR_BLANK_STD]
    if len(blank):
        reason = f"standard deviation of the grey levels below {NEAR_BLANK_STD:g} of 255"
        yield Finding("near_blank", WARNING, tuple(blank["filename"]), reason)
    animated = rows[rows["num_frames"] > 1]
    if len(animated):
        yield Finding("animated", WARNING, tuple(animated["filename"]), "several frames, only the first is used")


def _quarantined(table: Table) -> Any:
    return table.rows[~table.usable_mask]


def _first(rows: Any) -> str:
    return f"{rows['filename'].iloc[0]!r} ({rows['quarantine'].iloc[0]})"


def _because(rows: Any) -> str:
    return f"; {len(rows)} are in quarantine, first {_first(rows)}" if len(rows) else ""


# --- text -----------------------------------------------------------------------------------------


def _finding_lines(findings: Sequence[Finding], num_examples: int = 2) -> list[str]:
    """The findings by severity and kind, a few examples of each kind."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.kind), []).append(finding)
    lines = [] if kinds else ["no findings"]
    for (severity, kind), members in kinds.items():
        label = f"{severity.upper():<12}"
        if len(members) > 1:
            num_files = len({name for finding in members for name in finding.filenames})
            lines.append(f"{label}{kind}: {len(members)} findings" + (f", {num_files} files" if num_files else ""))
            label = " " * 14
        for finding in members[:num_examples]:
            line = str(finding) if len(members) == 1 else str(finding).removeprefix(f"{kind}: ")
            is_cut = len(finding.filenames) > NUM_NAMES
            lines.append(f"{label}{line}" + (", see audit.json" if is_cut else ""))
        if len(members) > num_examples:
            lines.append(f"{label}and {len(members) - num_examples} more, see audit.json")
    return lines

"""Counts and sizes of a data set, as JSON and as lines for the terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fpclass.data.files import some_of
from fpclass.data.table import Table


def summarise(table: Table) -> dict[str, Any]:
    """Counts of all images, and sizes and modes of the usable ones, in Python's own types."""
    rows = table.rows
    usable = rows[table.usable_mask]
    people = usable.loc[usable["group"] != "", "group"].value_counts()
    labelled, labels = table.labelled_mask, table.labels

    def per_class(mask: np.ndarray) -> dict[str, int]:
        counts = np.bincount(labels[mask], minlength=table.num_classes)
        return {value: int(count) for value, count in zip(table.classes, counts, strict=True)}

    in_split = {name: (rows["split"] == name).to_numpy() for name in ("train", "validation", "test")}
    sizes = zip(usable["height"], usable["width"], strict=True)
    return {
        "num_images": len(rows),
        "num_labelled": int(labelled.sum()),
        "num_to_predict": int((table.to_predict_mask & table.usable_mask).sum()),
        "num_quarantined": int((~table.usable_mask).sum()),
        "num_left_out": len(table.left_out),
        "num_bytes": int(usable["num_bytes"].sum()),
        "images_per_class": per_class(labelled),
        "images_per_split": {name: per_class(labelled & mask) for name, mask in in_split.items() if mask.any()},
        "num_people": len(people),
        "images_per_person": _spread(people),
        "height_px": _spread(usable["height"]),
        "width_px": _spread(usable["width"]),
        "sizes": _most_common(f"{height:.0f} x {width:.0f}" for height, width in sizes),
        "modes": _most_common(usable["mode"]),
        "formats": _most_common(usable["format"]),
        "notes": _most_common(note for note in usable["note"] if note),
    }


def _spread(values: Any) -> dict[str, float]:
    numbers = values.to_numpy(float)
    if not len(numbers):
        return {}
    return {"min": float(numbers.min()), "median": float(np.median(numbers)), "max": float(numbers.max())}


def _most_common(values: Any, limit: int = 20) -> dict[str, int]:
    """Value -> how often, the frequent ones first, the rare ones of many together as "others"."""
    counts = Counter(values).most_common()
    others = sum(count for _, count in counts[limit:])
    return dict(counts[:limit]) | ({"others": others} if others else {})


def summary_lines(table: Table, summary: dict[str, Any]) -> list[str]:
    """The summary in a few lines."""

    def counts(of: dict[str, int]) -> str:
        return some_of([f"{value}: {count}" for value, count in of.items()])

    def spread(of: dict[str, float]) -> str:
        return f"{of['min']:g} to {of['max']:g} (median {of['median']:g})"

    classes = zip(table.classes, table.class_names, summary["images_per_class"].values(), strict=True)
    lines = [
        table.source,
        f"{summary['num_images']} images: {summary['num_labelled']} labelled, {summary['num_to_predict']} to "
        f"predict, {summary['num_quarantined']} in quarantine; {summary['num_bytes'] / 1e6:.1f} MB",
        f"classes     {counts({k if k == name else f'{k} ({name})': n for k, name, n in classes})}",
    ]
    lines += [f"{split:<12}{counts(of)}" for split, of in summary["images_per_split"].items()]
    if summary["num_people"]:
        lines.append(f"people      {summary['num_people']}, images each {spread(summary['images_per_person'])}")
    if summary["sizes"]:
        height, width = spread(summary["height_px"]), spread(summary["width_px"])
        lines += [
            f"pixels      height {height}, width {width}",
            f"sizes       {counts(summary['sizes'])} (height x width)",
            f"modes       {counts(summary['modes'])}; formats {counts(summary['formats'])}",
        ]
    if summary["notes"]:
        lines.append(f"decoding    {counts(summary['notes'])}")
    return lines

"""Sheets of copies: the image that is kept beside those that are dropped, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpclass.common.console import progress
from fpclass.common.files import read_bytes
from fpclass.data.decode import open_picture
from fpclass.data.tidy.dedupe import KEEP
from fpclass.report.style import COLOURS, GREY, new_figure, save_figure, shorten, show_image, styled

ROWS, COLUMNS = 6, 6
"""Clusters on a page, and images of each."""
MAX_PAGES = 20
"""Pages of sheets; the list has the rest."""
ALARM, GOOD = COLOURS[1], COLOURS[2]


@dataclass(frozen=True)
class Panel:
    """One image of a cluster, with the lines below it and its class, or ""."""

    image: UInt8[np.ndarray, "h w c"]
    filename: str
    lines: tuple[str, ...]
    label: str = ""


@dataclass(frozen=True)
class Cluster:
    """A cluster of `num_images`, of which the kept one and some copies are shown; contradictory if classes differ."""

    number: int
    panels: tuple[Panel, ...]
    num_images: int
    is_contradictory: bool = False


def write_sheets(folder: Path, target: Path, copies: Any) -> int:
    """Draws the clusters of `dedupe.find_duplicates`, up to `MAX_PAGES`; gives the number of pages.

    Raises:
      RunError: they cannot be written.
    """
    for old in target.glob("sheet_*.png"):
        old.unlink()
    groups = [members for _, members in copies.groupby("cluster", sort=False)]
    shown = groups[: MAX_PAGES * ROWS]
    pages = [shown[start : start + ROWS] for start in range(0, len(shown), ROWS)]
    hidden = len(groups) - len(shown)
    note = f"the first {len(shown)} of {len(groups)} clusters, contradictory ones first" if hidden else ""
    for page, members in enumerate(progress(pages, len(pages), "sheets"), 1):
        clusters = [_sheet_row(folder, group) for group in members]
        figure = duplicates_sheet(clusters, page, len(pages), note)
        save_figure(figure, target / f"sheet_{page:03d}.png")
    return len(pages)


def _sheet_row(folder: Path, members: Any) -> Cluster:
    panels = []
    for image in members.head(COLUMNS).itertuples():
        picture, _ = open_picture(read_bytes(folder / image.filename))
        picture.thumbnail((240, 240))
        size = f"{image.width} x {image.height} {image.format}, {image.num_bytes / 1e3:,.0f} kB"
        how = f"{image.how}, {image.similarity:.4f}" if image.how else "kept"
        if image.how and image.decision == KEEP:
            how += "; kept, to predict"
        pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
        label = "/".join(part for part in (image.split, image.label) if part)
        panels.append(Panel(pixels, image.filename, (size, how), label))
    first = members.iloc[0]
    return Cluster(int(first["cluster"]), tuple(panels), len(members), bool(first["contradiction"]))


@styled
def duplicates_sheet(clusters: Sequence[Cluster], page: int, num_pages: int, note: str = "") -> Figure:
    """One page: a cluster a row, the image that is kept on the left in green."""
    num_columns = max(2, *(len(cluster.panels) for cluster in clusters))
    title = "Copies: kept on the left" + (f", page {page} of {num_pages}" if num_pages > 1 else "")
    figure = new_figure(1.9 * num_columns + 0.8, 2.35 * len(clusters) + 0.8, title, note)
    axes = figure.subplots(len(clusters), num_columns, squeeze=False)
    for row, cluster in zip(axes, clusters, strict=True):
        colour = ALARM if cluster.is_contradictory else GREY
        row[0].set_ylabel(f"{cluster.number}", rotation=0, ha="right", va="center", fontsize=12, color=colour)
        for place, panel in zip(row, cluster.panels, strict=False):
            _draw(place, panel, GOOD if panel is cluster.panels[0] else GREY, cluster.is_contradictory)
        for place in row[len(cluster.panels) :]:
            place.set_axis_off()
        hidden = cluster.num_images - len(cluster.panels)
        if hidden > 0:
            row[-1].text(
                1.0, 1.03, f"and {hidden} more", transform=row[-1].transAxes, ha="right", fontsize=8, color=GREY
            )
    return figure


def _draw(place: Axes, panel: Panel, frame: str, is_alarming: bool) -> None:
    show_image(place, panel.image)
    place.spines[:].set(color=frame, linewidth=2.5 if frame == GOOD else 0.8)
    place.set_anchor("S")
    text = "\n".join((shorten(panel.filename, 27), *panel.lines))
    place.set_xlabel(text, fontsize=7, color=GREY, labelpad=3)
    if panel.label:
        place.set_title(shorten(panel.label, 22), fontsize=8, color=ALARM if is_alarming else GREY, pad=3)

"""Draws and writes a sheet of maps: the figure, the maps as arrays, and its entry in explain.json."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fpclass.common import files
from fpclass.explain.maps import scale_maps, what_is_wrong
from fpclass.explain.request import Request
from fpclass.explain.stages import SMALLEST_SIDE
from fpclass.run.sheets.chosen import Chosen

FILE = "explain.json"
BRIGHTEST = 0.01
"""Share of the pixels of a map by single pixels that look the same: a few outshine all others."""
HEADER = ["Method", "Maps of", "Images", "About", "Stage", "Largest values"]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The maps of a sheet.

    Attributes:
      raw: of each image, at whatever size; signed where the method is.
      stage: that they are of; "" where it is the pixels.
      largest: of each map in its own unit, in words: what scaling hides.
      notes: what a reader has to know of all of them.
      arrays: written beside `raw`.
      sizes: (height, width) in which stages gave the maps, if `raw` is enlarged; (): that of `raw`.
    """

    raw: Float[np.ndarray, "n mh mw"]
    stage: str
    largest: Sequence[str]
    notes: Sequence[str] = ()
    arrays: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sizes: Sequence[tuple[int, int]] = ()

    @property
    def all_sizes(self) -> list[tuple[int, int]]:
        """(height, width) of the maps as they were made, the coarsest first."""
        height, width = self.raw.shape[1:]
        return sorted(set(self.sizes)) or [(height, width)]


def write_sheet(
    folder: pathlib.Path,
    request: Request,
    chosen: Chosen,
    drawn: Drawn,
    about: str,
    class_names: Sequence[str],
    note: str,
    titles: Sequence[str] = (),
) -> list[str]:
    """Writes the figure, the arrays and explain.json; the paths of all, below the folder.

    Args:
      about: what the target is called.
      note: disclaimer of the data.
      titles: above each image, in place of those of the images.
    """
    from fpclass.explain.figures import map_sheet
    from fpclass.report.style import save_figure

    wrong = what_is_wrong(drawn.raw)
    captions = [reason or f"largest value {value}" for reason, value in zip(wrong, drawn.largest, strict=True)]
    figure = map_sheet(
        chosen.images,
        scale_maps(drawn.raw, request.scale, 1 - BRIGHTEST if request.of_method.module == "pixels" else 1.0),
        titles or chosen.titles(class_names),
        chosen.is_right,
        title=f"{request.words(about)}: {chosen.words}, {chosen.how_many}",
        captions=captions,
        label=f"{request.of_method.title} ({'largest of all' if request.scale == 'shared' else 'largest of each'} = 1)",
        note=". ".join(filter(None, (*notes_of(request, chosen, drawn), note))),
        shapes=chosen.shapes,
    )
    save_figure(figure, folder / request.figure)
    with files.replacing(folder / request.arrays) as temporary:
        np.savez(
            temporary,
            filename=chosen.filenames.astype(str), label=chosen.labels, predicted=chosen.predicted, raw=drawn.raw,
            stage=drawn.stage, method=request.method, target=request.target, **drawn.arrays,
        )  # fmt: skip
    _note_sheet(folder, request, chosen, drawn, about, captions)
    return [request.figure, request.arrays, FILE]


def notes_of(request: Request, chosen: Chosen, drawn: Drawn) -> list[str]:
    """The small print of a sheet: how coarse its maps are, and what their colours leave out."""
    method, notes = request.of_method, []
    (height, width), (high, wide) = chosen.images.shape[1:3], drawn.all_sizes[0]
    if method.needs_stage:
        sizes = " or ".join(f"{of[0]} x {of[1]}" for of in drawn.all_sizes)
        notes.append(
            f"Stage {drawn.stage}: maps of {sizes} places in images of {height} x {width} pixels, enlarged smoothly"
        )
        if min(high, wide) < SMALLEST_SIDE:
            notes[-1] += f": a place is {height / high:.0f} x {width / wide:.0f} pixels, so read where, not what shape"
    if method.module == "pixels":
        notes.append(f"The brightest {BRIGHTEST:.0%} of the pixels look the same")
    if method.is_signed:
        notes.append("What speaks against it is not coloured; it is in the arrays")
    if method.has_baseline:
        notes.append(f"Compared with {request.baseline if request.baseline != 'mean' else 'the mean colour'}")
    if request.scale == "own":
        notes.append("Every map has a scale of its own: compare largest values before brightness")
    return [*notes, *drawn.notes]


def _note_sheet(
    folder: pathlib.Path, request: Request, chosen: Chosen, drawn: Drawn, about: str, captions: Sequence[str]
) -> None:
    """Adds a sheet to explain.json, or replaces that of its name, and words all that are there."""
    path = folder / FILE
    sheets = _sheets(path)
    images = [
        {"filename": str(name), "is_right": is_right, "largest": caption}
        for name, is_right, caption in zip(chosen.filenames, chosen.is_right, captions, strict=True)
    ]
    sheets[request.name] = {
        **dataclasses.asdict(request),
        "title": request.of_method.title, "source": request.of_method.source, "about": about, "of": chosen.words,
        "how_many": chosen.how_many, "stage": drawn.stage, "size": list(drawn.all_sizes[0]),
        "figure": request.figure, "arrays": request.arrays, "notes": notes_of(request, chosen, drawn), "images": images,
    }  # fmt: skip
    files.write_json(path, {"sheets": sheets, "report": _report(folder, sheets)})


def _sheets(path: pathlib.Path) -> dict[str, Any]:
    """The sheets that explain.json has; none where it is missing or damaged."""
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8"))["sheets"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    fine = {name: sheet for name, sheet in found.items() if isinstance(sheet, dict) and "figure" in sheet}
    return {name: sheet for name, sheet in fine.items() if (path.parent / str(sheet["figure"])).is_file()}


def _report(folder: pathlib.Path, sheets: Mapping[str, Any]) -> dict[str, Any]:
    """The piece of the report: what each sheet shows, and where a map shows nothing."""
    sentences, table = [], [HEADER]
    for sheet in sheets.values():
        at = f" at {sheet['stage']}" if sheet["stage"] else ""
        sentences.append(f"{sheet['title']}{at}, what spoke {sheet['about']}: {sheet['of']}, {sheet['how_many']}.")
        empty = [image for image in sheet["images"] if not image["largest"].startswith("largest")]
        if empty:
            sentences.append(
                f"In {len(empty)} of {len(sheet['images'])} of them there is nothing to see: {empty[0]['largest']}."
            )
        values = [image["largest"].removeprefix("largest value ") for image in sheet["images"]]
        shown = ", ".join(values[:5]) + (" …" if len(values) > 5 else "")
        table.append([sheet["title"], sheet["of"], str(len(values)), sheet["about"], sheet["stage"] or "pixels", shown])
    return {
        "title": "Where the network looked",
        "sentences": sentences,
        "table": table if len(table) > 1 else [],
        "figures": [sheet["figure"] for sheet in sheets.values()],
        "note": "A map shows what one method makes of one network; whether it means anything, the checks of maps say.",
    }

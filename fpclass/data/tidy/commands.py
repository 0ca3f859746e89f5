"""The commands `dedupe` and `convert`: their flags and steps."""

from __future__ import annotations

import argparse
from pathlib import Path

from fpclass.common import files
from fpclass.common.console import progress, say
from fpclass.common.flags import Command, at_least, refuse

DEDUPE_EPILOG = """
  fpclass dedupe photos/ --output tidy/ --list       only the list and the sheets, to look at
  fpclass dedupe photos/ --output tidy/              tidy/clean: the folder without copies
  fpclass dedupe prints/ --output tidy/ --label-column SEX

The originals stay as they are. docs/dedupe.md says what counts as a copy.
"""
CONVERT_EPILOG = """
  fpclass convert scans/ pngs/ --mode grey --size 619 403
  fpclass convert photos/ small/ --format jpeg --size 224 224 --resize pad

The originals stay as they are. The same command goes on after an interruption, and takes what is new.
"""


def dedupe(args: argparse.Namespace, overrides: list[str]) -> int:
    """Finds copies of images, also saved again or resized: a list, sheets to look at, and a folder without them.

    The best image of each cluster is kept. Exit code 1 if files cannot be read.
    """
    from fpclass.data.tidy import dedupe as duplicates
    from fpclass.data.tidy.sheets import write_sheets

    refuse(overrides, "dedupe")
    folder, output = files.expanded(args.folder), files.expanded(args.output)
    duplicates.check_output(folder, output)
    table = duplicates.list_images(folder, _labels(folder, args) if args.label_column else None)
    facts = duplicates.measure_images(table, progress)
    copies = duplicates.find_duplicates(table, facts, args.similarity, mirrored=args.mirrored)
    files.write_csv(output / duplicates.CLUSTERS, copies)
    num_pages = write_sheets(folder, output / duplicates.SHEETS, copies)
    written = [f"{output / duplicates.CLUSTERS}"]
    if num_pages:
        written.append(f"{output / duplicates.SHEETS} ({num_pages} pages)")
    notes = []
    unreadable = set(table.rows["filename"][(facts["error"] != "").to_numpy()])
    if not args.list:
        dropped = unreadable | set(copies.loc[copies["decision"] == duplicates.DROP, "filename"])
        notes = duplicates.write_clean(folder, output, table, dropped, progress)
        written.append(f"{output / duplicates.CLEAN} ({len(table) - len(dropped)} images)")
    say(duplicates.summary_text(table, facts, copies))
    for note in notes:
        say(note)
    say(f"written: {', '.join(written)}")
    return 1 if unreadable else 0


def convert(args: argparse.Namespace, overrides: list[str]) -> int:
    """Converts images to one format, size and mode: a folder to another one of PNGs or JPEGs.

    The same command goes on after an interruption. Exit code 1 if files cannot be read.
    """
    from fpclass.data.tidy.convert import Conversion, convert_folder, report_text

    refuse(overrides, "convert")
    folder, output = files.expanded(args.folder), files.expanded(args.output)
    size = (args.size[0], args.size[1]) if args.size else None
    conversion = Conversion(args.format, args.mode, size, args.resize, args.interpolation, args.pad_value, args.quality)
    report, notes = convert_folder(folder, output, conversion, progress)
    say(report_text(report, notes, folder, output))
    return 1 if any(report["error"]) else 0


def _labels(folder: Path, args: argparse.Namespace) -> dict[str, str]:
    """The class of each image that the folder's CSV names, by its path below the folder."""
    from fpclass.config import base_config
    from fpclass.data.sources import load_table

    data = base_config().data
    data.update({"source": "csv", "root": str(folder), "csv": args.csv})
    data.update({"filename_column": args.filename_column, "label_column": args.label_column})
    table = load_table(data)
    rows = zip(table.rows["path"], table.rows["raw_label"], strict=True)
    return {Path(path).relative_to(folder.absolute()).as_posix(): label for path, label in rows if path}


def _add_dedupe_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="images at any depth; the folder that one is in is its class")
    add("--output", metavar="DIR", required=True, help="a new folder for the clean copy, the list and the sheets")
    add("--list", action="store_true", help="write list and sheets only, no clean copy")
    add("--mirrored", action="store_true", help="mirror images are copies, too")
    add(
        "--similarity",
        type=_fraction,
        default=0.99,
        metavar="R",
        help="correlation of thumbnails from which images are copies; default %(default)s",
    )
    add("--label-column", metavar="NAME", help="take the classes from this column of the folder's CSV")
    add("--filename-column", default="filename", metavar="NAME", help="its column of filenames; default %(default)s")
    add("--csv", default="", metavar="FILE", help="which CSV of the folder; default the only one")


def _add_convert_flags(parser: argparse.ArgumentParser) -> None:
    from fpclass.data.resize import RESAMPLING, RESIZE

    add = parser.add_argument
    add("folder", metavar="FOLDER", help="images at any depth, with or without CSV files")
    add("output", metavar="OUTPUT", help="a new folder, or that of an earlier start with the same flags")
    add("--format", choices=("png", "jpeg"), default="png", help="default %(default)s")
    add("--mode", choices=("rgb", "grey"), default="rgb", help="default %(default)s")
    add(
        "--size",
        type=at_least(1, at_most=65_500),
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="pixels; default: each image's own",
    )
    add("--resize", choices=RESIZE, default="stretch", help="or keep the aspect ratio: pad; default %(default)s")
    add("--interpolation", choices=tuple(RESAMPLING), default="bicubic", help="default %(default)s")
    add(
        "--pad-value",
        type=at_least(0, at_most=255),
        default=255,
        metavar="GREY",
        help="0 to 255; default %(default)s, white",
    )
    add(
        "--quality",
        type=at_least(1, at_most=100),
        default=95,
        metavar="Q",
        help="of JPEG, 1 to 100; default %(default)s",
    )


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a correlation in (0, 1]")
    return value


COMMANDS = (
    Command("dedupe", dedupe, _add_dedupe_flags, DEDUPE_EPILOG),
    Command("convert", convert, _add_convert_flags, CONVERT_EPILOG),
)

"""The command `weights`: lists, fetches, verifies and converts published weights."""

from __future__ import annotations

import argparse
import pathlib
import shlex
from typing import TYPE_CHECKING

from fpclass.common.console import program, say
from fpclass.common.files import expanded
from fpclass.common.flags import Command, refuse
from fpclass.errors import WeightsError

if TYPE_CHECKING:
    from fpclass.models.pretrained.manifest import Weights

EPILOG = """
  fpclass weights list
  fpclass weights fetch resnet18
  fpclass weights add FILE DIR                         published files that you have, into the cache
  fpclass weights verify resnet18                      the file in the cache; or any file
  fpclass weights convert FILE.pth --as resnet18       as safetensors, into the cache; says how to use it

A machine without a network: FPCLASS_OFFLINE=1 says what to download from where; copy it over, and give it by
--config.model.weights=FILE or to `weights add`.
"""


def weights(args: argparse.Namespace, overrides: list[str]) -> int:
    """Lists, fetches, adds, verifies and converts pretrained weights."""
    refuse(overrides, f"weights {args.action}")
    if args.action == "list":
        say(list_text())
    elif args.action == "fetch":
        say(fetch_text(_entry(args.name)))
    elif args.action == "add":
        say(add_text([expanded(path) for path in args.paths]))
    elif args.action == "verify":
        say(verify_text(args.name))
    else:
        say(convert_text(expanded(args.file), _entry(args.name), args.output))
    return 0


def list_text() -> str:
    """A table of all sets of weights."""
    from fpclass.models.pretrained import fetch, source
    from fpclass.models.pretrained.manifest import MANIFEST

    rows = [("name", "network", "top-1", "input", "size", "licence", "in the cache")]
    for entry in MANIFEST.values():
        # By the presence of the file: to compute the digests of all takes long, and using one does it.
        published, converted = fetch.cached_path(entry), source.converted_path(entry)
        there = {"published": published} if published.is_file() else {}
        there |= {"converted": converted} if converted.is_file() and _is_of_published(converted, entry) else {}
        rows.append(
            (
                entry.name,
                f"{entry.architecture} ({entry.variant})",
                "-" if entry.top1 is None else f"{entry.top1:.3f}",
                "x".join(map(str, entry.image_size)),
                f"{next(iter(there.values())).stat().st_size / 1e6:.0f} MB" if there else "-",
                entry.license,
                ", ".join(there) or "no",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", "licences with NC: NOT for commercial use", f"cache: {fetch.folder()}"])


def fetch_text(entry: Weights) -> str:
    """Fetches, and says where it lies.

    Raises:
      WeightsError: it cannot be had.
    """
    from fpclass.models.pretrained import fetch

    path = fetch.fetch(entry)
    return f"{path}\nsha256 {fetch.file_digest(path)}, as published ({entry.digest}); licence {entry.terms}"


def add_text(paths: list[pathlib.Path]) -> str:
    """Puts published files into the cache, and says which.

    Raises:
      WeightsError: there is none among what was given.
    """
    from fpclass.models.pretrained import source

    added = {name: at for path in paths for name, at in source.add(path).items()}
    if not added:
        raise WeightsError(
            f"{', '.join(map(str, paths))}: no published file of `{program()} weights list` (by digest); another file "
            "with the same numbers is taken by `weights convert`, or by --config.model.weights=FILE"
        )
    return "\n".join(f"{name}: {path}" for name, path in added.items())


def verify_text(name_or_file: str) -> str:
    """Compares a file, or that of the cache, with what is published, and says what it is.

    Raises:
      WeightsError: it is not there, damaged, or something else.
    """
    from fpclass.models.pretrained import fetch, source

    entry, path = source.resolve(name_or_file)
    published = fetch.cached_path(entry)
    path = path or (published if published.is_file() else source.in_cache(entry))
    if path is None:
        unusable = source.why_unusable(entry)
        raise WeightsError(
            f"{entry.name}: not in the cache; `{program()} weights fetch {entry.name}` gets it"
            f"{f'; {unusable}' if unusable else ''}"
        )
    if path == published or fetch.matches(path, entry.digest):
        return f"{path}: is {entry.name}; sha256 {fetch.verify(path, entry)}, as published ({entry.digest})"
    metadata = source.read_metadata(path)
    source.read_checked(path)
    origin = "the published file" if source.is_of_published(metadata, entry) else "a file that is NOT published"
    return (
        f"{path}: converted as {entry.name}, unchanged since; from {origin}, sha256 {metadata.get(source.SOURCE_KEY)}"
    )


def convert_text(path: pathlib.Path, entry: Weights, output: str | None) -> str:
    """Converts, and says what became of it.

    Raises:
      WeightsError: not of this network, or unreadable.
      RunError: the place cannot be written to.
    """
    from fpclass.models.pretrained import source
    from fpclass.models.pretrained.convert import convert

    out = convert(path, entry, expanded(output) if output else None)
    metadata = source.read_metadata(out)
    lines = [f"written: {out}, fits {entry.architecture} ({entry.variant})"]
    taken = source.in_cache(entry)
    if taken == out:
        lines.append(f"use it by --config.model.weights={entry.name}")
    else:
        lines.append(f"use it by {shlex.quote(f'--config.model.weights={out.absolute()}')}")
        lines.append(
            f"the name {entry.name} does not stand for it, but for "
            + (f"{taken}" if taken else "the published file, which is fetched when it is needed")
        )
    if not source.is_of_published(metadata, entry):
        lines.append(
            f"note: {path} (sha256 {metadata[source.SOURCE_KEY]}) is not the file that {entry.name} is published as: "
            "that it holds the same numbers is your word"
        )
    return "\n".join(lines)


def _is_of_published(path: pathlib.Path, entry: Weights) -> bool:
    """Whether a file is readable, and says that it was converted from the published file of an entry."""
    from fpclass.models.pretrained import source

    try:
        return source.is_of_published(source.read_metadata(path), entry)
    except WeightsError:
        return False


def _entry(name: str) -> Weights:
    """The entry of a name."""
    from fpclass.models.pretrained import source
    from fpclass.models.pretrained.manifest import MANIFEST

    if name in MANIFEST:
        return MANIFEST[name]
    if pathlib.Path(name).is_file():
        raise WeightsError(f"{name}: is a file; expected a name of `{program()} weights list`")
    return source.resolve(name)[0]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="every set of weights, and whether it is in the cache", allow_abbrev=False)
    fetch = actions.add_parser("fetch", help="download into the cache; goes on where it broke off", allow_abbrev=False)
    add = actions.add_parser("add", help="take published files that you have into the cache", allow_abbrev=False)
    verify = actions.add_parser("verify", help="compare a file with its published digest", allow_abbrev=False)
    convert = actions.add_parser(
        "convert", help="write .pth, .h5, .npz … as safetensors, after trying it on the network", allow_abbrev=False
    )
    fetch.add_argument("name", metavar="NAME", help="a name of `weights list`")
    add.add_argument("paths", nargs="+", metavar="FILE|DIR", help="files, known by their digests, or folders of them")
    verify.add_argument("name", metavar="NAME|FILE", help="a name of `weights list`, or a file")
    convert.add_argument("file", metavar="FILE", help="safetensors, .pth, .h5 or .npz")
    convert.add_argument("--as", dest="name", metavar="NAME", required=True, help="which set of weights it is")
    convert.add_argument("--output", metavar="FILE", help="where to; default: the cache")


COMMANDS = (Command("weights", weights, _add_arguments, EPILOG),)

"""The command `collect`: its flags, its steps and its summary."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fpclass import __version__
from fpclass.common.console import program, progress, say
from fpclass.common.files import expanded, is_offline, sweep
from fpclass.common.flags import Command, at_least, refuse
from fpclass.errors import DataError, RunError

if TYPE_CHECKING:
    from fpclass.data.collect.download import Find
    from fpclass.data.collect.provenance import Provenance

MEMORY = ".collect"
"""Folder in the folder that keeps the results of searches."""

EPILOG = """
  fpclass collect DIR --queries configs/climbing/queries.yaml --contact you@example.org
  fpclass collect DIR --query heel_hook:en='climbing heel hook' heel_hook:ja='クライミング ヒールフック'
  fpclass collect DIR --urls heel_hook=addresses.txt
  fpclass audit --config=configs/base.py --config.data.source=folder --config.data.root=DIR

DIR/provenance.csv has a row for every address: where from, found by what, licence, or why not. A picture that
does not belong may be deleted: it will not come back. docs/collect.md says more.
"""


def collect(args: argparse.Namespace, overrides: list[str]) -> int:
    """Searches the web for pictures of each class: in several languages, politely, into a folder per class.

    Every picture gets a row that says where it is from. The same command goes on after an interruption.
    """
    from fpclass.data.collect.backends import BACKENDS, Query, UrlList
    from fpclass.data.collect.client import Client
    from fpclass.data.collect.download import Downloads, interleave
    from fpclass.data.collect.plan import make_plan
    from fpclass.data.collect.provenance import Provenance
    from fpclass.data.collect.search import search

    refuse(overrides, "collect")
    if is_offline():
        raise DataError("FPCLASS_OFFLINE is set, and collecting needs the network; unset it")
    folder = expanded(args.folder)
    plan = make_plan(pathlib.Path(args.queries) if args.queries else None, args.query, args.urls)
    client = Client(user_agent=user_agent(args.contact), delay_seconds=args.delay)
    asked = [BACKENDS[name](client, args.licence) for name in dict.fromkeys(args.search) if plan.queries]
    with _claimed(folder), Provenance(folder) as provenance:
        finds, num_failed = [], 0
        listed = [Query(name) for name in plan.urls]
        for backend, queries in [(UrlList(plan.urls), listed), *((one, plan.queries) for one in asked)]:
            more, failed = search(backend, queries, args.per_query, folder / MEMORY / "searches")
            finds, num_failed = finds + more, num_failed + failed
        downloads = Downloads(
            folder, provenance, client, min_side_px=args.min_side, max_bytes=args.max_megabytes * 1_000_000
        )
        waiting = downloads.waiting(interleave(finds))
        say(f"fetch: {len(waiting)} addresses at {len({find.host for find in waiting})} hosts; the others are done")
        try:
            with contextlib.closing(downloads.run(waiting)) as rows:
                for _ in progress(rows, len(waiting), "fetch"):
                    pass
        except KeyboardInterrupt:
            say(f"stopped; everything is in {folder}, and the same command goes on from there")
            raise
    say(summary(folder, plan.classes, provenance, finds, downloads.left))
    return 1 if num_failed or downloads.left.total() else 0


def user_agent(contact: str) -> str:
    """The User-Agent header: which program asks, why, and whom servers can write to.

    Raises:
      DataError: the contact cannot stand in a header.
    """
    contact = contact.strip()
    if not (contact.isascii() and contact.isprintable()):
        raise DataError(f"--contact {contact!r}: expected an e-mail address or a page, in ASCII")
    return f"fpclass/{__version__} (collects images to train a classifier{contact and '; '}{contact})"


def summary(
    folder: pathlib.Path,
    classes: Sequence[str],
    provenance: Provenance,
    finds: Sequence[Sequence[Find]],
    left: Mapping[str, int],
) -> str:
    """Counts by class, reasons of refusals, and the next step, for the terminal."""
    from fpclass.data.collect import provenance as table

    rows = list(provenance.rows.values())
    states = (table.KEPT, table.DUPLICATE, table.REFUSED, table.LATER)
    counts = Counter((row.class_name, row.status) for row in rows)
    lines = [("class", *states), *((name, *(str(counts[name, state]) for state in states)) for name in classes)]
    width = max(len(line[0]) for line in lines)
    text = [line[0].ljust(width) + "".join(cell.rjust(11) for cell in line[1:]) for line in lines]
    for state in (table.REFUSED, table.LATER):
        reasons = Counter(_kind(row.reason) for row in rows if row.status == state)
        text += [f"{state}: {count} {reason}" for reason, count in reasons.most_common(10)]
    text += [f"later: {host} does not answer; {count} addresses were left" for host, count in left.items() if count]
    text += _notes(rows, finds, classes)
    text.append(f"written: {provenance.path}")
    if any(row.status == table.KEPT for row in rows):
        root = shlex.quote(f"--config.data.root={folder}")
        text.append(f"look at them: {program()} audit --config=configs/base.py --config.data.source=folder {root}")
    return "\n".join(text)


def _notes(rows: Sequence, finds: Sequence[Sequence[Find]], classes: Sequence[str]) -> list[str]:
    """Notes on classes and licences to look at before training."""
    kept = [row for row in rows if row.status == "kept"]
    notes = []
    empty = [name for name in classes if not any(row.class_name == name for row in kept)]
    if empty:
        notes.append(f"note: nothing was kept for {', '.join(empty)}")
    found_for = defaultdict(set)
    for find in (find for some in finds for find in some):
        found_for[find.candidate.url].add(find.query.class_name)
    num_torn = sum(len(names) > 1 for names in found_for.values())
    num_torn += sum(row.status == "duplicate" and ", of the class " in row.reason for row in rows)
    if num_torn:
        notes.append(f"note: {num_torn} pictures were found for two classes, and are in the one that was first")
    num_unknown = sum(not row.licence for row in kept)
    if num_unknown:
        notes.append(f"note: the licence of {num_unknown} pictures is not known")
    return notes


def _kind(reason: str) -> str:
    """A reason without its details."""
    return re.split(r" \(|; |, | of \d", reason)[0]


@contextlib.contextmanager
def _claimed(folder: pathlib.Path) -> Iterator[None]:
    """Holds the folder for one process, and clears what a kill left half-written.

    Raises:
      DataError: it holds something else.
      RunError: another process is at work in it, or it cannot be written to.
    """
    import filelock

    from fpclass.data.collect.provenance import NAME

    try:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder}: is a file; expected a folder")
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if NAME not in names and any(not name.startswith(".") for name in names):
            raise DataError(f"{folder}: is not empty and was not made by collect (no {NAME}); choose another folder")
        (folder / MEMORY).mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / MEMORY / "lock").acquire(timeout=0)
    except filelock.Timeout:
        raise RunError(f"{folder}: another collect is at work in this folder; wait, or use another one") from None
    except OSError as error:
        raise RunError(f"{folder}: cannot write ({error.strerror or error}); choose another folder") from None
    with lock:
        sweep(folder)
        yield


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from fpclass.data.collect.backends import BACKENDS, LICENCES

    add = parser.add_argument
    add("folder", metavar="DIR", help="a new folder, or one that was collected before")
    add("--queries", metavar="FILE", help="YAML: {class: {language: [text, …], …}, …}")
    add("--query", nargs="+", action="extend", default=[], metavar="QUERY", help="CLASS:LANGUAGE=TEXT")
    add("--urls", nargs="+", action="extend", default=[], metavar="LIST", help="CLASS=FILE with an address a line")
    add(
        "--search", nargs="+", choices=tuple(BACKENDS), default=["openverse"], metavar="NAME",
        help="openverse (open licences; the default), ddgs (web)",
    )  # fmt: skip
    add("--per-query", type=at_least(1), default=40, metavar="N", help="addresses of each query; default %(default)s")
    add("--licence", choices=LICENCES, default="any", metavar="USE", help=f"it is to allow: {', '.join(LICENCES)}")
    add("--min-side", type=at_least(1), default=100, metavar="PX", help="smallest side kept; default %(default)s")
    add("--max-megabytes", type=at_least(1), default=20, metavar="MB", help="largest file; default %(default)s")
    add(
        "--delay",
        type=at_least(0.0),
        default=1.0,
        metavar="SECONDS",
        help="between requests to a host; default %(default)s",
    )
    add("--contact", default="", metavar="WHOM", help="e-mail or page that servers are told")


COMMANDS = (Command("collect", collect, _add_arguments, EPILOG),)

"""What this project wrote as Markdown, study.md and checklist.md, as blocks; and a text with footnotes as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from fpclass.report.blocks import Block, Heading, Listing, Picture, Table, text
from fpclass.report.facts import Cited, Sentence, Typed, plain

_PICTURE = re.compile(r"!\[([^\]]*)\]\((figures/[^/()]+\.png)\)")
_CELL = re.compile(r"(?<!\\)\|")


def sections_of(page: str, describe: Callable[[str], str] = lambda name: name) -> dict[str, list[Block]]:
    """The blocks of each `## ` section by its title; what comes before the first is under "".

    Args:
      describe: what a picture shows, by the name of its file without its ending.
    """
    found: dict[str, list[str]] = {"": []}
    title = ""
    for line in page.splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ").strip()
            found.setdefault(title, [])
        elif not line.startswith("# "):
            found[title].append(line)
    return {title: list(blocks_of(lines, describe)) for title, lines in found.items()}


def blocks_of(lines: Sequence[str], describe: Callable[[str], str]) -> Iterator[Block]:
    """Lines of a section as blocks; lines of one kind that follow each other are one block."""
    together: list[str] = []
    before = ""
    for line in [*lines, ""]:
        kind = _kind(line)
        if together and kind != before:
            yield from _block(before, together, describe)
            together = []
        if kind:
            together.append(line)
        before = kind


def _kind(line: str) -> str:
    kinds = {"| ": "table", "- ": "list", "### ": "heading"}
    return next((kind for start, kind in kinds.items() if line.startswith(start)), "") or (
        "picture" if _PICTURE.fullmatch(line.strip()) else "words" if line.strip() else ""
    )


def _block(kind: str, lines: Sequence[str], describe: Callable[[str], str]) -> Iterator[Block]:
    if kind == "table":
        rows = [_cells(line) for line in lines]
        yield Table([row for row in rows if set(row) != {"---"}])
    elif kind == "list":
        yield Listing([_pieces(line.removeprefix("- ")) for line in lines])
    elif kind == "heading":
        yield from (Heading(line.removeprefix("### ")) for line in lines)
    elif kind == "picture":
        matches = [_PICTURE.fullmatch(line.strip()) for line in lines]
        yield from (Picture(match[2], describe(match[2])) for match in matches if match)
    else:
        yield text(*(_pieces(line.strip()) for line in lines))


def _pieces(line: str) -> Sentence:
    """A line, with what stands in backticks as something to be typed."""
    return tuple(Typed(part) if i % 2 else part for i, part in enumerate(line.split("`")) if part)


def _cells(line: str) -> list[str]:
    cells = _CELL.split(line.strip().removeprefix("|").removesuffix("|"))
    return [cell.strip().replace("\\|", "|") for cell in cells]


def with_footnotes(title: str, parts: Sequence[tuple[str, Sequence[Sentence]]]) -> str:
    """The text as Markdown, each source a footnote."""
    numbers: dict[str, int] = {}

    def numbered(one: Sentence) -> str:
        return "".join(
            f"{piece.text}[^{numbers.setdefault(piece.source, len(numbers) + 1)}]"
            if isinstance(piece, Cited)
            else plain(piece)
            for piece in one
        )

    lines = [f"# {title}", ""]
    for heading, sentences in parts:
        lines += [f"## {heading}", "", " ".join(map(numbered, sentences)), ""]
    lines += ["## Where the numbers come from", ""]
    lines += [f"[^{number}]: {source}" for source, number in numbers.items()]
    return "\n".join(lines) + "\n"

"""What a page is made of: paragraphs, tables, pictures, code, and folded parts; report.html shows each by its kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from fpclass.report.facts import Piece, Sentence, Typed, why


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A paragraph; `style` is "", "small", "banner" (a disclaimer) or "missing" (a part that could not be made)."""

    pieces: Sentence
    style: str = ""
    kind: ClassVar[str] = "paragraph"


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclasses.dataclass(frozen=True)
class Listing:
    """A list of sentences."""

    items: Sequence[Sentence]
    kind: ClassVar[str] = "listing"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; the first of its rows is the header, and a cell is a text or a sentence."""

    rows: Sequence[Sequence[Piece | Sentence]]
    kind: ClassVar[str] = "table"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture file of the folder; the page holds it whole.

    Attributes:
      name: below the folder, figures/….png.
      alt: what it shows, for who does not see it.
    """

    name: str
    alt: str
    caption: str = ""
    kind: ClassVar[str] = "picture"


@dataclasses.dataclass(frozen=True)
class Code:
    """Lines to be typed or copied, as they are."""

    text: str
    kind: ClassVar[str] = "code"


@dataclasses.dataclass(frozen=True)
class Paste:
    """Paragraphs under headings, that a button copies as plain text."""

    parts: Sequence[tuple[str, Sequence[Sentence]]]
    anchor: ClassVar[str] = "text-to-paste"
    kind: ClassVar[str] = "paste"


@dataclasses.dataclass(frozen=True)
class Folded:
    """Blocks that are shown when they are asked for."""

    title: str
    blocks: Sequence[Block]
    kind: ClassVar[str] = "folded"


Block = Paragraph | Heading | Listing | Table | Picture | Code | Paste | Folded


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a page: its anchor, its title, what is in it."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def text(*sentences: Sentence | str, style: str = "") -> Paragraph:
    """A paragraph of sentences."""
    pieces: list[Piece] = []
    for one in sentences:
        pieces += [" "] if pieces else []
        pieces += one if isinstance(one, tuple) else [one]
    return Paragraph(tuple(pieces), style)


def tried(make: Callable[..., Sequence[Block]], facts: Any, *args: Any, command: str = "") -> list[Block]:
    """The blocks that a function makes of a folder; the reason in their place where it cannot.

    Whatever it raises: a folder may hold anything, and the other parts of a report are worth having without this one.

    Args:
      command: makes the part anew.
    """
    try:
        return list(make(facts, *args))
    except Exception as error:
        mends = ("; ", Typed(command), " makes it anew") if command else ()
        return [text((f"Missing here: {why(error, facts.folder)}", *mends, "."), style="missing")]


def pictures_in(blocks: Sequence[Block]) -> list[Picture]:
    """The pictures among blocks, also those in folded ones, in their order."""
    found: list[Picture] = []
    for block in blocks:
        if isinstance(block, Picture):
            found.append(block)
        elif isinstance(block, Folded):
            found += pictures_in(block.blocks)
    return found

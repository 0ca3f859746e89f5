"""What study.md says, with the file and the keys behind its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fpclass.report.blocks import Block, Folded, Listing, Paragraph, Table
from fpclass.report.facts import Cited, Piece, Sentence, plain

SOURCES = {
    "Test images": "results.json: test",
    "Classification reports, test images": "test_predictions.csv",
    "Classification reports": "out_of_fold.csv",
    "Training beside validation": "training.csv",
    "The person as the unit": "results.json: person",
    "Evidence as likelihood ratios": "results.json: evidence",
    "Diagnostic accuracy": "results.json: diagnostics",
    "Learning curve": "results.json: learning_curve",
    "Subgroups": "results.json: subgroups",
    "Coverage of the conformal sets": "results.json: decisions",
}
"""Where the numbers of a section of study.md are in full; the longest beginning of its title that is here counts."""
FINDINGS = {
    "best config": "results.json: choice",
    "ensemble": "results.json: ensemble",
    "calibration": "results.json: calibration",
    "new images": "results.json: sharpening",
    "threshold": "results.json: decisions.thresholds",
    "cost": "results.json: decisions.costs",
    "abstention": "results.json: decisions.abstention",
    "conformal sets": "results.json: decisions",
    "the person as the unit": "results.json: person",
    "evidence": "results.json: evidence",
    "learning curve": "results.json: learning_curve",
}
"""The same of the findings below its table, by the beginning of a line."""


def cited(blocks: Sequence[Block], title: str = "") -> list[Block]:
    """The blocks of a section of study.md, each number in them with where it comes from; "": of its beginning."""
    source = _longest(SOURCES, title) or f"study.md: {title or 'findings'}"
    return [_of_block(block, source, is_beginning=not title) for block in blocks]


def _of_block(block: Block, source: str, *, is_beginning: bool) -> Block:
    if isinstance(block, Table):
        header, *rows = block.rows
        return Table([header, *(_of_row(row, header, source) for row in rows)])
    if isinstance(block, Paragraph):
        return dataclasses.replace(block, pieces=_of_words(block.pieces, source))
    if isinstance(block, Listing):
        of_items = [(_longest(FINDINGS, plain(item)) if is_beginning else "") or source for item in block.items]
        return Listing([_of_words(item, of) for item, of in zip(block.items, of_items, strict=True)])
    if isinstance(block, Folded):
        return Folded(block.title, [_of_block(one, source, is_beginning=is_beginning) for one in block.blocks])
    return block


def _of_row(row: Sequence[Piece | Sentence], header: Sequence[Piece | Sentence], source: str) -> list[Piece | Sentence]:
    """Cells with the row and the column that they stand in; the first one is the row's name."""
    first, *cells = row
    names = [plain(name) for name in header[1:]]
    where = [" in ".join(filter(None, (name, plain(first)))) for name in names]
    return [
        first,
        *(
            Cited(cell, f"{source} ({of})") if isinstance(cell, str) and _has_number(cell) else cell
            for cell, of in zip(cells, where, strict=True)
        ),
    ]


def _of_words(pieces: Sentence, source: str) -> Sentence:
    return tuple(Cited(one, source) if isinstance(one, str) and _has_number(one) else one for one in pieces)


def _has_number(text: str) -> bool:
    return any(letter.isdigit() for letter in text)


def _longest(sources: dict[str, str], text: str) -> str:
    """The source of the longest beginning of a text that has one."""
    return sources[max(known, key=len)] if (known := [start for start in sources if text.startswith(start)]) else ""

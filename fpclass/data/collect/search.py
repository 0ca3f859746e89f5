"""Search for addresses, page by page; no page is asked for twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence

from fpclass.common import files
from fpclass.common.console import say
from fpclass.data.collect.address import MAX_URL, Refused, normal_url
from fpclass.data.collect.backends import Backend, Candidate, Page, Query
from fpclass.data.collect.client import Later
from fpclass.data.collect.download import Find
from fpclass.errors import printable


def search(
    backend: Backend, queries: Sequence[Query], per_query: int, memory: pathlib.Path
) -> tuple[list[list[Find]], int]:
    """Asks a backend for all queries in turn: the finds of each, and how many queries broke off.

    At most `per_query` addresses of each are taken, but a list of the user whole. The folder `memory` keeps the pages.
    """
    finds, num_failed = [], 0
    for query in queries:
        by_url: dict[str, Find] = {}
        reason, number = "", 0
        limit = per_query if query.text else sys.maxsize
        while len(by_url) < limit:
            number += 1
            try:
                page = _page(backend, query, number, memory)
            except (Refused, Later) as error:
                reason = f"; broke off: {error}"
                num_failed += 1
                break
            num_before = len(by_url)
            for candidate in page.candidates:
                url = _spelling(candidate.url)
                by_url.setdefault(url, Find(dataclasses.replace(candidate, url=url), query, backend.name))
            if page.is_last or len(by_url) == num_before:  # some engines give their last page again and again
                break
        finds.append(list(by_url.values())[:limit])
        what = f"{query.class_name}: {query.language} {query.text!r}" if query.text else query.class_name
        say(f"{backend.name}: {what}: {len(finds[-1])} addresses{reason}")
    return finds, num_failed


def _page(backend: Backend, query: Query, number: int, memory: pathlib.Path) -> Page:
    if not backend.is_remembered:
        return backend.search(query, number)
    what = [backend.name, backend.settings, query.language, query.text, number]
    path = memory / f"{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}.json"
    if path.exists():
        kept = files.read_json(path)
        return Page(tuple(Candidate(**candidate) for candidate in kept["candidates"]), kept["is_last"])
    page = backend.search(query, number)
    files.write_json(path, {"query": what, **dataclasses.asdict(page)})
    return page


def _spelling(url: str) -> str:
    """An address as it is fetched and recorded; one that will be refused stays as it is, in one line."""
    try:
        return normal_url(url)
    except Refused:
        # Cut where it is still too long: a shorter one would be another address, and fetched.
        return printable(" ".join(url.split()))[: MAX_URL + 1]

"""Sources of picture addresses behind one interface: Openverse, the search engines that ddgs asks, or a list."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fpclass.data.collect.client import Client, Later
from fpclass.errors import DataError, one_line

# What a licence is to allow, in the words of each source. Openverse knows openly licensed works only.
_OPENVERSE_FILTERS = {
    "any": {},
    "modify": {"license_type": "modification"},
    "commercial": {"license_type": "commercial"},
    "modify-commercial": {"license_type": "commercial,modification"},
    "public-domain": {"license": "cc0,pdm"},
}
_DDGS_FILTERS = {
    "any": {},
    "modify": {"license_image": "Modify"},
    "commercial": {"license_image": "ShareCommercially"},
    "modify-commercial": {"license_image": "ModifyCommercially"},
    "public-domain": {"license_image": "Public"},
}
LICENCES = tuple(_OPENVERSE_FILTERS)
# fmt: off
_DDGS_REGIONS = {
    "ar": "xa-ar", "de": "de-de", "en": "us-en", "es": "es-es", "fr": "fr-fr", "it": "it-it", "ja": "jp-jp",
    "ko": "kr-kr", "nl": "nl-nl", "pl": "pl-pl", "pt": "br-pt", "ru": "ru-ru", "tr": "tr-tr", "zh": "cn-zh",
}
# fmt: on
_PAGE_SIZE = 20
"""The largest page that Openverse gives to anonymous users."""


@dataclasses.dataclass(frozen=True)
class Query:
    """A search query: a text, empty for a list of addresses, and the code of its language, such as "ja", or ""."""

    class_name: str
    text: str = ""
    language: str = ""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """The address of a picture and what its source says of it; "" for what it does not say."""

    url: str
    page: str = ""
    licence: str = ""
    creator: str = ""


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of results, and whether there are no more behind it."""

    candidates: tuple[Candidate, ...]
    is_last: bool


class Backend(Protocol):
    """A source of addresses.

    Attributes:
      is_remembered: whether a page that was asked for once is kept, so that a resumed run does not ask again.
      settings: what else than the query the results depend on.
    """

    name: str
    is_remembered: bool
    settings: str

    def search(self, query: Query, page: int) -> Page:
        """One page of results, from 1.

        Raises:
          Refused, Later: there is none, for good or for now.
        """
        ...


class UrlList:
    """Addresses that the user gives."""

    name = "list"
    is_remembered = False
    settings = ""

    def __init__(self, urls_by_class: Mapping[str, tuple[str, ...]]):
        self._urls_by_class = urls_by_class

    def search(self, query: Query, page: int) -> Page:
        """All addresses of the class."""
        del page
        return Page(tuple(Candidate(url) for url in self._urls_by_class[query.class_name]), is_last=True)


class Openverse:
    """The public interface of Openverse, which knows openly licensed works only, and their licences.

    Source: https://api.openverse.org/v1/ (anonymous users: 20 results a page, 240 in all, a few requests a minute).
    """

    name = "openverse"
    is_remembered = True

    def __init__(self, client: Client, licence: str = "any", base: str = "https://api.openverse.org"):
        self.settings = licence
        self._client = client
        self._base = base
        self._filter = _OPENVERSE_FILTERS[licence]

    def search(self, query: Query, page: int) -> Page:
        """Twenty results; the language is that of the text, since Openverse has no other notion of it."""
        asked = {"q": query.text[:200], "page": page, "page_size": _PAGE_SIZE, **self._filter}
        token = os.environ.get("OPENVERSE_TOKEN", "").strip()
        answer = self._client.get(
            f"{self._base}/v1/images/?{urllib.parse.urlencode(asked)}",
            max_bytes=5_000_000,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            is_crawling=False,  # an interface for programs, whose own limits are kept
        )
        try:
            payload = json.loads(answer.data)
            candidates = tuple(
                Candidate(
                    url=_text(result["url"]),
                    page=_text(result.get("foreign_landing_url")),
                    licence=_licence_text(result.get("license") or "", result.get("license_version") or ""),
                    creator=_text(result.get("creator")),
                )
                for result in payload["results"]
                if result.get("url")
            )
            return Page(candidates, is_last=not payload["results"] or page >= payload["page_count"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Later(f"{self._base} answered something else than results ({error!r:.100})", math.inf) from None


class Ddgs:
    """The search engines that the library ddgs asks. They name no licences, and the library acts like a browser."""

    name = "ddgs"
    is_remembered = True

    def __init__(self, client: Client, licence: str = "any"):
        try:
            from ddgs import DDGS
            from ddgs.exceptions import DDGSException
        except ImportError:
            raise DataError(
                "--search ddgs: the library ddgs is not installed; `pip install ddgs`, or use --search openverse"
            ) from None
        self.settings = licence
        self._client = client
        self._engines, self._failure = DDGS(timeout=20), DDGSException
        self._filter = _DDGS_FILTERS[licence]

    def search(self, query: Query, page: int) -> Page:
        """About a hundred results, from the region where the language is at home."""
        self._client.take_turn(self.name)
        try:
            results = self._engines.images(
                query.text,
                region=_DDGS_REGIONS.get(query.language.partition("-")[0], "wt-wt"),
                page=page,
                max_results=None,
                backend="duckduckgo",  # the one that has a licence filter
                **self._filter,
            )
        except self._failure as error:
            # "No results" may be the truth, or how an engine turns a program away: the first page is asked for again.
            if page > 1 and "No results" in str(error):
                return Page((), is_last=True)
            raise Later(f"the search engine: {one_line(error)}", math.inf) from None
        licence = "".join(f"{name}, as the search engine has it" for name in self._filter.values())
        candidates = (Candidate(_text(f["image"]), _text(f.get("url")), licence) for f in results if f.get("image"))
        return Page(tuple(candidates), is_last=not results)


BACKENDS: dict[str, Callable[[Client, str], Backend]] = {Openverse.name: Openverse, Ddgs.name: Ddgs}
"""Backends by their name in `--search`, of a client and a licence. DataError where the library is not installed."""


def _text(value: Any) -> str:
    """A value from a source as text that a file can hold; "" for nothing."""
    return str(value or "").encode("utf-8", "replace").decode()


def _licence_text(code: str, version: str) -> str:
    """The usual name of a licence: "by-sa", "4.0" is CC BY-SA 4.0."""
    names = {"cc0": "CC0", "pdm": "Public Domain Mark"}
    return f"{names.get(code, f'CC {code.upper()}')} {version}".strip() if code else ""

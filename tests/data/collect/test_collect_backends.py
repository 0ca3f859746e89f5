"""Sources of addresses behind one interface; the search library is a fake here, since it needs the web."""

from __future__ import annotations

import inspect
import sys
import types

import pytest

from fpclass.data.collect.backends import BACKENDS, LICENCES, Candidate, Ddgs, Openverse, Page, Query, UrlList
from fpclass.data.collect.client import Client, Later
from fpclass.errors import DataError


class DDGSException(Exception):
    pass


class FakeEngines:
    """What the library offers, and what it was asked."""

    asked: list = []  # noqa: RUF012
    pages: dict = {}  # noqa: RUF012

    def __init__(self, timeout=5):
        assert timeout > 0

    def images(self, query, *, region, page, max_results, backend, **filters):
        self.asked.append((query, region, page, max_results, backend, filters))
        results = self.pages.get(page, DDGSException("No results found."))
        if isinstance(results, Exception):
            raise results
        return results


@pytest.fixture
def engines(monkeypatch):
    library = types.ModuleType("ddgs")
    library.DDGS = type("DDGS", (FakeEngines,), {"asked": [], "pages": {}})
    errors = types.ModuleType("ddgs.exceptions")
    errors.DDGSException = DDGSException
    monkeypatch.setitem(sys.modules, "ddgs", library)
    monkeypatch.setitem(sys.modules, "ddgs.exceptions", errors)
    return library.DDGS


@pytest.fixture
def client():
    return Client(delay_seconds=0.0)


def found(number):
    return {
        "title": "x",
        "image": f"http://example.org/{number}.jpg",
        "url": f"http://example.org/{number}",
        "width": "?",
    }


def test_ddgs_pages(engines, client):
    engines.pages = {1: [found(1), found(2), {"image": "", "url": "x"}], 2: [found(3)]}
    backend = Ddgs(client)
    first = backend.search(Query("a", "トウフック", "ja"), 1)
    assert first == Page(
        (Candidate("http://example.org/1.jpg", "http://example.org/1"), Candidate("http://example.org/2.jpg", "http://example.org/2")),
        is_last=False,
    )  # fmt: skip
    assert backend.search(Query("a", "トウフック", "ja"), 2).candidates[0].url == "http://example.org/3.jpg"
    assert backend.search(Query("a", "トウフック", "ja"), 3) == Page((), is_last=True)
    assert [ask[:3] for ask in engines.asked] == [("トウフック", "jp-jp", page) for page in (1, 2, 3)]


@pytest.mark.parametrize(
    ("language", "region"),
    [("en", "us-en"), ("es", "es-es"), ("fr", "fr-fr"), ("zh", "cn-zh"), ("zh-TW", "cn-zh"), ("eo", "wt-wt")],
)
def test_ddgs_asks_where_the_language_is_at_home(engines, client, language, region):
    engines.pages = {1: [found(1)]}
    Ddgs(client).search(Query("a", "x", language), 1)
    assert engines.asked[0][1] == region


def test_ddgs_filters_by_licence(engines, client):
    engines.pages = {1: [found(1)]}
    filters = []
    for licence in LICENCES:
        page = Ddgs(client, licence).search(Query("a", "x", "en"), 1)
        filters.append(engines.asked[-1][5].get("license_image"))
        assert ("search engine" in page.candidates[0].licence) == (licence != "any")
        assert engines.asked[-1][4] == "duckduckgo", "the engine that knows the filter"
    assert filters == [None, "Modify", "ShareCommercially", "ModifyCommercially", "Public"]


@pytest.mark.parametrize("message", ["No results found.", "429 Ratelimit", "timed out"])
def test_ddgs_without_a_first_page_comes_back_later(engines, client, message):
    engines.pages = {1: DDGSException(message)}
    with pytest.raises(Later, match=message):
        Ddgs(client).search(Query("a", "x", "en"), 1)


def test_ddgs_that_breaks_off_is_not_the_end(engines, client):
    engines.pages = {1: [found(1)], 2: DDGSException("429 Ratelimit")}
    with pytest.raises(Later, match="429"):
        Ddgs(client).search(Query("a", "x", "en"), 2)


def test_ddgs_takes_turns(engines):
    engines.pages = {1: [found(1)]}
    client = Client(delay_seconds=60.0)
    client.take_turn("ddgs")
    client.halt()
    with pytest.raises(Exception) as caught:
        Ddgs(client).search(Query("a", "x", "en"), 1)
    assert type(caught.value).__name__ == "Stopped"
    assert engines.asked == []


def test_ddgs_not_installed(monkeypatch, client):
    monkeypatch.setitem(sys.modules, "ddgs", None)
    with pytest.raises(DataError, match="pip install ddgs"):
        Ddgs(client)


def test_with_the_real_library(client, monkeypatch):
    """Without asking anybody: names, arguments, and how the engine with the licence filter is reached."""
    images = pytest.importorskip("ddgs.engines.duckduckgo_images").DuckduckgoImages
    asked = []

    def search(self, query, **options):
        asked.append({"query": query, **options})
        return []

    monkeypatch.setattr(images, "search", search)
    with pytest.raises(Later, match="No results"):
        Ddgs(client, "public-domain").search(Query("a", "トウフック", "ja"), 1)
    assert Ddgs(client, "public-domain").search(Query("a", "トウフック", "ja"), 2) == Page((), is_last=True)
    assert [(a["query"], a["region"], a["page"], a["license_image"]) for a in asked] == [
        ("トウフック", "jp-jp", 1, "Public"),
        ("トウフック", "jp-jp", 2, "Public"),
    ]
    assert {"image", "url"} <= set(images.elements_replace.values())


def test_a_list_is_taken_whole():
    listed = UrlList(
        {"a": ("http://example.org/1.jpg", "http://example.org/2.jpg"), "b": ("http://example.org/3.jpg",)}
    )
    page = listed.search(Query("a"), 1)
    assert ([candidate.url for candidate in page.candidates], page.is_last) == (
        ["http://example.org/1.jpg", "http://example.org/2.jpg"],
        True,
    )


@pytest.mark.parametrize(
    ("licence", "asked"),
    [
        ("any", "&page_size=20"),
        ("modify", "&license_type=modification"),
        ("modify-commercial", "&license_type=commercial%2Cmodification"),
        ("public-domain", "&license=cc0%2Cpdm"),
    ],
)
def test_openverse_filters_by_licence(client, monkeypatch, licence, asked):
    urls = []

    def get(url, **options):
        urls.append(url)
        raise Later("enough")

    monkeypatch.setattr(client, "get", get)
    with pytest.raises(Later):
        Openverse(client, licence).search(Query("a", "heel hook", "en"), 3)
    assert urls == [
        f"https://api.openverse.org/v1/images/?q=heel+hook&page=3&page_size=20{asked.removeprefix('&page_size=20')}"
    ]


def test_every_backend_has_the_interface(engines, client):
    for name, make in BACKENDS.items():
        backend = make(client, "any")
        assert backend.name == name
        assert backend.is_remembered
        assert list(inspect.signature(backend.search).parameters) == ["query", "page"]

"""Reads a page of HTML as a browser would, without one."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}
INLINE = {"span", "code", "a", "strong", "bdi"}
LOADS = ("src", "srcset", "poster", "action", "data")


class PageReader(HTMLParser):
    """Collects pictures, links and texts of a page; refuses what is not closed, or loads something.

    Attributes:
      pictures: attributes of each `img`.
      ids: of its elements, in their order.
      texts: what is to be read.
      scripts: the content of its scripts.
    """

    def __init__(self, page: str):
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, self._open
        assert len(set(self.ids)) == len(self.ids)

    @property
    def text(self) -> str:
        """All that is to be read, blanks as one."""
        return " ".join("".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.ids += [str(known["id"])] if "id" in known else []
        self.links += [str(known["href"])] if "href" in known else []
        if tag == "img":
            self.pictures.append(known)
        assert all(str(known.get(name, "data:")).startswith("data:") for name in LOADS), known
        assert not any(name.startswith("on") for name in known), known
        self.texts += [" "] if tag not in INLINE else []
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.texts += [" "] if tag not in INLINE else []
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        where = self._open[-1] if self._open else ""
        if where == "script":
            self.scripts.append(data)
        elif where != "style":
            self.texts.append(data)


def check_page(page: str) -> PageReader:
    """The page, read; it must need nothing else, and say what its pictures show."""
    read = PageReader(page)
    assert len(page.encode()) < 15 * 2**20
    assert all(str(picture.get("src")).startswith("data:image/") for picture in read.pictures)
    assert all(str(picture.get("alt") or "").strip() for picture in read.pictures)
    assert all(link.startswith("#") and link[1:] in read.ids for link in read.links), read.links
    assert "url(" not in page
    assert "@import" not in page
    return read

"""Pages of one file: the templates that they share, and a page of sections whose pictures it carries."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import importlib.resources
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fpclass import __version__
from fpclass.report.blocks import Section, pictures_in
from fpclass.report.facts import Cited, Sentence
from fpclass.report.pictures import embed


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of sections.

    Attributes:
      title: what it is about.
      what: what that is, such as "training".
      verdict: the one sentence on top.
      note: a disclaimer, or "".
      numbers: the few that count, with what they are of.
    """

    title: str
    what: str
    verdict: Sentence
    note: str
    numbers: Sequence[tuple[str, Cited]]
    sections: Sequence[Section]


def render_page(page: Page, folder: pathlib.Path) -> str:
    """The page as HTML, with the pictures of the folder inside; every text escaped."""
    wanted = [picture.name for section in page.sections for picture in pictures_in(section.blocks)]
    uris, why_not = embed(folder / name for name in wanted)
    context = {field.name: getattr(page, field.name) for field in dataclasses.fields(page)}
    return render(
        "report/report.html",
        context
        | {"uris": {name: uris[folder / name] for name in wanted if folder / name in uris}}
        | {"why_not": {name: why_not[folder / name] for name in wanted if folder / name in why_not}}
        | {"script": read_resource("report/page.js"), "version": __version__, "date": time.strftime("%Y-%m-%d %H:%M")},
    )


def render(template: str, context: Mapping[str, Any]) -> str:
    """A template of this package, "eda/page.html", filled in; what it is filled with is escaped.

    A `script` in the context is the only one that the page may run, by its digest.
    """
    import jinja2
    from markupsafe import Markup

    script = str(context.get("script", ""))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    known = {"script": Markup(script), "script_hash": f"sha256-{digest}" if script else ""}
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render({**context, **known})


@functools.cache
def read_resource(name: str) -> str:
    """A text file of this package."""
    return importlib.resources.files("fpclass").joinpath(name).read_text(encoding="utf-8")

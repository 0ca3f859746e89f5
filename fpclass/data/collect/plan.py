"""Queries by class and language, and lists of addresses, from a file and the command line."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fpclass.common.files import expanded
from fpclass.data.collect.backends import Query
from fpclass.data.files import some_of
from fpclass.data.table import canonical_label
from fpclass.errors import DataError, one_line

URLS = "urls"
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?")
_CLASS = re.compile(r"\w[\w .+-]{0,99}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""
_EXPECTED = "expected {class: {language: [text, …], urls: [address, …]}, …}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Queries to search for, in the order given, and addresses by class; each once."""

    queries: tuple[Query, ...]
    urls: Mapping[str, tuple[str, ...]]

    @property
    def classes(self) -> list[str]:
        """The classes in the order given."""
        return list(dict.fromkeys([*(query.class_name for query in self.queries), *self.urls]))


def make_plan(file: pathlib.Path | None = None, queries: Sequence[str] = (), url_files: Sequence[str] = ()) -> Plan:
    """The plan of a YAML file and the command line together.

    Queries are such as "heel_hook:ja=ヒールフック"; files such as "heel_hook=addresses.txt" have an address
    or # comment a line.

    Raises:
      DataError: none of them, or one that cannot be understood.
    """
    parsed: list[Query] = []
    urls: dict[str, list[str]] = {}
    if file is not None:
        _read_yaml(file, parsed, urls)
    for text in queries:
        match = re.fullmatch(r"([^:=]+):([^:=]+)=(.+)", text.strip())
        if not match:
            raise DataError(f"--query {text!r}: expected CLASS:LANGUAGE=TEXT, e.g. heel_hook:en='climbing heel hook'")
        parsed.append(_query(f"--query {text!r}", *match.groups()))
    for text in url_files:
        class_name, _, path = text.partition("=")
        if not path:
            raise DataError(f"--urls {text!r}: expected CLASS=FILE, a text file with an address a line")
        urls.setdefault(_class_name("--urls", class_name), []).extend(_read_urls(expanded(path)))
    plan = Plan(tuple(dict.fromkeys(parsed)), {name: tuple(dict.fromkeys(some)) for name, some in urls.items()})
    if not plan.classes:
        raise DataError(
            "nothing to collect: give --queries FILE.yaml, --query CLASS:LANGUAGE=TEXT or --urls CLASS=FILE"
        )
    _check_folders(plan.classes)
    return plan


def _read_yaml(path: pathlib.Path, queries: list[Query], urls: dict[str, list[str]]) -> None:
    for name, languages in _mapping(_load_yaml(path), f"{path}").items():
        class_name = _class_name(f"{path}", name)
        for language, texts in _mapping(languages, f"{path}: class {class_name}").items():
            place = f"{path}: {class_name}: {language}"
            texts = [texts] if isinstance(texts, str) else texts
            if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
                raise DataError(f"{place}: met {reprlib.repr(texts)}; expected a text or a list of texts; {_EXPECTED}")
            if language == URLS:
                urls.setdefault(class_name, []).extend(text.strip() for text in texts)
            else:
                queries.extend(_query(place, class_name, language, text) for text in texts)


def _load_yaml(path: pathlib.Path) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that is there twice, of which YAML would quietly take the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = [key for key in keys if keys.count(key) > 1]
            if twice:
                raise yaml.YAMLError(f"{twice[0]!r} is there twice, the first time in line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    try:
        with expanded(path).open(encoding="utf-8-sig") as file:
            return yaml.load(file, Loader)
    except OSError as error:
        raise DataError(f"--queries {path}: cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date such as 2024-13-45 is a ValueError
        raise DataError(f"--queries {path}: not YAML in UTF-8 ({one_line(error, 200)})") from None
    except RecursionError:
        raise DataError(f"--queries {path}: nested too deeply; {_EXPECTED}") from None


def _mapping(value: Any, place: str) -> dict:
    if not isinstance(value, dict) or not value:
        raise DataError(f"{place}: met {reprlib.repr(value)}; {_EXPECTED}")
    return value


def _query(place: str, class_name: str, language: Any, text: str) -> Query:
    if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
        quoted = "; put it into quotes" if isinstance(language, bool) else ""  # no: is false in YAML, Norwegian to us
        raise DataError(f"{place}: language {language!r}: expected a code such as en, ja or zh, or {URLS}{quoted}")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(f"{place}: {text!r:.100} is not UTF-8; write it in that")
    return Query(_class_name(place, class_name), " ".join(text.split()), language)


def _class_name(place: str, name: Any) -> str:
    """The name of a class, which is to be the name of a folder on any system."""
    text = str(name).strip()
    if (
        isinstance(name, (bool, type(None)))
        or not _CLASS.fullmatch(text)
        or text[-1] == "."
        or _RESERVED.fullmatch(text)
    ):
        raise DataError(
            f"{place}: class {name!r}: expected a name that a folder can have: letters, digits, space and _ . + -"
        )
    return text


def _read_urls(path: pathlib.Path) -> Iterable[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--urls {path}: cannot be read ({error})") from None
    urls = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not urls:
        raise DataError(f"--urls {path}: no address in it; expected one a line")
    return urls


def _check_folders(classes: list[str]) -> None:
    """Checks that every class gets a folder of its own, also where case makes no difference."""
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(canonical_label(name).casefold(), name)
        if other != name:
            raise DataError(f"classes {some_of((other, name))}: would be one class or folder; rename one of them")

"""The images in a request: files of a form, a raw body, or base64 in JSON. All of it stays in memory."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from fpclass.deploy.serve.settings import Settings
from fpclass.errors import one_line, printable

MAX_NAME = 200
"""Letters of a file's name that an answer repeats."""
MAX_FIELDS = 16
"""Fields of a form that are no files, which nothing reads."""
RAW = ("application/octet-stream", "image/")
FORM, JSON = "multipart/form-data", "application/json"
DATA_URL = re.compile(r"data:[\w.+/-]*(;[\w=.+-]*)*,", re.ASCII)
EXPECTED = (
    f"send the bytes of an image as {RAW[0]} or image/…, files as {FORM}, or {JSON} with "
    '{"image": "<base64>"} or {"images": ["<base64>", …]}'
)


@dataclasses.dataclass(frozen=True)
class GivenImage:
    """An image as a client sent it.

    Attributes:
      name: what the client called it, for the answer alone; nothing opens it.
    """

    name: str
    data: bytes


class _InMemory(MultiPartParser):
    """Starlette's parser of forms, which writes nothing to the disk: the whole body is bounded already."""

    spool_max_size = 2**40


async def read_images(request: Request, settings: Settings) -> list[GivenImage]:
    """The images of a request, at least one.

    Raises:
      HTTPException: of another content type (415), without an image or not decodable (400), with too many images (413).
    """
    try:
        images = await _read(request, settings)
    except ClientDisconnect:
        raise HTTPException(400, "the client went away before the request was whole") from None
    if not images:
        raise HTTPException(400, f"there is no image in the request: {EXPECTED}")
    return images


async def _read(request: Request, settings: Settings) -> list[GivenImage]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        return await _of_form(request, settings)
    if kind == JSON:
        return _of_json(await request.body(), settings.max_images)
    if kind.startswith(RAW):
        body = await request.body()
        return [GivenImage("", body)] if body else []
    raise HTTPException(415, f"content type {printable(kind[:MAX_NAME])!r}: {EXPECTED}")


async def _of_form(request: Request, settings: Settings) -> list[GivenImage]:
    async def body() -> AsyncIterator[bytes]:
        async for chunk in request.stream():
            yield chunk

    parser = _InMemory(request.headers, body(), max_files=settings.max_images, max_fields=MAX_FIELDS)  # pyright: ignore[reportArgumentType]
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {printable(error.message)}") from None
    except (KeyError, UnicodeDecodeError, ValueError) as error:  # no boundary, or names that are no text
        raise HTTPException(400, f"the form cannot be read ({printable(one_line(error))})") from None
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        return [GivenImage(shown(file.filename or ""), await file.read()) for file in files]
    finally:
        await form.close()


def _of_json(body: bytes, max_images: int) -> list[GivenImage]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON ({printable(one_line(error))})") from None
    if not isinstance(value, dict) or not ({"image", "images"} & value.keys()):
        raise HTTPException(400, 'expected {"image": "<base64>"} or {"images": ["<base64>", …]}')
    texts = value["images"] if "images" in value else [value["image"]]
    if not isinstance(texts, list):
        raise HTTPException(400, f"images: expected a list, met {_kind(texts)}")
    if len(texts) > max_images:
        raise HTTPException(413, f"{len(texts)} images in one request: at most {max_images}")
    return [GivenImage("", _decoded(text, number)) for number, text in enumerate(texts)]


def _decoded(text: Any, number: int) -> bytes:
    """The bytes of a base64 text, with or without the beginning of a data URL, line breaks or padding."""
    if not isinstance(text, str):
        raise HTTPException(400, f"image {number}: expected base64 text, met {_kind(text)}")
    if prefix := DATA_URL.match(text):
        text = text[prefix.end() :]
    text = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"image {number}: no base64 ({printable(one_line(error))})") from None


def shown(name: str) -> str:
    """A name as an answer repeats it."""
    return printable(name[:MAX_NAME])


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__

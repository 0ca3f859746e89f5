"""The API's documents: what requests and answers look like, with examples."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXPLAIN = ("none", "base64", "png")
"""Whether a map comes with the answer: not, in it, or as the answer."""
MAP_PARAMETERS = {
    "explain": f"a map of where the model looked: {', '.join(EXPLAIN)} (the answer itself)",
    "method": "of the map; GET /model lists them",
    "stage": "of the network; GET /model lists them",
    "label": "the class that the map speaks for; default: the answer",
}
"""Of the query, which is read by hand: to let a framework do it costs a tenth of a request."""


class Problem(BaseModel):
    """Why a request was refused."""

    error: str = Field(examples=["not an image of a format that is read here; it begins with b'hello'"])


class ImageNote(BaseModel):
    """What stands out in an image."""

    kind: str = Field(examples=["dark"])
    text: str
    is_unlike: bool = Field(description="the image is unlike those that the model learnt from")


class Explanation(BaseModel):
    """Where the model looked."""

    method: str = Field(examples=["grad_cam"])
    stage: str
    label: str = Field(description="the class that the map speaks for")
    image: str = Field(description="a PNG as a data URL")
    problem: str = Field(description="why the map shows nothing; empty where it does", examples=[""])


class ImagePrediction(BaseModel):
    """The answer for one image."""

    model_config = ConfigDict(extra="allow")

    filename: str
    label: str | None = Field(default=None, examples=["cat"])
    probability: float | None = Field(default=None, examples=[0.97], description="of the label, calibrated")
    probabilities: dict[str, float] | None = Field(default=None, examples=[{"cat": 0.97, "dog": 0.03}])
    abstain: bool | None = Field(default=None, description="the label is not to be relied on")
    abstain_because: list[str] | None = None
    notes: list[ImageNote] | None = None
    calibration: str | None = None
    decision: str | None = Field(default=None, description="how the label was chosen")
    set: list[str] | None = Field(default=None, description="the classes of a conformal set, where one was fitted")
    explanation: Explanation | None = None
    error: str | None = Field(default=None, description="why this image could not be answered, beside others that were")


class Predictions(BaseModel):
    """The answer for all images of a request, in their order."""

    model: str
    version: str
    predictions: list[ImagePrediction]


class Training(BaseModel):
    """Starts a training from a config that the owner of the server allowed."""

    model_config = ConfigDict(extra="forbid")

    config: str = Field(examples=["baseline"])


class Job(BaseModel):
    """How far a training is."""

    id: str
    config: str
    status: Literal["running", "done", "failed"]
    seconds: float
    epoch: int | None = Field(default=None, description="the last one that is done")
    num_epochs: int | None = None
    error: str | None = None


_IMAGE = {"type": "string", "format": "binary"}
_BASE64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""
PREDICT: dict[str, Any] = {
    "parameters": [
        {
            "name": name,
            "in": "query",
            "description": words,
            "schema": {"type": "string", **({"enum": list(EXPLAIN), "default": "none"} if name == "explain" else {})},
        }
        for name, words in MAP_PARAMETERS.items()
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "items": _IMAGE, "minItems": 1}},
                    "required": ["file"],
                }
            },
            "application/octet-stream": {"schema": _IMAGE},
            "image/*": {"schema": _IMAGE},
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"type": "object", "required": ["image"], "properties": {"image": {"type": "string"}}},
                        {
                            "type": "object",
                            "required": ["images"],
                            "properties": {"images": {"type": "array", "items": {"type": "string"}}},
                        },
                    ]
                },
                "examples": {
                    "base64": {"value": {"image": _BASE64}},
                    "data URL": {"value": {"image": f"data:image/png;base64,{_BASE64}"}},
                },
            },
        },
    },
}
_REASONS = {
    400: "no image in the request, or a body that cannot be read",
    401: "no token, or another one",
    404: "there is no such thing",
    408: "the request did not arrive in time",
    409: "a training is going on",
    413: "too many bytes or images",
    415: "a content type that is not read",
    422: "no image of the request can be decoded, or a parameter makes no sense",
    429: "too much at once; Retry-After says when to come back",
    503: "the model is being loaded, or took too long; Retry-After says when to come back",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals that a path may answer with, for its documentation."""
    return {status: {"model": Problem, "description": _REASONS[status]} for status in statuses}


def headers(problem: str) -> dict[str, Any]:
    """The headers of a map as a picture, for its documentation."""
    words = "why the map shows nothing; absent where it does"
    return {problem: {"description": words, "schema": {"type": "string"}}}

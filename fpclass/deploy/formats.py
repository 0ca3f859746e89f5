"""The formats that a model is exported to: how each is written, and how what was written is run."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from fpclass.common.console import program
from fpclass.data.resize import Decoding
from fpclass.deploy.graph import make_graph
from fpclass.errors import ConfigError
from fpclass.models.build import explainable_form
from fpclass.models.plain import plain_operations
from fpclass.run.predictor import Predictor

PLATFORMS = ("cpu", "cuda", "tpu")
Images = Sequence[UInt8[np.ndarray, "n H W C"]]
"""The same images for each decoding of a predictor."""
Run = Callable[[Images], Float[np.ndarray, "n K"]]


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported models.

    Attributes:
      filename: of the model.
      write: a predictor into a file of that name.
      load: what runs such a file.
      tolerance: difference of a probability from the bundle's, at most.
      needs: packages beside those of fpclass; `extra` of pyproject.toml brings them.
      about: what runs it.
    """

    filename: str
    write: Callable[[Predictor, pathlib.Path], None]
    load: Callable[[pathlib.Path], Run]
    tolerance: float
    about: str
    extra: str = ""


def input_name(decoding: Decoding) -> str:
    """What exports call the input of images of one decoding."""
    height, width, channels = decoding.shape
    return f"images_{height}x{width}x{channels}"


def shapes(predictor: Predictor) -> list[jax.ShapeDtypeStruct]:
    """The inputs of exports: any number of images, uint8."""
    (number,) = jax.export.symbolic_shape("n")
    return [jax.ShapeDtypeStruct((number, *decoding.shape), np.uint8) for decoding in predictor.by_decoding]


def write_stablehlo(predictor: Predictor, path: pathlib.Path) -> None:
    """Writes what `jax.export` makes of the model for `PLATFORMS`, in the operations that are fast on this one."""
    exported = jax.export.export(jax.jit(make_graph(predictor)), platforms=PLATFORMS)(*shapes(predictor))
    path.write_bytes(exported.serialize(vjp_order=0))


def load_stablehlo(path: pathlib.Path) -> Run:
    """Runs it on this machine's device."""
    call = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(call(*images))


def write_onnx(predictor: Predictor, path: pathlib.Path) -> None:
    """Writes what jax2onnx makes of the model, in the operations that runtimes have kernels for.

    Raises:
      ConfigError: jax2onnx is not installed.
    """
    for name in ("jax2onnx", "onnx_ir"):  # they tell of every example of theirs that cannot be imported
        logging.getLogger(name).setLevel(logging.ERROR)
    jax2onnx, onnx = _import("jax2onnx", "onnx"), _import("onnx", "onnx")
    names = [input_name(decoding) for decoding in predictor.by_decoding]
    with plain_operations():
        model = jax2onnx.to_onnx(
            make_graph(predictor, explainable_form),
            shapes(predictor),
            model_name="fpclass",
            input_names=names,
            output_names=["probabilities"],
        )
    del model.graph.value_info[:]  # those that jax2onnx writes are not all right, and onnxruntime-web minds
    onnx.save(onnx.shape_inference.infer_shapes(model), str(path))


def load_onnx(path: pathlib.Path) -> Run:
    """Runs it in onnxruntime, on the CPU.

    Raises:
      ConfigError: onnxruntime is not installed.
    """
    session = _import("onnxruntime", "onnx").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda images: session.run(None, dict(zip(names, images, strict=True)))[0]


def _import(name: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{program()} export --to={extra} needs the package {name} ({error}): see docs/bundles.md"
        ) from None


FORMATS = {
    "stablehlo": Format(
        "model.stablehlo", write_stablehlo, load_stablehlo, 1e-5, f"jax.export, {', '.join(PLATFORMS)}"
    ),
    "onnx": Format("model.onnx", write_onnx, load_onnx, 1e-4, "onnxruntime", "onnx"),
}
"""By the name that `--to` takes. The order of tables."""

"""The formats that a model is exported to: how each is written, and how what was written is run."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from fpclass.deploy.graph import make_graph
from fpclass.deploy.runtimes import Images, Run, import_or_say, input_name
from fpclass.deploy.tflite import load_tflite, write_tflite
from fpclass.errors import ConfigError
from fpclass.models.build import explainable_form
from fpclass.models.plain import plain_operations
from fpclass.run.predictor import Predictor

PLATFORMS = ("cpu", "cuda", "tpu")


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported models.

    Attributes:
      filename: of the model.
      write: a predictor into a file of that name; it is given images to find ranges on, too.
      load: what runs such a file.
      tolerance: difference of a probability from the bundle's, at most.
      about: what runs it.
      is_calibrated: whether ranges are found on images, which are then not among those that it is compared on.
    """

    filename: str
    write: Callable[[Predictor, pathlib.Path, Images], None]
    load: Callable[[pathlib.Path], Run]
    tolerance: float
    about: str
    is_calibrated: bool = False


def shapes(predictor: Predictor) -> list[jax.ShapeDtypeStruct]:
    """The inputs of exports: any number of images, uint8."""
    (number,) = jax.export.symbolic_shape("n")
    return [jax.ShapeDtypeStruct((number, *decoding.shape), np.uint8) for decoding in predictor.by_decoding]


def write_stablehlo(predictor: Predictor, path: pathlib.Path, images: Images) -> None:
    """Writes what `jax.export` makes of the model for `PLATFORMS`, in the operations that are fast on this one."""
    exported = jax.export.export(jax.jit(make_graph(predictor)), platforms=PLATFORMS)(*shapes(predictor))
    path.write_bytes(exported.serialize(vjp_order=0))


def load_stablehlo(path: pathlib.Path) -> Run:
    """Runs it on this machine's device."""
    call = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(call(*images))


def write_onnx(predictor: Predictor, path: pathlib.Path, images: Images) -> None:
    """Writes what jax2onnx makes of the model, in the operations that runtimes have kernels for.

    Raises:
      ConfigError: jax2onnx is not installed.
    """
    for name in ("jax2onnx", "onnx_ir"):  # they tell of every example of theirs that cannot be imported
        logging.getLogger(name).setLevel(logging.ERROR)
    jax2onnx, onnx = import_or_say("jax2onnx", "onnx"), import_or_say("onnx", "onnx")
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
    session = import_or_say("onnxruntime", "onnx").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda images: session.run(None, dict(zip(names, images, strict=True)))[0]


TFLITE = {"float32": 1e-4, "float16": 0.01, "int8": 0.15}
"""Precisions of TFLite, and how far a probability may be from the bundle's."""
FORMATS = {
    "stablehlo": Format(
        "model.stablehlo", write_stablehlo, load_stablehlo, 1e-5, f"jax.export, {', '.join(PLATFORMS)}"
    ),
    "onnx": Format("model.onnx", write_onnx, load_onnx, 1e-4, "onnxruntime"),
    **{
        f"tflite-{precision}": Format(
            f"model.{precision}.tflite",
            partial(write_tflite, precision=precision),
            load_tflite,
            tolerance,
            "LiteRT",
            is_calibrated=precision == "int8",
        )
        for precision, tolerance in TFLITE.items()
    },
}
"""By name. The order of tables."""
WEB = "onnx-web"
TO = ("stablehlo", "onnx", "tflite", WEB)
"""What `--to` takes. "onnx-web" is "onnx" and a page that runs it (`web`)."""


def chosen(to: str, precisions: str) -> list[str]:
    """The names in `FORMATS` of what `--to` and `--precision` say, each with commas between several.

    Raises:
      ConfigError: no such format or precision.
    """
    for flag, values, known in (("to", to, TO), ("precision", precisions, tuple(TFLITE))):
        if unknown := [value for value in values.split(",") if value not in known]:
            expected = f"expected {', '.join(known)}, or several with commas between them"
            raise ConfigError(f"--{flag}={unknown[0]}: {expected}")
    of_format = {WEB: ["onnx"], "tflite": [f"tflite-{precision}" for precision in precisions.split(",")]}
    return list(dict.fromkeys(name for form in to.split(",") for name in of_format.get(form, [form])))

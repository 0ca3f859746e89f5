"""Exports to TFLite: converted by TensorFlow, run by LiteRT without it; in float32, float16, or mostly 8 bits."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

from fpclass.deploy.graph import make_graph
from fpclass.deploy.runtimes import Images, Run, import_or_say, input_name
from fpclass.models.build import explainable_form
from fpclass.models.plain import plain_operations
from fpclass.run.predictor import Predictor

NUM_CALIBRATION = 64
"""Images that the ranges of 8 bits are found on, at most."""
FLOAT_IN_INT8 = (
    *("LOG_SOFTMAX", "EXP", "LOG", "MAXIMUM", "BATCH_MATMUL", "FULLY_CONNECTED", "SUB", "SQRT", "MUL"),
    *("SLICE", "CONCATENATION", "RESHAPE", "MEAN", "SUM", "DIV", "GATHER_ND", "TRANSPOSE"),
)
"""Operations that stay in float32 in a model of 8 bits: heads, average and calibration, a thousandth of the work.

In 8 bits they cost most of what is lost: probabilities of the fingerprint ensemble are 0.10 off on average with them,
0.02 without.
"""


def write_tflite(predictor: Predictor, path: pathlib.Path, images: Images, precision: str = "float32") -> None:
    """Writes the model, of one image at a time; in all precisions pixels are uint8 and probabilities float32.

    Args:
      images: that the ranges of "int8" are found on.
      precision: "float32"; "float16": of the weights alone; "int8": of convolutions, weights and what they are given.

    Raises:
      ConfigError: TensorFlow is not installed.
    """
    tf, jax2tf = import_or_say("tensorflow", "tflite"), import_or_say("jax.experimental.jax2tf", "tflite")
    inputs = [
        tf.TensorSpec((1, *decoding.shape), tf.uint8, name=input_name(decoding)) for decoding in predictor.by_decoding
    ]
    graph = make_graph(predictor, explainable_form)
    with plain_operations(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        call = jax2tf.convert(graph, with_gradient=False)
        function = tf.function(call, autograph=False, input_signature=inputs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision != "int8":
        converter.target_spec.supported_types = [getattr(tf, precision)]
        path.write_bytes(converter.convert())
        return

    def examples() -> Iterator[list[UInt8[np.ndarray, "1 H W C"]]]:
        for i in range(min(NUM_CALIBRATION, len(images[0]))):
            yield [of_decoding[i : i + 1] for of_decoding in images]

    converter.representative_dataset = examples
    quantisation = tf.lite.experimental  # its debugger is what takes a list of operations that stay
    options = quantisation.QuantizationDebugOptions(denylisted_ops=list(FLOAT_IN_INT8))
    with warnings.catch_warnings():  # that pixels stay uint8, and that TensorFlow's own interpreter is to go
        warnings.simplefilter("ignore", UserWarning)
        debugger = quantisation.QuantizationDebugger(converter=converter, debug_dataset=examples, debug_options=options)
        path.write_bytes(debugger.get_nondebug_quantized_model())


def load_tflite(path: pathlib.Path) -> Run:
    """Runs it in LiteRT, on one thread of the CPU, image by image.

    Raises:
      ConfigError: ai-edge-litert is not installed.
    """
    interpreter = import_or_say("ai_edge_litert.interpreter", "tflite").Interpreter(str(path))
    interpreter.allocate_tensors()
    places = {tuple(given["shape"][1:]): given["index"] for given in interpreter.get_input_details()}
    (output,) = interpreter.get_output_details()

    def run_one(images: Images) -> Float[np.ndarray, "1 K"]:
        for pixels in images:
            interpreter.set_tensor(places[pixels.shape[1:]], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    return lambda images: np.concatenate(
        [run_one([of_decoding[i : i + 1] for of_decoding in images]) for i in range(len(images[0]))]
    )

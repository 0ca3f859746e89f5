"""MobileNetV2 and MobileNetV3-Large."""

from __future__ import annotations

import numpy as np

from fpclass.models.mobilenet import V3_LARGE_BLOCKS
from fpclass.models.pretrained.rules import (
    Rule,
    keras_batch_norm,
    keras_depthwise,
    keras_layer,
    torch_batch_norm,
    torch_conv,
    torch_dense,
    torch_layer,
)

NUM_V2_BLOCKS, NUM_V3_BLOCKS = 17, len(V3_LARGE_BLOCKS)


def one_pixel_conv(array: np.ndarray) -> np.ndarray:
    """Keras' kernel [1, 1, in, out] of a convolution that sees one pixel -> [in, out] of a dense layer."""
    return array.reshape(array.shape[2:])


def _torch_conv_norm(source: str, target: str, norm_source: str = "") -> tuple[Rule, ...]:
    """A convolution and its batch norm: beside each other as 0 and 1, unless the norm has another name."""
    conv, norm = (source, norm_source) if norm_source else (rf"{source}\.0", rf"{source}\.1")
    return (*torch_layer(conv, f"{target}/conv", torch_conv), *torch_batch_norm(norm, f"{target}/bn"))


def _torchvision_v2() -> tuple[Rule, ...]:
    rules = [*_torch_conv_norm(r"features\.0", "stem"), *_torch_conv_norm(r"features\.18", "last")]
    for i in range(NUM_V2_BLOCKS):  # blocks are features 1 … 17; the first has no part that expands
        conv = rf"features\.{i + 1}\.conv"
        parts = ("expand", "depthwise") if i else ("depthwise",)
        for place, part in enumerate(parts):
            rules += _torch_conv_norm(rf"{conv}\.{place}", f"block_{i}/{part}")
        project, norm = rf"{conv}\.{len(parts)}", rf"{conv}\.{len(parts) + 1}"
        rules += _torch_conv_norm(project, f"block_{i}/project", norm)
    return (*rules, *torch_layer(r"classifier\.1", "head/logits", torch_dense))


def _torchvision_v3() -> tuple[Rule, ...]:
    rules = [*_torch_conv_norm(r"features\.0", "stem"), *_torch_conv_norm(rf"features\.{NUM_V3_BLOCKS + 1}", "last")]
    for i, (_, _, _, squeezes, _, _) in enumerate(V3_LARGE_BLOCKS):
        parts = [*(["expand"] if i else []), "depthwise", *(["se"] if squeezes else []), "project"]
        for place, part in enumerate(parts):
            source, target = rf"features\.{i + 1}\.block\.{place}", f"block_{i}/{part}"
            if part == "se":
                rules += torch_layer(rf"{source}\.fc1", f"{target}/squeeze", torch_conv)
                rules += torch_layer(rf"{source}\.fc2", f"{target}/excite", torch_conv)
            else:
                rules += _torch_conv_norm(source, target)
    rules += torch_layer(r"classifier\.0", "hidden/dense", torch_dense)
    return (*rules, *torch_layer(r"classifier\.3", "head/logits", torch_dense))


TORCHVISION_V2 = _torchvision_v2()
TORCHVISION_V3 = _torchvision_v3()

KERAS_V2 = (
    *keras_layer("Conv1", "stem/conv"),
    *keras_batch_norm("bn_Conv1", "stem/bn"),
    # The first block has a name of its own.
    *keras_layer("expanded_conv_depthwise", "block_0/depthwise/conv", keras_depthwise),
    *keras_batch_norm("expanded_conv_depthwise_BN", "block_0/depthwise/bn"),
    *keras_layer("expanded_conv_project", "block_0/project/conv"),
    *keras_batch_norm("expanded_conv_project_BN", "block_0/project/bn"),
    *keras_layer(r"block_(\d+)_depthwise", r"block_\1/depthwise/conv", keras_depthwise),
    *keras_layer(r"block_(\d+)_(expand|project)", r"block_\1/\2/conv"),
    *keras_batch_norm(r"block_(\d+)_(expand|depthwise|project)_BN", r"block_\1/\2/bn"),
    # The names of these before Keras 2.2.2, which the published files bear (readers of them by name rely on that).
    *keras_layer(r"mobl(\d+)_conv_\1_depthwise", r"block_\1/depthwise/conv", keras_depthwise),
    *keras_layer(r"mobl(\d+)_conv_\1_(expand|project)", r"block_\1/\2/conv"),
    *keras_batch_norm(r"bn(\d+)_conv_\1_bn_(expand|depthwise|project)", r"block_\1/\2/bn"),
    *keras_layer("Conv_1", "last/conv"),
    *keras_batch_norm("Conv_1_bn", "last/bn"),
    *keras_layer("(?:predictions|Logits)", "head/logits"),
)


def _keras_v3(between: str, conv: str, norm: str, logits: str) -> tuple[Rule, ...]:
    """The rules for names whose words are joined by `between`, and that call their layers so."""
    first, block = f"expanded_conv{between}", rf"expanded_conv_(\d+){between}"  # the first block has no number
    squeeze = f"{block}squeeze_excite{between}{conv}"
    return (
        *keras_layer(conv, "stem/conv"),
        *keras_batch_norm(f"{conv}{between}{norm}", "stem/bn"),
        *keras_layer(f"{first}depthwise", "block_0/depthwise/conv", keras_depthwise),
        *keras_layer(f"{first}project", "block_0/project/conv"),
        *keras_batch_norm(f"{first}(depthwise|project){between}{norm}", r"block_0/\1/bn"),
        *keras_layer(f"{block}depthwise", r"block_\1/depthwise/conv", keras_depthwise),
        *keras_layer(f"{block}(expand|project)", r"block_\1/\2/conv"),
        *keras_batch_norm(f"{block}(expand|depthwise|project){between}{norm}", r"block_\1/\2/bn"),
        *keras_layer(squeeze, r"block_\1/se/squeeze"),
        *keras_layer(f"{squeeze}_1", r"block_\1/se/excite"),
        *keras_layer(f"{conv}_1", "last/conv"),
        *keras_batch_norm(f"{conv}_1{between}{norm}", "last/bn"),
        *keras_layer(f"{conv}_2", "hidden/dense", one_pixel_conv),
        *keras_layer(logits, "head/logits", one_pixel_conv),
    )


KERAS_V3 = (
    *_keras_v3("_", "conv", "bn", "logits"),
    # The names of Keras 2, whose files are still the published ones: "expanded_conv_1/expand/BatchNorm". No reader of
    # the published file by name is known: that it bears these names is only likely. Keras itself goes by the order.
    *_keras_v3("/", "Conv", "BatchNorm", "Logits"),
    Rule(r"seed_generator(?:_\d+)?/seed_generator_state", ""),  # of the dropout
)

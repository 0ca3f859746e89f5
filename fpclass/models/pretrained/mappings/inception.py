"""Inception-V3."""

from __future__ import annotations

from fpclass.models.pretrained.rules import (
    Rule,
    keras_batch_norm,
    keras_layer,
    torch_batch_norm,
    torch_conv,
    torch_dense,
    torch_layer,
)

STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
"""torchvision's names of the convolutions before the blocks."""

MIXED = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
"""torchvision's names of `mixed0` … `mixed10`."""


def _torchvision() -> tuple[Rule, ...]:
    rules = [Rule(r"AuxLogits\..*", "")]  # the auxiliary classifier: only training from scratch has use for it
    for name in STEM:
        rules += torch_layer(rf"Conv2d_{name}\.conv", f"conv{name[:2]}/conv", torch_conv)
        rules += torch_batch_norm(rf"Conv2d_{name}\.bn", f"conv{name[:2]}/bn")
    for i, name in enumerate(MIXED):
        rules += torch_layer(rf"Mixed_{name}\.(branch\w+)\.conv", rf"mixed{i}/\1/conv", torch_conv)
        rules += torch_batch_norm(rf"Mixed_{name}\.(branch\w+)\.bn", rf"mixed{i}/\1/bn")
    return (*rules, *torch_layer("fc", "head/logits", torch_dense))


A = ("1x1", "5x5_1", "5x5_2", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3", "_pool")
B = ("3x3", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3")
C = ("1x1", "7x7_1", "7x7_2", "7x7_3", *(f"7x7dbl_{i}" for i in (1, 2, 3, 4, 5)), "_pool")
D = ("3x3_1", "3x3_2", *(f"7x7x3_{i}" for i in (1, 2, 3, 4)))
E = ("1x1", "3x3_1", "3x3_2a", "3x3_2b", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3a", "3x3dbl_3b", "_pool")

CREATED = (
    *(f"conv{name[:2]}" for name in STEM),
    *(f"mixed{i}/branch{part}" for i, parts in enumerate((A, A, A, B, C, C, C, C, D, E, E)) for part in parts),
)
"""The 94 convolutions in the order in which Keras creates them, which is what it numbers them by."""


def _keras(names: list[str]) -> tuple[Rule, ...]:
    """The rules where convolution and batch norm number i end in `names[i]`."""
    rules: list[Rule] = []
    for end, target in zip(names, CREATED, strict=True):
        rules.append(Rule(f"conv2d{end}/kernel", f"params/{target}/conv/kernel"))
        rules += keras_batch_norm(f"batch_normalization{end}", f"{target}/bn")[1:]  # there is no scale
    return (*rules, *keras_layer("predictions", "head/logits"))


TORCHVISION = _torchvision()

KERAS = _keras(["", *(f"_{i}" for i in range(1, len(CREATED)))])
"""The naming of a network of today in a fresh session: conv2d, conv2d_1 … conv2d_93."""

KERAS_FROM_1 = _keras([f"_{i}" for i in range(1, len(CREATED) + 1)])
"""The naming of the published files, which an older Keras wrote: conv2d_1 … conv2d_94.

Certain: GoMLX reads the published file by these names in this order. One table cannot serve both namings, as conv2d_1
is another convolution in each; and neither takes a file of the other, as conv2d and conv2d_94 each belong to one only.
"""

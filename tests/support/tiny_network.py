"""A network of four stages for images of any size, with published weights."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib

import flax.linen as nn
import numpy as np
import pytest
from safetensors.numpy import save

from fpclass.models.architecture import Published, Variant
from fpclass.models.layers import Conv
from fpclass.models.mapping import torch_batch_norm, torch_conv, torch_dense, torch_layer
from fpclass.models.network import Backbone, Dropout, GlobalPool, Mode, batch_norm
from fpclass.models.pretrained import fetch
from fpclass.models.pretrained.manifest import MANIFEST
from fpclass.models.registry import ARCHITECTURES

STAGES = ("stem", "layer1_0", "layer2_0", "layer3_0")


class Block(nn.Module):
    features: int = 4

    @nn.compact
    def __call__(self, x, mode: Mode):
        return nn.relu(batch_norm(Conv(self.features, strides=2, padding=1, name="conv")(x), mode, "bn"))


def tiny(variant: str) -> Backbone:
    del variant
    return Backbone(
        features=tuple(Block(name=name, parent=None) for name in STAGES),
        classifier=(GlobalPool(name="pool", parent=None), Dropout(0.2, name="dropout", parent=None)),
        stem_kernel=("stem", "conv", "kernel"),
    )


def published_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {"fc.weight": rng.normal(size=(5, 4)), "fc.bias": np.zeros(5)}
    for i, stage in enumerate(STAGES):
        arrays[f"{stage}.conv.weight"] = rng.normal(size=(4, 4 if i else 3, 3, 3)) * 0.4
        arrays |= {f"{stage}.bn.weight": np.ones(4), f"{stage}.bn.bias": np.full(4, 0.1)}
        arrays |= {f"{stage}.bn.running_mean": np.zeros(4), f"{stage}.bn.running_var": np.ones(4)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def list_tiny(cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists it under the name "tiny", with weights in a cache of its own; no others can be had."""
    monkeypatch.setenv("FPCLASS_CACHE", str(cache))
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    content = save(published_arrays())
    rules = (
        *torch_layer(r"(\w+)\.conv", r"\1/conv", torch_conv),
        *torch_batch_norm(r"(\w+)\.bn", r"\1/bn"),
        *torch_layer("fc", "head/logits", torch_dense),
    )
    monkeypatch.setitem(ARCHITECTURES, "tiny", Published("tiny", tiny, (Variant("torchvision", rules),)))
    entry = dataclasses.replace(
        MANIFEST["resnet18"], name="tiny", architecture="tiny", num_classes=5, image_size=(32, 32),
        url="https://nowhere.invalid/tiny.safetensors", digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
    )  # fmt: skip
    monkeypatch.setitem(MANIFEST, "tiny", entry)
    fetch.cached_path(entry).parent.mkdir(parents=True, exist_ok=True)
    fetch.cached_path(entry).write_bytes(content)

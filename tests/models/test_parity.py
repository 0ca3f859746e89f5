"""Every port against its original, where PyTorch and Keras are installed: stages, logits, training, gradients."""

from __future__ import annotations

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from backbone_cases import CASES, LABELS, Case, draw_images
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from configs import base
from fpclass.models.build import build_model
from fpclass.models.network import OUTPUT
from fpclass.models.pretrained.load import load_weights

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("torchvision", "timm", "keras")),
        reason="needs the extra `parity`, torchvision and timm",
    ),
]
LARGE = ("vgg16", "vgg16_bn", "alexnet")
"""Their dense layers take gigabytes in double precision: one worker takes them all, one after the other."""
LONG = (
    *("convnext_tiny", "convnextv2_tiny", "densenet121", "efficientnet_v2_s", "inception_v3", "mobilenet_v3_large"),
    *("vgg16", "vgg16_bn"),
)
"""Compiling both backward passes takes them half a minute or more, and all of Keras' likewise."""
NUM_CLASSES = 1000


def parameter(case: Case, *, trains: bool):
    marks = [pytest.mark.xdist_group("large")] if case.name in LARGE else []
    marks += [pytest.mark.slow] if trains and (case.name in LONG or case.variant == "keras") else []
    return pytest.param(case, id=f"{case.name}-{case.variant}", marks=marks)


def network_of(case: Case, image_size: tuple[int, int]):
    config = ConfigDict(base.get_config().model.to_dict())
    config.update(name=case.name, variant=case.variant, head="own")
    return build_model(config, NUM_CLASSES, image_size)


def shapes_of(model, size, channels=3):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *size, channels)), train=False))


def variables_of(case: Case, shapes, arrays):
    return load_weights(arrays, case.mapping, shapes, where="reference", stem_kernel=case.backbone.stem_kernel)


def assert_close(ours, theirs, tolerance: float, what: str, floor: float = 1e-12) -> None:
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape, what
    scale = max(np.abs(theirs).max(), floor)
    error = np.abs(np.asarray(ours) - theirs).max() / scale
    assert error <= tolerance, f"{what}: relative error {error:.2g} of {tolerance:.2g}, scale {scale:.3g}"


@pytest.mark.parametrize("case", [parameter(case, trains=False) for case in CASES])
@pytest.mark.parametrize("which", [0, 1], ids=["not square", "odd"])
def test_stages_and_logits(case, which):
    from reference_networks import reference_outputs

    size = case.parity.sizes[which]
    with jax.enable_x64(case.number is np.float64):
        images = case.number(draw_images(size, 2))
        arrays, stages, logits = reference_outputs(case, images)
        model = network_of(case, size)
        variables = jax.tree.map(case.number, variables_of(case, shapes_of(model, size), arrays))
        ours, recorded = jax.jit(lambda v, x: model.apply(v, x, train=False, mutable=["stages"]))(variables, images)
    for name, theirs in case.parity.stages.items():
        assert_close(recorded["stages"][f"{name}{OUTPUT}"], stages[theirs], case.parity.tolerance, name)
    assert_close(ours, logits, case.parity.tolerance, "logits")


@pytest.mark.parametrize("case", [parameter(case, trains=True) for case in CASES])
def test_training_mode(case):
    """Loss, updated batch statistics and the gradient of every parameter, through the same mapping table."""
    from reference_networks import reference_training

    with jax.enable_x64(True):
        images = draw_images(case.training_size, len(LABELS)).astype(np.float64)
        arrays, loss, gradients, statistics = reference_training(case, images, LABELS)
        ours, updated, grads = step_of(case, images, arrays)
    np.testing.assert_allclose(ours, loss, rtol=1e-7)
    like = {"params": grads, **updated}
    theirs = load_weights(arrays | gradients | statistics, case.mapping, like, where="gradients")
    theirs = flatten_dict(theirs, sep="/")
    # A gradient that is zero but for rounding, as that of a bias before batch norm, is judged beside the others.
    floor = 1e-6 * max(np.abs(value).max() for path, value in theirs.items() if path.startswith("params"))
    for path, value in flatten_dict(like, sep="/").items():
        assert_close(value, theirs[path], case.parity.gradient_tolerance, path, floor)


def step_of(case: Case, images, arrays):
    """Loss, updated batch statistics and gradients of our own step in training mode; where x64 is enabled, in that."""
    size = images.shape[1:3]
    model = without_dropout(network_of(case, size))
    variables = jax.tree.map(np.float64, variables_of(case, shapes_of(model, size), arrays))

    def loss_fn(params):
        inputs = {"params": params, "batch_stats": variables.get("batch_stats", {})}
        logits, updated = model.apply(inputs, images, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), updated

    (loss, updated), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(variables["params"])
    return loss, dict(updated), gradients


def without_dropout(model):
    """The network with every rate of dropout and stochastic depth at 0."""

    def still(module):
        rates = {field: 0.0 for field in ("rate", "dropout_rate", "stochastic_depth_rate") if hasattr(module, field)}
        return module.clone(**rates) if rates else module

    return model.clone(stages=tuple(map(still, model.stages)), head=still(model.head))

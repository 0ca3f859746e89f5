"""Class activation maps by gradients: channels of a stage, weighted, added up, and cut off below 0.

All of them record the same two things in one pass, what a stage makes of an image and the gradient of the target by it,
and differ in how the one weighs the other. Raw maps are at least 0, at the stage's (height, width), and have the
unit of the target. Of tokens only the patches are places, laid out as they lie in the image; the class token is none.
(Where the classifier reads the class token alone, the patches have no say behind the last attention: there every map is
zero.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from fpclass.explain.parts import at_once, in_parts
from fpclass.explain.stages import as_maps, find_path
from fpclass.explain.targets import AnyTarget, Target, as_target

ROUNDING = 1e-4
"""Share of its terms below which a sum of float32 is rounding, gradients of deep networks among them."""
Weigh = Callable[[Float[Array, "n h w c"], Float[Array, "n h w c"]], Float[Array, "n _h _w c"]]
"""From activations and gradients to weights of channels, the same at all places or not."""


def grad_cam(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: AnyTarget, stage: str
) -> Float[Array, "n h2 w2"]:
    """Grad-CAM: a channel weighs its gradient, averaged over places.

    Args:
      images: normalised.
      target: class indices [n], or any other target.

    Raises:
      ConfigError: the model has no such stage, or the stage has no places.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    return _cam(model, variables, images, target, stage, _mean_gradient)


def grad_cam_plus_plus(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: AnyTarget, stage: str
) -> Float[Array, "n h2 w2"]:
    """Grad-CAM++: positive gradients are added up, each weighed so that small objects count as much as large ones.

    Arguments and errors as of `grad_cam`. Meant for rectified stages: a channel that sums to less than 0, where
    the formula has a pole, is taken to sum to 0.

    Source: Chattopadhay et al., Grad-CAM++, WACV 2018, equations 5 and 19 for the exponential of the target, without
    the factor that all places share.
    """
    return _cam(model, variables, images, target, stage, _plus_plus)


def hires_cam(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: AnyTarget, stage: str
) -> Float[Array, "n h2 w2"]:
    """HiResCAM: every place weighs its own gradient, so that the map shows what the rest of the network reads there.

    Arguments and errors as of `grad_cam`. What is negative is cut off, as in Grad-CAM.

    Source: Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations, arXiv:2011.08891, equation 3.
    """
    return _cam(model, variables, images, target, stage, _own_gradient)


def layer_cam(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: AnyTarget, stage: str
) -> Float[Array, "n h2 w2"]:
    """LayerCAM: every place weighs its own gradient where that is positive; made for early stages.

    Arguments and errors as of `grad_cam`.

    Source: Jiang et al., LayerCAM, IEEE Transactions on Image Processing 30, 2021, equations 6 and 7.
    """
    return _cam(model, variables, images, target, stage, _positive_gradient)


def xgrad_cam(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: AnyTarget, stage: str
) -> Float[Array, "n h2 w2"]:
    """XGrad-CAM: a channel weighs the mean of its gradient by activation; a channel that sums to 0 weighs nothing.

    Arguments and errors as of `grad_cam`. Meant for rectified stages, whose channels do not cancel out.

    Source: Fu et al., Axiom-based Grad-CAM, BMVC 2020, equation 8.
    """
    return _cam(model, variables, images, target, stage, _mean_by_activation)


def record(
    model: nn.Module, variables: dict[str, Any], images: Float[Array, "n h w c"], target: Target, path: tuple[str, ...]
) -> tuple[Float[Array, "n h2 w2 c2"], Float[Array, "n h2 w2 c2"]]:
    """What a stage makes of images, and the gradient of the target by it, at its places."""

    def total(perturbations: Any) -> tuple[Array, Any]:
        inputs = {**variables, "perturbations": perturbations}
        logits, recorded = model.apply(inputs, images, train=False, mutable=["stages"])
        # In evaluation mode images do not see each other: the gradient of the sum is each image's own.
        return target.of(logits).sum(), recorded["stages"]

    gradients, stages = jax.grad(total, has_aux=True)(no_perturbations(model, images))
    gradient: Array = flatten_dict(gradients)[path]  # pyright: ignore[reportAssignmentType]
    activation: Array = flatten_dict(stages)[path]  # pyright: ignore[reportAssignmentType]
    return as_maps(model, images, activation), as_maps(model, images, gradient)


def without_rounding(maps: Float[Array, "n h w"], sizes: Float[Array, "n h w"]) -> Float[Array, "n h w"]:
    """Maps as they are, but zeros where a whole map is nothing but the rounding of sums whose terms have these sizes.

    Scaled by its own maximum it would be a picture of noise. It happens: a token that is read through a layer norm
    alone has a gradient at right angles to it, so that HiResCAM of a transformer is 0.
    """
    largest, terms = (values.max(axis=(1, 2), keepdims=True) for values in (jnp.abs(maps), sizes))
    return jnp.where(largest <= ROUNDING * terms, 0, maps)


def no_perturbations(model: nn.Module, images: Float[Array, "n h w c"]) -> Any:
    """Zeros of the shape of every stage's output."""
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)["perturbations"]
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def _cam(
    model: nn.Module, variables: dict[str, Any], images: Array, target: AnyTarget, stage: str, weigh: Weigh
) -> Array:
    path = find_path(model, images.shape[1:], stage)
    return _weighted(model, variables, images, as_target(target), path, weigh)


@partial(jax.jit, static_argnames=("model", "path", "weigh"))
def _weighted(
    model: nn.Module, variables: dict[str, Any], images: Array, target: Target, path: tuple[str, ...], weigh: Weigh
) -> Array:
    def of_part(part: tuple[Array, Target]) -> Array:
        activation, gradient = record(model, variables, *part, path)
        terms = weigh(activation, gradient) * activation
        return nn.relu(without_rounding(terms.sum(axis=-1), jnp.abs(terms).sum(axis=-1)))

    return in_parts(of_part, (images, target), at_once(images.shape[1:], variables))


def _mean_gradient(activation: Array, gradient: Array) -> Array:
    return gradient.mean(axis=(1, 2), keepdims=True)


def _plus_plus(activation: Array, gradient: Array) -> Array:
    # Equation 19 is gradient^2 / (2 gradient^2 + sum(activation) gradient^3): a small constant below would make it
    # depend on the unit of the target.
    positive = nn.relu(gradient)
    share = 1 / (2 + nn.relu(activation.sum(axis=(1, 2), keepdims=True)) * positive)
    return (share * positive).sum(axis=(1, 2), keepdims=True)


def _own_gradient(activation: Array, gradient: Array) -> Array:
    return gradient


def _positive_gradient(activation: Array, gradient: Array) -> Array:
    return nn.relu(gradient)


def _mean_by_activation(activation: Array, gradient: Array) -> Array:
    total = activation.sum(axis=(1, 2), keepdims=True)
    weighted = (gradient * activation).sum(axis=(1, 2), keepdims=True)
    return jnp.where(total != 0, weighted / jnp.where(total != 0, total, 1), 0)

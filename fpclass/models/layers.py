"""Layers that networks share: named stages, convolutions, batch norm with an explicit mode, logits."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from fpclass.models.convolution import ORDER, convolution
from fpclass.models.depthwise import Padding, depthwise
from fpclass.models.normalisation import batch_normalised
from fpclass.models.plain import is_plain
from fpclass.models.polyphase import conv_relu_pool
from fpclass.models.pooling import max_pool_apart
from fpclass.models.products import matmul

Maps = Float[Array, "n _h _w _c"]
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""Normal with variance 2 / fan-in. Source: He et al., ICCV 2015; torch.nn.init.kaiming_normal_ (nonlinearity relu)."""
fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""Likewise by the fan-out: torch.nn.init.kaiming_normal_ with mode fan_out, as most published networks begin."""


def stage(module: nn.Module, name: str, x: Array) -> Array:
    """Gives an activation a name: it can be read, and differentiated by, from outside (Grad-CAM, feature maps).

    It is sown into the collection `stages` and perturbed by the collection `perturbations`. Where neither is asked
    for, as in training, this is the identity and costs nothing.
    """
    module.sow("stages", name, x, reduce_fn=lambda _, new: new, init_fn=lambda: x)
    return module.perturb(name, x)


class ConvReluPool(nn.Module):
    """Valid convolution, ReLU, 2x2 max-pool with stride 2 (a last odd row or column is dropped).

    Attributes:
      form: "direct" (lax.conv) or "polyphase" (one matrix product: the same parameters and the same result, without
        the stages before the pool).

    Stages: conv, relu, pool.
    """

    features: int
    kernel_size: int = 5
    form: str = "polyphase"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", kaiming_normal, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if self.form == "polyphase":
            return stage(self, "pool", conv_relu_pool(x, kernel, bias))
        y = conv(x, kernel, 1, ((0, 0), (0, 0)))
        y = stage(self, "relu", nn.relu(stage(self, "conv", y + bias)))
        # The gradient of XLA's own takes 15 times as long on a CPU.
        pooled = max_pool_apart(y, 2) if jax.default_backend() == "cpu" else nn.max_pool(y, (2, 2), (2, 2))
        return stage(self, "pool", pooled)


class Conv(nn.Module):
    """Convolution, in the fastest form for its shape: the parameters and the result are the same in all of them.

    It computes in the type of its input. 1x1 kernels are matrix products, and so are kernels that step by their own
    size (patches). Depthwise ones are sums of shifted and weighted images on CPU, where XLA has no good program for
    grouped convolutions.

    Attributes:
      kernel_size: (height, width), pixels.
      padding: zeros at each side, pixels: one number, ((top, bottom), (left, right)), or "SAME" as TensorFlow does it
        (at stride 2 and even sizes more at the bottom and the right).
      groups: of channels that do not see each other; the number of input channels makes it depthwise.
      kernel_init: of the kernel [height, width, input channels / groups, features].
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: int = 1
    padding: int | tuple[tuple[int, int], tuple[int, int]] | str = 0
    groups: int = 1
    use_bias: bool = False
    kernel_init: nn.initializers.Initializer = kaiming_normal

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(x.dtype)
        steps = (self.strides, self.strides)
        padding = self.padding
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(x.shape[1:3], self.kernel_size, steps, padding)
        elif isinstance(padding, int):
            padding = ((padding, padding), (padding, padding))
        (top, bottom), (left, right) = padding
        is_padded = any((top, bottom, left, right))
        is_depthwise = self.groups > 1 and self.groups == x.shape[-1] == self.features
        if is_plain():
            y = conv(x, kernel, self.strides, ((top, bottom), (left, right)), self.groups)
        elif self.kernel_size == (1, 1) and self.groups == 1 and not is_padded:
            y = matmul(x[:, :: self.strides, :: self.strides], kernel[0, 0])
        elif self.kernel_size == steps and self.groups == 1 and not is_padded:
            y = matmul(patches(x, self.strides), kernel.reshape(-1, self.features))
        elif is_depthwise and jax.default_backend() == "cpu":
            y = depthwise(x, kernel, self.strides, ((top, bottom), (left, right)))
        else:
            y = conv(x, kernel, self.strides, ((top, bottom), (left, right)), self.groups)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return y


def conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c2 f"], strides: int, padding: Padding, groups: int = 1
) -> Float[Array, "n h2 w2 f"]:
    """XLA's convolution; on a CPU with gradients that a compiled loop does not slow down, where there are no groups."""
    if groups == 1 and jax.default_backend() == "cpu":
        return convolution(x, kernel, strides, padding)
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), padding, dimension_numbers=ORDER, feature_group_count=groups
    )


def patches(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 f"]:
    """Squares of `size` x `size` pixels side by side, each as one vector; what is left at the edges is dropped."""
    n, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size].reshape(n, rows, size, columns, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, size * size * channels)


class StochasticDepth(nn.Module):
    """Leaves a residual branch out at a rate, image by image, in training; the others keep the expectation, scaled up.

    Source: Huang et al., Deep Networks with Stochastic Depth, ECCV 2016; torchvision.ops.StochasticDepth, mode "row".
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."], *, train: bool) -> Float[Array, "n ..."]:
        axes = tuple(range(1, x.ndim))
        return nn.Dropout(self.rate, broadcast_dims=axes, deterministic=not train)(x)


class SqueezeExcitation(nn.Module):
    """Weighs channels by what the whole image says about them: mean over positions, two dense layers, sigmoid.

    Attributes:
      reduction: the hidden layer has so many times fewer features than there are channels, at least one.

    Stages: scaled.

    Source: Hu et al., Squeeze-and-Excitation Networks, CVPR 2018.
    """

    reduction: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        channels = x.shape[-1]
        squeezed = nn.relu(dense(max(1, channels // self.reduction), "squeeze")(x.mean(axis=(1, 2))))
        weights = nn.sigmoid(dense(channels, "excite")(squeezed))
        return stage(self, "scaled", x * weights[:, None, None, :])


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last: statistics in float32, the result in the type of the input.

    Attributes:
      mode: in training, "train" normalises by the batch and updates the running statistics; "frozen_stats" uses the
        running statistics and leaves them, while scale and bias still learn; "frozen" learns nothing at all.
        Evaluation always uses the running statistics.
      momentum: share of the old running statistics that is kept at an update (1 - PyTorch's momentum).
      unbiased: whether the running variance is the unbiased one, as in PyTorch; Keras keeps the biased one. Batches
        are normalised by the biased variance in both.
      use_scale: whether there is a scale; the bias always is.

    Source: Ioffe and Szegedy, ICML 2015.
    """

    mode: str = "train"
    momentum: float = 0.9
    epsilon: float = 1e-5
    unbiased: bool = True
    use_scale: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "n *d c"], *, train: bool, mask: Bool[Array, " n"] | None = None
    ) -> Float[Array, "n *d c"]:
        """Normalises; rows where `mask` is False (padding of the last batch) do not count in the statistics."""
        channels = x.shape[-1:]
        dtype, x = x.dtype, x.astype(jnp.promote_types(x.dtype, jnp.float32))
        scale = self.param("scale", nn.initializers.ones, channels) if self.use_scale else jnp.ones(channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if is_plain() and not train:
            factor, shift = _factor_and_shift(running_mean.value, running_var.value, self.epsilon, scale, bias)
            return (x * factor + shift).astype(dtype)
        if self.mode == "frozen":
            scale, bias = lax.stop_gradient((scale, bias))
        if not (train and self.mode == "train"):
            mean, var = running_mean.value, running_var.value
            return ((x - mean) * (lax.rsqrt(var + self.epsilon) * scale) + bias).astype(dtype)
        mask = jnp.ones(x.shape[0], bool) if mask is None else mask
        # Where no row counts (a part of a batch that is nothing but padding) the running statistics stay as they are;
        # those of the padding are only computed so that nothing is divided by nothing.
        is_any = jnp.any(mask)
        y, mean, var = batch_normalised(x, scale, bias, (mask | ~is_any).astype(x.dtype), self.epsilon)
        if not self.is_initializing():
            count = jnp.sum(mask) * (x.size // (x.shape[0] * x.shape[-1]))
            new_var = var * count / jnp.maximum(count - 1, 1) if self.unbiased else var
            keep = jnp.where(is_any, self.momentum, 1.0)
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * new_var
        return y.astype(dtype)


def _factor_and_shift(mean: Array, var: Array, epsilon: float, scale: Array, bias: Array) -> tuple[Array, Array]:
    """What a fixed normalisation multiplies by and adds: constants, which runtimes fold into the convolution before."""
    are_known = not any(isinstance(value, Tracer) for value in (mean, var, scale, bias))
    with jax.ensure_compile_time_eval() if are_known else contextlib.nullcontext():
        factor = lax.rsqrt(var + epsilon) * scale
        return factor, bias - mean * factor


def dense(features: int, name: str) -> nn.Dense:
    """A dense layer with Kaiming-normal weights and zero bias, as the reference initialises all of its layers."""
    return nn.Dense(features, kernel_init=kaiming_normal, name=name)


class Logits(nn.Module):
    """The last dense layer: a logit per class, or one for two classes.

    One output z with a sigmoid, as many binary classifiers have it, is a softmax over (-z/2, z/2): the same
    probabilities, the same cross-entropy and gradients, and whatever reads logits need not know.

    Attributes:
      output: "softmax" or, of two classes, "sigmoid".
      subclasses: number of subclasses of every class, or (). Training sees a logit per subclass, everything else the
        classes, whose probabilities are the sums of theirs.

    Parameters: kernel and bias, of K outputs, of one, or of all subclasses.
    """

    num_classes: int
    output: str = "softmax"
    subclasses: tuple[int, ...] = ()
    kernel_init: nn.initializers.Initializer = kaiming_normal

    @nn.compact
    def __call__(self, x: Float[Array, "n f"], *, train: bool) -> Float[Array, "n k"]:
        width = 1 if self.output == "sigmoid" else sum(self.subclasses) or self.num_classes
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], width))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        z = x @ kernel.astype(x.dtype) + bias.astype(x.dtype)
        if self.output == "sigmoid":
            return jnp.concatenate([-z / 2, z / 2], axis=-1)
        return z if train else merge_logits(z, self.subclasses)


def merge_logits(logits: Float[Array, "n s"], subclasses: Sequence[int]) -> Float[Array, "n k"]:
    """Logits of classes from those of their subclasses in order: a softmax then gives the sums of the probabilities.

    Args:
      subclasses: how many every class has; (): these are the classes.
    """
    if not subclasses:
        return logits
    ends = np.cumsum(subclasses)[:-1].tolist()
    return jnp.stack([jax.nn.logsumexp(part, axis=-1) for part in jnp.split(logits, ends, axis=-1)], axis=-1)


def conv_form(form: str) -> str:
    """The form of conv+pool; "auto": a matrix product on CPU, the vendor's convolution elsewhere, the faster ones."""
    if form != "auto":
        return form
    return "polyphase" if jax.default_backend() == "cpu" else "direct"

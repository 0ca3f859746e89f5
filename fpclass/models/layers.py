"""The shared blocks: named stages, convolution with pooling, batch norm with an explicit mode."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from fpclass.models.polyphase import conv_relu_pool

kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""Normal with variance 2 / fan-in. Source: He et al., ICCV 2015; torch.nn.init.kaiming_normal_ (nonlinearity relu)."""


def stage(module: nn.Module, name: str, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Gives an activation a name: it can be read, and differentiated by, from outside (Grad-CAM, feature maps).

    It is sown into the collection `stages` and perturbed by the collection `perturbations`. Where neither is asked
    for, as in training, this is the identity and costs nothing.
    """
    module.sow("stages", name, x, reduce_fn=lambda _, new: new, init_fn=lambda: x)
    return module.perturb(name, x)


class ConvReluPool(nn.Module):
    """Valid convolution, ReLU, 2x2 max-pool with stride 2 (a last odd row or column is dropped).

    Attributes:
      features: channels of the output.
      kernel_size: side of the square kernel, pixels.
      form: "direct" (lax.conv) or "polyphase" (one matrix product: the same parameters and the same result, without
        the stages before the pool).

    Stages: conv, relu, pool.
    """

    features: int
    kernel_size: int = 5
    form: str = "polyphase"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
        """Convolves, rectifies and pools."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", kaiming_normal, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if self.form == "polyphase":
            return stage(self, "pool", conv_relu_pool(x, kernel, bias))
        y = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        y = stage(self, "relu", nn.relu(stage(self, "conv", y + bias)))
        return stage(self, "pool", nn.max_pool(y, (2, 2), (2, 2)))


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
        """Multiplies every channel of every image by its weight, in (0, 1)."""
        channels = x.shape[-1]
        squeezed = nn.relu(dense(max(1, channels // self.reduction), "squeeze")(x.mean(axis=(1, 2))))
        weights = nn.sigmoid(dense(channels, "excite")(squeezed))
        return stage(self, "scaled", x * weights[:, None, None, :])


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with its mode said aloud.

    Attributes:
      mode: in training, "train" normalises by the batch and updates the running statistics; "frozen_stats" uses the
        running statistics and leaves them, while scale and bias still learn; "frozen" learns nothing at all.
        Evaluation always uses the running statistics.
      momentum: share of the old running statistics that is kept at an update (1 - PyTorch's momentum).
      epsilon: added to the variance.

    Source: Ioffe and Szegedy, ICML 2015. Like PyTorch, batches are normalised by the biased variance and the running
    variance is the unbiased one.
    """

    mode: str = "train"
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "n *d c"], *, train: bool, mask: Bool[Array, " n"] | None = None
    ) -> Float[Array, "n *d c"]:
        """Normalises; rows where `mask` is False (padding of the last batch) do not count in the statistics."""
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if self.mode == "frozen":
            scale, bias = lax.stop_gradient((scale, bias))
        mean, var = running_mean.value, running_var.value
        if train and self.mode == "train":
            axes = tuple(range(x.ndim - 1))
            where = None if mask is None else mask.reshape(mask.shape + (1,) * (x.ndim - 1))
            mean, var = jnp.mean(x, axes, where=where), jnp.var(x, axes, where=where)
            if not self.is_initializing():
                rows = x.shape[0] if mask is None else jnp.sum(mask)
                count = rows * (x.size // (x.shape[0] * x.shape[-1]))
                unbiased = var * count / jnp.maximum(count - 1, 1)
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
        return (x - mean) * (lax.rsqrt(var + self.epsilon) * scale) + bias


def dense(features: int, name: str) -> nn.Dense:
    """A dense layer with Kaiming-normal weights and zero bias, as the reference initialises all of its layers."""
    return nn.Dense(features, kernel_init=kaiming_normal, name=name)


def fast_conv_form() -> str:
    """The faster form of conv+pool here: a matrix product on CPU, the vendor's convolution elsewhere."""
    return "polyphase" if jax.default_backend() == "cpu" else "direct"
